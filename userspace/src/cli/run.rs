//! `unpriv run`: a command under a profile, supervised until it ends.

use std::{ffi::OsString, os::unix::process::ExitStatusExt as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    document::read_profile,
    launch::{self, Options},
    probe::process::{forward_signals, stop_forwarding_signals},
};

/// Run a command under a profile, without a container engine
///
/// Exits with the command's own status, 128 and the signal's number when one ended it, 127 when it cannot be
/// found and 126 when it cannot be executed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile, as `unpriv derive` writes it
    #[arg(long, value_name = "FILE")]
    profile: PathBuf,
    /// Leave devices to file permissions alone: this needs no cgroup
    #[arg(long)]
    no_device_cgroup: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let profile = read_profile(&arguments.profile)?;
    if !profile.complete {
        eprintln!("unpriv: {}: made from an incomplete recording", arguments.profile.display());
    }
    let options = Options { without_device_cgroup: arguments.no_device_cgroup, ..Options::default() };
    let mut launch = launch::prepare(&profile, &arguments.command, &options)?;
    let mut child = launch.spawn()?;
    forward_signals(child.id()).context("forward signals")?;
    let status = child.wait().context("wait for the command")?;
    stop_forwarding_signals();
    if let Some(cgroup) = launch.cgroup {
        let path = cgroup.path().to_owned();
        if let Err(error) = cgroup.remove() {
            eprintln!("unpriv: {}: {error}: the command left processes behind", path.display());
        }
    }
    let code = status.code().or_else(|| Some(128 + status.signal()?)).context("the command did not end")?;
    Ok(ExitCode::from(u8::try_from(code).context("exit status of the command")?))
}
