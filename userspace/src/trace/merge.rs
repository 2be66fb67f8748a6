//! The union of two traces.

use super::{Facts, Trace};

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
            capabilities: Facts::default(),
            capability_sets: Facts::default(),
            devices: Facts::default(),
            device_nodes: std::collections::BTreeMap::new(),
            picks_loop_devices: false,
            paths: None,
            mounts: None,
            refusals: Facts::default(),
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
        merge_recorded(&mut self.paths, other.paths);
        merge_recorded(&mut self.mounts, other.mounts);
        self.refusals.merge(other.refusals);
        merge_recorded(&mut self.failures, other.failures);
    }
}

/// What only one of two traces recorded is what both saw.
fn merge_recorded<T: Ord>(mine: &mut Option<Facts<T>>, theirs: Option<Facts<T>>) {
    if let Some(theirs) = theirs {
        mine.get_or_insert_default().merge(theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::PathAccess;

    fn traces() -> Vec<Trace> {
        let opened = |path: &str, write| PathAccess {
            path: path.to_owned(),
            write,
            foreign: false,
            program: "/bin/sh".to_owned(),
        };
        let with = |paths| Trace { paths, ..Trace::empty() };
        let one = opened("/proc/sys/net/ipv4/ip_forward", true);
        vec![
            with(None),
            with(Some(Facts::default())),
            with(Some([(one.clone(), 1)].into_iter().collect())),
            with(Some([(one, 3), (opened("/proc/timer_list", false), 2)].into_iter().collect())),
        ]
    }

    fn merged(mut one: Trace, other: &Trace) -> Trace {
        one.merge(other.clone());
        one
    }

    #[test]
    fn merging_paths_is_commutative_associative_and_idempotent() {
        let traces = traces();
        for a in &traces {
            assert_eq!(&merged(a.clone(), a), a);
            for b in &traces {
                assert_eq!(merged(a.clone(), b), merged(b.clone(), a));
                for c in &traces {
                    assert_eq!(merged(merged(a.clone(), b), c), merged(a.clone(), &merged(b.clone(), c)));
                }
            }
        }
    }

    #[test]
    fn unrecorded_paths_stay_unrecorded() {
        assert_eq!(merged(Trace::empty(), &Trace::empty()).paths, None);
    }
}
