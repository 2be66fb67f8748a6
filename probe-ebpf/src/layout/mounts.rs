//! Calls that mount something or move mounts about.

use super::accesses::OPENED_PATH;

/// Bytes of a path given to a mounting call that are kept, with the closing zero.
pub const MOUNT_PATH: usize = 200;
/// Bytes of a file system type that are kept, with the closing zero.
pub const MOUNT_TYPE: usize = 40;
/// [`MountKey::descriptors`]: the source is below an open directory, not the current one.
pub const SOURCE_DESCRIPTOR: u32 = 1;
/// [`MountKey::descriptors`]: the target is.
pub const TARGET_DESCRIPTOR: u32 = 2;

/// One call that mounts or moves mounts about, with its strings as the process gave them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountKey {
    /// Index of the program.
    pub program: u32,
    /// Number of the call.
    pub syscall: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// The errno, positive; 0 on success.
    pub errno: u32,
    /// Bits, see [`SOURCE_DESCRIPTOR`].
    pub descriptors: u32,
    /// Zero.
    pub reserved: u32,
    /// The call's flags, or what it has instead (the command of fsconfig).
    pub flags: u64,
    /// Tells the current directories of two calls apart.
    pub directory: u64,
    /// The file system's type; of fsconfig the key.
    pub kind: [u8; MOUNT_TYPE],
    /// What is mounted; of `pivot_root` the place for the old root.
    pub source: [u8; MOUNT_PATH],
    /// Where.
    pub target: [u8; MOUNT_PATH],
}

/// What is known of a [`MountKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MountValue {
    /// How often.
    pub count: u64,
    /// The process's root directory, from the root of its mount namespace; as [`crate::OpenedKey::path`], and
    /// `/` where it could not be found out.
    pub root: [u8; OPENED_PATH],
    /// Its current directory, likewise.
    pub directory: [u8; OPENED_PATH],
}

/// Scratch space of the kernel side: a mounting call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MountSeen {
    /// The call.
    pub key: MountKey,
    /// Where it was made.
    pub value: MountValue,
}
