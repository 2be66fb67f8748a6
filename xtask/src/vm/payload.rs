//! What a machine finds in /unpriv: this tree's programs, built for it, and files that were asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{command::output, workspace};

/// Static, so that what was built here runs there.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Cargo.toml says what it is for.
const PROFILE: &str = "lab";
const PROGRAMS: [&str; 3] = ["unpriv", "ablate", "lab"];

/// A directory that becomes a disk.
pub(crate) struct Payload(TempDir);

impl Payload {
    /// The engines' start alone.
    pub(crate) fn empty() -> Result<Self> {
        let directory = tempfile::tempdir().context("make a temporary directory")?;
        fs::write(directory.path().join("engines.sh"), include_str!("engines.sh"))
            .context("write the start of the engines")?;
        Ok(Self(directory))
    }

    /// With the programs of this tree as it is now.
    pub(crate) fn build() -> Result<Self> {
        let payload = Self::empty()?;
        let bin = payload.path().join("bin");
        fs::create_dir(&bin).context("make a directory for programs")?;
        let built = build()?;
        for program in PROGRAMS {
            let path = built.join(program);
            fs::copy(&path, bin.join(program)).with_context(|| format!("copy {}", path.display()))?;
        }
        copy(&workspace().join("tests/workloads"), &payload.path().join("workloads"))?;
        Ok(payload)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Adds a file or directory, in `files/`.
    pub(crate) fn add(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().with_context(|| format!("{} has no name", path.display()))?;
        fs::create_dir_all(self.path().join("files")).context("make a directory for files")?;
        copy(path, &self.path().join("files").join(name))
    }

    /// Adds a file under another name.
    pub(crate) fn add_as(&mut self, path: &Path, name: &str) -> Result<()> {
        copy(path, &self.path().join(name))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        bail!("there is no {}", from.display());
    }
    output(Command::new("cp").arg("-a").args([from, to])).map(drop)
}

/// Builds the programs; the directory that they are in.
fn build() -> Result<PathBuf> {
    let there = output(
        Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).current_dir(workspace()),
    );
    if !there.is_ok_and(|path| Path::new(path.trim()).exists()) {
        eprintln!("vm: adding the target {TARGET} by rustup");
        output(Command::new("rustup").args(["target", "add", TARGET]).current_dir(workspace())).context(
            "static programs need that target: install it by other means where rustup is not used",
        )?;
    }
    eprintln!("vm: building unpriv for the machine");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--package=unpriv", "--package=e2e", "--bins"])
        .args(["--profile", PROFILE, "--target", TARGET])
        .current_dir(workspace())
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "cannot build unpriv for {TARGET}");
    Ok(crate::target_directory().join(TARGET).join(PROFILE))
}
