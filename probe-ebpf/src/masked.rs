//! Which files opened for reading may be below a path that an engine masks.

use crate::{
    offsets::{offset, read},
    walk::{entry, magic as kind},
};
use probe_ebpf::{Walk, magic};

/// The first bytes of a path, and which of them count.
const fn beginning(name: &[u8]) -> (u64, u64) {
    let (mut word, mut mask, mut index) = (0, 0, 0);
    while index < name.len() {
        word |= (name[index] as u64) << (8 * index);
        mask |= 0xff << (8 * index);
        index += 1;
    }
    (word, mask)
}

/// Beginnings of the masked names in /proc.
const MASKED: [(u64, u64); 10] = [
    beginning(b"acpi\0"),
    beginning(b"asound\0"),
    beginning(b"interrup"),
    beginning(b"kcore\0"),
    beginning(b"keys\0"),
    beginning(b"latency_"),
    beginning(b"sched_de"),
    beginning(b"scsi\0"),
    beginning(b"timer_li"),
    beginning(b"timer_st"),
];

/// Whether a file opened for reading may be below what an engine masks. Keeps the thousands of other
/// reads out of the map; userspace looks closer.
#[inline(always)]
pub(crate) fn may_be_masked(depth: u32, walk: &Walk) -> bool {
    const DEVICES: u64 = u64::from_le_bytes(*b"devices\0");
    let words: *const u64 = (&raw const walk.key.path).cast();
    // SAFETY: the path is longer than three words.
    let [first, second, third] = unsafe { words.cast::<[u64; 3]>().read_unaligned() };
    match kind(walk) {
        magic::SELINUX => true,
        magic::PROC => {
            let mut found = 0;
            for (word, mask) in MASKED {
                found |= u32::from((first ^ word) & mask == 0);
            }
            found != 0
        }
        magic::SYSFS if first == DEVICES && second == u64::from_le_bytes(*b"virtual\0") => {
            third == u64::from_le_bytes(*b"powercap")
        }
        // /devices/system/cpu/cpu0/thermal_throttle
        magic::SYSFS if first == DEVICES && second == u64::from_le_bytes(*b"system\0c") && depth >= 5 => {
            let name: u64 = read(entry(walk, depth - 5), offset!(entry_name));
            read::<u64>(name, 0) == u64::from_le_bytes(*b"thermal_")
        }
        magic::SYSFS => first == u64::from_le_bytes(*b"firmware"),
        _ => false,
    }
}
