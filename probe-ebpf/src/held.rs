//! What the processes of a container that runs already hold open: devices, and files of kernel file systems.

use crate::{
    maps::{ATTACH_SCRATCH, DEVICES, sighted},
    offsets::{offset, read},
    paths::{FMODE_READ, FMODE_WRITE, opened_file},
    tasks::TASKS,
};
use aya_ebpf::bindings::task_struct;
use probe_ebpf::{DeviceKey, NO_SYSCALL, STAGE_WORKLOAD, status};

/// `BPF_DEVCG_ACC_READ` and `BPF_DEVCG_ACC_WRITE`.
const ACCESS_READ: u32 = 2;
const ACCESS_WRITE: u32 = 4;
/// `MINORBITS` (include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c).
#[repr(C)]
struct FileContext {
    meta: u64,
    task: *mut task_struct,
    descriptor: u64,
    file: u64,
}

/// What the container's processes hold open: devices, and files of kernel file systems.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn attach_files(context: *mut FileContext) -> i32 {
    const CHARACTER: u16 = 0o020_000;
    const BLOCK: u16 = 0o060_000;
    // SAFETY: the kernel hands in a valid context; at the end without a task.
    let (task, file) = unsafe {
        ((&raw const (*context).task).read_volatile(), (&raw const (*context).file).read_volatile())
    };
    if task.is_null() || file == 0 {
        return 0;
    }
    let Some(state) = TASKS.get(task) else { return 0 };
    if state.stage != STAGE_WORKLOAD {
        return 0;
    }
    let inode: u64 = read(file, offset!(file_inode));
    let kind = read::<u16>(inode, offset!(inode_mode)) & 0o170_000;
    let mode: u32 = read(file, offset!(file_mode));
    // An O_PATH descriptor is for neither, and needs nothing.
    let access = (mode & FMODE_READ) * ACCESS_READ | (mode & FMODE_WRITE) / FMODE_WRITE * ACCESS_WRITE;
    if (kind == CHARACTER || kind == BLOCK) && access != 0 {
        let number: u32 = read(inode, offset!(inode_rdev));
        let key = DeviceKey {
            kind: if kind == BLOCK { 1 } else { 2 },
            access,
            major: number >> MINOR_BITS,
            minor: number & ((1 << MINOR_BITS) - 1),
            program: state.program,
            syscall: NO_SYSCALL,
            abi: 0,
            reserved: 0,
        };
        sighted(&DEVICES, &key, status::DEVICES_FULL);
    } else {
        opened_file(state, file, &ATTACH_SCRATCH);
    }
    0
}
