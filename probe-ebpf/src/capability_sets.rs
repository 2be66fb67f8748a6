//! What the workload asks of its capability sets.

use crate::{
    abi::{COMPAT, argument},
    maps::{CAPABILITY_SETS, sighted},
};
use aya_ebpf::helpers::bpf_probe_read_user;
use probe_ebpf::{
    CapabilitySetKey, SET_AMBIENT_RAISE, SET_CAPSET, SET_READ, TASK_READ_CAPABILITIES, Task, status,
};

const CAPGET: u32 = 125;
const CAPSET: u32 = 126;
const PRCTL: u32 = 157;
const CAPGET_COMPAT: u32 = 184;
const CAPSET_COMPAT: u32 = 185;
const PRCTL_COMPAT: u32 = 172;

#[inline(always)]
pub(crate) fn is_capability_call(abi: u32, number: u32) -> bool {
    if abi == COMPAT {
        matches!(number, CAPGET_COMPAT | CAPSET_COMPAT | PRCTL_COMPAT)
    } else {
        matches!(number, CAPGET | CAPSET | PRCTL)
    }
}

#[inline(never)]
pub(crate) fn capability_sets(state: &mut Task, regs: u64, abi: u32, number: u32) -> u32 {
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
