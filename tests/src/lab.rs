//! What the lab's machines find out: each workload under each engine and OCI runtime, with real `--privileged`.

use std::{
    collections::BTreeSet,
    fmt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unpriv::{capability::Capability, shell::shell_quote};

use crate::{
    cli::unpriv_binary,
    grants::{IMAGE, docker_knows},
    judge,
    run::clean_up,
    workload::{Expected, Form, Workload},
};

/// For all the runs of one answer, in an emulated machine.
pub const TIMEOUT: Duration = Duration::from_mins(10);

/// A container engine and the OCI runtime that it is told to use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Engine {
    /// `docker` or `podman`.
    pub name: String,
    /// `runc` or `crun`.
    pub runtime: String,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.name, self.runtime))
    }
}

impl std::str::FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((name @ ("docker" | "podman"), runtime @ ("runc" | "crun"))) => {
                Ok(Self { name: name.to_owned(), runtime: runtime.to_owned() })
            }
            _ => Err(format!("{text} is no ENGINE/RUNTIME, such as docker/runc or podman/crun")),
        }
    }
}

/// One cell of the table: one workload under one engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The workload.
    pub workload: String,
    /// The engine.
    pub engine: Engine,
    /// Nothing was lost in recording.
    pub recorded: bool,
    /// The answer ran, and behaved the same.
    pub verified: bool,
    /// What `AppArmor` does in the answer: `default`, `generated`, `unconfined`, or `none` where there is none.
    pub apparmor: String,
    /// Why it is not as it should be; `None` when all is well.
    pub wrong: Option<String>,
    /// How long it took.
    pub seconds: u64,
}

/// What one machine found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// `uname -r`.
    pub kernel: String,
    /// `v1`, `v2` or `hybrid`.
    pub cgroup: String,
    /// Engines and OCI runtimes with their versions.
    pub versions: BTreeSet<String>,
    /// `unpriv doctor --json`: the hooks in use, and what they record.
    pub doctor: Value,
    /// The table.
    pub cells: Vec<Cell>,
}

impl Findings {
    /// With the cells that the same machine found before and not now.
    #[must_use]
    pub fn with(mut self, before: Self) -> Self {
        if (&before.kernel, &before.versions) == (&self.kernel, &self.versions) {
            let again = |cell: &Cell| {
                self.cells.iter().any(|now| (&now.workload, &now.engine) == (&cell.workload, &cell.engine))
            };
            let kept: Vec<Cell> = before.cells.into_iter().filter(|cell| !again(cell)).collect();
            self.cells.extend(kept);
        }
        self
    }
}

/// The line that unpriv is given.
fn privileged(workload: &Workload, engine: &Engine) -> Vec<String> {
    let mut line: Vec<String> = [&engine.name, "run", "--rm", "--privileged"].map(str::to_owned).into();
    line.push(format!("--runtime={}", engine.runtime));
    line.extend(workload.user.map(|user| format!("--user={user}:{user}")));
    line.extend_from_slice(&workload.docker.args);
    line.push(workload.image.clone().unwrap_or_else(|| IMAGE.to_owned()));
    line.extend_from_slice(&workload.command);
    line
}

/// Tightens one workload under one engine, and holds the answer against what is expected.
#[must_use]
pub fn cell(workload: &Workload, engine: &Engine, bundle: &Path) -> Cell {
    let begin = Instant::now();
    let mut cell = Cell {
        workload: workload.name.clone(),
        engine: engine.clone(),
        recorded: false,
        verified: false,
        apparmor: "none".to_owned(),
        wrong: None,
        seconds: 0,
    };
    cell.wrong = judged(workload, engine, bundle, &mut cell).err().map(|error| format!("{error:#}"));
    cell.seconds = begin.elapsed().as_secs();
    cell
}

/// What was found with docker; or without an engine, where that is a capability which that docker has no name for and
/// this engine has.
fn expected(workload: &Workload, engine: &Engine) -> Result<Expected> {
    if let Some(expected) = workload.expect.podman.as_ref().filter(|_| engine.name == "podman") {
        return Ok(expected.clone());
    }
    let expected = workload.expected(Form::Lab).context("no expectation")?;
    let Some(plain) = workload.expected(Form::Plain) else { return Ok(expected.clone()) };
    for recent in Capability::RECENT.iter().filter(|recent| plain.capabilities.contains(recent)) {
        if engine.name == "podman" || docker_knows(*recent)? {
            let (capabilities, alternatives) = (plain.capabilities.clone(), plain.alternatives.clone());
            return Ok(Expected { capabilities, alternatives, ..expected.clone() });
        }
    }
    Ok(expected.clone())
}

fn judged(workload: &Workload, engine: &Engine, bundle: &Path, cell: &mut Cell) -> Result<()> {
    let expected = expected(workload, engine)?;
    let answer = answer(workload, engine, bundle)?;
    clean_up(workload)?;
    cell.recorded = answer["profile"]["complete"] == true;
    cell.verified = answer["verified"] == true;
    answer["command"].as_array().context("no command")?.iter().filter_map(Value::as_str).for_each(|word| {
        if let Some(profile) = word.strip_prefix("apparmor=") {
            let kind = if profile == "unconfined" { "unconfined" } else { "generated" };
            kind.clone_into(&mut cell.apparmor);
        }
    });
    if cell.apparmor == "none" && Path::new("/sys/kernel/security/apparmor/profiles").exists() {
        "default".clone_into(&mut cell.apparmor);
    }
    let profile = judge::verified(&answer)?;
    judge::capabilities(workload, &expected, &profile.capabilities)?;
    judge::devices(workload, &expected, &profile)?;
    judge::kernel_paths(&expected, &answer)?;
    if !cell.recorded {
        bail!("the recording is incomplete: {}", answer["profile"]["warnings"]);
    }
    if cell.apparmor == "unconfined" {
        bail!("AppArmor is off in the answer");
    }
    Ok(())
}

fn answer(workload: &Workload, engine: &Engine, bundle: &Path) -> Result<Value> {
    let limit = TIMEOUT.as_secs().to_string();
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(&limit).arg(unpriv_binary()?);
    command.args(["tighten", "--json", "-o"]).arg(bundle);
    if let Some(prepare) = &workload.prepare {
        command.arg("--prepare").arg(shell_quote(prepare));
    }
    command.arg("--").args(privileged(workload, engine));
    let done = command.stdin(Stdio::null()).output().context("running unpriv")?;
    serde_json::from_slice(&done.stdout).map_err(|_| {
        let words = String::from_utf8_lossy(&done.stderr);
        let last = words.trim().lines().next_back().unwrap_or_default();
        if done.status.code() == Some(124) {
            anyhow::anyhow!("not done after {limit} s: {last}")
        } else {
            anyhow::anyhow!("no answer ({}): {last}", done.status)
        }
    })
}
