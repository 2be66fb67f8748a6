//! What talks to the kernel directly: load, attach, mark the workload, read the facts; and the system
//! calls that a launcher makes. The only module with `unsafe` and aya.

mod decode;
pub mod device_program;
mod empty;
mod features;
mod kernel_log;
mod load;
mod mounts;
mod offsets;
mod opened;
pub mod process;
mod storage;
mod symbols;

pub use self::{
    decode::{ExecutedProgram, Recording},
    empty::EmptyProbe,
    features::{kernel_fields, tracepoints},
    load::{Hooks, HostCannot, Probe, REQUIRED_TRACEPOINTS, cgroup2_root},
    offsets::BTF_PATH,
};
