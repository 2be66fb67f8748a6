//! What cargo alone cannot do: build the kernel side, generate tables, measure.

mod codegen;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What cargo alone cannot do for unpriv.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the system call tables from the kernel's numbers
    Codegen(codegen::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Codegen(arguments) => codegen::run(&arguments),
    }
}
