//! Containers start under emitted seccomp profiles, a hundred in a row, with every OCI runtime that is installed. Needs
//! root, no engine and no recording.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::bundle::{Bundle, OWN_CALLS, Process, version};
use serde_json::{Value, json};
use unpriv::{
    emit::seccomp::{Runtime, RuntimeNeeds, emitted},
    profile::{Profile, Seccomp, derive},
    syscalls::Abi,
    trace::{SyscallUse, Trace},
};

/// Go preempts itself now and then, so that a few starts show little.
const STARTS: usize = 100;
/// For each step of a start, on an emulated machine, too.
const LIMIT: Duration = Duration::from_secs(30);

/// A runtime, and what it gets.
struct Case {
    program: PathBuf,
    version: String,
    no_new_privileges: bool,
    bundle: Bundle,
    needs: RuntimeNeeds,
    seccomp: Seccomp,
}

impl Case {
    /// With no-new-privileges and without; none when the runtime is not installed. `UNPRIV_RUNC` and `UNPRIV_CRUN` name
    /// another program than the one in PATH.
    fn all(name: &str) -> Vec<Self> {
        let program = std::env::var_os(format!("UNPRIV_{}", name.to_uppercase()))
            .map_or_else(|| name.into(), PathBuf::from);
        let Some(version) = version(&program).filter(|_| rustix::process::geteuid().is_root()) else {
            assert!(std::env::var_os("CI").is_none(), "{name} is not installed, or not root");
            eprintln!("skipped: {name} is not installed, or not root");
            return Vec::new();
        };
        [false, true].map(|no_new_privileges| Self::new(name, &program, &version, no_new_privileges)).into()
    }

    fn new(name: &str, program: &Path, version: &str, no_new_privileges: bool) -> Self {
        let runtime = Runtime { name, version: Some(version), no_new_privileges };
        let (needs, _) = RuntimeNeeds::choose(runtime);
        let (seccomp, warning) = emitted(&workload(), Some(runtime)).unwrap();
        println!("{name} {version}, no-new-privileges {no_new_privileges}, {warning:?}");
        Self {
            program: program.to_owned(),
            version: version.to_owned(),
            no_new_privileges,
            bundle: Bundle::new(program, LIMIT).unwrap(),
            needs,
            seccomp,
        }
    }

    /// One start of each kind, as an engine does it.
    fn lives(&self, seccomp: &Value) -> anyhow::Result<()> {
        Process::ALL
            .into_iter()
            .try_for_each(|process| self.bundle.live(process, self.no_new_privileges, seccomp))
    }
}

/// The profile of a workload that makes no calls but those of the bundle's programs.
fn workload() -> Profile {
    let mut trace = Trace::empty();
    let calls = trace.syscalls.entry(Abi::X86_64).or_default();
    for name in OWN_CALLS {
        calls.insert(name.to_owned(), SyscallUse::default());
    }
    derive(&trace)
}

fn a_hundred_containers_start(name: &str) {
    for case in Case::all(name) {
        let seccomp = json!(case.seccomp);
        for start in 0..STARTS {
            let process = [Process::Root, Process::Other][start % 2];
            if let Err(error) = case.bundle.run(process, case.no_new_privileges, &seccomp) {
                panic!("{} {}, start {start}, {process:?}: {error:#}", case.program.display(), case.version);
            }
        }
        case.lives(&seccomp).unwrap();
    }
}

/// Whether this test could fail.
fn no_container_starts_without_what_is_required(name: &str) {
    for case in Case::all(name) {
        let of_the_runtime = case.needs.required.iter().filter(|name| *name != "execve");
        let missing = of_the_runtime.clone().next().map_or("execve", String::as_str);
        let mut seccomp = case.seccomp.clone();
        for rule in &mut seccomp.syscalls {
            rule.names.retain(|name| name != missing);
        }
        let error = case.lives(&json!(seccomp)).expect_err(missing);
        println!("without {missing}: {error:#}");
    }
}

#[test]
fn a_hundred_containers_start_with_runc() {
    a_hundred_containers_start("runc");
}

#[test]
fn a_hundred_containers_start_with_crun() {
    a_hundred_containers_start("crun");
}

#[test]
fn runc_starts_none_without_what_is_required() {
    no_container_starts_without_what_is_required("runc");
}

#[test]
fn crun_starts_none_without_what_is_required() {
    no_container_starts_without_what_is_required("crun");
}
