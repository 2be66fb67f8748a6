//! The short table: what was granted before, what is needed, and the first reason for each grant.

use std::collections::BTreeSet;

use super::{
    before::{Before, Devices, KernelPaths},
    text::{Style, add, call, clipped, inline, line, number, rows, times, wrap},
};
use crate::{
    profile::{Action, Device, Profile, Reason},
    syscalls::Abi,
    trace::DeviceType,
};

/// Longer paths lose their beginning here; `explain` shows them whole.
const LONGEST_PATH: usize = 40;
/// So do longer needs.
const LONGEST_NEED: usize = 48;
/// Columns of the table: what, before.
const WHAT: usize = 14;
const BEFORE: usize = 22;

/// What a line granted and what the workload needs, the answer in the first line. `after` is what the
/// rewritten line grants: it knows how the engine confines the container.
#[must_use]
pub fn table(profile: &Profile, before: &Before, after: Option<&Before>, style: Style) -> String {
    let mut out = String::new();
    wrap(&mut out, "", 2, &answer(profile, before), style);
    // An escape sequence has no width.
    out = style.heading(out.trim_end()) + "\n";
    if !profile.complete {
        wrap(&mut out, "", 2, "the recording is incomplete: a grant may be missing", style);
    }
    out.push('\n');
    heading(&mut out, style);

    let count = |count: usize| if count == 0 { "none".to_owned() } else { count.to_string() };
    let was = match before.capabilities.len() {
        41.. => format!("all {}", before.capabilities.len()),
        other => count(other),
    };
    entry(&mut out, "capabilities", &was, &count(profile.capabilities.len()), style);
    rows(&mut out, 2, &capabilities(profile), style);

    let was = match before.devices {
        Devices::Every => "every device".to_owned(),
        Devices::Named(named) => count(named),
    };
    entry(&mut out, "devices", &was, &count(profile.devices.len()), style);
    rows(&mut out, 2, &devices(profile), style);

    let was = before.seccomp.as_deref().map_or_else(|| "no filter".to_owned(), |by| clipped(by, BEFORE - 2));
    let calls = SystemCalls::of(profile);
    let needed = format!("{} of {} ({})", calls.allowed, calls.known, calls.abis);
    entry(&mut out, "system calls", &was, &needed, style);

    let paths = &profile.paths;
    if before.kernel_paths.is_some() || !paths.unmask.is_empty() || !paths.write.is_empty() {
        entry(&mut out, "kernel paths", kernel_paths(before), &needed_paths(profile), style);
        let reads = paths.unmask.iter().map(|path| ["read".to_owned(), clipped(path, 72)]);
        let writes = paths.write.iter().map(|path| ["written".to_owned(), clipped(path, 72)]);
        rows(&mut out, 2, &reads.chain(writes).collect::<Vec<_>>(), style);
    }
    security_modules(&mut out, before, after, style);
    if !before.security_modules.is_empty() {
        rows(&mut out, 2, &beyond_default(profile), style);
    }
    out
}

fn answer(profile: &Profile, before: &Before) -> String {
    let granted = before.capabilities.len().max(profile.capabilities.len());
    let needed = match profile.capabilities.len() {
        0 => "none".to_owned(),
        needed => needed.to_string(),
    };
    let calls = SystemCalls::of(profile);
    format!(
        "needs {needed} of {}, {}, {} of {} system calls",
        number(granted, "capability", "capabilities"),
        number(profile.devices.len(), "device", "devices"),
        calls.allowed,
        calls.known
    )
}

fn heading(out: &mut String, style: Style) {
    let before = "before";
    out.push_str(&style.heading(&format!("{:WHAT$}{before:BEFORE$}needed", "")));
    out.push('\n');
}

fn entry(out: &mut String, what: &str, before: &str, needed: &str, style: Style) {
    let start = style.heading(what) + &" ".repeat(WHAT.saturating_sub(what.len()));
    let gap = BEFORE.saturating_sub(before.chars().count()).max(2);
    line(out, &format!("{start}{before}{}{needed}", " ".repeat(gap)));
}

fn capabilities(profile: &Profile) -> Vec<[String; 2]> {
    let reasons = |capability| profile.evidence.capabilities.get(capability);
    profile
        .capabilities
        .iter()
        .map(|capability| [capability.name().to_owned(), first(reasons(capability), true)])
        .collect()
}

fn devices(profile: &Profile) -> Vec<[String; 4]> {
    profile
        .devices
        .iter()
        .map(|device| {
            let rule = device.rule();
            let reason = first(profile.evidence.devices.get(&rule), false);
            [node(device), rule, device.access.to_string(), reason]
        })
        .collect()
}

/// What a device is called.
pub(super) fn node(device: &Device) -> String {
    match (&device.path, device.kind, device.major, device.minor) {
        (Some(path), ..) => clipped(path, LONGEST_PATH),
        (None, DeviceType::Block, 7, None) => "/dev/loop*".to_owned(),
        (None, _, major, None) => format!("all of major {major}"),
        (None, ..) => "(no node)".to_owned(),
    }
}

/// The first reason, and how many others there are. Behind a capability stands a kernel function that may
/// check more than once in a call.
fn first(reasons: Option<&Vec<Reason>>, is_check: bool) -> String {
    let Some((first, others)) = reasons.and_then(|reasons| reasons.split_first()) else {
        return "no evidence".to_owned();
    };
    let mut text = clipped(&first.program, LONGEST_PATH);
    if let Some(syscall) = &first.syscall {
        add(&mut text, &format!(": {}", call(syscall, first.abi)));
    }
    if is_check && first.because != "capability check" {
        add(&mut text, &format!(" ({})", inline(&first.because)));
    }
    let checks = || number(usize::try_from(first.count).unwrap_or(usize::MAX), "check", "checks");
    add(&mut text, &format!(", {}", if is_check { checks() } else { times(first.count) }));
    if !others.is_empty() {
        add(&mut text, &format!("; {} more", others.len()));
    }
    text
}

/// How many calls the profile allows, of how many there are.
struct SystemCalls {
    allowed: usize,
    known: usize,
    abis: String,
}

impl SystemCalls {
    fn of(profile: &Profile) -> Self {
        let abis: BTreeSet<Abi> = profile
            .seccomp
            .architectures
            .iter()
            .filter_map(|name| Abi::from_oci_architecture(name))
            .collect();
        let known: BTreeSet<&str> =
            abis.iter().flat_map(|abi| abi.syscalls().map(|(_, name)| name)).collect();
        let allowed: BTreeSet<&String> = profile
            .seccomp
            .syscalls
            .iter()
            .filter(|rule| rule.action == Action::Allow)
            .flat_map(|rule| &rule.names)
            .collect();
        let abis: Vec<String> = abis.iter().map(ToString::to_string).collect();
        Self { allowed: allowed.len(), known: known.len(), abis: abis.join(", ") }
    }
}

fn kernel_paths(before: &Before) -> &'static str {
    match before.kernel_paths {
        None => "the host's",
        Some(KernelPaths::Writable) => "unmasked, writable",
        Some(KernelPaths::Unmasked) => "unmasked",
        Some(KernelPaths::Partly) => "partly unmasked",
        Some(KernelPaths::Masked) => "masked, read-only",
    }
}

fn needed_paths(profile: &Profile) -> String {
    let (reads, writes) = (profile.paths.unmask.len(), profile.paths.write.len());
    match (reads, writes) {
        (0, 0) => "masked, read-only".to_owned(),
        (reads, 0) => format!("{reads} unmasked"),
        (0, writes) => format!("{writes} writable"),
        (reads, writes) => format!("{reads} unmasked, {writes} writable"),
    }
}

/// What a security module has to allow beyond what an engine's own profile does.
fn beyond_default(profile: &Profile) -> Vec<[String; 2]> {
    let (mounts, lsm) = (&profile.evidence.mounts, &profile.evidence.lsm);
    mounts
        .iter()
        .chain(lsm)
        .map(|(what, why)| [clipped(what, LONGEST_NEED), first(Some(why), false)])
        .collect()
}

/// What the rewritten line keeps on; without one, only that nothing confined it before.
fn security_modules(out: &mut String, before: &Before, after: Option<&Before>, style: Style) {
    let shown = |by: &Option<String>| by.as_deref().map_or_else(|| "off".to_owned(), |by| clipped(by, 40));
    for (module, was) in &before.security_modules {
        let now = after.and_then(|after| after.security_modules.iter().find(|(name, _)| name == module));
        let now = now.map_or_else(|| "not looked at".to_owned(), |(_, by)| shown(by));
        entry(out, module, &clipped(&shown(was), BEFORE - 2), &now, style);
    }
}
