//! Who belongs to the workload: its tasks by descent, and a container's by its cgroup.

use crate::{
    attach::unmarked,
    container::{is_container, wanted},
    maps::count,
    offsets::{offset, read},
    programs::program,
    tasks::{TASKS, current},
};
use aya_ebpf::{
    EbpfContext, bindings::task_struct, helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use probe_ebpf::{
    Asked, PROGRAM_OTHER, STAGE_LAUNCHER, STAGE_RUNTIME, STAGE_WORKLOAD, TASK_READ_CAPABILITIES, Task, status,
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
        Task { registers: 0, ended: 0, asked: Asked::default(), ..*parent }
    } else {
        let cgroup = unified_cgroup(child as u64);
        // Everybody else's children are born where their parents are.
        let is_new = cgroup != unified_cgroup(current() as u64);
        if is_new && wanted().is_some_and(|id| is_container(cgroup, id) != 0) {
            runtime_task()
        } else if let Some(found) = unmarked(current()) {
            found
        } else {
            return;
        }
    };
    track(ctx, child, &mut initial);
}

/// The cgroup of a task in the unified hierarchy.
#[inline(always)]
pub(crate) fn unified_cgroup(task: u64) -> u64 {
    read(read(task, offset!(task_cgroups)), offset!(css_set_dfl_cgrp))
}

#[inline(always)]
pub(crate) fn track(ctx: &impl EbpfContext, task: *mut task_struct, initial: &mut Task) {
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
pub(crate) fn runtime_task() -> Task {
    Task {
        stage: STAGE_RUNTIME,
        program: PROGRAM_OTHER,
        flags: 0,
        launches: 0,
        namespace: mount_namespace(current() as u64),
        pid_namespace: 0,
        net_namespace: 0,
        registers: 0,
        ended: 0,
        asked: Asked::default(),
    }
}

#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn sched_process_exit(_: BtfTracePointContext) -> i32 {
    ended();
    0
}

/// Counts the end of a task, once.
#[inline(always)]
pub(crate) fn count_end(task: *mut task_struct, state: &mut Task) {
    if TASKS.end(task, state) {
        count(status::ENDED);
        count(status::GENERATION);
    }
}

/// The running task ends (`do_exit`).
#[inline(always)]
pub(crate) fn ended() {
    let task = current();
    if let Some(state) = TASKS.get(task) {
        count_end(task, state);
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
