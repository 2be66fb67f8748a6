//! Where a capability check is seen: the kernel's `cap_capable`, by whichever hook it allows.

use crate::{
    capabilities::checked,
    maps::count,
    offsets::{offset, read},
    tasks::{TASKS, current},
};
use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, fexit, kprobe, kretprobe, tracepoint},
    programs::{BtfTracePointContext, FExitContext, ProbeContext, RetProbeContext, TracePointContext},
};
use probe_ebpf::{Asked, OPTIONS_UNKNOWN, STAGE_WORKLOAD, status};

/// The BTF tracepoint: `cred, target_ns, capable_ns, cap, ret`.
#[btf_tracepoint(function = "cap_capable")]
pub(crate) fn cap_capable(ctx: BtfTracePointContext) -> i32 {
    let asked = Asked {
        cred: ctx.arg(0),
        namespace: ctx.arg(1),
        capability: ctx.arg(3),
        options: u32::from(OPTIONS_UNKNOWN),
    };
    checked(&ctx, asked, ctx.arg::<i32>(4) == 0);
    0
}

/// The same as a trace event, whose programs run with preemption off on every kernel.
#[tracepoint]
pub(crate) fn cap_capable_event(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr() as u64;
    let asked = Asked {
        cred: read(record, offset!(event_capable[0])),
        namespace: read(record, offset!(event_capable[1])),
        capability: read(record, offset!(event_capable[2])),
        options: u32::from(OPTIONS_UNKNOWN),
    };
    checked(&ctx, asked, read::<i32>(record, offset!(event_capable[3])) == 0);
    0
}

/// The function: `cred, targ_ns, cap, opts`, and what it returned.
#[fexit]
pub(crate) fn cap_capable_fexit(ctx: FExitContext) -> i32 {
    let asked =
        Asked { cred: ctx.arg(0), namespace: ctx.arg(1), capability: ctx.arg(2), options: ctx.arg(3) };
    checked(&ctx, asked, ctx.arg::<i32>(4) == 0);
    0
}

/// Its entry, which knows the arguments. A task is in one check at a time: `cap_capable` asks for no other, and
/// what interrupts it asks for nothing.
#[kprobe]
pub(crate) fn cap_capable_kprobe(ctx: ProbeContext) -> u32 {
    let Some(state) = TASKS.get(current()) else { return 0 };
    if state.stage != STAGE_WORKLOAD {
        return 0;
    }
    if state.asked.cred != 0 {
        // The kernel had no place left to note another return (`nmissed` of kretprobes).
        count(status::UNANSWERED);
    }
    let (Some(cred), Some(namespace), Some(capability), Some(options)) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3))
    else {
        return 0;
    };
    state.asked = Asked { cred, namespace, capability, options };
    0
}

/// Its return, which knows the answer.
#[kretprobe]
pub(crate) fn cap_capable_kretprobe(ctx: RetProbeContext) -> u32 {
    let Some(state) = TASKS.get(current()) else { return 0 };
    let asked = state.asked;
    if asked.cred == 0 {
        return 0;
    }
    state.asked = Asked::default();
    checked(&ctx, asked, ctx.ret::<i32>() == 0);
    0
}
