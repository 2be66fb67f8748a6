//! Which system calls the workload makes, which fail or open a file, and what it asks of its capability sets.

use crate::{
    maps::{CAPABILITY_SETS, COUNTS, FAILURES, SEEN, STATUS, count, fixed, offset, offsets, sighted},
    mounts::{may_mount, mounted},
    paths::{is_open, opened},
    tasks::{TASKS, current, field},
};
use aya_ebpf::{
    bindings::task_struct, helpers::bpf_probe_read_user, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use probe_ebpf::{
    ABIS, CapabilitySetKey, FailureKey, LastTask, NO_SYSCALL, NOT_RECORDED, PROGRAM_RUNTIME, PROGRAMS,
    SET_AMBIENT_RAISE, SET_CAPSET, SET_READ, STAGE_WORKLOAD, SYSCALLS, TASK_FILTERED, TASK_READ_CAPABILITIES,
    Task, status,
};

/// `TS_COMPAT` of `thread_info.status`: the call came by a 32-bit entry (arch/x86/include/asm/thread_info.h).
const TS_COMPAT: u32 = 2;
/// `__X32_SYSCALL_BIT`.
const X32_BIT: u64 = 0x4000_0000;

const NATIVE: u32 = 0;
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

/// ABI and number of the system call that the running task is in, or [`NO_SYSCALL`].
#[inline(always)]
pub(crate) fn in_progress(task: *mut task_struct, state: &Task) -> (u32, u32) {
    if state.registers == 0 {
        return (NATIVE, NO_SYSCALL);
    }
    let id: u64 = crate::maps::read(state.registers, offset!(regs_syscall));
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

/// An argument of the call whose registers these are, 0 to 4.
#[inline(always)]
pub(crate) fn argument(regs: u64, abi: u32, index: usize) -> u64 {
    let compat = abi == COMPAT;
    let places = if compat { &offsets().regs_compat } else { &offsets().regs_native };
    // No index beyond is asked for, but the compiler need not be able to tell.
    let Some(place) = places.get(index) else { return 0 };
    let value: u64 = crate::maps::read(regs, fixed(place) as usize);
    if compat { u64::from(value as u32) } else { value }
}

/// `ioctl(LOOP_CTL_GET_FREE)`: which loop device the workload gets is chance.
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const IOCTL: u32 = 16;
const IOCTL_COMPAT: u32 = 54;
const CAPGET: u32 = 125;
const CAPSET: u32 = 126;
const PRCTL: u32 = 157;
const CAPGET_COMPAT: u32 = 184;
const CAPSET_COMPAT: u32 = 185;
const PRCTL_COMPAT: u32 = 172;

#[inline(always)]
fn is_capability_call(abi: u32, number: u32) -> bool {
    if abi == COMPAT {
        matches!(number, CAPGET_COMPAT | CAPSET_COMPAT | PRCTL_COMPAT)
    } else {
        matches!(number, CAPGET | CAPSET | PRCTL)
    }
}

#[inline(always)]
fn is_ioctl(abi: u32, number: u32) -> bool {
    number == if abi == COMPAT { IOCTL_COMPAT } else { IOCTL }
}

#[inline(never)]
fn capability_sets(state: &mut Task, regs: u64, abi: u32, number: u32) -> u32 {
    const PR_CAPBSET_READ: u64 = 23;
    const PR_CAP_AMBIENT: u64 = 47;
    const PR_CAP_AMBIENT_RAISE: u64 = 2;
    let mut key = CapabilitySetKey {
        kind: SET_READ,
        program: state.program,
        effective: 0,
        permitted: 0,
        inheritable: 0,
        derived: 0,
    };
    match number {
        CAPGET | CAPGET_COMPAT => {
            // With no place for the answer it only asks for the ABI's version.
            if argument(regs, abi, 1) == 0 {
                return 0;
            }
            state.flags |= TASK_READ_CAPABILITIES;
        }
        CAPSET | CAPSET_COMPAT => {
            // struct __user_cap_data_struct[2]: effective, permitted, inheritable; low word first.
            let data = argument(regs, abi, 1) as *const [u32; 6];
            // SAFETY: the helper checks the address.
            let Ok(words) = (unsafe { bpf_probe_read_user(data) }) else { return 0 };
            key.kind = SET_CAPSET;
            key.effective = u64::from(words[0]) | u64::from(words[3]) << 32;
            key.permitted = u64::from(words[1]) | u64::from(words[4]) << 32;
            key.inheritable = u64::from(words[2]) | u64::from(words[5]) << 32;
            key.derived = u64::from(state.flags & TASK_READ_CAPABILITIES != 0);
        }
        _ => match argument(regs, abi, 0) {
            PR_CAPBSET_READ => {}
            PR_CAP_AMBIENT if argument(regs, abi, 1) == PR_CAP_AMBIENT_RAISE => {
                key.kind = SET_AMBIENT_RAISE;
                key.effective = 1 << (argument(regs, abi, 2) & 63);
            }
            _ => return 0,
        },
    }
    sighted(&CAPABILITY_SETS, &key, status::CAPABILITY_SETS_FULL);
    0
}

#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    left(ctx.arg(0), ctx.arg(1));
    0
}

/// The running task ends a system call.
#[inline(always)]
pub(crate) fn left(regs: *const u8, result: i64) {
    const EPERM: i64 = -1;
    const ENXIO: i64 = -6;
    const EACCES: i64 = -13;
    const ENODEV: i64 = -19;
    const EROFS: i64 = -30;
    const ENOSYS: i64 = -38;
    // SAFETY: the task's registers; a plain load through a BTF pointer cannot fault.
    let id = unsafe { regs.byte_add(offset!(regs_syscall)).cast::<u64>().read_volatile() };
    // Most calls are none of these under any ABI; only of the rest the task is asked for its own.
    let number = (id & !X32_BIT) as u32;
    if may_mount(number) {
        // None of them opens a file. It reads the number again: the verifier would follow it once for each here.
        mounted(current(), regs as u64, result);
        if result >= 0 {
            return;
        }
    } else if result >= 0 {
        if !is_open(false, number) && !is_open(true, number) {
            return;
        }
        let task = current();
        let (abi, number) = identify(task, id);
        if is_open(abi == COMPAT, number) {
            opened(task, result as u64);
        }
        return;
    }
    if !(-4095..0).contains(&result) {
        return;
    }
    if !matches!(result, EPERM | ENXIO | EACCES | ENODEV | EROFS | ENOSYS) {
        return;
    }
    let task = current();
    let Some(state) = TASKS.get(task) else { return };
    // A call that seccomp denied never passed sys_enter: its number is in the registers all the same.
    let (abi, syscall) = identify(task, id);
    let program = if state.stage == STAGE_WORKLOAD { state.program } else { PROGRAM_RUNTIME };
    let key = FailureKey { program, syscall, abi, errno: -result as u32 };
    sighted(&FAILURES, &key, status::FAILURES_FULL);
}
