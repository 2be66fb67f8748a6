//! Finds by brute force what every workload needs, and compares with what is written in its file.

use std::{collections::BTreeSet, iter, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use e2e::{
    Expected, Form, Host,
    ablate::{ablate, check},
    workload::{Workload, workloads, write_expected},
};
use unpriv::capability::Capability;

/// Find by removing grants one after the other what each workload needs. Run as root, after setup.sh.
///
/// Compares with the expectations in tests/workloads and exits with 1 when they differ.
#[derive(Parser)]
struct Arguments {
    /// Write what was found into the workload's file
    #[arg(long)]
    write: bool,
    /// Search for nothing: see whether the expectations suffice, and whether any one grant of them can go
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Only workloads that have no expectation yet
    #[arg(long)]
    missing: bool,
    /// Only this form: docker, plain, or lab for what runs in the lab alone
    #[arg(long, value_parser = parse_form)]
    form: Option<Form>,
    /// Only these workloads
    names: Vec<String>,
}

fn parse_form(text: &str) -> Result<Form, String> {
    match text {
        "docker" => Ok(Form::Docker),
        "plain" => Ok(Form::Plain),
        "lab" => Ok(Form::Lab),
        _ => Err("the form is docker, plain or lab".to_owned()),
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let host = Host::probe()?;
    let mut same = true;
    for workload in workloads()? {
        if !arguments.names.is_empty() && !arguments.names.contains(&workload.name) {
            continue;
        }
        for form in [Form::Plain, Form::Docker, Form::Lab] {
            // Only in the lab can the lab's be run, so it has to be asked for.
            let chosen = arguments.form.map_or(form != Form::Lab, |chosen| chosen == form);
            let wanted = !arguments.missing || workload.expected(form).is_none();
            if chosen && wanted && workload.skipped(form).is_none() {
                same &= match workload.expected(form) {
                    Some(expected) if arguments.check => check_one(&workload, form, &host, expected),
                    _ => one(&workload, form, &host, arguments.write)?,
                };
            }
        }
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks one form of one workload; whether all is as expected.
fn check_one(workload: &Workload, form: Form, host: &Host, expected: &Expected) -> bool {
    let complaints = check(workload, form, host, expected).unwrap_or_else(|error| vec![format!("{error:#}")]);
    let verdict = if complaints.is_empty() { "holds".to_owned() } else { complaints.join("; ") };
    println!("{:22} {form:6} {verdict}", workload.name);
    complaints.is_empty()
}

/// Ablates one form of one workload; whether all is as expected.
fn one(workload: &Workload, form: Form, host: &Host, write: bool) -> Result<bool> {
    let (found, runs) = match ablate(workload, form, host) {
        Ok(found) => found,
        Err(error) => {
            println!("{:22} {form:6} ERROR {error:#}", workload.name);
            return Ok(false);
        }
    };
    let same = workload.expected(form) == Some(&found);
    let verdict = match (same, write) {
        (true, _) => "as expected",
        (false, true) => "written",
        (false, false) => "DIFFERENT",
    };
    println!("{:22} {form:6} {} ({verdict}, {runs} runs)", workload.name, describe(&found));
    if write && !same {
        write_expected(workload, form, &found, &host.description)?;
    }
    Ok(same || write)
}

fn describe(found: &Expected) -> String {
    let names = |set: &BTreeSet<Capability>| {
        let names: Vec<_> = set.iter().map(|capability| capability.short_name()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join("+") }
    };
    let sets: Vec<_> = iter::once(&found.capabilities).chain(&found.alternatives).map(names).collect();
    let devices = found.devices.iter().map(|device| {
        let minor = device.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        let path = device.path.as_deref().unwrap_or("without node");
        format!("{} {}:{minor} {} {path}", device.kind.letter(), device.major, device.access)
    });
    let unmasked = found.unmasked.then(|| "unmasked".to_owned());
    iter::once(sets.join(" or ")).chain(devices).chain(unmasked).collect::<Vec<_>>().join(", ")
}
