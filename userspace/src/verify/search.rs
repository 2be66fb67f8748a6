//! Where no denial explains a difference: which capabilities make it, by taking them away.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Proof, Verifier};
use crate::{
    capability::Capability,
    profile::{Profile, derive},
    syscalls::Abi,
    trace::{CapabilityCheck, Credential, Namespace, Trace},
    workload::Workload,
};

impl Verifier<'_> {
    /// Looks for capabilities whose absence changes the workload without any call being refused: a
    /// program that asks which it has and acts on the answer.
    pub(super) async fn search(&self, proof: &mut Proof) -> Result<()> {
        let all = self.capabilities_before();
        let missing: Vec<Capability> = all.difference(&proof.profile.capabilities).copied().collect();
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
    async fn smallest(&self, proof: &Proof, mut candidates: Vec<Capability>) -> Result<Vec<Capability>> {
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

    async fn works_with(&self, proof: &Proof, more: &[Capability]) -> Result<bool> {
        let mut trace = proof.trace.clone();
        require(&mut trace, more);
        self.works(proof, &derive(&trace)).await
    }

    async fn works(&self, proof: &Proof, profile: &Profile) -> Result<bool> {
        (self.progress)(&format!("verifying: trying {} capabilities", profile.capabilities.len()));
        let run = self.run_under(profile).await?;
        Ok(self.findings(proof, &run)?.differences.is_empty())
    }

    /// What the user's own line grants: the answer never grants more.
    fn capabilities_before(&self) -> BTreeSet<Capability> {
        let own = Capability::in_bounding_set();
        match self.workload {
            Workload::Process(_) => own,
            Workload::Docker(run, _) => {
                let host = crate::report::Host { capabilities: own, security_modules: BTreeSet::new() };
                crate::report::Before::docker(run, &host).capabilities
            }
        }
    }
}

/// Notes that the workload differs without these.
fn require(trace: &mut Trace, capabilities: &[Capability]) {
    for &capability in capabilities {
        let check = CapabilityCheck {
            capability,
            granted: true,
            credential: Credential::Own,
            namespace: Namespace::Own,
            root: true,
            program: "(the workload)".to_owned(),
            abi: Abi::X86_64,
            syscall: None,
            argument: None,
            call_site: Vec::new(),
            decisive: true,
        };
        trace.capabilities.add(check, 1);
    }
}
