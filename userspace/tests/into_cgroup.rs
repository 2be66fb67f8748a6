//! A task that is born into the container's cgroup, by clone3(2) with `CLONE_INTO_CGROUP`, belongs to the container:
//! newer OCI runtimes start processes so, and no event says that such a task entered.

use std::{fs, process::Command};

use unpriv::{
    probe::{Hooks, Probe, cgroup2_mount_point},
    syscalls::Abi,
};

/// A container's id as engines make them.
const ID: &str = "5eed000000000000000000000000000000000000000000000000000000c10e00";

/// clone3 (435) into the directory given, as a runtime does it; the child makes a mount namespace of its own
/// (unshare, 272) and executes the entrypoint.
const RUNTIME: &str = r#"
    sysopen(my $cgroup, $ARGV[0], 0x10000) or die "open: $!";
    my $arguments = pack("Q11", 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, fileno($cgroup));
    my $child = syscall(435, $arguments, length($arguments));
    die "clone3: $!" if $child < 0;
    if ($child == 0) {
        syscall(272, 0x20000) == 0 or die "unshare: $!";
        exec("/bin/hostname") or die "exec: $!";
    }
    waitpid($child, 0) == $child and $? == 0 or die "the child: $?";
"#;

/// A cgroup, removed at the end.
struct Cgroup(std::path::PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn a_task_born_into_the_cgroup_of_the_container_is_recorded() {
    let Some(root) = cgroup2_mount_point() else {
        println!("skipped: no cgroup2 hierarchy is mounted, so nobody can be born into one of its cgroups");
        return;
    };
    let mut probe = Probe::attach(Hooks { failures: true, ..Hooks::default() }).unwrap();
    probe.watch_container(ID).unwrap();
    // Watched already, as an engine's new container is.
    let cgroup = Cgroup(root.join(ID));
    fs::create_dir(&cgroup.0).unwrap();
    let output = Command::new("perl").args(["-e", RUNTIME]).arg(&cgroup.0).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let recording = probe.recording().unwrap();
    let programs: Vec<&String> = recording.trace.programs.keys().collect();
    assert_eq!(programs, ["/bin/hostname"], "the runtime's own steps are not the workload");
    assert!(recording.trace.syscalls[&Abi::X86_64].contains_key("exit_group"));
    assert!(recording.trace.complete, "{:?}", recording.trace.lost);
}
