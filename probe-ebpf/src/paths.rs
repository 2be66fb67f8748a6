//! Files of the kernel's own file systems that the workload opens, and whether to write.

use crate::{
    maps::{CGROUP_SCRATCH, OPENED, OPENED_SCRATCH, count, sighted},
    masked::may_be_masked,
    offsets::{offset, read},
    tasks::{TASKS, current},
    walk::{ascend, descend, forget_depth},
};
use aya_ebpf::{bindings::task_struct, btf_maps::PerCpuArray};
use probe_ebpf::{OPENED_PATH, OpenedKey, STAGE_WORKLOAD, Task, Walk, magic, status};

pub(crate) const FMODE_READ: u32 = 1;
pub(crate) const FMODE_WRITE: u32 = 2;
/// `S_IFMT`.
const FILE_TYPE: u16 = 0o170_000;
/// `S_IFDIR`.
const DIRECTORY: u16 = 0o040_000;

/// Whether this is the number of open, creat, openat, open_by_handle_at or openat2.
#[inline(always)]
pub(crate) fn is_open(compat: bool, number: u32) -> bool {
    if compat {
        matches!(number, 5 | 8 | 295 | 342 | 437)
    } else {
        matches!(number, 2 | 85 | 257 | 304 | 437)
    }
}

/// Looks at the file that a call has just opened as `fd`.
#[inline(never)]
pub(crate) fn opened(task: *mut task_struct, fd: u64) -> u32 {
    let Some(state) = TASKS.get(task) else { return 0 };
    if state.stage != STAGE_WORKLOAD {
        return 0;
    }
    let fdt: u64 = read(read(task as u64, offset!(task_files)), offset!(files_fdt));
    let table: u64 = read(fdt, offset!(fdtable_fd));
    opened_file(state, read(table, (fd as u32 as usize) * 8), &OPENED_SCRATCH)
}

/// Looks at a file that is open.
#[inline(always)]
pub(crate) fn opened_file(state: &Task, file: u64, scratch: &PerCpuArray<Walk, 1>) -> u32 {
    let inode: u64 = read(file, offset!(file_inode));
    let superblock: u64 = read(inode, offset!(inode_sb));
    let magic = read::<u64>(superblock, offset!(super_magic)) as u32;
    let mode: u32 = read(file, offset!(file_mode));
    // O_PATH and access mode 3 open neither for reading nor for writing.
    if !magic::ALL.contains(&magic) || mode & (FMODE_READ | FMODE_WRITE) == 0 {
        return 0;
    }
    // A masked directory opens and is empty, so that nothing is denied to those who walk through all; who needs what is
    // in it opens that, too.
    if read::<u16>(inode, offset!(inode_mode)) & FILE_TYPE == DIRECTORY {
        return 0;
    }
    let write = mode & FMODE_WRITE != 0;
    let foreign = is_foreign(state, superblock, magic);
    if foreign && !write {
        return 0;
    }
    let Some(scratch) = scratch.get_ptr_mut(0) else { return 0 };
    // SAFETY: per-processor scratch space; tracepoint programs are not preempted by one another.
    let walk = unsafe { &mut *scratch };
    walk.key = OpenedKey {
        program: state.program,
        magic,
        write: u16::from(write),
        truncated: 0,
        foreign: u32::from(foreign),
        path: [0; OPENED_PATH],
    };
    let Some(depth) = ascend(file, walk) else {
        count(status::OPENED_FULL);
        return 0;
    };
    let depth = forget_depth(walk, depth);
    if descend(depth, walk) && (write || may_be_masked(depth, walk)) {
        sighted(&OPENED, &walk.key, status::OPENED_FULL);
    }
    0
}

/// The workload made a cgroup: it needs the hierarchy writable.
#[inline(always)]
pub(crate) fn cgroup_made() {
    let Some(state) = TASKS.get(current()) else { return };
    let Some(scratch) = CGROUP_SCRATCH.get_ptr_mut(0) else { return };
    if state.stage == STAGE_WORKLOAD {
        // SAFETY: per-processor scratch space; this program runs under a spin lock.
        let key = unsafe { &mut *scratch };
        *key = OpenedKey {
            program: state.program,
            magic: magic::CGROUP2,
            write: 1,
            truncated: 0,
            foreign: 0,
            path: [0; OPENED_PATH],
        };
        sighted(&OPENED, key, status::OPENED_FULL);
    }
}

/// Whether this is not the container's own /proc or /sys, but the host's in a bind mount, or one for a
/// container inside: an engine neither masks those nor makes them read-only.
#[inline(always)]
fn is_foreign(state: &Task, superblock: u64, magic: u32) -> bool {
    let info: u64 = read(superblock, offset!(super_fs_info));
    match magic {
        magic::PROC => read::<u64>(info, offset!(proc_pid_ns)) != state.pid_namespace,
        magic::SYSFS => {
            // The tag is a `struct net`, or in newer kernels the `struct ns_common` in it.
            let tag: u64 = read(info, offset!(kernfs_ns));
            tag != state.net_namespace && tag != state.net_namespace + offset!(net_ns) as u64
        }
        _ => false,
    }
}
