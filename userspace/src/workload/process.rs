//! Recording a plain command: a process tree, no engine needed.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::{
    files::Files,
    interrupts::Interrupts,
    record::{Options, Recorded, Recorder, connect, outcome},
};
use crate::{
    launch::{self, DeviceCgroup},
    profile::Profile,
    shell::printable,
};

/// Runs a command and records it; under a profile when there is one.
///
/// # Errors
///
/// When nothing can be recorded on this host, or the command cannot be started.
pub async fn record(command: &[String], profile: Option<&Profile>, options: Options<'_>) -> Result<Recorded> {
    let Some((name, arguments)) = command.split_first() else { bail!("no command to run") };
    let interrupts = Interrupts::watch()?;
    let (mut child, cgroup): (Command, Option<DeviceCgroup>) = match profile {
        None => {
            let path = launch::find(name)?;
            let mut child = Command::new(path);
            child.arg0(name).args(arguments);
            (child, None)
        }
        Some(profile) => {
            let arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
            let launch = launch::prepare(profile, &arguments, &launch::Options::default())?;
            (Command::from(launch.command), launch.cgroup)
        }
    };
    connect(&mut child, options.streams);
    let mut recorder = Recorder::arm(options.probes, Files::of_this_process(), interrupts).await?;
    let started = recorder.probe.spawn(0, || Ok(child.spawn()));
    let started = match started? {
        Ok(started) => started,
        // Under a profile the start itself may be what the profile denies.
        Err(error) if profile.is_some() => {
            return start_failure(recorder, command, &error);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot start `{}`", printable(name))),
    };
    let ended = recorder.follow(started, options.streams, options.limit, || ()).await?;
    let outcome = if ended.interrupted { None } else { outcome(ended.status) };
    let trace = recorder.finish(command, &ended, outcome, None)?;
    if let Some(cgroup) = cgroup {
        // It was a trial: what it left behind would stand in the way of the next one.
        if cgroup.kill().is_ok() {
            drop(cgroup.remove());
        }
    }
    Ok(Recorded { trace, outcome, output: ended.output, start_failure: None, took: ended.took })
}

fn start_failure(recorder: Recorder<'_>, command: &[String], error: &std::io::Error) -> Result<Recorded> {
    use std::os::unix::process::ExitStatusExt as _;
    let ended = super::record::Ended {
        status: std::process::ExitStatus::from_raw(126 << 8),
        output: None,
        interrupted: false,
        took: std::time::Duration::ZERO,
    };
    let outcome = outcome(ended.status);
    let trace = recorder.finish(command, &ended, outcome, None)?;
    Ok(Recorded { trace, outcome, output: None, start_failure: Some(error.to_string()), took: ended.took })
}
