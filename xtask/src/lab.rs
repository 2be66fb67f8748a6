//! The lab: the workload zoo on real kernels with real engines, as a table that must not get worse.

mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    Form,
    lab::{Cell, Engine, Findings, TIMEOUT},
    workloads,
};
use serde::Deserialize;

use crate::{
    vm::{Cgroup, Kernel, Lab, Outcome, Root, Shape},
    workspace,
};

/// What the machines run, and which cells cannot be as they should.
const PLAN: &str = "tests/lab.toml";
const TABLE: &str = "docs/kernels.md";
const FINDINGS: &str = "findings.json";
/// Seconds for one machine to start, and for each cell, which takes some ten on a quiet host. The slowest ends by itself
/// after [`TIMEOUT`].
const START: u64 = 300;
const PER_CELL: u64 = 60;

/// Run the workload zoo on Debian kernels under docker and podman, runc and crun, with real `--privileged`
///
/// Prints what each kernel records by which hooks, and for each workload whether it was recorded in full, verified,
/// and given just what brute force found. Fails when a cell is wrong for which tests/lab.toml gives no reason.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these kernels
    #[arg(short, long, value_parser = Kernel::names())]
    kernel: Vec<String>,
    /// Only these machines, as 6.12-trixie-v2
    #[arg(short, long)]
    machine: Vec<String>,
    /// Only these engines, as docker/runc
    #[arg(short, long)]
    engine: Vec<Engine>,
    /// What CI has the time for: the machines and workloads that tests/lab.toml says are for it
    #[arg(long)]
    ci: bool,
    /// Machines at a time
    #[arg(short, long, default_value_t = 2)]
    jobs: usize,
    /// Where findings and the bundles of wrong answers go; a machine's findings stay there until it makes them again
    #[arg(short, long, default_value = "target/lab")]
    output: PathBuf,
    /// Write the tables of all findings there into docs/kernels.md
    #[arg(long)]
    bless: bool,
    /// Only these workloads, on every machine and under every engine
    workloads: Vec<String>,
}

/// tests/lab.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    machine: Vec<Station>,
    /// The engines, and what CI runs under each on its machines.
    ci: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    exception: Vec<Exception>,
}

/// One machine of the plan.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Station {
    kernel: String,
    /// The release of Debian that the engines are of.
    suite: String,
    #[serde(default)]
    cgroup: Cgroup,
    /// CI boots it.
    #[serde(default)]
    ci: bool,
}

impl Station {
    fn name(&self) -> String {
        format!("{}-{}-{}", self.kernel, self.suite, self.cgroup.name())
    }
}

/// Cells that cannot be as they should, and why. What is not named is any.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    kernel: Option<String>,
    suite: Option<String>,
    cgroup: Option<Cgroup>,
    #[serde(default)]
    engines: Vec<String>,
    #[serde(default)]
    workloads: Vec<String>,
    why: String,
}

/// What one machine did.
struct Visit {
    station: Station,
    findings: Findings,
}

impl Plan {
    fn read() -> Result<Self> {
        let path = workspace().join(PLAN);
        let text = fs::read_to_string(&path).with_context(|| format!("read {PLAN}"))?;
        toml::from_str(&text).with_context(|| format!("read {PLAN}"))
    }

    /// Why a cell may be wrong.
    fn excuse(&self, station: &Station, cell: &Cell) -> Option<&str> {
        self.exception.iter().find(|exception| exception.is_for(station, cell)).map(|one| one.why.as_str())
    }
}

impl Exception {
    fn is_for(&self, station: &Station, cell: &Cell) -> bool {
        self.kernel.as_ref().is_none_or(|kernel| *kernel == station.kernel)
            && self.suite.as_ref().is_none_or(|suite| *suite == station.suite)
            && self.cgroup.is_none_or(|cgroup| cgroup == station.cgroup)
            && (self.engines.is_empty() || self.engines.contains(&cell.engine.to_string()))
            && (self.workloads.is_empty() || self.workloads.contains(&cell.workload))
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let plan = Plan::read()?;
    let stations: Vec<&Station> = plan
        .machine
        .iter()
        .filter(|station| arguments.kernel.is_empty() || arguments.kernel.contains(&station.kernel))
        .filter(|station| arguments.machine.is_empty() || arguments.machine.contains(&station.name()))
        .filter(|station| !arguments.ci || station.ci)
        .collect();
    ensure!(
        !stations.is_empty(),
        "no such machine; {PLAN} has {}",
        plan.machine.iter().map(Station::name).collect::<Vec<_>>().join(", ")
    );
    let (lab, parts) =
        Lab::ready(stations.iter().map(|station| (station.kernel.as_str(), station.suite.as_str())))?;
    let begin = Instant::now();
    fs::create_dir_all(&arguments.output).with_context(|| format!("make {}", arguments.output.display()))?;
    let queue = Mutex::new(stations.into_iter().zip(&parts).enumerate());
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                // A poisoned lock means that another visit panicked, which the scope passes on.
                while let Some((index, (station, parts))) =
                    queue.lock().ok().and_then(|mut queue| queue.next())
                {
                    let visit = visit(arguments, &plan, &lab, station, parts);
                    if let Ok(mut results) = results.lock() {
                        results.insert(index, visit);
                    }
                }
            });
        }
    });
    let mut visits = Vec::new();
    let mut broken = Vec::new();
    for result in results.into_inner().unwrap_or_default().into_values() {
        match result {
            Ok(visit) => visits.push(visit),
            Err(error) => broken.push(error),
        }
    }
    println!("{}", table::markdown(&plan, &visits));
    if arguments.bless {
        let all = table::markdown(&plan, &known(arguments, &plan)?);
        fs::write(workspace().join(TABLE), table::page(&all)).with_context(|| format!("write {TABLE}"))?;
    }
    for error in &broken {
        println!("lab: {error:#}");
    }
    let needless = table::needless(&plan, &visits);
    for words in &needless {
        println!("lab: {words}");
    }
    let mut verdict = table::verdict(&plan, &visits);
    verdict.failed += broken.len() + needless.len();
    println!("{verdict} ({} s)", begin.elapsed().as_secs());
    Ok(if verdict.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the plan's machines found, now or before.
fn known(arguments: &Arguments, plan: &Plan) -> Result<Vec<Visit>> {
    let mut visits = Vec::new();
    for station in &plan.machine {
        let path = arguments.output.join(station.name()).join(FINDINGS);
        if path.exists() {
            visits.push(Visit { station: station.clone(), findings: read(&path)? });
        }
    }
    Ok(visits)
}

/// Boots a machine and has it make its part of the table. One that died is given another try.
fn visit(
    arguments: &Arguments,
    plan: &Plan,
    lab: &Lab,
    station: &Station,
    parts: &(Kernel, Root),
) -> Result<Visit> {
    let groups = groups(arguments, plan)?;
    let name = station.name();
    let output = std::path::absolute(arguments.output.join(&name))?;
    let path = output.join(FINDINGS);
    let before = read(&path).ok();
    let script = format!(
        ". /unpriv/engines.sh\nexport UNPRIV_WORKLOADS=/unpriv/workloads\n\
         lab --cgroup {} -o /out/{FINDINGS} {}\n",
        station.cgroup.name(),
        groups.join(" ")
    );
    let cells: usize = groups.iter().map(|group| group.split(',').count()).sum();
    let timeout = START + TIMEOUT.as_secs() + PER_CELL * cells as u64;
    let shape = Shape { cgroup: station.cgroup, processors: 1, timeout, ..Shape::default() };
    for attempt in 1.. {
        drop(fs::remove_dir_all(&output));
        match lab.run(parts, shape, &script, &output)? {
            Outcome::Exit(0) => break,
            Outcome::Died(words) if attempt == 1 => {
                eprintln!("lab: the machine with Linux {name} died, trying once more:\n{words}");
            }
            // engines.sh says so when an engine did not start.
            Outcome::Exit(97) if attempt == 1 => {
                eprintln!("lab: the engines on Linux {name} did not start, trying once more");
            }
            other => bail!("the machine with Linux {name} did not make its table: {other:?}"),
        }
    }
    let findings = read(&path)?;
    if let Some(before) = before {
        let text = serde_json::to_vec_pretty(&findings.clone().with(before))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(Visit { station: station.clone(), findings })
}

fn read(path: &Path) -> Result<Findings> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
}

/// What a machine is to run, by engine: `docker/runc=mount-tmpfs,tun`.
fn groups(arguments: &Arguments, plan: &Plan) -> Result<Vec<String>> {
    let all: Vec<String> = workloads()?
        .into_iter()
        .filter(|workload| workload.expected(Form::Lab).is_some())
        .map(|workload| workload.name)
        .collect();
    let mut groups = Vec::new();
    for (engine, names) in &plan.ci {
        let wanted: Engine = engine.parse().map_err(anyhow::Error::msg)?;
        if !arguments.engine.is_empty() && !arguments.engine.contains(&wanted) {
            continue;
        }
        let names = match (&arguments.workloads[..], arguments.ci) {
            ([], true) => names,
            ([], false) => &all,
            (_, _) => &arguments.workloads,
        };
        if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
            bail!("{unknown} is no workload that the lab has an expectation for");
        }
        groups.push(format!("{engine}={}", names.join(",")));
    }
    ensure!(!groups.is_empty(), "no engine is left to run under");
    Ok(groups)
}
