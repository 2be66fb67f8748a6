//! An `AppArmor` profile: what docker-default allows, with fewer capabilities, opened for what was recorded.

use std::{collections::BTreeSet, fmt::Write as _};

use super::apparmor_globs::{Opening, all_but};
use crate::{
    capability::Capability,
    profile::{Action, LsmAccess, Mount, MountOperation, Profile, literal},
    trace::is_below,
};

/// Longest part of a profile's name that comes from the workload's.
const LONGEST_LABEL: usize = 40;
/// Stands for the name in the rules that it is made from. No glob of a workload's holds a brace.
const OWN_NAME: &str = "{self}";
/// What docker-default neither lets read nor write.
const UNREADABLE: [&str; 5] = [
    "/proc/kcore",
    "/proc/sysrq-trigger",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];
/// Calls for which docker-default has no rule but a denial (moby/profiles `apparmor/template.go`).
const MOUNTING: [&str; 3] = ["mount", "move_mount", "pivot_root"];

/// Signals by the names that rules and records have for them (`security/apparmor/include/sig_names.h`).
const SIGNALS: [&str; 34] = [
    "hup", "int", "quit", "ill", "trap", "abrt", "bus", "fpe", "kill", "usr1", "segv", "usr2", "pipe",
    "alrm", "term", "stkflt", "chld", "cont", "stop", "stp", "ttin", "ttou", "urg", "xcpu", "xfsz", "vtalrm",
    "prof", "winch", "io", "pwr", "sys", "emt", "lost", "exists",
];

/// A profile by the name that it is loaded as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppArmorProfile {
    /// `unpriv-IMAGE-HASH`: the same text has the same name, another text another.
    pub name: String,
    /// Its rules, without the name.
    rules: Vec<Rule>,
}

/// What a profile is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// To stay: the kernel keeps quiet of what docker-default denies as well.
    Kept,
    /// For a trial: the kernel tells of whatever the profile denies.
    Trial,
    /// For a trial that learns: what no rule allows is told of and let through. Denials by a rule stay denials.
    Watched,
}

/// One rule; what it denies is told of in the kernel's log or not.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Allow(String),
    Deny(String),
}

impl AppArmorProfile {
    /// For a workload of that name, such as its image, which is given these capabilities.
    #[must_use]
    pub fn new(profile: &Profile, capabilities: &BTreeSet<Capability>, label: &str) -> Self {
        let rules = rules(profile, capabilities);
        let unnamed = Self { name: String::new(), rules };
        let label: String = label
            .chars()
            .map(|one| if one.is_ascii_alphanumeric() || "._-".contains(one) { one } else { '-' })
            .take(LONGEST_LABEL)
            .collect();
        let hash = fingerprint(&unnamed.text(Loading::Kept));
        let name = format!("unpriv-{}-{hash:016x}", label.trim_matches(|one: char| !one.is_alphanumeric()));
        Self { name, ..unnamed }
    }

    /// The text for `apparmor_parser`.
    #[must_use]
    pub fn text(&self, loading: Loading) -> Vec<u8> {
        let audit = if loading == Loading::Kept { "" } else { "audit " };
        let mode = if loading == Loading::Watched { ",complain" } else { "" };
        let mut text =
            "# Written by unpriv: what docker-default allows, with no more capabilities than are needed,\n\
             # opened for what was recorded. Load it with: apparmor_parser -r FILE\n\
             abi <abi/3.0>,\n\n"
                .to_owned();
        // Writing to a String cannot fail.
        let flags = format!("attach_disconnected,mediate_deleted{mode}");
        let _ = writeln!(text, "profile \"{}\" flags=({flags}) {{", self.name);
        for rule in &self.rules {
            let _ = match rule {
                Rule::Allow(rule) => writeln!(text, "  {},", rule.replace(OWN_NAME, &self.name)),
                Rule::Deny(rule) => writeln!(text, "  {audit}deny {rule},"),
            };
        }
        text.push_str("}\n");
        text.into_bytes()
    }
}

/// FNV-1a, twice as wide as it takes to tell a machine's bundles apart.
fn fingerprint(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn rules(profile: &Profile, capabilities: &BTreeSet<Capability>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut allow = |rule: &str| rules.push(Rule::Allow(rule.to_owned()));
    ["network", "unix", "file", "umount"].into_iter().for_each(&mut allow);
    let more = profile.lsm.iter().filter_map(|access| match access {
        LsmAccess::Capability(capability) => Some(*capability),
        _ => None,
    });
    let capabilities: BTreeSet<Capability> = capabilities.iter().copied().chain(more).collect();
    for capability in capabilities {
        allow(&format!("capability {}", capability.short_name().to_ascii_lowercase()));
    }
    if let Some(mounts) = &profile.mounts {
        for mount in mounts {
            allow(&mount_rule(mount));
        }
    } else if let Some(call) = unrecorded_mounts(profile) {
        allow(if call == "pivot_root" { "pivot_root" } else { "mount" });
    }
    profile.lsm.iter().filter_map(lsm_rule).for_each(|rule| allow(&rule));
    // The host, and the runtimes that some distributions confine, may end the container; within it all may
    // signal and trace each other, and whoever may trace it from outside is a matter of the other's profile.
    allow("signal (receive) peer=unconfined");
    allow("signal (receive) peer=\"{,/usr/bin/,/usr/sbin/}{runc,crun,docker*,podman}\"");
    allow("signal (send, receive) set=(\"exists\")");
    allow(&format!("signal (send, receive) peer=\"{OWN_NAME}\""));
    allow("ptrace (readby, tracedby)");
    allow(&format!("ptrace (trace, read) peer=\"{OWN_NAME}\""));
    if !profile
        .lsm
        .iter()
        .any(|access| matches!(access, LsmAccess::Network { family, .. } if family == "alg"))
    {
        rules.push(Rule::Deny("network alg".to_owned()));
    }
    rules.extend(kernel_paths(profile).into_iter().map(Rule::Deny));
    rules
}

fn mount_rule(mount: &Mount) -> String {
    let path = |text: &str| format!("\"{}\"", directory(&guarded(text)));
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    let mut rule = if mount.operation == MountOperation::PivotRoot {
        let old = source.map_or_else(String::new, |old| format!(" oldroot={}", path(old)));
        let new = mount.target.as_deref().map_or_else(String::new, |new| format!(" {}", path(new)));
        return format!("pivot_root{old}{new}");
    } else {
        "mount".to_owned()
    };
    if let Some(fstype) = mount.fstype.as_ref().filter(|fstype| !fstype.is_empty()) {
        let _ = write!(rule, " fstype=\"{}\"", guarded(fstype));
    }
    if let Some(options) = &mount.options {
        let plain = |word: &&String| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let words: Vec<&str> = options.iter().filter(plain).map(String::as_str).collect();
        let _ = write!(rule, " options=({})", words.join(", "));
    }
    if let Some(source) = source {
        let source = if source.starts_with('/') { path(source) } else { format!("\"{}\"", guarded(source)) };
        let _ = write!(rule, " {source}");
    }
    if let Some(target) = &mount.target {
        let _ = write!(rule, " -> {}", path(target));
    }
    rule
}

/// A path as the kernel has it: a directory's ends with a slash (`aa_path_name`).
fn directory(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/".to_owned() } else { format!("{path}{{,/}}") }
}

/// A glob of the profile's, with only what [`literal`] leaves and the wildcards that it may have: the profile
/// may come from elsewhere.
fn guarded(glob: &str) -> String {
    glob.split('*').map(literal).collect::<Vec<_>>().join("*")
}

fn lsm_rule(access: &LsmAccess) -> Option<String> {
    let among = |word: &str, words: &[&str]| words.contains(&word).then(|| word.to_owned());
    let peer = |name: &str| (!name.is_empty()).then(|| format!("peer=\"{}\"", literal(name)));
    Some(match access {
        LsmAccess::Ptrace { mask, peer: name } => {
            format!("ptrace ({}) {}", among(mask, &["trace", "read", "tracedby", "readby"])?, peer(name)?)
        }
        LsmAccess::Signal { mask, signal, peer: name } => {
            let set = among(signal, &SIGNALS).map_or_else(String::new, |signal| format!(" set=({signal})"));
            format!("signal ({}){set} {}", among(mask, &["send", "receive"])?, peer(name)?)
        }
        LsmAccess::ChangeProfile(name) if !name.is_empty() => {
            format!("change_profile -> \"{}\"", literal(name))
        }
        // Sockets are allowed but for those of the kernel's cryptography, files but for those of the kernel.
        _ => return None,
    })
}

/// Denials of files below /proc and /sys, around those that are needed: a denial outweighs any permission.
fn kernel_paths(profile: &Profile) -> Vec<String> {
    let mut needed: BTreeSet<String> = profile.paths.write.union(&profile.paths.mounted).cloned().collect();
    needed.extend(profile.lsm.iter().filter_map(|access| match access {
        LsmAccess::File { path, .. } => Some(path.trim_end_matches('/').to_owned()),
        _ => None,
    }));
    // The kernel mounts tracefs by itself at its former place as well (`trace_automount`).
    let former = |path: &String| {
        path.strip_prefix("/sys/kernel/tracing/").map(|rest| format!("/sys/kernel/debug/tracing/{rest}"))
    };
    let former: Vec<String> = needed.iter().filter_map(former).collect();
    needed.extend(former);
    let written: Vec<Opening> = needed.iter().map(|path| Opening::path(path)).collect();
    let read: Vec<Opening> = needed.union(&profile.paths.unmask).map(|path| Opening::path(path)).collect();

    let processes = ('1'..='9').map(|digit| Opening::beginning(&format!("/proc/{digit}")));
    let proc = processes.chain([Opening::beginning("/proc/sys/kernel/shm")]).chain(written.iter().cloned());
    let sys = [Opening::beginning("/sys/fs/cgroup")].into_iter().chain(written.iter().cloned());
    let mut denials: Vec<String> = Vec::new();
    denials.extend(all_but("/proc/", &proc.collect::<Vec<_>>()).into_iter().map(|glob| glob + " w"));
    denials.extend(all_but("/sys/", &sys.collect::<Vec<_>>()).into_iter().map(|glob| glob + " wklx"));
    for path in UNREADABLE {
        if path.starts_with("/sys/") {
            denials.extend(all_but(&format!("{path}/"), &read).into_iter().map(|glob| glob + " rwklx"));
        } else if !needed.contains(path) && !profile.paths.unmask.contains(path) {
            denials.push(format!("{path} rwklx"));
        }
    }
    denials
}

/// Why docker-default and podman's profile would stand in the way, if they would.
#[must_use]
pub fn default_denies(profile: &Profile) -> Option<String> {
    if let Some(mount) = profile.mounts.as_ref().and_then(|mounts| mounts.first()) {
        return Some(mount.to_string());
    }
    if let Some(call) = unrecorded_mounts(profile).filter(|_| profile.mounts.is_none()) {
        return Some(format!("the call {call}"));
    }
    let written = profile.paths.write.iter().chain(&profile.paths.mounted);
    if let Some(path) = written.into_iter().find(|path| default_denies_writing(path)) {
        return Some(format!("writing {path}"));
    }
    let unreadable = |path: &&String| UNREADABLE.iter().any(|denied| is_below(path, denied));
    if let Some(path) = profile.paths.unmask.iter().find(unreadable) {
        return Some(format!("reading {path}"));
    }
    let other = profile.lsm.iter().find(|access| !matches!(access, LsmAccess::Capability(_)));
    other.map(ToString::to_string)
}

/// Of a profile made from a recording without mounts: whether it may mount at all.
fn unrecorded_mounts(profile: &Profile) -> Option<&'static str> {
    let rules = profile.seccomp.syscalls.iter().filter(|rule| rule.action == Action::Allow);
    let allowed: BTreeSet<&str> = rules.flat_map(|rule| rule.names.iter().map(String::as_str)).collect();
    let may = profile.capabilities.contains(&Capability::SYS_ADMIN);
    MOUNTING.into_iter().find(|call| may && allowed.contains(call))
}

/// The globs of the template, as they are: not all that they seem to mean.
fn default_denies_writing(path: &str) -> bool {
    let not = |byte: Option<&u8>, set: &[u8]| byte.is_some_and(|byte| !set.contains(byte));
    if let Some(rest) = path.strip_prefix("/proc/") {
        let (first, below) = rest.split_once('/').map_or((rest, None), |(first, below)| (first, Some(below)));
        let Some(below) = below else { return true };
        let name = first.as_bytes();
        let digits = b"123456789";
        let all_digits = b"0123456789";
        let other = match name.len() {
            1 => not(name.first(), digits),
            2 => not(name.first(), digits) && not(name.get(1), all_digits),
            3 => {
                not(name.first(), b"123456789s")
                    && not(name.get(1), b"0123456789y")
                    && not(name.get(2), b"0123456789s")
            }
            _ => not(name.first(), digits) && (1..4).all(|index| not(name.get(index), all_digits)),
        };
        let Some(name) = below.strip_prefix("kernel/").filter(|_| first == "sys") else {
            return other || first == "sys" && !below.starts_with('k');
        };
        let bytes = name.as_bytes();
        return bytes.len() < 3
            || not(bytes.first(), b"s") && not(bytes.get(1), b"h") && not(bytes.get(2), b"m");
    }
    path.strip_prefix("/sys/").is_some_and(|rest| {
        let begins = |start: &str| rest.starts_with(start) && rest.len() > start.len();
        let parts = rest.split('/').count();
        !begins("f") && parts > 1
            || begins("f") && !begins("fs") && parts > 1
            || begins("fs/") && !begins("fs/cg") && parts > 2
            || begins("fs/cg") && !rest.starts_with("fs/cgr") && parts > 2
    })
}

#[cfg(test)]
#[path = "apparmor_tests.rs"]
mod tests;
