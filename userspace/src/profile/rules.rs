//! Which capability checks matter. Every rule cites the kernel function that it knows.

use super::opportunistic::opportunistic;
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

/// Whether programs try this first and go on without: `sk_setsockopt` (`net/core/sock.c`) takes `SO_SNDBUFFORCE` and
/// `SO_RCVBUFFORCE` beyond the limit that holds for `SO_SNDBUF` and `SO_RCVBUF`.
#[must_use]
pub fn is_tried_first(check: &CapabilityCheck) -> bool {
    check.capability == Capability::NET_ADMIN && matches!(check.argument, Some(Argument::Option(1, 32 | 33)))
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

pub(super) fn site(check: &CapabilityCheck, functions: &[&str]) -> bool {
    check.call_site.iter().any(|name| functions.contains(&name.as_str()))
}

pub(super) fn below(check: &CapabilityCheck, prefixes: &[&str]) -> bool {
    check.call_site.iter().any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
}

pub(super) fn call(check: &CapabilityCheck, names: &[&str]) -> bool {
    check.syscall.as_deref().is_some_and(|syscall| names.contains(&syscall))
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
pub(crate) mod tests {
    use super::*;
    use crate::syscalls::Abi;

    pub(crate) fn check(capability: Capability, syscall: &str, call_site: &[&str]) -> CapabilityCheck {
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
