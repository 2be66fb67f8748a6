//! The main job on every workload of the zoo, in both forms, held against what brute force found.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    Expected, Form, Grants, Host, Workload,
    grants::{plain_argv, privileged_docker_argv},
    run::{clean_up, run_plain},
    unpriv_binary, workloads,
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use unpriv::{
    capability::Capability,
    profile::{Device, Profile},
    trace::Access,
};

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
    let answer = answer(workload, form, &host, &output)?;
    clean_up(workload)?;
    ensure!(answer["verified"] == true, "not verified: {}", last_round(&answer["verification"]));
    let profile: Profile = serde_json::from_value(answer["profile"].clone()).context("the profile")?;
    compare_capabilities(workload, expected, &profile.capabilities)?;
    compare_devices(workload, expected, &profile)?;
    if form == Form::Docker {
        let line = answer["command"].as_array().context("no command")?;
        let unmasked = line.iter().any(|word| word == "systempaths=unconfined");
        ensure!(
            unmasked == expected.unmasked,
            "systempaths=unconfined: {unmasked}, not {}",
            expected.unmasked
        );
    }
    for file in ["trace.json", "profile.json", "seccomp.json", "run.sh", "verify.json"] {
        ensure!(output.join(file).is_file(), "{file} is missing");
    }
    Ok(())
}

/// Why it did not verify: the last round, and what the ones before it were denied.
fn last_round(verification: &Value) -> String {
    let rounds = verification["rounds"].as_array().map_or(&[][..], Vec::as_slice);
    let denials: Vec<_> = rounds.iter().map(|round| round["denials"].to_string()).collect();
    let differences = rounds.last().map(|round| round["differences"].to_string()).unwrap_or_default();
    format!(
        "repeatable {}, differences {differences}, denials {}",
        verification["repeatable"],
        denials.join("; then ")
    )
}

fn answer(workload: &Workload, form: Form, host: &Host, output: &Path) -> Result<Value> {
    let mut argv: Vec<String> = vec![unpriv_binary()?.to_string_lossy().into_owned()];
    argv.extend(["tighten", "--json", "-o"].map(str::to_owned));
    argv.extend([output.to_string_lossy().into_owned(), "--".to_owned()]);
    let (stdout, stderr) = match form {
        Form::Docker => {
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

fn compare_capabilities(
    workload: &Workload,
    expected: &Expected,
    found: &BTreeSet<Capability>,
) -> Result<()> {
    let fits = |minimal: &BTreeSet<Capability>| {
        minimal.is_subset(found)
            && found.difference(minimal).all(|extra| workload.tolerates.capabilities.contains(extra))
    };
    ensure!(
        fits(&expected.capabilities) || expected.alternatives.iter().any(fits),
        "capabilities {found:?}, not {:?}{}",
        expected.capabilities,
        if expected.alternatives.is_empty() { "" } else { " or an alternative" }
    );
    Ok(())
}

/// Creating a node is free, so `m` is left out of both.
fn compare_devices(workload: &Workload, expected: &Expected, profile: &Profile) -> Result<()> {
    let rules = |devices: &BTreeSet<Device>| -> BTreeSet<String> {
        let used = devices.iter().filter_map(|device| {
            let access = Access { mknod: false, ..device.access };
            let family = Device { minor: None, ..device.clone() }.rule();
            let rule = if workload.tolerates.families.contains(&family) { family } else { device.rule() };
            (!access.is_empty()).then(|| format!("{rule} {access}"))
        });
        used.collect()
    };
    let tolerated =
        |device: &&Device| device.path.as_ref().is_some_and(|path| workload.tolerates.devices.contains(path));
    let found = profile.devices.iter().filter(|device| !tolerated(device)).cloned().collect();
    let (found, wanted) = (rules(&found), rules(&expected.devices));
    ensure!(found == wanted, "devices {found:?}, not {wanted:?}");
    Ok(())
}
