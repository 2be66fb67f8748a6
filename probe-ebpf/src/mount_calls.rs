//! The calls that mount something or move mounts about, and what their arguments are.

use crate::abi::argument;
use probe_ebpf::{SOURCE_DESCRIPTOR, TARGET_DESCRIPTOR};

const OPEN_TREE: u32 = 428;
const MOVE_MOUNT: u32 = 429;
const FSOPEN: u32 = 430;
pub(crate) const FSCONFIG: u32 = 431;
const FSMOUNT: u32 = 432;
const MOUNT_SETATTR: u32 = 442;

/// Whether this may be the number of a mounting call under some ABI.
#[inline(always)]
pub(crate) fn may_mount(number: u32) -> bool {
    matches!(number, 155 | 165 | 166 | 21 | 22 | 52 | 217 | OPEN_TREE..=FSMOUNT | MOUNT_SETATTR)
}

/// No argument of the call.
const NONE: usize = 9;

/// Which arguments of a call are the kind of file system, the source, the target and the flags: a byte each, from
/// the lowest; 0 when it is none of the mounting calls.
#[inline(always)]
pub(crate) fn arguments(compat: bool, number: u32) -> u64 {
    let [kind, source, target, flags] = match (compat, number) {
        (_, OPEN_TREE) => [NONE, 1, NONE, 2],
        (_, MOVE_MOUNT) => [NONE, 1, 3, 4],
        (_, FSOPEN) => [0, NONE, NONE, 1],
        (_, FSCONFIG) => [2, 3, NONE, 1],
        (_, FSMOUNT) => [NONE, NONE, NONE, 2],
        (_, MOUNT_SETATTR) => [NONE, NONE, 1, 2],
        (false, 165) | (true, 21) => [2, 0, 1, 3],
        (false, 166) | (true, 52) => [NONE, NONE, 0, 1],
        (true, 22) => [NONE, NONE, 0, NONE],
        // pivot_root: the new root, and where the old one goes.
        (false, 155) | (true, 217) => [NONE, 1, 0, NONE],
        _ => return 0,
    };
    (kind | source << 8 | target << 16 | flags << 24) as u64
}

/// What the paths are relative to, besides the current directory.
#[inline(always)]
pub(crate) fn descriptors(regs: u64, abi: u32, syscall: u32) -> u32 {
    const AT_FDCWD: i32 = -100;
    let is_open = |index| argument(regs, abi, index) as i32 != AT_FDCWD;
    let (source, target) = match syscall {
        OPEN_TREE => (is_open(0), false),
        MOVE_MOUNT => (is_open(0), is_open(2)),
        MOUNT_SETATTR => (false, is_open(0)),
        _ => (false, false),
    };
    u32::from(source) * SOURCE_DESCRIPTOR + u32::from(target) * TARGET_DESCRIPTOR
}
