//! What a workload mounts, as far as a Linux security module has to allow it.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{Evidence, Reason, derive::add_reason};
use crate::{
    shell::one_line,
    syscalls::Abi,
    trace::{
        LsmAccess, MS_BIND, MS_MOVE, MS_PROPAGATION, MS_REC, MS_REMOUNT, MS_SILENT, MountCall, Trace,
        mount_flag_words, mount_flags, names_apart,
    },
};

/// A need to mount something or to move mounts about. The strings are globs: `?` stands for a character that a
/// glob gives a meaning, `*` for a name that is another one in each run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What is done.
    pub operation: MountOperation,
    /// Type of a new file system.
    pub fstype: Option<String>,
    /// What is mounted or moved, or where the old root goes; `None` is not known, or nothing.
    pub source: Option<String>,
    /// Where; `None` is not known.
    pub target: Option<String>,
    /// Exactly these, in the words of `AppArmor`; `None` is any.
    pub options: Option<BTreeSet<String>>,
}

/// What is done, as `apparmor_sb_mount` (security/apparmor/lsm.c) tells the kinds of mount(2) apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountOperation {
    /// A new mount of a file system.
    New,
    /// A bind mount.
    Bind,
    /// Other options of a mount.
    Remount,
    /// Another propagation of a mount.
    Propagation,
    /// A mount moved, or one that fsmount made put into its place.
    Move,
    /// Another root.
    PivotRoot,
}

/// One need, and what it came from.
struct Need {
    mount: Mount,
    renamed: bool,
    /// The run that told it: 0 is the recorded one.
    run: u32,
    reason: Reason,
}

/// What has to be allowed; `None` where mounts were not recorded.
pub(super) fn needed_mounts(trace: &Trace, evidence: &mut Evidence) -> Option<BTreeSet<Mount>> {
    let calls = trace.mounts.as_ref()?;
    let recorded = calls.iter().filter(|(call, _)| is_judged(call)).filter_map(|(call, &count)| {
        let mut mount = of_call(call)?;
        let loops =
            |source: &str| source.strip_prefix("/dev/loop").is_some_and(|end| end.parse::<u32>().is_ok());
        if trace.picks_loop_devices && mount.source.as_deref().is_some_and(loops) {
            mount.source = Some("/dev/loop*".to_owned());
        }
        let syscall = Some(call.syscall.clone());
        let because =
            call.errno.as_ref().map_or_else(|| "mounted".to_owned(), |errno| format!("got {errno}"));
        let reason = Reason { program: call.program.clone(), syscall, abi: call.abi, because, count };
        Some(Need { mount, renamed: false, run: 0, reason })
    });
    let refused = trace.refusals.iter().filter_map(|(refusal, &count)| {
        let mount = of_refusal(&refusal.access)?;
        let because = "AppArmor refused it".to_owned();
        let program = refusal.program.clone();
        let reason = Reason { program, syscall: None, abi: Abi::X86_64, because, count };
        Some(Need { mount, renamed: refusal.renamed, run: refusal.run, reason })
    });
    let mut needs: Vec<Need> = recorded.chain(refused).collect();
    widen(&mut needs);
    let mut mounts = BTreeSet::new();
    for Need { mount, reason, .. } in needs {
        add_reason(evidence.mounts.entry(mount.to_string()).or_default(), reason);
        mounts.insert(mount);
    }
    Some(mounts)
}

/// Whether a security module was asked, and is to give the same answer. A call that failed for its paths did not
/// come that far; one that it refused shall be refused again; one that failed for want of a capability came by
/// it before (`path_mount`, fs/namespace.c).
fn is_judged(call: &MountCall) -> bool {
    const BEFORE: [&str; 7] = ["EACCES", "ENOSYS", "ENOENT", "EFAULT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"];
    !call.errno.as_deref().is_some_and(|errno| BEFORE.contains(&errno))
}

fn of_call(call: &MountCall) -> Option<Mount> {
    let (source, target) = (call.source.as_deref(), call.target.as_deref());
    if [source, target].into_iter().flatten().any(is_magic_link) {
        return None;
    }
    match call.syscall.as_str() {
        "mount" => Some(of_flags(mount_flags(call.flags), call.fstype.as_deref(), source, target)),
        "move_mount" => Some(of_flags(MS_MOVE, None, source, target)),
        // Without the place it would be every one; where it is missing, a refusal tells it.
        "pivot_root" if !call.partial => Some(pivot_root(source, target)),
        // No hook sees the others; umount is free.
        _ => None,
    }
}

/// Whether a path goes through a process's link to something that is elsewhere (`proc_pid_link_inode_operations`,
/// fs/proc/base.c). No rule sees such a path; a refusal tells the one that is meant.
fn is_magic_link(path: &str) -> bool {
    let is_process = |name: &str| matches!(name, "self" | "thread-self") || name.parse::<u32>().is_ok();
    let names = names(path);
    let ["", "proc", process, rest @ ..] = &names[..] else { return false };
    let rest = if let ["task", _, rest @ ..] = rest { rest } else { rest };
    is_process(process) && matches!(rest, ["cwd" | "exe" | "root", ..] | ["fd" | "map_files" | "ns", _, ..])
}

fn of_refusal(access: &LsmAccess) -> Option<Mount> {
    match access {
        LsmAccess::Mount { fstype, source, target, flags } => {
            Some(of_flags(*flags, fstype.as_deref(), source.as_deref(), Some(target)))
        }
        LsmAccess::PivotRoot { source, target } => Some(pivot_root(source.as_deref(), Some(target))),
        _ => None,
    }
}

fn pivot_root(source: Option<&str>, target: Option<&str>) -> Mount {
    let (source, target) = (source.map(literal), target.map(literal));
    Mount { operation: MountOperation::PivotRoot, fstype: None, source, target, options: None }
}

fn of_flags(flags: u64, fstype: Option<&str>, source: Option<&str>, target: Option<&str>) -> Mount {
    let target = target.map(literal);
    let source = source.map(literal);
    let one = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    let recursive = flags & MS_REC != 0;
    let mount = |operation, source, options| Mount { operation, fstype: None, source, target, options };
    if flags & MS_REMOUNT != 0 {
        mount(MountOperation::Remount, None, all_options(flags))
    } else if flags & MS_BIND != 0 {
        mount(MountOperation::Bind, source, one(&[if recursive { "rbind" } else { "bind" }]))
    } else if flags & MS_PROPAGATION != 0 {
        let words = mount_flag_words(flags & (MS_PROPAGATION | MS_SILENT)).unwrap_or_default();
        let recursive = if recursive { "r" } else { "" };
        let word = |word: &str| {
            if word == "silent" { word.to_owned() } else { format!("make-{recursive}{word}") }
        };
        mount(MountOperation::Propagation, None, Some(words.into_iter().map(word).collect()))
    } else if flags & MS_MOVE != 0 {
        mount(MountOperation::Move, source, one(&["move"]))
    } else {
        let new = mount(MountOperation::New, source, all_options(flags));
        Mount { fstype: fstype.map(literal), ..new }
    }
}

/// All flags by name; `None` when one of them has none.
fn all_options(flags: u64) -> Option<BTreeSet<String>> {
    let words = mount_flag_words(flags).filter(|_| flags & MS_REC == 0)?;
    let access = (!words.contains(&"ro")).then_some("rw");
    Some(words.into_iter().chain(access).map(str::to_owned).collect())
}

/// A glob that matches this text and, where a character has a meaning in one, little else.
#[must_use]
pub fn literal(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._:+=@%~- ".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte) } else { '?' }).collect()
}

/// Where names were other ones in a later run, they are any: those in which a mount differs from the one of an earlier run
/// that is most like it.
fn widen(needs: &mut [Need]) {
    for index in 0..needs.len() {
        let Need { mount, renamed: true, run, .. } = &needs[index] else { continue };
        let earlier = needs.iter().filter(|need| need.run < *run);
        let wider = earlier.filter_map(|need| common(mount, &need.mount));
        let Some((_, wide)) = wider.min_by_key(|&(names, _)| names) else { continue };
        for need in needs.iter_mut().filter(|need| covers(&wide, &need.mount)) {
            need.mount = wide.clone();
            need.renamed = false;
        }
    }
}

/// What covers both of two mounts that differ in names of their paths, and in how many.
fn common(one: &Mount, other: &Mount) -> Option<(usize, Mount)> {
    if !is_like(one, other) {
        return None;
    }
    let (in_source, source) = any_names(one.source.as_deref(), other.source.as_deref())?;
    let (in_target, target) = any_names(one.target.as_deref(), other.target.as_deref())?;
    Some((in_source + in_target, Mount { source, target, ..one.clone() }))
}

fn is_like(one: &Mount, other: &Mount) -> bool {
    (one.operation, &one.fstype, &one.options) == (other.operation, &other.fstype, &other.options)
}

/// The path with `*` for each name in which two differ, and how many these are. Paths of which nothing would be left
/// have nothing in common.
fn any_names(one: Option<&str>, other: Option<&str>) -> Option<(usize, Option<String>)> {
    let (Some(one), Some(other)) = (one, other) else {
        return (one == other).then_some((0, None));
    };
    let differ = names_apart(one, other)?;
    let both = || one.split('/').zip(other.split('/'));
    let alike = both().any(|(one, other)| one == other && !one.is_empty());
    (differ <= 1 || alike).then(|| {
        let wide = both().map(|(one, other)| if one == other { one } else { "*" });
        (differ, Some(wide.collect::<Vec<_>>().join("/")))
    })
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

/// Whether what allows the one allows the other.
fn covers(wide: &Mount, mount: &Mount) -> bool {
    let path = |wide: &Option<String>, path: &Option<String>| match (wide, path) {
        (Some(wide), Some(path)) => {
            let (wide, path) = (names(wide), names(path));
            wide.len() == path.len()
                && wide.iter().zip(&path).all(|(wide, name)| wide == name || *wide == "*")
        }
        (wide, path) => wide == path,
    };
    is_like(wide, mount) && path(&wide.source, &mount.source) && path(&wide.target, &mount.target)
}

impl fmt::Display for Mount {
    /// One line, whatever a profile from elsewhere holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |text: &Option<String>| text.as_deref().map_or_else(|| "(any)".to_owned(), one_line);
        let target = name(&self.target);
        let options = self.options.iter().flatten().map(|word| one_line(word)).collect::<Vec<_>>().join(",");
        match self.operation {
            MountOperation::New => {
                let source = self.source.as_deref().map_or_else(String::new, |source| one_line(source) + " ");
                write!(f, "mount {} {source}at {target} ({options})", name(&self.fstype))
            }
            MountOperation::Bind => write!(f, "{options} {} to {target}", name(&self.source)),
            MountOperation::Move => write!(f, "move {} to {target}", name(&self.source)),
            MountOperation::Remount => write!(f, "remount {target} ({options})"),
            MountOperation::Propagation => write!(f, "{options} {target}"),
            MountOperation::PivotRoot => {
                write!(f, "pivot_root to {target}, old root at {}", name(&self.source))
            }
        }
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
