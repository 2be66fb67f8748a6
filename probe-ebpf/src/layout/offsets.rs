//! Where the running kernel keeps what the programs read.

/// Where the running kernel keeps what the programs read, in bytes from the start of each
/// structure. Userspace fills it in from the kernel's BTF before load.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Offsets {
    /// `task_struct.thread_info.status`.
    pub task_status: u32,
    /// `task_struct.real_cred`.
    pub task_real_cred: u32,
    /// `task_struct.cred`.
    pub task_cred: u32,
    /// `task_struct.nsproxy`.
    pub task_nsproxy: u32,
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `nsproxy.mnt_ns`.
    pub nsproxy_mnt_ns: u32,
    /// `css_set.dfl_cgrp`.
    pub css_set_dfl_cgrp: u32,
    /// `css_set.subsys`.
    pub css_set_subsys: u32,
    /// How many there are: `CGROUP_SUBSYS_COUNT`.
    pub css_set_subsystems: u32,
    /// `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `kernfs_node.name`.
    pub kernfs_node_name: u32,
    /// `kernfs_node.__parent`, before Linux 6.15 `parent`.
    pub kernfs_node_parent: u32,
    /// `cred.uid`.
    pub cred_uid: u32,
    /// `cred.suid`.
    pub cred_suid: u32,
    /// `cred.euid`.
    pub cred_euid: u32,
    /// `cred.fsuid`.
    pub cred_fsuid: u32,
    /// `cred.gid`.
    pub cred_gid: u32,
    /// `cred.sgid`.
    pub cred_sgid: u32,
    /// `cred.egid`.
    pub cred_egid: u32,
    /// `cred.fsgid`.
    pub cred_fsgid: u32,
    /// `cred.user_ns`.
    pub cred_user_ns: u32,
    /// `cred.cap_effective`, eight bytes of bits on every kernel.
    pub cred_effective: u32,
    /// `cred.non_rcu`.
    pub cred_non_rcu: u32,
    /// `user_namespace.parent`.
    pub user_ns_parent: u32,
    /// `user_namespace.owner`.
    pub user_ns_owner: u32,
    /// `task_struct.files`.
    pub task_files: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.fd`.
    pub fdtable_fd: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.f_mode`.
    pub file_mode: u32,
    /// `file.f_path.mnt`.
    pub file_mount: u32,
    /// `file.f_path.dentry`.
    pub file_entry: u32,
    /// `inode.i_sb`.
    pub inode_sb: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_rdev`.
    pub inode_rdev: u32,
    /// `super_block.s_magic`.
    pub super_magic: u32,
    /// `super_block.s_fs_info`.
    pub super_fs_info: u32,
    /// `proc_fs_info.pid_ns`.
    pub proc_pid_ns: u32,
    /// `kernfs_super_info.ns`.
    pub kernfs_ns: u32,
    /// `nsproxy.pid_ns_for_children`.
    pub nsproxy_pid_ns: u32,
    /// `nsproxy.net_ns`.
    pub nsproxy_net_ns: u32,
    /// `net.ns`.
    pub net_ns: u32,
    /// `vfsmount.mnt_root`.
    pub mount_root: u32,
    /// `dentry.d_parent`.
    pub entry_parent: u32,
    /// `dentry.d_name.name`.
    pub entry_name: u32,
    /// `linux_binprm.filename`.
    pub binprm_filename: u32,
    /// `task_struct.fs`.
    pub task_fs: u32,
    /// `fs_struct.root`.
    pub fs_root: u32,
    /// `fs_struct.pwd`.
    pub fs_directory: u32,
    /// `path.mnt`.
    pub path_mount: u32,
    /// `path.dentry`.
    pub path_entry: u32,
    /// `mount.mnt`.
    pub mount_mount: u32,
    /// `mount.mnt_parent`.
    pub mount_parent: u32,
    /// `mount.mnt_mountpoint`.
    pub mount_point: u32,
    /// `pt_regs` of the native argument registers: di, si, dx, r10, r8.
    pub regs_native: [u32; 5],
    /// `pt_regs` of the 32-bit ABI's: bx, cx, dx, si, di.
    pub regs_compat: [u32; 5],
    /// `pt_regs` that the SYSCALL instruction sets in pairs: ip and cx, flags and r11.
    pub regs_pairs: [[u32; 2]; 2],
    /// `pt_regs.orig_ax`.
    pub regs_syscall: u32,
    /// `trace_event_raw_sched_process_exec.__data_loc_filename`.
    pub event_exec_filename: u32,
    /// `trace_event_raw_sys_exit.ret`.
    pub event_exit_result: u32,
    /// `trace_event_raw_cap_capable`: `cred`, `target_ns`, `cap` and `ret`; zeros where there is no such event.
    pub event_capable: [u32; 4],
}
