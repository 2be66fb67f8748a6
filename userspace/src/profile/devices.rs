//! Which devices a workload needs beyond those that every container has.

use std::collections::{BTreeMap, BTreeSet};

use super::Device;
use crate::trace::{Access, DeviceAccess, DeviceType, Trace};

/// Devices that every OCI runtime allows (runc `AllowedDevices`, crun `default_devices`): null, zero,
/// full, random, urandom, tty, ptmx; and the pseudo-terminals, major 136.
const BASE: [(u32, u32); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
const PSEUDO_TERMINALS: u32 = 136;

/// `LOOP_MAJOR`.
const LOOP_MAJOR: u32 = 7;

/// Whether every container may use this device.
#[must_use]
pub fn is_base(kind: DeviceType, major: u32, minor: u32) -> bool {
    kind == DeviceType::Character && (BASE.contains(&(major, minor)) || major == PSEUDO_TERMINALS)
}

/// The devices that the workload used, each with the union of its accesses. Creating a node is free
/// under every runtime (`c *:* m`), so `m` alone needs no device. What the workload makes a node for itself needs
/// none of the host's, which may not be there at every start: a device that comes while it runs.
pub(super) fn needed_devices(trace: &Trace) -> BTreeSet<Device> {
    let mut used: BTreeMap<(DeviceType, u32, Option<u32>), Access> = BTreeMap::new();
    let mut made = BTreeSet::new();
    for device in trace.devices.keys() {
        if is_base(device.kind, device.major, device.minor) {
            continue;
        }
        let family =
            trace.picks_loop_devices && device.kind == DeviceType::Block && device.major == LOOP_MAJOR;
        let minor = (!family).then_some(device.minor);
        let access = used.entry((device.kind, device.major, minor)).or_default();
        *access = access.union(Access { mknod: false, ..device.access });
        if device.access.mknod {
            made.insert((device.kind, device.major, minor));
        }
    }
    used.into_iter()
        .filter(|(_, access)| !access.is_empty())
        .map(|((kind, major, minor), access)| Device {
            kind,
            major,
            minor,
            access,
            path: minor
                .filter(|_| !made.contains(&(kind, major, minor)))
                .and_then(|minor| trace.device_node(kind, major, minor)),
        })
        .collect()
}

impl Device {
    /// As the device cgroup writes it, without the access: `c 10:229`, `b 7:*`.
    #[must_use]
    pub fn rule(&self) -> String {
        match self.minor {
            Some(minor) => format!("{} {}:{minor}", self.kind.letter(), self.major),
            None => format!("{} {}:*", self.kind.letter(), self.major),
        }
    }

    /// Whether this grant is for the device of that access.
    #[must_use]
    pub fn covers(&self, access: &DeviceAccess) -> bool {
        self.kind == access.kind
            && self.major == access.major
            && self.minor.is_none_or(|minor| minor == access.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    fn access(letters: &str, syscall: &str) -> DeviceAccess {
        DeviceAccess {
            kind: DeviceType::Block,
            major: 253,
            minor: 0,
            access: Access::try_from(letters.to_owned()).unwrap(),
            program: "/bin/dd".to_owned(),
            abi: Abi::X86_64,
            syscall: Some(syscall.to_owned()),
        }
    }

    #[test]
    fn a_node_that_the_workload_makes_is_not_asked_of_the_host() {
        let mut trace = Trace::empty();
        trace.device_nodes.insert("b 253:0".to_owned(), "/dev/nullb0".to_owned());
        trace.devices.add(access("r", "openat"), 1);
        let path = |trace: &Trace| needed_devices(trace).first().unwrap().path.clone();
        assert_eq!(path(&trace).as_deref(), Some("/dev/nullb0"));
        trace.devices.add(access("m", "mknodat"), 1);
        assert_eq!(path(&trace), None);
        assert_eq!(needed_devices(&trace).first().unwrap().access.to_string(), "r");
    }
}
