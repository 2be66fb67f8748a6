//! The workload zoo as data, and what runs it.
//!
//! `workloads/*.toml` says what to run; [`ablate`] finds by brute force, and without any tracing, what each
//! needs; the end-to-end tests hold unpriv's answers against that.

pub mod ablate;
pub mod bundle;
pub mod cli;
pub mod grants;
pub mod judge;
pub mod lab;
pub mod run;
pub mod search;
pub mod workload;

pub use cli::unpriv_binary;
pub use grants::{Grants, Host, Rule};
pub use workload::{Expected, Form, Workload, workloads};
