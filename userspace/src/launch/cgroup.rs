//! A fresh cgroup that lets its processes use only the listed devices.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::devices::{self, Rule};
use crate::probe::device_program;

/// A cgroup made for one command. Removed by [`DeviceCgroup::remove`], or when dropped if it is empty then.
#[derive(Debug)]
pub struct DeviceCgroup {
    directory: PathBuf,
    removed: bool,
}

/// Why devices cannot be restricted.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Neither cgroup version 2 nor the devices controller of version 1 is mounted.
    #[error("no cgroup file system is mounted: mount cgroup2, or v1 with the devices controller")]
    NotMounted,
    /// One of the steps to make it failed.
    #[error("{step} {}: {error}", path.display())]
    Step {
        /// What was tried.
        step: &'static str,
        /// The cgroup or the file in it.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// How this host would restrict a command's devices; tried out, and undone.
///
/// # Errors
/// When it cannot.
pub fn device_control() -> Result<&'static str, CgroupError> {
    let cgroup = DeviceCgroup::create(&[])?;
    // Only the controller of version 1 has this file.
    let version_1 = cgroup.directory.join("devices.list").exists();
    Ok(if version_1 {
        "the devices controller of cgroup version 1"
    } else {
        "a program on a cgroup of version 2"
    })
}

impl DeviceCgroup {
    /// Makes one below the cgroup of this process: of version 2 with a program, else of version 1.
    pub(super) fn create(rules: &[Rule]) -> Result<Self, CgroupError> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| step("read", Path::new(path), error));
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let first = match own_cgroup(&mounts, &own, Version::V2) {
            Some(parent) => match Self::version_2(&parent, rules) {
                Ok(cgroup) => return Ok(cgroup),
                Err(error) => error,
            },
            None => CgroupError::NotMounted,
        };
        match own_cgroup(&mounts, &own, Version::V1Devices) {
            Some(parent) => Self::version_1(&parent, rules),
            None => Err(first),
        }
    }

    fn version_2(parent: &Path, rules: &[Rule]) -> Result<Self, CgroupError> {
        let cgroup = Self::below(parent)?;
        let directory =
            File::open(&cgroup.directory).map_err(|error| step("open cgroup", &cgroup.directory, error))?;
        device_program::attach(&directory, &devices::program(rules))
            .map_err(|error| step("attach a device program to cgroup", &cgroup.directory, error))?;
        Ok(cgroup)
    }

    fn version_1(parent: &Path, rules: &[Rule]) -> Result<Self, CgroupError> {
        let cgroup = Self::below(parent)?;
        let write = |file: &str, text: &str| {
            let path = cgroup.directory.join(file);
            fs::write(&path, text).map_err(|error| step("write", &path, error))
        };
        write("devices.deny", "a")?;
        for rule in rules {
            write("devices.allow", &rule.to_string())?;
        }
        Ok(cgroup)
    }

    fn below(parent: &Path) -> Result<Self, CgroupError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("unpriv-{}-{count}", process::id()));
        fs::create_dir(&directory).map_err(|error| step("make cgroup", &directory, error))?;
        Ok(Self { directory, removed: false })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// `cgroup.procs`, for moving to it.
    pub(super) fn entrance(&self) -> Result<File, CgroupError> {
        let path = self.directory.join("cgroup.procs");
        File::options().write(true).open(&path).map_err(|error| step("open", &path, error))
    }

    /// The processes in it.
    ///
    /// # Errors
    /// When the kernel's list cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let list = fs::read_to_string(self.directory.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills what is left in it, as the end of a container kills its processes.
    ///
    /// # Errors
    /// When the list of processes cannot be read.
    pub fn kill(&self) -> io::Result<()> {
        // More than one round, for a process may fork between the list and its death.
        for _ in 0..100 {
            let processes = self.processes()?;
            if processes.is_empty() {
                break;
            }
            for process in processes.into_iter().filter_map(|id| Pid::from_raw(id.try_into().ok()?)) {
                // One that is gone already is as good as killed.
                kill_process(process, Signal::KILL).ok();
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Removes it, waiting a little for processes that are about to be gone.
    ///
    /// # Errors
    /// `EBUSY` when processes are still running in it.
    pub fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        for _ in 0..20 {
            match remove_tree(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
        remove_tree(&self.directory)
    }
}

impl Drop for DeviceCgroup {
    fn drop(&mut self) {
        if !self.removed {
            // Nobody is left to tell.
            remove_tree(&self.directory).ok();
        }
    }
}

fn step(step: &'static str, path: &Path, error: io::Error) -> CgroupError {
    CgroupError::Step { step, path: path.to_owned(), error }
}

/// Removes a cgroup and those that the command made in it. Their files go with them.
fn remove_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    V2,
    V1Devices,
}

/// Where the cgroup of this process is, from the text of proc's `self/mountinfo` and `self/cgroup`.
fn own_cgroup(mounts: &str, own: &str, version: Version) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match version {
            Version::V2 => hierarchy == "0",
            Version::V1Devices => controllers.split(',').any(|controller| controller == "devices"),
        };
        found.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        // proc_pid_mountinfo(5): id, parent, device, root, mount point, options… - type, source, super options
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mount_point) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let found = match version {
            Version::V2 => kind == "cgroup2",
            Version::V1Devices => kind == "cgroup" && options.split(',').any(|option| option == "devices"),
        };
        // A mount may show only a part of the hierarchy: a container's.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        found.then(|| Path::new(mount_point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt as _;

    const MOUNTS: &str = "\
30 20 0:26 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755
31 30 0:27 /docker/ab /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
    const OWN: &str = "4:devices:/docker/ab/c\n1:name=systemd:/\n0::/user.slice/x\n";

    #[test]
    fn the_own_cgroup_is_found_on_a_hybrid_host_and_below_a_partial_mount() {
        let find = |version| own_cgroup(MOUNTS, OWN, version).unwrap();
        assert_eq!(find(Version::V2), Path::new("/sys/fs/cgroup/unified/user.slice/x"));
        assert_eq!(find(Version::V1Devices), Path::new("/sys/fs/cgroup/devices/c"));
        assert_eq!(own_cgroup("", OWN, Version::V2), None);
    }

    /// Both versions, where the host has them: /dev/kmsg is no base device, /dev/null is one.
    #[test]
    fn either_version_denies_what_is_not_listed() {
        let (mounts, own) = ["mountinfo", "cgroup"]
            .map(|file| fs::read_to_string(format!("/proc/self/{file}")).unwrap())
            .into();
        let kmsg = fs::metadata("/dev/kmsg").is_ok_and(|file| file.file_type().is_char_device());
        for version in [Version::V2, Version::V1Devices] {
            let Some(parent) = own_cgroup(&mounts, &own, version).filter(|_| kmsg) else {
                eprintln!("skipped: no such cgroup or no /dev/kmsg");
                continue;
            };
            let rules = devices::rules(&std::collections::BTreeSet::new());
            let made = match version {
                Version::V2 => DeviceCgroup::version_2(&parent, &rules),
                Version::V1Devices => DeviceCgroup::version_1(&parent, &rules),
            };
            if !rustix::process::geteuid().is_root() {
                eprintln!("skipped: needs root");
                continue;
            }
            let cgroup = made.unwrap();
            let status = process::Command::new("sh")
                .args([
                    "-c",
                    "echo $$ > \"$0\"/cgroup.procs && true < /dev/null && ! true 2> /dev/null < /dev/kmsg",
                ])
                .arg(cgroup.path())
                .status()
                .unwrap();
            assert!(status.success());
            let directory = cgroup.path().to_owned();
            cgroup.remove().unwrap();
            assert!(!directory.exists());
        }
    }
}
