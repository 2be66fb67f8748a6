//! What can be learnt of executed files only while they can still be reached: file capabilities and
//! set-id bits, which no capability check shows.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{
    capability::Capability,
    probe::ExecutedProgram,
    trace::{FileCapabilities, Program},
};

/// `XATTR_NAME_CAPS`.
const ATTRIBUTE: &str = "security.capability";
/// Set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;
/// How many interpreters of scripts the kernel follows (`exec_binprm`).
const MAX_INTERPRETERS: usize = 5;

/// What was learnt of the workload's files.
#[derive(Debug, Default)]
pub(super) struct Files {
    seen: BTreeMap<u32, Program>,
    /// Root directories to look in, held so that they outlive the workload: the workload's own, and
    /// before it what stands in for a container that ends too soon to be looked into.
    roots: Vec<OwnedFd>,
    /// Where relative paths of a plain command start.
    directory: Option<PathBuf>,
}

impl Files {
    /// For a plain command: its files are looked up from this process's root and directory.
    #[must_use]
    pub(super) fn of_this_process() -> Self {
        Self {
            roots: open_directory(Path::new("/")).into_iter().collect(),
            directory: std::env::current_dir().ok(),
            ..Self::default()
        }
    }

    /// For a container: its image's layers stand in until it runs.
    pub(super) fn of_image(layers: &[&str]) -> Self {
        Self { roots: mount_layers(layers).into_iter().collect(), ..Self::default() }
    }

    /// Looks at the file that a process has just executed.
    pub(super) fn look(&mut self, executed: &ExecutedProgram) {
        let path = executed.path.as_str();
        let process = PathBuf::from(format!("/proc/{}", executed.pid));
        let root = open_directory(&process.join("root"));
        let found = root
            .as_ref()
            .filter(|_| path.starts_with('/'))
            .and_then(|root| read_in(root, Path::new(path)))
            .or_else(|| read_at(&process.join("exe")));
        // The last one is asked first.
        if self.roots.len() < 2 {
            self.roots.extend(root);
        }
        if let Some(program) = found.or_else(|| self.read_later(path)) {
            self.seen.insert(executed.program, program);
        }
    }

    /// What is known of a program; a last look at files that could not be reached in time.
    #[must_use]
    pub(super) fn program(&self, index: u32, path: &str) -> Program {
        let known = self.seen.get(&index).cloned().or_else(|| self.read_later(path));
        known.unwrap_or(Program { unread: true, ..Program::default() })
    }

    fn read_later(&self, path: &str) -> Option<Program> {
        let path = Path::new(path);
        let path = if path.is_absolute() { path.to_owned() } else { self.directory.as_ref()?.join(path) };
        self.roots.iter().rev().find_map(|root| read_in(root, &path))
    }
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// An overlay of an image's layers that is mounted nowhere. `None` where the layers are not here, or the
/// kernel does not take them one by one (Linux 6.7).
fn mount_layers(layers: &[&str]) -> Option<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    };
    if let [layer] = layers {
        return open_directory(Path::new(layer));
    }
    if layers.is_empty() {
        return None;
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    for layer in layers {
        fsconfig_set_string(&context, "lowerdir+", *layer).ok()?;
    }
    fsconfig_create(&context).ok()?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).ok()
}

/// Reads a file below a root, following a script to its interpreter: the kernel takes the
/// capabilities of the file that it runs in the end.
fn read_in(root: &OwnedFd, path: &Path) -> Option<Program> {
    let mut path = path.to_owned();
    for _ in 0..MAX_INTERPRETERS {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(root, &path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
        let file = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
        match interpreter(&file) {
            Some(next) => path = next,
            None => return read_at(&file),
        }
    }
    None
}

/// The interpreter that a script's first line names.
fn interpreter(file: &Path) -> Option<PathBuf> {
    // A device or a pipe under a program's name must not be opened.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut line = Vec::new();
    BufReader::new(File::open(file).ok()?.take(256)).read_until(b'\n', &mut line).ok()?;
    let text = std::str::from_utf8(line.strip_prefix(b"#!")?).ok()?;
    Some(PathBuf::from(text.split_ascii_whitespace().next()?))
}

/// Reads a file through a path that needs no resolving.
fn read_at(file: &Path) -> Option<Program> {
    let metadata = file.metadata().ok()?;
    let nosuid = rustix::fs::statvfs(file)
        .is_ok_and(|file_system| file_system.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
    if nosuid {
        // mnt_may_suid: neither the bits nor the capabilities apply.
        return Some(Program::default());
    }
    Some(Program {
        file_capabilities: read_capabilities(file),
        set_id: metadata.mode() & SET_ID != 0,
        unread: false,
    })
}

fn read_capabilities(file: &Path) -> Option<FileCapabilities> {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(file, ATTRIBUTE, &mut value).ok()?;
    parse(value.get(..length)?)
}

/// `struct vfs_cap_data` of revisions 2 and 3, `include/uapi/linux/capability.h`; little-endian.
fn parse(value: &[u8]) -> Option<FileCapabilities> {
    const EFFECTIVE: u32 = 1;
    let word = |index: usize| -> Option<u64> {
        Some(u64::from(u32::from_le_bytes(value.get(index * 4..index * 4 + 4)?.try_into().ok()?)))
    };
    Some(FileCapabilities {
        effective: word(0)? & u64::from(EFFECTIVE) != 0,
        permitted: Capability::from_bits(word(1)? | word(3)? << 32),
        inheritable: Capability::from_bits(word(2)? | word(4)? << 32),
    })
}

/// Names of device nodes below /dev by `c 10:229`: of several the shortest, then the first.
#[must_use]
pub(super) fn device_nodes() -> BTreeMap<String, String> {
    let mut nodes = BTreeMap::new();
    collect_nodes(Path::new("/dev"), &mut nodes);
    nodes
}

fn collect_nodes(directory: &Path, nodes: &mut BTreeMap<String, String>) {
    use std::os::unix::fs::FileTypeExt as _;
    let Ok(entries) = directory.read_dir() else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() {
            collect_nodes(&entry.path(), nodes);
            continue;
        }
        let letter = if kind.is_block_device() {
            'b'
        } else if kind.is_char_device() {
            'c'
        } else {
            continue;
        };
        let Ok(path) = entry.path().into_os_string().into_string() else { continue };
        let number = metadata.rdev();
        let rule = format!("{letter} {}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let known: &mut String = nodes.entry(rule).or_insert_with(|| path.clone());
        if (path.len(), &path) < (known.len(), known) {
            *known = path;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_capabilities_are_read_as_setcap_writes_them() {
        // setcap cap_net_raw=ep
        let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let parsed = parse(&value).unwrap();
        assert!(parsed.effective);
        assert_eq!(parsed.permitted.into_iter().collect::<Vec<_>>(), [Capability::NET_RAW]);
        assert!(parsed.inheritable.is_empty());
        assert_eq!(parse(&value[..7]), None);
    }

    #[test]
    fn a_script_leads_to_its_interpreter() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "#! /bin/sh -e\n").unwrap();
        assert_eq!(interpreter(&script), Some(PathBuf::from("/bin/sh")));
        assert_eq!(interpreter(Path::new("/bin/sh")), None);
        let root = open_directory(Path::new("/")).unwrap();
        assert_eq!(read_in(&root, &script), Some(Program::default()));
    }

    #[test]
    fn the_null_device_is_found_by_number() {
        assert_eq!(device_nodes()["c 1:3"], "/dev/null");
    }

    #[test]
    fn what_is_gone_is_unread() {
        let files = Files::default();
        assert!(files.program(7, "/no/such/file").unread);
    }
}
