//! What recording costs: one system call under every configuration, measured in interleaved rounds.

mod measure;
mod table;

use std::{
    env,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use unpriv::probe::EmptyProbe;

pub(crate) use self::measure::{Loop, Recorder};
use self::measure::{Recorded, measured};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often every configuration is measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Times of one `getppid` in nanoseconds: the least of all rounds, for whatever else the machine did, another
/// recorder for one, only adds to them. The others are medians.
#[derive(Debug, Serialize)]
struct Figures {
    rounds: u32,
    untraced: f64,
    empty_program: f64,
    recorded: f64,
    another_recorded: f64,
    recorded_with_failures: f64,
    another_recorded_with_failures: f64,
    /// Absent without strace.
    strace: Option<f64>,
    /// Added cost of recording this process, as a multiple of what the empty program adds.
    recorded_ratio: f64,
    /// The same for a process that is not recorded while another is.
    another_recorded_ratio: f64,
    /// From nothing to every program attached, in a fresh process.
    arming_milliseconds: f64,
    /// Of a process that arms, records and reads the recording.
    peak_memory_megabytes: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if cfg!(debug_assertions) {
        return in_release(arguments);
    }
    let figures = figures(arguments.rounds)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print!("{}", table::render(&figures));
    }
    Ok(())
}

/// Figures of a debug build would say nothing.
fn in_release(arguments: &Arguments) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--release", "--package=xtask", "--", "bench"]);
    command.arg(format!("--rounds={}", arguments.rounds));
    command.args(arguments.json.then_some("--json"));
    let status = command.current_dir(crate::workspace()).status().context("run cargo")?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

#[derive(Default)]
struct Samples {
    untraced: Vec<f64>,
    empty: Vec<f64>,
    strace: Vec<f64>,
    plain: Vec<Recorded>,
    failures: Vec<Recorded>,
}

fn figures(rounds: u32) -> Result<Figures> {
    let strace = Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success());
    let mut samples = Samples::default();
    let mut disturbed = 0;
    for _ in 0..rounds {
        // Its programs are in every figure as well, sometimes in those without ours only.
        disturbed += u32::from(!alone());
        samples.untraced.push(measured(&mut own("bench-loop")?)?);
        let empty = EmptyProbe::attach().context("attach the empty program")?;
        samples.empty.push(measured(&mut own("bench-loop")?)?);
        drop(empty);
        samples.plain.push(recorder(&[])?);
        samples.failures.push(recorder(&["--failures"])?);
        if strace {
            let mut command = Command::new("strace");
            command.args(["-f", "-o", "/dev/null", "--"]).arg(env::current_exe()?).arg("bench-loop");
            samples.strace.push(measured(&mut command)?);
        }
    }
    if disturbed > 0 {
        eprintln!(
            "xtask: another recorder was at work in {disturbed} of {rounds} rounds: measure again without it"
        );
    }
    let middle = |field: fn(&Recorded) -> f64| median(samples.failures.iter().map(field).collect());
    let of = |records: &[Recorded], field: fn(&Recorded) -> f64| least(records.iter().map(field));
    let (untraced, empty_program) = (least(samples.untraced), least(samples.empty));
    let recorded = of(&samples.plain, |record| record.own);
    let another_recorded = of(&samples.plain, |record| record.another);
    let ratio = |cost: f64| (cost - untraced) / (empty_program - untraced);
    Ok(Figures {
        rounds,
        untraced,
        empty_program,
        recorded,
        another_recorded,
        recorded_with_failures: of(&samples.failures, |record| record.own),
        another_recorded_with_failures: of(&samples.failures, |record| record.another),
        strace: strace.then(|| least(samples.strace)),
        recorded_ratio: ratio(recorded),
        another_recorded_ratio: ratio(another_recorded),
        arming_milliseconds: middle(|record| record.arming_milliseconds),
        peak_memory_megabytes: middle(|record| record.peak_memory_megabytes),
    })
}

/// Whether no other recorder is at work; the programs of one that has ended leave the kernel a moment later.
fn alone() -> bool {
    (0..50).any(|_| {
        let none = EmptyProbe::others() == 0;
        if !none {
            thread::sleep(Duration::from_millis(20));
        }
        none
    })
}

fn recorder(arguments: &[&str]) -> Result<Recorded> {
    let output = own("bench-recorder")?.args(arguments).output().context("run the recorder")?;
    succeeded(output.status, &output.stderr)?;
    serde_json::from_slice(&output.stdout).context("read the recorder's figures")
}

/// This program again, as a process of its own.
fn own(task: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("find this program")?);
    command.arg(task);
    Ok(command)
}

fn succeeded(status: ExitStatus, stderr: &[u8]) -> Result<()> {
    ensure!(status.success(), "{}", String::from_utf8_lossy(stderr).trim());
    Ok(())
}

fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

/// The middle one; of an even number the higher of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
