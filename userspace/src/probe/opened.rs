//! The files of kernel file systems that the workload opened, by the paths that a container knows.

use anyhow::Result;
use aya::Pod;
use probe_ebpf::{OpenedKey, magic};

use super::{decode::Names, load::Probe};
use crate::trace::{Facts, PathAccess, masked};

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainOpened(OpenedKey);
// SAFETY: whole numbers and an array of them, without padding (the size is asserted in probe-ebpf).
unsafe impl Pod for PlainOpened {}

impl Probe {
    /// What was opened for writing, and what an engine may mask: nothing else decides a grant.
    pub(super) fn opened(&self, names: &Names<'_>) -> Result<Facts<PathAccess>> {
        let mut facts = Facts::default();
        for entry in &self.hash::<PlainOpened, u64>("OPENED")? {
            let (PlainOpened(key), count) = entry?;
            let path = path(&key);
            let write = key.write == 1;
            if write || masked(&path).is_some() {
                let foreign = key.foreign == 1;
                let program = names.program(key.program);
                facts.add(PathAccess { path, write, foreign, program }, count);
            }
        }
        Ok(facts)
    }
}

/// Where a file system of the kernel's is mounted by custom, whatever the workload's own mounts are.
fn mount_point(magic: u32) -> &'static str {
    match magic {
        magic::PROC => "/proc",
        magic::SYSFS => "/sys",
        magic::CGROUP | magic::CGROUP2 => "/sys/fs/cgroup",
        magic::TRACEFS => "/sys/kernel/tracing",
        magic::DEBUGFS => "/sys/kernel/debug",
        magic::BPF => "/sys/fs/bpf",
        magic::SECURITYFS => "/sys/kernel/security",
        magic::SELINUX => "/sys/fs/selinux",
        magic::FUSECTL => "/sys/fs/fuse/connections",
        magic::CONFIGFS => "/sys/kernel/config",
        magic::BINFMT_MISC => "/proc/sys/fs/binfmt_misc",
        _ => "",
    }
}

fn path(key: &OpenedKey) -> String {
    let mut path = mount_point(key.magic).to_owned();
    for name in key.path.split(|&byte| byte == 0).take_while(|name| !name.is_empty()) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(name));
    }
    if key.truncated == 1 {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use probe_ebpf::OPENED_PATH;

    fn key(magic: u32, names: &[u8]) -> OpenedKey {
        let mut path = [0; OPENED_PATH];
        path[..names.len()].copy_from_slice(names);
        OpenedKey { program: 0, magic, write: 1, truncated: 0, foreign: 0, path }
    }

    #[test]
    fn names_follow_the_usual_mount_point() {
        assert_eq!(path(&key(magic::PROC, b"sys\0net\0ipv4\0ip_forward\0")), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path(&key(magic::SYSFS, b"")), "/sys");
        assert_eq!(path(&key(magic::CGROUP2, b"")), "/sys/fs/cgroup");
        assert_eq!(path(&key(magic::TRACEFS, b"tracing_on\0")), "/sys/kernel/tracing/tracing_on");
    }

    #[test]
    fn every_file_system_has_a_mount_point() {
        assert!(magic::ALL.into_iter().all(|magic| !mount_point(magic).is_empty()));
    }

    #[test]
    fn what_is_too_long_is_a_directory() {
        let mut long = key(magic::SYSFS, b"devices\0pci0000:00\0");
        long.truncated = 1;
        assert_eq!(path(&long), "/sys/devices/pci0000:00/");
    }

    #[test]
    fn a_path_that_fills_its_place_is_whole() {
        let mut full = key(magic::SYSFS, b"");
        full.path = [b'x'; OPENED_PATH];
        assert_eq!(path(&full).len(), "/sys/".len() + OPENED_PATH);
    }
}
