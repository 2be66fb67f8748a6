//! From an open file to its path: up the directory entries, and down again for their names.

use crate::offsets::{offset, read};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use probe_ebpf::{OPENED_DEPTH, OPENED_PATH, Walk, magic};

/// Bytes read of one name, with the closing zero.
const NAME: usize = 64;
/// The first byte at which a whole name no longer fits.
const LAST: usize = OPENED_PATH - NAME;

/// Notes the directory entries from the file up to the root; how many there are.
#[inline(always)]
pub(crate) fn ascend(file: u64, walk: &mut Walk) -> Option<u32> {
    // Up to the root of the file system, so that a bind mount (the engine's own, say) does not hide
    // where the file is; but a cgroup namespace's root is the root of its mount.
    let root: u64 = match magic(walk) {
        magic::CGROUP | magic::CGROUP2 => read(read(file, offset!(file_mount)), offset!(mount_root)),
        _ => 0,
    };
    let mut entry: u64 = read(file, offset!(file_entry));
    for depth in 0..OPENED_DEPTH {
        let parent: u64 = read(entry, offset!(entry_parent));
        if parent == 0 {
            return None;
        }
        if parent == entry || entry == root {
            return Some(depth as u32);
        }
        walk.entries[depth] = entry;
        entry = parent;
    }
    None
}

/// Writes the names from the root down; false when it was found not to matter.
#[inline(always)]
pub(crate) fn descend(depth: u32, walk: &mut Walk) -> bool {
    const PID: u64 = u64::from_le_bytes(*b"PID\0\0\0\0\0");
    const TID: u64 = u64::from_le_bytes(*b"TID\0\0\0\0\0");
    let path: *mut u8 = (&raw mut walk.key.path).cast();
    let process = magic(walk) == magic::PROC;
    let mut in_process = false;
    let mut end = 0;
    for step in 0..OPENED_DEPTH as u32 {
        if step >= depth {
            return true;
        }
        if end > LAST {
            break;
        }
        let name: u64 = read(entry(walk, depth - 1 - step), offset!(entry_name));
        // SAFETY: NAME bytes from `end` are within the path, by the check above.
        let place = unsafe { path.add(end) };
        // SAFETY: as above; the helper checks the source.
        let length = unsafe { bpf_probe_read_kernel_str(place.cast(), NAME as u32, name as *const _) };
        if length < 2 || length >= NAME as i64 {
            // SAFETY: within the path.
            unsafe { *place = 0 };
            break;
        }
        end += length as usize & (NAME - 1);
        // A process or thread id has at most seven digits (PID_MAX_LIMIT), so a word covers it.
        // SAFETY: within the path.
        let digit = unsafe { (*place).wrapping_sub(b'0') } < 10;
        if process && digit && (step == 0 || step == 2 && in_process) {
            if walk.key.write == 0 {
                return false;
            }
            in_process = true;
            let word = if step == 0 { PID } else { TID };
            // SAFETY: within the path.
            unsafe { place.cast::<u64>().write_unaligned(word) };
            end = if step == 0 { 4 } else { end - (length as usize & (NAME - 1)) + 4 };
        }
    }
    walk.key.truncated = 1;
    true
}

/// The kind of file system, read again. The verifier follows a program once for each value that it knows of
/// such a number; of one in a map it knows none.
#[inline(always)]
pub(crate) fn magic(walk: &Walk) -> u32 {
    // SAFETY: a reference is readable.
    unsafe { (&raw const walk.key.magic).read_volatile() }
}

/// Passes a number through the map, for the same reason.
#[inline(always)]
pub(crate) fn forget_depth(walk: &mut Walk, depth: u32) -> u32 {
    // SAFETY: from a reference.
    unsafe { (&raw mut walk.depth).write_volatile(u64::from(depth)) };
    self::depth(walk)
}

/// The number that was passed last.
#[inline(always)]
pub(crate) fn depth(walk: &Walk) -> u32 {
    // SAFETY: from a reference.
    unsafe { (&raw const walk.depth).read_volatile() as u32 }
}

#[inline(always)]
pub(crate) fn entry(walk: &Walk, index: u32) -> u64 {
    walk.entries[index as usize & (walk.entries.len() - 1)]
}
