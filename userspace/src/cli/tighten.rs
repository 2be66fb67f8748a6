//! `unpriv tighten`: the main job, end to end.

use std::{
    fmt::Write as _,
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{exit::Exit, runtime, verify::Judge};
use crate::{
    document,
    emit::{docker_script, seccomp},
    profile::derive,
    shell::{printable, shell_display, shell_quote},
    trace::Outcome,
    verify::{Denial, Difference, Policy, Proved, Verification, Verifier},
    workload::{Streams, Workload},
};

/// Runs under a profile before giving up.
const MAX_ROUNDS: u32 = 8;

/// Record one run, keep only the privilege that it used, and prove it by running that
///
/// COMMAND is `docker run …` with every privilege it needs, or any program. It is run as it is once, and then
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
    eprintln!("unpriv: {step}");
}

pub(super) fn tighten(arguments: &Arguments) -> Result<ExitCode> {
    let directory = &arguments.output;
    make_directory(directory)?;
    let workload = Workload::parse(&arguments.command)?;
    let policy = Policy {
        max_rounds: MAX_ROUNDS,
        repair: true,
        check: arguments.judge.check.clone(),
        prepare: arguments.judge.prepare.clone(),
    };
    let seccomp = directory.join("seccomp.json");
    let verifier = Verifier { workload: &workload, seccomp: &seccomp, policy: &policy, progress: &progress };
    let (proved, verified) = runtime()?.block_on(async {
        progress(&format!("recording: {}", shell_display(&arguments.command)));
        let baseline = verifier.baseline(Streams::Capture).await?;
        // What was seen is kept whatever happens next.
        document::write(&directory.join("trace.json"), &document::to_json(&baseline.trace))?;
        report_outcome(baseline.outcome);
        if arguments.no_verify || baseline.outcome.is_none() {
            let profile = derive(&baseline.trace);
            let rewritten = verifier.rewritten(&profile)?;
            let verification = Verification::none(rewritten.as_ref(), &workload);
            return Ok((Proved { trace: baseline.trace, profile, verification, rewritten }, false));
        }
        anyhow::Ok((verifier.prove(&baseline, None).await?, true))
    })?;
    write_bundle(directory, &workload, &proved)?;
    print(arguments, &workload, &proved, verified)?;
    let complete = Exit::of_trace(&proved.trace);
    Ok(match (verified && !proved.verification.same, complete) {
        (true, _) => Exit::No,
        (false, complete) => complete,
    }
    .into())
}

fn make_directory(directory: &Path) -> Result<()> {
    let name = directory.display();
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {name} (choose another with -o)"))?;
    document::check_writable(&directory.join("trace.json"))
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
    let script = match &proved.rewritten {
        Some(rewritten) => docker_script::run_script(&rewritten.run, &seccomp_path.to_string_lossy()),
        None => {
            document::write(&seccomp_path, &seccomp::to_json(&proved.profile.seccomp))?;
            process_script(&workload.command())
        }
    };
    document::write_executable(&directory.join("run.sh"), &script)
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
    let directory = arguments.output.display();
    let command = proved.rewritten.as_ref().map_or_else(
        || {
            let profile = arguments.output.join("profile.json").to_string_lossy().into_owned();
            let launcher = ["unpriv", "run", "--profile", &profile, "--"].map(str::to_owned);
            launcher.into_iter().chain(workload.command()).collect()
        },
        crate::emit::docker::Rewritten::argv,
    );
    if arguments.json {
        let answer = json!({
            "verified": verified && proved.verification.same,
            "directory": arguments.output.to_string_lossy(),
            "command": command,
            "profile": proved.profile,
            "verification": proved.verification,
        });
        return document::write("-".as_ref(), &document::to_json(&answer));
    }
    let mut text = crate::report::summary(workload, proved, width());
    let _ = writeln!(text, "\n{}", shell_display(&command));
    let _ = writeln!(text, "\n{}", if verified { verdict(&proved.verification) } else { "not verified".to_owned() });
    let _ = writeln!(text, "written to {directory}: trace.json profile.json seccomp.json run.sh verify.json");
    document::write("-".as_ref(), text.as_bytes())
}

/// Columns of the terminal; plain text elsewhere is not folded more than a screen would.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if std::io::stdout().is_terminal() && columns >= 40 { columns } else { 100 }
}

/// What verification found, in a few lines.
pub(super) fn verdict(verification: &Verification) -> String {
    let runs = verification.rounds.len();
    if verification.same {
        let compared = if verification.output_compared {
            "same exit status, same output, nothing newly denied"
        } else {
            "same exit status, nothing newly denied (output was not compared: it is not the same twice)"
        };
        let times = if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs, with repairs") };
        return format!("verified by running it ({times}): {compared}");
    }
    let mut text = "NOT verified: it behaves otherwise with these grants".to_owned();
    if !verification.repeatable {
        text.push_str("\n  the unchanged command ends otherwise too when it is run again: undo what it changes with --prepare CMD, or judge it with --check CMD");
    }
    let Some(last) = verification.rounds.last() else { return text };
    for difference in &last.differences {
        let _ = write!(text, "\n  {}", describe_difference(difference));
    }
    for denial in &last.denials {
        let _ = write!(text, "\n  denied by {}: {}", denial.layer(), describe_denial(denial));
    }
    text
}

fn describe_outcome(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Exit(code)) => format!("exit status {code}"),
        Some(Outcome::Signal(signal)) => format!("signal {signal}"),
        None => "no end".to_owned(),
    }
}

fn describe_difference(difference: &Difference) -> String {
    match difference {
        Difference::DidNotStart(words) => format!("it did not start: {}", printable(words)),
        Difference::Outcome { before, after } => {
            format!("{} before, {} now", describe_outcome(*before), describe_outcome(*after))
        }
        Difference::Output { stream, before, after } => {
            format!("{stream}: `{}` before, `{}` now", printable(before), printable(after))
        }
        Difference::Check(words) => format!("--check failed: {}", printable(words)),
        Difference::NewFailure(failure) => format!(
            "{} by {} newly fails with {}",
            printable(&failure.syscall),
            printable(&failure.program),
            failure.errno
        ),
    }
}

fn describe_denial(denial: &Denial) -> String {
    match denial {
        Denial::Seccomp(failure) | Denial::ReadOnly(failure) | Denial::Unknown(failure) => {
            format!("{} by {} ({})", failure.syscall, printable(&failure.program), failure.errno)
        }
        Denial::Capability(check) => format!("{} for {}", check.capability, printable(&check.program)),
        Denial::CapabilitySet { program, .. } => format!("capset by {}", printable(program)),
        Denial::Device(access) => format!(
            "{} {}:{} {} for {}",
            access.kind.letter(),
            access.major,
            access.minor,
            access.access,
            printable(&access.program)
        ),
    }
}
