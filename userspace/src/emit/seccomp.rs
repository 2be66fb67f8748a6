//! Seccomp profiles as the OCI runtime specification writes them: made, widened for a runtime, checked, printed.

mod runtime;
mod version;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    runtime::{Runtime, RuntimeNeeds},
    version::release,
};
use crate::{
    profile::{Action, Profile, Seccomp, SyscallRule, Warning},
    syscalls::{self, Abi},
};

const EPERM: u32 = libc::EPERM.cast_unsigned();
const ENOSYS: u32 = libc::ENOSYS.cast_unsigned();

/// What any process needs to start, to return from a signal or an interrupted call, and to end.
const START_AND_END: [&str; 5] = ["execve", "exit", "exit_group", "restart_syscall", "rt_sigreturn"];

/// What the vDSO answers without a system call until the clock source, or the kernel, makes it fall back
/// (`arch/x86/entry/vdso`). A recording shows them only then. Those of 32-bit programs have their own names.
const VDSO_FALLBACKS: [&str; 8] = [
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "getcpu",
    "getrandom",
    "gettimeofday",
    "time",
];

/// What docker's default profile denies or gates by a capability, so that "operation not permitted" is the
/// truth. Not here: calls for which libc or libmount falls back to an older one when the kernel does not know
/// them (`clone3`, `fsopen` and its family, `clock_settime64`, …). EPERM would end those attempts.
const PRIVILEGED: [&str; 61] = [
    "_sysctl",
    "acct",
    "add_key",
    "bpf",
    "chroot",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "query_module",
    "quotactl",
    "reboot",
    "request_key",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
    "vserver",
];

/// A profile that lets through the workload's calls and what any process needs, says EPERM to the privileged
/// rest and ENOSYS to all else, so that libraries fall back to what an older kernel would offer.
///
/// A call without a name cannot be written in a profile; it is left out with a warning.
#[must_use]
pub fn workload_seccomp(calls: &BTreeMap<Abi, BTreeSet<String>>) -> (Seccomp, BTreeSet<Warning>) {
    let mut warnings = BTreeSet::new();
    let mut allowed: BTreeSet<&str> = START_AND_END.into();
    let mut abis = BTreeSet::from([Abi::X86_64]);
    for (&abi, names) in calls.iter().filter(|(_, names)| !names.is_empty()) {
        abis.insert(abi);
        for name in names {
            if syscalls::is_unnamed(name) {
                warnings.insert(Warning::Note(format!(
                    "the {abi} call {name} has no name that a seccomp profile could use, so it fails with \
                     ENOSYS"
                )));
            } else {
                allowed.insert(name);
            }
        }
    }
    // crun warns about a name that none of the ABIs has.
    let exists = |name: &&str| abis.iter().any(|abi| abi.number(name).is_some());
    allowed.extend(VDSO_FALLBACKS.into_iter().filter(exists));
    if abis.contains(&Abi::X86) {
        allowed.insert("sigreturn");
    }
    let denied: Vec<String> = PRIVILEGED
        .into_iter()
        .filter(|name| exists(name) && !allowed.contains(name))
        .map(str::to_owned)
        .collect();
    let names = allowed.into_iter().map(str::to_owned).collect();
    let mut rules = vec![SyscallRule { names, action: Action::Allow, errno_ret: None }];
    if !denied.is_empty() {
        rules.push(SyscallRule { names: denied, action: Action::Errno, errno_ret: Some(EPERM) });
    }
    let seccomp = Seccomp {
        default_action: Action::Errno,
        default_errno_ret: Some(ENOSYS),
        architectures: abis.into_iter().map(|abi| abi.oci_architecture().to_owned()).collect(),
        syscalls: rules,
    };
    (seccomp, warnings)
}

/// What an OCI runtime gets of a profile: the filter of the workload, with what the runtime itself needs. Without a
/// runtime, with what any measured one needs. The warning says that it is a guess.
///
/// # Errors
///
/// [`Problem`], when it could not work.
pub fn emitted(
    profile: &Profile,
    runtime: Option<Runtime<'_>>,
) -> Result<(Seccomp, Option<Warning>), Problem> {
    let (mut needs, warning) = runtime.map_or_else(|| (RuntimeNeeds::any(), None), RuntimeNeeds::choose);
    // Seen when this very workload was recorded under a filter: another version of the runtime may insist on them.
    needs.required.extend(profile.runtime_syscalls.difference(&needs.tolerated).cloned().collect::<Vec<_>>());
    let seccomp = for_runtime(&profile.seccomp, &needs);
    check(&seccomp)?;
    Ok((seccomp, warning))
}

/// The profile plus what the OCI runtime calls under it before the entrypoint runs.
#[must_use]
pub fn for_runtime(seccomp: &Seccomp, runtime: &RuntimeNeeds) -> Seccomp {
    let needed: BTreeSet<String> = runtime.calls().map(str::to_owned).collect();
    let mut widened = seccomp.clone();
    let mut allowed = needed.clone();
    for rule in &mut widened.syscalls {
        match rule.action {
            Action::Allow => allowed.extend(rule.names.drain(..)),
            Action::Errno => rule.names.retain(|name| !needed.contains(name)),
        }
    }
    widened.syscalls.retain(|rule| !rule.names.is_empty());
    let names = allowed.into_iter().collect();
    widened.syscalls.insert(0, SyscallRule { names, action: Action::Allow, errno_ret: None });
    widened
}

/// Why a seccomp profile must not be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No architecture, so the kernel would kill the first call.
    #[error("the seccomp profile lists no architecture")]
    NoArchitecture,
    /// An architecture that this build does not know.
    #[error("the seccomp profile lists `{0}`; this build knows SCMP_ARCH_X86_64, _X86 and _X32")]
    UnknownArchitecture(String),
    /// Not the one that the runtime itself, or the launcher, is a program of: the filter would kill it.
    #[error("the seccomp profile does not list `SCMP_ARCH_X86_64`, whose calls the OCI runtime makes")]
    NoNativeArchitecture,
    /// The default lets everything through, or it has no errno and each runtime picks its own.
    #[error("the seccomp profile's default action is not SCMP_ACT_ERRNO with an errno")]
    Default,
    /// Runtimes differ in which errno they take for none, and refuse one for a call that is let through. 0 would
    /// tell that a call succeeded which was not made, and `MAX_ERRNO` is 4095 (include/linux/err.h).
    #[error("the seccomp profile has a rule for {0} whose errno does not fit its action")]
    Errno(String),
    /// The specification wants one name at least.
    #[error("the seccomp profile has a rule without names")]
    NoNames,
    /// No process could start, go on after a signal, or end.
    #[error("the seccomp profile does not allow `{0}`, which every process needs")]
    Missing(&'static str),
    /// Runtimes do not agree on which of two rules counts.
    #[error("the seccomp profile has two rules for `{0}`")]
    Twice(String),
    /// Not a call of any of the profile's architectures: runc ignores it, crun warns.
    #[error("the seccomp profile names `{0}`, which none of its architectures has")]
    UnknownCall(String),
}

/// Checks what must hold for every profile before it is used or handed out. What else goes wrong with profiles cannot be
/// said in one of ours: conditions (two on one argument become alternatives), flags (which runc 1.1 refuses), actions
/// that kill (a Go runtime calls what it likes at any time) or notify.
///
/// # Errors
/// The first [`Problem`] found.
pub fn check(seccomp: &Seccomp) -> Result<(), Problem> {
    let abis = abis(seccomp)?;
    if !abis.contains(&Abi::X86_64) {
        return Err(Problem::NoNativeArchitecture);
    }
    let is_errno = |errno: Option<u32>| errno.is_some_and(|errno| (1..=4095).contains(&errno));
    if seccomp.default_action != Action::Errno || !is_errno(seccomp.default_errno_ret) {
        return Err(Problem::Default);
    }
    let mut seen = BTreeMap::new();
    for rule in &seccomp.syscalls {
        let fits = match rule.action {
            Action::Allow => rule.errno_ret.is_none(),
            Action::Errno => is_errno(rule.errno_ret),
        };
        if !fits {
            return Err(Problem::Errno(rule.names.join(" ")));
        }
        if rule.names.is_empty() {
            return Err(Problem::NoNames);
        }
        for name in &rule.names {
            if seen.insert(name.as_str(), rule.action).is_some() {
                return Err(Problem::Twice(name.clone()));
            }
            if abis.iter().all(|abi| abi.number(name).is_none()) || syscalls::is_unnamed(name) {
                return Err(Problem::UnknownCall(name.clone()));
            }
        }
    }
    let mut needed = START_AND_END.into_iter().chain(abis.contains(&Abi::X86).then_some("sigreturn"));
    match needed.find(|name| seen.get(name) != Some(&Action::Allow)) {
        Some(name) => Err(Problem::Missing(name)),
        None => Ok(()),
    }
}

/// The profile's architectures.
///
/// # Errors
/// [`Problem::NoArchitecture`] and [`Problem::UnknownArchitecture`].
pub fn abis(seccomp: &Seccomp) -> Result<BTreeSet<Abi>, Problem> {
    let known = |name: &String| {
        Abi::from_oci_architecture(name).ok_or_else(|| Problem::UnknownArchitecture(name.clone()))
    };
    let abis: BTreeSet<Abi> = seccomp.architectures.iter().map(known).collect::<Result<_, _>>()?;
    if abis.is_empty() { Err(Problem::NoArchitecture) } else { Ok(abis) }
}

/// The profile as the JSON that engines read: two spaces, a newline at the end.
#[must_use]
pub fn to_json(seccomp: &Seccomp) -> Vec<u8> {
    // Strings, numbers and lists only, none of which can fail to serialise into memory.
    let mut text = serde_json::to_vec_pretty(seccomp).unwrap_or_default();
    text.push(b'\n');
    text
}
