//! Profile -> bytes, one module per target; no I/O.

pub mod apparmor;
mod apparmor_globs;
pub mod docker;
pub mod docker_devices;
pub mod docker_script;
pub mod docker_warning;
pub mod seccomp;
