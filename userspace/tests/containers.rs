//! Containers without an engine: what a runtime puts into a container's cgroup.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use unpriv::{
    probe::{HookSet, Hooks, Probe, Probes, Recording, cgroup2_mount_point},
    syscalls::Abi,
};

const HOOKS: Hooks = Hooks { failures: true, verbose: false, attach: false, set: HookSet::Auto };

/// clone3 (435) into the directory given with `CLONE_INTO_CGROUP`, as newer runtimes do it: no event says that such a
/// task entered. The child makes a mount namespace of its own (unshare, 272) and executes the entrypoint, the rest.
const RUNTIME: &str = r#"
    sysopen(my $cgroup, $ARGV[0], 0x10000) or die "open: $!";
    my $arguments = pack("Q11", 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, fileno($cgroup));
    my $child = syscall(435, $arguments, length($arguments));
    die "clone3: $!" if $child < 0;
    if ($child == 0) {
        syscall(272, 0x20000) == 0 or die "unshare: $!";
        exec(@ARGV[1..$#ARGV]) or die "exec: $!";
    }
    waitpid($child, 0) == $child and $? == 0 or die "the child: $?";
"#;

/// A cgroup, ended with all that is in it.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("cgroup.kill"), "1"));
        for _ in 0..100 {
            match fs::remove_dir(&self.0) {
                Ok(()) => break,
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// Has a runtime run an entrypoint in the container of that name.
fn run(probe: &mut Probe, id: &str, entrypoint: &[&str]) -> Option<(Recording, Cgroup)> {
    let Some(root) = cgroup2_mount_point() else {
        println!("skipped: no cgroup2 hierarchy is mounted, so nobody can be born into one of its cgroups");
        return None;
    };
    probe.watch_container(id).unwrap();
    // Watched already, as an engine's new container is.
    let cgroup = Cgroup(root.join(id));
    fs::create_dir(&cgroup.0).unwrap();
    let output = Command::new("perl").args(["-e", RUNTIME]).arg(&cgroup.0).args(entrypoint).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let recording = probe.recording().unwrap();
    assert!(recording.trace.complete, "{:?}", recording.trace.lost);
    Some((recording, cgroup))
}

/// A container's id as engines make them.
fn id(name: u32) -> String {
    format!("5eed{name:060x}")
}

#[test]
fn a_task_born_into_the_cgroup_of_the_container_is_recorded() {
    let mut probe = Probe::attach(HOOKS).unwrap();
    let Some((recording, _)) = run(&mut probe, &id(1), &["/bin/hostname"]) else { return };
    let programs: Vec<&String> = recording.trace.programs.keys().collect();
    assert_eq!(programs, ["/bin/hostname"], "the runtime's own steps are not the workload");
    assert!(recording.trace.syscalls[&Abi::X86_64].contains_key("exit_group"));
}

#[test]
fn a_recording_knows_nothing_of_the_one_before() {
    let probes = Probes::new(HOOKS);
    let mut probe = probes.take().unwrap();
    let busy = "mount -t tmpfs none /mnt && mknod /mnt/x b 7 200; cat /dev/net/tun /mnt/x /proc/timer_list; \
                chown 1 /mnt/x; sysctl -w kernel.hostname=$(hostname); umount /mnt; exit 0";
    let Some((first, _)) = run(&mut probe, &id(2), &["/bin/sh", "-c", busy]) else { return };
    let trace = &first.trace;
    assert!(trace.capabilities.keys().count() > 2 && trace.devices.keys().count() > 1, "{trace:?}");
    assert!(trace.paths.as_ref().is_some_and(|paths| paths.keys().count() > 0), "{trace:?}");
    assert!(trace.mounts.as_ref().is_some_and(|mounts| mounts.keys().count() > 0), "{trace:?}");
    probes.put_back(probe);
    let mut again = probes.take().unwrap();
    let mut fresh = Probe::attach(HOOKS).unwrap();
    let (again, _) = run(&mut again, &id(3), &["/bin/hostname"]).unwrap();
    let (fresh, _) = run(&mut fresh, &id(4), &["/bin/hostname"]).unwrap();
    assert_eq!(again.trace, fresh.trace);
    assert_eq!(again.programs, fresh.programs);
}

#[test]
fn a_task_that_is_left_is_not_taken_into_the_next_recording() {
    let probes = Probes::new(HOOKS);
    let mut probe = probes.take().unwrap();
    let left = "sleep 60 </dev/null >/dev/null 2>&1 & exit 0";
    let Some((_, _cgroup)) = run(&mut probe, &id(5), &["/bin/sh", "-c", left]) else { return };
    assert_eq!(probe.alive(), 1);
    probes.put_back(probe);
    assert_eq!(probes.take().unwrap().alive(), 0);
}
