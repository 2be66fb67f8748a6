//! The map layout that the kernel side and userspace share: plain numbers, no pointers, no padding.
#![no_std]

mod layout;
pub mod magic;

pub use layout::*;

/// System call ABIs, in the order of `unpriv::syscalls::Abi::ALL`.
pub const ABIS: usize = 3;
/// Numbers per ABI: above the highest that any kernel has (x32 ends at 547).
pub const SYSCALLS: usize = 576;
/// Programs that evidence can tell apart.
pub const PROGRAMS: usize = 512;
/// The program of all that found no place of its own.
pub const PROGRAM_OTHER: u32 = 0;
/// The OCI runtime, from loading a seccomp filter to the entrypoint's execve.
pub const PROGRAM_RUNTIME: u32 = 1;
/// The first index that a program of the workload gets.
pub const PROGRAM_FIRST: u32 = 2;
/// Bytes of a program's path that are kept, with the closing zero.
pub const PATH: usize = 256;
/// Kernel return addresses kept of a capability check.
pub const CALLERS: usize = 16;
/// "No system call in progress".
pub const NO_SYSCALL: u32 = u32::MAX;
/// Bytes of a container id.
pub const CONTAINER_ID: usize = 64;

const _: () = {
    assert!(size_of::<Task>() == 80);
    assert!(size_of::<CapabilityKey>() == 24 + 8 * CALLERS);
    assert!(size_of::<DeviceKey>() == 32);
    assert!(size_of::<CapabilitySetKey>() == 40);
    assert!(size_of::<FailureKey>() == 16);
    assert!(size_of::<OpenedKey>() == 16 + OPENED_PATH);
    assert!(size_of::<ExecEvent>() == 8 + PATH);
    assert!(size_of::<Walk>() == size_of::<OpenedKey>() + 33 * 8 && OPENED_DEPTH < 32);
    assert!(size_of::<Container>() == CONTAINER_ID + 4);
    assert!(size_of::<Attach>() == 40);
    assert!(size_of::<FoundTask>() == 24);
    assert!(size_of::<MountKey>() == 480);
    assert!(size_of::<MountSeen>() == 480 + 8 + 2 * OPENED_PATH);
    assert!(size_of::<Offsets>() == 79 * 4);
};
