//! Tests of the generated `AppArmor` profile.

use super::{super::apparmor_globs::tests::matches, *};
use crate::{
    profile::derive,
    profile::rules::tests::check,
    syscalls::Abi,
    trace::{CapabilityCheck, Engine, Facts, MountCall, Namespace, PathAccess, Refusal, Run, Trace},
};

/// A container's trace.
fn trace() -> Trace {
    let engine = Engine {
        name: "docker".to_owned(),
        version: "28.2.2".to_owned(),
        runtime: "runc".to_owned(),
        runtime_version: None,
        image: "sha256:0".to_owned(),
        security_modules: BTreeSet::from(["apparmor".to_owned()]),
    };
    let run = Run {
        command: Vec::new(),
        outcome: None,
        kernel: "6.12".to_owned(),
        architecture: "x86_64".to_owned(),
        probes: BTreeSet::new(),
        attached: None,
        engine: Some(engine),
    };
    let (paths, mounts) = (Some(Facts::default()), Some(Facts::default()));
    Trace { runs: BTreeSet::from([run]), paths, mounts, ..Trace::empty() }
}

fn mount(fstype: &str, source: &str, target: &str) -> MountCall {
    MountCall {
        program: "/bin/mount".to_owned(),
        abi: Abi::X86_64,
        syscall: "mount".to_owned(),
        fstype: Some(fstype.to_owned()),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        partial: false,
        flags: 2,
        errno: None,
    }
}

fn written(trace: &mut Trace, path: &str) {
    let access =
        PathAccess { path: path.to_owned(), write: true, foreign: false, program: "/bin/sh".to_owned() };
    trace.paths.get_or_insert_default().add(access, 1);
}

fn text(trace: &Trace) -> String {
    let profile = derive(trace);
    String::from_utf8(AppArmorProfile::new(&profile, &profile.capabilities, "i").text(Loading::Kept)).unwrap()
}

/// Whether the profile's denials deny an access.
fn denies(text: &str, path: &str, mask: char) -> bool {
    text.lines().filter_map(|line| line.trim().strip_prefix("deny /")).any(|rule| {
        let (glob, letters) = rule.trim_end_matches(',').rsplit_once(' ').unwrap();
        letters.contains(mask) && matches(&format!("/{glob}"), path)
    })
}

#[test]
fn a_profile_of_nothing_denies_what_docker_default_denies() {
    let text = text(&trace());
    for path in [
        "/proc/sys/vm/swappiness",
        "/proc/kcore",
        "/proc/mtrr",
        "/proc/irq/1/smp_affinity",
        "/sys/a/b",
        "/sys/kernel/x",
    ] {
        assert!(denies(&text, path, 'w'), "{path}");
    }
    for path in [
        "/proc/1/oom_score_adj",
        "/proc/987/task/1/comm",
        "/proc/sys/kernel/shmmax",
        "/sys/fs/cgroup/a/b",
        "/etc/x",
    ] {
        assert!(!denies(&text, path, 'w'), "{path}");
    }
    assert!(denies(&text, "/sys/firmware/dmi/x", 'r') && !denies(&text, "/sys/kernel/x", 'r'));
    assert!(text.contains("deny network alg,"));
    assert!(!text.contains("mount,") || text.contains("umount,"));
    assert!(!text.contains("capability"), "{text}");
}

#[test]
fn a_path_that_was_written_is_open_and_its_neighbours_are_not() {
    let mut trace = trace();
    written(&mut trace, "/proc/sys/vm/swappiness");
    written(&mut trace, "/sys/kernel/mm/ksm/run");
    written(&mut trace, "/sys/kernel/tracing/tracing_on");
    let text = text(&trace);
    for path in ["/proc/sys/vm/swappiness", "/sys/kernel/mm/ksm/run", "/sys/kernel/debug/tracing/tracing_on"]
    {
        assert!(!denies(&text, path, 'w'), "{path}");
    }
    for path in [
        "/proc/sys/vm/swappines",
        "/proc/sys/vm/swappiness2",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/kernel/core_pattern",
        "/sys/kernel/mm/ksm/ru",
        "/sys/kernel/mm/ksm/runs",
        "/sys/kernel/mm/ksm/pages_to_scan",
        "/sys/kernel/tracing/trace",
    ] {
        assert!(denies(&text, path, 'w'), "{path}");
    }
}

#[test]
fn an_unmasked_path_is_readable_and_stays_unwritable() {
    let mut trace = trace();
    let access = PathAccess {
        path: "/sys/firmware/dmi/tables/DMI".to_owned(),
        write: false,
        foreign: false,
        program: "/bin/cat".to_owned(),
    };
    trace.paths.get_or_insert_default().add(access, 1);
    let text = text(&trace);
    assert!(!denies(&text, "/sys/firmware/dmi/tables/DMI", 'r'));
    assert!(denies(&text, "/sys/firmware/dmi/tables/DMI", 'w'));
    assert!(denies(&text, "/sys/kernel/security/x", 'r'));
}

#[test]
fn mounts_are_as_narrow_as_they_were_seen() {
    let mut trace = trace();
    let mut mounts = trace.mounts.take().unwrap();
    mounts.add(mount("tmpfs", "none", "/mnt"), 1);
    mounts.add(MountCall { flags: 4096 | 16384, ..mount("none", "/a", "/") }, 1);
    mounts.add(MountCall { flags: 1 << 18 | 16384, ..mount("none", "none", "/x y") }, 1);
    mounts.add(MountCall { flags: 4096 | 32 | 1, ..mount("none", "none", "/b") }, 1);
    mounts.add(MountCall { syscall: "move_mount".to_owned(), source: None, ..mount("", "", "/c") }, 1);
    mounts.add(MountCall { syscall: "pivot_root".to_owned(), ..mount("", "/new/old", "/new") }, 1);
    trace.mounts = Some(mounts);
    let text = text(&trace);
    for rule in [
        "mount fstype=\"tmpfs\" options=(nosuid, rw) \"none\" -> \"/mnt{,/}\",",
        "mount options=(rbind) \"/a{,/}\" -> \"/\",",
        "mount options=(make-rprivate) -> \"/x y{,/}\",",
        "mount options=(bind, remount, ro) -> \"/b{,/}\",",
        "mount options=(move) -> \"/c{,/}\",",
        "pivot_root oldroot=\"/new/old{,/}\" \"/new{,/}\",",
    ] {
        assert!(text.contains(&format!("\n  {rule}\n")), "{rule} in\n{text}");
    }
}

#[test]
fn capabilities_are_those_granted_and_those_of_own_user_namespaces() {
    let mut trace = trace();
    let check = |capability, namespace| CapabilityCheck {
        namespace,
        ..check(capability, "ioctl", &["ns_capable", "dev_ioctl"])
    };
    trace.capabilities.add(check(Capability::NET_ADMIN, Namespace::Own), 1);
    trace.capabilities.add(check(Capability::SYS_ADMIN, Namespace::Child), 1);
    let text = text(&trace);
    let granted: Vec<&str> =
        text.lines().filter(|line| line.contains("capability ")).map(str::trim).collect();
    assert_eq!(granted, ["capability net_admin,", "capability sys_admin,"]);
    assert_eq!(default_denies(&derive(&trace)), None, "docker-default allows every capability");
}

#[test]
fn what_was_refused_is_allowed() {
    let mut trace = trace();
    let accesses = [
        LsmAccess::Ptrace { mask: "trace".to_owned(), peer: "docker-default".to_owned() },
        LsmAccess::Signal {
            mask: "send".to_owned(),
            signal: "term".to_owned(),
            peer: "a\"},\n capability".to_owned(),
        },
        LsmAccess::ChangeProfile("inner".to_owned()),
        LsmAccess::Network { family: "alg".to_owned(), kind: "seqpacket".to_owned() },
        LsmAccess::File { path: "/sys/kernel/config/x/".to_owned(), mask: "c".to_owned() },
        LsmAccess::Capability(Capability::SYSLOG),
    ];
    for access in accesses {
        trace.refusals.add(Refusal { program: "x".to_owned(), access, renamed: false, run: 1 }, 1);
    }
    let text = text(&trace);
    assert!(text.contains("  ptrace (trace) peer=\"docker-default\",\n"), "{text}");
    assert!(text.contains("  signal (send) set=(term) peer=\"a???? capability\",\n"), "{text}");
    assert!(text.contains("  change_profile -> \"inner\",\n") && text.contains("  capability syslog,\n"));
    assert!(!text.contains("network alg") && !denies(&text, "/sys/kernel/config/x", 'w'));
    assert!(denies(&text, "/sys/kernel/config/y", 'w'));
    assert!(default_denies(&derive(&trace)).is_some());
}

#[test]
fn a_trial_tells_of_what_it_denies_and_is_the_same_otherwise() {
    let profile = derive(&trace());
    let generated = AppArmorProfile::new(&profile, &profile.capabilities, "a b/\u{1b}");
    assert!(generated.name.starts_with("unpriv-a-b-") && generated.name.is_ascii(), "{}", generated.name);
    let text = |loading| String::from_utf8(generated.text(loading)).unwrap();
    assert_eq!(text(Loading::Trial).replace("audit deny", "deny"), text(Loading::Kept));
    assert_eq!(text(Loading::Watched).replace(",complain)", ")"), text(Loading::Trial));
    assert!(text(Loading::Kept).contains(&format!("peer=\"{}\"", generated.name)));
}

#[test]
fn the_default_profile_is_known_as_it_is() {
    // moby/profiles apparmor/template.go.
    const GLOBS: [&str; 10] = [
        "/proc/*",
        "/proc/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/**",
        "/proc/sys/[^k]**",
        "/proc/sys/kernel/{?,??,[^s][^h][^m]**}",
        "/proc/sysrq-trigger",
        "/sys/[^f]*/**",
        "/sys/f[^s]*/**",
        "/sys/fs/[^c]*/**",
        "/sys/fs/c[^g]*/**",
        "/sys/fs/cg[^r]*/**",
    ];
    let paths = [
        "/proc/mtrr",
        "/proc/1/comm",
        "/proc/sys/vm/x",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/sem",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/shmmax",
        "/proc/bus/x",
        "/proc/irq/1/x",
        "/proc/fs/x",
        "/proc/acpi/x",
        "/proc/scsi/x",
        "/sys/kernel/x",
        "/sys/firmware/x",
        "/sys/fs/x",
        "/sys/fs/bpf/x",
        "/sys/fs/cgroup/x",
        "/sys/fs/cgroup/x/y",
        "/sys/fs/ca/x",
        "/sys/x",
        "/proc/sysrq-trigger",
        "/proc/self",
        "/proc/sys/keys/x",
        "/proc/sys/kernel/a",
        "/proc/sys/kernel/keys/x",
        "/mnt/x",
        "/sys/fs/fuse/connections/1/abort",
    ];
    for path in paths {
        let denied = GLOBS.iter().any(|glob| matches(glob, path));
        assert_eq!(default_denies_writing(path), denied, "{path}");
    }
}
