//! What cargo alone cannot do: build the kernel side, generate tables, measure, run in virtual machines.

mod bench;
mod build_ebpf;
mod codegen;
mod command;
mod lab;
mod runtimes;
mod vm;

use std::{path::PathBuf, process::ExitCode};

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
    /// Measure what recording costs
    Bench(bench::Arguments),
    #[command(hide = true)]
    BenchLoop,
    #[command(hide = true)]
    BenchRecorder(bench::Recorder),
    /// Build the kernel side from its source
    BuildEbpf(build_ebpf::Arguments),
    /// Write the system call tables from the kernel's numbers
    Codegen(codegen::Arguments),
    Lab(lab::Arguments),
    /// Measure what OCI runtimes need under a seccomp filter
    Runtimes(runtimes::Arguments),
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments)?,
        Task::BenchLoop => bench::Loop::run()?,
        Task::BenchRecorder(task) => task.run()?,
        Task::BuildEbpf(arguments) => build_ebpf::run(&arguments)?,
        Task::Codegen(arguments) => codegen::run(&arguments)?,
        Task::Lab(arguments) => return lab::run(&arguments),
        Task::Runtimes(arguments) => runtimes::run(&arguments)?,
        Task::Vm(arguments) => return vm::run(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory of the workspace.
fn workspace() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Where cargo puts what it builds.
fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
