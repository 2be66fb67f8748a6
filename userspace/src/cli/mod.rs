//! The command line: clap types, and one thin file per verb.

mod explain;
mod run;
mod style;

use std::process::ExitCode;

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
    Explain(explain::Arguments),
    Run(run::Arguments),
}

/// The whole program: reads the command line, runs the verb, reports an error.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Explain(arguments) => explain::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("unpriv: {error:#}");
        // Other errors are a file or a command line that cannot be used.
        let code = error.downcast_ref().map_or(2, crate::launch::Error::exit_code);
        ExitCode::from(code)
    })
}
