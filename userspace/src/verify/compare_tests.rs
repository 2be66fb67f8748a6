//! Tests of what a run under a profile was refused, and of what it did without.

use std::time::Duration;

use super::*;
use crate::{
    capability::Capability,
    profile::{derive, rules::tests::check},
    trace::{Argument, MountCall},
};

fn call(target: &str, errno: Option<&str>) -> MountCall {
    MountCall {
        program: "/bin/mount".to_owned(),
        abi: Abi::X86_64,
        syscall: "mount".to_owned(),
        fstype: Some("tmpfs".to_owned()),
        source: Some("none".to_owned()),
        target: Some(target.to_owned()),
        partial: false,
        flags: 0,
        errno: errno.map(str::to_owned),
    }
}

fn refused(target: &str, flags: u64) -> Refusal {
    Refusal {
        program: "mount".to_owned(),
        access: LsmAccess::Mount {
            fstype: Some("tmpfs".to_owned()),
            source: Some("none".to_owned()),
            target: target.to_owned(),
            flags,
        },
        renamed: false,
        run: 1,
    }
}

fn ran(mount: MountCall, refusals: Vec<Refusal>, failed: bool) -> Recorded {
    let mut trace = Trace::empty();
    trace.syscalls.entry(Abi::X86_64).or_default().insert("mount".to_owned(), SyscallUse::default());
    trace.mounts = Some([(mount, 1)].into_iter().collect());
    trace.refusals = refusals.into_iter().map(|refusal| (refusal, 1)).collect();
    let failure = Failure {
        program: "/bin/mount".to_owned(),
        abi: Abi::X86_64,
        syscall: "mount".to_owned(),
        errno: "EACCES".to_owned(),
    };
    trace.failures = Some(failed.then_some((failure, 1)).into_iter().collect());
    let outcome = Some(Outcome::Exit(i32::from(failed)));
    Recorded { trace, outcome, output: None, start_failure: None, took: Duration::ZERO }
}

fn denials(before: &Recorded, after: &Recorded) -> BTreeSet<Denial> {
    compare(before, after, &derive(&before.trace), false).denials
}

#[test]
fn the_kernels_word_explains_a_failure_and_repairs_it() {
    let before = ran(call("/mnt", None), Vec::new(), false);
    let after = ran(call("/mnt", Some("EACCES")), vec![refused("/real", 0)], true);
    let denials = denials(&before, &after);
    assert_eq!(denials, BTreeSet::from([Denial::AppArmor(refused("/real", 0))]), "and nothing is unknown");
    assert!(wanted(&denials).refusals.contains(&refused("/real", 0)));
    let silent = ran(call("/mnt", Some("EACCES")), Vec::new(), true);
    assert!(matches!(
        self::denials(&before, &silent).first(),
        Some(Denial::Unknown(failure)) if failure.errno == "EACCES"
    ));
}

#[test]
fn what_a_program_tries_after_a_refusal_is_not_wanted() {
    let before = ran(call("/mnt", None), Vec::new(), false);
    let after = ran(call("/mnt", Some("EACCES")), vec![refused("/real", 0), refused("/real", 1)], true);
    assert_eq!(denials(&before, &after), BTreeSet::from([Denial::AppArmor(refused("/real", 0))]));
    let only = ran(call("/mnt", Some("EACCES")), vec![refused("/real", 1)], true);
    assert_eq!(denials(&before, &only), BTreeSet::from([Denial::AppArmor(refused("/real", 1))]));
}

#[test]
fn a_path_that_only_this_run_gave_is_renamed() {
    let before = ran(call("/tmp/a", None), Vec::new(), false);
    let after = ran(call("/tmp/b", Some("EACCES")), vec![refused("/tmp/b", 0)], true);
    let renamed = Refusal { renamed: true, ..refused("/tmp/b", 0) };
    assert_eq!(denials(&before, &after), BTreeSet::from([Denial::AppArmor(renamed)]));
}

#[test]
fn what_no_rule_allows_is_not_added() {
    let before = ran(call("/mnt", None), Vec::new(), false);
    let other = Refusal { access: LsmAccess::Other("signal by the profile x".to_owned()), ..refused("/", 0) };
    let after = ran(call("/mnt", None), vec![other], true);
    assert_eq!(wanted(&denials(&before, &after)), Trace::empty());
}

#[test]
fn what_failed_before_under_another_name_of_its_program_is_not_new() {
    let failing = |program: &str, errno: &str| {
        let mut run = ran(call("/mnt", None), Vec::new(), false);
        run.trace.programs.insert(program.to_owned(), crate::trace::Program::default());
        let (program, syscall, errno) = (program.to_owned(), "epoll_ctl".to_owned(), errno.to_owned());
        let failure = Failure { program, abi: Abi::X86_64, syscall, errno };
        run.trace.failures = Some([(failure, 1)].into_iter().collect());
        run
    };
    let new = |before: &Recorded, after: &Recorded| {
        compare(before, after, &derive(&before.trace), false).differences.len()
    };
    let before = failing("/proc/5/exe", "EPERM");
    assert_eq!(new(&before, &failing("/proc/6/exe", "EPERM")), 0);
    assert_eq!(new(&before, &failing("/proc/6/exe", "EACCES")), 1, "another failure");
    assert_eq!(new(&before, &failing("/usr/bin/exe", "EPERM")), 1, "another program");
    let mut both = failing("/proc/6/exe", "EPERM");
    both.trace.programs.extend(before.trace.programs.clone());
    assert_eq!(new(&before, &both), 1, "a program beside the one that failed");
}

/// A run whose `setsockopt(SOL_SOCKET, option)` was refused for want of `CAP_NET_ADMIN`.
fn refused_option(option: u32, exit: i32) -> Recorded {
    let mut trace = Trace::empty();
    let (program, syscall) = ("/bin/su".to_owned(), "setsockopt".to_owned());
    let check = CapabilityCheck {
        granted: false,
        program: program.clone(),
        argument: Some(Argument::Option(1, option)),
        ..check(Capability::NET_ADMIN, &syscall, &["sk_setsockopt"])
    };
    trace.capabilities.add(check, 1);
    trace.syscalls.entry(Abi::X86_64).or_default().insert(syscall.clone(), SyscallUse::default());
    let failure = Failure { program, abi: Abi::X86_64, syscall, errno: "EPERM".to_owned() };
    trace.failures = Some([(failure, 1)].into_iter().collect());
    Recorded {
        trace,
        outcome: Some(Outcome::Exit(exit)),
        output: None,
        start_failure: None,
        took: Duration::ZERO,
    }
}

#[test]
fn a_larger_buffer_that_is_refused_counts_only_for_who_does_not_do_without() {
    let mut before = refused_option(33, 0);
    before.trace.failures = Some(Facts::default());
    before.trace.capabilities = Facts::default();
    let found = |after: &Recorded| compare(&before, after, &derive(&before.trace), false);
    assert_eq!(found(&refused_option(33, 0)).differences, BTreeSet::new());
    assert!(!found(&refused_option(36, 0)).differences.is_empty(), "another option");
    let denials = found(&refused_option(33, 1)).denials;
    assert!(
        matches!(denials.first(), Some(Denial::Capability(check)) if check.capability == Capability::NET_ADMIN),
        "{denials:?}"
    );
}
