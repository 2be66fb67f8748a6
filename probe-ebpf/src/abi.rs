//! The ABI of a system call, its number and its arguments.

use crate::{
    offsets::{fixed, offset, offsets, read},
    tasks::field,
};
use aya_ebpf::bindings::task_struct;
use probe_ebpf::{ABIS, NO_SYSCALL, SYSCALLS, Task};

/// `TS_COMPAT` of `thread_info.status`: the call came by a 32-bit entry (arch/x86/include/asm/thread_info.h).
const TS_COMPAT: u32 = 2;
/// `__X32_SYSCALL_BIT`.
pub(crate) const X32_BIT: u64 = 0x4000_0000;

pub(crate) const NATIVE: u32 = 0;
pub(crate) const COMPAT: u32 = 1;
const X32: u32 = 2;

/// ABI and number of the call that `id` names.
#[inline(always)]
pub(crate) fn identify(task: *mut task_struct, id: u64) -> (u32, u32) {
    let status: u32 = field(task, offset!(task_status));
    // Arithmetic, because the verifier would follow each branch to the end of the program.
    let compat = status / TS_COMPAT & 1;
    let x32 = (id / X32_BIT) as u32 & 1 & !compat;
    (compat * COMPAT + x32 * X32, id as u32 & !(x32 * X32_BIT as u32))
}

/// ABI and number of the system call that the running task is in, or [`NO_SYSCALL`].
#[inline(always)]
pub(crate) fn in_progress(task: *mut task_struct, state: &Task) -> (u32, u32) {
    if state.registers == 0 {
        return (NATIVE, NO_SYSCALL);
    }
    let id: u64 = read(state.registers, offset!(regs_syscall));
    // Faults and interrupts leave -1 there (arch/x86/entry/entry_64.S).
    if id as i64 == -1 { (NATIVE, NO_SYSCALL) } else { identify(task, id) }
}

/// Where a call stands in a table of all ABIs and numbers, if it does.
#[inline(always)]
pub(crate) fn place(abi: u32, number: u32) -> Option<usize> {
    if number as usize >= SYSCALLS || abi as usize >= ABIS {
        return None;
    }
    // Older verifiers forget the bounds of the two on the way here; of the sum they are asked again.
    let index = core::hint::black_box(abi as usize * SYSCALLS + number as usize);
    (index < ABIS * SYSCALLS).then_some(index)
}

/// An argument of the call whose registers these are, 0 to 4.
#[inline(always)]
pub(crate) fn argument(regs: u64, abi: u32, index: usize) -> u64 {
    let compat = abi == COMPAT;
    let places = if compat { &offsets().regs_compat } else { &offsets().regs_native };
    // No index beyond is asked for, but the compiler need not be able to tell.
    let Some(place) = places.get(index) else { return 0 };
    let value: u64 = read(regs, fixed(place) as usize);
    if compat { u64::from(value as u32) } else { value }
}
