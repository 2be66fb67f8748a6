//! The kernel: its version and type information, and whether it takes the programs.

use std::fs;

use probe_ebpf::TASKS_HASHED;

use super::Check;
use crate::probe::{BTF_PATH, Hooks, HostCannot, Probe, TaskMap, kernel_fields, tracepoints};

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![version(), lockdown()];
    match kernel_fields() {
        Ok(count) => checks.push(Check::ok("kernel fields", format!("{BTF_PATH} has all {count}"))),
        Err(error) => checks.push(Check::problem(
            "kernel fields",
            format!("{error:#}"),
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y, or report this one's version",
        )),
    }
    match tracepoints() {
        Ok(found) => checks.extend(found.into_iter().map(|(name, there)| tracepoint(name, there))),
        // The same file as above, which has said why.
        Err(error) => checks.push(Check::problem("tracepoints", format!("{error:#}"), "see `kernel fields`")),
    }
    checks
}

fn version() -> Check {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let found = format!("Linux {}, {}", text(name.release()), text(name.machine()));
    if name.machine().to_bytes() == b"x86_64" {
        Check::ok("kernel", found)
    } else {
        Check::problem("kernel", found, "use an x86_64 machine: other architectures are not supported yet")
    }
}

/// In the mode `confidentiality` programs cannot read kernel memory (`LOCKDOWN_BPF_READ_KERNEL`).
fn lockdown() -> Check {
    const NAME: &str = "kernel lockdown";
    let Ok(text) = fs::read_to_string("/sys/kernel/security/lockdown") else {
        return Check::ok(NAME, "not told by this kernel, so not enforced or securityfs is not mounted");
    };
    let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(mode, _)| mode);
    if mode == "confidentiality" {
        Check::problem(NAME, mode, "boot with `lockdown=integrity` or without lockdown")
    } else {
        Check::ok(NAME, mode)
    }
}

fn tracepoint(name: &str, there: bool) -> Check {
    let title = format!("tracepoint {name}");
    if there {
        Check::ok(&title, "present")
    } else {
        Check::problem(&title, "missing", "use a kernel with CONFIG_FTRACE_SYSCALLS=y and CONFIG_CGROUPS=y")
    }
}

/// The proof of all the rest.
pub(super) fn attach() -> Result<Probe, HostCannot> {
    Probe::attach(Hooks { failures: true, ..Hooks::default() })
}

/// Which hooks the kernel gives, by what they show.
pub(super) fn programs(probe: &Result<Probe, HostCannot>) -> Vec<Check> {
    let probe = match probe {
        Ok(probe) => probe,
        Err(error) => {
            return vec![Check::problem(
                "programs",
                error.to_string(),
                "mend what is said above of privileges and kernel, or run outside of the container or sandbox",
            )];
        }
    };
    let hooks = probe.hooks_by_fact().iter();
    let hooks = hooks.map(|(fact, names)| {
        let (title, found) = (format!("hooks: {}", fact.name()), names.join(", "));
        if probe.preempted().contains(fact) {
            let advice = "recordings in which that happened say so; mount tracefs, or boot with \
                              `preempt=voluntary`, for hooks that are not preempted";
            Check::warning(&title, format!("{found}; preempted at times, and then skipped"), advice)
        } else {
            Check::ok(&title, found)
        }
    });
    std::iter::once(tasks(probe.task_map())).chain(hooks).collect()
}

/// Where who belongs to the workload is kept.
fn tasks(map: TaskMap) -> Check {
    let found = match map {
        TaskMap::Hash => format!(
            "in a hash map, because this kernel has no task storage; {TASKS_HASHED} of a workload fit in at once"
        ),
        _ => "in task storage".to_owned(),
    };
    Check::ok("workload's tasks", found)
}
