//! Who is recorded: a process tree, or a container engine's command line and the engine behind it.

pub mod apparmor;
pub mod audit;
mod audit_record;
pub mod container;
pub mod device_nodes;
pub mod docker;
pub mod docker_answers;
pub mod docker_cli;
pub mod docker_options;
mod files;
mod interrupts;
mod output;
pub mod process;
mod record;

use anyhow::{Result, bail};

use self::{container::Session, docker_cli::DockerRun};
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
    /// `docker run …`, and the engine that it names.
    Docker(Box<DockerRun>, Box<Session>),
}

impl Workload {
    /// Reads a command line; asks the engine when it is one's.
    ///
    /// # Errors
    ///
    /// When it is a `docker` line that is not understood, or no daemon answers.
    pub fn parse(command: &[String]) -> Result<Self> {
        if !docker_cli::is_docker(command) {
            refuse_other_engines(command)?;
            return Ok(Self::Process(command.to_vec()));
        }
        let run = DockerRun::parse(command)?;
        let session = Session::open(&run)?;
        Ok(Self::Docker(Box::new(run), Box::new(session)))
    }

    /// The command line.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        match self {
            Self::Process(command) => command.clone(),
            Self::Docker(run, _) => run.arguments(),
        }
    }

    /// Whether an engine confines it by `AppArmor`.
    #[must_use]
    pub fn applies_apparmor(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Docker(_, session) => session.info.security_modules().contains("apparmor"),
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

/// An engine's client is not what is to be recorded: its containers are, and they are not its children.
fn refuse_other_engines(command: &[String]) -> Result<()> {
    const ENGINES: [&str; 3] = ["docker", "podman", "nerdctl"];
    const WRAPPERS: [&str; 4] = ["sudo", "doas", "env", "time"];
    let mut names = command.iter().map(|word| word.rsplit('/').next().unwrap_or_default());
    let Some(first) = names.next() else { return Ok(()) };
    if ENGINES.contains(&first) && command.iter().any(|word| word == "run") {
        bail!("`{first} run` is not understood yet: only `docker run …` is");
    }
    let second = names.find(|word| !word.starts_with('-') && !word.contains('='));
    if WRAPPERS.contains(&first) && second.is_some_and(|second| ENGINES.contains(&second)) {
        bail!("`{first}` hides the container: put it before unpriv (`sudo unpriv tighten -- docker run …`)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        refuse_other_engines(&words).err().map(|error| error.to_string())
    }

    #[test]
    fn a_client_that_is_not_read_is_refused() {
        assert!(refused("podman run -it alpine").unwrap().contains("podman"));
        assert!(refused("sudo -E docker run alpine").unwrap().contains("before unpriv"));
        assert!(refused("env A=1 docker run alpine").is_some());
        assert_eq!(refused("podman --version"), None);
        assert_eq!(refused("sudo -u nobody id"), None);
        assert_eq!(refused("mount -t tmpfs none /mnt"), None);
    }
}
