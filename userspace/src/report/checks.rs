//! The evidence about one capability: every check in a trace with its verdict.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Style, add, call, inline, line, shown, times, wrap};
use crate::{
    capability::Capability,
    profile::{
        Profile, Reason, Warning,
        rules::{Verdict, judge},
    },
    syscalls::Abi,
    trace::{Argument, CapabilityCheck, Credential, Namespace, Trace},
};

/// Checks that count and differ only in where the kernel made them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Asked<'a> {
    program: &'a str,
    syscall: Option<&'a str>,
    abi: Abi,
    argument: Option<Argument>,
    remark: Option<String>,
}

/// Checks that do not count, of one and the same reason: there are many, from every program.
#[derive(Default)]
struct LeftOut {
    count: u64,
    programs: BTreeSet<String>,
    calls: BTreeSet<String>,
    sites: Sites,
}

/// How often each chain of kernel functions asked.
type Sites = BTreeMap<String, u64>;

/// The checks about one capability.
#[derive(Default)]
struct Checks<'a> {
    counted: BTreeMap<Asked<'a>, Sites>,
    /// By reason.
    left_out: BTreeMap<String, LeftOut>,
}

/// The block about a capability, from a profile, and from the trace that it was derived from if there is one.
/// Where the kernel made checks that do not count is left out of the short form.
pub(super) fn capability(
    out: &mut String,
    capability: Capability,
    (profile, trace): (&Profile, Option<&Trace>),
    short: bool,
    style: Style,
) {
    let needed = profile.capabilities.contains(&capability);
    let checks = trace.map(|trace| checks(capability, profile, trace)).unwrap_or_default();
    let left_out: Vec<&String> = profile
        .warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::Opportunistic { capability: of, reason } if *of == capability => Some(reason),
            _ => None,
        })
        .collect();
    let verdict = if needed {
        "needed"
    } else if !checks.left_out.is_empty() || !left_out.is_empty() {
        "checked, not needed"
    } else if trace.is_some() {
        "never checked"
    } else {
        "not needed"
    };
    line(out, &format!("{}: {verdict}", style.heading(capability.name())));
    let reasons = profile.evidence.capabilities.get(&capability).map_or(&[][..], Vec::as_slice);
    for reason in reasons.iter().filter(|reason| !checks.counted.keys().any(|asked| asked.is(reason))) {
        reason_line(out, reason, style);
    }
    for (asked, sites) in &checks.counted {
        asked.write(out, sites, style);
    }
    for (reason, left_out) in &checks.left_out {
        left_out.write(out, reason, short, style);
    }
    if trace.is_none() {
        for reason in left_out {
            wrap(out, "  ", 4, &format!("checked, but makes no difference: {}", inline(reason)), style);
        }
    }
}

/// Whether a trace or a profile says anything of this capability.
pub(super) fn mentions(capability: Capability, profile: &Profile, trace: Option<&Trace>) -> bool {
    profile.capabilities.contains(&capability)
        || profile.warnings.iter().any(
            |warning| matches!(warning, Warning::Opportunistic { capability: of, .. } if *of == capability),
        )
        || trace.is_some_and(|trace| trace.capabilities.keys().any(|check| check.capability == capability))
}

/// A piece of a profile's evidence.
pub(super) fn reason_line(out: &mut String, reason: &Reason, style: Style) {
    let mut text = shown(&reason.program);
    if let Some(syscall) = &reason.syscall {
        add(&mut text, &format!(": {}", call(syscall, reason.abi)));
    }
    add(&mut text, &format!(", {} ({})", times(reason.count), inline(&reason.because)));
    wrap(out, "  ", 4, &text, style);
}

/// The checks that this capability answers, and those of it that were not counted.
fn checks<'a>(capability: Capability, profile: &Profile, trace: &'a Trace) -> Checks<'a> {
    let mut checks = Checks::default();
    for (check, &count) in &trace.capabilities {
        let verdict = judge(check);
        let answered_by = match &verdict {
            Verdict::Needed(any) => any.iter().find(|one| profile.capabilities.contains(one)).copied(),
            _ => None,
        };
        let chain: Vec<String> = check.call_site.iter().map(|name| inline(name)).collect();
        let chain = if chain.is_empty() { "(unknown)".to_owned() } else { chain.join(" < ") };
        let sites = if answered_by == Some(capability) {
            let asked = Asked {
                program: &check.program,
                syscall: check.syscall.as_deref(),
                abi: check.abi,
                argument: check.argument,
                remark: remark(check, capability, &verdict),
            };
            checks.counted.entry(asked).or_default()
        } else if check.capability == capability {
            let left_out = checks.left_out.entry(why_not(check, &verdict, answered_by)).or_default();
            left_out.count = left_out.count.saturating_add(count);
            left_out.programs.insert(shown(&check.program));
            left_out.calls.insert(during(check.syscall.as_deref(), check.abi, check.argument));
            &mut left_out.sites
        } else {
            continue;
        };
        let seen = sites.entry(chain).or_default();
        *seen = seen.saturating_add(count);
    }
    checks
}

/// The call in progress, with the argument that matters.
fn during(syscall: Option<&str>, abi: Abi, argument: Option<Argument>) -> String {
    let syscall = syscall.map_or_else(|| "outside of a system call".to_owned(), |name| call(name, abi));
    match argument {
        Some(argument) => format!("{syscall} with {}", argument_text(argument)),
        None => syscall,
    }
}

fn write_sites(out: &mut String, sites: &Sites, style: Style) {
    for (chain, &count) in sites {
        wrap(out, "    ", 6, &format!("{} in {chain}", times(count)), style);
    }
}

/// What else would have done, or what the kernel asked for by name.
fn remark(check: &CapabilityCheck, capability: Capability, verdict: &Verdict) -> Option<String> {
    if let Verdict::Needed(any) = verdict
        && any.len() > 1
    {
        let others: Vec<&str> = any.iter().filter(|&&one| one != capability).map(|one| one.name()).collect();
        return Some(format!("{} would do as well", others.join(" or ")));
    }
    (check.capability != capability).then(|| format!("seen as a check of {}", check.capability))
}

fn why_not(check: &CapabilityCheck, verdict: &Verdict, answered_by: Option<Capability>) -> String {
    let reason = match verdict {
        Verdict::Opportunistic(reason) => return format!("makes no difference: {reason}"),
        Verdict::Needed(_) => {
            return answered_by
                .map_or_else(|| "no grant answers it".to_owned(), |by| format!("{by} answers it"));
        }
        Verdict::NotCounted if !check.granted => "it was denied, so the workload did without",
        Verdict::NotCounted if check.credential == Credential::Overridden => {
            "the credentials were a kernel subsystem's, as overlayfs uses the mounter's"
        }
        Verdict::NotCounted => match check.namespace {
            Namespace::Owner => "granted to the owner of the user namespace, which takes no capability",
            Namespace::Child => "in a user namespace that the workload made itself",
            Namespace::Own => "not the workload's own need",
        },
    };
    format!("not counted: {reason}")
}

impl Asked<'_> {
    fn is(&self, reason: &Reason) -> bool {
        self.program == reason.program && self.syscall == reason.syscall.as_deref() && self.abi == reason.abi
    }

    fn write(&self, out: &mut String, sites: &Sites, style: Style) {
        let during = during(self.syscall, self.abi, self.argument);
        wrap(out, "  ", 4, &format!("{}: {during}", shown(self.program)), style);
        if let Some(remark) = &self.remark {
            wrap(out, "    ", 6, remark, style);
        }
        write_sites(out, sites, style);
    }
}

impl LeftOut {
    fn write(&self, out: &mut String, reason: &str, short: bool, style: Style) {
        let list = |items: &BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
        wrap(out, "  ", 4, reason, style);
        let by = format!("{} in {}, by {}", times(self.count), list(&self.calls), list(&self.programs));
        wrap(out, "    ", 6, &by, style);
        if !short {
            for (chain, &count) in &self.sites {
                wrap(out, "      ", 8, &format!("{} in {chain}", times(count)), style);
            }
        }
    }
}

fn argument_text(argument: Argument) -> String {
    match argument {
        Argument::SameId(true) => "the id it had already".to_owned(),
        Argument::SameId(false) => "another id".to_owned(),
        Argument::Mode(mode) => format!("mode {mode:04o}"),
        Argument::Request(request) => format!("request {request:#x}"),
        Argument::Operation(operation) => format!("operation {operation}"),
        Argument::Option(level, option) => format!("level {level}, option {option}"),
        Argument::Flags(flags) => format!("flags {flags:#x}"),
        Argument::Size(size) => format!("{size} bytes"),
    }
}
