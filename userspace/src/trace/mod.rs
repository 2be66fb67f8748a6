//! What happened in one run, or in many merged: facts only, sorted, versioned; no I/O.

mod access;
mod facts;
mod merge;
mod mounts;
mod paths;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::{
    access::BadAccess,
    facts::Facts,
    mounts::{
        MS_BIND, MS_MOVE, MS_PROPAGATION, MS_REC, MS_REMOUNT, MS_SILENT, MountCall, flags_of_words, lexical,
        mount_flag_words, mount_flags,
    },
    paths::{MASKED, MOUNTED, PathAccess, READ_ONLY, is_below, masked, names_apart},
    refusals::{LsmAccess, Refusal},
};
use crate::{capability::Capability, syscalls::Abi};

/// The trace format that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// What evidence calls the OCI runtime or launcher, where a program is named.
pub const RUNTIME: &str = "(container runtime)";

/// What was recorded. Merging two is the union of their facts: commutative, associative, idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// Nothing was lost and the run was seen to its end.
    pub complete: bool,
    /// Why not, when `complete` is false.
    pub lost: BTreeSet<Loss>,
    /// The runs that this trace holds; one, unless merged.
    pub runs: BTreeSet<Run>,
    /// Every program that was executed, by the path given to execve.
    pub programs: BTreeMap<String, Program>,
    /// System calls by ABI and name. A number without a name is `syscall_N`.
    pub syscalls: BTreeMap<Abi, BTreeMap<String, SyscallUse>>,
    /// System calls of the OCI runtime after it loaded a seccomp filter and before the entrypoint
    /// ran. Empty when no filter was loaded.
    pub runtime_syscalls: BTreeSet<String>,
    /// Capability checks, with how often each was made.
    pub capabilities: Facts<CapabilityCheck>,
    /// Requests to change a capability set, which no check shows.
    pub capability_sets: Facts<CapabilitySetChange>,
    /// Device accesses: opens, mknod, mounts of block devices.
    pub devices: Facts<DeviceAccess>,
    /// The host's nodes for those devices, by `c 10:229`.
    pub device_nodes: BTreeMap<String, String>,
    /// It asked for any free loop device (`LOOP_CTL_GET_FREE`): the next run gets another.
    #[serde(default)]
    pub picks_loop_devices: bool,
    /// Files of the kernel's own file systems that were opened: all that were opened for writing, and those
    /// below a path that some engine masks. `None` when they were not recorded.
    pub paths: Option<Facts<PathAccess>>,
    /// Calls that mount something or move mounts about, whether they succeed or not. `None` when they were not
    /// recorded.
    #[serde(default)]
    pub mounts: Option<Facts<MountCall>>,
    /// What a Linux security module refused while a profile was verified.
    #[serde(default)]
    pub refusals: Facts<Refusal>,
    /// Calls that failed with an errno that a denial gives. `None` when failures were not recorded.
    pub failures: Option<Facts<Failure>>,
}

/// One run of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The command, as the user gave it.
    pub command: Vec<String>,
    /// How it ended; `None` when the recording stopped before it did.
    pub outcome: Option<Outcome>,
    /// Kernel release, such as `6.12.0-1-amd64`.
    pub kernel: String,
    /// Machine architecture, such as `x86_64`.
    pub architecture: String,
    /// The hooks that were live.
    pub probes: BTreeSet<String>,
    /// What ran the container; `None` for a plain command.
    pub engine: Option<Engine>,
    /// It ran already when the recording began; `None` when it was seen from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached: Option<Attached>,
}

/// A recording of a container that ran before it and, unless it has an outcome, after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// The container's name.
    pub container: String,
    /// How long it was recorded.
    pub milliseconds: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit status, 0 to 255.
    Exit(i32),
    /// Ended by this signal.
    Signal(i32),
}

/// A container engine, its OCI runtime and the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// `docker` or `podman`.
    pub name: String,
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The OCI runtime that started the container, such as `runc`.
    pub runtime: String,
    /// The runtime's version, when it could be read.
    pub runtime_version: Option<String>,
    /// Digest of the image that was run.
    pub image: String,
    /// Linux security modules that the engine applies, such as `apparmor`.
    pub security_modules: BTreeSet<String>,
}

/// Something that was not seen, so that a profile made from this trace may miss a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The workload ran already when the recording began: its start was not seen.
    StartedBefore,
    /// The recording was stopped before the workload ended.
    Interrupted,
    /// Processes of the workload were still running when the recording ended.
    StillRunning,
    /// The kernel map that holds this set of facts was full.
    MapFull(String),
    /// A process could not be marked as part of the workload, so what it did was not seen.
    UntrackedProcess,
    /// The kernel skipped a program because it was already running on that processor.
    ProgramSkipped(String),
    /// A check of a capability that this build has no name for.
    UnknownCapability(u8),
}

/// A program that the workload executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// `security.capability` of the file, when it has one that applies at execve.
    pub file_capabilities: Option<FileCapabilities>,
    /// The file has the set-user-ID or set-group-ID bit.
    pub set_id: bool,
    /// The file was gone before it could be looked at: the two fields above may be wrong.
    pub unread: bool,
}

/// `security.capability` of a file, `capabilities(7)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCapabilities {
    /// The effective bit: execve fails with EPERM unless all permitted ones can be had.
    pub effective: bool,
    /// fP.
    pub permitted: BTreeSet<Capability>,
    /// fI.
    pub inheritable: BTreeSet<Capability>,
}

/// How often a system call was made, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyscallUse {
    /// Calls, the largest of the merged runs.
    pub count: u64,
    /// Programs that made it.
    pub programs: BTreeSet<String>,
}

/// One kind of capability check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityCheck {
    /// What was asked for.
    pub capability: Capability,
    /// The answer.
    pub granted: bool,
    /// Whose credentials were looked at.
    pub credential: Credential,
    /// Where those credentials live and what was asked about.
    pub namespace: Namespace,
    /// The effective user id of those credentials was 0 in the initial user namespace's numbering.
    pub root: bool,
    /// The program.
    pub program: String,
    /// The ABI of the system call in progress.
    pub abi: Abi,
    /// The system call in progress; `None` outside of one.
    pub syscall: Option<String>,
    /// What decides whether the check mattered, for the calls where an argument does.
    pub argument: Option<Argument>,
    /// Kernel functions from the check upwards, nearest first. Empty when they could not be read.
    pub call_site: Vec<String>,
    /// A run without the capability failed here: whatever the rules say of this check, it mattered.
    #[serde(default)]
    pub decisive: bool,
    /// A denial is audited (no `CAP_OPT_NOAUDIT`): mostly of checks that are not meant as a question only. `None`
    /// where the hook does not tell; no rule may hang on it, so that all hooks give the same profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<bool>,
    /// Asked by a call of the setuid family (`CAP_OPT_INSETID`). `None` where the hook does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_set_id: Option<bool>,
}

/// Whose credentials a check looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The task's own.
    Own,
    /// Those that `access(2)` sets for its duration, made from the task's own.
    Access,
    /// Others that a kernel subsystem put on for a while (overlayfs: the mounter's).
    Overridden,
    /// Neither the task's own nor put on: an open file's, or another task's.
    Other,
}

/// The user namespace of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// The credentials are of the workload's user namespace.
    Own,
    /// The same, and the answer was yes because their user owns the namespace asked about.
    Owner,
    /// The credentials are of a user namespace that the workload made.
    Child,
}

/// An argument of the system call in progress that decides whether a check mattered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Argument {
    /// `setuid`, `setgid`: the id is already the real, effective, saved and file system id.
    SameId(bool),
    /// `chmod` and its kin: the mode.
    Mode(u32),
    /// `ioctl`: the request.
    Request(u32),
    /// `prctl`, `bpf`, `keyctl`, `fcntl` and their like: the operation.
    Operation(u32),
    /// `setsockopt`: level and option.
    Option(u32, u32),
    /// `unshare`, `setns`, `clone`, `fanotify_init`, `fanotify_mark`, `perf_event_open`: the flags.
    Flags(u64),
    /// `setxattr` and its kin: the size of the value in bytes.
    Size(u64),
}

/// A request to change a capability set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilitySetChange {
    /// The program.
    pub program: String,
    /// What it asked for.
    pub request: CapabilityRequest,
}

/// What was asked of `capset(2)` or `prctl(2)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityRequest {
    /// `capset`.
    Set {
        /// New effective set.
        effective: BTreeSet<Capability>,
        /// New permitted set.
        permitted: BTreeSet<Capability>,
        /// New inheritable set.
        inheritable: BTreeSet<Capability>,
        /// The program had asked for its present sets first, so it may have made these from them.
        derived: bool,
    },
    /// `PR_CAP_AMBIENT_RAISE`.
    AmbientRaise(Capability),
    /// The program read its sets: capget or `PR_CAPBSET_READ`.
    Read,
}

/// Block or character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceType {
    /// Block device.
    #[serde(rename = "b")]
    Block,
    /// Character device.
    #[serde(rename = "c")]
    Character,
}

/// One kind of access to one device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceAccess {
    /// Block or character.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// What was asked.
    pub access: Access,
    /// The program.
    pub program: String,
    /// The ABI of the system call in progress.
    pub abi: Abi,
    /// The system call in progress; `None` outside of one.
    pub syscall: Option<String>,
}

/// Access to a device, written `rwm` as the device cgroup does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Access {
    /// `r`: open for reading.
    pub read: bool,
    /// `w`: open for writing.
    pub write: bool,
    /// `m`: mknod.
    pub mknod: bool,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The program.
    pub program: String,
    /// The ABI.
    pub abi: Abi,
    /// The call.
    pub syscall: String,
    /// Its errno, such as `EPERM`.
    pub errno: String,
}

impl Trace {
    /// The host's node for a device, when it has one.
    #[must_use]
    pub fn device_node(&self, kind: DeviceType, major: u32, minor: u32) -> Option<String> {
        self.device_nodes.get(&format!("{} {major}:{minor}", kind.letter())).cloned()
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StartedBefore => {
                f.write_str("the container ran before the recording began: its start was not seen")
            }
            Self::Interrupted => f.write_str("the recording was stopped before the workload ended"),
            Self::StillRunning => f.write_str("processes of the workload still ran when the recording ended"),
            Self::MapFull(map) => write!(f, "there were more {map} than the kernel map holds"),
            Self::UntrackedProcess => f.write_str("a process of the workload could not be followed"),
            Self::ProgramSkipped(program) => write!(f, "the kernel skipped the probe {program} at times"),
            Self::UnknownCapability(number) => {
                write!(f, "capability {number} was checked, which this version has no name for")
            }
        }
    }
}
