//! Disks of the machines, ext4 and archives for the initramfs, made without mounting anything.

use std::{fs::File, io::Write as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::command::{output, quietly, script};

/// An ext4 image with a directory's files, of so many MiB; sparse.
pub(super) fn ext4(directory: Option<&Path>, image: &Path, size: u64) -> Result<()> {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "root_owner=0:0"]);
    if let Some(directory) = directory {
        command.arg("-d").arg(directory);
    }
    quietly(command.arg(image).arg(format!("{size}M")))
}

/// MiB that a directory takes on such an image.
pub(super) fn size_of(directory: &Path) -> Result<u64> {
    let text = output(Command::new("du").arg("-sm").arg(directory))?;
    let size: u64 = text.split_whitespace().next().unwrap_or_default().parse().context("read du")?;
    Ok(size * 11 / 10 + 24)
}

/// All files of an ext4 image, into a directory; what has the same name there is replaced.
pub(super) fn read_back(image: &Path, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    // debugfs replaces nothing, and says nothing of it.
    let fresh = tempfile::tempdir().context("make a temporary directory")?;
    let request = format!("rdump / \"{}\"", fresh.path().display());
    quietly(Command::new("debugfs").args(["-R", &request]).arg(image))?;
    drop(std::fs::remove_dir(fresh.path().join("lost+found")));
    quietly(Command::new("cp").arg("-a").arg(fresh.path().join(".")).arg(directory))
}

/// The files of a directory as an initramfs; the kernel unpacks several that follow one another.
pub(super) fn archive(directory: &Path, to: &mut File) -> Result<()> {
    let pack = "cd \"$1\"; find . | LC_ALL=C sort | busybox cpio -o -H newc -R 0:0 2>/dev/null >\"$2\"";
    let part = tempfile::NamedTempFile::new().context("make a temporary file")?;
    script(pack, &[&directory.to_string_lossy(), &part.path().to_string_lossy()])?;
    let bytes = std::fs::read(part.path()).context("read an archive")?;
    to.write_all(&bytes).context("write an archive")
}
