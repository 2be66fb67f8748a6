//! `unpriv record`: one run, recorded.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{exit::Exit, hooks, runtime};
use crate::{
    document,
    probe::Hooks,
    trace::Outcome,
    workload::{Options, Streams, Workload},
};

/// Record one run of a command: `docker run …`, `podman run …`, or any program
///
/// The command runs as it is, with its own standard streams. Ctrl-C ends it; what was seen until then is
/// written and marked incomplete.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the trace goes; `-` is standard output
    #[arg(short, long, value_name = "TRACE", default_value = "-")]
    output: PathBuf,
    /// Record calls that fail as well; it slows every system call by a little. Containers always are recorded so
    #[arg(long)]
    failures: bool,
    /// Say what the kernel side sees of the start
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    hooks: hooks::Arguments,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn record(arguments: &Arguments) -> Result<ExitCode> {
    document::check_writable(&arguments.output)?;
    let workload = Workload::parse(&arguments.command)?;
    let options = Options {
        hooks: Hooks {
            // What an engine masks or mounts read-only is seen by the same hook.
            failures: arguments.failures || matches!(workload, Workload::Container(..)),
            verbose: arguments.verbose,
            set: arguments.hooks.set(),
        },
        // Standard output is the trace's when it has no file.
        streams: if arguments.output.as_os_str() == "-" { Streams::Capture } else { Streams::Inherit },
        clean_up: false,
        limit: None,
    };
    let recorded = runtime()?.block_on(workload.record(options))?;
    document::write(&arguments.output, &document::to_json(&recorded.trace))?;
    if let Some(failure) = &recorded.start_failure {
        say!("the command did not start: {}", crate::shell::printable(failure));
        return Ok(Exit::No.into());
    }
    match recorded.outcome {
        Some(Outcome::Exit(0)) | None => {}
        Some(Outcome::Exit(code)) => say!("the command ended with exit status {code}"),
        Some(Outcome::Signal(signal)) => say!("the command was ended by signal {signal}"),
    }
    Ok(Exit::of_trace(&recorded.trace).into())
}
