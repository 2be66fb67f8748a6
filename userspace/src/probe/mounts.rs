//! The workload's mounting calls, their paths made absolute.

use anyhow::Result;
use aya::Pod;
use probe_ebpf::{MOUNT_PATH, MountKey, MountValue, OPENED_PATH, SOURCE_DESCRIPTOR, TARGET_DESCRIPTOR};

use super::{decode::Names, load::Probe};
use crate::{
    errno,
    trace::{Facts, MS_BIND, MS_MOVE, MS_PROPAGATION, MS_REMOUNT, MountCall, lexical, mount_flags},
};

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainMount(MountKey);
// SAFETY: whole numbers and arrays of them, without padding (the size is asserted in probe-ebpf).
unsafe impl Pod for PlainMount {}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainValue(MountValue);
// SAFETY: as above.
unsafe impl Pod for PlainValue {}

impl Probe {
    /// Every call that mounts something, or tried to.
    pub(super) fn mounts(&self, names: &Names<'_>) -> Result<Facts<MountCall>> {
        let mut facts = Facts::default();
        for entry in &self.hash::<PlainMount, PlainValue>("MOUNTS")? {
            let (PlainMount(key), PlainValue(value)) = entry?;
            let (abi, Some(syscall)) = names.syscall(key.abi, key.syscall) else { continue };
            let mut call = MountCall {
                program: names.program(key.program),
                abi,
                syscall,
                fstype: text(&key.kind).ok().filter(|kind| !kind.is_empty()),
                source: None,
                target: None,
                partial: false,
                flags: key.flags,
                errno: (key.errno != 0).then(|| errno::name(key.errno)),
            };
            // After pivot_root, `.` is another place than it was.
            let moved = call.syscall == "pivot_root" && call.errno.is_none();
            let free = |bit| key.descriptors & bit == 0 && !moved;
            call.target = operand(&key.target, &value, free(TARGET_DESCRIPTOR), &mut call.partial);
            // A server's name may begin with two slashes.
            let rooted = key.source[0] == b'/' && key.source[1] != b'/';
            call.source = if rooted || is_path(&call) {
                operand(&key.source, &value, free(SOURCE_DESCRIPTOR), &mut call.partial)
            } else {
                text(&key.source).map_err(|Cut| call.partial = true).ok().filter(|name| !name.is_empty())
            };
            facts.add(call, value.count);
        }
        Ok(facts)
    }
}

/// Whether the source is a path also when it does not look like one: a new mount's may be any name.
fn is_path(call: &MountCall) -> bool {
    let flags = mount_flags(call.flags);
    match call.syscall.as_str() {
        "mount" => flags & MS_REMOUNT == 0 && flags & (MS_BIND | MS_MOVE) != 0 && flags & MS_PROPAGATION == 0,
        "fsconfig" => false,
        _ => true,
    }
}

/// A string that was longer than its place.
struct Cut;

fn text(bytes: &[u8]) -> Result<String, Cut> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(Cut)?;
    // The helper that read it ends it with a zero in any case.
    if end + 1 >= bytes.len() {
        return Err(Cut);
    }
    Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// A path from the root of the mount namespace.
fn operand(
    bytes: &[u8; MOUNT_PATH],
    value: &MountValue,
    in_directory: bool,
    partial: &mut bool,
) -> Option<String> {
    let whole = text(bytes).ok().and_then(|path| match path.as_bytes() {
        [] => Some(None),
        [b'/', ..] => Some(Some(lexical(&(place(&value.root)? + &path)))),
        _ if in_directory => Some(Some(lexical(&(place(&value.directory)? + "/" + &path)))),
        _ => None,
    });
    *partial |= whole.is_none();
    whole.flatten()
}

/// A directory's path without the last slash; `None` where the kernel side could not tell.
fn place(names: &[u8; OPENED_PATH]) -> Option<String> {
    if names[0] == b'/' {
        return None;
    }
    let names = names.split(|&byte| byte == 0).take_while(|name| !name.is_empty());
    Some(names.flat_map(|name| ["/".into(), String::from_utf8_lossy(name)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text);
        bytes
    }

    fn seen(path: &[u8], root: &[u8], directory: &[u8], in_directory: bool) -> (Option<String>, bool) {
        let value = MountValue { count: 1, root: padded(root), directory: padded(directory) };
        let mut partial = false;
        (operand(&padded(path), &value, in_directory, &mut partial), partial)
    }

    #[test]
    fn paths_start_at_the_root_of_the_mount_namespace() {
        let whole = |path: &str| (Some(path.to_owned()), false);
        assert_eq!(seen(b"/mnt/", b"", b"home\0me\0", true), whole("/mnt"));
        assert_eq!(seen(b"../x", b"", b"home\0me\0", true), whole("/home/x"));
        assert_eq!(seen(b"/mnt", b"jail\0", b"", true), whole("/jail/mnt"));
        assert_eq!(seen(b"", b"", b"", true), (None, false));
    }

    #[test]
    fn what_is_not_known_is_said_to_be_missing() {
        assert_eq!(seen(b"x", b"", b"home\0", false), (None, true), "below an open directory");
        assert_eq!(seen(&[b'x'; MOUNT_PATH - 1], b"", b"", true), (None, true), "too long");
        assert_eq!(seen(b"x", b"", b"/", true), (None, true), "the directory is unknown");
    }
}
