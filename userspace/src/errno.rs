//! Names of the errnos that a denial gives, and of those with which a mount fails before it is judged.

/// Numbers and names, `include/uapi/asm-generic/errno*.h`.
const NAMES: [(u32, &str); 13] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (6, "ENXIO"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (22, "EINVAL"),
    (30, "EROFS"),
    (36, "ENAMETOOLONG"),
    (38, "ENOSYS"),
    (40, "ELOOP"),
];

/// `EPERM` and so on; `errno N` for any other.
#[must_use]
pub(crate) fn name(errno: u32) -> String {
    NAMES
        .iter()
        .find(|(number, _)| *number == errno)
        .map_or_else(|| format!("errno {errno}"), |(_, name)| (*name).to_owned())
}
