//! The docker engine, through the user's own `docker` client and its global options.

use std::{
    io,
    process::{Command, Output, Stdio},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    docker_answers::{Container, Info, null_is_empty, runtime_version},
    docker_cli::DockerRun,
};
use crate::{capability::Capability, shell::printable, trace::Engine};

/// A reference that no registry can hold (RFC 2606), for questions that must not find an image.
const NO_IMAGE: &str = "unpriv.invalid/none:0";

/// What went wrong with the engine, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// No such client program.
    #[error("`{}` cannot be run: {error} (install the docker client, or give its path)", printable(program))]
    Client {
        /// As the user wrote it.
        program: String,
        /// From the kernel.
        error: io::Error,
    },
    /// The client reached no daemon.
    #[error("the docker daemon does not answer: start it, or name another with -H or --context ({})", printable(.0))]
    Unreachable(String),
    /// The client may not open the daemon's socket.
    #[error("no permission on the docker daemon's socket: run as root or join the socket's group ({})", printable(.0))]
    Permission(String),
    /// The daemon or the client refused; its own words.
    #[error("`docker {action}` failed: {}", printable(message))]
    Refused {
        /// `create`, `inspect` and so on.
        action: &'static str,
        /// Standard error of the client.
        message: String,
    },
    /// An answer that this build cannot read.
    #[error(
        "`docker {action}` gave an answer that cannot be read: {} (docker 20.10 to 29 are known)",
        printable(detail)
    )]
    Answer {
        /// `info`, `inspect` and so on.
        action: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// The user's docker client, with the options that choose the daemon.
#[derive(Clone, Debug)]
pub struct Docker {
    command: Vec<String>,
}

impl Docker {
    /// The client and daemon of the user's line.
    #[must_use]
    pub fn of(run: &DockerRun) -> Self {
        Self { command: run.engine_command() }
    }

    /// The client in `PATH` and the daemon that it chooses by itself.
    #[must_use]
    pub fn local() -> Self {
        Self { command: vec!["docker".to_owned()] }
    }

    /// A client of that name whose command line is docker's, such as `podman`.
    #[must_use]
    pub(super) fn named(program: &str) -> Self {
        Self { command: vec![program.to_owned()] }
    }

    /// The version of the client; needs no daemon.
    ///
    /// # Errors
    /// When there is no client.
    pub fn client_version(&self) -> Result<String, DockerError> {
        // It fails without a daemon, after it has said this.
        let output = self.output("version", &["--format", "{{.Client.Version}}"])?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if version.is_empty() { Err(refused("version", &output)) } else { Ok(version) }
    }

    /// What the daemon says of itself.
    ///
    /// # Errors
    /// When there is no client, no daemon, or an answer that cannot be read.
    pub fn info(&self) -> Result<Info, DockerError> {
        let output = self.output("info", &["--format", "{{json .}}"])?;
        let info =
            if output.status.success() { read_info(&output.stdout) } else { Err(refused("info", &output)) };
        info.and_then(|info| match info.server_errors.first() {
            Some(error) => Err(classify("info", error.clone())),
            None if info.server_version.is_empty() => Err(refused("info", &output)),
            None => Ok(info),
        })
    }

    /// Whether the daemon takes `--cap-add` of this capability: what it knows depends on how it was built,
    /// and it looks before it looks for the image. Nothing is made.
    ///
    /// # Errors
    /// When there is no client or no daemon.
    pub fn knows(&self, capability: Capability) -> Result<bool, DockerError> {
        let option = format!("--cap-add={}", capability.short_name());
        let output = self.output("create", &["--pull=never", &option, NO_IMAGE])?;
        match refused("create", &output) {
            DockerError::Refused { message, .. } => Ok(!message.contains("unknown capability")),
            error => Err(error),
        }
    }

    /// The command that makes the container of a line without starting it.
    #[must_use]
    pub fn create(run: &DockerRun) -> Command {
        let mut command = command(&run.create_arguments());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The ID of the container that [`Self::create`] made.
    ///
    /// # Errors
    /// When the daemon refused, in its own words.
    pub fn created(output: &Output) -> Result<String, DockerError> {
        if !output.status.success() {
            return Err(refused("create", output));
        }
        // The ID is the last line; a pull that had to be made first may have talked before it.
        let stdout = String::from_utf8_lossy(&output.stdout);
        let id = stdout.lines().next_back().unwrap_or_default().trim();
        if is_id(id) {
            Ok(id.to_owned())
        } else {
            Err(DockerError::Answer { action: "create", detail: format!("`{id}` is no container ID") })
        }
    }

    /// The command that starts a made container, attached as the user's line asks. The caller connects it.
    #[must_use]
    pub fn start(&self, run: &DockerRun, id: &str) -> Command {
        command(&run.start_arguments(id))
    }

    /// The state of a container.
    ///
    /// # Errors
    /// When there is none of that name, or an answer that cannot be read.
    pub fn inspect(&self, id: &str) -> Result<Container, DockerError> {
        let output = self.ok("inspect", &["--type=container", "--format={{json .}}", "--", id])?;
        read("inspect", &output.stdout)
    }

    /// A digest to name an image by: its repository digest, else its ID.
    ///
    /// # Errors
    /// When there is no such image, or an answer that cannot be read.
    pub fn image_digest(&self, image: &str) -> Result<String, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Image {
            id: String,
            #[serde(default, deserialize_with = "null_is_empty")]
            repo_digests: Vec<String>,
        }
        let output = self.ok("inspect", &["--type=image", "--format={{json .}}", "--", image])?;
        let image: Image = read("inspect", &output.stdout)?;
        Ok(image.repo_digests.into_iter().min().unwrap_or(image.id))
    }

    /// Waits for a container to end; its exit status.
    ///
    /// # Errors
    /// When there is none of that name, or an answer that is no number.
    pub fn wait(&self, id: &str) -> Result<i32, DockerError> {
        let output = self.ok("wait", &["--", id])?;
        let status = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        status.parse().map_err(|_| DockerError::Answer { action: "wait", detail: status })
    }

    /// Ends a container's processes at once. One that runs no more is no error.
    ///
    /// # Errors
    /// When there is no client or no daemon.
    pub fn kill(&self, id: &str) -> Result<(), DockerError> {
        match self.ok("kill", &["--", id]) {
            Err(DockerError::Refused { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a container and its anonymous volumes, running or not. One that is gone is no error.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn remove(&self, id: &str) -> Result<(), DockerError> {
        match self.ok("rm", &["--force", "--volumes", "--", id]) {
            Err(DockerError::Refused { message, .. }) if is_gone(&message) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What a trace says of the engine, for a container that was made.
    ///
    /// # Errors
    /// As [`Self::image_digest`].
    pub fn engine(&self, info: &Info, container: &Container) -> Result<Engine, DockerError> {
        let runtime = match container.host_config.runtime.as_str() {
            "" => info.default_runtime.clone(),
            runtime => runtime.to_owned(),
        };
        Ok(Engine {
            name: "docker".to_owned(),
            version: info.server_version.clone(),
            runtime_version: info.runtime_program(&runtime).and_then(runtime_version),
            runtime,
            image: self.image_digest(&container.image)?,
            security_modules: info.security_modules(),
        })
    }

    pub(super) fn ok(&self, action: &'static str, arguments: &[&str]) -> Result<Output, DockerError> {
        let output = self.output(action, arguments)?;
        if output.status.success() { Ok(output) } else { Err(refused(action, &output)) }
    }

    fn output(&self, action: &'static str, arguments: &[&str]) -> Result<Output, DockerError> {
        let rest = [action].into_iter().chain(arguments.iter().copied()).map(str::to_owned);
        output(self.command.iter().cloned().chain(rest).collect())
    }
}

fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(arguments.first().map_or("docker", String::as_str));
    command.args(arguments.iter().skip(1));
    command
}

fn output(arguments: Vec<String>) -> Result<Output, DockerError> {
    use std::os::unix::process::CommandExt as _;
    let mut command = command(&arguments);
    // Ctrl-C is for the workload and for us: a client that it ended would leave a container behind.
    command.process_group(0);
    let program = arguments.into_iter().next().unwrap_or_default();
    command.stdin(Stdio::null()).output().map_err(|error| DockerError::Client { program, error })
}

fn refused(action: &'static str, output: &Output) -> DockerError {
    classify(action, String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Tells apart what the user can do something about by the client's words: it has no exit status for them.
fn classify(action: &'static str, message: String) -> DockerError {
    let lower = message.to_ascii_lowercase();
    if lower.contains("permission denied while trying to connect")
        || lower.contains("connect: permission denied")
    {
        DockerError::Permission(message)
    } else if lower.contains("cannot connect to the docker daemon")
        || lower.contains("error during connect")
        || lower.contains("failed to connect to the docker api")
    {
        DockerError::Unreachable(message)
    } else {
        DockerError::Refused { action, message }
    }
}

fn is_gone(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    lower.contains("no such container") || lower.contains("is already in progress")
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read_info(bytes: &[u8]) -> Result<Info, DockerError> {
    read("info", bytes)
}

pub(super) fn read<T: DeserializeOwned>(action: &'static str, bytes: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(bytes).map_err(|error| DockerError::Answer { action, detail: error.to_string() })
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
