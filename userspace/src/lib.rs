//! unpriv: what a privileged workload used, and the same command with only that.
//!
//! Data goes one way: kernel maps -> [`trace`] -> [`profile`] -> [`emit`]ted files.

pub mod capability;
pub mod cli;
pub mod doctor;
pub mod document;
pub mod emit;
mod errno;
pub mod launch;
pub mod probe;
pub mod profile;
pub mod report;
pub mod shell;
pub mod syscalls;
pub mod trace;
pub mod verify;
pub mod workload;
