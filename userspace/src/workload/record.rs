//! Recording one run, whatever starts it.

use std::{
    collections::BTreeSet, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{
    files::{Files, device_nodes},
    interrupts::{Interrupts, Stop},
    output::{Output, drain},
};
use crate::{
    probe::{Probe, Probes},
    trace::{Engine, Loss, Outcome, Run, Trace},
};

/// How long processes that outlive the workload's first one may take to end.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// How long a signal to us may come after the end of a workload that it was sent to as well.
const SIGNAL_GRACE: Duration = Duration::from_millis(100);
/// How long an interrupted workload may take to end before it is ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happens to the workload's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// They are ours.
    Inherit,
    /// Output is passed on to our standard error and remembered; there is no input.
    Capture,
    /// Output is only remembered; there is no input.
    Quiet,
}

/// How to record.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// What records.
    pub probes: &'a Probes,
    /// Standard streams.
    pub streams: Streams,
    /// Leave no container behind, whatever the line says.
    pub clean_up: bool,
    /// End a run that takes longer: one that is denied something may wait for it for ever.
    pub limit: Option<Duration>,
}

/// A recorded run.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What happened.
    pub trace: Trace,
    /// How it ended; `None` when it was interrupted.
    pub outcome: Option<Outcome>,
    /// What it wrote, when that was captured.
    pub output: Option<Output>,
    /// Why the entrypoint never ran, in the engine's words.
    pub start_failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// How the first process of a run ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Option<Output>,
    pub(super) interrupted: bool,
    pub(super) took: Duration,
}

/// A probe at work, and what is learnt beside it.
pub(super) struct Recorder<'a> {
    probes: &'a Probes,
    pub(super) probe: Probe,
    pub(super) files: Files,
    pub(super) interrupts: Interrupts,
}

impl<'a> Recorder<'a> {
    /// Attaches everything. Not when it is to end already.
    pub(super) async fn arm(probes: &'a Probes, files: Files, mut interrupts: Interrupts) -> Result<Self> {
        let probe = probes.take()?;
        interrupts.check().await?;
        Ok(Self { probes, probe, files, interrupts })
    }

    /// Follows a started command to its end. `kill` ends what a signal to the command does not reach.
    pub(super) async fn follow(
        &mut self,
        mut child: Child,
        streams: Streams,
        limit: Option<Duration>,
        kill: impl Fn(),
    ) -> Result<Ended> {
        let pass_on = streams == Streams::Capture;
        let stdout = tokio::spawn(drain(child.stdout.take(), pass_on));
        let stderr = tokio::spawn(drain(child.stderr.take(), pass_on));
        let events = self.probe.events()?;
        let mut interrupted = false;
        let begin = Instant::now();
        let mut deadline = limit.map(|limit| begin + limit);
        let status = loop {
            let patience =
                deadline.map_or(Duration::MAX, |end: Instant| end.saturating_duration_since(Instant::now()));
            tokio::select! {
                status = child.wait() => break status.context("cannot wait for the command")?,
                ready = events.readable() => {
                    ready.context("cannot wait for events")?.clear_ready();
                    self.look_at_files()?;
                }
                stop = self.interrupts.next() => {
                    if !interrupted && stop == Stop::Terminate {
                        end(child.id(), libc::SIGTERM);
                    }
                    // The second one is final.
                    let patience = if interrupted { Duration::ZERO } else { PATIENCE };
                    let latest = Instant::now() + patience;
                    deadline = Some(deadline.map_or(latest, |limit| limit.min(latest)));
                    interrupted = true;
                }
                () = sleep(patience), if deadline.is_some() => {
                    kill();
                    end(child.id(), libc::SIGKILL);
                    deadline = Some(Instant::now() + PATIENCE);
                }
            }
        };
        // Ctrl-C goes to the workload as well, whose end may be seen first.
        let grace = if status.success() { Duration::from_millis(1) } else { SIGNAL_GRACE };
        interrupted = interrupted || timeout(grace, self.interrupts.next()).await.is_ok();
        self.look_at_files()?;
        self.wait_for_stragglers().await?;
        // A process left behind may hold the streams open for ever.
        let output = timeout(STRAGGLERS, async { (stdout.await, stderr.await) }).await;
        let output = match (streams, output) {
            (Streams::Capture | Streams::Quiet, Ok((Ok(stdout), Ok(stderr)))) => {
                Some(Output { stdout, stderr })
            }
            _ => None,
        };
        Ok(Ended { status, output, interrupted, took: begin.elapsed() })
    }

    pub(super) async fn wait_for_stragglers(&mut self) -> Result<()> {
        let end = Instant::now() + STRAGGLERS;
        let mut pause = Duration::from_millis(1);
        while self.probe.alive() != 0 && Instant::now() < end {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
            self.look_at_files()?;
        }
        Ok(())
    }

    pub(super) fn look_at_files(&mut self) -> Result<()> {
        for event in self.probe.executed()? {
            self.files.look(&event);
        }
        Ok(())
    }

    /// Reads what was recorded; the next recording may have the probe.
    pub(super) fn finish(
        self,
        command: &[String],
        ended: &Ended,
        outcome: Option<Outcome>,
        engine: Option<Engine>,
    ) -> Result<Trace> {
        let recording = self.probe.recording()?;
        let mut trace = recording.trace;
        for (index, path) in &recording.programs {
            let program = self.files.program(*index, path);
            // Two indices never have one path; hostile bytes may have been made equal by decoding.
            let known = trace.programs.entry(path.clone()).or_default();
            known.file_capabilities = known.file_capabilities.take().max(program.file_capabilities);
            known.set_id |= program.set_id;
            known.unread |= program.unread;
        }
        let nodes = device_nodes();
        let used: BTreeSet<String> = trace
            .devices
            .keys()
            .map(|access| format!("{} {}:{}", access.kind.letter(), access.major, access.minor))
            .collect();
        trace.device_nodes = nodes.into_iter().filter(|(rule, _)| used.contains(rule)).collect();
        if ended.interrupted {
            trace.lost.insert(Loss::Interrupted);
        } else if self.probe.alive() != 0 {
            trace.lost.insert(Loss::StillRunning);
        }
        trace.complete = trace.lost.is_empty();
        let system = rustix::system::uname();
        trace.runs.insert(Run {
            command: command.to_vec(),
            outcome,
            kernel: system.release().to_string_lossy().into_owned(),
            architecture: system.machine().to_string_lossy().into_owned(),
            probes: self.probe.hooks(),
            engine,
            attached: None,
        });
        self.probes.put_back(self.probe);
        Ok(trace)
    }
}

/// The end of a process as a trace writes it.
pub(super) fn outcome(status: ExitStatus) -> Option<Outcome> {
    status.code().map(Outcome::Exit).or_else(|| status.signal().map(Outcome::Signal))
}

/// Connects a command's standard streams.
pub(super) fn connect(command: &mut Command, streams: Streams) {
    use std::process::Stdio;
    if streams != Streams::Inherit {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
}

/// Sends a signal to a process that may be gone already.
pub(super) fn end(id: Option<u32>, signal: i32) {
    let Some(id) = id.and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) else { return };
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
        rustix::process::kill_process(id, signal).unwrap_or_default();
    }
}
