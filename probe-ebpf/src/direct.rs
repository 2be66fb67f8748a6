//! Checks of functions beside `cap_capable` (security/commoncap.c), into which compilers copy it so that no hook at
//! it sees them. Those that decide anything; each is made again here by the same rule.

use crate::{
    capabilities::checked,
    offsets::{least_address, offset, read},
    tasks::current,
};
use aya_ebpf::{
    EbpfContext,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use probe_ebpf::Asked;

const CAP_SETPCAP: u32 = 8;
const CAP_SYS_RAWIO: u32 = 17;
const PR_SET_SECUREBITS: i32 = 28;

/// `cap_task_prctl(option, …)` asks for its own user namespace.
#[fentry]
pub(crate) fn cap_task_prctl_fentry(ctx: FEntryContext) -> i32 {
    if ctx.arg::<i32>(0) == PR_SET_SECUREBITS {
        asks(&ctx, CAP_SETPCAP, false);
    }
    0
}

#[kprobe]
pub(crate) fn cap_task_prctl_kprobe(ctx: ProbeContext) -> u32 {
    if ctx.arg::<i32>(0) == Some(PR_SET_SECUREBITS) {
        asks(&ctx, CAP_SETPCAP, false);
    }
    0
}

/// `cap_mmap_addr(addr)` asks for the initial user namespace, of addresses that hardly anybody maps.
#[fentry]
pub(crate) fn cap_mmap_addr_fentry(ctx: FEntryContext) -> i32 {
    if ctx.arg::<u64>(0) < least_address() {
        asks(&ctx, CAP_SYS_RAWIO, true);
    }
    0
}

#[kprobe]
pub(crate) fn cap_mmap_addr_kprobe(ctx: ProbeContext) -> u32 {
    if ctx.arg::<u64>(0).is_some_and(|address| address < least_address()) {
        asks(&ctx, CAP_SYS_RAWIO, true);
    }
    0
}

/// `cap_capable` for the running task's credentials and their own user namespace or the initial one.
#[inline(always)]
fn asks(ctx: &impl EbpfContext, capability: u32, initial: bool) {
    let cred: u64 = read(current() as u64, offset!(task_cred));
    let namespace: u64 = read(cred, offset!(cred_user_ns));
    let effective: u64 = read(cred, offset!(cred_effective));
    let there = !initial || read::<u64>(namespace, offset!(user_ns_parent)) == 0;
    let asked = Asked { cred, namespace, capability, options: 0 };
    checked(ctx, asked, there && effective & 1 << capability != 0);
}
