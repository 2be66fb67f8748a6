//! Containers start and end under emitted seccomp profiles, with every OCI runtime that is installed. Needs root.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::caller;
use serde_json::{Value, json};
use unpriv::{
    emit::seccomp::{RuntimeNeeds, for_runtime, workload_seccomp},
    profile::Seccomp,
    syscalls::Abi,
};

/// Go preempts itself now and then, so one start shows little.
const STARTS: u32 = 10;

/// The version of a runtime; `None` when it is not installed.
fn version(runtime: &str) -> Option<String> {
    let output = Command::new(runtime).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next()?.split(' ').nth(2).map(str::to_owned)
}

/// A container whose only process is `/program`.
fn config(seccomp: &Seccomp, no_new_privileges: bool) -> Value {
    let namespaces = ["mount", "pid", "ipc", "uts", "network"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/program"],
            "cwd": "/",
            "noNewPrivileges": no_new_privileges,
            "capabilities": { "bounding": [], "permitted": [], "effective": [] },
        },
        "root": { "path": "rootfs" },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": { "namespaces": namespaces, "seccomp": seccomp },
    })
}

/// Runs it once; `None` when it hung, as runc does for want of a call.
fn start(runtime: &str, bundle: &Path, name: &str) -> Option<ExitStatus> {
    let (state, name) = (bundle.join("state"), format!("unpriv-test-{name}"));
    let invoke = |arguments: &[&str]| {
        let mut command = Command::new(runtime);
        command.arg("--root").arg(&state).args(arguments).arg(&name).current_dir(bundle).stdin(Stdio::null());
        command
    };
    let mut child = invoke(&["run"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    invoke(&["delete", "--force"]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    status
}

fn starts_under_its_profile(runtime: &str) {
    let Some(version) = version(runtime).filter(|_| rustix::process::geteuid().is_root()) else {
        return eprintln!("skipped: {runtime} is not installed, or not root");
    };
    let bundle = tempfile::tempdir().unwrap();
    let rootfs = bundle.path().join("rootfs");
    for directory in ["proc", "dev"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    // Its exit status is getuid's errno; the call itself gives root's 0.
    let program = caller(&rootfs, Abi::X86_64, Abi::X86_64.number("getuid").unwrap());
    fs::rename(program, rootfs.join("program")).unwrap();

    // The program's own call is not in the profile at first: an exit status of ENOSYS shows the filter at work.
    for (calls, expected) in [("", libc::ENOSYS), ("getuid", 0)] {
        let calls = calls.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        let (workload, _) = workload_seccomp(&BTreeMap::from([(Abi::X86_64, calls)]));
        for no_new_privileges in [false, true] {
            let (needs, warning) = RuntimeNeeds::choose(runtime, Some(&version), no_new_privileges);
            let seccomp = for_runtime(&workload, &needs);
            let text = serde_json::to_vec(&config(&seccomp, no_new_privileges)).unwrap();
            fs::write(bundle.path().join("config.json"), text).unwrap();
            for round in 0..STARTS {
                let name = format!("{runtime}-{}-{round}", std::process::id());
                let status = start(runtime, bundle.path(), &name).map(|status| status.code());
                assert_eq!(
                    status,
                    Some(Some(expected)),
                    "{runtime} {version}, no-new-privileges {no_new_privileges}, {warning:?}"
                );
            }
        }
    }
}

#[test]
fn containers_start_with_runc() {
    starts_under_its_profile("runc");
}

#[test]
fn containers_start_with_crun() {
    let unified = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    if !unified.trim().is_empty() {
        return eprintln!("skipped: crun refuses hosts with controllers in both versions of cgroups");
    }
    starts_under_its_profile("crun");
}
