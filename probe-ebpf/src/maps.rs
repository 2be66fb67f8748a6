//! The maps, and the small operations every program needs.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use probe_ebpf::{
    ABIS, Attach, CapabilityKey, CapabilitySetKey, Container, Counts, DeviceKey, EXECUTABLES, ExecEvent,
    FailureKey, MountKey, MountSeen, MountValue, OpenedKey, PROGRAMS, ProgramPath, SYSCALLS, Seen, Walk,
    status,
};

#[btf_map]
pub(crate) static SEEN: Array<Seen, { PROGRAMS }> = Array::new();
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<Counts, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static PATHS: HashMap<ProgramPath, u32, { PROGRAMS }> = HashMap::new();
#[btf_map]
pub(crate) static PATH_SCRATCH: PerCpuArray<ProgramPath, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static CAPABILITIES: HashMap<CapabilityKey, u64, 8192> = HashMap::new();
#[btf_map]
pub(crate) static ARGUMENTS: Array<[u8; ABIS * SYSCALLS], 1> = Array::new();
#[btf_map]
pub(crate) static CAPABILITY_SETS: HashMap<CapabilitySetKey, u64, 1024> = HashMap::new();
#[btf_map]
pub(crate) static DEVICES: HashMap<DeviceKey, u64, 4096> = HashMap::new();
#[btf_map]
pub(crate) static FAILURES: HashMap<FailureKey, u64, 8192> = HashMap::new();
#[btf_map]
pub(crate) static OPENED: HashMap<OpenedKey, u64, 4096> = HashMap::new();
#[btf_map]
pub(crate) static OPENED_SCRATCH: PerCpuArray<Walk, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static CGROUP_SCRATCH: PerCpuArray<OpenedKey, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static MOUNTS: HashMap<MountKey, MountValue, 2048> = HashMap::new();
#[btf_map]
pub(crate) static MOUNT_SCRATCH: PerCpuArray<MountSeen, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static CONTAINER: Array<Container, 1> = Array::new();
#[btf_map]
pub(crate) static ATTACH: Array<Attach, 1> = Array::new();
#[btf_map]
pub(crate) static ATTACH_SCRATCH: PerCpuArray<Walk, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static RUNNING: HashMap<u64, ProgramPath, EXECUTABLES, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();
#[btf_map]
pub(crate) static STATUS: Array<u64, { status::LENGTH as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<ExecEvent, 262_144> = RingBuf::new();

/// Adds to a status counter.
#[inline(always)]
pub(crate) fn count(index: u32) {
    if let Some(counter) = STATUS.get_ptr_mut(index) {
        add(counter);
    }
}

/// An addition that tells what was there before came with Linux 5.12; one that need not, and is not ordered, becomes
/// an instruction that every kernel has (`BPF_XADD`).
const ORDER: AtomicOrdering =
    if cfg!(feature = "hash") { AtomicOrdering::Relaxed } else { AtomicOrdering::SeqCst };

/// Adds one, atomically; what it was before, for which older kernels are not to be asked.
#[inline(always)]
pub(crate) fn add(counter: *mut u64) -> u64 {
    // SAFETY: map values are aligned to eight bytes and live as long as the program. `AtomicU64` has
    // no `fetch_add` for this target, though the instruction set does.
    unsafe { atomic_xadd::<u64, u64, { ORDER }>(counter, 1) }
}

/// Counts one sighting of a fact; a full map is counted in `full`.
#[inline(always)]
pub(crate) fn sighted<K, const N: usize>(map: &HashMap<K, u64, N>, key: &K, full: u32) {
    if let Some(seen) = map.get_ptr_mut(key) {
        add(seen);
    } else if map.insert(key, &1, 0).is_err() {
        count(full);
    }
}
