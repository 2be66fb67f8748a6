//! What a Linux security module refused, as the kernel's audit record says.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{capability::Capability, shell::one_line};

/// One kind of refusal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The task's name, `comm`: an audit record has no path of the program.
    pub program: String,
    /// What was refused.
    pub access: LsmAccess,
    /// A path in it is another one in each run, though nothing but chance tells them apart.
    #[serde(default)]
    pub renamed: bool,
    /// In which run under a profile it was, from 1.
    #[serde(default)]
    pub run: u32,
}

/// An access that `AppArmor` judges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LsmAccess {
    /// mount(2) and `move_mount`.
    Mount {
        /// The file system's type.
        fstype: Option<String>,
        /// What is mounted.
        source: Option<String>,
        /// Where.
        target: String,
        /// `MS_*`.
        flags: u64,
    },
    /// `pivot_root`.
    PivotRoot {
        /// The new root.
        target: String,
        /// Where the old one goes.
        source: Option<String>,
    },
    /// A file or directory; `mask` as an `AppArmor` rule has it, such as `w`.
    File {
        /// Its path.
        path: String,
        /// Letters.
        mask: String,
    },
    /// ptrace(2), or reading what it would show.
    Ptrace {
        /// `trace`, `read`, `tracedby` or `readby`.
        mask: String,
        /// The other one's profile, or `unconfined`.
        peer: String,
    },
    /// A signal.
    Signal {
        /// `send` or `receive`.
        mask: String,
        /// Such as `term`.
        signal: String,
        /// The other one's profile, or `unconfined`.
        peer: String,
    },
    /// A capability, in whatever user namespace.
    Capability(Capability),
    /// A socket.
    Network {
        /// Address family, such as `alg`.
        family: String,
        /// Such as `seqpacket`.
        kind: String,
    },
    /// Another profile to change to.
    ChangeProfile(String),
    /// Something that no rule of ours allows; the record's `operation`.
    Other(String),
}

impl LsmAccess {
    /// Mounts something or moves mounts about.
    #[must_use]
    pub fn is_mount(&self) -> bool {
        matches!(self, Self::Mount { .. } | Self::PivotRoot { .. })
    }
}

impl fmt::Display for LsmAccess {
    /// One line, whatever the workload named its files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { fstype, source, target, .. } => {
                write!(f, "mount {}", one_line(target))?;
                match fstype.as_deref().or(source.as_deref()) {
                    Some(what) => write!(f, " ({})", one_line(what)),
                    None => Ok(()),
                }
            }
            Self::PivotRoot { target, .. } => write!(f, "pivot_root {}", one_line(target)),
            Self::File { path, mask } => write!(f, "file {} {}", one_line(path), one_line(mask)),
            Self::Ptrace { mask, peer } => write!(f, "ptrace {} {}", one_line(mask), one_line(peer)),
            Self::Signal { mask, signal, peer } => {
                write!(f, "signal {} {} {}", one_line(mask), one_line(signal), one_line(peer))
            }
            Self::Capability(capability) => write!(f, "capability {capability}"),
            Self::Network { family, kind } => write!(f, "network {} {}", one_line(family), one_line(kind)),
            Self::ChangeProfile(name) => write!(f, "change_profile {}", one_line(name)),
            Self::Other(operation) => f.write_str(&one_line(operation)),
        }
    }
}
