//! Checks of capabilities, and changes of their sets.

use crate::CALLERS;

/// [`CapabilityKey::credential`]: the task's own.
pub const CREDENTIAL_OWN: u8 = 0;
/// [`CapabilityKey::credential`]: put on by access(2).
pub const CREDENTIAL_ACCESS: u8 = 1;
/// [`CapabilityKey::credential`]: put on by a kernel subsystem.
pub const CREDENTIAL_OVERRIDDEN: u8 = 2;
/// [`CapabilityKey::credential`]: an open file's, or another task's.
pub const CREDENTIAL_OTHER: u8 = 3;

/// [`CapabilityKey::namespace`]: credentials of the workload's user namespace.
pub const NAMESPACE_OWN: u8 = 0;
/// [`CapabilityKey::namespace`]: the same, granted as owner of the namespace asked about.
pub const NAMESPACE_OWNER: u8 = 1;
/// [`CapabilityKey::namespace`]: credentials of another user namespace.
pub const NAMESPACE_CHILD: u8 = 2;

/// [`CapabilityKey::options`]: a failure is not to be audited, `CAP_OPT_NOAUDIT` (include/linux/security.h).
pub const OPTION_NO_AUDIT: u8 = 2;
/// [`CapabilityKey::options`]: asked by a call of the setuid family, `CAP_OPT_INSETID`.
pub const OPTION_IN_SET_ID: u8 = 4;
/// [`CapabilityKey::options`]: the hook does not tell.
pub const OPTIONS_UNKNOWN: u8 = 0xff;

/// One kind of capability check; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityKey {
    /// Number of the capability.
    pub capability: u8,
    /// 1 when granted.
    pub granted: u8,
    /// `CREDENTIAL_*`.
    pub credential: u8,
    /// `NAMESPACE_*`.
    pub namespace: u8,
    /// 1 when the effective user id is 0.
    pub root: u8,
    /// 1 when `argument` holds something.
    pub has_argument: u8,
    /// Index into the ABIs.
    pub abi: u8,
    /// `OPTION_*`, or [`OPTIONS_UNKNOWN`].
    pub options: u8,
    /// Number of the system call in progress, or [`crate::NO_SYSCALL`].
    pub syscall: u32,
    /// Index of the program.
    pub program: u32,
    /// What [`Argument`] chose.
    pub argument: u64,
    /// Kernel return addresses, nearest first, zero-padded.
    pub callers: [u64; CALLERS],
}

/// Which argument of a system call goes into [`CapabilityKey::argument`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// None.
    None = 0,
    /// The first.
    First = 1,
    /// The second.
    Second = 2,
    /// The third.
    Third = 3,
    /// The second in the high half, the third in the low one.
    SecondAndThird = 4,
    /// 1 when the first equals the real, effective, saved and file system user id.
    SameUser = 5,
    /// 1 when the first equals the real, effective, saved and file system group id.
    SameGroup = 6,
    /// The fourth.
    Fourth = 7,
    /// The flags of the `struct perf_event_attr` that the first points at.
    PerfFlags = 8,
}

/// [`CapabilitySetKey::kind`]: capset(2).
pub const SET_CAPSET: u32 = 0;
/// [`CapabilitySetKey::kind`]: `PR_CAP_AMBIENT_RAISE`; `effective` holds the capability's bit.
pub const SET_AMBIENT_RAISE: u32 = 1;
/// [`CapabilitySetKey::kind`]: the program read its sets (capget, `PR_CAPBSET_READ`).
pub const SET_READ: u32 = 2;

/// One request to change or read a capability set; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySetKey {
    /// `SET_*`.
    pub kind: u32,
    /// Index of the program.
    pub program: u32,
    /// Wanted effective set.
    pub effective: u64,
    /// Wanted permitted set.
    pub permitted: u64,
    /// Wanted inheritable set.
    pub inheritable: u64,
    /// 1 when the program had read its sets before.
    pub derived: u64,
}
