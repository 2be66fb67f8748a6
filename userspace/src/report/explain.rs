//! Whether a grant is needed, and every piece of evidence for it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    checks,
    grant::{Grant, UnknownGrant, parse, similar},
    table::node,
    text::{Style, call, inline, line, rows, shown, times, wrap},
};
use crate::{
    capability::Capability,
    document::Document,
    errno,
    profile::{Action, Device, Profile, Reason, derive, is_base, literal},
    syscalls::Abi,
    trace::{DeviceAccess, DeviceType, Trace},
};

/// Explains one grant, or everything. A grant is a capability in any spelling, a device by path or numbers,
/// or a system call; a name that is two of them is explained as both.
///
/// # Errors
///
/// When the grant is none of these.
pub fn explain(document: &Document, grant: Option<&str>, style: Style) -> Result<String, UnknownGrant> {
    let view = match document {
        Document::Trace(trace) => View { trace: Some(trace), profile: Cow::Owned(derive(trace)), style },
        Document::Profile(profile) => View { trace: None, profile: Cow::Borrowed(profile), style },
    };
    let mut out = String::new();
    if !view.profile.complete {
        out.push_str("the recording is incomplete: what is not here may still be needed\n\n");
    }
    let Some(grant) = grant else {
        view.everything(&mut out);
        return Ok(out);
    };
    for (index, grant) in parse(grant)?.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        match grant {
            Grant::Capability(capability) => view.capability(&mut out, *capability),
            Grant::Syscall(name) => view.syscall(&mut out, name),
            Grant::Path(path) => view.path(&mut out, path),
            Grant::Numbers { kind, major, minor } => {
                let name = kind.map_or_else(String::new, |kind| format!("{} ", kind.letter()));
                let minor_name = minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
                view.device(&mut out, &format!("{name}{major}:{minor_name}"), |of, number, one| {
                    kind.is_none_or(|kind| kind == of)
                        && number == *major
                        && (minor.is_none() || one.is_none() || *minor == one)
                });
            }
        }
    }
    Ok(out)
}

/// What there is to explain from.
struct View<'a> {
    trace: Option<&'a Trace>,
    profile: Cow<'a, Profile>,
    style: Style,
}

impl View<'_> {
    fn everything(&self, out: &mut String) {
        let (needed, checked): (Vec<Capability>, Vec<Capability>) = Capability::all()
            .filter(|&capability| checks::mentions(capability, &self.profile, self.trace))
            .partition(|capability| self.profile.capabilities.contains(capability));
        for capability in needed.into_iter().chain(checked) {
            checks::capability(out, capability, (&self.profile, self.trace), true, self.style);
            out.push('\n');
        }
        for device in &self.profile.devices {
            self.needed_device(out, device);
            out.push('\n');
        }
        self.beyond_default(out);
        let calls = self.calls();
        line(out, &format!("{}: {} made", self.style.heading("system calls"), calls.len()));
        rows(out, 2, &calls, self.style);
    }

    /// What a Linux security module has to allow, where an engine applies one.
    fn beyond_default(&self, out: &mut String) {
        let evidence = &self.profile.evidence;
        for (what, reasons) in evidence.mounts.iter().chain(&evidence.lsm) {
            self.allowed(out, what, reasons);
            out.push('\n');
        }
    }

    fn allowed(&self, out: &mut String, what: &str, reasons: &[Reason]) {
        wrap(out, "", 2, &format!("{}: to be allowed by a security module", inline(what)), self.style);
        for reason in reasons {
            let syscall = reason.syscall.as_deref();
            let syscall = syscall.map_or_else(String::new, |name| format!(": {}", call(name, reason.abi)));
            let text = format!("{}{syscall}, {}", shown(&reason.program), inline(&reason.because));
            wrap(out, "  ", 4, &format!("{text}, {}", times(reason.count)), self.style);
        }
    }

    /// Name, count and programs of every call that was made.
    fn calls(&self) -> Vec<[String; 3]> {
        let evidence = &self.profile.evidence.syscalls;
        let all: BTreeSet<&String> = evidence.values().flatten().map(|reason| &reason.program).collect();
        let mut calls = Vec::new();
        for (name, reasons) in evidence {
            for (abi, (count, programs)) in by_abi(reasons) {
                let every = programs.len() == all.len() && all.len() > 1;
                let programs = if every { "every program".to_owned() } else { programs.join(", ") };
                calls.push([call(name, abi), times(count), programs]);
            }
        }
        calls
    }

    fn capability(&self, out: &mut String, capability: Capability) {
        checks::capability(out, capability, (&self.profile, self.trace), false, self.style);
        if !self.profile.capabilities.contains(&capability) {
            let names: Vec<&str> = self.profile.capabilities.iter().map(|one| one.name()).collect();
            self.instead(out, "capabilities", &names);
        }
    }

    fn instead(&self, out: &mut String, what: &str, names: &[&str]) {
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        wrap(out, &format!("{what} that are needed: "), 2, &names, self.style);
    }

    fn path(&self, out: &mut String, path: &str) {
        let nodes = self.trace.map(|trace| &trace.device_nodes);
        // A trace knows the nodes of all devices that were used, also of those that need no grant.
        let rule = nodes.and_then(|nodes| nodes.iter().find(|(_, node)| *node == path)).map(|(rule, _)| rule);
        let granted =
            self.profile.devices.iter().find(|one| one.path.as_deref() == Some(path)).map(Device::rule);
        let rule = granted.as_ref().or(rule);
        let same = |kind: DeviceType, major, minor: Option<u32>| {
            let letter = kind.letter();
            let family = format!("{letter} {major}:");
            rule.is_some_and(|rule| match minor {
                Some(minor) => *rule == format!("{family}{minor}"),
                None => rule.starts_with(&family),
            })
        };
        let mounts = self.mounts(out, path);
        if !mounts || rule.is_some() {
            self.device(out, &shown(path), same);
        }
    }

    /// The mounts of or at a path; whether there are any.
    fn mounts(&self, out: &mut String, path: &str) -> bool {
        let glob = Some(literal(path));
        let all = self.profile.mounts.iter().flatten();
        let of_path = all.filter(|mount| mount.source == glob || mount.target == glob);
        let names: BTreeSet<String> = of_path.map(ToString::to_string).collect();
        let evidence = &self.profile.evidence.mounts;
        for (name, why) in names.iter().filter_map(|name| Some((name, evidence.get(name)?))) {
            self.allowed(out, name, why);
        }
        !names.is_empty()
    }

    /// The blocks about the devices that were asked for, by kind, major and minor (`None`: all of them).
    fn device(&self, out: &mut String, name: &str, is: impl Fn(DeviceType, u32, Option<u32>) -> bool) {
        let granted: Vec<&Device> =
            self.profile.devices.iter().filter(|one| is(one.kind, one.major, one.minor)).collect();
        for device in &granted {
            self.needed_device(out, device);
        }
        let mut free = BTreeMap::<_, Vec<(&DeviceAccess, u64)>>::new();
        for (access, &count) in self.trace.iter().flat_map(|trace| &trace.devices) {
            if is(access.kind, access.major, Some(access.minor))
                && !granted.iter().any(|one| one.covers(access))
            {
                let numbers = (access.kind, access.major, access.minor);
                free.entry(numbers).or_default().push((access, count));
            }
        }
        for (&(kind, major, minor), accesses) in &free {
            let why = if is_base(kind, major, minor) {
                "every container may use it"
            } else {
                "creating a node is free under every runtime"
            };
            let rule = format!("{} {major}:{minor}", kind.letter());
            line(out, &format!("{}: used, needs no grant: {why}", self.style.heading(&rule)));
            for (access, count) in accesses {
                self.access(
                    out,
                    &access.program,
                    access.syscall.as_deref(),
                    access.abi,
                    &access.access.to_string(),
                    *count,
                );
            }
        }
        if granted.is_empty() && free.is_empty() {
            line(out, &format!("{}: not used", self.style.heading(name)));
            let names: Vec<String> =
                self.profile.devices.iter().map(|one| format!("{} ({})", node(one), one.rule())).collect();
            self.instead(out, "devices", &names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    fn needed_device(&self, out: &mut String, device: &Device) {
        let rule = device.rule();
        let name = device.path.as_deref().map_or_else(|| node(device), shown);
        wrap(out, "", 2, &format!("{name} ({rule} {}): needed", device.access), self.style);
        for reason in self.profile.evidence.devices.get(&rule).into_iter().flatten() {
            self.access(
                out,
                &reason.program,
                reason.syscall.as_deref(),
                reason.abi,
                &reason.because,
                reason.count,
            );
        }
    }

    fn access(
        &self,
        out: &mut String,
        program: &str,
        syscall: Option<&str>,
        abi: Abi,
        access: &str,
        count: u64,
    ) {
        let syscall = syscall.map_or_else(String::new, |name| format!(": {}", call(name, abi)));
        let access = access.strip_prefix("access ").unwrap_or(access);
        let text = format!("{}{syscall} for {}, {}", shown(program), inline(access), times(count));
        wrap(out, "  ", 4, &text, self.style);
    }

    fn syscall(&self, out: &mut String, name: &str) {
        let reasons = self.profile.evidence.syscalls.get(name).map_or(&[][..], Vec::as_slice);
        let by_abi = by_abi(reasons);
        let heading = self.style.heading(&inline(name));
        if by_abi.is_empty() {
            line(out, &format!("{heading}: not called, {}", self.uncalled(name)));
            let seen: Vec<String> = self.profile.evidence.syscalls.keys().cloned().collect();
            let alike: Vec<String> = similar(name, &seen).iter().map(|name| inline(name)).collect();
            if !alike.is_empty() {
                wrap(out, "similar calls that were made: ", 2, &alike.join(", "), self.style);
            }
        }
        for (abi, (count, programs)) in &by_abi {
            line(out, &format!("{}: needed", self.style.heading(&call(name, *abi))));
            wrap(out, "  ", 4, &format!("{} by {}", times(*count), programs.join(", ")), self.style);
        }
        for (failure, &count) in self.trace.and_then(|trace| trace.failures.as_ref()).into_iter().flatten() {
            if failure.syscall == name {
                let text =
                    format!("{} got {}, {}", shown(&failure.program), inline(&failure.errno), times(count));
                wrap(out, "  ", 4, &text, self.style);
            }
        }
        if self.trace.is_some_and(|trace| trace.runtime_syscalls.contains(name)) {
            out.push_str("  the OCI runtime called it before the workload began\n");
        }
    }

    /// What the profile does with a call that was not seen.
    fn uncalled(&self, name: &str) -> String {
        let seccomp = &self.profile.seccomp;
        let rule = seccomp.syscalls.iter().find(|rule| rule.names.iter().any(|one| one == name));
        let errno = match rule {
            Some(rule) if rule.action == Action::Allow => {
                return "but allowed: programs need it to start or to end".to_owned();
            }
            Some(rule) => rule.errno_ret,
            None => seccomp.default_errno_ret,
        };
        format!("so it fails with {}", errno::name(errno.unwrap_or(1)))
    }
}

/// How often a call was made and by what; the count of a reason is of all programs together.
fn by_abi(reasons: &[Reason]) -> BTreeMap<Abi, (u64, Vec<String>)> {
    let mut by_abi: BTreeMap<Abi, (u64, Vec<String>)> = BTreeMap::new();
    for reason in reasons {
        let (count, programs) = by_abi.entry(reason.abi).or_default();
        *count = (*count).max(reason.count);
        programs.push(shown(&reason.program));
    }
    by_abi
}
