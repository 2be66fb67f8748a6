//! Calls that mount something or move mounts about.

use serde::{Deserialize, Serialize};

use crate::syscalls::Abi;

/// One such call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountCall {
    /// The program.
    pub program: String,
    /// The ABI.
    pub abi: Abi,
    /// The call, such as `mount` or `move_mount`.
    pub syscall: String,
    /// The file system's type, where the call has one.
    pub fstype: Option<String>,
    /// What is mounted or moved; of `pivot_root` the place for the old root. A path is the one that the process
    /// gave, from the root of its mount namespace.
    pub source: Option<String>,
    /// Where; of `pivot_root` the new root.
    pub target: Option<String>,
    /// A path that the call was given is not here: too long, or below an open directory.
    pub partial: bool,
    /// The call's flags, such as `MS_NOSUID`.
    pub flags: u64,
    /// How it failed, if it did.
    pub errno: Option<String>,
}

/// Flags of mount(2), include/uapi/linux/mount.h, by the words that `AppArmor` has for them
/// (`audit_mnt_flags`, security/apparmor/mount.c). `apparmor_parser` 3.0 has none for `MS_NOSYMFOLLOW`.
const MOUNT_FLAGS: [(u64, &str); 19] = [
    (1, "ro"),
    (2, "nosuid"),
    (4, "nodev"),
    (8, "noexec"),
    (16, "sync"),
    (MS_REMOUNT, "remount"),
    (64, "mand"),
    (128, "dirsync"),
    (1024, "noatime"),
    (2048, "nodiratime"),
    (MS_BIND, "bind"),
    (MS_MOVE, "move"),
    (MS_SILENT, "silent"),
    (1 << 16, "acl"),
    (1 << 17, "unbindable"),
    (1 << 18, "private"),
    (1 << 19, "slave"),
    (1 << 20, "shared"),
    (1 << 21, "relatime"),
];
/// Change a mount that is there.
pub const MS_REMOUNT: u64 = 32;
/// Make a directory visible at another place.
pub const MS_BIND: u64 = 4096;
/// Move a mount.
pub const MS_MOVE: u64 = 8192;
/// With all that is mounted below.
pub const MS_REC: u64 = 1 << 14;
/// Be silent.
pub const MS_SILENT: u64 = 1 << 15;
/// Change how mounts propagate: unbindable, private, slave, shared.
pub const MS_PROPAGATION: u64 = 0xf << 17;
/// `MS_I_VERSION`.
const MS_I_VERSION: u64 = 1 << 23;
/// `MS_STRICTATIME`.
const MS_STRICTATIME: u64 = 1 << 24;

/// The flags as the kernel judges them: `path_mount` and `apparmor_sb_mount` drop the magic number of old, and
/// what only the kernel itself sets.
#[must_use]
pub fn mount_flags(flags: u64) -> u64 {
    const MAGIC: u64 = 0xc0ed_0000;
    const MAGIC_MASK: u64 = 0xffff_0000;
    const INTERNAL: u64 = 1 << 22 | 1 << 28 | 1 << 29 | 1 << 30;
    let flags = flags & 0xffff_ffff;
    (if flags & MAGIC_MASK == MAGIC { flags & !MAGIC_MASK } else { flags }) & !INTERNAL
}

/// The words for flags; `None` when one of them has none.
#[must_use]
pub fn mount_flag_words(flags: u64) -> Option<Vec<&'static str>> {
    const ALL: [(u64, &str); 2] = [(MS_I_VERSION, "iversion"), (MS_STRICTATIME, "strictatime")];
    let named = || MOUNT_FLAGS.into_iter().chain(ALL);
    let known = named().fold(MS_REC, |known, (flag, _)| known | flag);
    (flags & !known == 0)
        .then(|| named().filter(|(flag, _)| flags & flag != 0).map(|(_, word)| word).collect())
}

/// The flags of an audit record's words, such as `ro, nosuid` or `rw, rbind`.
#[must_use]
pub fn flags_of_words(words: &str) -> u64 {
    let flag = |word: &str| {
        let named =
            MOUNT_FLAGS.into_iter().chain([(MS_I_VERSION, "iversion"), (MS_STRICTATIME, "strictatime")]);
        let plain = |word: &str| named.clone().find(|(_, name)| *name == word).map(|(flag, _)| flag);
        plain(word).or_else(|| plain(word.strip_prefix('r')?).map(|flag| flag | MS_REC)).unwrap_or_default()
    };
    words.split([',', ' ']).map(flag).fold(0, |all, one| all | one)
}

/// A path without `.`, `..` and doubled slashes, as far as text can tell.
#[must_use]
pub fn lexical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_flags_are_each_others_inverse() {
        for flags in [0, 1, 1 | 2 | MS_SILENT, MS_BIND | MS_REC, 1 << 18 | MS_REC, MS_STRICTATIME | 1024] {
            let words = mount_flag_words(flags).unwrap().join(", ");
            assert_eq!(flags_of_words(&words), flags & !MS_REC, "{words}");
        }
        assert_eq!(flags_of_words("rw, rbind"), MS_BIND | MS_REC);
        assert_eq!(flags_of_words("rw, rprivate"), 1 << 18 | MS_REC);
        assert_eq!(mount_flag_words(1 << 25), None, "AppArmor has no word for lazytime");
    }

    #[test]
    fn the_kernel_drops_the_magic_number_and_its_own_flags() {
        assert_eq!(mount_flags(0xc0ed_0000 | 1), 1);
        assert_eq!(mount_flags(1 << 22 | MS_BIND), MS_BIND);
        assert_eq!(mount_flags(1 << 18 | MS_REC), 1 << 18 | MS_REC);
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(lexical("//mnt/./a/../b/"), "/mnt/b");
        assert_eq!(lexical("/../.."), "/");
    }
}
