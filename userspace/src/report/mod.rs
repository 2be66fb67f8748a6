//! For people.
use crate::{verify::Proved, workload::Workload};
/// stub
pub fn summary(_workload: &Workload, proved: &Proved, _width: usize) -> String { format!("{:?}\n{:?}\n{} calls\n{:?}\n", proved.profile.capabilities, proved.profile.devices, proved.profile.seccomp.syscalls[0].names.len(), proved.profile.warnings) }
