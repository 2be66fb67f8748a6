//! A container that runs already: its tasks are marked by an iterator that userspace reads until it finds
//! nothing new.

use crate::{
    abi::in_progress,
    container::{is_container, wanted},
    identity::{count_end, unified_cgroup},
    maps::{ATTACH, RUNNING, count},
    offsets::{attaches, fixed, offset, offsets, read},
    programs::index_of,
    tasks::{TASKS, registers, set_program},
};
use aya_ebpf::{
    bindings::{seq_file, task_struct},
    helpers::generated::bpf_seq_write,
};
use probe_ebpf::{Attach, FoundTask, NO_SYSCALL, PROGRAM_OTHER, STAGE_WORKLOAD, Task, status};

/// `PF_EXITING` (include/linux/sched.h).
const EXITING: u32 = 4;
/// Controllers that are looked at; kernels have about fourteen.
const MAX_SUBSYSTEMS: usize = 16;

/// `struct bpf_iter_meta`, include/linux/bpf.h.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// `struct bpf_iter__task` (kernel/bpf/task_iter.c).
#[repr(C)]
struct TaskContext {
    meta: *mut Meta,
    task: *mut task_struct,
}

/// The container to attach to, once its namespaces are known.
#[inline(always)]
fn attach() -> Option<&'static mut Attach> {
    // SAFETY: written here by one iterator at a time, and before by userspace.
    let attach = unsafe { &mut *ATTACH.get_ptr_mut(0)? };
    (attach.init != 0).then_some(attach)
}

/// Whether a task is in the container by a hierarchy of any cgroup version: 1 or 0.
#[inline(never)]
fn in_container(task: u64) -> u64 {
    let Some(id) = wanted() else { return 0 };
    let mut found = is_container(unified_cgroup(task), id);
    let set: u64 = read(task, offset!(task_cgroups));
    for index in 0..MAX_SUBSYSTEMS {
        if index as u32 >= fixed(&offsets().css_set_subsystems) {
            break;
        }
        let subsystem: u64 = read(set, offset!(css_set_subsys) + 8 * index);
        found |= is_container(read(subsystem, offset!(css_cgroup)), id);
    }
    found
}

#[inline(always)]
fn workload(attach: &Attach, registers: u64) -> Task {
    Task {
        stage: STAGE_WORKLOAD,
        program: PROGRAM_OTHER,
        namespace: attach.namespace,
        pid_namespace: attach.pid_namespace,
        net_namespace: attach.net_namespace,
        registers,
        ..Task::default()
    }
}

/// What a child of this task is to be marked with when the task itself belongs to the container that is being
/// attached to, but was not found yet: the iterator may be past the child's place.
#[inline(always)]
pub(crate) fn unmarked(parent: *mut task_struct) -> Option<Task> {
    if !attaches() {
        return None;
    }
    let attach = attach()?;
    (attach.marking != 0 && in_container(parent as u64) != 0).then(|| workload(attach, 0))
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn attach_tasks(context: *mut TaskContext) -> i32 {
    // SAFETY: the kernel hands in a valid context; at the end without a task.
    let (task, meta) = unsafe { ((&raw const (*context).task).read_volatile(), (*context).meta) };
    let Some(attach) = attach() else { return 0 };
    if task.is_null() {
        return 0;
    }
    let address = task as u64;
    let process: u32 = read(address, offset!(task_tgid));
    if u64::from(process) == attach.init && attach.namespace == 0 {
        let namespaces: u64 = read(address, offset!(task_nsproxy));
        attach.pid_namespace = read(namespaces, offset!(nsproxy_pid_ns));
        attach.net_namespace = read(namespaces, offset!(nsproxy_net_ns));
        attach.namespace = read(read(address, offset!(task_real_cred)), offset!(cred_user_ns));
    }
    let exiting = || read::<u32>(address, offset!(task_flags)) & EXITING != 0;
    let memory = read(address, offset!(task_mm));
    let mut found = FoundTask { process, abi: 0, syscall: NO_SYSCALL, new: 0, memory };
    if let Some(state) = TASKS.get(task) {
        if state.stage == STAGE_WORKLOAD && state.program == PROGRAM_OTHER && !exiting() {
            name(state, meta, &mut found);
        }
        return 0;
    }
    if exiting() || in_container(address) == 0 {
        return 0;
    }
    if attach.marking == 0 {
        write(meta, &mut found);
        return 0;
    }
    let mut initial = workload(attach, registers(task));
    (found.abi, found.syscall) = in_progress(task, &initial);
    found.new = 1;
    // First: where there is no room left the kernel comes back with this task (bpf_seq_read).
    if !write(meta, &mut found) {
        return 0;
    }
    match TASKS.get_or_insert(task, &mut initial) {
        Some(state) => {
            count(status::STARTED);
            name(state, meta, &mut found);
            // Its end may have passed by just before.
            if exiting() {
                count_end(task, state);
            }
        }
        None => count(status::UNTRACKED),
    }
    0
}

/// Gives a task its program, or asks userspace for it. The next execve knows better, whenever it comes.
#[inline(always)]
fn name(state: &mut Task, meta: *mut Meta, found: &mut FoundTask) {
    // SAFETY: entries are removed by nobody.
    if let Some(path) = unsafe { RUNNING.get(&found.memory) } {
        set_program(state, index_of(path, found.process));
    } else if found.new == 0 {
        write(meta, found);
    }
    count(status::GENERATION);
}

#[inline(always)]
fn write(meta: *mut Meta, found: &mut FoundTask) -> bool {
    // SAFETY: the kernel's own pointers; the record is ours.
    unsafe { bpf_seq_write((*meta).seq, (&raw mut *found).cast(), size_of::<FoundTask>() as u32) == 0 }
}
