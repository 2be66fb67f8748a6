//! Seccomp profiles, byte for byte, and the rules that every one must keep.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use unpriv::{
    emit::seccomp::{Problem, Runtime, RuntimeNeeds, check, emitted, for_runtime, to_json, workload_seccomp},
    profile::{Action, Seccomp, Warning},
    syscalls::Abi,
};

fn calls(of: &[(Abi, &str)]) -> BTreeMap<Abi, BTreeSet<String>> {
    of.iter().map(|&(abi, names)| (abi, names.split_whitespace().map(str::to_owned).collect())).collect()
}

/// Compares with `tests/golden/NAME`; with `UNPRIV_BLESS=1` in the environment writes it instead.
fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UNPRIV_BLESS").is_some() {
        return fs::write(path, bytes).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(expected, String::from_utf8_lossy(bytes), "{}", path.display());
}

fn static_shell() -> Seccomp {
    let (seccomp, warnings) = workload_seccomp(&calls(&[(Abi::X86_64, "read write open mount getuid")]));
    assert_eq!(warnings, BTreeSet::new());
    seccomp
}

fn allowed(seccomp: &Seccomp) -> BTreeSet<&str> {
    let rules = seccomp.syscalls.iter().filter(|rule| rule.action == Action::Allow);
    rules.flat_map(|rule| rule.names.iter().map(String::as_str)).collect()
}

#[test]
fn a_workload_profile_is_these_bytes() {
    golden("seccomp-workload.json", &to_json(&static_shell()));
}

#[test]
fn a_profile_for_32_bit_programs_is_these_bytes() {
    let (seccomp, _) = workload_seccomp(&calls(&[(Abi::X86, "read mmap2 umount"), (Abi::X32, "")]));
    golden("seccomp-x86.json", &to_json(&seccomp));
}

#[test]
fn a_profile_for_each_measured_runtime_is_these_bytes() {
    for needs in RuntimeNeeds::measured() {
        let nnp = if needs.no_new_privileges { "-nnp" } else { "" };
        let seccomp = for_runtime(&static_shell(), &needs);
        check(&seccomp).unwrap();
        golden(&format!("seccomp-{}-{}{nnp}.json", needs.runtime, needs.version), &to_json(&seccomp));
    }
}

#[test]
fn what_comes_out_passes_the_check() {
    let every = |abi: Abi| abi.syscalls().map(|(_, name)| name.to_owned()).collect();
    for abis in [&[][..], &[Abi::X86], &[Abi::X32], &Abi::ALL] {
        let (seccomp, _) = workload_seccomp(&abis.iter().map(|&abi| (abi, every(abi))).collect());
        assert_eq!(check(&seccomp), Ok(()));
        assert!(seccomp.architectures.iter().any(|name| name == "SCMP_ARCH_X86_64"));
    }
}

#[test]
fn a_call_that_the_workload_makes_is_not_denied_as_privileged() {
    let seccomp = static_shell();
    assert!(allowed(&seccomp).contains("mount"));
    assert!(!seccomp.syscalls[1].names.iter().any(|name| name == "mount"));
    assert!(seccomp.syscalls[1].names.iter().any(|name| name == "umount2"));
}

#[test]
fn calls_that_libraries_fall_back_from_are_unknown_rather_than_denied() {
    let seccomp = static_shell();
    let (other, _) = workload_seccomp(&calls(&[(Abi::X86, "read")]));
    for name in ["clone3", "fsopen", "openat2", "faccessat2", "clock_settime64"] {
        assert!(
            seccomp.syscalls.iter().chain(&other.syscalls).all(|rule| !rule.names.iter().any(|n| n == name))
        );
    }
}

#[test]
fn a_call_without_a_name_is_left_out_with_a_warning() {
    let (seccomp, warnings) = workload_seccomp(&calls(&[(Abi::X86_64, "read syscall_9999")]));
    assert_eq!(check(&seccomp), Ok(()));
    assert!(matches!(warnings.first(), Some(Warning::Note(text)) if text.contains("syscall_9999")));
}

#[test]
fn what_the_runtime_needs_is_allowed_even_where_it_was_denied() {
    let mut needs = RuntimeNeeds::any();
    needs.tolerated.insert("keyctl".to_owned());
    let seccomp = for_runtime(&static_shell(), &needs);
    assert_eq!(check(&seccomp), Ok(()));
    assert!(needs.calls().all(|call| allowed(&seccomp).contains(call)));
}

#[test]
fn the_check_refuses_what_could_not_work() {
    let broken = |change: &dyn Fn(&mut Seccomp)| {
        let mut seccomp = static_shell();
        change(&mut seccomp);
        check(&seccomp).unwrap_err()
    };
    assert_eq!(broken(&|s| s.architectures.clear()), Problem::NoArchitecture);
    assert_eq!(
        broken(&|s| s.architectures.push("SCMP_ARCH_ARM".to_owned())),
        Problem::UnknownArchitecture("SCMP_ARCH_ARM".to_owned())
    );
    assert_eq!(
        broken(&|s| s.architectures = vec!["SCMP_ARCH_X86".to_owned()]),
        Problem::NoNativeArchitecture
    );
    assert_eq!(broken(&|s| s.default_action = Action::Allow), Problem::Default);
    assert_eq!(broken(&|s| s.default_errno_ret = Some(0)), Problem::Default);
    for errno in [None, Some(0), Some(4096)] {
        assert!(matches!(broken(&|s| s.syscalls[1].errno_ret = errno), Problem::Errno(_)));
    }
    assert!(matches!(broken(&|s| s.syscalls[0].errno_ret = Some(1)), Problem::Errno(_)));
    assert_eq!(broken(&|s| s.syscalls[1].names.clear()), Problem::NoNames);
    // A 32-bit program returns from a signal by a call of its own.
    let thirty_two_bit = |s: &mut Seccomp| s.architectures.push("SCMP_ARCH_X86".to_owned());
    assert_eq!(broken(&thirty_two_bit), Problem::Missing("sigreturn"));
    assert_eq!(broken(&|s| s.default_errno_ret = None), Problem::Default);
    assert_eq!(broken(&|s| s.syscalls[1].names.push("read".to_owned())), Problem::Twice("read".to_owned()));
    assert_eq!(
        broken(&|s| s.syscalls[0].names.push("raed".to_owned())),
        Problem::UnknownCall("raed".to_owned())
    );
    for name in ["execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall"] {
        assert_eq!(broken(&|s| s.syscalls[0].names.retain(|n| n != name)), Problem::Missing(name));
    }
}

#[test]
fn a_runtime_that_was_not_measured_gets_a_warning_and_what_was_seen_of_it() {
    let mut trace = unpriv::trace::Trace::empty();
    trace.runtime_syscalls.insert("keyctl".to_owned());
    let profile = unpriv::profile::derive(&trace);
    let of = |runtime| {
        let (seccomp, warning) = emitted(&profile, runtime).unwrap();
        assert!(allowed(&seccomp).contains("keyctl"));
        warning.map(|warning| warning.to_string())
    };
    let runtime = Runtime { name: "runc", version: Some("1.1.5+ds1"), no_new_privileges: false };
    assert_eq!(of(None), None);
    assert_eq!(of(Some(runtime)), None);
    assert!(of(Some(Runtime { version: Some("99.1"), ..runtime })).unwrap().contains("runc 99.1"));
    assert!(!of(Some(Runtime { name: "r\u{1b}x", ..runtime })).unwrap().contains('\u{1b}'));
}
