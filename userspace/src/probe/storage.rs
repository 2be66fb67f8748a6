//! Task storage from userspace, which aya has no type for: the two bpf(2) commands it takes.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use probe_ebpf::Task;

const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;

/// The part of `union bpf_attr` that the `BPF_MAP_*_ELEM` commands read.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A file descriptor for a process, `pidfd_open(2)`.
///
/// # Errors
///
/// When there is no such process.
pub(super) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(clippy::cast_possible_truncation, reason = "file descriptors are ints")]
    // SAFETY: the kernel just gave it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sets what the kernel side knows of a task.
///
/// # Errors
///
/// What bpf(2) says.
pub(super) fn set(map: BorrowedFd<'_>, task: BorrowedFd<'_>, value: &Task) -> io::Result<()> {
    element(BPF_MAP_UPDATE_ELEM, map, task, std::ptr::from_ref(value) as u64)
}

/// Forgets a task.
///
/// # Errors
///
/// What bpf(2) says; ENOENT when it was not known.
pub(super) fn remove(map: BorrowedFd<'_>, task: BorrowedFd<'_>) -> io::Result<()> {
    element(BPF_MAP_DELETE_ELEM, map, task, 0)
}

fn element(command: libc::c_int, map: BorrowedFd<'_>, task: BorrowedFd<'_>, value: u64) -> io::Result<()> {
    let key = task.as_raw_fd();
    let attributes = ElementAttributes {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: std::ptr::from_ref(&key) as u64,
        value,
        flags: 0,
    };
    // SAFETY: the attributes and what they point to outlive the call, with the sizes that the map has:
    // an int key, and a `Task` value where the command reads one.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of::<ElementAttributes>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
