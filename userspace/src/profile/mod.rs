//! What a workload needs: derived from traces by a pure function, never edited in place.

mod derive;
mod devices;
mod mounts;
mod opportunistic;
mod paths;
pub mod rules;
mod warning;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::{
    derive::derive,
    devices::is_base,
    mounts::{Mount, MountOperation, literal},
};
pub use crate::trace::LsmAccess;

use crate::{
    capability::Capability,
    syscalls::Abi,
    trace::{Access, DeviceType},
};

/// The profile format that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// What a workload needs, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// The traces it was derived from were complete.
    pub complete: bool,
    /// Capabilities needed.
    pub capabilities: BTreeSet<Capability>,
    /// Devices needed beyond those that every container has.
    pub devices: BTreeSet<Device>,
    /// The workload's system calls as an OCI seccomp profile, without any runtime's own.
    pub seccomp: Seccomp,
    /// What the OCI runtime was seen to call under a seccomp filter before the entrypoint ran, beyond
    /// the measured needs that the emitter knows.
    #[serde(default)]
    pub runtime_syscalls: BTreeSet<String>,
    /// Paths of kernel file systems.
    #[serde(default)]
    pub paths: Paths,
    /// What is mounted and where, as far as a Linux security module has to allow it; `None` where it was not
    /// recorded.
    #[serde(default)]
    pub mounts: Option<BTreeSet<Mount>>,
    /// What else a Linux security module has to allow: what one refused while this was verified, and
    /// capabilities in user namespaces of the workload's own.
    #[serde(default)]
    pub lsm: BTreeSet<LsmAccess>,
    /// Executing a set-user-id file or one with file capabilities gained privilege, so
    /// no-new-privileges would change what it does.
    pub gains_privileges: bool,
    /// What a person should know before relying on this profile.
    pub warnings: BTreeSet<Warning>,
    /// Why each grant is there.
    pub evidence: Evidence,
}

/// A device, or with `minor: None` every minor of its major.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Block or character.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number; `None` is all of them.
    pub minor: Option<u32>,
    /// Needed access.
    pub access: Access,
    /// The host's node for it, when there is one.
    pub path: Option<String>,
}

/// Needs under the engine's masked and read-only paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Paths that some engine masks and below which the workload opened a file.
    pub unmask: BTreeSet<String>,
    /// Paths that an engine mounts read-only and the workload wrote.
    pub write: BTreeSet<String>,
    /// Written files of mounts that are not the engine's: tracefs and its like, or a /proc or /sys of other
    /// namespaces. Only a Linux security module may stand in their way.
    pub mounted: BTreeSet<String>,
}

/// `LinuxSeccomp` of the OCI runtime specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seccomp {
    /// For calls that no rule names.
    pub default_action: Action,
    /// The errno of `default_action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// ABIs that the workload uses; the kernel kills what calls by another.
    pub architectures: Vec<String>,
    /// Rules, sorted.
    pub syscalls: Vec<SyscallRule>,
}

/// One rule of a seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyscallRule {
    /// Call names, sorted.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// The errno of an `Errno` action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
}

/// A seccomp action that this tool emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The call goes through.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call fails.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
}

/// What a person should know before relying on a profile. Printed once and kept in the output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// The trace was incomplete; its own words.
    Incomplete(String),
    /// Checked and granted, but the outcome does not depend on it.
    Opportunistic {
        /// The capability that was left out.
        capability: Capability,
        /// Why it makes no difference.
        reason: String,
    },
    /// A program's file was gone before it could be looked at for capabilities and set-id bits.
    FileUnread(String),
    /// The program reads its own capabilities and may behave otherwise with fewer.
    ReadsCapabilities(String),
    /// A container was recorded without the files that it opened: kernel paths that it needs are not known.
    PathsUnknown,
    /// Anything else worth saying.
    Note(String),
}

/// Why each grant is there. Keys are the grants as the profile writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// For each capability.
    pub capabilities: BTreeMap<Capability, Vec<Reason>>,
    /// For each device, by `c 10:229`.
    pub devices: BTreeMap<String, Vec<Reason>>,
    /// For each path, whether to unmask or to write.
    pub paths: BTreeMap<String, Vec<Reason>>,
    /// For each mount, in words.
    pub mounts: BTreeMap<String, Vec<Reason>>,
    /// For what else a Linux security module has to allow, in words.
    pub lsm: BTreeMap<String, Vec<Reason>>,
    /// For each call: the programs that made it and how often it was made, by ABI.
    pub syscalls: BTreeMap<String, Vec<Reason>>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The program.
    pub program: String,
    /// The system call and its ABI, when it was made in one.
    pub syscall: Option<String>,
    /// The ABI of that call.
    pub abi: Abi,
    /// Kernel function or rule that made it count, for people.
    pub because: String,
    /// How often.
    pub count: u64,
}
