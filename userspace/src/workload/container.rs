//! Recording an engine's container: found by its cgroup, from the entrypoint's execve.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    pin::pin,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{process::Command, time::timeout};

use super::{
    answers::{GraphDriver, Info},
    client::{Client, EngineError},
    device_nodes::device_nodes,
    engine::EngineKind,
    files::{self, Files},
    interrupts::{Interrupted, Interrupts},
    record::{Options, Recorded, Recorder, Streams, connect, end, outcome},
    refusals::refuse_rootless,
    run_line::RunLine,
};
use crate::{
    capability::Capability,
    emit::container::EngineTarget,
    profile::{Device, Profile},
    trace::Engine,
};

/// How long making a container takes at most, when its image is here.
const CREATION: Duration = Duration::from_secs(2);

/// The engine behind a user's line.
#[derive(Debug)]
pub struct Session {
    client: Client,
    /// What the engine says of itself.
    pub info: Info,
}

/// A container that was made and is removed unless it is kept.
struct Made<'a> {
    client: &'a Client,
    id: String,
    keep: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.client.remove(&self.id)
        {
            // Nobody to hear it is no reason to panic.
            let words = format!("unpriv: cannot remove the container {}: {error}\n", self.id);
            drop(std::io::stderr().write_all(words.as_bytes()));
        }
    }
}

impl Session {
    /// Asks the engine of that line who it is.
    ///
    /// # Errors
    ///
    /// When there is no client or no daemon, or its containers cannot be recorded.
    pub fn open(run: &RunLine) -> Result<Self> {
        let client = Client::of(run);
        let info = client.info()?;
        if client.engine() == EngineKind::Podman {
            refuse_rootless(info.rootless, info.remote)?;
        }
        Ok(Self { client, info })
    }

    /// The user's client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The OCI runtime that the line's container gets, and its version when it is on this host.
    #[must_use]
    pub fn runtime(&self, run: &RunLine) -> (String, Option<String>) {
        let default = &self.info.default_runtime;
        let runtime = match run.engine {
            EngineKind::Docker => run.value("runtime").unwrap_or(default),
            // It was asked with that option, and answered for it.
            EngineKind::Podman => default,
        };
        (runtime.to_owned(), self.info.runtime_version(runtime))
    }

    /// What the rewritten line may say to this engine.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn target(&self, run: &RunLine, profile: &Profile, seccomp: &str) -> Result<EngineTarget> {
        let mut target =
            EngineTarget::new(run.engine, &self.info.server_version, self.info.security_modules(), seccomp);
        if run.user().is_none() && !profile.capabilities.is_empty() {
            // It is not here when nothing was run yet.
            let image = self.client.image(&run.image).ok();
            target.image_user = image.and_then(|image| image.user().map(str::to_owned));
        }
        target.nodes = device_nodes(run);
        if !run.mounts_dev() {
            target.families = families(&profile.devices);
        }
        for &capability in Capability::RECENT.iter().filter(|one| profile.capabilities.contains(one)) {
            if self.knows(capability)? {
                target.capabilities.insert(capability);
            } else {
                target.capabilities.remove(&capability);
            }
        }
        Ok(target)
    }

    /// Whether the engine has a name for a capability.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn knows(&self, capability: Capability) -> Result<bool> {
        Ok(!Capability::RECENT.contains(&capability) || self.client.knows(capability)?)
    }

    /// Makes the container of a line, arms, starts it, and records it to its end.
    ///
    /// # Errors
    ///
    /// When nothing can be recorded on this host, or the daemon refuses.
    pub async fn record(&self, run: &RunLine, options: Options<'_>) -> Result<Recorded> {
        // From here on a container may be left behind.
        let mut interrupts = Interrupts::watch()?;
        let made = self.make(run, &mut interrupts).await?;
        let recorded = self.record_made(run, &made.id, options, interrupts).await;
        let mut made = made;
        made.keep = match &recorded {
            // The daemon removes it, or the user wants to have it.
            Ok(recorded) if recorded.outcome.is_some() => {
                run.auto_remove() || (!options.clean_up && recorded.start_failure.is_none())
            }
            // It may run still.
            Ok(_) | Err(_) => false,
        };
        if (!made.keep || options.clean_up)
            && let Some(file) = run.cidfile()
        {
            // The next run must be able to write it again.
            drop(std::fs::remove_file(file));
        }
        recorded
    }

    /// Makes the container. A client that is interrupted may or may not have made one, so it is kept out of
    /// the terminal's process group.
    async fn make(&self, run: &RunLine, interrupts: &mut Interrupts) -> Result<Made<'_>> {
        let mut create = Command::from(Client::create(run));
        let client = create
            .process_group(0)
            .spawn()
            .map_err(|error| EngineError::Client { program: run.program.clone(), error })?;
        let id = client.id();
        let mut output = pin!(client.wait_with_output());
        let made = |output| Ok(Made { client: &self.client, id: self.client.created(&output)?, keep: false });
        tokio::select! {
            output = &mut output => return made(output.context("cannot wait for the engine's client")?),
            _ = interrupts.next() => {}
        }
        // It is done in a moment, or it pulls an image for minutes.
        let output = if let Ok(output) = timeout(CREATION, &mut output).await {
            output
        } else {
            end(id, libc::SIGINT);
            output.await
        };
        drop(output.map(made));
        Err(Interrupted.into())
    }

    async fn record_made(
        &self,
        run: &RunLine,
        id: &str,
        options: Options<'_>,
        interrupts: Interrupts,
    ) -> Result<Recorded> {
        let container = self.client.inspect(id)?;
        let engine: Engine = self.client.engine_of(&self.info, &container)?;
        let layers = container.graph_driver.as_ref().map(GraphDriver::layers).unwrap_or_default();
        let mut recorder = Recorder::arm(options.probes, Files::of_image(&layers), interrupts).await?;
        recorder.probe.watch_container(id)?;
        let mut start = Command::from(self.client.start(run, id));
        // A terminal cannot be captured without taking it away from the workload.
        let streams = if run.tty() { Streams::Inherit } else { options.streams };
        connect(&mut start, streams);
        let child = start.spawn().context("cannot start the engine's client")?;
        // Its first process ignores signals that it has no handler for, pid_namespaces(7).
        let kill = || drop(self.client.kill(id));
        let ended = recorder.follow(child, streams, options.limit, kill).await?;
        let start_failure = self
            .client
            .inspect(id)
            .ok()
            .and_then(|container| container.start_failure().map(str::to_owned))
            .or_else(|| never_ran(&recorder, &ended));
        let outcome = if ended.interrupted { None } else { outcome(ended.status) };
        let trace = recorder.finish(&run.arguments(), &ended, outcome, Some(engine))?;
        Ok(Recorded { trace, outcome, output: ended.output, start_failure, took: ended.took })
    }
}

/// The host's nodes of the families among these devices, by `b 7:*`.
fn families(devices: &BTreeSet<Device>) -> BTreeMap<String, BTreeSet<String>> {
    let nodes = files::device_nodes();
    let families = devices.iter().filter(|device| device.minor.is_none());
    families
        .map(|family| {
            let rule = family.rule();
            let prefix = rule.trim_end_matches('*');
            let members = nodes.iter().filter(|(number, _)| number.starts_with(prefix));
            (rule.clone(), members.map(|(_, path)| path.clone()).collect())
        })
        .collect()
}

/// With `--rm` the container is gone before it can be asked why it did not start, and podman does not keep
/// the reason.
fn never_ran(recorder: &Recorder, ended: &super::record::Ended) -> Option<String> {
    if recorder.probe.began() || ended.status.success() || ended.interrupted {
        return None;
    }
    // Not captured, it was seen.
    let words =
        ended.output.as_ref().map(|output| String::from_utf8_lossy(output.stderr.head()).trim().to_owned());
    Some(words.unwrap_or_else(|| "the engine said why".to_owned()))
}
