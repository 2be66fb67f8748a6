//! What the workload mounts and where, with the strings that it gave: they are what `AppArmor` judges by.

use crate::{
    maps::{MOUNT_SCRATCH, MOUNTS, OPENED_SCRATCH, add, count, offset, read},
    syscalls::{COMPAT, argument, identify},
    tasks::TASKS,
    walk::{depth, descend, forget_depth},
};
use aya_ebpf::{bindings::task_struct, helpers::generated::bpf_probe_read_user_str};
use probe_ebpf::{
    MountKey, MountSeen, MountValue, OPENED_DEPTH, OPENED_PATH, SOURCE_DESCRIPTOR, STAGE_WORKLOAD,
    TARGET_DESCRIPTOR, status,
};

const OPEN_TREE: u32 = 428;
const MOVE_MOUNT: u32 = 429;
const FSOPEN: u32 = 430;
const FSCONFIG: u32 = 431;
const FSMOUNT: u32 = 432;
const MOUNT_SETATTR: u32 = 442;

/// Whether this may be the number of a mounting call under some ABI.
#[inline(always)]
pub(crate) fn may_mount(number: u32) -> bool {
    matches!(number, 155 | 165 | 166 | 21 | 22 | 52 | 217 | OPEN_TREE..=FSMOUNT | MOUNT_SETATTR)
}

/// No argument of the call.
const NONE: usize = 9;

/// Which arguments of a call are the kind of file system, the source, the target and the flags: a byte each, from
/// the lowest; 0 when it is none of the mounting calls.
#[inline(always)]
fn arguments(compat: bool, number: u32) -> u64 {
    let [kind, source, target, flags] = match (compat, number) {
        (_, OPEN_TREE) => [NONE, 1, NONE, 2],
        (_, MOVE_MOUNT) => [NONE, 1, 3, 4],
        (_, FSOPEN) => [0, NONE, NONE, 1],
        (_, FSCONFIG) => [2, 3, NONE, 1],
        (_, FSMOUNT) => [NONE, NONE, NONE, 2],
        (_, MOUNT_SETATTR) => [NONE, NONE, 1, 2],
        (false, 165) | (true, 21) => [2, 0, 1, 3],
        (false, 166) | (true, 52) => [NONE, NONE, 0, 1],
        (true, 22) => [NONE, NONE, 0, NONE],
        // pivot_root: the new root, and where the old one goes.
        (false, 155) | (true, 217) => [NONE, 1, 0, NONE],
        _ => return 0,
    };
    (kind | source << 8 | target << 16 | flags << 24) as u64
}

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

/// What the paths are relative to, besides the current directory.
#[inline(always)]
fn descriptors(regs: u64, abi: u32, syscall: u32) -> u32 {
    const AT_FDCWD: i32 = -100;
    let is_open = |index| argument(regs, abi, index) as i32 != AT_FDCWD;
    let (source, target) = match syscall {
        OPEN_TREE => (is_open(0), false),
        MOVE_MOUNT => (is_open(0), is_open(2)),
        MOUNT_SETATTR => (false, is_open(0)),
        _ => (false, false),
    };
    u32::from(source) * SOURCE_DESCRIPTOR + u32::from(target) * TARGET_DESCRIPTOR
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
