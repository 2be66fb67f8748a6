//! What the machines found, as a table for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use e2e::lab::{Cell, Engine};

use super::{Plan, Visit};

/// How a cell stands.
enum Standing<'a> {
    /// As expected.
    Good,
    /// Wrong, with a reason in the plan.
    Excused(&'a str),
    /// Wrong.
    Wrong(&'a str),
}

fn standing<'a>(plan: &'a Plan, visit: &Visit, cell: &'a Cell) -> Standing<'a> {
    match (&cell.wrong, plan.excuse(&visit.station, cell)) {
        (None, _) => Standing::Good,
        (Some(_), Some(why)) => Standing::Excused(why),
        (Some(wrong), None) => Standing::Wrong(wrong),
    }
}

/// How many cells stand how.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    passed: usize,
    excused: usize,
    pub(super) failed: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, excused } = self;
        write!(f, "lab: {passed} passed, {failed} failed, {excused} skipped")
    }
}

pub(super) fn verdict(plan: &Plan, visits: &[Visit]) -> Verdict {
    let mut verdict = Verdict::default();
    for visit in visits {
        for cell in &visit.findings.cells {
            match standing(plan, visit, cell) {
                Standing::Good => verdict.passed += 1,
                Standing::Excused(_) => verdict.excused += 1,
                Standing::Wrong(_) => verdict.failed += 1,
            }
        }
    }
    verdict
}

/// What the plan excuses though it was right on every machine that it ran on.
pub(super) fn needless(plan: &Plan, visits: &[Visit]) -> Vec<String> {
    let mut needless = Vec::new();
    for exception in &plan.exception {
        let mut right: BTreeMap<(&str, &Engine), bool> = BTreeMap::new();
        for visit in visits {
            for cell in visit.findings.cells.iter().filter(|cell| exception.is_for(&visit.station, cell)) {
                *right.entry((&cell.workload, &cell.engine)).or_insert(true) &= cell.wrong.is_none();
            }
        }
        for ((workload, engine), _) in right.iter().filter(|(_, right)| **right) {
            let why = &exception.why;
            needless.push(format!("{workload} under {engine} is right, and excused all the same: {why}"));
        }
    }
    needless
}

/// The page in the docs that holds the tables.
pub(super) fn page(tables: &str) -> String {
    format!(
        "# Kernels, engines and runtimes\n\nMade by `cargo xtask lab --bless`, from what virtual machines with Debian's kernels saw: each workload of the \
         [zoo](../tests/README.md), given to `unpriv tighten` with real `--privileged`.\n\n\
         *ok*: recorded in full, verified by running the answer, and the answer is what brute force found to be the \
         least. What `AppArmor` does in it is in brackets: *d*, the engine's default profile stays; *g*, a generated one.\n\n{tables}"
    )
}

pub(super) fn markdown(plan: &Plan, visits: &[Visit]) -> String {
    let mut text = String::new();
    hooks(&mut text, visits);
    for visit in visits {
        machine(&mut text, plan, visit);
    }
    text
}

/// Which hook records what on which kernel, as the machines' own `unpriv doctor` says.
fn hooks(text: &mut String, visits: &[Visit]) {
    let mut rows: BTreeMap<&str, BTreeMap<usize, String>> = BTreeMap::new();
    for (column, visit) in visits.iter().enumerate() {
        let Some(facts) = visit.findings.doctor["hooks"].as_object() else { continue };
        for (fact, hook) in facts {
            let hook = match hook {
                serde_json::Value::Array(hooks) => {
                    hooks.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
                }
                serde_json::Value::String(hook) => hook.clone(),
                _ => "not recorded".to_owned(),
            };
            rows.entry(fact).or_default().insert(column, hook);
        }
    }
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "## What is recorded by which hook\n\n|  |");
    for visit in visits {
        let _ =
            write!(text, " {} ({}, {}) |", visit.findings.kernel, visit.station.suite, visit.findings.cgroup);
    }
    let _ = writeln!(text, "\n|---{}|", "|---".repeat(visits.len()));
    for (fact, hooks) in rows {
        let _ = write!(text, "| {fact} |");
        for column in 0..visits.len() {
            let _ = write!(text, " {} |", hooks.get(&column).map_or("not recorded", String::as_str));
        }
        let _ = writeln!(text);
    }
    let _ = writeln!(text);
}

fn machine(text: &mut String, plan: &Plan, visit: &Visit) {
    let findings = &visit.findings;
    let versions: Vec<&str> = findings.versions.iter().map(String::as_str).collect();
    let _ = writeln!(
        text,
        "## Linux {}, Debian {}, cgroup {}\n\n{}\n",
        findings.kernel,
        visit.station.suite,
        findings.cgroup,
        versions.join("; ")
    );
    let engines: BTreeSet<&Engine> = findings.cells.iter().map(|cell| &cell.engine).collect();
    let cells: BTreeMap<(&str, &Engine), &Cell> =
        findings.cells.iter().map(|cell| ((cell.workload.as_str(), &cell.engine), cell)).collect();
    let names: BTreeSet<&str> = findings.cells.iter().map(|cell| cell.workload.as_str()).collect();
    let _ = write!(text, "| workload |");
    for engine in &engines {
        let _ = write!(text, " {engine} |");
    }
    let _ = writeln!(text, "\n|---{}|", "|---".repeat(engines.len()));
    let mut remarks = BTreeSet::new();
    for name in names {
        let _ = write!(text, "| {name} |");
        for engine in &engines {
            let Some(cell) = cells.get(&(name, *engine)) else {
                let _ = write!(text, "  |");
                continue;
            };
            let apparmor = match cell.apparmor.as_str() {
                "default" => " (d)",
                "generated" => " (g)",
                _ => "",
            };
            match standing(plan, visit, cell) {
                Standing::Good => {
                    let _ = write!(text, " ok{apparmor} |");
                }
                Standing::Excused(why) => {
                    let _ = write!(text, " no |");
                    remarks.insert(format!("- {name}, {engine}: {why}"));
                }
                Standing::Wrong(wrong) => {
                    let _ = write!(text, " **wrong** |");
                    remarks.insert(format!("- **{name}, {engine}: {wrong}**"));
                }
            }
        }
        let _ = writeln!(text);
    }
    let _ = writeln!(text);
    for remark in &remarks {
        let _ = writeln!(text, "{remark}");
    }
    if !remarks.is_empty() {
        let _ = writeln!(text);
    }
}
