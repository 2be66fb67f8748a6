//! Run inside of a machine of the lab: makes the table of workloads and engines, and writes what it found.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use e2e::{
    cli::unpriv_binary,
    lab::{Engine, Findings, cell},
    workload::workloads,
};

/// Tighten workloads under engines with real `--privileged`. Meant for a machine of `cargo xtask lab`.
#[derive(Parser)]
struct Arguments {
    /// ENGINE/RUNTIME and the names of the workloads to run under it: `docker/runc=mount-tmpfs,tun`
    #[arg(value_parser = parse_group, required = true)]
    groups: Vec<(Engine, Vec<String>)>,
    /// Which cgroup hierarchies this machine has mounted, for the report
    #[arg(long)]
    cgroup: String,
    /// Where the findings go; bundles go beside it
    #[arg(short, long)]
    output: PathBuf,
}

fn parse_group(text: &str) -> Result<(Engine, Vec<String>), String> {
    let (engine, names) = text.split_once('=').ok_or("it is ENGINE/RUNTIME=NAME,NAME")?;
    Ok((engine.parse()?, names.split(',').map(str::to_owned).collect()))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let all = workloads()?;
    let mut cells = Vec::new();
    for (engine, names) in &arguments.groups {
        for name in names {
            let Some(workload) = all.iter().find(|workload| workload.name == *name) else {
                bail!("there is no workload {name}");
            };
            let bundle =
                arguments.output.with_file_name(format!("{}-{}-{name}", engine.name, engine.runtime));
            let cell = cell(workload, engine, &bundle);
            let words = cell.wrong.as_deref().unwrap_or("as expected");
            println!("{engine} {name} ({} s): {words}", cell.seconds);
            if cell.wrong.is_none() {
                // What is wrong can be looked at; what is right takes room.
                drop(fs::remove_dir_all(&bundle));
            }
            cells.push(cell);
        }
    }
    let doctor = Command::new(unpriv_binary()?).args(["doctor", "--json"]).output()?;
    let findings = Findings {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        cgroup: arguments.cgroup,
        versions: versions(),
        doctor: serde_json::from_slice(&doctor.stdout).unwrap_or_default(),
        cells,
    };
    fs::write(&arguments.output, serde_json::to_vec_pretty(&findings)?)
        .with_context(|| format!("writing {}", arguments.output.display()))
}

/// The first line of what each program says of its version.
fn versions() -> BTreeSet<String> {
    let programs = ["docker", "podman", "runc", "crun"];
    let first_line = |program: &&str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    };
    programs.iter().filter_map(first_line).collect()
}
