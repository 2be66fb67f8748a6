//! Who is recorded: a process tree, or a container engine's command line and the engine behind it.

pub mod answers;
pub mod apparmor;
pub mod attach;
pub mod audit;
mod audit_record;
pub mod client;
pub mod container;
pub mod device_nodes;
pub mod engine;
mod files;
mod interrupts;
mod output;
pub mod process;
mod record;
mod refusals;
pub mod run_line;
pub mod run_options;
mod run_tables;
pub mod running;

use anyhow::Result;

use self::{container::Session, engine::EngineKind, run_line::RunLine};
pub use self::{
    interrupts::Interrupted,
    output::{Output, Stream},
    record::{Options, Recorded, Streams},
};

/// What the user wants to run.
#[derive(Debug)]
pub enum Workload {
    /// Any command.
    Process(Vec<String>),
    /// `docker run …` or `podman run …`, and the engine behind it.
    Container(Box<RunLine>, Box<Session>),
}

impl Workload {
    /// Reads a command line; asks the engine when it is one's.
    ///
    /// # Errors
    ///
    /// When it is an engine's line that is not understood, or the engine does not answer.
    pub fn parse(command: &[String]) -> Result<Self> {
        if command.first().is_none_or(|program| EngineKind::of(program).is_none()) {
            refusals::hidden_engine(command)?;
            return Ok(Self::Process(command.to_vec()));
        }
        let run = RunLine::parse(command)?;
        let session = Session::open(&run)?;
        Ok(Self::Container(Box::new(run), Box::new(session)))
    }

    /// The command line.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        match self {
            Self::Process(command) => command.clone(),
            Self::Container(run, _) => run.arguments(),
        }
    }

    /// Whether an engine confines it by `AppArmor`.
    #[must_use]
    pub fn applies_apparmor(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Container(_, session) => session.info.security_modules().contains("apparmor"),
        }
    }

    /// Runs it as it is and records.
    ///
    /// # Errors
    ///
    /// When nothing can be recorded on this host, or it cannot be started.
    pub async fn record(&self, options: Options<'_>) -> Result<Recorded> {
        match self {
            Self::Process(command) => process::record(command, None, options).await,
            Self::Container(run, session) => session.record(run, options).await,
        }
    }
}
