//! The engine, through the user's own client and its global options.

use std::{
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, Output, Stdio},
};

use serde::de::DeserializeOwned;

use super::{
    answers::{Container, Image, Info, PodmanInfo},
    engine::EngineKind,
    refusals::NO_SERVICE,
    run_line::RunLine,
};
use crate::{capability::Capability, shell::printable, trace::Engine};

/// A reference that no registry can hold (RFC 2606), for questions that must not find an image.
const NO_IMAGE: &str = "unpriv.invalid/none:0";

/// What went wrong with the engine, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such client program.
    #[error(
        "`{}` cannot be run: {error} (install {}, or give its path)",
        printable(program),
        name_of(program)
    )]
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
    /// Podman was told to use a service, which does not answer.
    #[error("podman hands its containers to a service ({}): {NO_SERVICE}", printable(.0))]
    Service(String),
    /// A `docker` that is podman under another name: the two understand different options.
    #[error("`{}` is podman here: write `podman run …`", printable(.0))]
    IsPodman(String),
    /// The engine refused; its own words.
    #[error("`{engine} {action}` failed: {}", printable(message))]
    Refused {
        /// The engine.
        engine: EngineKind,
        /// `create`, `inspect` and so on.
        action: &'static str,
        /// Standard error of the client.
        message: String,
    },
    /// An answer that this build cannot read.
    #[error(
        "`{engine} {action}` gave an answer that cannot be read: {} ({} are known)",
        printable(detail), engine.known_versions()
    )]
    Answer {
        /// The engine.
        engine: EngineKind,
        /// `info`, `inspect` and so on.
        action: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// The user's client, with the options that choose the daemon or the storage.
#[derive(Clone, Debug)]
pub struct Client {
    engine: EngineKind,
    command: Vec<String>,
}

impl Client {
    /// The client of the user's line.
    #[must_use]
    pub fn of(run: &RunLine) -> Self {
        Self { engine: run.engine, command: run.engine_command() }
    }

    /// The client in `PATH` and what it chooses by itself.
    #[must_use]
    pub fn local(engine: EngineKind) -> Self {
        Self { engine, command: vec![engine.name().to_owned()] }
    }

    /// Whose client it is.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// The version of the client; needs no daemon.
    ///
    /// # Errors
    /// When there is no client.
    pub fn client_version(&self) -> Result<String, EngineError> {
        // It fails without a daemon, after it has said this.
        let output = self.output("version", &["--format", "{{.Client.Version}}"])?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if version.is_empty() { Err(self.refused("version", &output)) } else { Ok(version) }
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// When there is no client, no daemon, or an answer that cannot be read.
    pub fn info(&self) -> Result<Info, EngineError> {
        let output = self.output("info", &["--format", "{{json .}}"])?;
        if !output.status.success() {
            return Err(self.refused("info", &output));
        }
        let info = self.read_info(&output.stdout)?;
        match info.server_errors.first() {
            Some(error) => Err(self.classify("info", error.clone())),
            None if info.server_version.is_empty() => {
                let podman = serde_json::from_slice::<PodmanInfo>(&output.stdout).is_ok();
                let program = || self.command.first().cloned().unwrap_or_default();
                Err(if podman { EngineError::IsPodman(program()) } else { self.refused("info", &output) })
            }
            None => Ok(info),
        }
    }

    /// Whether the engine takes `--cap-add` of this capability. What docker knows depends on how it was built,
    /// and it looks before it looks for the image, so nothing is made. Podman takes what its kernel has.
    ///
    /// # Errors
    /// When there is no client or no daemon.
    pub fn knows(&self, capability: Capability) -> Result<bool, EngineError> {
        if self.engine == EngineKind::Podman {
            return Ok(true);
        }
        let option = format!("--cap-add={}", capability.short_name());
        let output = self.output("create", &["--pull=never", &option, NO_IMAGE])?;
        match self.refused("create", &output) {
            EngineError::Refused { message, .. } => Ok(!message.contains("unknown capability")),
            error => Err(error),
        }
    }

    /// The command that makes the container of a line without starting it.
    #[must_use]
    pub fn create(run: &RunLine) -> Command {
        let mut command = command(&run.create_arguments());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The ID of the container that [`Self::create`] made.
    ///
    /// # Errors
    /// When the daemon refused, in its own words.
    pub fn created(&self, output: &Output) -> Result<String, EngineError> {
        if !output.status.success() {
            return Err(self.refused("create", output));
        }
        // The ID is the last line; a pull that had to be made first may have talked before it.
        let stdout = String::from_utf8_lossy(&output.stdout);
        let id = stdout.lines().next_back().unwrap_or_default().trim();
        if is_id(id) {
            Ok(id.to_owned())
        } else {
            Err(self.unreadable("create", format!("`{id}` is no container ID")))
        }
    }

    /// The command that starts a made container, attached as the user's line asks. The caller connects it.
    #[must_use]
    pub fn start(&self, run: &RunLine, id: &str) -> Command {
        command(&run.start_arguments(id))
    }

    /// The state of a container.
    ///
    /// # Errors
    /// When there is none of that name, or an answer that cannot be read.
    pub fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        self.inspected("container", id)
    }

    /// What matters of an image.
    ///
    /// # Errors
    /// When there is no such image, or an answer that cannot be read.
    pub fn image(&self, image: &str) -> Result<Image, EngineError> {
        self.inspected("image", image)
    }

    fn inspected<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Result<T, EngineError> {
        let output = self.ok("inspect", &["--type", kind, "--", name])?;
        let found: Vec<T> = self.read("inspect", &output.stdout)?;
        found.into_iter().next().ok_or_else(|| self.unreadable("inspect", "an empty list".to_owned()))
    }

    /// Waits for a container to end; its exit status.
    ///
    /// # Errors
    /// When there is none of that name, or an answer that is no number.
    pub fn wait(&self, id: &str) -> Result<i32, EngineError> {
        let output = self.ok("wait", &["--", id])?;
        let status = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        status.parse().map_err(|_| self.unreadable("wait", status))
    }

    /// Ends a container's processes at once. One that runs no more is no error.
    ///
    /// # Errors
    /// When there is no client or no daemon.
    pub fn kill(&self, id: &str) -> Result<(), EngineError> {
        match self.ok("kill", &["--", id]) {
            Err(EngineError::Refused { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a container and its anonymous volumes, running or not. One that is gone is no error.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn remove(&self, id: &str) -> Result<(), EngineError> {
        let arguments: &[&str] = match self.engine {
            EngineKind::Docker => &["--force", "--volumes", "--", id],
            // It would ask the processes to end, and wait for that.
            EngineKind::Podman => &["--force", "--volumes", "--time=0", "--", id],
        };
        let mut output = self.output("rm", arguments)?;
        // It is a process of the foreground until it has its own group, and may be met by the Ctrl-C that we were.
        if output.status.signal().is_some() {
            output = self.output("rm", arguments)?;
        }
        match self.checked("rm", output) {
            Err(EngineError::Refused { message, .. }) if is_gone(&message) => Ok(()),
            other => other.map(drop),
        }
    }

    /// What a trace says of the engine, for a container that was made.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn engine_of(&self, info: &Info, container: &Container) -> Result<Engine, EngineError> {
        let runtime = match container.runtime() {
            "" => info.default_runtime.clone(),
            runtime => runtime.to_owned(),
        };
        Ok(Engine {
            name: self.engine.name().to_owned(),
            version: info.server_version.clone(),
            runtime_version: info.runtime_version(&runtime),
            runtime,
            image: self.image(&container.image)?.digest(),
            security_modules: info.security_modules(),
        })
    }

    fn read_info(&self, bytes: &[u8]) -> Result<Info, EngineError> {
        match self.engine {
            EngineKind::Podman => self.read::<PodmanInfo>("info", bytes).map(Info::from),
            EngineKind::Docker => self.read("info", bytes),
        }
    }

    fn ok(&self, action: &'static str, arguments: &[&str]) -> Result<Output, EngineError> {
        self.checked(action, self.output(action, arguments)?)
    }

    fn checked(&self, action: &'static str, output: Output) -> Result<Output, EngineError> {
        if output.status.success() { Ok(output) } else { Err(self.refused(action, &output)) }
    }

    fn output(&self, action: &'static str, arguments: &[&str]) -> Result<Output, EngineError> {
        let rest = [action].into_iter().chain(arguments.iter().copied()).map(str::to_owned);
        output(self.command.iter().cloned().chain(rest).collect())
    }

    fn refused(&self, action: &'static str, output: &Output) -> EngineError {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        self.classify(action, if words.is_empty() { output.status.to_string() } else { words })
    }

    /// Tells apart what the user can do something about by the client's words: it has no exit status for them.
    fn classify(&self, action: &'static str, message: String) -> EngineError {
        let lower = message.to_ascii_lowercase();
        let engine = self.engine;
        if lower.contains("permission denied while trying to connect")
            || lower.contains("connect: permission denied")
        {
            EngineError::Permission(message)
        } else if lower.contains("cannot connect to the docker daemon")
            || lower.contains("error during connect")
            || lower.contains("failed to connect to the docker api")
        {
            EngineError::Unreachable(message)
        } else if lower.contains("connect to podman") {
            EngineError::Service(message)
        } else {
            EngineError::Refused { engine, action, message }
        }
    }

    fn unreadable(&self, action: &'static str, detail: String) -> EngineError {
        EngineError::Answer { engine: self.engine, action, detail }
    }

    fn read<T: DeserializeOwned>(&self, action: &'static str, bytes: &[u8]) -> Result<T, EngineError> {
        serde_json::from_slice(bytes).map_err(|error| self.unreadable(action, error.to_string()))
    }
}

fn command(arguments: &[String]) -> Command {
    let mut command = Command::new(arguments.first().map_or("", String::as_str));
    command.args(arguments.iter().skip(1));
    command
}

fn output(arguments: Vec<String>) -> Result<Output, EngineError> {
    let mut command = command(&arguments);
    // Ctrl-C is for the workload and for us: a client that it ended would leave a container behind.
    command.process_group(0);
    let program = arguments.into_iter().next().unwrap_or_default();
    command.stdin(Stdio::null()).output().map_err(|error| EngineError::Client { program, error })
}

fn is_gone(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    lower.contains("no such container")
        || lower.contains("no container with")
        || lower.contains("is already in progress")
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn name_of(program: &str) -> &'static str {
    EngineKind::of(program).unwrap_or(EngineKind::Docker).name()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
