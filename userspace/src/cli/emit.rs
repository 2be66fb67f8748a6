//! `unpriv emit`: a profile in the form that an engine reads.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;

use super::exit::Exit;
use crate::{
    document,
    emit::{
        apparmor::{AppArmorProfile, Loading},
        container::{EngineTarget, rewrite},
        seccomp::{self, Runtime},
    },
    shell::shell_quote,
    workload::{engine::EngineKind, run_line::RunLine},
};

/// Write a profile in the form that an engine reads
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile, as `unpriv derive` writes it
    profile: PathBuf,
    /// The form
    #[arg(long, value_enum)]
    target: Target,
    /// Where it goes; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// The OCI runtime that will read it, such as `runc` or `crun`; without one, every measured one's needs
    /// are met
    #[arg(long)]
    runtime: Option<String>,
    /// That runtime's version
    #[arg(long, requires = "runtime")]
    runtime_version: Option<String>,
    /// For `docker` and `podman`: the path of the seccomp profile that the options name
    #[arg(long, value_name = "FILE", default_value = "seccomp.json")]
    seccomp: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Options for `docker run`
    Docker,
    /// Options for `podman run`
    Podman,
    /// A seccomp profile as the OCI runtime specification has it
    Seccomp,
    /// An `AppArmor` profile, to be loaded by `apparmor_parser -r`
    Apparmor,
}

pub(super) fn emit(arguments: &Arguments) -> Result<ExitCode> {
    let profile = document::read_profile(&arguments.profile)?;
    let bytes = match arguments.target {
        Target::Docker | Target::Podman => {
            // The newest engine that is known: it has a name for every capability.
            let (engine, version) = match arguments.target {
                Target::Podman => (EngineKind::Podman, "5.8.0"),
                _ => (EngineKind::Docker, "29.0.0"),
            };
            let target = EngineTarget::new(engine, version, BTreeSet::new(), &arguments.seccomp);
            let bare = RunLine::parse(&[engine.name(), "run", "IMAGE"].map(str::to_owned))?;
            let rewritten = rewrite(&bare, &profile, &target);
            for warning in &rewritten.warnings {
                say!("{warning}");
            }
            let lines = rewritten.run.option_lines();
            let text: String = lines.iter().map(|words| shell_quote(words) + "\n").collect();
            text.into_bytes()
        }
        Target::Seccomp => {
            let runtime = arguments.runtime.as_deref().map(|name| Runtime {
                name,
                version: arguments.runtime_version.as_deref(),
                no_new_privileges: false,
            });
            let (seccomp, warning) = seccomp::emitted(&profile, runtime)?;
            if let Some(warning) = warning {
                say!("{warning}");
            }
            seccomp::to_json(&seccomp)
        }
        Target::Apparmor => {
            let label =
                arguments.profile.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
            AppArmorProfile::new(&profile, &profile.capabilities, &label).text(Loading::Kept)
        }
    };
    document::write(&arguments.output, &bytes)?;
    if !profile.complete {
        say!("{}: made from an incomplete recording", document::display(&arguments.profile));
        return Ok(Exit::Incomplete.into());
    }
    Ok(Exit::Done.into())
}
