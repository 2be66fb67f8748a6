//! Which tasks a container's cgroup brings in.

use crate::{
    attach::unmarked,
    identity::{runtime_task, track},
    maps::CONTAINER,
    offsets::{offset, read},
    tasks::{TASKS, current},
};
use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel_str},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use probe_ebpf::CONTAINER_ID;

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
