//! Containers without an engine: what a runtime puts into a container's cgroup.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, os::unix::process::CommandExt as _, path::PathBuf, process::Command, thread, time::Duration};

use unpriv::{
    probe::{HookSet, Hooks, Probe, Probes, Recording, TaskMap, cgroup2_mount_point},
    syscalls::Abi,
};

const HOOKS: Hooks =
    Hooks { failures: true, verbose: false, attach: false, set: HookSet::Auto, tasks: TaskMap::Auto };
const HASHED: Hooks = Hooks { tasks: TaskMap::Hash, ..HOOKS };

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

/// In it many kinds of facts, and the same number of each every time.
const BUSY: &str = "mount -t tmpfs none /mnt && mknod /mnt/x b 7 200; cat /dev/net/tun /mnt/x; : </proc/timer_list; \
                    chown 1 /mnt/x; sysctl -w kernel.hostname=$(hostname); umount /mnt; exit 0";

#[test]
fn a_recording_knows_nothing_of_the_one_before() {
    forgets(HOOKS, [2, 3, 4]);
}

#[test]
fn with_a_hash_map_of_tasks_a_recording_knows_nothing_of_the_one_before() {
    forgets(HASHED, [6, 7, 8]);
}

fn forgets(hooks: Hooks, [busy, hostname, reference]: [u32; 3]) {
    let probes = Probes::new(hooks);
    let mut probe = probes.take().unwrap();
    let Some((first, _)) = run(&mut probe, &id(busy), &["/bin/sh", "-c", BUSY]) else { return };
    let trace = &first.trace;
    assert!(trace.capabilities.keys().count() > 2 && trace.devices.keys().count() > 1, "{trace:?}");
    assert!(trace.paths.as_ref().is_some_and(|paths| paths.keys().count() > 0), "{trace:?}");
    assert!(trace.mounts.as_ref().is_some_and(|mounts| mounts.keys().count() > 0), "{trace:?}");
    probes.put_back(probe);
    let mut again = probes.take().unwrap();
    let mut fresh = Probe::attach(hooks).unwrap();
    let (again, _) = run(&mut again, &id(hostname), &["/bin/hostname"]).unwrap();
    let (fresh, _) = run(&mut fresh, &id(reference), &["/bin/hostname"]).unwrap();
    assert_eq!(again.trace, fresh.trace);
    assert_eq!(again.programs, fresh.programs);
}

#[test]
fn a_hash_map_of_tasks_shows_what_task_storage_shows() {
    let mut stored = Probe::attach(HOOKS).unwrap();
    let Some((stored, _)) = run(&mut stored, &id(9), &["/bin/sh", "-c", BUSY]) else { return };
    let mut hashed = Probe::attach(HASHED).unwrap();
    let (recording, _cgroup) = run(&mut hashed, &id(10), &["/bin/sh", "-c", BUSY]).unwrap();
    assert_eq!(recording.trace, stored.trace);
    assert_eq!(recording.programs, stored.programs);
    assert_eq!(hashed.alive(), 0, "every end was counted once");
}

#[test]
fn with_a_hash_map_of_tasks_a_command_is_recorded() {
    let probe = Probe::attach(HASHED).unwrap();
    let output = probe.spawn(0, || Ok(Command::new("/bin/hostname").output()?)).unwrap();
    assert!(output.status.success());
    let Recording { trace, .. } = probe.recording().unwrap();
    assert!(trace.complete, "{:?}", trace.lost);
    assert!(trace.programs.keys().eq(["/bin/hostname"]), "{:?}", trace.programs);
    assert!(trace.syscalls[&Abi::X86_64].contains_key("exit_group"));
}

#[test]
fn a_program_executed_by_a_thread_is_recorded() {
    if std::env::var_os("UNPRIV_TEST_EXECUTE").is_some() {
        // The thread becomes the process: it takes the place of the process's first thread, and its number.
        thread::spawn(|| panic!("{}", Command::new("/bin/hostname").exec())).join().unwrap();
    }
    let this = std::env::current_exe().unwrap();
    let this = [this.to_str().unwrap(), "--exact", "a_program_executed_by_a_thread_is_recorded"];
    let entrypoint = [&["/usr/bin/env", "UNPRIV_TEST_EXECUTE=1"], &this[..]].concat();
    for (hooks, name) in [(HOOKS, 11), (HASHED, 12)] {
        let mut probe = Probe::attach(hooks).unwrap();
        let Some((recording, _)) = run(&mut probe, &id(name), &entrypoint) else { return };
        let programs = &recording.trace.syscalls[&Abi::X86_64]["exit_group"].programs;
        assert!(programs.iter().eq(["/bin/hostname"]), "{programs:?}");
        assert_eq!(probe.alive(), 0);
    }
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
