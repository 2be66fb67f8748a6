//! `unpriv explain`: why a grant is needed, or why not.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;

use super::style::style;
use crate::{document, report};

/// Tell whether a grant is needed, and every piece of evidence for it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The trace or profile; - is standard input
    #[arg(value_name = "TRACE|PROFILE")]
    file: PathBuf,
    /// A capability in any spelling, a device (/dev/fuse, c 10:229) or a system call; all of them without it
    #[arg(num_args = 0..=2)]
    grant: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let document = document::read_either(&arguments.file)?;
    // `c 10:229` is two words of a shell.
    let grant = (!arguments.grant.is_empty()).then(|| arguments.grant.join(" "));
    let text = report::explain(&document, grant.as_deref(), style(&std::io::stdout()))?;
    document::write(Path::new("-"), text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
