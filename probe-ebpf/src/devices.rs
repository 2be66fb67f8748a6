//! Device accesses, at the one place where the kernel asks the device cgroup: opens, mknod, mounts
//! and other claims of block devices (`devcgroup_check_permission`, security/device_cgroup.c).

use crate::{
    maps::{DEVICES, TASKS, current, sighted},
    syscalls::in_progress,
};
use aya_ebpf::{macros::cgroup_device, programs::DeviceContext};
use probe_ebpf::{DeviceKey, STAGE_WORKLOAD, status};

/// Attached to the root of the unified hierarchy: sees every access, allows every access.
#[cgroup_device]
pub(crate) fn device(ctx: DeviceContext) -> i32 {
    const ALLOW: i32 = 1;
    let task = current();
    let Some(state) = TASKS.get(task) else { return ALLOW };
    if state.stage != STAGE_WORKLOAD {
        return ALLOW;
    }
    // SAFETY: the kernel hands in a valid context.
    let asked = unsafe { &*ctx.device };
    let (abi, syscall) = in_progress(task, state);
    let key = DeviceKey {
        kind: asked.access_type & 0xffff,
        access: asked.access_type >> 16,
        major: asked.major,
        minor: asked.minor,
        program: state.program,
        syscall,
        abi,
        reserved: 0,
    };
    if key.access != 0 {
        sighted(&DEVICES, &key, status::DEVICES_FULL);
    }
    ALLOW
}
