//! One loaded kernel side for several recordings, one after the other: parsing the kernel's types and verifying the
//! programs takes longer than many a workload.

use std::cell::RefCell;

use anyhow::Result;
use aya::{
    Pod,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues},
};
use probe_ebpf::{ABIS, Container, Counts, LastTask, PROGRAM_FIRST, PROGRAMS, SYSCALLS, Seen, status};

use super::{
    decode::{
        PlainCapability, PlainCapabilitySet, PlainCounts, PlainDevice, PlainFailure, PlainPath, PlainSeen,
    },
    load::{Hooks, HostCannot, PlainContainer, Probe},
    mounts::{PlainMount, PlainValue},
    object,
    opened::PlainOpened,
    storage::TaskMap,
};

/// What recordings take their probe from.
pub struct Probes {
    hooks: Hooks,
    idle: RefCell<Option<Probe>>,
}

impl Probes {
    /// Of this kind; nothing is loaded yet.
    #[must_use]
    pub fn new(hooks: Hooks) -> Self {
        Self { hooks, idle: RefCell::new(None) }
    }

    /// One that has recorded nothing.
    ///
    /// # Errors
    ///
    /// Names what the kernel refused and the way out.
    pub fn take(&self) -> Result<Probe, HostCannot> {
        match self.idle.take() {
            Some(probe) => Ok(probe),
            None => Probe::attach(self.hooks),
        }
    }

    /// Keeps one for the next recording, once it has forgotten this one.
    pub fn put_back(&self, probe: Probe) {
        if self.hooks.attach {
            return;
        }
        self.idle.replace(probe.forget().ok().flatten());
    }
}

impl Probe {
    /// Forgets everything. `None` where that would not be the end of it, because a task of the workload is alive or
    /// one could not be followed: the next recording would see it.
    fn forget(mut self) -> Result<Option<Self>> {
        let counters = self.status.read();
        if self.alive() != 0 || counters[status::UNTRACKED as usize] != 0 {
            return Ok(None);
        }
        // First, so that nobody joins.
        let mut container: Array<&mut MapData, PlainContainer> =
            object::map_mut(&mut self.ebpf, "CONTAINER")?.try_into()?;
        container.set(0, PlainContainer(Container { id: [0; _], armed: 0 }), 0)?;
        let used = counters[status::PROGRAMS_USED as usize] + u64::from(PROGRAM_FIRST);
        let mut seen: Array<&mut MapData, PlainSeen> = object::map_mut(&mut self.ebpf, "SEEN")?.try_into()?;
        for index in 0..u32::try_from(used.min(PROGRAMS as u64))? {
            seen.set(index, PlainSeen(Seen { calls: [[0; SYSCALLS]; ABIS] }), 0)?;
        }
        let mut counts: PerCpuArray<&mut MapData, PlainCounts> =
            object::map_mut(&mut self.ebpf, "COUNTS")?.try_into()?;
        let none = Counts {
            calls: [[0; SYSCALLS]; ABIS],
            last: LastTask { registers: 0, generation: 0, program: 0 },
        };
        let processors = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        counts.set(0, PerCpuValues::try_from(vec![PlainCounts(none); processors])?, 0)?;
        self.empty::<PlainPath, u32>("PATHS")?;
        if self.task_map == TaskMap::Hash {
            self.empty::<u32, u32>("INDICES")?;
        }
        self.empty::<PlainCapability, u64>("CAPABILITIES")?;
        self.empty::<PlainCapabilitySet, u64>("CAPABILITY_SETS")?;
        self.empty::<PlainDevice, u64>("DEVICES")?;
        self.empty::<PlainFailure, u64>("FAILURES")?;
        self.empty::<PlainOpened, u64>("OPENED")?;
        self.empty::<PlainMount, PlainValue>("MOUNTS")?;
        self.executed()?;
        let mut counters: Array<&mut MapData, u64> = object::map_mut(&mut self.ebpf, "STATUS")?.try_into()?;
        for index in (0..status::LENGTH).filter(|&index| index != status::GENERATION) {
            counters.set(index, 0, 0)?;
        }
        self.skipped_before = self.skipped();
        Ok(Some(self))
    }

    fn empty<K: Pod, V: Pod>(&mut self, name: &str) -> Result<()> {
        let mut map: HashMap<&mut MapData, K, V> = object::map_mut(&mut self.ebpf, name)?.try_into()?;
        // Not while they are iterated over: removing one would begin anew.
        let keys = map.keys().collect::<Result<Vec<K>, _>>()?;
        for key in keys {
            map.remove(&key)?;
        }
        Ok(())
    }
}
