//! Who belongs to the workload: its tasks by descent, and a container's by its cgroup.

use crate::{
    maps::{CGROUPS, CONTAINER, EVENTS, NAME_SCRATCH, PATH_SCRATCH, PATHS, STATUS, add, count, offset, read},
    tasks::{TASKS, current},
};
use aya_ebpf::{
    EbpfContext,
    bindings::task_struct,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use probe_ebpf::{
    Asked, CONTAINER_ID, ExecEvent, PATH, PROGRAM_FIRST, PROGRAM_OTHER, PROGRAMS, STAGE_LAUNCHER,
    STAGE_RUNTIME, STAGE_WORKLOAD, TASK_READ_CAPABILITIES, Task, status,
};

#[inline(always)]
fn mount_namespace(task: u64) -> u64 {
    read(read(task, offset!(task_nsproxy)), offset!(nsproxy_mnt_ns))
}

#[btf_tracepoint(function = "task_newtask")]
pub(crate) fn task_newtask(ctx: BtfTracePointContext) -> i32 {
    born(&ctx, ctx.arg(0));
    0
}

/// A new task is of the workload when its parent is, or when it was born into the container's
/// cgroup (CLONE_INTO_CGROUP, for which `cgroup_attach_task` stays silent). `task_newtask` sees
/// io_uring's workers too, which `sched_process_fork` does not.
#[inline(always)]
pub(crate) fn born(ctx: &impl EbpfContext, child: *mut task_struct) {
    let mut initial = if let Some(parent) = TASKS.get(current()) {
        Task { registers: 0, asked: Asked::default(), ..*parent }
    } else {
        let set: u64 = read(child as u64, offset!(task_cgroups));
        let cgroup: u64 = read(set, offset!(css_set_dfl_cgrp));
        // SAFETY: the value is only tested for presence.
        if unsafe { CGROUPS.get(&cgroup) }.is_none() {
            return;
        }
        runtime_task()
    };
    track(ctx, child, &mut initial);
}

#[inline(always)]
fn track(ctx: &impl EbpfContext, task: *mut task_struct, initial: &mut Task) {
    if TASKS.get_or_insert(task, initial).is_some() {
        count(status::STARTED);
    } else {
        count(status::UNTRACKED);
        warn!(ctx, "no room to follow a new task of process {}", bpf_get_current_pid_tgid() >> 32);
    }
    // Also for a task whose kernel stack was another's before.
    count(status::GENERATION);
}

/// A task that an OCI runtime, which is running now, puts into the container.
#[inline(always)]
fn runtime_task() -> Task {
    Task {
        stage: STAGE_RUNTIME,
        program: PROGRAM_OTHER,
        flags: 0,
        launches: 0,
        namespace: mount_namespace(current() as u64),
        pid_namespace: 0,
        net_namespace: 0,
        registers: 0,
        asked: Asked::default(),
    }
}

#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn sched_process_exit(_: BtfTracePointContext) -> i32 {
    ended();
    0
}

/// The running task ends (`do_exit`).
#[inline(always)]
pub(crate) fn ended() {
    if TASKS.get(current()).is_some() {
        count(status::ENDED);
        count(status::GENERATION);
    }
}

#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    executed(&ctx, || read(ctx.arg::<u64>(2), offset!(binprm_filename)));
    0
}

/// The running task has executed the program at `path`. The workload starts at the execve that leaves the
/// runtime's mount namespace behind: the runtime's own re-executions happen in it, the entrypoint's does not.
#[inline(always)]
pub(crate) fn executed(ctx: &impl EbpfContext, path: impl Fn() -> u64) {
    let task = current();
    let Some(state) = TASKS.get(task) else { return };
    if state.stage != STAGE_WORKLOAD {
        if state.stage == STAGE_RUNTIME && state.namespace == mount_namespace(task as u64) {
            return;
        }
        if state.stage == STAGE_LAUNCHER && state.launches > 0 {
            state.launches -= 1;
            return;
        }
        let cred: u64 = read(task as u64, offset!(task_real_cred));
        let namespaces: u64 = read(task as u64, offset!(task_nsproxy));
        state.namespace = read(cred, offset!(cred_user_ns));
        state.pid_namespace = read(namespaces, offset!(nsproxy_pid_ns));
        state.net_namespace = read(namespaces, offset!(nsproxy_net_ns));
        state.stage = STAGE_WORKLOAD;
        state.flags = 0;
        debug!(ctx, "the workload begins with process {}", bpf_get_current_pid_tgid() >> 32);
    }
    state.flags &= !TASK_READ_CAPABILITIES;
    state.program = program(path());
    count(status::GENERATION);
}

/// The index of the program at this path, given out at its first execve.
#[inline(always)]
fn program(path: u64) -> u32 {
    let Some(scratch) = PATH_SCRATCH.get_ptr_mut(0) else { return PROGRAM_OTHER };
    // SAFETY: per-processor scratch space; this program does not nest on a processor.
    let key = unsafe { &mut *scratch };
    // SAFETY: a null source only zeroes the buffer.
    unsafe {
        bpf_probe_read_kernel((&raw mut key.bytes).cast(), PATH as u32, core::ptr::null());
        bpf_probe_read_kernel_str((&raw mut key.bytes).cast(), PATH as u32, path as *const _);
    }
    // SAFETY: entries are never removed.
    if let Some(index) = unsafe { PATHS.get(&*key) } {
        return *index;
    }
    let Some(used) = STATUS.get_ptr_mut(status::PROGRAMS_USED) else { return PROGRAM_OTHER };
    let index = add(used) as u32 + PROGRAM_FIRST;
    if index as usize >= PROGRAMS || PATHS.insert(&*key, &index, 0).is_err() {
        count(status::PROGRAMS_FULL);
        return PROGRAM_OTHER;
    }
    if let Some(mut event) = EVENTS.reserve(0) {
        let place: *mut ExecEvent = event.as_mut_ptr();
        // SAFETY: reserved for one event; all of it is written.
        unsafe {
            (*place).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
            (*place).program = index;
            (*place).path = *key;
        }
        event.submit(0);
    } else {
        count(status::EXEC_EVENTS_DROPPED);
    }
    index
}

/// How far up a container's cgroup is looked for from the one that a task enters: nested containers
/// and `systemd` make cgroups of their own below it.
const MAX_DEPTH: usize = 8;
/// Where the id stands in a cgroup's name: at the start (docker's cgroupfs driver), behind `crio-`,
/// behind `docker-` or `libpod-`, behind `cri-containerd-`.
const ID_OFFSETS: [usize; 4] = [0, 5, 7, 15];

/// Whether a cgroup is the container's or below it.
#[inline(always)]
fn is_container(cgroup: u64) -> bool {
    let Some(container) = CONTAINER.get(0) else { return false };
    if container.armed == 0 {
        return false;
    }
    let Some(scratch) = NAME_SCRATCH.get_ptr_mut(0) else { return false };
    let mut node: u64 = read(cgroup, offset!(cgroup_kn));
    for _ in 0..MAX_DEPTH {
        if node == 0 {
            return false;
        }
        // SAFETY: per-processor scratch space of the cgroup programs, which run under a spin lock
        // (TRACE_CGROUP_PATH, kernel/cgroup/cgroup-internal.h); the helper checks the address.
        unsafe {
            let name: u64 = read(node, offset!(kernfs_node_name));
            bpf_probe_read_kernel_str((&raw mut (*scratch).bytes).cast(), PATH as u32, name as *const _);
        }
        for offset in ID_OFFSETS {
            // SAFETY: the largest offset and an id fit into a path.
            if unsafe { same_id((&raw const (*scratch).bytes).byte_add(offset).cast(), &container.id) } {
                return true;
            }
        }
        node = read(node, offset!(kernfs_node_parent));
    }
    false
}

/// Compares without a branch per byte, which the verifier would have to follow.
///
/// # Safety
///
/// `name` has [`CONTAINER_ID`] readable bytes.
#[inline(always)]
unsafe fn same_id(name: *const u64, id: &[u8; CONTAINER_ID]) -> bool {
    let id: *const u64 = id.as_ptr().cast();
    let mut difference = 0;
    for word in 0..CONTAINER_ID / 8 {
        // SAFETY: the caller's promise.
        difference |= unsafe { name.add(word).read_unaligned() ^ id.add(word).read_unaligned() };
    }
    difference == 0
}

/// A runtime moves the container's first process, or that of `docker exec`, into its cgroup.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub(crate) fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    let task = ctx.arg::<*mut task_struct>(2);
    if TASKS.get(task).is_none() && is_container(ctx.arg(0)) {
        debug!(
            &ctx,
            "a runtime's process {} entered the container's cgroup",
            bpf_get_current_pid_tgid() >> 32
        );
        track(&ctx, task, &mut runtime_task());
    }
    0
}

/// Remembers the container's cgroups for `task_newtask`, and that the workload makes its own.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub(crate) fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    if is_container(ctx.arg(0)) {
        let _ = CGROUPS.insert(&ctx.arg::<u64>(0), &1, 0);
    }
    crate::paths::cgroup_made();
    0
}
