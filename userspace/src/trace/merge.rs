//! The union of two traces.

use super::Trace;

impl Trace {
    /// A trace of nothing: what merging starts from.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            version: super::VERSION,
            complete: true,
            lost: std::collections::BTreeSet::new(),
            runs: std::collections::BTreeSet::new(),
            programs: std::collections::BTreeMap::new(),
            syscalls: std::collections::BTreeMap::new(),
            runtime_syscalls: std::collections::BTreeSet::new(),
            capabilities: super::Facts::default(),
            capability_sets: super::Facts::default(),
            devices: super::Facts::default(),
            device_nodes: std::collections::BTreeMap::new(),
            picks_loop_devices: false,
            failures: None,
        }
    }

    /// Adds all that `other` saw.
    pub fn merge(&mut self, other: Self) {
        self.version = self.version.max(other.version);
        self.complete &= other.complete;
        self.lost.extend(other.lost);
        self.runs.extend(other.runs);
        for (path, program) in other.programs {
            let mine = self.programs.entry(path).or_default();
            mine.file_capabilities = mine.file_capabilities.take().max(program.file_capabilities);
            mine.set_id |= program.set_id;
            mine.unread |= program.unread;
        }
        for (abi, calls) in other.syscalls {
            let mine = self.syscalls.entry(abi).or_default();
            for (name, used) in calls {
                let seen = mine.entry(name).or_default();
                seen.count = seen.count.max(used.count);
                seen.programs.extend(used.programs);
            }
        }
        self.runtime_syscalls.extend(other.runtime_syscalls);
        self.capabilities.merge(other.capabilities);
        self.capability_sets.merge(other.capability_sets);
        self.devices.merge(other.devices);
        for (device, node) in other.device_nodes {
            let mine = self.device_nodes.entry(device).or_insert_with(|| node.clone());
            // Of two names the smaller, whichever trace comes first.
            if node < *mine {
                *mine = node;
            }
        }
        self.picks_loop_devices |= other.picks_loop_devices;
        self.failures = match (self.failures.take(), other.failures) {
            (Some(mut mine), Some(theirs)) => {
                mine.merge(theirs);
                Some(mine)
            }
            (mine, theirs) => mine.or(theirs),
        };
    }
}
