//! Ctrl-C and SIGTERM while something is recorded: the trace so far matters more than a quick end.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

/// The user stopped it before there was anything to keep.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// What asks for the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGINT. A terminal sends it to the workload as well.
    Interrupt,
    /// SIGTERM, which only this process gets.
    Terminate,
}

/// Both signals, from now on.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn watch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }

    /// An error when one came already: nothing is started then.
    pub(super) async fn check(&mut self) -> Result<(), Interrupted> {
        // Signals reach their watchers when the runtime polls: it does before it looks at the clock.
        match timeout(Duration::from_millis(1), self.next()).await {
            Ok(_) => Err(Interrupted),
            Err(_) => Ok(()),
        }
    }
}
