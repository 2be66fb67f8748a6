//! What was not seen, as far as the kernel and its side of us know.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _},
};

use probe_ebpf::status;

use super::load::Probe;
use crate::trace::{Loss, Trace};

impl Probe {
    /// Facts that found no room, and tasks that could not be followed.
    pub(super) fn read_losses(&self, trace: &mut Trace) {
        let status = self.status.read();
        for (index, map) in [
            (status::CAPABILITIES_FULL, "capabilities"),
            (status::DEVICES_FULL, "devices"),
            (status::CAPABILITY_SETS_FULL, "capability_sets"),
            (status::FAILURES_FULL, "failures"),
            (status::OPENED_FULL, "paths"),
            (status::MOUNTS_FULL, "mounts"),
        ] {
            if status[index as usize] != 0 {
                trace.lost.insert(Loss::MapFull(map.to_owned()));
            }
        }
        let asks_workers = trace.syscalls.values().any(|calls| calls.contains_key("io_uring_setup"));
        if status[status::UNTRACKED as usize] != 0 || self.foreign_workers && asks_workers {
            trace.lost.insert(Loss::UntrackedProcess);
        }
        if status[status::UNANSWERED as usize] != 0 {
            trace.lost.insert(Loss::ProgramSkipped("cap_capable_kretprobe".to_owned()));
        }
    }

    /// Programs that the kernel skipped since the workload began.
    pub(super) fn read_skipped(&self, trace: &mut Trace) {
        let now = self.skipped();
        for (name, count) in now {
            if self.skipped_before.get(&name).copied().unwrap_or_default() != count {
                trace.lost.insert(Loss::ProgramSkipped(name));
            }
        }
    }

    /// How often the kernel skipped each program so far.
    pub(super) fn skipped(&self) -> BTreeMap<String, u64> {
        let loaded = self.ebpf.programs().filter_map(|(name, program)| Some((name, program.fd().ok()?)));
        let misses = |fd: i32| recursion_misses(fd).unwrap_or_default();
        loaded.map(|(name, fd)| (name.to_owned(), misses(fd.as_fd().as_raw_fd()))).collect()
    }

    /// Whether the kernel counts that, as far as the programs tell that are loaded.
    pub(super) fn counts_skipped(&self) -> bool {
        let mut loaded = self.ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        loaded.any(|fd| recursion_misses(fd.as_fd().as_raw_fd()).is_some())
    }
}

/// How often the kernel skipped a program because it, or for kprobes and trace events any program or access to a
/// map, was already running on that processor (`bpf_prog_show_fdinfo`; Linux 5.12).
fn recursion_misses(fd: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}
