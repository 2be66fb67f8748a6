//! Device accesses, at the one place where the kernel asks the device cgroup: opens, mknod, mounts
//! and other claims of block devices (`devcgroup_check_permission`, security/device_cgroup.c).

use crate::{
    abi::in_progress,
    maps::{DEVICES, sighted},
    tasks::{TASKS, current},
};
use aya_ebpf::{
    macros::{cgroup_device, fentry, kprobe},
    programs::{DeviceContext, FEntryContext, ProbeContext},
};
use probe_ebpf::{DeviceKey, STAGE_WORKLOAD, status};

/// Attached to the root of the unified hierarchy: sees every access, allows every access.
#[cgroup_device]
pub(crate) fn device(ctx: DeviceContext) -> i32 {
    const ALLOW: i32 = 1;
    // SAFETY: the kernel hands in a valid context.
    let asked = unsafe { &*ctx.device };
    accessed(asked.access_type & 0xffff, asked.major, asked.minor, asked.access_type >> 16);
    ALLOW
}

/// The function that runs such programs: `type, major, minor, access`, with the same numbers.
#[fentry]
pub(crate) fn device_fentry(ctx: FEntryContext) -> i32 {
    accessed(u32::from(ctx.arg::<u16>(0)), ctx.arg(1), ctx.arg(2), u32::from(ctx.arg::<u16>(3)));
    0
}

#[kprobe]
pub(crate) fn device_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(kind), Some(major), Some(minor), Some(access)) =
        (ctx.arg::<u16>(0), ctx.arg(1), ctx.arg(2), ctx.arg::<u16>(3))
    {
        accessed(u32::from(kind), major, minor, u32::from(access));
    }
    0
}

#[inline(always)]
fn accessed(kind: u32, major: u32, minor: u32, access: u32) {
    let task = current();
    let Some(state) = TASKS.get(task) else { return };
    if state.stage != STAGE_WORKLOAD || access == 0 {
        return;
    }
    let (abi, syscall) = in_progress(task, state);
    let program = state.program;
    let key = DeviceKey { kind, access, major, minor, program, syscall, abi, reserved: 0 };
    sighted(&DEVICES, &key, status::DEVICES_FULL);
}
