//! The command line: clap types, and one thin file per verb.

/// Says something on standard error, where the talk goes.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::talk(format_args!($($words)*)) };
}

mod derive;
mod doctor;
mod emit;
mod exit;
mod explain;
mod hooks;
mod record;
mod run;
mod style;
mod tighten;
mod usage;
mod verify;

use std::{fmt, io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  # The main job: the answer is in ./unpriv-out, run.sh is the command without --privileged
  unpriv tighten -- docker run --rm --privileged IMAGE

  # Any program needs no engine
  unpriv tighten -o out -- mount -t tmpfs none /mnt

  # In steps: several runs, such as those of a test suite, make one profile
  unpriv record -o a.json -- docker run --rm --privileged IMAGE first
  unpriv record -o b.json -- docker run --rm --privileged IMAGE second
  unpriv derive a.json b.json -o profile.json
  unpriv emit profile.json --target docker

  # Why is that capability in the answer?
  unpriv explain unpriv-out/trace.json CAP_SYS_ADMIN

Exit status: 0 done; 1 the answer is no; 2 wrong usage or a file that cannot be used; 3 the recording is
incomplete; 4 this host cannot do it. `run` has the command's own.";

/// Run the container you run with --privileged without it: record what it uses, keep only that, prove it
#[derive(Debug, Parser)]
#[command(name = "unpriv", version, after_help = EXAMPLES)]
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
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error),
    };
    let result = match arguments.verb {
        Verb::Tighten(arguments) => tighten::tighten(&arguments),
        Verb::Record(arguments) => record::record(&arguments),
        Verb::Derive(arguments) => derive::derive(&arguments),
        Verb::Emit(arguments) => emit::emit(&arguments),
        Verb::Verify(arguments) => verify::verify(&arguments),
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Run(arguments) => return run::main(&arguments),
        Verb::Doctor(arguments) => doctor::doctor(&arguments),
    };
    result.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    say!("{error:#}");
    exit::of_error(error)
}

/// [`say!`]; nobody to hear it is no reason to stop.
fn talk(words: fmt::Arguments<'_>) {
    // One write, so that it does not mix with what the workload says.
    drop(std::io::stderr().write_all(format!("unpriv: {words}\n").as_bytes()));
}

/// One thread does it all: the workload is marked by the thread that starts it, the process's first.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
