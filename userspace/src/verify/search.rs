//! Where no denial explains a difference: which grants make it, by taking them away.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Proof, Verifier};
use crate::{
    capability::Capability,
    profile::{Paths, Profile, derive},
    report::{Before, Host, KernelPaths},
    syscalls::Abi,
    trace::{CapabilityCheck, Credential, MASKED, Namespace, PathAccess, READ_ONLY, Trace, masked},
    workload::{Workload, engine::EngineKind, run_line::RunLine},
};

impl Verifier<'_> {
    /// Looks for grants whose absence changes the workload without a call being refused that tells of
    /// them: a program that asks which capabilities it has, a masked path that reads as empty.
    pub(super) async fn search(&self, proof: &mut Proof) -> Result<()> {
        let all = self.capabilities_before()?;
        let mut missing: Vec<Grant> =
            all.difference(&proof.profile.capabilities).copied().map(Grant::Capability).collect();
        missing.extend(self.paths_before(&proof.profile.paths).into_iter().map(Grant::Path));
        if missing.is_empty() || !self.works_with(proof, &missing).await? {
            return Ok(());
        }
        let needed = self.smallest(proof, missing).await?;
        require(&mut proof.trace, &needed);
        proof.profile = derive(&proof.trace);
        self.round(proof).await?;
        Ok(())
    }

    /// Takes away again what a repair added and a later one made needless: of several capabilities
    /// that were asked for in turn, one may have been enough.
    pub(super) async fn drop_needless(&self, proof: &mut Proof) -> Result<()> {
        if proof.added.len() < 2 {
            return Ok(());
        }
        // The broad ones first: what is left is the narrowest.
        let mut added: Vec<Capability> = proof.added.iter().copied().collect();
        added.sort_by_key(|&capability| {
            (capability != Capability::SYS_ADMIN, capability != Capability::DAC_OVERRIDE)
        });
        for capability in added {
            let mut trace = proof.trace.clone();
            trace.capabilities.retain(|check| !(check.decisive && check.capability == capability));
            let profile = derive(&trace);
            if profile.capabilities.contains(&capability) || !self.works(proof, &profile).await? {
                continue;
            }
            proof.trace = trace;
            proof.profile = profile;
        }
        Ok(())
    }

    /// Removes ever smaller stretches of the list while the workload still works.
    async fn smallest(&self, proof: &Proof, mut candidates: Vec<Grant>) -> Result<Vec<Grant>> {
        let mut size = candidates.len().div_ceil(2);
        loop {
            let mut start = 0;
            while start < candidates.len() {
                let mut fewer = candidates.clone();
                fewer.drain(start..(start + size).min(fewer.len()));
                if self.works_with(proof, &fewer).await? {
                    candidates = fewer;
                } else {
                    start += size;
                }
            }
            if size == 1 {
                return Ok(candidates);
            }
            size = size.div_ceil(2);
        }
    }

    async fn works_with(&self, proof: &Proof, more: &[Grant]) -> Result<bool> {
        let mut trace = proof.trace.clone();
        require(&mut trace, more);
        self.works(proof, &derive(&trace)).await
    }

    async fn works(&self, proof: &Proof, profile: &Profile) -> Result<bool> {
        (self.progress)(&format!("verifying: trying {}", count(profile.capabilities.len())));
        let run = self.run_under(profile, &proof.reference).await?;
        Ok(self.findings(proof, &run)?.differences.is_empty())
    }

    /// What the user's own line leaves bare of the paths that its engine masks or has read-only, and the profile does
    /// not: one by one where the engine can unmask one alone.
    fn paths_before(&self, open: &Paths) -> Vec<&'static str> {
        let Workload::Container(run, _) = self.workload else { return Vec::new() };
        match (self.before(run).kernel_paths, run.engine) {
            (None | Some(KernelPaths::Masked), _) => Vec::new(),
            (_, EngineKind::Docker) if open.unmask.is_empty() && open.write.is_empty() => vec!["/proc/sys"],
            (_, EngineKind::Docker) => Vec::new(),
            (_, EngineKind::Podman) => MASKED
                .into_iter()
                .chain(READ_ONLY)
                .filter(|&path| !open.unmask.contains(path) && !open.write.contains(path))
                .collect(),
        }
    }

    /// What the user's own line grants: the answer never grants more. Not what the engine has no name for: the broader
    /// one that stands in for it is tried as itself.
    fn capabilities_before(&self) -> Result<BTreeSet<Capability>> {
        let Workload::Container(run, session) = self.workload else {
            return Ok(Capability::in_bounding_set());
        };
        let mut granted = BTreeSet::new();
        for capability in self.before(run).capabilities {
            if session.knows(capability)? {
                granted.insert(capability);
            }
        }
        Ok(granted)
    }

    fn before(&self, run: &RunLine) -> Before {
        let Workload::Container(_, session) = self.workload else { return Before::command(BTreeSet::new()) };
        let host = Host {
            capabilities: Capability::in_bounding_set(),
            security_modules: BTreeSet::new(),
            default_capabilities: session.info.default_capabilities.clone(),
        };
        Before::container(run, &host)
    }
}

fn count(capabilities: usize) -> String {
    match capabilities {
        0 => "no capability".to_owned(),
        1 => "1 capability".to_owned(),
        more => format!("{more} capabilities"),
    }
}

/// Something to try.
#[derive(Clone, Copy, Debug)]
enum Grant {
    Capability(Capability),
    /// A path that the engine masks or has read-only.
    Path(&'static str),
}

/// Who wants what only a search found.
const WORKLOAD: &str = "(the workload)";

/// Notes that the workload differs without these.
fn require(trace: &mut Trace, grants: &[Grant]) {
    for &grant in grants {
        match grant {
            Grant::Capability(capability) => trace.capabilities.add(decisive(capability), 1),
            Grant::Path(path) => {
                let write = masked(path).is_none();
                let (path, program) = (path.to_owned(), WORKLOAD.to_owned());
                let access = PathAccess { path, write, foreign: false, program };
                trace.paths.get_or_insert_default().add(access, 1);
            }
        }
    }
}

fn decisive(capability: Capability) -> CapabilityCheck {
    CapabilityCheck {
        capability,
        granted: true,
        credential: Credential::Own,
        namespace: Namespace::Own,
        root: true,
        program: WORKLOAD.to_owned(),
        abi: Abi::X86_64,
        syscall: None,
        argument: None,
        call_site: Vec::new(),
        decisive: true,
        audited: None,
        in_set_id: None,
    }
}
