//! unpriv's answer for a workload, held against what brute force found.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use unpriv::{
    capability::Capability,
    profile::{Device, Profile},
    trace::Access,
};

use crate::workload::{Expected, Workload};

/// The profile of an answer that `unpriv tighten --json` gave.
///
/// # Errors
/// It is none, or did not verify, or what it verified is a failure; the error says what the runs were denied.
pub fn verified(answer: &Value) -> Result<Profile> {
    ensure!(answer["verified"] == true, "not verified: {}", last_round(&answer["verification"]));
    // One that failed before fails the same under any profile.
    let end = answer["verification"]["rounds"].as_array().and_then(|rounds| rounds.last());
    let end = end.map_or(&Value::Null, |round| &round["outcome"]);
    ensure!(end["exit"] == 0, "it ended with {end}, and so it did with every privilege");
    serde_json::from_value(answer["profile"].clone()).context("the profile")
}

/// Why it did not verify, in a few lines: the last round, and what the ones before it were denied. `verify.json` has all.
fn last_round(verification: &Value) -> String {
    let rounds = verification["rounds"].as_array().map_or(&[][..], Vec::as_slice);
    let denials: Vec<_> = rounds.iter().map(|round| brief(&round["denials"])).collect();
    let differences = rounds.last().map(|round| brief(&round["differences"])).unwrap_or_default();
    format!(
        "repeatable {}, differences {differences}, denials {}",
        verification["repeatable"],
        denials.join("; then ")
    )
}

/// How many there are, and the beginning of what they say. Some workloads are denied hundreds of things.
fn brief(list: &Value) -> String {
    const LONGEST: usize = 600;
    let text = list.to_string();
    let count = list.as_array().map_or(0, Vec::len);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{count}: {}…", &text[..end]),
        None => text,
    }
}

/// Capabilities: those of a minimal set, and beyond them only what the workload tolerates.
///
/// # Errors
/// They are others.
pub fn capabilities(workload: &Workload, expected: &Expected, found: &BTreeSet<Capability>) -> Result<()> {
    let fits = |minimal: &BTreeSet<Capability>| {
        minimal.is_subset(found)
            && found.difference(minimal).all(|extra| workload.tolerates.capabilities.contains(extra))
    };
    ensure!(
        fits(&expected.capabilities) || expected.alternatives.iter().any(fits),
        "capabilities {found:?}, not {:?}{}",
        expected.capabilities,
        if expected.alternatives.is_empty() { "" } else { " or an alternative" }
    );
    Ok(())
}

/// Devices. Creating a node is free, so `m` is left out of both.
///
/// # Errors
/// They are others.
pub fn devices(workload: &Workload, expected: &Expected, profile: &Profile) -> Result<()> {
    let rules = |devices: &BTreeSet<Device>| -> BTreeSet<String> {
        let used = devices.iter().filter_map(|device| {
            let access = Access { mknod: false, ..device.access };
            let family = Device { minor: None, ..device.clone() }.rule();
            let rule = if workload.tolerates.families.contains(&family) { family } else { device.rule() };
            (!access.is_empty()).then(|| format!("{rule} {access}"))
        });
        used.collect()
    };
    let tolerated =
        |device: &&Device| device.path.as_ref().is_some_and(|path| workload.tolerates.devices.contains(path));
    let found = profile.devices.iter().filter(|device| !tolerated(device)).cloned().collect();
    let (found, wanted) = (rules(&found), rules(&expected.devices));
    ensure!(found == wanted, "devices {found:?}, not {wanted:?}");
    Ok(())
}

/// The engine's masked and read-only paths: opened where they must be, and only there.
///
/// # Errors
/// They are otherwise.
pub fn kernel_paths(expected: &Expected, answer: &Value) -> Result<()> {
    let line = answer["command"].as_array().context("no command")?;
    let opens = |word: &str| {
        word == "systempaths=unconfined"
            || word.strip_prefix("unmask=").is_some_and(|path| !path.starts_with("/sys/fs/cgroup"))
    };
    let unmasked = line.iter().filter_map(Value::as_str).any(opens);
    ensure!(unmasked == expected.unmasked, "kernel paths opened: {unmasked}, not {}", expected.unmasked);
    Ok(())
}
