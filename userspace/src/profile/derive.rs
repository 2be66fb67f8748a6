//! From what happened to what is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Device, Evidence, Profile, Reason, VERSION, Warning,
    devices::needed_devices,
    mounts::needed_mounts,
    paths::needed_paths,
    rules::{Verdict, judge},
};
use crate::{
    capability::Capability,
    emit::seccomp::workload_seccomp,
    syscalls::Abi,
    trace::{CapabilityRequest, Credential, Loss, LsmAccess, Namespace, Trace},
};

/// One need: any of these capabilities meets it.
struct Need {
    alternatives: Vec<Capability>,
    reason: Reason,
}

/// What the workload of this trace needs.
#[must_use]
pub fn derive(trace: &Trace) -> Profile {
    let mut warnings: BTreeSet<Warning> =
        trace.lost.iter().map(|loss| Warning::Incomplete(incomplete(loss, trace))).collect();
    let mut evidence = Evidence::default();
    let capabilities = capabilities(trace, &mut evidence, &mut warnings);
    let devices = devices(trace, &mut evidence);
    let paths = needed_paths(trace, &mut evidence);
    let mounts = needed_mounts(trace, &mut evidence);
    let lsm = lsm(trace, &mut evidence);
    if trace.paths.is_none() && trace.runs.iter().any(|run| run.engine.is_some()) {
        warnings.insert(Warning::PathsUnknown);
    }
    let calls: BTreeMap<Abi, BTreeSet<String>> =
        trace.syscalls.iter().map(|(&abi, calls)| (abi, calls.keys().cloned().collect())).collect();
    let (seccomp, unnamed) = workload_seccomp(&calls);
    warnings.extend(unnamed);
    syscall_evidence(trace, &mut evidence);
    for change in trace.capability_sets.keys() {
        if change.request == CapabilityRequest::Read {
            warnings.insert(Warning::ReadsCapabilities(change.program.clone()));
        }
    }
    for (path, program) in &trace.programs {
        if program.unread {
            warnings.insert(Warning::FileUnread(path.clone()));
        }
    }
    Profile {
        version: VERSION,
        complete: trace.complete,
        capabilities,
        devices,
        seccomp,
        runtime_syscalls: trace.runtime_syscalls.clone(),
        paths,
        mounts,
        lsm,
        gains_privileges: trace
            .programs
            .values()
            .any(|program| program.unread || program.set_id || program.file_capabilities.is_some()),
        warnings,
        evidence,
    }
}

/// What a loss means. Another run of the same image that was seen from its start tells of the start as far as
/// both are alike, which nobody knows: it stays a loss.
fn incomplete(loss: &Loss, trace: &Trace) -> String {
    let images = |attached: bool| -> BTreeSet<_> {
        let runs = trace.runs.iter().filter(|run| run.attached.is_some() == attached);
        runs.map(|run| run.engine.as_ref().map(|engine| &engine.image)).collect()
    };
    let watched = images(true);
    if *loss == Loss::StartedBefore
        && !watched.is_empty()
        && !watched.contains(&None)
        && watched.is_subset(&images(false))
    {
        return "a container ran before its recording began: its start is known from another run of its image, \
                and nothing is missing if both start alike"
            .to_owned();
    }
    loss.to_string()
}

fn capabilities(
    trace: &Trace,
    evidence: &mut Evidence,
    warnings: &mut BTreeSet<Warning>,
) -> BTreeSet<Capability> {
    let mut needs = file_capability_needs(trace);
    needs.extend(capability_set_needs(trace));
    let mut left_out: BTreeMap<Capability, BTreeSet<&'static str>> = BTreeMap::new();
    for (check, &count) in &trace.capabilities {
        match judge(check) {
            Verdict::NotCounted => {}
            Verdict::Opportunistic(reason) => {
                left_out.entry(check.capability).or_default().insert(reason);
            }
            Verdict::Needed(alternatives) => needs.push(Need {
                alternatives: alternatives.to_vec(),
                reason: Reason {
                    program: check.program.clone(),
                    syscall: check.syscall.clone(),
                    abi: check.abi,
                    because: if check.decisive && check.syscall.is_none() {
                        "found by taking it away".to_owned()
                    } else {
                        because(&check.call_site)
                    },
                    count,
                },
            }),
        }
    }
    let needed = choose(&needs);
    for need in needs {
        if let Some(chosen) = need.alternatives.iter().find(|capability| needed.contains(capability)) {
            add_reason(evidence.capabilities.entry(*chosen).or_default(), need.reason);
        }
    }
    for (capability, reasons) in left_out {
        if !needed.contains(&capability) {
            warnings.extend(
                reasons
                    .into_iter()
                    .map(|reason| Warning::Opportunistic { capability, reason: reason.to_owned() }),
            );
        }
    }
    needed
}

/// The smallest answer to all needs that can be given one by one: first those without a choice, then
/// for each other need what is there already, else its narrowest alternative.
fn choose(needs: &[Need]) -> BTreeSet<Capability> {
    let mut needed: BTreeSet<Capability> = needs
        .iter()
        .filter(|need| need.alternatives.len() == 1)
        .flat_map(|need| need.alternatives.iter().copied())
        .collect();
    for need in needs {
        if !need.alternatives.iter().any(|capability| needed.contains(capability)) {
            needed.extend(need.alternatives.first());
        }
    }
    needed
}

/// `bprm_caps_from_vfs_caps` (security/commoncap.c): execve of a file with the effective bit fails
/// with EPERM unless the bounding set holds all that the file permits, for root too.
fn file_capability_needs(trace: &Trace) -> Vec<Need> {
    let with_effective = trace.programs.iter().filter_map(|(path, program)| {
        let capabilities = program.file_capabilities.as_ref().filter(|file| file.effective)?;
        Some((path, &capabilities.permitted))
    });
    with_effective
        .flat_map(|(path, permitted)| {
            permitted.iter().map(|&capability| Need {
                alternatives: vec![capability],
                reason: Reason {
                    program: path.clone(),
                    syscall: Some("execve".to_owned()),
                    abi: Abi::X86_64,
                    because: "file capability".to_owned(),
                    count: 1,
                },
            })
        })
        .collect()
}

/// `cap_capset` refuses a permitted set beyond the present one, and `PR_CAP_AMBIENT_RAISE` what is
/// not permitted. A program that read its sets first made the new ones from them: with fewer it asks
/// for fewer.
fn capability_set_needs(trace: &Trace) -> Vec<Need> {
    let mut needs = Vec::new();
    for (change, &count) in &trace.capability_sets {
        let (wanted, syscall): (BTreeSet<Capability>, _) = match &change.request {
            CapabilityRequest::Set { permitted, inheritable, derived: false, .. } => {
                (permitted.union(inheritable).copied().collect(), "capset")
            }
            CapabilityRequest::AmbientRaise(capability) => (BTreeSet::from([*capability]), "prctl"),
            CapabilityRequest::Set { .. } | CapabilityRequest::Read => continue,
        };
        needs.extend(wanted.into_iter().map(|capability| Need {
            alternatives: vec![capability],
            reason: Reason {
                program: change.program.clone(),
                syscall: Some(syscall.to_owned()),
                abi: Abi::X86_64,
                because: "asks to keep it".to_owned(),
                count,
            },
        }));
    }
    needs
}

/// The kernel function that asked, past the helpers that every check goes through.
fn because(call_site: &[String]) -> String {
    const HELPERS: [&str; 10] = [
        "capable",
        "ns_capable",
        "ns_capable_noaudit",
        "ns_capable_setid",
        "capable_wrt_inode_uidgid",
        "has_capability",
        "has_ns_capability",
        "has_capability_noaudit",
        "file_ns_capable",
        "privileged_wrt_inode_uidgid",
    ];
    call_site
        .iter()
        .find(|name| !HELPERS.contains(&name.as_str()))
        .map_or_else(|| "capability check".to_owned(), Clone::clone)
}

pub(super) fn add_reason(reasons: &mut Vec<Reason>, reason: Reason) {
    let same = |other: &&mut Reason| {
        (&other.program, &other.syscall, other.abi, &other.because)
            == (&reason.program, &reason.syscall, reason.abi, &reason.because)
    };
    if let Some(known) = reasons.iter_mut().find(same) {
        known.count = known.count.saturating_add(reason.count);
    } else {
        reasons.push(reason);
        reasons.sort();
    }
}

/// What a security module has to allow besides mounts: all that it refused, and capabilities in user namespaces
/// that the workload makes, of which it makes no difference (`apparmor_capable`).
fn lsm(trace: &Trace, evidence: &mut Evidence) -> BTreeSet<LsmAccess> {
    let mut needs = BTreeSet::new();
    let mut need = |access: LsmAccess, reason| {
        add_reason(evidence.lsm.entry(access.to_string()).or_default(), reason);
        needs.insert(access);
    };
    for (check, &count) in &trace.capabilities {
        let counts = check.granted
            && check.namespace == Namespace::Child
            && matches!(check.credential, Credential::Own | Credential::Access);
        if counts {
            let reason = Reason {
                program: check.program.clone(),
                syscall: check.syscall.clone(),
                abi: check.abi,
                because: "in a user namespace of its own".to_owned(),
                count,
            };
            need(LsmAccess::Capability(check.capability), reason);
        }
    }
    for (refusal, &count) in &trace.refusals {
        if matches!(
            refusal.access,
            LsmAccess::Mount { .. } | LsmAccess::PivotRoot { .. } | LsmAccess::Other(_)
        ) {
            continue;
        }
        let because = "AppArmor refused it".to_owned();
        let program = refusal.program.clone();
        let reason = Reason { program, syscall: None, abi: Abi::X86_64, because, count };
        need(refusal.access.clone(), reason);
    }
    needs
}

fn devices(trace: &Trace, evidence: &mut Evidence) -> BTreeSet<Device> {
    let devices = needed_devices(trace);
    for (access, &count) in &trace.devices {
        let Some(device) = devices.iter().find(|device| device.covers(access)) else { continue };
        let reason = Reason {
            program: access.program.clone(),
            syscall: access.syscall.clone(),
            abi: access.abi,
            because: format!("access {}", access.access),
            count,
        };
        add_reason(evidence.devices.entry(device.rule()).or_default(), reason);
    }
    devices
}

fn syscall_evidence(trace: &Trace, evidence: &mut Evidence) {
    for (&abi, calls) in &trace.syscalls {
        for (name, used) in calls {
            let reasons = evidence.syscalls.entry(name.clone()).or_default();
            // The count is of all programs together.
            reasons.extend(used.programs.iter().map(|program| Reason {
                program: program.clone(),
                syscall: None,
                abi,
                because: "made the call".to_owned(),
                count: used.count,
            }));
            reasons.sort();
        }
    }
}
