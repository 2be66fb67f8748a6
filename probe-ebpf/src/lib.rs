//! The map layout that the kernel side and userspace share: plain numbers, no pointers, no padding.
#![no_std]

pub mod magic;

/// System call ABIs, in the order of `unpriv::syscalls::Abi::ALL`.
pub const ABIS: usize = 3;
/// Numbers per ABI: above the highest that any kernel has (x32 ends at 547).
pub const SYSCALLS: usize = 576;
/// Programs that evidence can tell apart.
pub const PROGRAMS: usize = 512;
/// The program of all that found no place of its own.
pub const PROGRAM_OTHER: u32 = 0;
/// The OCI runtime, from loading a seccomp filter to the entrypoint's execve.
pub const PROGRAM_RUNTIME: u32 = 1;
/// The first index that a program of the workload gets.
pub const PROGRAM_FIRST: u32 = 2;
/// Bytes of a program's path that are kept, with the closing zero.
pub const PATH: usize = 256;
/// Kernel return addresses kept of a capability check.
pub const CALLERS: usize = 16;
/// "No system call in progress".
pub const NO_SYSCALL: u32 = u32::MAX;
/// Bytes of a container id.
pub const CONTAINER_ID: usize = 64;

/// Not part of the workload yet: the OCI runtime setting the container up.
pub const STAGE_RUNTIME: u32 = 1;
/// Part of the workload.
pub const STAGE_WORKLOAD: u32 = 2;
/// Not part of the workload yet: our own launcher, which becomes it by execve.
pub const STAGE_LAUNCHER: u32 = 3;

/// [`Task::flags`]: the OCI runtime has loaded a seccomp filter.
pub const TASK_FILTERED: u32 = 1;
/// [`Task::flags`]: the program has read its capability sets.
pub const TASK_READ_CAPABILITIES: u32 = 2;

/// What the kernel side knows of a task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Task {
    /// `STAGE_*`.
    pub stage: u32,
    /// Index of its program.
    pub program: u32,
    /// `TASK_*`.
    pub flags: u32,
    /// In the launcher stage: how many times it executes itself before the workload.
    pub launches: u32,
    /// In the runtime stage the runtime's mount namespace, afterwards the workload's user namespace.
    pub namespace: u64,
    /// The pid namespace that the workload began in.
    pub pid_namespace: u64,
    /// Its network namespace.
    pub net_namespace: u64,
    /// Where the kernel keeps its registers during a system call; 0 before its first.
    pub registers: u64,
    /// Not 0 when its end has been counted; in task storage, which outlives it.
    pub ended: u64,
    /// The capability check that it is in, where entry and return are seen apart.
    pub asked: Asked,
}

/// The arguments of `cap_capable`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Whose credentials; 0 when no check is in progress.
    pub cred: u64,
    /// The user namespace asked about.
    pub namespace: u64,
    /// Number of the capability.
    pub capability: u32,
    /// `CAP_OPT_*`.
    pub options: u32,
}

/// Which calls a program made: one byte each, so that marking needs no atomic operation and cannot
/// lose another processor's mark.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    /// By ABI and number.
    pub calls: [[u8; SYSCALLS]; ABIS],
}

/// How often each call was made, per processor, and who made the last one there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counts {
    /// By ABI and number.
    pub calls: [[u64; SYSCALLS]; ABIS],
    /// Remembered of that one.
    pub last: LastTask,
}

/// What was found out of a task, so that its storage need not be asked at each call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LastTask {
    /// Where its registers are: on its kernel stack, so no other living task's are there.
    pub registers: u64,
    /// [`status::GENERATION`] when it was found out; worth nothing in another.
    pub generation: u64,
    /// [`Task::program`], or [`NOT_RECORDED`].
    pub program: u64,
}

/// [`LastTask::program`] of a task that is not of the workload.
pub const NOT_RECORDED: u64 = u64::MAX;

/// A program's path as given to execve, zero-padded.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProgramPath {
    /// The bytes.
    pub bytes: [u8; PATH],
}

/// [`CapabilityKey::credential`]: the task's own.
pub const CREDENTIAL_OWN: u8 = 0;
/// [`CapabilityKey::credential`]: put on by access(2).
pub const CREDENTIAL_ACCESS: u8 = 1;
/// [`CapabilityKey::credential`]: put on by a kernel subsystem.
pub const CREDENTIAL_OVERRIDDEN: u8 = 2;
/// [`CapabilityKey::credential`]: an open file's, or another task's.
pub const CREDENTIAL_OTHER: u8 = 3;

/// [`CapabilityKey::namespace`]: credentials of the workload's user namespace.
pub const NAMESPACE_OWN: u8 = 0;
/// [`CapabilityKey::namespace`]: the same, granted as owner of the namespace asked about.
pub const NAMESPACE_OWNER: u8 = 1;
/// [`CapabilityKey::namespace`]: credentials of another user namespace.
pub const NAMESPACE_CHILD: u8 = 2;

/// [`CapabilityKey::options`]: a failure is not to be audited, `CAP_OPT_NOAUDIT` (include/linux/security.h).
pub const OPTION_NO_AUDIT: u8 = 2;
/// [`CapabilityKey::options`]: asked by a call of the setuid family, `CAP_OPT_INSETID`.
pub const OPTION_IN_SET_ID: u8 = 4;
/// [`CapabilityKey::options`]: the hook does not tell.
pub const OPTIONS_UNKNOWN: u8 = 0xff;

/// One kind of capability check; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityKey {
    /// Number of the capability.
    pub capability: u8,
    /// 1 when granted.
    pub granted: u8,
    /// `CREDENTIAL_*`.
    pub credential: u8,
    /// `NAMESPACE_*`.
    pub namespace: u8,
    /// 1 when the effective user id is 0.
    pub root: u8,
    /// 1 when `argument` holds something.
    pub has_argument: u8,
    /// Index into the ABIs.
    pub abi: u8,
    /// `OPTION_*`, or [`OPTIONS_UNKNOWN`].
    pub options: u8,
    /// Number of the system call in progress, or [`NO_SYSCALL`].
    pub syscall: u32,
    /// Index of the program.
    pub program: u32,
    /// What [`Argument`] chose.
    pub argument: u64,
    /// Kernel return addresses, nearest first, zero-padded.
    pub callers: [u64; CALLERS],
}

/// Which argument of a system call goes into [`CapabilityKey::argument`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// None.
    None = 0,
    /// The first.
    First = 1,
    /// The second.
    Second = 2,
    /// The third.
    Third = 3,
    /// The second in the high half, the third in the low one.
    SecondAndThird = 4,
    /// 1 when the first equals the real, effective, saved and file system user id.
    SameUser = 5,
    /// 1 when the first equals the real, effective, saved and file system group id.
    SameGroup = 6,
}

/// One kind of device access; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// 1 block, 2 character (`BPF_DEVCG_DEV_*`).
    pub kind: u32,
    /// Bits: 1 mknod, 2 read, 4 write (`BPF_DEVCG_ACC_*`).
    pub access: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Index of the program.
    pub program: u32,
    /// Number of the system call in progress, or [`NO_SYSCALL`].
    pub syscall: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// Zero.
    pub reserved: u32,
}

/// [`CapabilitySetKey::kind`]: capset(2).
pub const SET_CAPSET: u32 = 0;
/// [`CapabilitySetKey::kind`]: `PR_CAP_AMBIENT_RAISE`; `effective` holds the capability's bit.
pub const SET_AMBIENT_RAISE: u32 = 1;
/// [`CapabilitySetKey::kind`]: the program read its sets (capget, `PR_CAPBSET_READ`).
pub const SET_READ: u32 = 2;

/// One request to change or read a capability set; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySetKey {
    /// `SET_*`.
    pub kind: u32,
    /// Index of the program.
    pub program: u32,
    /// Wanted effective set.
    pub effective: u64,
    /// Wanted permitted set.
    pub permitted: u64,
    /// Wanted inheritable set.
    pub inheritable: u64,
    /// 1 when the program had read its sets before.
    pub derived: u64,
}

/// One kind of failure; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureKey {
    /// Index of the program.
    pub program: u32,
    /// Number of the call.
    pub syscall: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// The errno, positive.
    pub errno: u32,
}

/// Bytes of an opened file's path that are kept.
pub const OPENED_PATH: usize = 256;
/// Directories that an opened file may be deep in.
pub const OPENED_DEPTH: usize = 24;

/// One file of a kernel file system that was opened; the value is its count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedKey {
    /// Index of the program.
    pub program: u32,
    /// [`magic`] of the file system.
    pub magic: u32,
    /// 1 when opened for writing.
    pub write: u16,
    /// 1 when names are missing at the end.
    pub truncated: u16,
    /// 1 when it is a /proc or /sys of other namespaces than those that the workload began in.
    pub foreign: u32,
    /// Names from the file system's root down, each with a closing zero, zero-padded.
    pub path: [u8; OPENED_PATH],
}

/// Scratch space of the kernel side: a path being put together.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// What comes of it.
    pub key: OpenedKey,
    /// Directory entries from the file upwards. A power of two, above [`OPENED_DEPTH`].
    pub entries: [u64; 32],
    /// How many of them are in use.
    pub depth: u64,
}

/// Bytes of a path given to a mounting call that are kept, with the closing zero.
pub const MOUNT_PATH: usize = 200;
/// Bytes of a file system type that are kept, with the closing zero.
pub const MOUNT_TYPE: usize = 40;
/// [`MountKey::descriptors`]: the source is below an open directory, not the current one.
pub const SOURCE_DESCRIPTOR: u32 = 1;
/// [`MountKey::descriptors`]: the target is.
pub const TARGET_DESCRIPTOR: u32 = 2;

/// One call that mounts or moves mounts about, with its strings as the process gave them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountKey {
    /// Index of the program.
    pub program: u32,
    /// Number of the call.
    pub syscall: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// The errno, positive; 0 on success.
    pub errno: u32,
    /// Bits, see [`SOURCE_DESCRIPTOR`].
    pub descriptors: u32,
    /// Zero.
    pub reserved: u32,
    /// The call's flags, or what it has instead (the command of fsconfig).
    pub flags: u64,
    /// Tells the current directories of two calls apart.
    pub directory: u64,
    /// The file system's type; of fsconfig the key.
    pub kind: [u8; MOUNT_TYPE],
    /// What is mounted; of `pivot_root` the place for the old root.
    pub source: [u8; MOUNT_PATH],
    /// Where.
    pub target: [u8; MOUNT_PATH],
}

/// What is known of a [`MountKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MountValue {
    /// How often.
    pub count: u64,
    /// The process's root directory, from the root of its mount namespace; as [`OpenedKey::path`], and
    /// `/` where it could not be found out.
    pub root: [u8; OPENED_PATH],
    /// Its current directory, likewise.
    pub directory: [u8; OPENED_PATH],
}

/// Scratch space of the kernel side: a mounting call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MountSeen {
    /// The call.
    pub key: MountKey,
    /// Where it was made.
    pub value: MountValue,
}

/// Sent when a program that the workload had not run before starts. Whole, so that userspace need not look into
/// a map meanwhile: while a task does that, the kernel skips kprobes and trace events of whoever preempts it
/// (`bpf_disable_instrumentation`, include/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecEvent {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Index of the program.
    pub program: u32,
    /// Its path.
    pub path: ProgramPath,
}

/// The container to find, set once its id is known.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Lower-case hexadecimal digits.
    pub id: [u8; CONTAINER_ID],
    /// 1 when `id` holds something.
    pub armed: u32,
}

/// A container that ran before the recording began, and what its tasks are to be marked with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// Its first process, in the initial pid namespace; 0 when there is no such container.
    pub init: u64,
    /// That one's user namespace; 0 until it was found.
    pub namespace: u64,
    /// Its pid namespace.
    pub pid_namespace: u64,
    /// Its network namespace.
    pub net_namespace: u64,
    /// Not 0 when tasks are to be marked; before, they are only told to userspace, which looks for their programs.
    pub marking: u64,
}

/// Written by the task iterator of a task that it marks, or whose program it does not know yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTask {
    /// Its process, in the initial pid namespace.
    pub process: u32,
    /// Index into the ABIs.
    pub abi: u32,
    /// The system call that it is in, or [`NO_SYSCALL`].
    pub syscall: u32,
    /// 1 when it was marked just now.
    pub new: u32,
    /// Its `mm`: an execve gives it another.
    pub memory: u64,
}

/// Tasks of the workload that can be followed at once where they are kept in a hash map. The map has room for all from
/// its beginning, 9 MB.
pub const TASKS_HASHED: usize = 65536;

/// Executables that userspace can tell the kernel side.
pub const EXECUTABLES: usize = 16384;

/// Indices into the status counters.
pub mod status {
    /// Facts that found their map full: capability checks.
    pub const CAPABILITIES_FULL: u32 = 0;
    /// Device accesses.
    pub const DEVICES_FULL: u32 = 1;
    /// Capability set requests.
    pub const CAPABILITY_SETS_FULL: u32 = 2;
    /// Failures.
    pub const FAILURES_FULL: u32 = 3;
    /// Tasks that could not be marked.
    pub const UNTRACKED: u32 = 4;
    /// Programs that found no index (evidence only).
    pub const PROGRAMS_FULL: u32 = 5;
    /// Exec events that found the ring buffer full (evidence only).
    pub const EXEC_EVENTS_DROPPED: u32 = 6;
    /// Tasks that were marked.
    pub const STARTED: u32 = 7;
    /// Marked tasks that ended.
    pub const ENDED: u32 = 8;
    /// Program indices given out.
    pub const PROGRAMS_USED: u32 = 9;
    /// Requests for a free loop device.
    pub const LOOP_DEVICES_PICKED: u32 = 10;
    /// Opened files that found their map full, or were too deep to be named.
    pub const OPENED_FULL: u32 = 11;
    /// Grows whenever a task joins or leaves the workload, or executes another program in it.
    /// Whoever marks a running task as [`super::STAGE_WORKLOAD`] from userspace has to add to it, too.
    pub const GENERATION: u32 = 12;
    /// Capability checks whose return was not seen.
    pub const UNANSWERED: u32 = 13;
    /// Mounting calls that found their map full.
    pub const MOUNTS_FULL: u32 = 14;
    /// How many there are.
    pub const LENGTH: u32 = 15;
}

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

const _: () = {
    assert!(size_of::<Task>() == 80);
    assert!(size_of::<CapabilityKey>() == 24 + 8 * CALLERS);
    assert!(size_of::<DeviceKey>() == 32);
    assert!(size_of::<CapabilitySetKey>() == 40);
    assert!(size_of::<FailureKey>() == 16);
    assert!(size_of::<OpenedKey>() == 16 + OPENED_PATH);
    assert!(size_of::<ExecEvent>() == 8 + PATH);
    assert!(size_of::<Walk>() == size_of::<OpenedKey>() + 33 * 8 && OPENED_DEPTH < 32);
    assert!(size_of::<Container>() == CONTAINER_ID + 4);
    assert!(size_of::<Attach>() == 40);
    assert!(size_of::<FoundTask>() == 24);
    assert!(size_of::<MountKey>() == 480);
    assert!(size_of::<MountSeen>() == 480 + 8 + 2 * OPENED_PATH);
    assert!(size_of::<Offsets>() == 79 * 4);
};
