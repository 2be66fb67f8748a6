//! Checks that were granted and decide nothing, or not by themselves. What is wrong here a verification finds: the
//! call then fails, or the output is another one, and the check counts.

use super::rules::{below, call, is_tried_first, site};
use crate::{
    capability::Capability,
    trace::{Argument, CapabilityCheck},
};

/// `S_ISGID`.
const SET_GROUP_ID: u32 = 0o2000;
/// `posix_acl_xattr_size(3)` (`include/linux/posix_acl_xattr.h`): an ACL of owner, group and others.
const TRIVIAL_ACL: u64 = 28;
/// `FANOTIFY_FID_BITS` and `FAN_REPORT_MNT` (`include/linux/fanotify.h`).
const FANOTIFY_UNPRIVILEGED: u64 = 0x5e00;
/// `FANOTIFY_ADMIN_INIT_FLAGS`.
const FANOTIFY_ADMIN: u64 = 0x21bc;
/// `FANOTIFY_MARK_TYPE_BITS`: all but an inode's mark.
const FANOTIFY_MARK_TYPES: u64 = 0x110;
/// `exclude_kernel` of `struct perf_event_attr`.
const PERF_EXCLUDE_KERNEL: u64 = 1 << 5;

/// Where the kernel function alone tells: who asks, for what, and what it decides.
const ASKERS: [(Capability, &[&str], &str); 23] = [
    // Only to load a module for an interface that does not exist (net/core/dev_ioctl.c).
    (Capability::SYS_MODULE, &["dev_load"], NO_INTERFACE),
    (Capability::NET_ADMIN, &["dev_load"], NO_INTERFACE),
    (Capability::SYSLOG, &["kallsyms_show_value", "restricted_pointer"], "only shows kernel addresses"),
    // r_show (kernel/resource.c): /proc/iomem and /proc/ioports.
    (Capability::SYS_ADMIN, &["r_show"], "only shows physical addresses"),
    // Without it the first 64 bytes can be read (drivers/pci/pci-sysfs.c).
    (
        Capability::SYS_ADMIN,
        &["pci_read_config"],
        "only shows a PCI device's configuration beyond its first 64 bytes",
    ),
    // mm_access (kernel/fork.c) asks first; without it the ordinary rules of ptrace decide.
    (Capability::PERFMON, &["mm_access", "may_access_mm"], BEFORE_PTRACE),
    (Capability::BPF, &["bpf_check"], "only relaxes the BPF verifier"),
    (Capability::PERFMON, &["bpf_check"], "only relaxes the BPF verifier"),
    // bpf_jit_blinding_enabled (include/linux/filter.h).
    (
        Capability::SYS_ADMIN,
        &["bpf_int_jit_compile", "bpf_prog_select_runtime"],
        "only relaxes the BPF compiler",
    ),
    (Capability::BPF, &["bpf_prog_get_info_by_fd"], "only shows a BPF program's instructions"),
    // do_task_stat, proc_pid_wchan (fs/proc): what is hidden reads as zero.
    (Capability::SYS_PTRACE, &["do_task_stat"], "only shows addresses in /proc/PID/stat"),
    (Capability::SYS_PTRACE, &["proc_pid_wchan"], "only shows where a process waits"),
    // scsi_cmd_allowed (drivers/scsi/scsi_ioctl.c) asks first, then filters commands.
    (Capability::SYS_RAWIO, &["scsi_cmd_allowed"], "asked before every SCSI command"),
    // vt_ioctl asks for any request on a terminal that is not the caller's.
    (Capability::SYS_TTY_CONFIG, &["vt_ioctl"], "asked on every ioctl of a virtual terminal"),
    // ipc_permissions (ipc/ipc_sysctl.c): then the mode bits decide.
    (Capability::CHECKPOINT_RESTORE, &["ipc_permissions"], MODE_BITS),
    (Capability::SYS_RESOURCE, &["set_permissions"], MODE_BITS),
    // can_do_hugetlb_shm (fs/hugetlbfs/inode.c).
    (
        Capability::IPC_LOCK,
        &["hugetlb_file_setup", "can_do_hugetlb_shm"],
        "asked before the group of vm.hugetlb_shm_group",
    ),
    // It only lifts a limit on how often that is done (fs/proc/base.c).
    (Capability::SYS_ADMIN, &["proc_sched_autogroup_set_nice"], "only lifts a limit of rate"),
    // A label that the policy does not know is shown as it is (security/selinux/hooks.c).
    (
        Capability::MAC_ADMIN,
        &["selinux_inode_getsecurity"],
        "only shows labels that the policy does not know",
    ),
    // NVIDIA's driver asks on every call, for the few that an administrator may make (os-interface.c).
    (Capability::SYS_ADMIN, &["os_is_administrator"], "asked on every call of NVIDIA's driver"),
    (Capability::SYS_NICE, &["os_allow_priority_override"], "asked on every call of NVIDIA's driver"),
    // ext4_has_free_clusters and its kin: the blocks reserved for root.
    (
        Capability::SYS_RESOURCE,
        &["ext4_has_free_clusters", "ext4_claim_free_clusters", "ext2_has_free_blocks"],
        "the file system's reserved blocks",
    ),
    // mq_attr_ok (ipc/mqueue.c) asks first, then compares with the limits.
    (
        Capability::SYS_RESOURCE,
        &["mq_attr_ok", "mqueue_get_inode"],
        "asked before the limits of a message queue are compared",
    ),
];

const NO_INTERFACE: &str = "only asked before loading a module for a network interface that does not exist";
const BEFORE_PTRACE: &str = "asked before the ordinary rules of ptrace";
const MODE_BITS: &str = "the mode bits decide";

/// Why the outcome does not hang on this check, when it does not.
pub(super) fn opportunistic(check: &CapabilityCheck) -> Option<&'static str> {
    let by_asker = ASKERS
        .iter()
        .find(|(capability, functions, _)| *capability == check.capability && site(check, functions));
    if let Some((_, _, reason)) = by_asker {
        return Some(reason);
    }
    // perf_check_permission (kernel/events/core.c), of an event of a process's own code.
    if asks_for(check, Capability::PERFMON)
        && call(check, &["perf_event_open"])
        && flags(check).is_some_and(|flags| flags & PERF_EXCLUDE_KERNEL != 0)
        && !below(check, &["perf_allow_"])
    {
        return Some(BEFORE_PTRACE);
    }
    match check.capability {
        Capability::SYS_RESOURCE => sys_resource(check),
        Capability::NET_ADMIN => net_admin(check),
        Capability::SYS_ADMIN => sys_admin(check),
        Capability::FSETID => fsetid(check),
        // ep_take_care_of_epollwakeup (fs/eventpoll.c) drops the flag in silence.
        Capability::BLOCK_SUSPEND if call(check, &["epoll_ctl"]) => Some("EPOLLWAKEUP is dropped without it"),
        // io_uring_create: without it, memory counts towards RLIMIT_MEMLOCK.
        Capability::IPC_LOCK if call(check, &["io_uring_setup", "io_uring_register"]) => {
            Some("io_uring memory then counts towards RLIMIT_MEMLOCK")
        }
        // shmctl_do_lock (ipc/shm.c) asks first, then for the owner; user_shm_lock asks beyond RLIMIT_MEMLOCK.
        Capability::IPC_LOCK if call(check, &["shmctl"]) && !site(check, &["user_shm_lock"]) => {
            Some("asked before the owner of shared memory")
        }
        // cap_capset (security/commoncap.c) asks on every capset; the request itself says what is needed.
        Capability::SETPCAP if call(check, &["capset"]) => Some("asked on every capset"),
        Capability::SETUID | Capability::SETGID if check.argument == Some(Argument::SameId(true)) => {
            Some("it had that id already")
        }
        // ima_match_rules (security/integrity/ima/ima_policy.c), for rules of effective ids.
        Capability::SETUID | Capability::SETGID if below(check, &["ima_"]) => {
            Some("only chooses what IMA measures")
        }
        // xfs_setattr_nonsize and others ask themselves whether quota limits hold (fs/xfs); the owner is asked by
        // setattr_prepare.
        Capability::FOWNER if asker(check).is_some_and(|name| name.starts_with("xfs_")) => {
            Some("only lifts limits of quota")
        }
        // ext4_load_and_init_journal ignores whether its journal thread got its priority.
        Capability::SYS_NICE
            if below(check, &["ext4_load_and_init_journal", "ext4_load_super", "ext4_fill_super"]) =>
        {
            Some("only the priority of a file system's journal thread")
        }
        // audit_receive_msg answers by a message; who logs is told, and mostly goes on.
        Capability::AUDIT_WRITE if below(check, &["audit_receive", "audit_netlink_ok"]) => {
            Some("only writes to the audit log")
        }
        _ => None,
    }
}

/// Whether this is the check, or its second half: who has no `CAP_BPF`, `CAP_PERFMON` or `CAP_CHECKPOINT_RESTORE` is
/// asked for `CAP_SYS_ADMIN` in its place (`include/linux/capability.h`).
fn asks_for(check: &CapabilityCheck, capability: Capability) -> bool {
    const SPLIT: [Capability; 3] = [Capability::BPF, Capability::PERFMON, Capability::CHECKPOINT_RESTORE];
    check.capability == capability || check.capability == Capability::SYS_ADMIN && SPLIT.contains(&capability)
}

/// The function that asks: the first that is no common form of `cap_capable`.
fn asker(check: &CapabilityCheck) -> Option<&str> {
    const FORMS: [&str; 7] = [
        "capable",
        "ns_capable",
        "ns_capable_noaudit",
        "ns_capable_setid",
        "file_ns_capable",
        "has_capability_noaudit",
        "has_ns_capability_noaudit",
    ];
    check.call_site.iter().map(String::as_str).find(|name| !FORMS.contains(name))
}

fn flags(check: &CapabilityCheck) -> Option<u64> {
    match check.argument {
        Some(Argument::Flags(flags)) => Some(flags),
        _ => None,
    }
}

/// `setattr_copy` (`fs/attr.c`) and `posix_acl_update_mode` ask on every change of the mode of another group's file,
/// whether the set-group-ID bit is in it or not.
fn fsetid(check: &CapabilityCheck) -> Option<&'static str> {
    match check.argument {
        Some(Argument::Mode(mode)) if mode & SET_GROUP_ID == 0 => Some("chmod without the set-group-ID bit"),
        // cp(1) sets a mode by an ACL; the bits that no ACL has it sets by chmod.
        Some(Argument::Size(size)) if size <= TRIVIAL_ACL => Some("an ACL without the set-group-ID bit"),
        // chown takes set-user-ID away by a change of mode; setattr_should_drop_sgid decides of the other bit.
        _ if call(check, &["chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32"])
            && site(check, &["setattr_copy", "setattr_prepare"]) =>
        {
            Some("chown without the set-group-ID bit")
        }
        _ => None,
    }
}

fn sys_admin(check: &CapabilityCheck) -> Option<&'static str> {
    // cap_vm_enough_memory: 3% of memory kept back for root, under strict overcommit only.
    if site(check, &["security_vm_enough_memory_mm", "cap_vm_enough_memory", "__vm_enough_memory"]) {
        return Some("memory accounting: counts only under strict overcommit");
    }
    // pid_table_root_permissions (kernel/pid.c): gives root's mode bits, which root has anyway.
    if site(check, &["pid_table_root_permissions"]) && check.root {
        return Some(MODE_BITS);
    }
    // Where the kernel hides its addresses (kptr_restrict), the call itself has to do.
    if check.call_site.is_empty()
        && call(
            check,
            &["brk", "mmap", "mmap2", "mremap", "mprotect", "execve", "execveat", "clone", "fork", "vfork"],
        )
        && check.argument.is_none()
    {
        return Some("memory accounting: counts only under strict overcommit");
    }
    // xattr list handlers leave out trusted.* without it.
    if call(check, &["listxattr", "llistxattr", "flistxattr", "listxattrat"]) {
        return Some("only lists trusted.* attributes");
    }
    // fanotify_init (fs/notify/fanotify/fanotify_user.c), since Linux 5.13.
    let unprivileged = |flags| flags & FANOTIFY_UNPRIVILEGED != 0 && flags & FANOTIFY_ADMIN == 0;
    if call(check, &["fanotify_init"]) && flags(check).is_some_and(unprivileged) {
        return Some("a fanotify group that reports no files takes no privilege");
    }
    // do_fanotify_mark asks before it looks at the mark's type.
    if call(check, &["fanotify_mark"]) && flags(check).is_some_and(|flags| flags & FANOTIFY_MARK_TYPES == 0) {
        return Some("a fanotify mark of a file takes no privilege");
    }
    None
}

fn sys_resource(check: &CapabilityCheck) -> Option<&'static str> {
    // __set_oom_adj asks twice; the quiet one only lowers the floor for later changes.
    let quiet = below(check, &["has_capability_noaudit", "has_ns_capability_noaudit"]);
    (site(check, &["__set_oom_adj"]) && quiet).then_some("only lowers the floor of oom_score_adj")
}

fn net_admin(check: &CapabilityCheck) -> Option<&'static str> {
    if is_tried_first(check) {
        return Some("only for a socket's buffer beyond the limit");
    }
    // net_ctl_permissions (net/sysctl_net.c): gives root's mode bits, which root has anyway.
    if site(check, &["net_ctl_permissions"]) && check.root {
        return Some(MODE_BITS);
    }
    // __vsock_create: marks the socket as trusted.
    if below(check, &["vsock_create", "__vsock_create"]) {
        return Some("only marks a vsock socket as trusted");
    }
    // inet_diag, packet_diag and others leave fields out without it.
    let diag = |name: &String| name == "udp_dump" || name.contains("_diag");
    if check.call_site.iter().any(diag)
        && !check.call_site.iter().any(|name| name.contains("_diag") && name.contains("_destroy"))
    {
        return Some("only shows more fields of sockets");
    }
    // do_tcp_setsockopt(TCP_CONGESTION) asks before it knows whether the algorithm is restricted.
    if matches!(check.argument, Some(Argument::Option(6, 13))) {
        return Some("counts only for a restricted congestion control algorithm");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::rules::tests::check;

    fn decides(capability: Capability, syscall: &str, sites: &[&str], argument: Option<Argument>) -> bool {
        opportunistic(&CapabilityCheck { argument, ..check(capability, syscall, sites) }).is_none()
    }

    #[test]
    fn memory_accounting_decides_nothing() {
        let sites = ["security_vm_enough_memory_mm", "do_brk_flags"];
        assert!(!decides(Capability::SYS_ADMIN, "brk", &sites, None));
    }

    #[test]
    fn the_set_group_id_bit_decides_of_fsetid() {
        let by = |syscall, site, argument| decides(Capability::FSETID, syscall, &[site], argument);
        let mode = |mode| Some(Argument::Mode(mode));
        assert!(!by("fchmodat", "setattr_copy", mode(0o1755)));
        assert!(by("fchmodat", "setattr_copy", mode(0o2755)));
        assert!(!by("fsetxattr", "posix_acl_update_mode", Some(Argument::Size(28))));
        assert!(by("setxattr", "posix_acl_update_mode", Some(Argument::Size(44))));
        assert!(!by("fchownat", "setattr_copy", None));
        assert!(by("fchownat", "setattr_should_drop_sgid", None));
        assert!(by("openat", "inode_init_owner", None));
    }

    #[test]
    fn fanotify_takes_sys_admin_for_what_reports_files_or_marks_a_mount() {
        let by = |syscall, flags| decides(Capability::SYS_ADMIN, syscall, &[], Some(Argument::Flags(flags)));
        let (close_on_exec, content, fid, mnt, unlimited) = (0x1, 0x4, 0x200, 0x4000, 0x10);
        assert!(by("fanotify_init", close_on_exec));
        assert!(by("fanotify_init", content));
        assert!(!by("fanotify_init", fid | close_on_exec));
        assert!(!by("fanotify_init", mnt));
        assert!(by("fanotify_init", fid | unlimited));
        let (add, mount, file_system) = (0x1, 0x10, 0x100);
        assert!(!by("fanotify_mark", add));
        assert!(by("fanotify_mark", add | mount));
        assert!(by("fanotify_mark", add | file_system));
    }

    #[test]
    fn an_event_of_a_process_takes_perfmon_only_in_the_kernel() {
        let by = |site, flags| {
            let by = |capability| {
                decides(capability, "perf_event_open", &["capable", site], Some(Argument::Flags(flags)))
            };
            assert_eq!(by(Capability::PERFMON), by(Capability::SYS_ADMIN));
            by(Capability::PERFMON)
        };
        assert!(!by("perf_check_permission", PERF_EXCLUDE_KERNEL | 1));
        assert!(by("perf_check_permission", 1));
        assert!(by("perf_allow_cpu", PERF_EXCLUDE_KERNEL));
    }

    #[test]
    fn shared_memory_is_locked_by_its_owner_within_the_limit() {
        let by = |site| decides(Capability::IPC_LOCK, "shmctl", &["ns_capable", site], None);
        assert!(!by("shmctl_do_lock"));
        assert!(by("user_shm_lock"));
    }

    #[test]
    fn quota_asks_of_itself_and_the_owner_is_asked_elsewhere() {
        let by = |sites: &[&str]| decides(Capability::FOWNER, "fchownat", sites, None);
        assert!(!by(&["ns_capable_noaudit", "xfs_setattr_nonsize", "xfs_vn_setattr", "notify_change"]));
        assert!(by(&["capable_wrt_inode_uidgid", "setattr_prepare", "xfs_vn_change_ok", "xfs_vn_setattr"]));
    }

    #[test]
    fn what_only_shows_more_decides_nothing() {
        for (capability, syscall, asker) in [
            (Capability::SYS_ADMIN, "read", "pci_read_config"),
            (Capability::SYS_ADMIN, "read", "r_show"),
            (Capability::SYS_PTRACE, "read", "proc_pid_wchan"),
            (Capability::MAC_ADMIN, "lgetxattr", "selinux_inode_getsecurity"),
            (Capability::NET_ADMIN, "sendmsg", "mptcp_diag_dump_one"),
            (Capability::SYS_ADMIN, "ioctl", "os_is_administrator"),
        ] {
            assert!(!decides(capability, syscall, &["capable", asker], None), "{asker}");
            assert!(decides(capability, syscall, &["capable", "another"], None), "{asker}");
        }
        let destroy = ["netlink_net_capable", "tcp_diag_destroy", "sock_diag_rcv_msg"];
        assert!(decides(Capability::NET_ADMIN, "sendmsg", &destroy, None));
    }
}
