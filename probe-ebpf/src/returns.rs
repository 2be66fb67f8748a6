//! How the workload's calls end: which fail, and which open or mount something.

use crate::{
    abi::{COMPAT, X32_BIT, identify},
    maps::{FAILURES, sighted},
    mount_calls::may_mount,
    mounts::mounted,
    offsets::offset,
    paths::{is_open, opened},
    tasks::{TASKS, current},
};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::{FailureKey, PROGRAM_RUNTIME, STAGE_WORKLOAD, status};

#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    left(ctx.arg(0), ctx.arg(1));
    0
}

/// The running task ends a system call.
#[inline(always)]
pub(crate) fn left(regs: *const u8, result: i64) {
    const EPERM: i64 = -1;
    const ENXIO: i64 = -6;
    const EACCES: i64 = -13;
    const ENODEV: i64 = -19;
    const EROFS: i64 = -30;
    const ENOSYS: i64 = -38;
    // SAFETY: the task's registers; a plain load through a BTF pointer cannot fault.
    let id = unsafe { regs.byte_add(offset!(regs_syscall)).cast::<u64>().read_volatile() };
    // Most calls are none of these under any ABI; only of the rest the task is asked for its own.
    let number = (id & !X32_BIT) as u32;
    if may_mount(number) {
        // None of them opens a file. It reads the number again: the verifier would follow it once for each here.
        mounted(current(), regs as u64, result);
        if result >= 0 {
            return;
        }
    } else if result >= 0 {
        if !is_open(false, number) && !is_open(true, number) {
            return;
        }
        let task = current();
        let (abi, number) = identify(task, id);
        if is_open(abi == COMPAT, number) {
            opened(task, result as u64);
        }
        return;
    }
    if !(-4095..0).contains(&result) {
        return;
    }
    if !matches!(result, EPERM | ENXIO | EACCES | ENODEV | EROFS | ENOSYS) {
        return;
    }
    let task = current();
    let Some(state) = TASKS.get(task) else { return };
    // A call that seccomp denied never passed sys_enter: its number is in the registers all the same.
    let (abi, syscall) = identify(task, id);
    let program = if state.stage == STAGE_WORKLOAD { state.program } else { PROGRAM_RUNTIME };
    let key = FailureKey { program, syscall, abi, errno: -result as u32 };
    sighted(&FAILURES, &key, status::FAILURES_FULL);
}
