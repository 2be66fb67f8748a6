//! Who is recorded: a process tree, or a container engine's command line and the engine behind it.

pub mod container;
pub mod device_nodes;
pub mod docker;
pub mod docker_answers;
pub mod docker_cli;
pub mod docker_options;
mod files;
mod output;
pub mod process;
mod record;

use anyhow::Result;

use self::{container::Session, docker_cli::DockerRun};
pub use self::{
    output::{Output, Stream},
    record::{Options, Recorded, Streams},
};

/// What the user wants to run.
#[derive(Debug)]
pub enum Workload {
    /// Any command.
    Process(Vec<String>),
    /// `docker run …`, and the engine that it names.
    Docker(DockerRun, Session),
}

impl Workload {
    /// Reads a command line; asks the engine when it is one's.
    ///
    /// # Errors
    ///
    /// When it is a `docker` line that is not understood, or no daemon answers.
    pub fn parse(command: &[String]) -> Result<Self> {
        if !docker_cli::is_docker(command) {
            return Ok(Self::Process(command.to_vec()));
        }
        let run = DockerRun::parse(command)?;
        let session = Session::open(&run)?;
        Ok(Self::Docker(run, session))
    }

    /// The command line.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        match self {
            Self::Process(command) => command.clone(),
            Self::Docker(run, _) => run.arguments(),
        }
    }

    /// Runs it as it is and records.
    ///
    /// # Errors
    ///
    /// When nothing can be recorded on this host, or it cannot be started.
    pub async fn record(&self, options: Options) -> Result<Recorded> {
        match self {
            Self::Process(command) => process::record(command, None, options).await,
            Self::Docker(run, session) => session.record(run, options).await,
        }
    }
}
