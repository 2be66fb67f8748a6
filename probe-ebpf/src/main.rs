//! The kernel side of unpriv: which programs there are, their licence, and what a panic does.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic operations, see maps::add and tasks")]

mod abi;
mod attach;
mod capabilities;
mod capability_sets;
mod capable;
mod container;
mod devices;
mod direct;
mod empty;
#[cfg(not(feature = "hash"))]
mod events;
mod held;
mod identity;
mod maps;
mod masked;
mod mount_calls;
mod mounts;
mod offsets;
mod paths;
mod programs;
mod returns;
mod syscalls;
#[cfg_attr(feature = "hash", path = "hashed.rs")]
mod tasks;
mod walk;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // The compiler proves that no program reaches this: the verifier would refuse the loop.
    loop {}
}
