//! Proof: the workload run under its profile, compared with the run that was recorded, and repaired.

mod compare;
mod confine;
mod search;

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use self::{compare::watched_mounts, confine::Ear};
pub use self::{
    compare::{Denial, Difference, Findings, behaviour, compare, wanted},
    confine::Confiner,
};
use crate::{
    capability::Capability,
    emit::{
        container::{Rewritten, rewrite},
        container_warning,
        seccomp::{self, Runtime},
    },
    probe::{HookSet, Hooks, Probes},
    profile::{Evidence, Profile, Warning, derive},
    trace::{Outcome, Trace},
    workload::{
        Interrupted, Options, Recorded, Streams, Workload, container::Session, process, run_line::RunLine,
    },
};

/// The format of `verify.json`.
const VERSION: u32 = 1;

/// What a run under a profile may take beyond some times what it took without: denied something, it may wait
/// for it for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to verify.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Runs under a profile before giving up.
    pub max_rounds: u32,
    /// Add what was denied and run again.
    pub repair: bool,
    /// The user's own judge of a run: a shell command that succeeds when all is well. Replaces the comparison of
    /// exit status and output.
    pub check: Option<String>,
    /// A shell command that restores what a run changed, before each run.
    pub prepare: Option<String>,
}

/// What verification found; `verify.json`.
#[derive(Clone, Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a field of verify.json, and they do not depend on each other"
)]
pub struct Verification {
    version: u32,
    /// The workload behaves the same under the profile.
    pub same: bool,
    /// Output was compared; false when two runs of the unchanged command differ, or it was not captured.
    pub output_compared: bool,
    /// The unchanged command itself ends otherwise when it is run again, so nothing can be proved.
    pub repeatable: bool,
    /// It was interrupted before it was done.
    pub interrupted: bool,
    /// The command that was run.
    pub command: Vec<String>,
    /// Each run under a profile.
    pub rounds: Vec<Round>,
}

/// One run under a profile.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// `AppArmor` only looked on, to tell what it would refuse: it proves nothing.
    pub watched: bool,
    /// How it differed.
    pub differences: Vec<Difference>,
    /// What it was denied.
    pub denials: Vec<Denial>,
}

impl Verification {
    /// Nothing was run.
    #[must_use]
    pub fn none(rewritten: Option<&Rewritten>, workload: &Workload) -> Self {
        Self {
            version: VERSION,
            same: false,
            output_compared: false,
            repeatable: true,
            interrupted: false,
            command: rewritten.map_or_else(|| workload.command(), Rewritten::argv),
            rounds: Vec::new(),
        }
    }
}

/// A profile with its proof.
#[derive(Debug)]
pub struct Proved {
    /// The trace, with what verification found missing.
    pub trace: Trace,
    /// Derived from it.
    pub profile: Profile,
    /// The proof, or what is wrong.
    pub verification: Verification,
    /// The rewritten line of an engine; `None` for a plain command.
    pub rewritten: Option<Rewritten>,
}

/// A proof under way.
struct Proof {
    trace: Trace,
    profile: Profile,
    /// What runs are compared with: the recorded run, and what a second one like it showed.
    reference: Recorded,
    repeated: bool,
    verification: Verification,
    /// Capabilities that verification added.
    added: BTreeSet<Capability>,
}

/// A workload, the files it is verified with, and how.
pub struct Verifier<'a> {
    /// What is run.
    pub workload: &'a Workload,
    /// Where the seccomp profile goes, as the rewritten line will name it.
    pub seccomp: &'a Path,
    /// How.
    pub policy: &'a Policy,
    /// What records each run: what [`Verifier::hooks`] says.
    pub probes: Probes,
    /// What confines an engine's container by `AppArmor`.
    pub confiner: &'a Confiner<'a>,
    /// Told before each step.
    pub progress: &'a dyn Fn(&str),
}

impl Verifier<'_> {
    /// All that a comparison needs, by these of the kernel's hooks.
    #[must_use]
    pub fn hooks(set: HookSet) -> Hooks {
        Hooks { failures: true, set, ..Hooks::default() }
    }

    fn quiet(&self, limit: Option<Duration>) -> Options<'_> {
        Options { probes: &self.probes, streams: Streams::Quiet, clean_up: true, limit }
    }

    /// Runs the workload as it is, with all that later comparison needs.
    ///
    /// # Errors
    ///
    /// When it cannot be recorded or started, or the user's own check fails already.
    pub async fn baseline(&self, streams: Streams) -> Result<Recorded> {
        self.prepare()?;
        let options = Options { probes: &self.probes, streams, clean_up: true, limit: None };
        let recorded = self.workload.record(options).await?;
        if let Some(failure) = &recorded.start_failure {
            bail!("the command does not start as it is: {}", crate::shell::printable(failure.trim()));
        }
        if let Some(words) = self.check_says_no()? {
            bail!("--check fails for the unchanged command already: {words}");
        }
        Ok(recorded)
    }

    /// Verifies what a baseline derives to; repairs within the policy's bounds.
    ///
    /// # Errors
    ///
    /// When a run cannot be made at all.
    pub async fn prove(&self, baseline: &Recorded, profile: Option<Profile>) -> Result<Proved> {
        let mut proof = Proof {
            trace: baseline.trace.clone(),
            profile: profile.unwrap_or_else(|| derive(&baseline.trace)),
            reference: baseline.clone(),
            repeated: false,
            verification: Verification {
                output_compared: baseline.output.is_some() && self.policy.check.is_none(),
                ..Verification::none(None, self.workload)
            },
            added: BTreeSet::new(),
        };
        match self.rounds(&mut proof).await {
            // What is known so far is worth something all the same.
            Err(error) if error.is::<Interrupted>() => proof.verification.interrupted = true,
            other => other?,
        }
        let rewritten = self.rewritten(&proof.profile, false)?;
        proof.verification.command =
            rewritten.as_ref().map_or_else(|| self.workload.command(), Rewritten::argv);
        let Proof { trace, profile, verification, .. } = proof;
        Ok(Proved { trace, profile, verification, rewritten })
    }

    async fn rounds(&self, proof: &mut Proof) -> Result<()> {
        for round in 1..=self.policy.max_rounds {
            if round == self.policy.max_rounds {
                self.confiner.stop_watching();
            }
            let watched = self.confiner.watches();
            let but = if watched { ", where AppArmor only looks on" } else { "" };
            (self.progress)(&format!("verifying: run {round} under the profile{but}"));
            let (run, more) = self.round(proof).await?;
            if proof.verification.same || !self.policy.repair {
                break;
            }
            let before = but_for_mounts(&proof.profile);
            let repaired = self.repair(proof, more, run.trace.runtime_syscalls);
            let otherwise = but_for_mounts(&proof.profile) != before;
            let goes_on =
                proof.verification.rounds.last().is_some_and(|round| self.confiner.learn(round, otherwise));
            if !repaired && !goes_on && !self.confine_otherwise(proof) {
                // A command that ends otherwise each time proves nothing by one more run.
                if proof.verification.repeatable {
                    self.search(proof).await?;
                }
                break;
            }
        }
        if proof.verification.same {
            self.drop_needless(proof).await?;
        }
        Ok(())
    }

    /// One run under the profile, compared. Where nothing explains a difference, the unchanged command
    /// is run once more: what differs there too is chance.
    async fn round(&self, proof: &mut Proof) -> Result<(Recorded, Trace)> {
        let watched = self.confiner.watches();
        let run = self.run_under(&proof.profile, &proof.reference).await?;
        let mut findings = self.findings(proof, &run)?;
        let mut more = wanted(&findings.denials);
        if !findings.differences.is_empty()
            && !proof.repeated
            && (more == Trace::empty() || !self.policy.repair)
        {
            (self.progress)("verifying: running the unchanged command again, to tell chance from denial");
            proof.repeated = true;
            self.prepare()?;
            let again = finished(self.workload.record(self.quiet(None)).await?)?;
            let reference = &mut proof.reference;
            proof.verification.repeatable = again.outcome == reference.outcome || self.policy.check.is_some();
            if again.output != reference.output {
                proof.verification.output_compared = false;
            }
            reference.trace.merge(again.trace);
            findings = self.findings(proof, &run)?;
            more = wanted(&findings.denials);
        }
        if watched {
            findings.denials.extend(watched_mounts(&proof.reference.trace, &run.trace));
            more = wanted(&findings.denials);
        }
        if !self.confiner.believes_mounts() {
            more.refusals.retain(|refusal| !refusal.access.is_mount());
        }
        proof.verification.same = findings.differences.is_empty() && !watched;
        proof.verification.rounds.push(Round {
            outcome: run.outcome,
            watched,
            differences: findings.differences.into_iter().collect(),
            denials: findings.denials.into_iter().collect(),
        });
        Ok((run, more))
    }

    /// Adds what was denied; false when that changes nothing.
    fn repair(&self, proof: &mut Proof, mut more: Trace, runtime_syscalls: BTreeSet<String>) -> bool {
        more.runtime_syscalls = runtime_syscalls;
        let mut trace = proof.trace.clone();
        trace.merge(more);
        let profile = derive(&trace);
        if profile == proof.profile {
            return false;
        }
        (self.progress)("verifying: adding what was denied");
        proof.added.extend(profile.capabilities.difference(&proof.profile.capabilities).copied());
        proof.trace = trace;
        proof.profile = profile;
        true
    }

    fn findings(&self, proof: &Proof, after: &Recorded) -> Result<Findings> {
        let mut findings =
            compare(&proof.reference, after, &proof.profile, proof.verification.output_compared);
        if self.policy.check.is_some() {
            // The user's judge decides; what was denied still helps to repair.
            findings.differences.clear();
            findings.differences.extend(self.check_says_no()?.map(Difference::Check));
            if let Some(failure) = &after.start_failure {
                findings.differences.insert(Difference::DidNotStart(failure.clone()));
            }
        }
        Ok(findings)
    }

    /// The rewritten line for a profile, its seccomp file written and its `AppArmor` profile loaded; for a
    /// trial, so that the kernel tells what it denies. `None` for a plain command.
    ///
    /// # Errors
    ///
    /// When the engine does not answer, or the file cannot be written.
    pub fn rewritten(&self, profile: &Profile, trial: bool) -> Result<Option<Rewritten>> {
        let Workload::Container(run, session) = self.workload else { return Ok(None) };
        let (seccomp, guess) = container_seccomp(session, run, profile)?;
        crate::document::write(self.seccomp, &seccomp::to_json(&seccomp))?;
        let mut target = session.target(run, profile, &self.seccomp.to_string_lossy())?;
        target.confinement = self.confiner.choice();
        let mut rewritten = rewrite(run, profile, &target);
        if let Err(obstacle) = self.confiner.load(rewritten.apparmor.as_ref(), trial) {
            target.confinement.obstacle = Some(obstacle);
            self.confiner.choose(target.confinement.clone());
            rewritten = rewrite(run, profile, &target);
        }
        rewritten
            .warnings
            .extend(guess.map(|warning| container_warning::Warning::Runtime(warning.to_string())));
        Ok(Some(rewritten))
    }

    async fn run_under(&self, profile: &Profile, reference: &Recorded) -> Result<Recorded> {
        let options = self.quiet(Some(reference.took * 5 + PATIENCE));
        self.prepare()?;
        let recorded = match self.workload {
            Workload::Process(command) => process::record(command, Some(profile), options).await,
            Workload::Container(_, session) => {
                let Some(rewritten) = self.rewritten(profile, true)? else { bail!("no line to rewrite") };
                let ear = Ear::open(rewritten.apparmor.as_ref());
                let mut recorded = session.record(&rewritten.run, options).await;
                if let (Ok(recorded), Some(ear)) = (&mut recorded, ear) {
                    recorded.trace.refusals = self.confiner.heard(&ear);
                }
                recorded
            }
        };
        Ok(finished(recorded?)?)
    }

    fn prepare(&self) -> Result<()> {
        let Some(command) = &self.policy.prepare else { return Ok(()) };
        let status = shell(command)?;
        if !status.success() {
            bail!("--prepare failed ({status}): {}", crate::shell::printable(command));
        }
        Ok(())
    }

    fn check_says_no(&self) -> Result<Option<String>> {
        let Some(command) = &self.policy.check else { return Ok(None) };
        let status = shell(command)?;
        Ok((!status.success()).then(|| format!("{} ({status})", crate::shell::printable(command))))
    }
}

/// What a profile grants besides mounts.
fn but_for_mounts(profile: &Profile) -> Profile {
    Profile { mounts: None, evidence: Evidence::default(), ..profile.clone() }
}

/// A run that was stopped proves nothing.
fn finished(recorded: Recorded) -> Result<Recorded, Interrupted> {
    if recorded.outcome.is_some() { Ok(recorded) } else { Err(Interrupted) }
}

/// Runs a command of the user's; its output is talk.
fn shell(command: &str) -> Result<std::process::ExitStatus> {
    std::process::Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run `{}`", crate::shell::printable(command)))
}

/// The seccomp profile that the engine of that line gets: the workload's, and its OCI runtime's needs.
///
/// # Errors
///
/// When what would be emitted cannot work.
pub fn container_seccomp(
    session: &Session,
    run: &RunLine,
    profile: &Profile,
) -> Result<(crate::profile::Seccomp, Option<Warning>)> {
    let (runtime, version) = session.runtime(run);
    let no_new_privileges = run.values("security-opt").any(|value| {
        value == "no-new-privileges" || value == "no-new-privileges:true" || value == "no-new-privileges=true"
    });
    let runtime = Runtime { name: &runtime, version: version.as_deref(), no_new_privileges };
    Ok(seccomp::emitted(profile, Some(runtime))?)
}
