//! The root of the unified cgroup hierarchy, mounted or not.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags},
};

/// Where it is mounted, if it is.
#[must_use]
pub fn mount_point() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let found = mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        source.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    found.map(PathBuf::from)
}

/// Its root directory, open. A host of cgroup v1 has the hierarchy too, with no controllers in it and no mount:
/// it is then mounted where nobody sees it.
///
/// # Errors
///
/// When it cannot be opened or mounted.
pub(super) fn root() -> Result<File> {
    match mount_point() {
        Some(path) => open(&path),
        None => detached("cgroup2").context("cannot mount cgroup2"),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// The root directory of a file system of the kernel's, mounted at no path and gone when it is closed.
///
/// # Errors
///
/// When the kernel has no such file system, or refuses to mount it.
pub(super) fn detached(kind: &str) -> Result<File> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    // A mount is only a place (O_PATH); its root directory can be read.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", flags, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_without_a_mount_can_be_opened() {
        let root = detached("cgroup2").unwrap();
        let found = rustix::fs::fstatfs(&root).unwrap();
        assert_eq!(u32::try_from(found.f_type).unwrap(), probe_ebpf::magic::CGROUP2);
    }
}
