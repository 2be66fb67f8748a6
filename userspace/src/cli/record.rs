//! `unpriv record`: one run, recorded.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use super::{exit::Exit, hooks, runtime, tighten::progress};
use crate::{
    document,
    probe::{Hooks, Probes},
    trace::Outcome,
    workload::{Options, Recorded, Streams, Workload, attach, engine::EngineKind, running::Running},
};

/// Record one run of a command, or a container that runs already
///
/// COMMAND, which is `docker run …`, `podman run …` or any program, runs as it is, with its own standard
/// streams. Ctrl-C ends it; what was seen until then is written and marked incomplete.
///
/// With --container nothing is started and nothing is stopped: a running container is watched for a while, and
/// goes on. What it did before, its start above all, is not in the trace, which is therefore marked incomplete
/// (exit status 3). Record a start as well, in a test environment if need be, and derive from both:
///
///   unpriv record -o use.json --container web --duration 1h
///
///   unpriv record -o start.json -- docker run IMAGE
///
///   unpriv derive use.json start.json -o profile.json
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
    hooks: hooks::Chosen,
    /// Watch this running container, by its name or id, instead of running something
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    container: Option<String>,
    /// For how long (60s, 5m, 1h30m); else until Ctrl-C or the container's end
    #[arg(long, value_name = "TIME", requires = "container", conflicts_with = "command", value_parser = duration)]
    duration: Option<Duration>,
    /// The engine that has the container; else whichever knows it
    #[arg(long, value_name = "docker|podman", value_parser = engine, requires = "container", conflicts_with = "command")]
    engine: Option<EngineKind>,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "container", value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn record(arguments: &Arguments) -> Result<ExitCode> {
    document::check_writable(&arguments.output)?;
    let recorded = match &arguments.container {
        Some(name) => watch(name, arguments)?,
        None => run(arguments)?,
    };
    document::write(&arguments.output, &document::to_json(&recorded.trace))?;
    if let Some(failure) = &recorded.start_failure {
        say!("the command did not start: {}", crate::shell::printable(failure));
        return Ok(Exit::No.into());
    }
    let subject = if arguments.container.is_some() { "container" } else { "command" };
    match recorded.outcome {
        Some(Outcome::Exit(0)) | None => {}
        Some(Outcome::Exit(code)) => say!("the {subject} ended with exit status {code}"),
        Some(Outcome::Signal(signal)) => say!("the {subject} was ended by signal {signal}"),
    }
    Ok(Exit::of_trace(&recorded.trace).into())
}

fn watch(name: &str, arguments: &Arguments) -> Result<Recorded> {
    let running = Running::find(name, arguments.engine)?;
    let hooks = Hooks {
        failures: true,
        verbose: arguments.verbose,
        attach: true,
        set: arguments.hooks.set(),
        ..Hooks::default()
    };
    let options = Options {
        probes: &Probes::new(hooks),
        // It keeps its own.
        streams: Streams::Inherit,
        clean_up: false,
        limit: arguments.duration,
    };
    let recorded = runtime()?.block_on(attach::record(&running, options, &progress))?;
    progress(&format!("recorded {} for {:.1} s", crate::shell::printable(name), recorded.took.as_secs_f64()));
    Ok(recorded)
}

fn run(arguments: &Arguments) -> Result<Recorded> {
    let workload = Workload::parse(&arguments.command)?;
    let hooks = Hooks {
        // What an engine masks or mounts read-only is seen by the same hook.
        failures: arguments.failures || matches!(workload, Workload::Container(..)),
        verbose: arguments.verbose,
        set: arguments.hooks.set(),
        ..Hooks::default()
    };
    let options = Options {
        probes: &Probes::new(hooks),
        // Standard output is the trace's when it has no file.
        streams: if arguments.output.as_os_str() == "-" { Streams::Capture } else { Streams::Inherit },
        clean_up: false,
        limit: None,
    };
    runtime()?.block_on(workload.record(options))
}

fn engine(name: &str) -> Result<EngineKind> {
    EngineKind::ALL.into_iter().find(|engine| engine.name() == name).context("docker and podman are known")
}

/// `90`, `60s`, `1h30m`: whole numbers, each with its unit; seconds without one.
fn duration(text: &str) -> Result<Duration> {
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "" | "s" => 1,
            "m" | "min" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => 0,
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        let sum = part.filter(|_| scale != 0).and_then(|part| seconds.checked_add(part));
        seconds = sum.context("write it as 60s, 5m or 1h30m")?;
        rest = after;
    }
    anyhow::ensure!(seconds != 0, "write it as 60s, 5m or 1h30m");
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90", 90), ("60s", 60), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("2d", 172_800)]
        {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "m",
            "-1s",
            "1.5h",
            "1 h",
            "5x",
            "1hm",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
