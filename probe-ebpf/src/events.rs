//! The same facts from trace events. Their programs run with preemption off (`perf_trace_*`,
//! include/trace/perf.h), while those of BTF tracepoints may be preempted on newer kernels: the kernel then skips
//! the program for whoever comes by on that processor meanwhile.

use crate::{
    identity::{born, ended, executed},
    offsets::{offset, read},
    returns::left,
    syscalls::entered,
    tasks::current,
};
use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_task_pt_regs,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};

/// The running task's registers at its entry to the kernel.
#[inline(always)]
fn registers() -> *const u8 {
    // SAFETY: the running task.
    unsafe { bpf_task_pt_regs(current()) as *const u8 }
}

/// `raw_syscalls:sys_enter`. The record has the number, too, but loading it from the registers is cheaper.
#[tracepoint]
pub(crate) fn sys_enter_event(_: TracePointContext) -> u32 {
    entered(registers, || {
        // SAFETY: a plain load through a BTF pointer cannot fault.
        unsafe { registers().byte_add(offset!(regs_syscall)).cast::<u64>().read_volatile() }
    });
    0
}

/// `raw_syscalls:sys_exit`.
#[tracepoint]
pub(crate) fn sys_exit_event(ctx: TracePointContext) -> u32 {
    left(registers(), read(ctx.as_ptr() as u64, offset!(event_exit_result)));
    0
}

/// `sched:sched_process_exec`.
#[tracepoint]
pub(crate) fn sched_process_exec_event(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr() as u64;
    // The low half of a `__data_loc` is an offset from the record, the high half a length.
    executed(&ctx, || record + u64::from(read::<u32>(record, offset!(event_exec_filename)) & 0xffff));
    0
}

/// `sched:sched_process_exit`.
#[tracepoint]
pub(crate) fn sched_process_exit_event(_: TracePointContext) -> u32 {
    ended();
    0
}

/// The record of a birth does not say which task it is. This tracepoint does, for every birth, with its run
/// queue locked and so with preemption off (`wake_up_new_task`, kernel/sched/core.c).
#[btf_tracepoint(function = "sched_wakeup_new")]
pub(crate) fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    born(&ctx, ctx.arg(0));
    0
}
