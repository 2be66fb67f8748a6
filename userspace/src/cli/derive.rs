//! `unpriv derive`: traces to a profile.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::exit::Exit;
use crate::{document, profile, trace::Trace};

/// Derive what is needed from one or more traces
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Traces, as `unpriv record` writes them; many are merged
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Where the profile goes; `-` is standard output
    #[arg(short, long, value_name = "PROFILE", default_value = "-")]
    output: PathBuf,
}

pub(super) fn derive(arguments: &Arguments) -> Result<ExitCode> {
    let mut merged = Trace::empty();
    for path in &arguments.traces {
        merged.merge(document::read_trace(path)?);
    }
    let profile = profile::derive(&merged);
    document::write(&arguments.output, &document::to_json(&profile))?;
    Ok(Exit::of_trace(&merged).into())
}
