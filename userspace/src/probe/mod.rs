//! What talks to the kernel directly: load, attach, mark the workload, read the facts; and the system
//! calls that a launcher makes. The only module with `unsafe` and aya.

mod again;
mod attach;
mod cgroup2;
mod decode;
pub mod device_program;
mod direct;
mod empty;
mod features;
mod hooks;
mod kernel_log;
mod load;
mod losses;
mod memory_limit;
mod mounts;
mod object;
mod offsets;
mod opened;
mod preemption;
pub mod process;
mod status;
mod storage;
mod symbols;

pub use self::{
    again::Probes,
    attach::{Attached, Gone},
    cgroup2::mount_point as cgroup2_mount_point,
    decode::{ExecutedProgram, Recording},
    empty::EmptyProbe,
    features::{kernel_fields, tracepoints},
    hooks::{Fact, HookSet},
    load::{Hooks, HostCannot, Probe, REQUIRED_TRACEPOINTS},
    offsets::BTF_PATH,
    storage::TaskMap,
};
