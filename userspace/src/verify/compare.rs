//! What a run under a profile did otherwise than the run before it, and what it was denied; pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    profile::{Profile, is_base, rules},
    syscalls::Abi,
    trace::{
        CapabilityCheck, CapabilityRequest, DeviceAccess, DeviceType, Facts, Failure, LsmAccess, Outcome,
        RUNTIME, Refusal, SyscallUse, Trace, mount_flags, names_apart,
    },
    workload::Recorded,
};

/// A way in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The entrypoint never ran; the engine's words.
    DidNotStart(String),
    /// Another end.
    Outcome {
        /// Of the recorded run.
        before: Option<Outcome>,
        /// Under the profile.
        after: Option<Outcome>,
    },
    /// Another output; the first line that differs, when it is known.
    Output {
        /// `stdout` or `stderr`.
        stream: String,
        /// Line of the recorded run.
        before: String,
        /// Line under the profile.
        after: String,
    },
    /// The user's own check said no.
    Check(String),
    /// A call that fails only under the profile.
    NewFailure(Failure),
}

/// Something that the profile's layers refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// The seccomp filter: a call that the profile does not list.
    Seccomp(Failure),
    /// A capability that the profile does not hold.
    Capability(Box<CapabilityCheck>),
    /// A capability set that the profile's does not hold.
    CapabilitySet {
        /// The program.
        program: String,
        /// What it asked for.
        request: CapabilityRequest,
    },
    /// The device cgroup.
    Device(DeviceAccess),
    /// `AppArmor`, in the kernel's own words.
    AppArmor(Refusal),
    /// A read-only mount.
    ReadOnly(Failure),
    /// None of those: a masked path, a security module that told nothing, a missing device node.
    Unknown(Failure),
}

impl Denial {
    /// The layer's name, for people and machines.
    #[must_use]
    pub fn layer(&self) -> &'static str {
        match self {
            Self::Seccomp(_) => "seccomp",
            Self::Capability(_) | Self::CapabilitySet { .. } => "capability",
            Self::Device(_) => "device",
            Self::AppArmor(_) => "AppArmor",
            Self::ReadOnly(_) => "read-only path",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// How the runs differ.
    pub differences: BTreeSet<Difference>,
    /// What was denied.
    pub denials: BTreeSet<Denial>,
}

/// Compares a run under `profile` with the recorded one.
#[must_use]
pub fn compare(before: &Recorded, after: &Recorded, profile: &Profile, with_output: bool) -> Findings {
    let mut differences = behaviour(before, after, with_output);
    let mut new = new_failures(&before.trace, &after.trace, after.start_failure.is_none());
    if differences.is_empty() {
        new.retain(|failure| !lived_with(failure, &after.trace));
    }
    differences.extend(new.iter().cloned().map(Difference::NewFailure));
    let denials = if differences.is_empty() {
        BTreeSet::new()
    } else {
        denials(&new, &before.trace, &after.trace, profile)
    };
    Findings { differences, denials }
}

/// How two runs differ to somebody who only sees their end and their output.
#[must_use]
pub fn behaviour(before: &Recorded, after: &Recorded, with_output: bool) -> BTreeSet<Difference> {
    let mut differences = BTreeSet::new();
    if let Some(failure) = &after.start_failure
        && before.start_failure.is_none()
    {
        differences.insert(Difference::DidNotStart(failure.clone()));
    }
    if before.outcome != after.outcome {
        differences.insert(Difference::Outcome { before: before.outcome, after: after.outcome });
    }
    if with_output && let (Some(mine), Some(theirs)) = (&before.output, &after.output) {
        for (name, mine, theirs) in
            [("stdout", &mine.stdout, &theirs.stdout), ("stderr", &mine.stderr, &theirs.stderr)]
        {
            if mine != theirs {
                let (before, after) = mine.first_difference(theirs).unwrap_or_default();
                differences.insert(Difference::Output { stream: name.to_owned(), before, after });
            }
        }
    }
    differences
}

/// Calls that failed only in the second run.
fn new_failures(before: &Trace, after: &Trace, started: bool) -> BTreeSet<Failure> {
    let known = before.failures.as_ref();
    // A program that only this run has may be one that only the other has, by another name: /proc/5/exe is /proc/6/exe
    // then, and so is a tool that is unpacked into a temporary directory.
    let renamed = |failure: &Failure| {
        !before.programs.contains_key(&failure.program)
            && known.into_iter().flat_map(Facts::keys).any(|other| {
                Failure { program: other.program.clone(), ..failure.clone() } == *other
                    && names_apart(&failure.program, &other.program) == Some(1)
                    && !after.programs.contains_key(&other.program)
            })
    };
    let failures = after.failures.iter().flat_map(Facts::keys);
    // What its runtime was denied, a container that runs did not need.
    let failures = failures.filter(|failure| !started || failure.program != RUNTIME);
    let is_new = |failure: &&Failure| known.is_none_or(|known| !known.contains(failure)) && !renamed(failure);
    failures.filter(is_new).cloned().collect()
}

/// Whether a call was only refused what programs try first and do without: if this one did not, its end or its output
/// tells.
fn lived_with(failure: &Failure, after: &Trace) -> bool {
    let mut denied = after
        .capabilities
        .keys()
        .filter(|check| !check.granted && failure.is_of(&check.program, check.abi, check.syscall.as_deref()))
        .peekable();
    failure.errno == "EPERM" && denied.peek().is_some() && denied.all(rules::is_tried_first)
}

fn denials(new: &BTreeSet<Failure>, before: &Trace, after: &Trace, profile: &Profile) -> BTreeSet<Denial> {
    let mut denials = BTreeSet::new();
    let denied: Vec<&CapabilityCheck> = denied_checks(before, after, profile).collect();
    for failure in new {
        let explained = explain(failure, &denied, after, profile);
        if explained.is_empty() && !after.refusals.keys().any(|refusal| explains(refusal, failure)) {
            let denial = if failure.errno == "EROFS" { Denial::ReadOnly } else { Denial::Unknown };
            denials.insert(denial(failure.clone()));
        }
        denials.extend(explained);
    }
    denials.extend(refusals(before, after).map(Denial::AppArmor));
    // A check can change what a call does without failing it.
    denials.extend(
        denied
            .iter()
            .filter(|check| !rules_leave_out(check))
            .map(|&check| Denial::Capability(Box::new(check.clone()))),
    );
    denials
}

/// Whether the kernel's word about a task is about this call of a program of that name.
fn explains(refusal: &Refusal, failure: &Failure) -> bool {
    // `TASK_COMM_LEN` with its closing zero.
    const LONGEST: usize = 15;
    let name = failure.program.rsplit('/').next().unwrap_or_default().as_bytes();
    matches!(failure.errno.as_str(), "EACCES" | "EPERM")
        && name[..name.len().min(LONGEST)] == *refusal.program.as_bytes()
}

/// The mounts that a run under a watched profile made, as `AppArmor` names them, of those that the recorded run made.
/// Whatever else it would have refused, the workload may live with.
pub(super) fn watched_mounts(before: &Trace, after: &Trace) -> impl Iterator<Item = Denial> {
    refusals(before, after).filter(|refusal| refusal.access.is_mount()).map(Denial::AppArmor)
}

/// What `AppArmor` refused. A program that was refused a mount may try another one instead, read-only say: while there
/// are refusals of mounts that the recorded run made, those are what is wanted.
fn refusals(before: &Trace, after: &Trace) -> impl Iterator<Item = Refusal> {
    let made = |refusal: &Refusal| match &refusal.access {
        LsmAccess::Mount { fstype, flags, .. } => before
            .mounts
            .iter()
            .flat_map(Facts::keys)
            .any(|call| mount_flags(call.flags) == *flags && (fstype.is_none() || call.fstype == *fstype)),
        _ => false,
    };
    let is_mount = |refusal: &Refusal| matches!(refusal.access, LsmAccess::Mount { .. });
    let any_made = after.refusals.keys().any(made);
    let wanted =
        after.refusals.keys().filter(move |refusal| !any_made || !is_mount(refusal) || made(refusal));
    wanted.map(|refusal| {
        let renamed = refusal.renamed || is_renamed(&refusal.access, before, after);
        Refusal { renamed, ..refusal.clone() }
    })
}

/// Whether a path that was refused is one that only this run gave: a temporary name, say.
fn is_renamed(access: &LsmAccess, before: &Trace, after: &Trace) -> bool {
    let paths = match access {
        LsmAccess::Mount { source, target, .. } | LsmAccess::PivotRoot { source, target } => {
            [Some(target), source.as_ref()]
        }
        _ => return false,
    };
    let gave = |trace: &Trace, path: &String| {
        let calls = trace.mounts.iter().flat_map(Facts::keys);
        calls.flat_map(|call| [&call.source, &call.target]).any(|given| given.as_ref() == Some(path))
    };
    paths.into_iter().flatten().any(|path| gave(after, path) && !gave(before, path))
}

/// The layers that refused this call.
fn explain(failure: &Failure, denied: &[&CapabilityCheck], after: &Trace, profile: &Profile) -> Vec<Denial> {
    if !profile.allows(failure.abi, &failure.syscall) && matches!(failure.errno.as_str(), "ENOSYS" | "EPERM")
    {
        return vec![Denial::Seccomp(failure.clone())];
    }
    let mut denials = Vec::new();
    if matches!(failure.errno.as_str(), "EPERM" | "EACCES") {
        denials.extend(
            denied
                .iter()
                .filter(|check| failure.is_of(&check.program, check.abi, check.syscall.as_deref()))
                .map(|&check| Denial::Capability(Box::new(check.clone()))),
        );
        denials.extend(
            after
                .devices
                .keys()
                .filter(|access| failure.is_of(&access.program, access.abi, access.syscall.as_deref()))
                .filter(|access| !profile.allows_device(access))
                .map(|access| Denial::Device(access.clone())),
        );
        if failure.syscall == "capset" {
            denials.extend(refused_sets(&failure.program, after, profile));
        }
    }
    denials
}

/// Requests for more than the profile's capabilities, which the kernel refuses without a check.
fn refused_sets(program: &str, after: &Trace, profile: &Profile) -> Vec<Denial> {
    let beyond = |request: &CapabilityRequest| match request {
        CapabilityRequest::Set { permitted, inheritable, .. } => {
            permitted.union(inheritable).any(|capability| !profile.capabilities.contains(capability))
        }
        CapabilityRequest::AmbientRaise(_) | CapabilityRequest::Read => false,
    };
    let requests = after.capability_sets.keys().filter(|change| change.program == program);
    requests
        .filter(|change| beyond(&change.request))
        .map(|change| Denial::CapabilitySet { program: program.to_owned(), request: change.request.clone() })
        .collect()
}

/// Checks of the workload's own credentials that found a capability missing which the profile lacks, and
/// which the recorded run had: it drops some itself.
fn denied_checks<'a>(
    before: &'a Trace,
    after: &'a Trace,
    profile: &'a Profile,
) -> impl Iterator<Item = &'a CapabilityCheck> {
    after.capabilities.keys().filter(|check| {
        !check.granted
            && !before.capabilities.contains(check)
            && !profile.capabilities.contains(&check.capability)
            && rules::judge(&CapabilityCheck { granted: true, decisive: true, ..(*check).clone() })
                != rules::Verdict::NotCounted
    })
}

fn rules_leave_out(check: &CapabilityCheck) -> bool {
    !matches!(rules::judge(&CapabilityCheck { granted: true, ..check.clone() }), rules::Verdict::Needed(_))
}

/// The facts that would have been recorded, had they not been denied: what to add to the trace.
#[must_use]
pub fn wanted(denials: &BTreeSet<Denial>) -> Trace {
    let mut trace = Trace::empty();
    for denial in denials {
        match denial {
            Denial::Seccomp(failure) => {
                let calls = trace.syscalls.entry(failure.abi).or_default();
                let used: &mut SyscallUse = calls.entry(failure.syscall.clone()).or_default();
                used.count = used.count.max(1);
                used.programs.insert(failure.program.clone());
            }
            Denial::Capability(check) => {
                trace
                    .capabilities
                    .add(CapabilityCheck { granted: true, decisive: true, ..(**check).clone() }, 1);
            }
            Denial::CapabilitySet { program, request } => {
                let mut request = request.clone();
                if let CapabilityRequest::Set { derived, .. } = &mut request {
                    *derived = false;
                }
                let change = crate::trace::CapabilitySetChange { program: program.clone(), request };
                trace.capability_sets.add(change, 1);
            }
            Denial::Device(access) => trace.devices.add(access.clone(), 1),
            Denial::AppArmor(Refusal { access: LsmAccess::Other(_), .. })
            | Denial::ReadOnly(_)
            | Denial::Unknown(_) => {}
            Denial::AppArmor(refusal) => trace.refusals.add(refusal.clone(), 1),
        }
    }
    trace
}

impl Failure {
    /// Whether it is this program's call that failed.
    fn is_of(&self, program: &str, abi: Abi, syscall: Option<&str>) -> bool {
        program == self.program && abi == self.abi && syscall == Some(&self.syscall)
    }
}

impl Profile {
    /// Whether the seccomp part lets a call of that ABI through.
    #[must_use]
    pub fn allows(&self, abi: Abi, syscall: &str) -> bool {
        use crate::profile::Action;
        self.seccomp.architectures.iter().any(|name| name == abi.oci_architecture())
            && (self.runtime_syscalls.contains(syscall)
                || self.seccomp.syscalls.iter().any(|rule| {
                    rule.action == Action::Allow && rule.names.iter().any(|name| name == syscall)
                }))
    }

    /// Whether the device part lets an access through. Creating nodes is free.
    #[must_use]
    pub fn allows_device(&self, access: &DeviceAccess) -> bool {
        let wanted = crate::trace::Access { mknod: false, ..access.access };
        wanted.is_empty()
            || is_base(access.kind, access.major, access.minor)
            || self.devices.iter().any(|device| device.covers(access) && wanted.within(device.access))
    }
}

/// `b` and `c` never need more than this to be told apart in a message.
impl std::fmt::Display for DeviceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Block => "block device",
            Self::Character => "character device",
        })
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
