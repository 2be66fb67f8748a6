//! `unpriv verify`: does a command behave the same under a profile?

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use super::{exit::Exit, hooks, runtime, tighten};
use crate::{
    document,
    probe::Probes,
    verify::{Confiner, Policy, Verifier},
    workload::{Streams, Workload},
};

/// Run a command as it is and under a profile, and compare
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile, as `unpriv derive` writes it
    profile: PathBuf,
    #[command(flatten)]
    judge: Judge,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// The command and its arguments, as it runs with every privilege
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How runs are recorded and judged.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Judge {
    /// Judge a run by this shell command instead of by exit status and output
    #[arg(long, value_name = "CMD")]
    pub(super) check: Option<String>,
    /// Run this shell command before each run, to undo what the last one changed
    #[arg(long, value_name = "CMD")]
    pub(super) prepare: Option<String>,
    #[command(flatten)]
    pub(super) hooks: hooks::Chosen,
}

pub(super) fn verify(arguments: &Arguments) -> Result<ExitCode> {
    let profile = document::read_profile(&arguments.profile)?;
    let workload = Workload::parse(&arguments.command)?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let policy = Policy {
        max_rounds: 1,
        repair: false,
        check: arguments.judge.check.clone(),
        prepare: arguments.judge.prepare.clone(),
    };
    let verifier = Verifier {
        workload: &workload,
        seccomp: &directory.path().join("seccomp.json"),
        policy: &policy,
        probes: Probes::new(Verifier::hooks(arguments.judge.hooks.set())),
        confiner: &Confiner::new(workload.applies_apparmor(), &tighten::progress),
        progress: &tighten::progress,
    };
    let proved = runtime()?.block_on(async {
        tighten::progress("running the command as it is");
        let baseline = verifier.baseline(Streams::Capture).await?;
        verifier.prove(&baseline, Some(profile)).await
    })?;
    if arguments.json {
        document::write("-".as_ref(), &document::to_json(&proved.verification))?;
    } else {
        let text = crate::report::verdict(&proved.verification) + "\n";
        document::write("-".as_ref(), text.as_bytes())?;
    }
    Ok(if proved.verification.same { Exit::Done } else { Exit::No }.into())
}
