//! Which system calls the workload makes.

use crate::{
    abi::{COMPAT, NATIVE, X32_BIT, argument, identify, place},
    capability_sets::{capability_sets, is_capability_call},
    maps::{COUNTS, SEEN, STATUS, count},
    offsets::offset,
    tasks::{TASKS, current},
};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use probe_ebpf::{
    LastTask, NOT_RECORDED, PROGRAM_RUNTIME, PROGRAMS, STAGE_WORKLOAD, TASK_FILTERED, Task, status,
};

#[btf_tracepoint(function = "sys_enter")]
pub(crate) fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    entered(|| ctx.arg(0), || ctx.arg(1));
    0
}

/// The running task begins a system call. What tells its registers and its number is asked again where they are
/// read: after a comparison with a number from a map the compiler may take the one for the other, and the
/// verifier then has no pointer any more.
#[inline(always)]
pub(crate) fn entered(registers_of: impl Fn() -> *const u8, id_of: impl Fn() -> u64) {
    // Every system call of the machine comes by here, and each call of a helper costs a good part of what an
    // empty program does: what was found out of the last task on this processor is remembered.
    let registers = registers_of() as u64;
    let Some(counts) = COUNTS.get_ptr_mut(0) else { return };
    // SAFETY: only this processor writes here, and a system call does not nest.
    let last = unsafe { &mut (*counts).last };
    let Some(generation) = STATUS.get(status::GENERATION) else { return };
    // SAFETY: a reference is readable; other processors write to it.
    let generation = unsafe { core::ptr::read_volatile(generation) };
    let known = last.registers == registers && last.generation == generation;
    if known && last.program == NOT_RECORDED {
        return;
    }
    let id = id_of();
    let (abi, number) = if known && id & X32_BIT == 0 && is_instruction(registers_of()) {
        (NATIVE, id as u32)
    } else {
        identify(current(), id)
    };
    if !known {
        let Some(state) = TASKS.get(current()) else {
            *last = LastTask { registers, generation, program: NOT_RECORDED };
            return;
        };
        state.registers = registers;
        if state.stage != STAGE_WORKLOAD {
            runtime_call(state, registers, abi, number);
            return;
        }
        *last = LastTask { registers, generation, program: u64::from(state.program) };
    }
    mark(last.program as u32, abi, number);
    if is_capability_call(abi, number) {
        if let Some(state) = TASKS.get(current()) {
            capability_sets(state, registers, abi, number);
        }
    } else if is_ioctl(abi, number) && argument(registers, abi, 1) == LOOP_CTL_GET_FREE {
        count(status::LOOP_DEVICES_PICKED);
    }
}

/// Whether a call came by the SYSCALL instruction, which leaves ip in cx and flags in r11 (Intel SDM), so that it
/// is no 32-bit one. A 64-bit program can make its 32-bit calls look the same: it then gets a profile that does
/// not fit it, and nothing that it could not have had by other calls. Where it does not hold (FRED, a tracer
/// that changes registers) the task is asked.
#[inline(always)]
fn is_instruction(registers: *const u8) -> bool {
    // SAFETY: the task's registers; plain loads through a BTF pointer cannot fault.
    let register = |offset| unsafe { registers.byte_add(offset).cast::<u64>().read_volatile() };
    register(offset!(regs_pairs[0][0])) == register(offset!(regs_pairs[0][1]))
        && register(offset!(regs_pairs[1][0])) == register(offset!(regs_pairs[1][1]))
}

#[inline(always)]
fn mark(program: u32, abi: u32, number: u32) {
    // A number that no kernel has fails with ENOSYS under any profile: nothing to record.
    let Some(index) = place(abi, number) else { return };
    if program as usize >= PROGRAMS {
        return;
    }
    if let Some(seen) = SEEN.get_ptr_mut(program) {
        // SAFETY: `index` is within the value, by the bounds above.
        let byte = unsafe { &mut *seen.cast::<u8>().add(index) };
        if *byte == 0 {
            *byte = 1;
        }
    }
    if program == PROGRAM_RUNTIME {
        return;
    }
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: as above. Only this processor writes here, and a system call does not nest.
        unsafe { *counts.cast::<u64>().add(index) += 1 };
    }
}

/// The runtime's calls count from the one that loads a seccomp filter, which itself ran before it. Without a program
/// it is only a question of what the kernel knows (libseccomp's `sys_chk_seccomp_flag`).
#[inline(always)]
fn runtime_call(state: &mut Task, regs: u64, abi: u32, number: u32) {
    const SECCOMP: u32 = 317;
    const SECCOMP_SET_MODE_FILTER: u64 = 1;
    const PRCTL: u32 = 157;
    const PR_SET_SECCOMP: u64 = 22;
    if abi != NATIVE {
        return;
    }
    if state.flags & TASK_FILTERED != 0 {
        mark(PROGRAM_RUNTIME, abi, number);
    } else if argument(regs, abi, 2) != 0
        && ((number == SECCOMP && argument(regs, abi, 0) == SECCOMP_SET_MODE_FILTER)
            || (number == PRCTL && argument(regs, abi, 0) == PR_SET_SECCOMP))
    {
        state.flags |= TASK_FILTERED;
    }
}

/// `ioctl(LOOP_CTL_GET_FREE)`: which loop device the workload gets is chance.
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const IOCTL: u32 = 16;
const IOCTL_COMPAT: u32 = 54;

#[inline(always)]
fn is_ioctl(abi: u32, number: u32) -> bool {
    number == if abi == COMPAT { IOCTL_COMPAT } else { IOCTL }
}
