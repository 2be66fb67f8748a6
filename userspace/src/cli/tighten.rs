//! `unpriv tighten`: the main job, end to end.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::{exit::Exit, runtime, style, verify::Judge};
use crate::{
    capability::Capability,
    document,
    emit::{apparmor::Loading, container_script, seccomp},
    probe::Probes,
    profile::derive,
    report::{self, Before, Host},
    shell::{shell_display, shell_quote},
    trace::Outcome,
    verify::{Confiner, Policy, Proved, Verification, Verifier},
    workload::{Streams, Workload},
};

/// The files of a bundle.
const BUNDLE: [&str; 5] = ["trace.json", "profile.json", "seccomp.json", "run.sh", "verify.json"];
/// One more, where the engine's own `AppArmor` profile is not enough.
const APPARMOR: &str = "apparmor.profile";
/// Runs under a profile before giving up.
const MAX_ROUNDS: u32 = 8;

/// Record one run, keep only the privilege that it used, and prove it by running that
///
/// COMMAND is `docker run …` or `podman run …` with every privilege it needs, or any program. It is run as it is once, and then
/// again with only what it used, until it behaves the same. It gets no input, and its containers are removed.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory for trace.json, profile.json, seccomp.json, run.sh and verify.json
    #[arg(short, long, value_name = "DIR", default_value = "./unpriv-out")]
    output: PathBuf,
    /// Do not run the answer
    #[arg(long)]
    no_verify: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: Judge,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Says what is being done.
pub(super) fn progress(step: &str) {
    say!("{step}");
}

pub(super) fn tighten(arguments: &Arguments) -> Result<ExitCode> {
    let directory = &arguments.output;
    // It goes again when there is nothing to put into it.
    let _made = MadeDirectories::make(directory)?;
    let workload = Workload::parse(&arguments.command)?;
    let policy = Policy {
        max_rounds: MAX_ROUNDS,
        repair: true,
        check: arguments.judge.check.clone(),
        prepare: arguments.judge.prepare.clone(),
    };
    let seccomp = directory.join("seccomp.json");
    let confiner = Confiner::new(workload.applies_apparmor(), &progress);
    let verifier = Verifier {
        workload: &workload,
        seccomp: &seccomp,
        policy: &policy,
        probes: Probes::new(Verifier::hooks(arguments.judge.hooks.set())),
        confiner: &confiner,
        progress: &progress,
    };
    let (proved, was_run) = runtime()?.block_on(async {
        progress(&format!("recording: {}", shell_display(&arguments.command)));
        let baseline = verifier.baseline(Streams::Capture).await?;
        // What was seen is kept whatever happens next.
        document::write(&directory.join("trace.json"), &document::to_json(&baseline.trace))?;
        report_outcome(baseline.outcome);
        if arguments.no_verify || baseline.outcome.is_none() {
            let profile = derive(&baseline.trace);
            let rewritten = verifier.rewritten(&profile, false)?;
            let verification = Verification::none(rewritten.as_ref(), &workload);
            return Ok((Proved { trace: baseline.trace, profile, verification, rewritten }, false));
        }
        anyhow::Ok((verifier.prove(&baseline, None).await?, true))
    })?;
    write_bundle(directory, &workload, &proved)?;
    confiner.keep();
    print(arguments, &workload, &proved, was_run)?;
    let complete = Exit::of_trace(&proved.trace);
    Ok(match (was_run && !proved.verification.same, complete) {
        (true, _) => Exit::No,
        (false, complete) => complete,
    }
    .into())
}

/// Directories that were made for the bundle, the outermost first; those that stay empty are removed.
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    fn make(directory: &Path) -> Result<Self> {
        let missing = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let mut made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        made.reverse();
        let made = Self(made);
        let name = document::display(directory);
        if directory.exists() && !directory.is_dir() {
            bail!("{name} is no directory: choose another with -o");
        }
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {name} (choose another with -o)"))?;
        for file in BUNDLE {
            document::check_writable(&directory.join(file))?;
        }
        Ok(made)
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            // One with files in it stays.
            drop(fs::remove_dir(directory));
        }
    }
}

fn report_outcome(outcome: Option<Outcome>) {
    match outcome {
        Some(Outcome::Exit(0)) | None => {}
        Some(Outcome::Exit(code)) => progress(&format!(
            "the command ended with exit status {code} even with every privilege; only what it used until then is known"
        )),
        Some(Outcome::Signal(signal)) => progress(&format!("the command was ended by signal {signal}")),
    }
}

fn write_bundle(directory: &Path, workload: &Workload, proved: &Proved) -> Result<()> {
    document::write(&directory.join("trace.json"), &document::to_json(&proved.trace))?;
    document::write(&directory.join("profile.json"), &document::to_json(&proved.profile))?;
    document::write(&directory.join("verify.json"), &document::to_json(&proved.verification))?;
    let seccomp_path = directory.join("seccomp.json");
    let apparmor = proved.rewritten.as_ref().and_then(|rewritten| rewritten.apparmor.as_ref());
    if let Some(profile) = apparmor {
        document::write(&directory.join(APPARMOR), &profile.text(Loading::Kept))?;
    } else {
        // One of an earlier answer would be taken for a part of this one.
        drop(fs::remove_file(directory.join(APPARMOR)));
    }
    let script = if let Some(rewritten) = &proved.rewritten {
        let apparmor = apparmor.map(|profile| (profile.name.as_str(), APPARMOR));
        container_script::run_script(&rewritten.run, &seccomp_path.to_string_lossy(), apparmor)
    } else {
        document::write(&seccomp_path, &seccomp::to_json(&proved.profile.seccomp))?;
        process_script(&workload.command())
    };
    Ok(document::write_executable(&directory.join("run.sh"), &script)?)
}

/// `run.sh` of a plain command: our own launcher, with the profile beside the script.
fn process_script(command: &[String]) -> Vec<u8> {
    format!(
        "#!/bin/sh\n# Made by unpriv: the command with only the privilege that it used.\n\
         dir=$(CDPATH= cd -- \"$(dirname -- \"$0\")\" && pwd) || exit\n\
         exec unpriv run --profile \"$dir/profile.json\" -- {}\n",
        shell_quote(command)
    )
    .into_bytes()
}

fn print(arguments: &Arguments, workload: &Workload, proved: &Proved, verified: bool) -> Result<()> {
    let directory = document::display(&arguments.output);
    let command = proved.rewritten.as_ref().map_or_else(
        || {
            let profile = arguments.output.join("profile.json").to_string_lossy().into_owned();
            let launcher = ["unpriv", "run", "--profile", &profile, "--"].map(str::to_owned);
            launcher.into_iter().chain(workload.command()).collect()
        },
        crate::emit::container::Rewritten::argv,
    );
    let warnings: Vec<_> = proved.rewritten.iter().flat_map(|rewritten| &rewritten.warnings).collect();
    if arguments.json {
        let answer = json!({
            "verified": verified && proved.verification.same,
            "directory": arguments.output.to_string_lossy(),
            "command": command,
            "profile": proved.profile,
            "verification": proved.verification,
            "warnings": warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        return Ok(document::write("-".as_ref(), &document::to_json(&answer))?);
    }
    let style = style::style(&std::io::stdout());
    let (before, after) = grants(workload, proved);
    let mut text = report::table(&proved.profile, &before, after.as_ref(), style);
    let mut notes = report::warnings(&proved.profile.warnings, style);
    for warning in warnings {
        let _ = writeln!(notes, "{warning}");
    }
    if !notes.is_empty() {
        let _ = writeln!(text, "\n{}", notes.trim_end());
    }
    let _ = writeln!(text, "\n{}", shell_display(&command));
    let _ = writeln!(
        text,
        "\n{}",
        if verified { report::verdict(&proved.verification) } else { "not verified".to_owned() }
    );
    let apparmor = proved.rewritten.as_ref().and_then(|rewritten| rewritten.apparmor.as_ref());
    let files: Vec<&str> = BUNDLE.into_iter().chain(apparmor.map(|_| APPARMOR)).collect();
    let _ = writeln!(text, "written to {directory}: {}", files.join(" "));
    Ok(document::write("-".as_ref(), text.as_bytes())?)
}

/// What the user's line grants, and what the rewritten one does.
fn grants(workload: &Workload, proved: &Proved) -> (Before, Option<Before>) {
    let capabilities = Capability::in_bounding_set();
    match workload {
        Workload::Process(_) => (Before::command(capabilities), None),
        Workload::Container(run, session) => {
            let host = Host {
                capabilities,
                security_modules: session.info.security_modules(),
                default_capabilities: session.info.default_capabilities.clone(),
            };
            let after = proved.rewritten.as_ref().map(|rewritten| Before::container(&rewritten.run, &host));
            (Before::container(run, &host), after)
        }
    }
}
