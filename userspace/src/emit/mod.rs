//! Profile -> bytes, one module per target; no I/O.

pub mod seccomp;
