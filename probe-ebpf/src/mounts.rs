//! What the workload mounts and where, with the strings that it gave: they are what `AppArmor` judges by.

use crate::{
    abi::{COMPAT, argument, identify},
    maps::{MOUNT_SCRATCH, MOUNTS, OPENED_SCRATCH, add, count},
    mount_calls::{FSCONFIG, arguments, descriptors},
    offsets::{offset, read},
    tasks::TASKS,
    walk::{depth, descend, forget_depth},
};
use aya_ebpf::{bindings::task_struct, helpers::generated::bpf_probe_read_user_str};
use probe_ebpf::{MountKey, MountSeen, MountValue, OPENED_DEPTH, OPENED_PATH, STAGE_WORKLOAD, status};

/// Passes a number through the map: the verifier follows the rest once for each value that it knows of one.
#[inline(always)]
fn forget(place: &mut u64, number: u64) -> u64 {
    let place = &raw mut *place;
    // SAFETY: from a reference.
    unsafe {
        place.write_volatile(number);
        place.read_volatile()
    }
}

/// Notes a call that has just ended.
#[inline(never)]
pub(crate) fn mounted(task: *mut task_struct, regs: u64, result: i64) -> u32 {
    let Some(state) = TASKS.get(task) else { return 0 };
    let Some(scratch) = MOUNT_SCRATCH.get_ptr_mut(0) else { return 0 };
    if state.stage != STAGE_WORKLOAD {
        return 0;
    }
    // SAFETY: per-processor scratch space; tracepoint programs are not preempted by one another.
    let MountSeen { key, value } = unsafe { &mut *scratch };
    let (abi, number) = identify(task, read(regs, offset!(regs_syscall)));
    let which = forget(&mut key.flags, arguments(abi == COMPAT, number));
    if which == 0 {
        return 0;
    }
    let call = forget(&mut key.flags, u64::from(abi) << 32 | u64::from(number));
    let (abi, syscall) = ((call >> 32) as u32, call as u32);
    let number = |place: u32| argument(regs, abi, (which >> (8 * place)) as usize & 0xff);
    let fs: u64 = read(task as u64, offset!(task_fs));
    let directory = fs + offset!(fs_directory) as u64;
    *key = MountKey {
        program: state.program,
        syscall,
        abi,
        errno: if result < 0 { -result as u32 } else { 0 },
        descriptors: 0,
        reserved: 0,
        flags: 0,
        directory: read(directory, offset!(path_entry)),
        kind: [0; _],
        source: [0; _],
        target: [0; _],
    };
    key.flags = number(3);
    key.descriptors = descriptors(regs, abi, syscall);
    string(&mut key.kind, number(0));
    let syscall = forget(&mut value.count, u64::from(syscall)) as u32;
    // Other options of a file system may be secret, and say nothing of its place.
    if syscall == FSCONFIG && key.kind[..7] != *b"source\0" {
        return 0;
    }
    string(&mut key.source, number(1));
    string(&mut key.target, number(2));
    if let Some(MountValue { count, .. }) = MOUNTS.get_ptr_mut(&*key).map(|known| unsafe { &mut *known }) {
        add(count);
        return 0;
    }
    value.count = 1;
    place(fs + offset!(fs_root) as u64, &mut value.root);
    place(directory, &mut value.directory);
    if MOUNTS.insert(&*key, &*value, 0).is_err() {
        count(status::MOUNTS_FULL);
    }
    0
}

/// Reads a string of the process's; empty when there is none, as nothing is mapped at zero.
#[inline(always)]
fn string<const N: usize>(into: &mut [u8; N], address: u64) {
    // SAFETY: as long as `into` is; the helper checks the source.
    unsafe { bpf_probe_read_user_str(into.as_mut_ptr().cast(), N as u32, address as *const _) };
}

/// Where a `struct path` is, from the root of its mount namespace, as `prepend_path` (fs/d_path.c) walks.
#[inline(never)]
fn place(path: u64, into: &mut [u8; OPENED_PATH]) -> u32 {
    *into = [0; _];
    into[0] = b'/';
    let Some(scratch) = OPENED_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: as above.
    let walk = unsafe { &mut *scratch };
    walk.key.magic = 0;
    walk.key.truncated = 0;
    walk.key.path = [0; _];
    let mut mount: u64 = read(path, offset!(path_mount));
    let mut entry: u64 = read(path, offset!(path_entry));
    forget_depth(walk, 0);
    let mut found = false;
    for _ in 0..OPENED_DEPTH {
        if entry == read(mount, offset!(mount_root)) {
            let inner = mount - offset!(mount_mount) as u64;
            let outer: u64 = read(inner, offset!(mount_parent));
            if outer == inner || outer == 0 {
                found = true;
                break;
            }
            entry = read(inner, offset!(mount_point));
            mount = outer + offset!(mount_mount) as u64;
        } else {
            // The verifier would follow each depth to the end.
            let depth = depth(walk);
            walk.entries[depth as usize & (walk.entries.len() - 1)] = entry;
            forget_depth(walk, depth + 1);
            entry = read(entry, offset!(entry_parent));
        }
    }
    let depth = depth(walk);
    if found && descend(depth, walk) && walk.key.truncated == 0 {
        *into = walk.key.path;
    }
    0
}
