//! What is known of tasks, and which ones are followed.

use crate::CONTAINER_ID;

/// Not part of the workload yet: the OCI runtime setting the container up.
pub const STAGE_RUNTIME: u32 = 1;
/// Part of the workload.
pub const STAGE_WORKLOAD: u32 = 2;
/// Not part of the workload yet: our own launcher, which becomes it by execve.
pub const STAGE_LAUNCHER: u32 = 3;

/// [`Task::flags`]: the OCI runtime has loaded a seccomp filter.
pub const TASK_FILTERED: u32 = 1;
/// [`Task::flags`]: the program has read its capability sets.
pub const TASK_READ_CAPABILITIES: u32 = 2;

/// What the kernel side knows of a task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Task {
    /// `STAGE_*`.
    pub stage: u32,
    /// Index of its program.
    pub program: u32,
    /// `TASK_*`.
    pub flags: u32,
    /// In the launcher stage: how many times it executes itself before the workload.
    pub launches: u32,
    /// In the runtime stage the runtime's mount namespace, afterwards the workload's user namespace.
    pub namespace: u64,
    /// The pid namespace that the workload began in.
    pub pid_namespace: u64,
    /// Its network namespace.
    pub net_namespace: u64,
    /// Where the kernel keeps its registers during a system call; 0 before its first.
    pub registers: u64,
    /// Not 0 when its end has been counted; in task storage, which outlives it.
    pub ended: u64,
    /// The capability check that it is in, where entry and return are seen apart.
    pub asked: Asked,
}

/// The arguments of `cap_capable`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Whose credentials; 0 when no check is in progress.
    pub cred: u64,
    /// The user namespace asked about.
    pub namespace: u64,
    /// Number of the capability.
    pub capability: u32,
    /// `CAP_OPT_*`.
    pub options: u32,
}

/// The container to find, set once its id is known.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Lower-case hexadecimal digits.
    pub id: [u8; CONTAINER_ID],
    /// 1 when `id` holds something.
    pub armed: u32,
}

/// A container that ran before the recording began, and what its tasks are to be marked with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// Its first process, in the initial pid namespace; 0 when there is no such container.
    pub init: u64,
    /// That one's user namespace; 0 until it was found.
    pub namespace: u64,
    /// Its pid namespace.
    pub pid_namespace: u64,
    /// Its network namespace.
    pub net_namespace: u64,
    /// Not 0 when tasks are to be marked; before, they are only told to userspace, which looks for their programs.
    pub marking: u64,
}

/// Written by the task iterator of a task that it marks, or whose program it does not know yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTask {
    /// Its process, in the initial pid namespace.
    pub process: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// The system call that it is in, or [`crate::NO_SYSCALL`].
    pub syscall: u32,
    /// 1 when it was marked just now.
    pub new: u32,
    /// Its `mm`: an execve gives it another.
    pub memory: u64,
}

/// Tasks of the workload that can be followed at once where they are kept in a hash map. The map has room for all from
/// its beginning, 9 MB.
pub const TASKS_HASHED: usize = 65536;
