//! Finds the file that a command names, as a shell does.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::shell::one_line;

/// Why a command cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum NotExecutable {
    /// No such file; a shell exits with 127.
    #[error("{}: command not found", one_line(.0))]
    NotFound(String),
    /// There is one, but it is no program that may be executed; a shell exits with 126.
    #[error("{}: {error}", one_line(&path.to_string_lossy()))]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The file for a command: the name itself when it has a slash, else the first that can be executed in the
/// directories of `search`, which is `PATH`.
pub(super) fn find(name: &OsStr, search: &OsStr) -> Result<PathBuf, NotExecutable> {
    let not_found = || NotExecutable::NotFound(name.to_string_lossy().into_owned());
    if name.is_empty() {
        return Err(NotExecutable::NotFound("(an empty name)".to_owned()));
    }
    if name.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(not_found()),
            Err(error) => Err(NotExecutable::Refused { path, error }),
        };
    }
    let mut refused = None;
    for directory in std::env::split_paths(search) {
        // An empty entry is the working directory.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let path = directory.join(name);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused.get_or_insert(NotExecutable::Refused { path, error });
            }
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(not_found))
}

fn check(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_executable_of_the_search_path_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let plain = make("a/tool", 0o644);
        let tool = make("b/tool", 0o755);
        fs::create_dir_all(directory.path().join("c/tool")).unwrap();
        let search = |names: &[&str]| {
            let search = std::env::join_paths(names.iter().map(|name| directory.path().join(name))).unwrap();
            find(OsStr::new("tool"), &search)
        };
        assert_eq!(search(&["c", "a", "b"]).unwrap(), tool);
        assert!(matches!(search(&["a"]), Err(NotExecutable::Refused { path, .. }) if path == plain));
        assert!(matches!(search(&["c"]), Err(NotExecutable::NotFound(_))));
        assert!(matches!(find(plain.as_os_str(), OsStr::new("")), Err(NotExecutable::Refused { .. })));
        assert_eq!(find(tool.as_os_str(), OsStr::new("")).unwrap(), tool);
        let missing = find(OsStr::new("/nowhere/tool"), OsStr::new("")).unwrap_err();
        assert_eq!(missing.to_string(), "/nowhere/tool: command not found");
    }
}
