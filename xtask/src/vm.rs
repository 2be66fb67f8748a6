//! Virtual machines with Debian kernels and real engines: what the build machine itself cannot be.

mod disk;
mod kernel;
mod machine;
mod packages;
mod payload;
mod root;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;
use serde::Deserialize;
use unpriv::shell::shell_quote;

pub(crate) use self::{
    kernel::Kernel,
    machine::Outcome,
    root::{Root, SUITES},
};
use self::{machine::Machine, packages::Host, payload::Payload};

/// Run a command in a virtual machine with a Debian kernel, docker, podman, runc, crun and `AppArmor`
///
/// The machine is emulated by QEMU, without KVM. It has this tree's `unpriv` in its PATH, built for it, and what
/// the command leaves in its current directory, /out, comes back with --output. Kernels and packages come from
/// Debian by apt and are kept in ~/.cache/unpriv-lab. The exit status is the command's; 124 when it took too long,
/// 125 when the machine died.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Its kernel: a series that Debian has, or `newest`
    #[arg(short, long, default_value = "6.12", value_parser = Kernel::names())]
    kernel: String,
    /// The release of Debian that it runs, with its engines
    #[arg(short, long, default_value = "bookworm", value_parser = SUITES)]
    suite: String,
    /// Start dockerd first
    #[arg(short, long)]
    engines: bool,
    /// Give docker's containers a network; takes some seconds
    #[arg(long, requires = "engines")]
    network: bool,
    #[command(flatten)]
    shape: Shape,
    /// A file or directory that the machine finds in /unpriv/files
    #[arg(long = "with", value_name = "PATH")]
    with: Vec<PathBuf>,
    /// The directory for the files that the command left in /out
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Only fetch and build what the machine takes
    #[arg(long)]
    fetch: bool,
    /// The command: one argument is a shell script
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "fetch")]
    command: Vec<String>,
}

/// What the machine looks like.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Shape {
    /// Which cgroup hierarchies it mounts
    #[arg(long, value_enum, default_value = "v2")]
    pub(crate) cgroup: Cgroup,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048)]
    pub(crate) memory: u32,
    /// Processors
    #[arg(long, default_value_t = 2)]
    pub(crate) processors: u32,
    /// Seconds that it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) timeout: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { cgroup: Cgroup::V2, memory: 2048, processors: 2, timeout: 600 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cgroup {
    /// The unified hierarchy alone
    #[default]
    V2,
    /// A hierarchy for each controller, and no unified one
    V1,
    /// Both
    Hybrid,
}

impl Cgroup {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let host = Host::ready()?;
    let kernel = Kernel::fetch(&host, &arguments.kernel)?;
    let root = Root::fetch(&host, &kernel, &arguments.suite)?;
    let mut payload = Payload::build()?;
    if arguments.fetch {
        return Ok(ExitCode::SUCCESS);
    }
    for path in &arguments.with {
        payload.add(path)?;
    }
    let command = match &arguments.command[..] {
        [script] => script.clone(),
        words => shell_quote(words),
    };
    let before = match (arguments.engines, arguments.network) {
        (false, _) => "",
        (true, false) => ". /unpriv/engines.sh\n",
        (true, true) => "DOCKER_NET=1; . /unpriv/engines.sh\n",
    };
    let machine =
        Machine { host: &host, kernel: &kernel, root: root.disk(), shape: arguments.shape, writable: false };
    let outcome = machine.run(&payload, &format!("{before}{command}\n"), arguments.output.as_deref())?;
    Ok(outcome.exit_code())
}

impl Outcome {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Exit(code) => *code,
            Self::TimedOut => 124,
            Self::Died(_) => 125,
        })
    }
}

/// What a machine needs, fetched or built, for callers that run many.
pub(crate) struct Lab {
    host: Host,
    payload: Payload,
}

impl Lab {
    /// Fetches and builds everything for machines with these kernels and releases of Debian.
    pub(crate) fn ready<'a>(
        machines: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(Self, Vec<(Kernel, Root)>)> {
        let host = Host::ready()?;
        let parts = machines.into_iter().map(|(kernel, suite)| {
            let kernel = Kernel::fetch(&host, kernel)?;
            let root = Root::fetch(&host, &kernel, suite)?;
            Ok((kernel, root))
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        Ok((Self { host, payload: Payload::build()? }, parts))
    }

    /// Runs a script with the engines started; its files go to `output`.
    pub(crate) fn run(
        &self,
        (kernel, root): &(Kernel, Root),
        shape: Shape,
        script: &str,
        output: &Path,
    ) -> Result<Outcome> {
        let machine = Machine { host: &self.host, kernel, root: root.disk(), shape, writable: false };
        machine.run(&self.payload, script, Some(output))
    }
}

impl Shape {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
