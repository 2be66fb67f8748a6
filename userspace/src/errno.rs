//! Names of the errnos that a denial gives.

/// Numbers and names, `include/uapi/asm-generic/errno*.h`.
const DENIALS: [(u32, &str); 6] =
    [(1, "EPERM"), (6, "ENXIO"), (13, "EACCES"), (19, "ENODEV"), (30, "EROFS"), (38, "ENOSYS")];

/// `EPERM` and so on; `errno N` for one that no denial gives.
#[must_use]
pub(crate) fn name(errno: u32) -> String {
    DENIALS
        .iter()
        .find(|(number, _)| *number == errno)
        .map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}
