//! Finding a container that runs, by what the user calls it.

use std::fs;

use anyhow::Result;

use super::{
    answers::Container,
    client::{Client, EngineError},
    engine::EngineKind,
};
use crate::{shell::printable, trace::Engine};

/// Why there is nothing to attach to, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum NotAttachable {
    /// No engine knows it.
    #[error("{} has no container `{}`: `{} ps` lists those that run", .engines.join(" or "), printable(.name), .engines.first().map_or("docker", |name| name))]
    Unknown {
        /// As the user wrote it.
        name: String,
        /// Those that were asked.
        engines: Vec<String>,
    },
    /// It is there and does not run.
    #[error("the container `{}` does not run, it is {}: start it, or record it from its start (`unpriv record -o TRACE -- docker run …`)", printable(.name), printable(.status))]
    NotRunning {
        /// As the user wrote it.
        name: String,
        /// In the engine's word.
        status: String,
    },
    /// The beginning of more than one id.
    #[error("`{}` may be any of several containers: give its name, or more of its id", printable(.0))]
    Ambiguous(String),
    /// Two engines have one of that name.
    #[error("docker and podman both have a container `{}`: choose with --engine docker or --engine podman", printable(.0))]
    InBoth(String),
    /// The daemon is on another machine.
    #[error("the processes of the container `{}` are not on this machine: run unpriv where its engine runs", printable(.0))]
    Elsewhere(String),
}

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Running {
    client: Client,
    /// Its full id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its first process.
    pub init: u32,
    /// That one's command line, as the engine started it.
    pub command: Vec<String>,
    container: Container,
}

impl Running {
    /// Finds it by name or by the beginning of its id, with one engine or with those that are here.
    ///
    /// # Errors
    ///
    /// [`NotAttachable`], or why an engine cannot be asked.
    pub fn find(name: &str, engine: Option<EngineKind>) -> Result<Self> {
        let asked = engine.map_or(EngineKind::ALL.to_vec(), |engine| vec![engine]);
        let mut found = Vec::new();
        let mut without = Vec::new();
        let mut failures = Vec::new();
        for engine in asked {
            match inspect(engine, name) {
                Ok(Some(container)) => found.push((engine, container)),
                Ok(None) => without.push(engine.name().to_owned()),
                Err(error) => failures.push(error),
            }
        }
        // Of two that have one of that name the one counts that runs it.
        if found.len() > 1 && found.iter().any(|(_, container)| runs(container)) {
            found.retain(|(_, container)| runs(container));
        }
        // An engine that is not installed was not asked for, when the other is.
        failures.retain(|error| without.is_empty() || !is_missing(error));
        let mut found = found.into_iter();
        match (found.next(), found.next(), failures.into_iter().next()) {
            (Some(_), Some(_), _) => Err(NotAttachable::InBoth(name.to_owned()).into()),
            (Some((engine, container)), None, _) => Self::of(engine, name, container),
            (None, _, Some(error)) => Err(error),
            (None, _, None) => Err(NotAttachable::Unknown { name: name.to_owned(), engines: without }.into()),
        }
    }

    fn of(engine: EngineKind, name: &str, container: Container) -> Result<Self> {
        let state = &container.state;
        let init = u32::try_from(state.pid).ok().filter(|&pid| pid != 0);
        let Some(init) = init.filter(|_| runs(&container)) else {
            return Err(
                NotAttachable::NotRunning { name: name.to_owned(), status: state.status.clone() }.into()
            );
        };
        // The names of its cgroups, from outside of any cgroup namespace.
        let cgroups = fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
        if !cgroups.contains(&container.id) {
            return Err(NotAttachable::Elsewhere(name.to_owned()).into());
        }
        Ok(Self {
            client: Client::local(engine),
            id: container.id.clone(),
            name: container.name.trim_start_matches('/').to_owned(),
            init,
            command: [container.path.clone()].into_iter().chain(container.args.iter().cloned()).collect(),
            container,
        })
    }

    /// What a trace says of the engine.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub fn engine(&self) -> Result<Engine> {
        Ok(self.client.engine_of(&self.client.info()?, &self.container)?)
    }

    /// Its exit status once it has ended; `None` when it is gone, as with `--rm`, or runs again.
    #[must_use]
    pub fn exit_status(&self) -> Option<i32> {
        let state = self.client.inspect(&self.id).ok()?.state;
        (state.pid == 0 && state.status != "restarting").then_some(state.exit_code)
    }
}

/// The container of that name; `None` when the engine has none.
fn inspect(engine: EngineKind, name: &str) -> Result<Option<Container>> {
    match Client::local(engine).inspect(name) {
        Ok(container) => Ok(Some(container)),
        Err(EngineError::Refused { message, .. }) if is_unknown(&message) => Ok(None),
        Err(EngineError::Refused { message, .. }) if is_ambiguous(&message) => {
            Err(NotAttachable::Ambiguous(name.to_owned()).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn runs(container: &Container) -> bool {
    matches!(container.state.status.as_str(), "running" | "paused")
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(EngineError::Client { .. }))
}

/// In docker's words or podman's.
fn is_unknown(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    ["no such container", "no such object", "no container with name or id"]
        .iter()
        .any(|words| lower.contains(words))
}

fn is_ambiguous(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    ["multiple ids found", "more than one", "not unique"].iter().any(|words| lower.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_say_of_a_name_is_told_apart() {
        for (words, unknown, ambiguous) in [
            ("[]\nError: No such container: web", true, false),
            ("Error: no such object: \"web\"", true, false),
            ("Error: no such container web", true, false),
            ("Error: no container with name or ID \"web\" found: no such container", true, false),
            ("Error response from daemon: Multiple IDs found with provided prefix: a", false, true),
            (
                "Error: more than one result for container name or ID \"a\": container ID a is ambiguous",
                false,
                true,
            ),
            ("Error response from daemon: dial unix /run/x: connect: connection refused", false, false),
        ] {
            assert_eq!((is_unknown(words), is_ambiguous(words)), (unknown, ambiguous), "{words}");
        }
    }
}
