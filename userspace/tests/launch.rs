//! The launcher, enforced: programs run under a profile and report the errno they get. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use common::caller;
use unpriv::{
    capability::Capability,
    emit::seccomp::workload_seccomp,
    launch::{self, NotExecutable, Options},
    profile::{self, Device, Evidence, Paths, Profile},
    syscalls::Abi,
    trace::DeviceType,
};

const NOBODY: u32 = 65534;

/// A profile that allows every call of these ABIs but for the named ones, and grants nothing else.
fn profile(abis: &[Abi], without: &[&str]) -> Profile {
    let calls = abis.iter().map(|&abi| {
        let names = abi.syscalls().map(|(_, name)| name).filter(|name| !without.contains(name));
        (abi, names.map(str::to_owned).collect())
    });
    let calls: BTreeMap<Abi, BTreeSet<String>> = calls.collect();
    Profile {
        version: profile::VERSION,
        complete: true,
        capabilities: BTreeSet::new(),
        devices: BTreeSet::new(),
        seccomp: workload_seccomp(&calls).0,
        runtime_syscalls: BTreeSet::new(),
        paths: Paths::default(),
        mounts: None,
        lsm: BTreeSet::new(),
        gains_privileges: false,
        warnings: BTreeSet::new(),
        evidence: Evidence::default(),
    }
}

fn everything() -> Profile {
    profile(&[Abi::X86_64], &[])
}

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn run(profile: &Profile, command: &[&str]) -> Output {
    let arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
    let mut launch = launch::prepare(profile, &arguments, &Options::default()).unwrap();
    launch.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = launch.spawn().unwrap().wait_with_output().unwrap();
    let cgroup = launch.cgroup.unwrap();
    let path = cgroup.path().to_owned();
    cgroup.remove().unwrap();
    assert!(!path.exists());
    output
}

fn stdout(profile: &Profile, command: &[&str]) -> String {
    let output = run(profile, command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn errno_of(profile: &Profile, abi: Abi, number: u32) -> Result<i32, i32> {
    let directory = tempfile::tempdir().unwrap();
    let path = caller(directory.path(), abi, number);
    let status = run(profile, &[path.to_str().unwrap()]).status;
    status.code().ok_or_else(|| status.signal().unwrap())
}

#[test]
fn a_call_is_allowed_unknown_or_denied_as_the_profile_says() {
    if !root() {
        return;
    }
    let narrow = profile(&[Abi::X86_64], &["getppid", "ptrace"]);
    let errno = |name: &str| errno_of(&narrow, Abi::X86_64, Abi::X86_64.number(name).unwrap());
    assert_eq!(errno("sched_yield"), Ok(0));
    assert_eq!(errno("getppid"), Ok(libc::ENOSYS));
    assert_eq!(errno("ptrace"), Ok(libc::EPERM));
    assert_eq!(errno_of(&narrow, Abi::X86_64, 9999), Ok(libc::ENOSYS));
}

#[test]
fn a_32_bit_program_runs_only_under_a_profile_that_lists_its_abi() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = caller(directory.path(), Abi::X86, 158); // sched_yield
    match Command::new(&path).status() {
        Ok(status) if status.success() => {}
        other => return eprintln!("skipped: this kernel runs no 32-bit programs: {other:?}"),
    }
    let narrow = profile(&[Abi::X86_64, Abi::X86], &["getppid", "ptrace"]);
    assert_eq!(errno_of(&narrow, Abi::X86, 158), Ok(0));
    assert_eq!(errno_of(&narrow, Abi::X86, 64), Ok(libc::ENOSYS)); // getppid
    assert_eq!(errno_of(&narrow, Abi::X86, 26), Ok(libc::EPERM)); // ptrace
    assert_eq!(errno_of(&narrow, Abi::X86_64, 110), Ok(libc::ENOSYS)); // getppid
    assert_eq!(errno_of(&everything(), Abi::X86, 158), Err(libc::SIGSYS));
}

#[test]
fn x32_calls_are_told_from_64_bit_ones() {
    if !root() {
        return;
    }
    let ptrace = Abi::X32.number("ptrace").unwrap();
    assert_eq!(errno_of(&profile(&[Abi::X86_64, Abi::X32], &["ptrace"]), Abi::X32, ptrace), Ok(libc::EPERM));
    assert_eq!(errno_of(&everything(), Abi::X32, ptrace), Err(libc::SIGSYS));
}

fn capability_sets(profile: &Profile) -> BTreeMap<String, u64> {
    let status = stdout(profile, &["cat", "/proc/self/status"]);
    let sets = status.lines().filter_map(|line| {
        let (name, value) = line.split_once(":\t")?;
        let capability = name.strip_prefix("Cap").filter(|_| name.len() == 6)?;
        Some((capability.to_owned(), u64::from_str_radix(value, 16).ok()?))
    });
    sets.collect()
}

#[test]
fn root_keeps_the_needed_capabilities_and_no_others() {
    if !root() {
        return;
    }
    for gains_privileges in [false, true] {
        let mut profile = everything();
        profile.gains_privileges = gains_privileges;
        profile.capabilities = [Capability::KILL, Capability::NET_RAW].into();
        let bits = Capability::to_bits(&profile.capabilities);
        let sets = capability_sets(&profile);
        for (set, expected) in [("Prm", bits), ("Eff", bits), ("Bnd", bits), ("Inh", 0), ("Amb", 0)] {
            assert_eq!(sets[set], expected, "{set}, gains_privileges {gains_privileges}");
        }
        let status = stdout(&profile, &["cat", "/proc/self/status"]);
        assert!(status.contains(&format!("NoNewPrivs:\t{}", u8::from(!gains_privileges))));
        assert!(status.contains("Seccomp:\t2"));
    }
}

#[test]
fn mount_is_refused_without_its_capability_and_done_with_it() {
    if !root() {
        return;
    }
    let script = "mkdir -p $0 && unshare -m sh -c 'mount -t tmpfs none $0' $0";
    let directory = tempfile::tempdir().unwrap();
    let command = ["sh", "-c", script, directory.path().to_str().unwrap()];
    let mut profile = everything();
    let refused = run(&profile, &command);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Operation not permitted"));
    assert!(!refused.status.success());
    profile.capabilities = [Capability::SYS_ADMIN].into();
    assert!(run(&profile, &command).status.success());
}

#[test]
fn a_device_is_refused_unless_listed() {
    if !root() || !Path::new("/dev/kmsg").exists() {
        return;
    }
    let mut profile = everything();
    profile.capabilities = Capability::all().collect();
    assert!(run(&profile, &["sh", "-c", ": < /dev/null > /dev/full"]).status.success());
    let open = |profile: &Profile, how: &str| {
        let output = run(profile, &["sh", "-c", &format!(": {how} /dev/kmsg")]);
        let denied = String::from_utf8_lossy(&output.stderr).contains("Operation not permitted");
        assert_ne!(output.status.success(), denied);
        output.status.success()
    };
    assert!(!open(&profile, "<"));
    let device = |access: &str| Device {
        kind: DeviceType::Character,
        major: 1,
        minor: Some(11),
        access: access.to_owned().try_into().unwrap(),
        path: None,
    };
    profile.devices = [device("r")].into();
    assert!(open(&profile, "<"));
    assert!(!open(&profile, ">"));
    assert!(!open(&profile, "<>"));
    profile.devices = [device("rw")].into();
    assert!(open(&profile, "<>"));
}

#[test]
fn a_command_that_cannot_be_executed_is_told_as_a_shell_would() {
    let prepare = |command: &str| {
        let options = Options { without_device_cgroup: true, ..Options::default() };
        launch::prepare(&everything(), &[command.into()], &options).unwrap_err()
    };
    let missing = prepare("no-such-command");
    assert_eq!(
        (missing.to_string().as_str(), missing.exit_code()),
        ("no-such-command: command not found", 127)
    );
    let refused = prepare("/etc/passwd");
    assert!(matches!(&refused, launch::Error::Executable(NotExecutable::Refused { .. })));
    assert_eq!(refused.exit_code(), 126);
    assert_eq!(prepare("/etc").exit_code(), 126);
}

#[test]
fn a_missing_interpreter_is_told_after_the_filter_is_in_place() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut launch = launch::prepare(&everything(), &[path.into()], &Options::default()).unwrap();
    let error = launch.spawn().unwrap_err();
    assert!(
        error.to_string().ends_with("No such file or directory (os error 2) (its interpreter is missing)")
    );
    assert_eq!(error.exit_code(), 126);
}

#[test]
fn what_a_command_leaves_running_can_be_killed_and_its_cgroup_removed() {
    if !root() {
        return;
    }
    let command = ["sh", "-c", "sleep 60 &"].map(OsString::from);
    let mut launch = launch::prepare(&everything(), &command, &Options::default()).unwrap();
    launch.spawn().unwrap().wait().unwrap();
    let cgroup = launch.cgroup.unwrap();
    assert_eq!(cgroup.processes().unwrap().len(), 1);
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
}

/// Without write(2) the child cannot say why execve failed; it must end all the same.
#[test]
fn a_failed_execve_under_a_profile_without_write_does_not_hang() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let narrow = profile(&[Abi::X86_64], &["write", "tgkill", "rt_sigprocmask"]);
    let mut launch = launch::prepare(&narrow, &[path.into()], &Options::default()).unwrap();
    let status = launch.spawn().unwrap().wait().unwrap();
    assert!(!status.success());
}

/// `unpriv run` with a profile in a file that anybody may read.
fn unpriv(profile: &Profile, arguments: &[&str]) -> (tempfile::TempDir, Command) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("profile.json");
    fs::write(&path, serde_json::to_vec(profile).unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_unpriv"));
    command.arg("run").arg("--profile").arg(path).args(arguments).stdin(Stdio::null());
    (directory, command)
}

#[test]
fn a_user_without_privilege_runs_a_command_under_no_new_privileges() {
    if !root() {
        return;
    }
    let (_directory, mut command) = unpriv(
        &profile(&[Abi::X86_64], &["getppid"]),
        &["--no-device-cgroup", "--", "cat", "/proc/self/status"],
    );
    let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000", "Uid:\t65534"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

/// The capability sets that a command run by `unpriv`, run by `setpriv` with these arguments, ends up with.
fn sets_below(setpriv: &[&str], needed: &[Capability]) -> Option<String> {
    let mut profile = everything();
    profile.capabilities = needed.iter().copied().collect();
    let (_directory, inner) = unpriv(&profile, &["--no-device-cgroup", "--", "cat", "/proc/self/status"]);
    let output =
        Command::new("setpriv").args(setpriv).arg(inner.get_program()).args(inner.get_args()).output();
    let Ok(output) = output else {
        eprintln!("skipped: no setpriv");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_user_keeps_those_ambient_capabilities_that_are_needed() {
    if !root() {
        return;
    }
    let ambient =
        ["--reuid=65534", "--clear-groups", "--inh-caps=+kill,+chown", "--ambient-caps=+kill,+chown"];
    let Some(status) = sets_below(&ambient, &[Capability::KILL, Capability::NET_RAW]) else { return };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t{:016x}", Capability::KILL.bit())), "{set}: {status}");
    }
}

#[test]
fn root_without_setpcap_still_keeps_only_what_is_needed() {
    if !root() {
        return;
    }
    let Some(status) = sets_below(&["--bounding-set=-setpcap"], &[Capability::KILL]) else { return };
    for set in ["CapPrm", "CapEff"] {
        assert!(status.contains(&format!("{set}:\t{:016x}", Capability::KILL.bit())), "{set}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"));
}

#[test]
fn a_user_without_privilege_is_told_what_is_missing() {
    if !root() {
        return;
    }
    let told = |profile: &Profile, arguments: &[&str]| {
        let (_directory, mut command) = unpriv(profile, arguments);
        let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told(&everything(), &["--", "true"]).contains("--no-device-cgroup"));
    let mut gains = everything();
    gains.gains_privileges = true;
    assert!(told(&gains, &["--no-device-cgroup", "--", "true"]).contains("CAP_SYS_ADMIN"));
}

#[test]
fn run_ends_as_the_command_ends() {
    if !root() {
        return;
    }
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 143), ("no-such-command", 127)] {
        let (_directory, mut command) = unpriv(&everything(), &["--", "sh", "-c", script]);
        assert_eq!(command.stderr(Stdio::null()).status().unwrap().code(), Some(code), "{script}");
    }
}

#[test]
fn run_passes_signals_on() {
    if !root() {
        return;
    }
    let script = "trap 'kill $!; exit 9' TERM; echo ready; sleep 60 & wait";
    let (_directory, mut command) = unpriv(&everything(), &["--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    // `ready` may come before unpriv has its handlers in place.
    std::thread::sleep(Duration::from_millis(200));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}
