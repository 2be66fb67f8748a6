//! Tests of the rewritten `docker run`.

use super::*;
use crate::{
    profile::{self, Action, Device, Evidence, Paths, Seccomp, SyscallRule},
    trace::{Access, DeviceType},
    workload::device_nodes::Node,
};

fn profile(capabilities: &[Capability], devices: &[Device]) -> Profile {
    Profile {
        version: profile::VERSION,
        complete: true,
        capabilities: capabilities.iter().copied().collect(),
        devices: devices.iter().cloned().collect(),
        seccomp: Seccomp {
            default_action: Action::Errno,
            default_errno_ret: Some(1),
            architectures: vec!["SCMP_ARCH_X86_64".to_owned()],
            syscalls: vec![SyscallRule {
                names: vec!["read".to_owned()],
                action: Action::Allow,
                errno_ret: None,
            }],
        },
        runtime_syscalls: BTreeSet::new(),
        paths: Paths::default(),
        mounts: None,
        lsm: BTreeSet::new(),
        gains_privileges: false,
        warnings: BTreeSet::new(),
        evidence: Evidence::default(),
    }
}

fn device(kind: DeviceType, major: u32, minor: Option<u32>, access: &str, path: Option<&str>) -> Device {
    let access = Access::try_from(access.to_owned()).unwrap();
    Device { kind, major, minor, access, path: path.map(str::to_owned) }
}

fn fuse() -> Device {
    device(DeviceType::Character, 10, Some(229), "rw", Some("/dev/fuse"))
}

fn target(version: &str) -> EngineTarget {
    EngineTarget::new(EngineKind::Docker, version, BTreeSet::new(), "seccomp.json")
}

fn parse(line: &str) -> RunLine {
    RunLine::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

fn rewritten(line: &str, profile: &Profile, target: &EngineTarget) -> (String, Vec<Warning>) {
    let rewritten = rewrite(&parse(line), profile, target);
    (rewritten.argv().join(" "), rewritten.warnings.into_iter().collect())
}

#[test]
fn a_family_brings_the_nodes_that_the_host_has() {
    let profile = profile(&[], &[device(DeviceType::Block, 7, None, "rw", None)]);
    let mut target = target("28.2.2");
    let nodes = ["/dev/loop0", "/dev/loop1"].map(str::to_owned).into();
    target.families = BTreeMap::from([("b 7:*".to_owned(), nodes)]);
    let (line, _) = rewritten("docker run --privileged img", &profile, &target);
    assert_eq!(
        line,
        "docker run --cap-drop=ALL --device-cgroup-rule=b 7:* rw --security-opt seccomp=seccomp.json \
         --device=/dev/loop0:rw --device=/dev/loop1:rw img"
    );
    let words: Vec<String> = rewrite(&parse("docker run --privileged img"), &profile, &target).argv();
    let again = rewrite(&RunLine::parse(&words).unwrap(), &profile, &target).argv();
    assert_eq!(again, words, "rewriting it again changes nothing");
}

#[test]
fn the_grants_stand_where_privileged_stood() {
    let profile = profile(&[Capability::SYS_ADMIN, Capability::NET_ADMIN], &[fuse()]);
    let (line, warnings) = rewritten(
        "docker run -it --privileged --name=x -v /a:/b img sh --privileged",
        &profile,
        &target("28.2.2"),
    );
    assert_eq!(
        line,
        "docker run -it --cap-drop=ALL --cap-add=NET_ADMIN --cap-add=SYS_ADMIN --security-opt seccomp=seccomp.json \
         --device=/dev/fuse:rw --name=x -v /a:/b img sh --privileged"
    );
    assert!(warnings.is_empty());
    let (line, _) = rewritten("docker run -it img", &profile, &target("28.2.2"));
    assert!(line.starts_with("docker run --cap-drop=ALL ") && line.ends_with(" -it img"), "{line}");
}

#[test]
fn widening_options_go_and_narrowing_ones_stay() {
    let line = "docker run --rm --cap-add SYS_ADMIN --device-cgroup-rule=a --security-opt seccomp=unconfined \
                --security-opt no-new-privileges --security-opt=apparmor:unconfined --security-opt label=type:x \
                --security-opt label=disable --security-opt systempaths=unconfined --security-opt apparmor=mine \
                --privileged=true --cap-drop=MKNOD -e A i";
    let (line, warnings) = rewritten(line, &profile(&[], &[]), &target("28.2.2"));
    assert_eq!(
        line,
        "docker run --rm --cap-drop=ALL --security-opt seccomp=seccomp.json --security-opt no-new-privileges \
         --security-opt label=type:x --security-opt apparmor=mine -e A i"
    );
    assert!(warnings.is_empty());
}

#[test]
fn an_old_engine_gets_the_broader_capability() {
    let profile = profile(&[Capability::BPF, Capability::PERFMON], &[]);
    let (line, warnings) = rewritten("docker run --privileged i", &profile, &target("20.10.24+dfsg1"));
    assert_eq!(line, "docker run --cap-drop=ALL --cap-add=SYS_ADMIN --security-opt seccomp=seccomp.json i");
    assert_eq!(warnings.len(), 2);
    for version in ["23.0.0", "28.2.2", "library-import"] {
        let (line, warnings) = rewritten("docker run --privileged i", &profile, &target(version));
        assert!(line.contains("--cap-add=PERFMON --cap-add=BPF ") && warnings.is_empty(), "{line}");
    }
    let mut ancient = target("20.10.0");
    ancient.capabilities.remove(&Capability::AUDIT_READ);
    let (line, warnings) =
        rewritten("docker run i", &self::profile(&[Capability::AUDIT_READ], &[]), &ancient);
    assert!(line.contains("--cap-add=AUDIT_READ") && warnings.len() == 1);
}

#[test]
fn families_and_devices_without_a_node_are_rules() {
    let devices = [
        device(DeviceType::Block, 7, None, "rwm", Some("/dev/loop0")),
        device(DeviceType::Character, 10, Some(237), "rw", None),
        device(DeviceType::Block, 8, Some(0), "m", Some("/dev/sda")),
        device(DeviceType::Character, 5, Some(9), "r", Some("/dev/by-path/pci-0000:00")),
    ];
    let run = rewrite(&parse("docker run --privileged i"), &profile(&[], &devices), &target("28.2.2"));
    let values = |name| run.run.values(name).collect::<Vec<_>>();
    assert_eq!(values("device-cgroup-rule"), ["b 7:* rw", "c 5:9 r", "c 10:237 rw"]);
    assert_eq!(values("device"), ["/dev/sda:m"]);
    assert_eq!(
        run.warnings.into_iter().collect::<Vec<_>>(),
        [Warning::DeviceWithoutNode(EngineKind::Docker, "/dev/by-path/pci-0000:00".to_owned())]
    );
}

#[test]
fn the_users_own_devices_are_narrowed_or_dropped() {
    let sound = device(DeviceType::Character, 116, Some(2), "r", Some("/dev/snd/pcm0"));
    let disk = device(DeviceType::Block, 8, Some(0), "r", Some("/dev/sda"));
    let profile = profile(&[], &[fuse(), sound, disk]);
    let mut target = target("28.2.2");
    let disk = Node { kind: DeviceType::Block, major: 8, minor: 0 };
    target.nodes.insert("/dev/disk/by-id/x".to_owned(), BTreeSet::from([disk]));
    let line = "docker run --device /dev/fuse --device=/dev/snd:rwm --device=/dev/disk/by-id/x:/dev/xvda \
                --device=/dev/kvm --device=nvidia.com/gpu=all --privileged i";
    let (line, warnings) = rewritten(line, &profile, &target);
    assert_eq!(
        line,
        "docker run --device /dev/fuse:rw --device=/dev/snd:r --device=/dev/disk/by-id/x:/dev/xvda:r \
         --device=nvidia.com/gpu=all --cap-drop=ALL --security-opt seccomp=seccomp.json i"
    );
    assert_eq!(
        warnings,
        [
            Warning::UnusedDevice("/dev/kvm".to_owned()),
            Warning::UncheckedDevice("nvidia.com/gpu=all".to_owned())
        ]
    );
}

#[test]
fn the_default_apparmor_profile_stays_where_it_is_enough() {
    let apparmor = BTreeSet::from(["apparmor".to_owned()]);
    let target = EngineTarget::new(EngineKind::Docker, "28.2.2", apparmor, "s");
    let generated = |profile: &Profile, line: &str| {
        let rewritten = rewrite(&parse(line), profile, &target);
        let line = rewritten.argv().join(" ");
        let named =
            rewritten.apparmor.as_ref().is_some_and(|one| line.contains(&format!("apparmor={}", one.name)));
        assert_eq!(line.contains("apparmor=unpriv-"), named, "{line}");
        assert!(!line.contains("apparmor=unconfined") && rewritten.warnings.is_empty(), "{line}");
        named
    };
    let plain = "docker run --privileged registry:5000/a/app:1.2";
    let mut mounts = profile(&[Capability::SYS_ADMIN], &[]);
    assert!(!generated(&mounts, plain));
    mounts.seccomp.syscalls[0].names.push("mount".to_owned());
    assert!(generated(&mounts, plain), "a recording without mounts may have made one");
    assert!(!generated(&mounts, "docker run --privileged --security-opt apparmor=mine i"));
    mounts.capabilities.clear();
    assert!(!generated(&mounts, plain), "a mount without the capability failed anyway");
    for (path, denied) in [("/proc/sys/vm/swappiness", true), ("/proc/sys/kernel/shmmax", false)] {
        let mut writes = profile(&[], &[]);
        writes.paths.write.insert(path.to_owned());
        assert_eq!(generated(&writes, plain), denied, "{path}");
    }
    let mut reads = profile(&[], &[]);
    reads.paths.unmask.insert("/proc/timer_list".to_owned());
    assert!(!generated(&reads, plain));
    reads.paths.unmask.insert("/sys/firmware/dmi/tables/DMI".to_owned());
    assert!(generated(&reads, plain));
    let elsewhere = rewritten(plain, &reads, &self::target("28.2.2")).0;
    assert!(!elsewhere.contains("apparmor"), "{elsewhere}");
}

#[test]
fn a_generated_profile_is_named_after_the_image_and_its_content() {
    let apparmor = BTreeSet::from(["apparmor".to_owned()]);
    let mut target = EngineTarget::new(EngineKind::Docker, "28.2.2", apparmor, "s");
    target.confinement.beyond_default = true;
    let name = |line: &str, profile: &Profile| rewrite(&parse(line), profile, &target).apparmor.unwrap().name;
    let (none, some) = (profile(&[], &[]), profile(&[Capability::NET_ADMIN], &[]));
    let one = name("docker run --privileged registry:5000/a/app:1.2@sha256:0", &none);
    assert!(one.starts_with("unpriv-app-") && one.len() == "unpriv-app-".len() + 16, "{one}");
    assert_eq!(one, name("docker run --privileged app", &none));
    assert_ne!(one, name("docker run --privileged app", &some));
}

#[test]
fn apparmor_is_off_only_where_no_profile_can_be_had() {
    let mut profile = profile(&[], &[]);
    profile.paths.write.insert("/proc/sys/vm/swappiness".to_owned());
    let mut target =
        EngineTarget::new(EngineKind::Docker, "28.2.2", BTreeSet::from(["apparmor".to_owned()]), "s");
    target.confinement.obstacle = Some("no \u{1b}parser".to_owned());
    let (line, warnings) = rewritten("docker run --privileged i", &profile, &target);
    assert!(line.contains("apparmor=unconfined"), "{line}");
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    let warning = warning.to_string();
    assert!(warning.contains("swappiness") && warning.contains("parser") && !warning.contains('\u{1b}'));
}

#[test]
fn kernel_paths_get_the_narrowest_option() {
    let mut profile = profile(&[], &[]);
    profile.paths.write =
        ["/sys/fs/cgroup/x", "/sys/kernel/mm/ksm/run", "/sys/class/net/eth0/mtu"].map(str::to_owned).into();
    let (line, warnings) = rewritten("docker run --privileged i", &profile, &target("28.2.2"));
    assert_eq!(
        line,
        "docker run --cap-drop=ALL --security-opt seccomp=seccomp.json --security-opt writable-cgroups=true \
         --volume=/sys/kernel/mm/ksm/run:/sys/kernel/mm/ksm/run i"
    );
    assert_eq!(warnings, [Warning::StaysReadOnly(EngineKind::Docker, "/sys/class/net/eth0/mtu".to_owned())]);
    let (line, warnings) =
        rewritten("docker run --privileged --net=host -v /sys:/sys i", &profile, &target("20.10.0"));
    assert!(warnings.is_empty() && !line.contains("--volume") && !line.contains("systempaths"), "{line}");
    profile.paths.write.insert("/proc/sys/vm/swappiness".to_owned());
    let (line, warnings) = rewritten("docker run --privileged i", &profile, &target("20.10.0"));
    assert!(line.contains("--security-opt systempaths=unconfined") && !line.contains("cgroups"), "{line}");
    assert!(warnings.contains(&Warning::StaysReadOnly(EngineKind::Docker, "/sys/fs/cgroup/x".to_owned())));
}

#[test]
fn a_path_with_a_colon_is_bound_by_the_option_that_takes_it() {
    let mut profile = profile(&[], &[]);
    let path = "/sys/devices/pci0000:00/0000:00:04.0/virtio0/block/vda/queue/read_ahead_kb";
    profile.paths.write.insert(path.to_owned());
    let (line, warnings) = rewritten("docker run --privileged i", &profile, &target("28.2.2"));
    assert!(line.contains(&format!(" --mount=type=bind,source={path},target={path} ")), "{line}");
    assert!(warnings.is_empty());
    // Rewritten again, it is there already.
    let (again, warnings) = rewritten(&line, &profile, &target("28.2.2"));
    assert!(again.matches("--mount").count() == 1 && warnings.is_empty(), "{again}");
}

#[test]
fn only_what_that_docker_masks_is_unmasked() {
    let unmasks = |version: &str, path: &str| {
        let mut profile = profile(&[], &[]);
        profile.paths.unmask.insert(path.to_owned());
        rewritten("docker run --privileged i", &profile, &target(version)).0.contains("systempaths")
    };
    assert!(unmasks("20.10.24+dfsg1", "/proc/timer_list"));
    assert!(!unmasks("29.0.0", "/sys/fs/selinux"));
    for recent in ["/proc/interrupts", "/sys/devices/system/cpu/cpu0/thermal_throttle"] {
        assert!(!unmasks("20.10.24+dfsg1", recent) && !unmasks("28.0.1", recent), "{recent}");
        assert!(unmasks("28.0.2", recent) && unmasks("28.0.2+azure-1", recent), "{recent}");
        assert!(unmasks("dev", recent), "{recent}");
    }
}

#[test]
fn what_is_mounted_besides_the_engine_takes_only_apparmor() {
    let mut profile = profile(&[], &[]);
    profile.paths.mounted.insert("/sys/kernel/tracing/tracing_on".to_owned());
    let plain = rewritten("docker run --privileged i", &profile, &target("28.2.2")).0;
    assert!(!plain.contains("systempaths") && !plain.contains("--volume"), "{plain}");
    let apparmor = EngineTarget::new(
        EngineKind::Docker,
        "28.2.2",
        BTreeSet::from(["apparmor".to_owned()]),
        "seccomp.json",
    );
    let (line, warnings) = rewritten("docker run --privileged i", &profile, &apparmor);
    assert!(line.contains("apparmor=unpriv-i-") && warnings.is_empty(), "{line}");
}

#[test]
fn a_user_who_gets_no_capabilities_is_warned_of() {
    let mut profile = profile(&[Capability::NET_ADMIN], &[]);
    let mut target = target("28.2.2");
    let warned =
        |line: &str, profile: &Profile, target: &EngineTarget| !rewritten(line, profile, target).1.is_empty();
    assert!(warned("docker run -u 1000:0 i", &profile, &target));
    assert!(
        !warned("docker run -u 0:1000 i", &profile, &target)
            && !warned("docker run --user=root i", &profile, &target)
    );
    target.image_user = Some("www".to_owned());
    assert!(warned("docker run i", &profile, &target) && !warned("docker run -u 0 i", &profile, &target));
    profile.gains_privileges = true;
    assert!(!warned("docker run i", &profile, &target));
}

#[test]
fn rewriting_twice_gives_the_same_line() {
    let loops = device(DeviceType::Block, 7, None, "rw", Some("/dev/loop0"));
    let bare = device(DeviceType::Character, 10, Some(237), "rw", None);
    let mut full =
        profile(&[Capability::BPF, Capability::SYS_ADMIN, Capability::CHOWN], &[fuse(), loops, bare]);
    full.seccomp.syscalls[0].names.push("mount".to_owned());
    full.paths.unmask.insert("/proc/kcore".to_owned());
    full.paths.write =
        ["/sys/fs/cgroup/x", "/sys/kernel/mm/ksm/run", "/proc/sys/vm/swappiness"].map(str::to_owned).into();
    let options = [
        "--privileged",
        "--cap-add=ALL",
        "-itd",
        "--device /dev/fuse",
        "--device=/dev/loop0:/dev/l:rwm",
        "--device=/dev/kvm",
        "-v /sys:/sys",
        "--security-opt label=disable",
        "--security-opt=no-new-privileges",
        "-u 1000",
    ];
    for profile in [profile(&[], &[]), full] {
        for version in ["20.10.24", "29.1.0"] {
            let target = EngineTarget::new(
                EngineKind::Docker,
                version,
                BTreeSet::from(["apparmor".to_owned()]),
                "o/s.json",
            );
            for chosen in 0..1_u32 << options.len() {
                let used = (0..options.len()).filter(|index| chosen & 1 << index != 0);
                let words: Vec<&str> = used.flat_map(|index| options[index].split(' ')).collect();
                let line = ["docker", "run"].into_iter().chain(words).chain(["i", "sh", "--privileged"]);
                let run = RunLine::parse(&line.map(str::to_owned).collect::<Vec<_>>()).unwrap();
                let once = rewrite(&run, &profile, &target).argv();
                let parsed = RunLine::parse(&once).unwrap();
                assert!(!parsed.is_privileged());
                assert_eq!(rewrite(&parsed, &profile, &target).argv(), once);
            }
        }
    }
}

#[test]
fn a_warning_shows_no_control_character() {
    let run = RunLine::parse(&["docker", "run", "--device=/dev/\u{1b}[2J", "i"].map(str::to_owned)).unwrap();
    let warnings = rewrite(&run, &profile(&[], &[]), &target("28.2.2")).warnings;
    for warning in warnings {
        assert!(!warning.to_string().contains('\u{1b}'));
    }
}

#[path = "container_podman_tests.rs"]
mod podman;
