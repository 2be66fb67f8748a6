//! Which kernel paths a workload needs unmasked or writable in a container.

use super::{Evidence, Paths, Reason, derive::add_reason};
use crate::{
    syscalls::Abi,
    trace::{MOUNTED, READ_ONLY, Trace, is_below, masked},
};

const CGROUPS: &str = "/sys/fs/cgroup";

/// The paths that stand in the way of what was recorded. A plain command meets none of them.
pub(super) fn needed_paths(trace: &Trace, evidence: &mut Evidence) -> Paths {
    let mut paths = Paths::default();
    let Some(opened) = &trace.paths else { return paths };
    if trace.runs.iter().all(|run| run.engine.is_none()) {
        return paths;
    }
    for (access, &count) in opened {
        let reason = || Reason {
            program: access.program.clone(),
            syscall: None,
            abi: Abi::X86_64,
            because: format!("opened {} to {}", access.path, if access.write { "write" } else { "read" }),
            count,
        };
        let path = access.path.trim_end_matches('/');
        let mut need = |set: &mut std::collections::BTreeSet<String>, path: &str| {
            set.insert(path.to_owned());
            add_reason(evidence.paths.entry(path.to_owned()).or_default(), reason());
        };
        if access.foreign {
            if access.write {
                need(&mut paths.mounted, path);
            }
            continue;
        }
        if let Some(hidden) = masked(path) {
            need(&mut paths.unmask, hidden);
        }
        if !access.write {
            continue;
        }
        if MOUNTED.iter().any(|mount| is_below(path, mount)) {
            need(&mut paths.mounted, path);
        } else if is_below(path, CGROUPS) {
            // The names below it change from run to run, and no engine opens a part of it.
            need(&mut paths.write, CGROUPS);
        } else if is_below(path, "/sys") || READ_ONLY.iter().any(|directory| is_below(path, directory)) {
            need(&mut paths.write, path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::trace::{Engine, PathAccess, Run};

    fn trace(engine: bool, opened: &[(&str, bool)]) -> Trace {
        let engine = engine.then(|| Engine {
            name: "docker".to_owned(),
            version: "28.2.2".to_owned(),
            runtime: "runc".to_owned(),
            runtime_version: None,
            image: "sha256:0".to_owned(),
            security_modules: BTreeSet::new(),
        });
        let run = Run {
            command: Vec::new(),
            outcome: None,
            kernel: "6.12".to_owned(),
            architecture: "x86_64".to_owned(),
            probes: BTreeSet::new(),
            engine,
        };
        let facts = opened.iter().map(|&(path, write)| {
            let foreign = path.starts_with("foreign:");
            let path = path.trim_start_matches("foreign:").to_owned();
            (PathAccess { path, write, foreign, program: "/bin/sh".to_owned() }, 1)
        });
        Trace { runs: BTreeSet::from([run]), paths: Some(facts.collect()), ..Trace::empty() }
    }

    fn needed(opened: &[(&str, bool)]) -> [Vec<String>; 3] {
        let mut evidence = Evidence::default();
        let Paths { unmask, write, mounted } = needed_paths(&trace(true, opened), &mut evidence);
        let sets: BTreeSet<&String> = unmask.iter().chain(&write).chain(&mounted).collect();
        assert!(evidence.paths.keys().eq(sets), "every path has its evidence");
        [unmask, write, mounted].map(|set| set.into_iter().collect())
    }

    #[test]
    fn a_masked_path_that_is_read_is_unmasked_whole() {
        let [unmask, write, mounted] = needed(&[
            ("/proc/timer_list", false),
            ("/sys/firmware/dmi/tables/DMI", false),
            ("/sys/firmware/acpi/tables/DSDT", false),
        ]);
        assert_eq!(unmask, ["/proc/timer_list", "/sys/firmware"]);
        assert!(write.is_empty() && mounted.is_empty());
    }

    #[test]
    fn read_only_paths_that_are_written_are_needed_writable() {
        let [unmask, write, mounted] = needed(&[
            ("/proc/sys/net/ipv4/ip_forward", true),
            ("/proc/sysrq-trigger", true),
            ("/proc/PID/oom_score_adj", true),
            ("/proc/PID/uid_map", true),
            ("/sys/kernel/mm/ksm/run", true),
        ]);
        assert_eq!(write, ["/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/sys/kernel/mm/ksm/run"]);
        assert!(unmask.is_empty() && mounted.is_empty());
    }

    #[test]
    fn cgroups_are_needed_as_a_whole() {
        let [_, write, _] =
            needed(&[("/sys/fs/cgroup/a/cgroup.procs", true), ("/sys/fs/cgroup/b/memory.max", true)]);
        assert_eq!(write, ["/sys/fs/cgroup"]);
    }

    #[test]
    fn file_systems_that_no_engine_mounts_are_kept_apart() {
        let [_, write, mounted] =
            needed(&[("/sys/kernel/tracing/tracing_on", true), ("/proc/sys/fs/binfmt_misc/register", true)]);
        assert!(write.is_empty());
        assert_eq!(mounted, ["/proc/sys/fs/binfmt_misc/register", "/sys/kernel/tracing/tracing_on"]);
    }

    #[test]
    fn a_masked_path_of_sysfs_is_read_only_below_the_mask() {
        let path = "/sys/devices/virtual/powercap/intel-rapl/enabled";
        let [unmask, write, _] = needed(&[(path, true)]);
        assert_eq!(unmask, ["/sys/devices/virtual/powercap"]);
        assert_eq!(write, [path]);
    }

    #[test]
    fn a_path_that_was_cut_off_is_its_directory() {
        assert_eq!(needed(&[("/sys/devices/pci0000:00/", true)])[1], ["/sys/devices/pci0000:00"]);
    }

    #[test]
    fn a_plain_command_needs_none() {
        let mut evidence = Evidence::default();
        let plain = trace(false, &[("/proc/sys/net/ipv4/ip_forward", true), ("/proc/timer_list", false)]);
        assert_eq!(needed_paths(&plain, &mut evidence), Paths::default());
        assert_eq!(evidence, Evidence::default());
    }
}
