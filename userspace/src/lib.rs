//! unpriv: what a privileged workload used, and the same command with only that.
//!
//! Data goes one way: kernel maps -> [`trace`] -> [`profile`] -> [`emit`]ted files.

pub mod capability;
pub mod emit;
pub mod profile;
pub mod shell;
pub mod syscalls;
pub mod trace;
pub mod workload;
