//! The kernel side from here: load, attach, mark the workload, read the facts. The only module with
//! `unsafe` and aya.

mod decode;
mod load;
mod offsets;
mod storage;
mod symbols;

pub use self::{
    decode::{ExecutedProgram, Recording},
    load::{Hooks, Probe, REQUIRED_TRACEPOINTS},
    offsets::BTF_PATH,
};
