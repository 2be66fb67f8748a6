//! Which capability checks matter. Every rule cites the kernel function that it knows.

use crate::{
    capability::Capability,
    trace::{Argument, CapabilityCheck, Credential, Namespace},
};

/// What a granted check says about need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One of these is needed, the narrowest first.
    Needed(&'static [Capability]),
    /// The outcome is the same without it, or cannot be known from the check; the reason for people.
    Opportunistic(&'static str),
    /// Not the workload's need.
    NotCounted,
}

use Verdict::{Needed, NotCounted, Opportunistic};

/// `S_ISGID`.
const SET_GROUP_ID: u32 = 0o2000;

/// Judges one check.
#[must_use]
pub fn judge(check: &CapabilityCheck) -> Verdict {
    if !check.granted || foreign_credentials(check) {
        return NotCounted;
    }
    match check.namespace {
        Namespace::Owner => return NotCounted,
        Namespace::Child => return in_child_namespace(check),
        Namespace::Own => {}
    }
    if !check.decisive
        && let Some(reason) = opportunistic(check)
    {
        return Opportunistic(reason);
    }
    Needed(alternatives(check))
}

/// A kernel subsystem's credentials are somebody else's: overlayfs puts on those of whoever mounted it,
/// which for a container's root is the engine. They are the workload's own when it mounts an overlay
/// itself; a later check of those is denied in a run with fewer capabilities, and then decisive.
fn foreign_credentials(check: &CapabilityCheck) -> bool {
    check.credential == Credential::Overridden && !check.decisive && !mounts_overlay(check)
}

/// Whether the call mounts an overlay, and does not merely walk a path of one, such as that of a mount point:
/// there the walk called overlayfs (`ovl_lookup`), not overlayfs the walk.
fn mounts_overlay(check: &CapabilityCheck) -> bool {
    const WALK: [&str; 5] =
        ["path_lookupat", "link_path_walk", "walk_component", "lookup_slow", "__lookup_slow"];
    let outermost = check.call_site.iter().rposition(|name| name.starts_with("ovl_"));
    call(check, &["mount", "fsconfig", "fsmount"])
        && outermost.is_some_and(|overlay| {
            check.call_site.iter().skip(overlay).all(|name| !WALK.contains(&name.as_str()))
        })
}

/// `verify_root_map` (`kernel/user_namespace.c`): mapping the parent's uid 0 takes `CAP_SETFCAP` of
/// whoever made the namespace, remembered in `parent_could_setfcap` and never checked by
/// `cap_capable`. A namespace's own process may map only its own uid, so root's maps uid 0.
fn in_child_namespace(check: &CapabilityCheck) -> Verdict {
    let writes_map = check.capability == Capability::SYS_ADMIN && site(check, &["map_write"]);
    if writes_map && check.root { Needed(&[Capability::SETFCAP]) } else { NotCounted }
}

fn site(check: &CapabilityCheck, functions: &[&str]) -> bool {
    check.call_site.iter().any(|name| functions.contains(&name.as_str()))
}

fn below(check: &CapabilityCheck, prefixes: &[&str]) -> bool {
    check.call_site.iter().any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

fn call(check: &CapabilityCheck, names: &[&str]) -> bool {
    check.syscall.as_deref().is_some_and(|syscall| names.contains(&syscall))
}

/// Why the outcome does not hang on this check, when it does not.
fn opportunistic(check: &CapabilityCheck) -> Option<&'static str> {
    match check.capability {
        Capability::SYS_RESOURCE => sys_resource(check),
        Capability::NET_ADMIN => net_admin(check),
        // dev_load (net/core/dev_ioctl.c): only to load a module for an interface that does not exist.
        Capability::SYS_MODULE if site(check, &["dev_load"]) => {
            Some("only asked before loading a module for a network interface that does not exist")
        }
        // kallsyms_show_value, restricted_pointer: kernel addresses read as zero.
        Capability::SYSLOG if site(check, &["kallsyms_show_value", "restricted_pointer"]) => {
            Some("only shows kernel addresses")
        }
        Capability::SYS_ADMIN if sys_admin(check).is_some() => sys_admin(check),
        // mm_access (kernel/fork.c) asks first; without it the ordinary rules of ptrace decide.
        Capability::PERFMON | Capability::SYS_ADMIN if site(check, &["mm_access", "may_access_mm"]) => {
            Some("asked before the ordinary rules of ptrace")
        }
        Capability::BPF | Capability::PERFMON if site(check, &["bpf_check"]) => {
            Some("only relaxes the BPF verifier")
        }
        // setattr_prepare (fs/attr.c) and posix_acl_update_mode ask on every chmod of another group's file.
        Capability::FSETID if matches!(check.argument, Some(Argument::Mode(mode)) if mode & SET_GROUP_ID == 0) => {
            Some("chmod without the set-group-ID bit")
        }
        // ep_take_care_of_epollwakeup (fs/eventpoll.c) drops the flag in silence.
        Capability::BLOCK_SUSPEND if call(check, &["epoll_ctl"]) => Some("EPOLLWAKEUP is dropped without it"),
        // io_uring_create: without it, memory counts towards RLIMIT_MEMLOCK.
        Capability::IPC_LOCK if call(check, &["io_uring_setup", "io_uring_register"]) => {
            Some("io_uring memory then counts towards RLIMIT_MEMLOCK")
        }
        // cap_capset (security/commoncap.c) asks on every capset; the request itself says what is needed.
        Capability::SETPCAP if call(check, &["capset"]) => Some("asked on every capset"),
        Capability::SETUID | Capability::SETGID if check.argument == Some(Argument::SameId(true)) => {
            Some("it had that id already")
        }
        // do_task_stat (fs/proc/array.c): addresses in /proc/PID/stat read as zero.
        Capability::SYS_PTRACE if site(check, &["do_task_stat"]) => {
            Some("only shows addresses in /proc/PID/stat")
        }
        // scsi_cmd_allowed (drivers/scsi/scsi_ioctl.c) asks first, then filters commands.
        Capability::SYS_RAWIO if site(check, &["scsi_cmd_allowed"]) => {
            Some("asked before every SCSI command")
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
        // vt_ioctl asks for any request on a terminal that is not the caller's.
        Capability::SYS_TTY_CONFIG if site(check, &["vt_ioctl"]) => {
            Some("asked on every ioctl of a virtual terminal")
        }
        // ipc_permissions (ipc/ipc_sysctl.c): then the mode bits decide.
        Capability::CHECKPOINT_RESTORE if site(check, &["ipc_permissions"]) => Some("the mode bits decide"),
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
        return Some("the mode bits decide");
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
    // bpf_jit_blinding_enabled (include/linux/filter.h).
    if site(check, &["bpf_int_jit_compile", "bpf_prog_select_runtime", "bpf_check"]) {
        return Some("only relaxes the BPF verifier or compiler");
    }
    None
}

fn sys_resource(check: &CapabilityCheck) -> Option<&'static str> {
    // ext4_has_free_clusters and its kin: the blocks reserved for root.
    if site(check, &["ext4_has_free_clusters", "ext4_claim_free_clusters", "ext2_has_free_blocks"]) {
        return Some("the file system's reserved blocks");
    }
    // __set_oom_adj asks twice; the quiet one only lowers the floor for later changes.
    if site(check, &["__set_oom_adj"])
        && below(check, &["has_capability_noaudit", "has_ns_capability_noaudit"])
    {
        return Some("only lowers the floor of oom_score_adj");
    }
    if site(check, &["set_permissions"]) {
        return Some("the mode bits decide");
    }
    // mq_attr_ok (ipc/mqueue.c) asks first, then compares with the limits.
    if site(check, &["mq_attr_ok", "mqueue_get_inode"]) {
        return Some("asked before the limits of a message queue are compared");
    }
    None
}

fn net_admin(check: &CapabilityCheck) -> Option<&'static str> {
    // net_ctl_permissions (net/sysctl_net.c): gives root's mode bits, which root has anyway.
    if site(check, &["net_ctl_permissions"]) && check.root {
        return Some("the mode bits decide");
    }
    if site(check, &["dev_load"]) {
        return Some("only asked before loading a module for a network interface that does not exist");
    }
    // __vsock_create: marks the socket as trusted.
    if below(check, &["vsock_create", "__vsock_create"]) {
        return Some("only marks a vsock socket as trusted");
    }
    // inet_diag, packet_diag and others leave fields out without it.
    if below(
        check,
        &["inet_diag", "tcp_diag", "udp_diag", "udp_dump", "raw_diag", "packet_diag", "unix_diag"],
    ) && !site(check, &["sock_diag_destroy", "tcp_diag_destroy", "udp_diag_destroy", "raw_diag_destroy"])
    {
        return Some("only shows more fields of sockets");
    }
    // do_tcp_setsockopt(TCP_CONGESTION) asks before it knows whether the algorithm is restricted.
    if matches!(check.argument, Some(Argument::Option(6, 13))) {
        return Some("counts only for a restricted congestion control algorithm");
    }
    None
}

/// The capabilities any of which the kernel takes here, the narrowest first.
fn alternatives(check: &CapabilityCheck) -> &'static [Capability] {
    match check.capability {
        // generic_permission (fs/namei.c): read and search by either; opening by handle only by the one.
        Capability::DAC_READ_SEARCH if !call(check, &["open_by_handle_at", "name_to_handle_at"]) => {
            &[Capability::DAC_READ_SEARCH, Capability::DAC_OVERRIDE]
        }
        // bpf_capable, perfmon_capable, checkpoint_restore_ns_capable (include/linux/capability.h).
        Capability::BPF => &[Capability::BPF, Capability::SYS_ADMIN],
        Capability::PERFMON => &[Capability::PERFMON, Capability::SYS_ADMIN],
        Capability::CHECKPOINT_RESTORE => &[Capability::CHECKPOINT_RESTORE, Capability::SYS_ADMIN],
        // bpf_net_capable.
        Capability::NET_ADMIN if call(check, &["bpf"]) => &[Capability::NET_ADMIN, Capability::SYS_ADMIN],
        // sk_setsockopt(SO_PRIORITY, SO_MARK), IP_TRANSPARENT, IPV6_TRANSPARENT, __sock_cmsg_send(SO_MARK).
        Capability::NET_RAW
            if matches!(
                check.argument,
                Some(Argument::Option(1, 12 | 36) | Argument::Option(0, 19) | Argument::Option(41, 75))
            ) || site(check, &["__sock_cmsg_send", "sock_cmsg_send"]) =>
        {
            &[Capability::NET_RAW, Capability::NET_ADMIN]
        }
        // check_syslog_permissions (kernel/printk/printk.c) of older kernels takes SYS_ADMIN for SYSLOG as well. The
        // narrow one does on every kernel, the other would not.
        // ioprio_check_cap asks for SYS_ADMIN first.
        Capability::SYS_ADMIN if call(check, &["ioprio_set"]) => {
            &[Capability::SYS_NICE, Capability::SYS_ADMIN]
        }
        // copy_process (RLIMIT_NPROC), pipe_is_unprivileged_user.
        Capability::SYS_RESOURCE if call(check, &["clone", "clone3", "fork", "vfork", "pipe", "pipe2"]) => {
            &[Capability::SYS_RESOURCE, Capability::SYS_ADMIN]
        }
        capability => single(capability),
    }
}

fn single(capability: Capability) -> &'static [Capability] {
    static EACH: std::sync::LazyLock<Vec<Capability>> =
        std::sync::LazyLock::new(|| Capability::all().collect());
    std::slice::from_ref(&EACH[usize::from(capability.number())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    fn check(capability: Capability, syscall: &str, call_site: &[&str]) -> CapabilityCheck {
        CapabilityCheck {
            capability,
            granted: true,
            credential: Credential::Own,
            namespace: Namespace::Own,
            root: true,
            program: "/bin/p".to_owned(),
            abi: Abi::X86_64,
            syscall: Some(syscall.to_owned()),
            argument: None,
            call_site: call_site.iter().map(|&name| name.to_owned()).collect(),
            decisive: false,
            audited: None,
            in_set_id: None,
        }
    }

    #[test]
    fn mount_needs_sys_admin() {
        let mount = check(Capability::SYS_ADMIN, "mount", &["ns_capable", "path_mount"]);
        assert_eq!(judge(&mount), Needed(&[Capability::SYS_ADMIN]));
    }

    #[test]
    fn memory_accounting_does_not() {
        let brk = check(Capability::SYS_ADMIN, "brk", &["security_vm_enough_memory_mm", "do_brk_flags"]);
        assert!(matches!(judge(&brk), Opportunistic(_)));
    }

    #[test]
    fn denied_overridden_owned_and_child_checks_are_not_counted() {
        let mount = check(Capability::SYS_ADMIN, "mount", &["path_mount"]);
        assert_eq!(judge(&CapabilityCheck { granted: false, ..mount.clone() }), NotCounted);
        assert_eq!(
            judge(&CapabilityCheck { credential: Credential::Overridden, ..mount.clone() }),
            NotCounted
        );
        assert_eq!(judge(&CapabilityCheck { namespace: Namespace::Owner, ..mount.clone() }), NotCounted);
        assert_eq!(judge(&CapabilityCheck { namespace: Namespace::Child, ..mount }), NotCounted);
    }

    #[test]
    fn walking_to_a_mount_point_on_an_overlay_is_no_need_but_mounting_an_overlay_is() {
        let overridden = |sites: &[&str]| CapabilityCheck {
            credential: Credential::Overridden,
            ..check(Capability::SYS_ADMIN, "mount", sites)
        };
        let lookup = [
            "xattr_permission",
            "vfs_getxattr",
            "ovl_get_inode",
            "ovl_lookup",
            "__lookup_slow",
            "path_lookupat",
        ];
        assert_eq!(judge(&overridden(&lookup)), NotCounted);
        let own = ["xattr_permission", "path_lookupat", "kern_path", "ovl_mount_dir", "ovl_fill_super"];
        assert_eq!(judge(&overridden(&own)), Needed(&[Capability::SYS_ADMIN]));
    }

    #[test]
    fn mapping_root_in_a_new_user_namespace_needs_setfcap() {
        let mut write = check(Capability::SYS_ADMIN, "write", &["map_write", "vfs_write"]);
        write.namespace = Namespace::Child;
        assert_eq!(judge(&write), Needed(&[Capability::SETFCAP]));
        write.root = false;
        assert_eq!(judge(&write), NotCounted);
    }

    #[test]
    fn chmod_needs_fsetid_only_for_the_set_group_id_bit() {
        let mut chmod = check(Capability::FSETID, "fchmodat", &["setattr_prepare"]);
        chmod.argument = Some(Argument::Mode(0o755));
        assert!(matches!(judge(&chmod), Opportunistic(_)));
        chmod.argument = Some(Argument::Mode(0o2755));
        assert_eq!(judge(&chmod), Needed(&[Capability::FSETID]));
    }

    #[test]
    fn the_kernel_log_takes_syslog_alone_whatever_else_older_kernels_accept() {
        let log = check(Capability::SYSLOG, "syslog", &["check_syslog_permissions", "do_syslog"]);
        assert_eq!(judge(&log), Needed(&[Capability::SYSLOG]));
    }

    #[test]
    fn reading_takes_the_narrower_of_two() {
        let read = check(Capability::DAC_READ_SEARCH, "openat", &["generic_permission"]);
        assert_eq!(judge(&read), Needed(&[Capability::DAC_READ_SEARCH, Capability::DAC_OVERRIDE]));
        let handle = check(Capability::DAC_READ_SEARCH, "open_by_handle_at", &["may_decode_fh"]);
        assert_eq!(judge(&handle), Needed(&[Capability::DAC_READ_SEARCH]));
    }
}
