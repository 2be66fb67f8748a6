//! `unpriv doctor`: what this host allows, and what to change.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::Result;

use super::exit::Exit;
use crate::{
    doctor::{self, Diagnosis, Status},
    document,
    shell::printable,
};

/// Say what this kernel, these privileges and these engines allow, and what to change
///
/// Exits with 0 when a command can be recorded and run under its profile, else with 4.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(arguments: &Arguments) -> Result<ExitCode> {
    let diagnosis = doctor::examine();
    let bytes = if arguments.json { document::to_json(&diagnosis) } else { table(&diagnosis).into_bytes() };
    document::write(Path::new("-"), &bytes)?;
    if diagnosis.usable { Ok(Exit::Done.into()) } else { Ok(Exit::Host.into()) }
}

fn table(diagnosis: &Diagnosis) -> String {
    let width = diagnosis.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for check in &diagnosis.checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Problem => "problem",
        };
        // Writing to a string cannot fail.
        writeln!(text, "{status:<9}{:<width$}  {}", check.name, line(&check.found)).ok();
        if let Some(advice) = &check.advice {
            writeln!(text, "{:<9}{:<width$}  -> {}", "", "", line(advice)).ok();
        }
    }
    let verdict = match diagnosis.reason() {
        None => "unpriv can record commands here and run them with less".to_owned(),
        Some(check) => format!("unpriv cannot work here: {}: {}", check.name, line(&check.found)),
    };
    text + "\n" + &verdict + "\n"
}

/// Text from elsewhere on one line of ours.
fn line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    printable(&lines.join("; "))
}
