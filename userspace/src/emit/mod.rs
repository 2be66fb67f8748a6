//! Profile -> bytes, one module per target; no I/O.

pub mod apparmor;
mod apparmor_globs;
pub mod container;
pub mod container_devices;
pub mod container_script;
pub mod container_warning;
pub mod seccomp;
