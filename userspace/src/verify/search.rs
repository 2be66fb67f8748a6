//! Where no denial explains a difference: which grants make it, by taking them away.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Proof, Verifier};
use crate::{
    capability::Capability,
    profile::{Paths, Profile, derive},
    syscalls::Abi,
    trace::{CapabilityCheck, Credential, Namespace, PathAccess, Trace},
    workload::Workload,
};

impl Verifier<'_> {
    /// Looks for grants whose absence changes the workload without a call being refused that tells of
    /// them: a program that asks which capabilities it has, a masked path that reads as empty.
    pub(super) async fn search(&self, proof: &mut Proof) -> Result<()> {
        let all = self.capabilities_before();
        let mut missing: Vec<Grant> =
            all.difference(&proof.profile.capabilities).copied().map(Grant::Capability).collect();
        if self.unmasked_before() && proof.profile.paths == Paths::default() {
            missing.push(Grant::KernelPaths);
        }
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

    /// Whether the user's own line leaves the engine's masked paths bare.
    fn unmasked_before(&self) -> bool {
        let Workload::Container(run, _) = self.workload else { return false };
        run.is_privileged()
            || run
                .values("security-opt")
                .any(|value| matches!(value, "systempaths=unconfined" | "systempaths:unconfined"))
    }

    /// What the user's own line grants: the answer never grants more.
    fn capabilities_before(&self) -> BTreeSet<Capability> {
        let own = Capability::in_bounding_set();
        match self.workload {
            Workload::Process(_) => own,
            Workload::Container(run, _) => {
                let host = crate::report::Host { capabilities: own, security_modules: BTreeSet::new() };
                crate::report::Before::container(run, &host).capabilities
            }
        }
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
    /// The engine's masked and read-only paths, neither.
    KernelPaths,
}

/// Who wants what only a search found.
const WORKLOAD: &str = "(the workload)";

/// Notes that the workload differs without these.
fn require(trace: &mut Trace, grants: &[Grant]) {
    for &grant in grants {
        match grant {
            Grant::Capability(capability) => trace.capabilities.add(decisive(capability), 1),
            Grant::KernelPaths => {
                // No engine unmasks one path alone; /proc itself stands for all of them.
                let access = PathAccess {
                    path: "/proc/sys".to_owned(),
                    write: true,
                    foreign: false,
                    program: WORKLOAD.to_owned(),
                };
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
    }
}
