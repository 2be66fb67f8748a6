//! What a workload needs, by brute force: take grants away and see whether it still does the same.
//!
//! Nothing is traced here, so nothing that a tracer gets wrong can be wrong here in the same way.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use unpriv::{
    capability::Capability,
    profile::Device,
    trace::{Access, DeviceType},
};

use crate::{
    grants::{Grants, Host, Nodes, Rule, everything, plain_argv},
    run::{Outcome, TIMEOUT, run, run_plain},
    search::minimal,
    workload::{Expected, Form, Workload},
};

/// What other capabilities also permit, broadest first: removed first, so kept only where nothing narrower does.
const BROAD: [Capability; 7] = [
    Capability::SYS_ADMIN,
    Capability::DAC_OVERRIDE,
    Capability::NET_ADMIN,
    Capability::SYS_PTRACE,
    Capability::SYS_RAWIO,
    Capability::SYS_RESOURCE,
    Capability::SYS_MODULE,
];

/// A workload, a form, and how it behaves with everything.
struct Bench<'a> {
    workload: &'a Workload,
    form: Form,
    host: &'a Host,
    expected: Outcome,
    runs: u32,
}

/// The minimal grants of a workload, and how many runs it took to find them.
///
/// # Errors
/// The workload does not work with everything granted, or behaves differently from run to run, or cannot be run.
pub fn ablate(workload: &Workload, form: Form, host: &Host) -> Result<(Expected, u32)> {
    let full = Grants::everything(host, form);
    let mut bench = Bench::new(workload, form, host, &full)?;
    let mut grants = full.clone();
    let devices = bench.devices(&mut grants)?;
    let order = capability_order(host.capabilities(form));
    let needed = bench.capabilities(&grants, &order)?;
    let mut alternatives: BTreeSet<BTreeSet<Capability>> = BTreeSet::new();
    for dropped in &needed {
        // When everything but this does not work, every set that works has it.
        let others: Vec<_> = order.iter().copied().filter(|capability| capability != dropped).collect();
        if bench.works(&Grants { capabilities: others.iter().copied().collect(), ..grants.clone() })? {
            alternatives.insert(bench.capabilities(&grants, &others)?);
        }
    }
    grants.capabilities.clone_from(&needed);
    let masked = Grants { unmasked: false, ..grants.clone() };
    let unmasked = form != Form::Plain && !bench.works(&masked)? && !bench.works(&masked)?;
    let expected = Expected {
        capabilities: needed,
        devices,
        unmasked,
        alternatives: alternatives.into_iter().collect(),
    };
    for _ in 0..2 {
        if !bench.works(&Grants::exactly(&expected))? {
            bail!("{} {form}: the set found does not work by itself: {expected:?}", workload.name);
        }
    }
    Ok((expected, bench.runs))
}

/// Whether the expectation of a workload still holds, in as few runs as can tell: it works with exactly those
/// grants, and not with any one less. Returns what does not hold.
///
/// # Errors
/// As [`ablate`].
pub fn check(workload: &Workload, form: Form, host: &Host, expected: &Expected) -> Result<Vec<String>> {
    let mut bench = Bench::new(workload, form, host, &Grants::everything(host, form))?;
    let mut complaints = Vec::new();
    if !bench.works(&Grants::exactly(expected))? {
        complaints.push("does not work with what is expected to suffice".to_owned());
    }
    let mut fewer = Vec::new();
    for capability in &expected.capabilities {
        let mut less = expected.clone();
        less.capabilities.remove(capability);
        fewer.push((capability.to_string(), less));
    }
    for device in &expected.devices {
        let mut less = expected.clone();
        less.devices.remove(device);
        fewer.push((format!("device {}:{:?}", device.major, device.minor), less));
    }
    if expected.unmasked {
        fewer.push(("unmasked paths".to_owned(), Expected { unmasked: false, ..expected.clone() }));
    }
    for (grant, less) in fewer {
        if bench.works(&Grants::exactly(&less))? {
            complaints.push(format!("works without {grant}"));
        }
    }
    Ok(complaints)
}

/// Broad capabilities first, then by number.
fn capability_order(available: &BTreeSet<Capability>) -> Vec<Capability> {
    let broad = BROAD.iter().copied().filter(|capability| available.contains(capability));
    broad.chain(available.iter().copied().filter(|capability| !BROAD.contains(capability))).collect()
}

impl<'a> Bench<'a> {
    fn new(workload: &'a Workload, form: Form, host: &'a Host, full: &Grants) -> Result<Self> {
        let first = run(workload, form, full, host)?;
        if !first.outcome.status.is_some_and(|status| status.success()) {
            bail!(
                "{} {form}: does not work with everything granted: {:?} {}",
                workload.name,
                first.outcome,
                first.stderr.trim()
            );
        }
        let mut bench = Self { workload, form, host, expected: first.outcome, runs: 1 };
        if !bench.works(full)? {
            bail!("{} {form}: behaves differently from run to run", workload.name);
        }
        if form == Form::Plain {
            // Whoever records and then verifies runs it twice in the same place.
            let twice = ["sh", "-c", "\"$@\" && exec \"$@\"", "sh"].map(str::to_owned);
            let twice = [twice.as_slice(), &plain_argv(workload)].concat();
            let twice = run_plain(workload, full, host, &twice, TIMEOUT)?;
            if twice.outcome.stdout != bench.expected.stdout.repeat(2) {
                bail!("{}: cannot be run again where it has run: {}", workload.name, twice.stderr.trim());
            }
        }
        Ok(bench)
    }

    /// Whether it behaves with these grants as it does with everything.
    fn works(&mut self, grants: &Grants) -> Result<bool> {
        self.runs += 1;
        Ok(run(self.workload, self.form, grants, self.host)?.outcome == self.expected)
    }

    fn capabilities(&mut self, grants: &Grants, order: &[Capability]) -> Result<BTreeSet<Capability>> {
        let needed = minimal(order, |set| {
            self.works(&Grants { capabilities: set.iter().copied().collect(), ..grants.clone() })
        })?;
        Ok(needed.into_iter().collect())
    }

    /// Finds the devices needed, and leaves in `grants` no more than those.
    fn devices(&mut self, grants: &mut Grants) -> Result<BTreeSet<Device>> {
        let nodes = if self.form == Form::Plain { Vec::new() } else { self.nodes(grants)? };
        let rules = self.rules(grants)?;
        let mut devices: BTreeSet<Device> = BTreeSet::new();
        for rule in &rules {
            // A plain command has the host's nodes: name the one that it will have used, unless it made one.
            let candidates = if self.form == Form::Plain { &self.host.nodes } else { &nodes };
            let path = candidates
                .iter()
                .find(|node| (node.kind, node.major, node.minor) == (rule.kind, rule.major, rule.minor))
                .and_then(|node| node.path.clone());
            devices.insert(Device {
                kind: rule.kind,
                major: rule.major,
                minor: rule.minor,
                access: rule.access,
                path: path.filter(|_| !rule.access.mknod),
            });
        }
        for node in nodes {
            if !devices.iter().any(|device| device.path == node.path) {
                // The runtime's own rules allow it (tun, for runc 1.1), so that no rule could be taken away.
                let access = Access { read: true, write: true, mknod: false };
                devices.insert(Device { access, ..node });
            }
        }
        grants.rules = Some(rules);
        Ok(devices)
    }

    /// Nodes that must be there, while every rule is.
    fn nodes(&mut self, grants: &mut Grants) -> Result<Vec<Device>> {
        let bound =
            |nodes: &[Device]| Nodes::Bound(nodes.iter().filter_map(|node| node.path.clone()).collect());
        let all = self.host.nodes.clone();
        if !self.works(&Grants { nodes: bound(&all), ..grants.clone() })? {
            bail!("{}: needs /dev itself, not only the nodes in it", self.workload.name);
        }
        let nodes = minimal(&all, |set| self.works(&Grants { nodes: bound(set), ..grants.clone() }))?;
        grants.nodes = bound(&nodes);
        Ok(nodes)
    }

    /// Rules that must be there, given the nodes: majors, then minors of those, then the kinds of access.
    fn rules(&mut self, grants: &Grants) -> Result<Vec<Rule>> {
        let rule =
            |&(kind, major): &(DeviceType, u32)| Rule { kind, major, minor: None, access: everything() };
        let majors: Vec<_> = self.host.majors.iter().map(rule).collect();
        let name = &self.workload.name;
        let mut works =
            |rules: &[Rule]| self.works(&Grants { rules: Some(rules.to_vec()), ..grants.clone() });
        if works(&[])? {
            return Ok(Vec::new());
        }
        if !works(&majors)? {
            bail!("{name}: needs a device that has no driver");
        }
        let majors = minimal(&majors, &mut works)?;
        let mut minors = Vec::new();
        for rule in &majors {
            let beyond =
                self.host.nodes.iter().filter(|node| (node.kind, node.major) == (rule.kind, rule.major));
            let numbers: BTreeSet<_> = (0..256).chain(beyond.filter_map(|node| node.minor)).collect();
            minors.extend(numbers.into_iter().map(|minor| Rule { minor: Some(minor), ..rule.clone() }));
        }
        let works = |rules: &[Rule]| self.works(&Grants { rules: Some(rules.to_vec()), ..grants.clone() });
        let minors = minimal(&minors, works)?;
        let accesses: Vec<_> = minors
            .iter()
            .flat_map(|rule| ["m", "w", "r"].map(|letter| (rule.clone(), letter.to_owned())))
            .map(|(rule, letter)| {
                Ok(Rule { access: Access::try_from(letter).context("a device access")?, ..rule })
            })
            .collect::<Result<_>>()?;
        let works = |rules: &[Rule]| self.works(&Grants { rules: Some(rules.to_vec()), ..grants.clone() });
        let mut merged: Vec<Rule> = Vec::new();
        for rule in minimal(&accesses, works)? {
            match merged
                .iter_mut()
                .find(|other| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor))
            {
                Some(other) => other.access = other.access.union(rule.access),
                None => merged.push(rule),
            }
        }
        Ok(merged)
    }
}
