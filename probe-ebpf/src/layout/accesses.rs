//! Devices, files of the kernel's and calls that failed.

/// One kind of device access; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// 1 block, 2 character (`BPF_DEVCG_DEV_*`).
    pub kind: u32,
    /// Bits: 1 mknod, 2 read, 4 write (`BPF_DEVCG_ACC_*`).
    pub access: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Index of the program.
    pub program: u32,
    /// Number of the system call in progress, or [`crate::NO_SYSCALL`].
    pub syscall: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// Zero.
    pub reserved: u32,
}

/// One kind of failure; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureKey {
    /// Index of the program.
    pub program: u32,
    /// Number of the call.
    pub syscall: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// The errno, positive.
    pub errno: u32,
}

/// Bytes of an opened file's path that are kept.
pub const OPENED_PATH: usize = 256;
/// Directories that an opened file may be deep in.
pub const OPENED_DEPTH: usize = 24;

/// One file of a kernel file system that was opened; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedKey {
    /// Index of the program.
    pub program: u32,
    /// [`crate::magic`] of the file system.
    pub magic: u32,
    /// 1 when opened for writing.
    pub write: u16,
    /// 1 when names are missing at the end.
    pub truncated: u16,
    /// 1 when it is a /proc or /sys of other namespaces than those that the workload began in.
    pub foreign: u32,
    /// Names from the file system's root down, each with a closing zero, zero-padded.
    pub path: [u8; OPENED_PATH],
}

/// Scratch space of the kernel side: a path being put together.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// What comes of it.
    pub key: OpenedKey,
    /// Directory entries from the file upwards. A power of two, above [`OPENED_DEPTH`].
    pub entries: [u64; 32],
    /// How many of them are in use.
    pub depth: u64,
}
