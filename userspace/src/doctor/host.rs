//! The privileges of this process, and what the host has mounted and shows.

use std::{collections::BTreeSet, fs};

use super::Check;
use crate::{capability::Capability, launch::device_control, probe::cgroup2_mount_point};

/// What loading and attaching takes without `CAP_SYS_ADMIN`: `bpf_prog_load` in kernel/bpf/syscall.c, where a
/// device program also counts as one of networking.
const FOR_PROGRAMS: [Capability; 3] = [Capability::BPF, Capability::PERFMON, Capability::NET_ADMIN];

pub(super) fn privileges() -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = |field: &str| set(&status, field);
    vec![user(), effective(bits("CapEff:")), bounding(bits("CapBnd:"), last_capability())]
}

pub(super) fn checks() -> Vec<Check> {
    vec![cgroups(), unified(), devices(), call_sites()]
}

/// A field of `proc_pid_status(5)` that holds a capability set.
fn set(status: &str, field: &str) -> u64 {
    let text = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    u64::from_str_radix(text.trim(), 16).unwrap_or_default()
}

fn user() -> Check {
    let user = rustix::process::geteuid();
    let found = format!("effective user id {}", user.as_raw());
    if user.is_root() {
        Check::ok("user", found)
    } else {
        Check::warning("user", found, "run as root, unless this user has the capabilities below")
    }
}

fn effective(bits: u64) -> Check {
    const NAME: &str = "capabilities, effective";
    let held = Capability::from_bits(bits);
    if held.contains(&Capability::SYS_ADMIN) {
        return Check::ok(NAME, format!("{} of them, CAP_SYS_ADMIN among them", held.len()));
    }
    let missing: BTreeSet<Capability> =
        FOR_PROGRAMS.into_iter().filter(|capability| !held.contains(capability)).collect();
    if missing.is_empty() {
        Check::ok(NAME, format!("{} of them, {} among them", held.len(), list(&FOR_PROGRAMS.into())))
    } else {
        Check::problem(
            NAME,
            format!("{} missing", list(&missing)),
            "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or CAP_SYS_ADMIN)",
        )
    }
}

/// Without all of them an OCI runtime cannot start a `--privileged` container: it asks for every one.
fn bounding(bits: u64, last: u32) -> Check {
    const NAME: &str = "capabilities, bounding";
    let all = u64::MAX >> (63 - last.min(63));
    let missing = Capability::from_bits(all & !bits);
    if all & !bits == 0 {
        return Check::ok(NAME, format!("all {}: `--privileged` works here", last + 1));
    }
    Check::warning(
        NAME,
        format!("{} missing: `docker run --privileged` cannot start here", list(&missing)),
        "record on a less restricted host, or name what you have: `--cap-add` for each, `--security-opt \
         seccomp=unconfined`, `--security-opt systempaths=unconfined`, `--device-cgroup-rule 'a *:* rwm'`, \
         `-v /dev:/dev`",
    )
}

/// The number of the last capability that this kernel has.
fn last_capability() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    text.trim().parse().unwrap_or(40)
}

/// Their names, or how many there are when nobody would read them all.
fn list(set: &BTreeSet<Capability>) -> String {
    if set.len() > 8 {
        return format!("{} capabilities", set.len());
    }
    let names: Vec<&str> = set.iter().map(|capability| capability.name()).collect();
    names.join(", ")
}

fn cgroups() -> Check {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (version_1, version_2) = hierarchies(&mounts);
    let found = match (version_1, version_2) {
        (true, true) => "version 1 and 2 (hybrid)",
        (true, false) => "version 1",
        (false, true) => "version 2",
        (false, false) => "none is mounted",
    };
    if version_1 || version_2 {
        Check::ok("cgroups", found)
    } else {
        Check::warning("cgroups", found, "mount cgroup2: `mount -t cgroup2 none /sys/fs/cgroup`")
    }
}

/// Which versions a `mountinfo` shows, `proc_pid_mountinfo(5)`.
fn hierarchies(mounts: &str) -> (bool, bool) {
    let kinds: BTreeSet<&str> =
        mounts.lines().filter_map(|line| line.split_once(" - ")?.1.split(' ').next()).collect();
    (kinds.contains("cgroup"), kinds.contains("cgroup2"))
}

/// The device program hangs on the root of the unified hierarchy, whatever its controllers.
fn unified() -> Check {
    let found = match cgroup2_mount_point() {
        Some(path) => path.display().to_string(),
        None => "not mounted; recording mounts it where nobody sees it".to_owned(),
    };
    Check::ok("cgroup2", found)
}

fn devices() -> Check {
    match device_control() {
        Ok(found) => Check::ok("device control", format!("{found}, for `unpriv run`")),
        Err(error) => Check::warning(
            "device control",
            error.to_string(),
            "mount cgroup2, or v1 with the devices controller, writable; until then `unpriv run \
             --no-device-cgroup` leaves devices to file permissions",
        ),
    }
}

/// Call sites tell a check that mattered from one that did not.
fn call_sites() -> Check {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    if shows_addresses(&symbols) {
        return Check::ok("kernel call sites", "/proc/kallsyms shows addresses");
    }
    Check::warning(
        "kernel call sites",
        "/proc/kallsyms shows no addresses, so that a profile may hold capabilities that are not needed",
        "`sysctl kernel.kptr_restrict=1`, and run with CAP_SYSLOG",
    )
}

fn shows_addresses(symbols: &str) -> bool {
    symbols
        .lines()
        .take(100)
        .any(|line| line.split(' ').next().is_some_and(|address| address.bytes().any(|digit| digit != b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn missing_capabilities_are_named() {
        let check = effective(Capability::BPF.bit() | Capability::NET_ADMIN.bit());
        assert_eq!((check.status, check.found.as_str()), (Status::Problem, "CAP_PERFMON missing"));
        assert_eq!(effective(Capability::SYS_ADMIN.bit()).status, Status::Ok);
        assert_eq!(effective(Capability::to_bits(&FOR_PROGRAMS.into())).status, Status::Ok);
    }

    #[test]
    fn privileged_needs_every_capability_that_the_kernel_has() {
        let all = u64::MAX >> (63 - 40);
        assert_eq!(bounding(all, 40).status, Status::Ok);
        let check = bounding(all & !Capability::SYS_RESOURCE.bit(), 40);
        assert!(check.found.starts_with("CAP_SYS_RESOURCE missing"));
        assert_eq!(check.status, Status::Warning);
    }

    #[test]
    fn a_status_without_the_field_holds_nothing() {
        assert_eq!(set("CapBnd:\t000001ff\nCapEff:\t0000000a\n", "CapEff:"), 10);
        assert_eq!(set("", "CapEff:"), 0);
    }

    #[test]
    fn hidden_addresses_are_recognised() {
        assert!(!shows_addresses("0000000000000000 T _text\n0000000000000000 A x\n"));
        assert!(shows_addresses("0000000000000000 A x\nffffffff81000000 T _text\n"));
    }

    #[test]
    fn hybrid_hosts_have_both_versions() {
        let mounts = "31 30 0:27 / /a rw - cgroup cgroup rw,devices\n32 30 0:28 / /b rw - cgroup2 none rw\n";
        assert_eq!(hierarchies(mounts), (true, true));
        assert_eq!(hierarchies("30 20 0:26 / / rw - tmpfs tmpfs rw\n"), (false, false));
    }
}
