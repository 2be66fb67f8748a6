//! The functions that ask `cap_capable` without calling it, because the compiler copied it into them.

use anyhow::{Context as _, Result};
use aya::{
    Btf,
    maps::{HashMap, MapData},
};
use probe_ebpf::{STAGE_WORKLOAD, Task};

use super::{
    decode::PlainCapability,
    hooks::{self, Fact, Hook, Kind, Placed},
    load::{Probe, no_way},
    object,
};
use crate::capability::Capability;

/// A function of security/commoncap.c, how to make it ask, and what sees it being called.
struct Direct {
    asks_for: Capability,
    ask: fn(),
    trampoline: &'static [Placed],
    kprobe: &'static [Placed],
}

const DIRECT: [Direct; 2] = [
    Direct {
        asks_for: Capability::SETPCAP,
        ask: set_secure_bits,
        trampoline: &[("cap_task_prctl_fentry", Hook::Entry("cap_task_prctl"))],
        kprobe: &[("cap_task_prctl_kprobe", Hook::Kprobe("cap_task_prctl"))],
    },
    Direct {
        asks_for: Capability::SYS_RAWIO,
        ask: map_low,
        trampoline: &[("cap_mmap_addr_fentry", Hook::Entry("cap_mmap_addr"))],
        kprobe: &[("cap_mmap_addr_kprobe", Hook::Kprobe("cap_mmap_addr"))],
    },
];

/// `vm.mmap_min_addr`; zero where nothing is asked.
pub(super) fn least_address() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/vm/mmap_min_addr").unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// Sets the secure bits that are set already.
fn set_secure_bits() {
    // SAFETY: both take and return integers; nothing changes.
    unsafe { libc::prctl(libc::PR_SET_SECUREBITS, libc::prctl(libc::PR_GET_SECUREBITS)) };
}

/// Maps a page below `vm.mmap_min_addr`, and unmaps it.
fn map_low() {
    const PAGE: usize = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: takes the place of no other mapping, and nobody can access it.
    let place = unsafe { libc::mmap(PAGE as *mut libc::c_void, PAGE, libc::PROT_NONE, flags, -1, 0) };
    if place != libc::MAP_FAILED {
        // SAFETY: mapped just now.
        unsafe { libc::munmap(place, PAGE) };
    }
}

impl Probe {
    /// Attaches to the functions whose checks the hook at `cap_capable` does not see, found out by making each
    /// of them ask. A tracepoint was copied along.
    pub(super) fn attach_direct(&mut self, btf: &Btf, kind: Kind) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for direct in DIRECT {
            let programs = match kind {
                Kind::Trampoline => direct.trampoline,
                Kind::Kprobe => direct.kprobe,
                _ => continue,
            };
            if !self.sees(&direct)? {
                names.extend(
                    hooks::attach_all(&mut self.ebpf, btf, programs)
                        .map_err(|error| no_way(Fact::Capabilities, vec![error]))?,
                );
            }
        }
        Ok(names)
    }

    fn sees(&mut self, direct: &Direct) -> Result<bool> {
        let ours = Task { stage: STAGE_WORKLOAD, ..Task::default() };
        self.mark(&ours).context("cannot mark unpriv itself")?;
        (direct.ask)();
        self.unmark().context("cannot unmark unpriv itself")?;
        let map = object::map_mut(&mut self.ebpf, "CAPABILITIES")?;
        let mut checks: HashMap<&mut MapData, PlainCapability, u64> = HashMap::try_from(map)?;
        let seen: Vec<PlainCapability> = checks.keys().collect::<Result<_, _>>()?;
        for key in &seen {
            checks.remove(key)?;
        }
        Ok(seen.iter().any(|key| key.0.capability == direct.asks_for.number()))
    }
}
