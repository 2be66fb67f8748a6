//! What userspace fills in before load, and reading by it.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use probe_ebpf::Offsets;

/// Filled in by userspace before load; read-only and frozen, so the verifier knows the numbers.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_status: 0,
    task_real_cred: 0,
    task_cred: 0,
    task_nsproxy: 0,
    task_cgroups: 0,
    task_flags: 0,
    task_mm: 0,
    task_tgid: 0,
    nsproxy_mnt_ns: 0,
    css_set_dfl_cgrp: 0,
    css_set_subsys: 0,
    css_set_subsystems: 0,
    css_cgroup: 0,
    cgroup_kn: 0,
    kernfs_node_name: 0,
    kernfs_node_parent: 0,
    cred_uid: 0,
    cred_suid: 0,
    cred_euid: 0,
    cred_fsuid: 0,
    cred_gid: 0,
    cred_sgid: 0,
    cred_egid: 0,
    cred_fsgid: 0,
    cred_user_ns: 0,
    cred_effective: 0,
    cred_non_rcu: 0,
    user_ns_parent: 0,
    user_ns_owner: 0,
    task_files: 0,
    files_fdt: 0,
    fdtable_fd: 0,
    file_inode: 0,
    file_mode: 0,
    file_mount: 0,
    file_entry: 0,
    inode_sb: 0,
    inode_mode: 0,
    inode_rdev: 0,
    super_magic: 0,
    super_fs_info: 0,
    proc_pid_ns: 0,
    kernfs_ns: 0,
    nsproxy_pid_ns: 0,
    nsproxy_net_ns: 0,
    net_ns: 0,
    mount_root: 0,
    entry_parent: 0,
    entry_name: 0,
    binprm_filename: 0,
    task_fs: 0,
    fs_root: 0,
    fs_directory: 0,
    path_mount: 0,
    path_entry: 0,
    mount_mount: 0,
    mount_parent: 0,
    mount_point: 0,
    regs_native: [0; 5],
    regs_compat: [0; 5],
    regs_pairs: [[0; 2]; 2],
    regs_syscall: 0,
    event_exec_filename: 0,
    event_exit_result: 0,
    event_capable: [0; 4],
};

/// `vm.mmap_min_addr`, filled in by userspace.
#[unsafe(no_mangle)]
static LEAST_ADDRESS: u64 = 0;

/// 1 when a container that runs already is to be attached to. The verifier leaves out what is for that alone.
#[unsafe(no_mangle)]
static ATTACHES: u32 = 0;

/// [`ATTACHES`], read so that the compiler cannot fold in the zero above.
#[inline(always)]
pub(crate) fn attaches() -> bool {
    fixed(&ATTACHES) != 0
}

/// Addresses below take a capability to map.
#[inline(always)]
pub(crate) fn least_address() -> u64 {
    // SAFETY: a reference is readable; volatile, because the loader has put another number there.
    unsafe { core::ptr::read_volatile(&raw const LEAST_ADDRESS) }
}

/// One field of [`OFFSETS`], read so that the compiler cannot fold in the zero above.
macro_rules! offset {
    ($($field:tt)+) => {
        $crate::offsets::fixed(&$crate::offsets::offsets().$($field)+) as usize
    };
}
pub(crate) use offset;

/// Reads a number that the loader filled in.
#[inline(always)]
pub(crate) fn fixed(number: &u32) -> u32 {
    // SAFETY: a reference is readable.
    unsafe { core::ptr::read_volatile(number) }
}

/// The table behind [`offset!`].
#[inline(always)]
pub(crate) fn offsets() -> &'static Offsets {
    &OFFSETS
}

/// Reads a `T` at `base + offset` in kernel memory; zero when it cannot be read, as the helper leaves it then
/// (`bpf_probe_read_kernel_common`). Its answer is not looked at: the verifier would follow both.
#[inline(always)]
pub(crate) fn read<T: Copy + Default>(base: u64, offset: usize) -> T {
    let mut value = T::default();
    // SAFETY: the value is ours and of that size; the helper checks the address.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            (base as usize + offset) as *const _,
        );
    }
    value
}
