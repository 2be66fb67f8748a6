//! Tests of the rewritten line of podman.

use super::*;

fn podman(version: &str) -> EngineTarget {
    EngineTarget::new(EngineKind::Podman, version, BTreeSet::new(), "seccomp.json")
}

#[test]
fn podman_unmasks_each_path_alone() {
    let mut profile = super::profile(&[Capability::SYS_ADMIN], &[fuse()]);
    profile.paths.unmask =
        ["/proc/timer_list", "/proc/asound", "/proc/interrupts", "/sys/firmware"].map(str::to_owned).into();
    profile.paths.write = [
        "/proc/asound/card0/oss_mixer",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/vm/swappiness",
        "/sys/fs/cgroup",
        "/sys/kernel/mm/ksm/run",
    ]
    .map(str::to_owned)
    .into();
    let line =
        "podman run -d --privileged --cap-drop=MKNOD --security-opt unmask=ALL --security-opt mask=/proc/x i";
    let (line, warnings) = rewritten(line, &profile, &podman("4.3.1"));
    assert_eq!(
        line,
        "podman run -d --cap-drop=ALL --cap-add=SYS_ADMIN --security-opt seccomp=seccomp.json \
         --security-opt unmask=/proc/asound --security-opt unmask=/proc/sys --security-opt unmask=/proc/timer_list \
         --security-opt unmask=/sys/firmware --security-opt unmask=/sys/fs/cgroup --device=/dev/fuse:rw \
         --volume=/sys/kernel/mm/ksm/run:/sys/kernel/mm/ksm/run --security-opt mask=/proc/x i"
    );
    assert!(warnings.is_empty());
    assert_eq!(rewritten(&line, &profile, &podman("4.3.1")).0, line, "rewriting it again changes nothing");
}

#[test]
fn podman_masks_other_paths_in_each_version() {
    let unmasks = |version: &str, path: &str| {
        let mut profile = super::profile(&[], &[]);
        profile.paths.unmask.insert(path.to_owned());
        rewritten("podman run --privileged i", &profile, &podman(version)).0.contains("unmask")
    };
    for (path, first) in [("/proc/interrupts", "5.5.0"), ("/sys/devices/virtual/powercap", "4.8.0")] {
        assert!(!unmasks("4.3.1", path) && unmasks(first, path) && unmasks("5.8.0", path), "{path}");
    }
    assert!(unmasks("5.3.2", "/sys/dev/block") && !unmasks("5.4.0", "/sys/dev/block"));
    assert!(unmasks("4.3.1", "/sys/fs/selinux") && !unmasks("5.8.0", "/proc/asound"));
}

#[test]
fn podman_has_a_name_for_every_capability() {
    let profile = super::profile(&[Capability::BPF, Capability::CHECKPOINT_RESTORE], &[]);
    let (line, warnings) = rewritten("podman run --privileged i", &profile, &podman("4.3.1"));
    assert!(line.contains("--cap-add=BPF --cap-add=CHECKPOINT_RESTORE") && warnings.is_empty(), "{line}");
}

#[test]
fn a_list_of_devices_is_narrowed_one_by_one() {
    let line = "podman run --device=/dev/kvm,/dev/fuse --privileged i";
    let (line, warnings) = rewritten(line, &profile(&[], &[fuse()]), &podman("4.3.1"));
    assert_eq!(line, "podman run --device=/dev/fuse:rw --cap-drop=ALL --security-opt seccomp=seccomp.json i");
    assert_eq!(warnings, [Warning::UnusedDevice("/dev/kvm".to_owned())]);
}

/// podman `securityConfigureGenerator`: `--cap-add` is ambient for a user; `--privileged` is not.
#[test]
fn a_user_who_gets_more_than_with_privileged_is_warned_of() {
    let profile = super::profile(&[Capability::NET_RAW], &[]);
    let warned = |line: &str| !rewritten(line, &profile, &podman("5.0.0")).1.is_empty();
    assert!(warned("podman run --privileged -u 1000 i"));
    assert!(!warned("podman run --cap-add=NET_RAW -u 1000 i") && !warned("podman run --privileged i"));
}
