//! A profile's devices as device-cgroup rules: an eBPF program for cgroup v2, lines for v1.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    probe::device_program::Instruction,
    profile::Device,
    trace::{Access, DeviceType},
};

/// One rule of a device cgroup; displays as v1 writes it, `c 136:* rwm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    kind: DeviceType,
    /// `None` is every one.
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

const MKNOD: Access = Access { read: false, write: false, mknod: true };
const ALL: Access = Access { read: true, write: true, mknod: true };

/// What every container may use, by character device number: null, zero, full, random, urandom, tty, ptmx,
/// pts (runc specconv `AllowedDevices`, crun `default_devices`).
const BASE: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{} {}:{} {}", self.kind.letter(), number(self.major), number(self.minor), self.access)
    }
}

/// The rules for these devices and for what every container may use; all else is denied.
pub(super) fn rules(devices: &BTreeSet<Device>) -> Vec<Rule> {
    let mut rules: BTreeMap<(DeviceType, Option<u32>, Option<u32>), Access> = BTreeMap::new();
    let base = BASE.map(|(major, minor)| (DeviceType::Character, Some(major), minor, ALL));
    let nodes = [DeviceType::Block, DeviceType::Character].map(|kind| (kind, None, None, MKNOD));
    let needed = devices.iter().map(|device| (device.kind, Some(device.major), device.minor, device.access));
    for (kind, major, minor, access) in base.into_iter().chain(nodes).chain(needed) {
        let rule = rules.entry((kind, major, minor)).or_default();
        *rule = rule.union(access);
    }
    // The kernel wants one rule for all of an access: reading and writing at once is not the sum of two.
    let wider = rules.clone();
    rules
        .into_iter()
        .map(|((kind, major, minor), access)| {
            let covering = [(kind, None, None), (kind, major, None)];
            let access =
                covering.iter().filter_map(|key| wider.get(key)).fold(access, |all, &one| all.union(one));
            Rule { kind, major, minor, access }
        })
        .collect()
}

/// The rules as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, which answers 1 to let an access through.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    // r1 is `struct bpf_cgroup_dev_ctx`: access << 16 | type, major, minor.
    let mut program = vec![
        load(KIND, 0),
        instruction(0xbf, ACCESS, KIND, 0, 0), // ACCESS = KIND
        instruction(0x57, KIND, 0, 0, 0xffff), // KIND &= 0xffff
        instruction(0x77, ACCESS, 0, 0, 16),   // ACCESS >>= 16
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules {
        // BPF_DEVCG_DEV_BLOCK and _CHAR; BPF_DEVCG_ACC_MKNOD, _READ and _WRITE.
        let kind = match rule.kind {
            DeviceType::Block => 1,
            DeviceType::Character => 2,
        };
        let Access { read, write, mknod } = rule.access;
        let refused = u32::from(!mknod) | u32::from(!read) << 1 | u32::from(!write) << 2;
        let tests =
            [(MAJOR, rule.major), (MINOR, rule.minor)].into_iter().filter_map(|(register, number)| {
                number.map(|number| move |skip| instruction(0x55, register, 0, skip, number)) // if != skip
            });
        let tests: Vec<_> = tests.collect();
        // What is left of the rule after each of its jumps.
        let mut left = i16::try_from(tests.len()).unwrap_or_default() + 2;
        program.push(instruction(0x55, KIND, 0, left + 3, kind));
        program.push(instruction(0xbf, SCRATCH, ACCESS, 0, 0)); // SCRATCH = ACCESS
        program.push(instruction(0x57, SCRATCH, 0, 0, refused)); // SCRATCH &= refused
        program.push(instruction(0x55, SCRATCH, 0, left, 0));
        for test in tests {
            left -= 1;
            program.push(test(left));
        }
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn answer(allowed: u32) -> [Instruction; 2] {
    [instruction(0xb7, 0, 0, 0, allowed), instruction(0x95, 0, 0, 0, 0)]
}

/// `register = *(u32 *)(r1 + offset)`
fn load(register: u8, offset: i16) -> Instruction {
    instruction(0x61, register, 1, offset, 0)
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> Instruction {
    u64::from(code)
        | u64::from(source << 4 | destination) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: DeviceType, major: u32, minor: Option<u32>, access: &str) -> Device {
        Device { kind, major, minor, access: access.to_owned().try_into().unwrap(), path: None }
    }

    fn lines(devices: &[Device]) -> Vec<String> {
        rules(&devices.iter().cloned().collect()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_command_may_use_what_every_container_may() {
        assert_eq!(
            lines(&[]),
            [
                "b *:* m",
                "c *:* m",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:2 rwm",
                "c 136:* rwm"
            ]
        );
    }

    #[test]
    fn the_access_of_a_family_counts_for_each_of_its_members() {
        let lines = lines(&[
            device(DeviceType::Block, 7, None, "r"),
            device(DeviceType::Block, 7, Some(0), "w"),
            device(DeviceType::Character, 10, Some(229), "rw"),
        ]);
        for line in ["b 7:* rm", "b 7:0 rwm", "c 10:229 rwm"] {
            assert!(lines.iter().any(|l| l == line), "{line}: {lines:?}");
        }
    }
}
