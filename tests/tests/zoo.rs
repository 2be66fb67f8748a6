//! The main job on every workload of the zoo, in both forms, held against what brute force found.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    Form, Grants, Host, Workload,
    grants::{plain_argv, privileged_docker_argv},
    judge,
    run::{clean_up, run_plain},
    unpriv_binary, workloads,
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// Enough for all the runs of one verification on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(4);

fn main() -> Result<()> {
    let mut arguments = Arguments::from_args();
    // More at a time than processors only makes them wait for each other, and for docker.
    arguments.test_threads.get_or_insert(2);
    let mut trials = Vec::new();
    for workload in workloads()? {
        for form in [Form::Docker, Form::Plain] {
            if workload.skipped(form).is_some() {
                continue;
            }
            let workload = workload.clone();
            let name = format!("tighten::{form}::{}", workload.name);
            trials.push(Trial::test(name, move || {
                tighten(&workload, form).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit()
}

fn tighten(workload: &Workload, form: Form) -> Result<()> {
    let host = Host::probe()?;
    let expected = workload.expected(form).context("no expectation: run `ablate --write --missing`")?;
    let directory = tempfile::tempdir()?;
    let output = directory.path().join("out");
    // An earlier test that was itself broken off cleaned up nothing.
    clean_up(workload)?;
    let answer = answer(workload, form, &host, &output)?;
    clean_up(workload)?;
    let profile = judge::verified(&answer)?;
    judge::capabilities(workload, expected, &profile.capabilities)?;
    judge::devices(workload, expected, &profile)?;
    if form == Form::Docker {
        judge::kernel_paths(expected, &answer)?;
    }
    for file in ["trace.json", "profile.json", "seccomp.json", "run.sh", "verify.json"] {
        ensure!(output.join(file).is_file(), "{file} is missing");
    }
    Ok(())
}

fn answer(workload: &Workload, form: Form, host: &Host, output: &Path) -> Result<Value> {
    let mut argv: Vec<String> = vec![unpriv_binary()?.to_string_lossy().into_owned()];
    argv.extend(["tighten", "--json", "-o"].map(str::to_owned));
    argv.extend([output.to_string_lossy().into_owned(), "--".to_owned()]);
    let (stdout, stderr) = match form {
        Form::Docker | Form::Lab => {
            argv.extend(privileged_docker_argv(workload, host));
            let done = Command::new(&argv[0]).args(&argv[1..]).output()?;
            (done.stdout, String::from_utf8_lossy(&done.stderr).into_owned())
        }
        Form::Plain => {
            argv.extend(plain_argv(workload));
            let run = run_plain(workload, &Grants::everything(host, form), host, &argv, TIMEOUT)?;
            (run.outcome.stdout.into_bytes(), run.stderr)
        }
    };
    match serde_json::from_slice(&stdout) {
        Ok(answer) => Ok(answer),
        Err(_) => bail!("no answer: {stderr}"),
    }
}
