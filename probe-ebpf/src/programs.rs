//! Indices of programs, by which all facts name them.

use crate::{
    maps::{EVENTS, PATH_SCRATCH, PATHS, count},
    tasks::next_program,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    },
};
use probe_ebpf::{ExecEvent, PATH, PROGRAM_OTHER, PROGRAMS, ProgramPath, status};

/// The index of the program at this path, given out at its first execve.
#[inline(always)]
pub(crate) fn program(path: u64) -> u32 {
    let Some(scratch) = PATH_SCRATCH.get_ptr_mut(0) else { return PROGRAM_OTHER };
    // SAFETY: per-processor scratch space; this program does not nest on a processor.
    let key = unsafe { &mut *scratch };
    // SAFETY: a null source only zeroes the buffer.
    unsafe {
        bpf_probe_read_kernel((&raw mut key.bytes).cast(), PATH as u32, core::ptr::null());
        bpf_probe_read_kernel_str((&raw mut key.bytes).cast(), PATH as u32, path as *const _);
    }
    index_of(key, (bpf_get_current_pid_tgid() >> 32) as u32)
}

/// The index of the program at this path, which that process runs.
#[inline(always)]
pub(crate) fn index_of(key: &ProgramPath, pid: u32) -> u32 {
    // SAFETY: entries are only removed while there is no workload.
    if let Some(index) = unsafe { PATHS.get(key) } {
        return *index;
    }
    let Some(index) = next_program() else { return PROGRAM_OTHER };
    if index as usize >= PROGRAMS || PATHS.insert(key, &index, u64::from(BPF_NOEXIST)).is_err() {
        // Another processor may have given it one just now, under which its calls are looked for.
        // SAFETY: as above.
        if let Some(index) = unsafe { PATHS.get(key) } {
            return *index;
        }
        count(status::PROGRAMS_FULL);
        return PROGRAM_OTHER;
    }
    if let Some(mut event) = EVENTS.reserve(0) {
        let place: *mut ExecEvent = event.as_mut_ptr();
        // SAFETY: reserved for one event; all of it is written.
        unsafe {
            (*place).pid = pid;
            (*place).program = index;
            (*place).path = *key;
        }
        event.submit(0);
    } else {
        count(status::EXEC_EVENTS_DROPPED);
    }
    index
}
