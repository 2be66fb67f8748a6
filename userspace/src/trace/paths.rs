//! Files of the kernel's own file systems, and which of them engines hide.

use serde::{Deserialize, Serialize};

/// One file of a kernel file system that was opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathAccess {
    /// Where the file is when its file system is mounted at the usual place, with `PID` and `TID` for the
    /// ids of processes and threads. Ends with `/` when it was too long to be kept: a file below it.
    pub path: String,
    /// Opened for writing.
    pub write: bool,
    /// Of a /proc or /sys of other namespaces than the container's: the host's, or a nested container's.
    pub foreign: bool,
    /// The program.
    pub program: String,
}

/// Paths of /proc that docker (moby `oci/defaults.go`), podman (container-libs `common/pkg`) or the kubelet
/// mounts read-only; docker masks the first.
pub const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What they mask.
pub const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Where file systems are mounted that no engine mounts: in a container they are the workload's own mount
/// or the user's.
pub const MOUNTED: [&str; 8] = [
    "/proc/sys/fs/binfmt_misc",
    "/sys/fs/bpf",
    "/sys/fs/fuse/connections",
    "/sys/fs/selinux",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// The path that some engine masks and that this one is, or is below.
#[must_use]
pub fn masked(path: &str) -> Option<&str> {
    if let Some(found) = MASKED.into_iter().find(|found| is_below(path, found)) {
        return Some(&path[..found.len()]);
    }
    // Of every processor that has it.
    let (processor, rest) = path.strip_prefix("/sys/devices/system/cpu/cpu")?.split_once('/')?;
    let numbered = !processor.is_empty() && processor.bytes().all(|byte| byte.is_ascii_digit());
    let below = rest.strip_prefix("thermal_throttle")?;
    (numbered && (below.is_empty() || below.starts_with('/'))).then(|| &path[..path.len() - below.len()])
}

/// In how many names two paths differ; `None` when one is deeper.
#[must_use]
pub fn names_apart(one: &str, other: &str) -> Option<usize> {
    let both = || one.split('/').zip(other.split('/'));
    let same_depth = one.split('/').count() == other.split('/').count();
    same_depth.then(|| both().filter(|(one, other)| one != other).count())
}

/// Whether a path is that directory or below it.
#[must_use]
pub fn is_below(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_paths_cover_their_subtree_and_no_namesake() {
        assert_eq!(masked("/proc/timer_list"), Some("/proc/timer_list"));
        assert_eq!(masked("/sys/firmware/dmi/tables/DMI"), Some("/sys/firmware"));
        assert_eq!(masked("/sys/firmware/"), Some("/sys/firmware"));
        assert_eq!(masked("/proc/keysmith"), None);
        assert_eq!(masked("/proc/PID/keys"), None);
    }

    #[test]
    fn thermal_throttle_is_masked_for_every_processor() {
        let directory = "/sys/devices/system/cpu/cpu12/thermal_throttle";
        assert_eq!(masked(directory), Some(directory));
        assert_eq!(masked(&format!("{directory}/core_throttle_count")), Some(directory));
        assert_eq!(masked("/sys/devices/system/cpu/cpufreq/thermal_throttle"), None);
        assert_eq!(masked("/sys/devices/system/cpu/cpu0/topology/core_id"), None);
    }
}
