//! What talks to the kernel directly: the only module with `unsafe`.

pub mod device_program;
pub mod process;
