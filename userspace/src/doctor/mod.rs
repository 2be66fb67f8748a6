//! What this host allows: a list of checks, each with what to change where it falls short.

mod engine;
mod host;
mod kernel;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Something beside the main job is missing.
    Warning,
    /// The main job cannot be done.
    Problem,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to change, unless all is well.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, found: found.into(), advice: None }
    }

    fn warning(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), Some(advice.into()));
        Self { name: name.to_owned(), status: Status::Warning, found, advice }
    }

    fn problem(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let (found, advice) = (found.into(), Some(advice.into()));
        Self { name: name.to_owned(), status: Status::Problem, found, advice }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Version of this format.
    pub version: u32,
    /// A command can be recorded and run under its profile.
    pub usable: bool,
    /// The kernel's hooks that recording uses here, by what they show.
    pub hooks: BTreeMap<&'static str, Vec<String>>,
    /// What the kernel may miss by them now and then; such a recording says that it is incomplete.
    pub lossy: BTreeSet<&'static str>,
    /// In a fixed order.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    fn of(checks: Vec<Check>) -> Self {
        let usable = checks.iter().all(|check| check.status != Status::Problem);
        Self { version: 1, usable, hooks: BTreeMap::new(), lossy: BTreeSet::new(), checks }
    }

    /// Why the main job cannot be done: what the kernel says of the programs themselves counts for more than
    /// what was read before.
    #[must_use]
    pub fn reason(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.status == Status::Problem)
    }
}

/// Looks at everything. Loads and attaches the programs for a moment; changes nothing.
#[must_use]
pub fn examine() -> Diagnosis {
    let mut checks = host::privileges();
    checks.extend(kernel::checks());
    let probe = kernel::attach();
    checks.extend(kernel::programs(&probe));
    checks.extend(host::checks());
    checks.extend(engine::checks());
    let mut diagnosis = Diagnosis::of(checks);
    if let Ok(probe) = &probe {
        let hooks = probe.hooks_by_fact().iter();
        diagnosis.hooks = hooks.map(|(fact, names)| (fact.name(), names.clone())).collect();
        diagnosis.lossy = probe.preempted().iter().map(|fact| fact.name()).collect();
    }
    diagnosis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_leaves_the_host_usable_and_a_problem_does_not() {
        let warning = Check::warning("a", "b", "c");
        assert!(Diagnosis::of(vec![warning.clone()]).usable);
        let diagnosis = Diagnosis::of(vec![warning, Check::problem("d", "e", "f")]);
        assert!(!diagnosis.usable);
        assert_eq!(diagnosis.reason().unwrap().name, "d");
    }
}
