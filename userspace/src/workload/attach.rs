//! Recording a container that runs already, for a while: it goes on as if nobody had looked.

use std::{
    future::pending,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, sleep_until},
};

use super::{
    files::Files,
    interrupts::Interrupts,
    record::{Ended, Options, Recorded, Recorder},
    running::Running,
};
use crate::{
    probe,
    shell::printable,
    trace::{Attached, Loss, Outcome, Run, Trace},
};

/// Attaches, says so, records until `limit`, Ctrl-C, SIGTERM or the container's end, and lets go.
///
/// # Errors
///
/// When nothing can be recorded on this host, or the container ends first.
pub async fn record(running: &Running, options: Options<'_>, progress: &dyn Fn(&str)) -> Result<Recorded> {
    let interrupts = Interrupts::watch()?;
    let engine = running.engine()?;
    let mut recorder = Recorder::arm(options.probes, Files::of_running(), interrupts).await?;
    let end = recorder.probe.end_of(running.init)?;
    let found = recorder.probe.attach_container(&running.id, running.init)?;
    let begin = Instant::now();
    recorder.look_at_files()?;
    progress(&format!(
        "attached to {}: {} threads of {} programs; Ctrl-C ends the recording, not the container",
        printable(&running.name),
        found.threads,
        found.programs.len()
    ));
    let over = follow(&mut recorder, &end, options.limit).await?;
    let took = begin.elapsed();
    if over {
        recorder.wait_for_stragglers().await?;
    }
    recorder.look_at_files()?;
    let outcome = if over { running.exit_status().map(Outcome::Exit) } else { None };
    let ended = Ended { status: ExitStatus::from_raw(0), output: None, interrupted: false, took };
    let mut trace = recorder.finish(&running.command, &ended, outcome, Some(engine))?;
    complete(&mut trace, running, &found, took, over);
    Ok(Recorded { trace, outcome, output: None, start_failure: None, took })
}

/// Until the recording is to end; whether the container has.
async fn follow(
    recorder: &mut Recorder<'_>,
    end: &AsyncFd<OwnedFd>,
    limit: Option<Duration>,
) -> Result<bool> {
    let events = recorder.probe.events()?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            ready = end.readable() => {
                ready.context("cannot wait for the end of the container")?.retain_ready();
                return Ok(true);
            }
            _ = recorder.interrupts.next() => return Ok(false),
            () = late => return Ok(false),
            ready = events.readable() => {
                ready.context("cannot wait for events")?.clear_ready();
                recorder.look_at_files()?;
            }
        }
    }
}

/// Adds what no event shows: that it was attached to, and what its threads were in the middle of.
fn complete(trace: &mut Trace, running: &Running, found: &probe::Attached, took: Duration, over: bool) {
    for ((abi, name), programs) in &found.calls {
        let uses = trace.syscalls.entry(*abi).or_default().entry(name.clone()).or_default();
        uses.count = uses.count.max(1);
        uses.programs.extend(programs.iter().cloned());
    }
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let attached = Some(Attached { container: running.name.clone(), milliseconds });
    let runs = std::mem::take(&mut trace.runs);
    trace.runs = runs.into_iter().map(|run| Run { attached: attached.clone(), ..run }).collect();
    if !over {
        // It is meant to.
        trace.lost.remove(&Loss::StillRunning);
    }
    trace.lost.insert(Loss::StartedBefore);
    trace.complete = false;
}
