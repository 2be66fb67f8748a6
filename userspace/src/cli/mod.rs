//! The command line: clap types, and one thin file per verb.

mod derive;
mod doctor;
mod emit;
mod exit;
mod explain;
mod record;
mod run;
mod style;
mod tighten;
mod verify;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Run the container you run with --privileged without it: record what it uses, keep only that, prove it
#[derive(Debug, Parser)]
#[command(name = "unpriv", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Tighten(tighten::Arguments),
    Record(record::Arguments),
    Derive(derive::Arguments),
    Emit(emit::Arguments),
    Verify(verify::Arguments),
    Explain(explain::Arguments),
    Run(run::Arguments),
    Doctor(doctor::Arguments),
}

/// The whole program: reads the command line, runs the verb, reports an error.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Tighten(arguments) => tighten::tighten(&arguments),
        Verb::Record(arguments) => record::record(&arguments),
        Verb::Derive(arguments) => derive::derive(&arguments),
        Verb::Emit(arguments) => emit::emit(&arguments),
        Verb::Verify(arguments) => verify::verify(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Doctor(arguments) => doctor::doctor(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("unpriv: {error:#}");
        exit::of_error(&error)
    })
}

/// One thread does it all: the workload is marked by the thread that starts it, the process's first.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
