//! What is known of each task, in its own storage; `hashed` is the same for kernels without.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, task_struct},
    helpers::{
        bpf_get_current_task_btf,
        generated::{bpf_task_pt_regs, bpf_task_storage_get},
    },
    macros::btf_map,
};
use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg};
use probe_ebpf::{PROGRAM_FIRST, PROGRAM_OTHER, Task, status};

use crate::maps::{STATUS, add};

/// `BPF_MAP_TYPE_TASK_STORAGE`, which aya-ebpf has no type for.
#[repr(C)]
pub(crate) struct TaskStorage<T> {
    r#type: *const [i32; 29],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the fields are placeholders for the loader; nothing reads them.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    /// The task's value, when it has one.
    #[inline(always)]
    pub(crate) fn get(&self, task: *mut task_struct) -> Option<&'static mut T> {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the kernel checks both pointers; the value lives as long as the task, and only the
        // task itself and its creator (before it runs) write to it.
        unsafe { bpf_task_storage_get(map, task.cast(), core::ptr::null_mut(), 0).cast::<T>().as_mut() }
    }

    /// The task's value, made from `initial` when it has none.
    #[inline(always)]
    pub(crate) fn get_or_insert(&self, task: *mut task_struct, initial: &mut T) -> Option<&'static mut T> {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
        // SAFETY: as in `get`.
        unsafe {
            bpf_task_storage_get(map, task.cast(), core::ptr::from_mut(initial).cast(), flags)
                .cast::<T>()
                .as_mut()
        }
    }

    /// Notes the end of a task; whether nobody did before.
    #[inline(always)]
    pub(crate) fn end(&self, _: *mut task_struct, state: &mut Task) -> bool {
        add(&raw mut state.ended) == 0
    }
}

#[btf_map]
pub(crate) static TASKS: TaskStorage<Task> = TaskStorage::new();

/// The running task.
#[inline(always)]
pub(crate) fn current() -> *mut task_struct {
    // SAFETY: takes no argument, cannot fail.
    unsafe { bpf_get_current_task_btf() }
}

/// A field of a task.
#[inline(always)]
pub(crate) fn field<T: Copy>(task: *mut task_struct, offset: usize) -> T {
    // SAFETY: a task of the kernel's; a plain load through a BTF pointer cannot fault.
    unsafe { task.byte_add(offset).cast::<T>().read_volatile() }
}

/// Where the kernel keeps a task's registers during a system call.
#[inline(always)]
pub(crate) fn registers(task: *mut task_struct) -> u64 {
    // SAFETY: the kernel checks the pointer.
    unsafe { bpf_task_pt_regs(task) as u64 }
}

/// The next index for a program.
#[inline(always)]
pub(crate) fn next_program() -> Option<u32> {
    let used = STATUS.get_ptr_mut(status::PROGRAMS_USED)?;
    Some(add(used) as u32 + PROGRAM_FIRST)
}

/// Gives a task its program unless it has one.
#[inline(always)]
pub(crate) fn set_program(state: &mut Task, program: u32) {
    let place = &raw mut state.program;
    // SAFETY: the task's storage, aligned. `AtomicU32` has no such operation for this target.
    unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(place, PROGRAM_OTHER, program) };
}
