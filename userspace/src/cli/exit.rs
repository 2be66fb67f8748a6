//! Exit codes: 0 done; 1 the answer is no; 2 usage; 3 incomplete recording; 4 this host cannot do it.

use std::process::ExitCode;

use crate::{
    launch,
    probe::HostCannot,
    trace::Trace,
    workload::{Interrupted, client::EngineError},
};

/// What a verb ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// All done.
    Done,
    /// The answer is no: verification failed.
    No,
    /// The command line or a file cannot be used.
    Usage,
    /// Something was not seen.
    Incomplete,
    /// This host cannot do it.
    Host,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// Says what a trace lost, if anything.
    pub(super) fn of_trace(trace: &Trace) -> Self {
        for loss in &trace.lost {
            say!("incomplete: {loss}");
        }
        if trace.complete { Self::Done } else { Self::Incomplete }
    }
}

/// The exit code of an error: a host that cannot, or else a command line or file that is wrong.
pub(super) fn of_error(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if let Some(launch) = cause.downcast_ref::<launch::Error>() {
            // 126 and 127 are for the one verb that stands in for the command itself.
            return match launch.exit_code() {
                126 | 127 => Exit::Usage.into(),
                code => ExitCode::from(code),
            };
        }
        if cause.is::<Interrupted>() {
            return Exit::Incomplete.into();
        }
        let host = cause.is::<HostCannot>()
            || cause.downcast_ref::<EngineError>().is_some_and(|error| {
                matches!(
                    error,
                    EngineError::Client { .. } | EngineError::Unreachable(_) | EngineError::Permission(_)
                )
            });
        if host {
            return Exit::Host.into();
        }
    }
    Exit::Usage.into()
}
