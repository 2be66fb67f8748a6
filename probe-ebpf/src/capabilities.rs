//! Capability checks, with whose credentials, for which namespace and from where in the kernel.

use crate::{
    abi::{argument, in_progress, place},
    maps::{ARGUMENTS, CAPABILITIES, sighted},
    offsets::{offset, read},
    tasks::{TASKS, current},
};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_user, generated::bpf_get_stack},
};
use probe_ebpf::{
    Argument, Asked, CALLERS, CREDENTIAL_ACCESS, CREDENTIAL_OTHER, CREDENTIAL_OVERRIDDEN, CREDENTIAL_OWN,
    CapabilityKey, NAMESPACE_CHILD, NAMESPACE_OWN, NAMESPACE_OWNER, STAGE_WORKLOAD, status,
};

/// User namespaces nest to 32 levels (`create_user_ns`).
const MAX_LEVELS: u32 = 33;
/// Where `struct perf_event_attr` (`include/uapi/linux/perf_event.h`) has its flags, `disabled` the lowest.
const PERF_EVENT_FLAGS: u64 = 40;

/// Notes one check of the running task, whichever hook saw it.
#[inline(always)]
pub(crate) fn checked(ctx: &impl EbpfContext, asked: Asked, granted: bool) {
    let task = current();
    let Some(state) = TASKS.get(task) else { return };
    if state.stage != STAGE_WORKLOAD {
        return;
    }
    let (abi, syscall) = in_progress(task, state);
    let task = task as u64;
    let Asked { cred, namespace, capability, options } = asked;
    let mut key = CapabilityKey {
        capability: capability as u8,
        granted: u8::from(granted),
        credential: credential(task, cred),
        namespace: NAMESPACE_OWN,
        root: u8::from(read::<u32>(cred, offset!(cred_euid)) == 0),
        has_argument: 0,
        abi: abi as u8,
        options: options as u8,
        syscall,
        program: state.program,
        argument: 0,
        callers: [0; CALLERS],
    };
    let home: u64 = read(cred, offset!(cred_user_ns));
    if home != state.namespace {
        key.namespace = NAMESPACE_CHILD;
    } else if granted && namespace != home && owns(cred, home, namespace) {
        key.namespace = NAMESPACE_OWNER;
    }
    choose_argument(state.registers, cred, &mut key);
    // SAFETY: the buffer is ours and of that size. On failure it stays zero: an unknown call site.
    unsafe {
        bpf_get_stack(ctx.as_ptr(), (&raw mut key.callers).cast(), (CALLERS * 8) as u32, 0);
    }
    sighted(&CAPABILITIES, &key, status::CAPABILITIES_FULL);
}

#[inline(always)]
fn credential(task: u64, cred: u64) -> u8 {
    let real: u64 = read(task, offset!(task_real_cred));
    let subjective: u64 = read(task, offset!(task_cred));
    if cred == real {
        CREDENTIAL_OWN
    } else if cred == subjective {
        // access_override_creds (fs/open.c) marks its copy of the task's own credentials.
        if read::<u32>(cred, offset!(cred_non_rcu)) != 0 { CREDENTIAL_ACCESS } else { CREDENTIAL_OVERRIDDEN }
    } else {
        CREDENTIAL_OTHER
    }
}

/// Whether cap_capable_helper (security/commoncap.c) said yes because the user of `cred` owns
/// `target` or one of its ancestors just below `home`.
#[inline(always)]
fn owns(cred: u64, home: u64, target: u64) -> bool {
    let user: u32 = read(cred, offset!(cred_euid));
    let mut namespace = target;
    for _ in 0..MAX_LEVELS {
        let parent: u64 = read(namespace, offset!(user_ns_parent));
        if parent == 0 {
            return false;
        }
        if parent == home {
            return read::<u32>(namespace, offset!(user_ns_owner)) == user;
        }
        namespace = parent;
    }
    false
}

/// Which argument of a system call matters, an [`Argument`]. Not inlined: the verifier loses the bounds of a
/// number that the compiler keeps on the stack.
#[inline(never)]
fn choice(abi: u32, number: u32) -> u32 {
    let Some(table) = ARGUMENTS.get(0) else { return Argument::None as u32 };
    let Some(index) = place(abi, number) else { return Argument::None as u32 };
    // SAFETY: `index` is within the table.
    u32::from(unsafe { *table.as_ptr().add(index) })
}

#[inline(always)]
fn choose_argument(regs: u64, cred: u64, key: &mut CapabilityKey) {
    let abi = u32::from(key.abi);
    let choice = choice(abi, key.syscall);
    if choice == Argument::None as u32 {
        return;
    }
    key.has_argument = 1;
    if choice == Argument::First as u32 {
        key.argument = argument(regs, abi, 0);
    } else if choice == Argument::Second as u32 {
        key.argument = argument(regs, abi, 1);
    } else if choice == Argument::Third as u32 {
        key.argument = argument(regs, abi, 2);
    } else if choice == Argument::Fourth as u32 {
        key.argument = argument(regs, abi, 3);
    } else if choice == Argument::PerfFlags as u32 {
        let flags = (argument(regs, abi, 0) + PERF_EVENT_FLAGS) as *const u64;
        // SAFETY: the helper checks the address.
        key.argument = unsafe { bpf_probe_read_user(flags) }.unwrap_or(0);
    } else if choice == Argument::SecondAndThird as u32 {
        key.argument = argument(regs, abi, 1) << 32 | argument(regs, abi, 2) & 0xffff_ffff;
    } else {
        let wanted = argument(regs, abi, 0) as u32;
        let same = if choice == Argument::SameUser as u32 {
            read::<u32>(cred, offset!(cred_uid)) == wanted
                && read::<u32>(cred, offset!(cred_suid)) == wanted
                && read::<u32>(cred, offset!(cred_euid)) == wanted
                && read::<u32>(cred, offset!(cred_fsuid)) == wanted
        } else {
            read::<u32>(cred, offset!(cred_gid)) == wanted
                && read::<u32>(cred, offset!(cred_sgid)) == wanted
                && read::<u32>(cred, offset!(cred_egid)) == wanted
                && read::<u32>(cred, offset!(cred_fsgid)) == wanted
        };
        key.argument = u64::from(same);
    }
}
