//! What runs as a process of its own: the loop of system calls, and a recorder around it.

use std::{
    fs,
    os::unix::process::parent_id,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use unpriv::probe::{Hooks, Probe};

use super::{own, succeeded};

/// How long a configuration is measured in one round.
const SPAN: Duration = Duration::from_millis(20);
/// Calls between two looks at the clock.
const BATCH: u32 = 200;

/// The loop of system calls.
pub(crate) struct Loop;

impl Loop {
    /// Prints what one `getppid` costs, in nanoseconds: that of the fastest batch, which nothing interrupted.
    #[expect(clippy::unnecessary_wraps, reason = "as the other tasks")]
    pub(crate) fn run() -> Result<()> {
        let begin = Instant::now();
        let mut best = Duration::MAX;
        while begin.elapsed() < SPAN {
            let batch = Instant::now();
            for _ in 0..BATCH {
                std::hint::black_box(parent_id());
            }
            best = best.min(batch.elapsed());
        }
        println!("{}", best.as_secs_f64() * 1e9 / f64::from(BATCH));
        Ok(())
    }
}

/// Runs a command that ends in the loop; what it printed.
pub(super) fn measured(command: &mut Command) -> Result<f64> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    succeeded(output.status, &output.stderr)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("`{}` is no time", text.trim()))
}

/// What a recorder measures.
#[derive(Serialize, Deserialize)]
pub(super) struct Recorded {
    pub(super) own: f64,
    pub(super) another: f64,
    pub(super) arming_milliseconds: f64,
    pub(super) peak_memory_megabytes: f64,
}

#[derive(clap::Args)]
pub(crate) struct Recorder {
    /// Record failed calls, too
    #[arg(long)]
    failures: bool,
}

impl Recorder {
    /// Arms, measures a recorded and an unrecorded process, and prints the figures.
    pub(crate) fn run(&self) -> Result<()> {
        let begin = Instant::now();
        let probe = Probe::attach(Hooks { failures: self.failures, ..Hooks::default() })?;
        let arming = begin.elapsed();
        let child = probe.spawn(0, || Ok(own("bench-loop")?.stdout(Stdio::piped()).spawn()?))?;
        let output = child.wait_with_output().context("wait for the loop")?;
        succeeded(output.status, &output.stderr)?;
        let recorded =
            String::from_utf8_lossy(&output.stdout).trim().parse().context("read the loop's time")?;
        let mut other = probe.spawn(0, || Ok(Command::new("sleep").arg("60").spawn()?))?;
        let another_recorded = measured(&mut own("bench-loop")?);
        other.kill().context("end the other workload")?;
        other.wait().context("wait for the other workload")?;
        probe.recording().context("read the recording")?;
        let figures = Recorded {
            own: recorded,
            another: another_recorded?,
            arming_milliseconds: arming.as_secs_f64() * 1e3,
            peak_memory_megabytes: peak_memory()?,
        };
        println!("{}", serde_json::to_string(&figures)?);
        Ok(())
    }
}

/// The most memory that this process ever had, `VmHWM` of `proc_pid_status(5)`.
fn peak_memory() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no `VmHWM`")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("read `VmHWM`")?;
    Ok(kilobytes / 1024.0)
}
