//! Who belongs to the workload: its tasks by descent, and a container's by its cgroup.

use crate::{
    attach::unmarked,
    maps::{CONTAINER, EVENTS, PATH_SCRATCH, PATHS, count, offset, read},
    tasks::{TASKS, current, next_program},
};
use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, task_struct},
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use probe_ebpf::{
    Asked, CONTAINER_ID, ExecEvent, PATH, PROGRAM_OTHER, PROGRAMS, ProgramPath, STAGE_LAUNCHER,
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
    index_of(key, (bpf_get_current_pid_tgid() >> 32) as u32)
}

/// The index of the program at this path, which that process runs.
#[inline(always)]
pub(crate) fn index_of(key: &ProgramPath, pid: u32) -> u32 {
    // SAFETY: entries are only removed while there is no workload.
    if let Some(index) = unsafe { PATHS.get(key) } {
        return *index;
    }
    let Some(index) = next_program() else { return PROGRAM_OTHER };
    if index as usize >= PROGRAMS || PATHS.insert(key, &index, u64::from(BPF_NOEXIST)).is_err() {
        // Another processor may have given it one just now, under which its calls are looked for.
        // SAFETY: as above.
        if let Some(index) = unsafe { PATHS.get(key) } {
            return *index;
        }
        count(status::PROGRAMS_FULL);
        return PROGRAM_OTHER;
    }
    if let Some(mut event) = EVENTS.reserve(0) {
        let place: *mut ExecEvent = event.as_mut_ptr();
        // SAFETY: reserved for one event; all of it is written.
        unsafe {
            (*place).pid = pid;
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
/// Words of a name that are looked at: the longest prefix of an id, the id, and room to align it.
const NAME_WORDS: usize = 11;
pub(crate) const ID_WORDS: usize = CONTAINER_ID / 8;

/// The id of the container to find, when there is one.
#[inline(always)]
pub(crate) fn wanted() -> Option<&'static [u64; ID_WORDS]> {
    let container = CONTAINER.get(0)?;
    // SAFETY: an id is that long, and a map's value aligned to eight bytes.
    (container.armed != 0).then(|| unsafe { &*container.id.as_ptr().cast() })
}

/// Whether a cgroup is the container's or below it: 1 or 0.
#[inline(always)]
pub(crate) fn is_container(cgroup: u64, id: &[u64; ID_WORDS]) -> u64 {
    if cfg!(feature = "hash") {
        // Global functions take numbers. This makes one of a pointer.
        is_wanted(read((&raw const cgroup) as u64, 0))
    } else {
        is_below(cgroup, id)
    }
}

/// The same, of the container to find. What is global is verified once for all its callers (`do_check_subprogs`,
/// kernel/bpf/verifier.c). Older verifiers take seconds to follow each call, where there are many.
#[inline(never)]
#[cfg_attr(feature = "hash", unsafe(no_mangle))]
extern "C" fn is_wanted(cgroup: u64) -> u64 {
    wanted().map_or(0, |id| is_below(cgroup, id))
}

/// Without a way out on the way up, which the verifier would follow to the caller's end: above the root all reads
/// give zero, and the name is empty.
#[cfg_attr(feature = "hash", inline(always))]
#[cfg_attr(not(feature = "hash"), inline(never))]
fn is_below(cgroup: u64, id: &[u64; ID_WORDS]) -> u64 {
    let mut found = 0;
    let mut node: u64 = read(cgroup, offset!(cgroup_kn));
    for _ in 0..MAX_DEPTH {
        found |= is_named(read(node, offset!(kernfs_node_name)), id);
        node = read(node, offset!(kernfs_node_parent));
    }
    found
}

/// Whether the id stands in a cgroup's name: at the start (docker's cgroupfs driver), behind `crio-`, behind
/// `docker-` or `libpod-`, behind `cri-containerd-`. A function of its own for its stack's sake.
#[inline(never)]
fn is_named(name: u64, id: &[u64; ID_WORDS]) -> u64 {
    // Each prefix ends at a whole word when the name begins at the place beside it.
    stands_at(id, &name_at(name, 0), 0)
        | stands_at(id, &name_at(name, 3), (3 + 5) / 8)
        | stands_at(id, &name_at(name, 1), (1 + 7) / 8)
        | stands_at(id, &name_at(name, 1), (1 + 15) / 8)
}

/// A name from that byte on, between zeroes: the helper leaves what is behind a shorter one.
#[inline(always)]
fn name_at(name: u64, place: usize) -> [u64; NAME_WORDS] {
    let mut words = [0; NAME_WORDS];
    let bytes: *mut u8 = words.as_mut_ptr().cast();
    // SAFETY: the rest of the buffer is that long; the helper checks the address.
    unsafe {
        bpf_probe_read_kernel_str(bytes.add(place).cast(), (NAME_WORDS * 8 - 8) as u32, name as *const _);
    }
    words
}

/// 1 when the id stands at that word, else 0; without a branch, which the verifier would have to follow.
#[inline(always)]
fn stands_at(id: &[u64; ID_WORDS], words: &[u64; NAME_WORDS], place: usize) -> u64 {
    let mut difference = 0;
    for (word, of_id) in words[place..].iter().zip(id) {
        difference |= word ^ of_id;
    }
    // The sign of a number or of its negative is set unless it is zero. The compiler, where it sees that the two are
    // one, makes a comparison of it, for which this processor has branches only.
    let place = &raw const difference;
    // SAFETY: from a variable.
    let (one, other) = unsafe { (place.read_volatile(), place.read_volatile()) };
    ((one | other.wrapping_neg()) >> 63) ^ 1
}

/// A runtime moves the container's first process, or that of `docker exec`, into its cgroup.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub(crate) fn cgroup_attach_task(ctx: BtfTracePointContext) -> i32 {
    let task = ctx.arg::<*mut task_struct>(2);
    if TASKS.get(task).is_none() && wanted().is_some_and(|id| is_container(ctx.arg(0), id) != 0) {
        debug!(
            &ctx,
            "a runtime's process {} entered the container's cgroup",
            bpf_get_current_pid_tgid() >> 32
        );
        // Who moves itself was there already.
        let mut initial = unmarked(current()).unwrap_or_else(runtime_task);
        track(&ctx, task, &mut initial);
    }
    0
}

/// The workload makes a cgroup of its own.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub(crate) fn cgroup_mkdir(_: BtfTracePointContext) -> i32 {
    crate::paths::cgroup_made();
    0
}
