//! A device-control program on a cgroup, through bpf(2).

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use super::memory_limit::MemoryLimit;

/// One eBPF instruction, `struct bpf_insn` of `include/uapi/linux/bpf.h` as a little-endian word.
pub type Instruction = u64;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs on cgroups above stay in force, and programs may be put on cgroups below.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The first members of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    kind: u32,
    flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` and attaches it to a cgroup of version 2, which
/// keeps it until the cgroup is removed.
///
/// # Errors
/// The error of bpf(2): EPERM without `CAP_BPF` and `CAP_SYS_ADMIN`, EINVAL or EACCES when the kernel lacks
/// `CONFIG_CGROUP_BPF` or the verifier refuses the program.
pub fn attach(cgroup: impl AsFd, instructions: &[Instruction]) -> io::Result<()> {
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    let limit = MemoryLimit::raise();
    let program = bpf(BPF_PROG_LOAD, &load)?;
    drop(limit);
    // SAFETY: BPF_PROG_LOAD returned this descriptor to us alone.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let attach = Attach {
        target: cgroup.as_fd().as_raw_fd(),
        program: program.as_raw_fd(),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is a live repr(C) prefix of union bpf_attr with its true size; what it points to
    // outlives the call and the kernel only reads it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}
