//! Programs, and the calls that they make.

use crate::{ABIS, PATH, SYSCALLS};

/// Which calls a program made: one byte each, so that marking needs no atomic operation and cannot
/// lose another processor's mark.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    /// By ABI and number.
    pub calls: [[u8; SYSCALLS]; ABIS],
}

/// How often each call was made, per processor, and who made the last one there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counts {
    /// By ABI and number.
    pub calls: [[u64; SYSCALLS]; ABIS],
    /// Remembered of that one.
    pub last: LastTask,
}

/// What was found out of a task, so that its storage need not be asked at each call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LastTask {
    /// Where its registers are: on its kernel stack, so no other living task's are there.
    pub registers: u64,
    /// [`crate::status::GENERATION`] when it was found out; worth nothing in another.
    pub generation: u64,
    /// [`crate::Task::program`], or [`NOT_RECORDED`].
    pub program: u64,
}

/// [`LastTask::program`] of a task that is not of the workload.
pub const NOT_RECORDED: u64 = u64::MAX;

/// A program's path as given to execve, zero-padded.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProgramPath {
    /// The bytes.
    pub bytes: [u8; PATH],
}

/// Sent when a program that the workload had not run before starts. Whole, so that userspace need not look into
/// a map meanwhile: while a task does that, the kernel skips kprobes and trace events of whoever preempts it
/// (`bpf_disable_instrumentation`, include/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecEvent {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Index of the program.
    pub program: u32,
    /// Its path.
    pub path: ProgramPath,
}

/// Executables that userspace can tell the kernel side.
pub const EXECUTABLES: usize = 16384;
