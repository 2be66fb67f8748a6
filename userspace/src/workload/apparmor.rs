//! Loading `AppArmor` profiles into the kernel, and taking them out again.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::printable;

/// Where securityfs shows `AppArmor`'s policy.
const POLICY: &str = "/sys/kernel/security/apparmor";

/// Why no profile can be loaded on this host, with the way out; `None` when one can.
#[must_use]
pub fn obstacle() -> Option<String> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return Some("AppArmor is not enabled on this host".to_owned());
    }
    if !Path::new(POLICY).join("profiles").exists() {
        return Some(
            "securityfs is not mounted (`mount -t securityfs securityfs /sys/kernel/security`)".to_owned(),
        );
    }
    parser()
        .is_none()
        .then(|| "apparmor_parser is not installed (on Debian and Ubuntu: `apt install apparmor`)".to_owned())
}

/// The compiler of profiles; it may be where only root looks.
fn parser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join("apparmor_parser")).find(|program| program.is_file())
}

/// Loads a profile; takes the place of one of the same name.
///
/// # Errors
///
/// When there is no parser, or it or the kernel does not like the profile: its own words.
pub fn load(text: &[u8]) -> Result<()> {
    let Some(parser) = parser() else { bail!("apparmor_parser is not installed") };
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start apparmor_parser")?;
    if let Some(mut input) = child.stdin.take() {
        // One that has enough of it says why.
        drop(input.write_all(text));
    }
    let output = child.wait_with_output().context("cannot wait for apparmor_parser")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("apparmor_parser: {}", printable(words.trim()).replace('\n', "; "));
    }
    Ok(())
}

/// Takes a profile out of the kernel.
///
/// # Errors
///
/// When it is not there, or this is not root.
pub fn unload(name: &str) -> Result<()> {
    fs::write(Path::new(POLICY).join(".remove"), name)
        .with_context(|| format!("cannot unload the AppArmor profile {}", printable(name)))
}

/// Whether a profile of that name is loaded.
#[must_use]
pub fn is_loaded(name: &str) -> bool {
    let profiles = fs::read_to_string(Path::new(POLICY).join("profiles")).unwrap_or_default();
    // `NAME (enforce)`
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(loaded, _)| loaded == name))
}
