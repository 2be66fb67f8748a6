//! What must hold for every trace: merging is a union, files read back as they were, the same facts
//! give the same bytes, and more facts never take a grant away.

use std::collections::BTreeSet;

use unpriv::{
    document,
    profile::derive,
    trace::{Attached, CapabilityCheck, Facts, Loss, Run, Trace},
};

/// Recorded traces, and pieces of them: every fact alone and with its neighbours.
fn traces() -> Vec<Trace> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut traces = vec![Trace::empty()];
    let entries = std::fs::read_dir(directory).expect("the fixtures are beside this file");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.sort();
    for file in files {
        let trace = document::read_trace(&file).expect("a fixture is a trace");
        for part in 0..3 {
            traces.push(piece(&trace, part));
        }
        traces.push(attached(&trace));
        traces.push(trace);
    }
    assert!(traces.len() > 8, "fixtures are missing");
    traces
}

/// Every third fact of a trace.
fn piece(trace: &Trace, part: usize) -> Trace {
    fn third<T: Ord + Clone>(facts: &Facts<T>, part: usize) -> Facts<T> {
        let chosen = facts.iter().enumerate().filter(|(index, _)| index % 3 == part);
        chosen.map(|(_, (fact, &count))| (fact.clone(), count + part as u64)).collect()
    }
    let mut piece = trace.clone();
    piece.capabilities = third(&trace.capabilities, part);
    piece.devices = third(&trace.devices, part);
    piece.capability_sets = third(&trace.capability_sets, part);
    piece.failures = trace.failures.as_ref().map(|facts| third(facts, part));
    for calls in piece.syscalls.values_mut() {
        let mut index = 0;
        calls.retain(|_, _| {
            index += 1;
            index % 3 == part
        });
    }
    piece
}

/// What watching the container of a trace would have given, had it run before.
fn attached(trace: &Trace) -> Trace {
    let mut attached = piece(trace, 0);
    let watched = Attached { container: "web".to_owned(), milliseconds: 3000 };
    let runs = std::mem::take(&mut attached.runs);
    attached.runs =
        runs.into_iter().map(|run| Run { outcome: None, attached: Some(watched.clone()), ..run }).collect();
    attached.lost.insert(Loss::StartedBefore);
    attached.complete = false;
    attached
}

fn merged(one: &Trace, other: &Trace) -> Trace {
    let mut one = one.clone();
    one.merge(other.clone());
    one
}

#[test]
fn merging_is_idempotent_commutative_and_associative() {
    let traces = traces();
    for a in &traces {
        assert_eq!(&merged(a, a), a);
        for b in &traces {
            let both = merged(a, b);
            assert_eq!(both, merged(b, a));
            for c in &traces {
                assert_eq!(merged(&both, c), merged(a, &merged(b, c)));
            }
        }
    }
}

#[test]
fn a_trace_and_its_profile_read_back_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    for trace in traces() {
        let path = directory.path().join("trace.json");
        document::write(&path, &document::to_json(&trace)).unwrap();
        assert_eq!(document::read_trace(&path).unwrap(), trace);
        let profile = derive(&trace);
        let path = directory.path().join("profile.json");
        document::write(&path, &document::to_json(&profile)).unwrap();
        assert_eq!(document::read_profile(&path).unwrap(), profile);
        assert_eq!(
            document::to_json(&derive(&trace)),
            document::to_json(&profile),
            "the same trace, other bytes"
        );
    }
}

#[test]
fn more_facts_take_no_call_and_no_device_away() {
    let traces = traces();
    for a in &traces {
        for b in &traces {
            let (alone, both) = (derive(a), derive(&merged(a, b)));
            for (abi, calls) in &a.syscalls {
                for name in calls.keys() {
                    assert!(!alone.allows(*abi, name) || both.allows(*abi, name), "{abi} {name}");
                }
            }
            for access in a.devices.keys() {
                assert!(both.allows_device(access), "{access:?}");
            }
        }
    }
}

#[test]
fn a_start_that_was_not_seen_stays_a_loss_whatever_is_merged_with_it() {
    let traces = traces();
    for whole in traces.iter().filter(|trace| trace.complete) {
        let watched = attached(whole);
        let both = derive(&merged(whole, &watched));
        let said = |profile: &unpriv::profile::Profile| document::to_json(&profile.warnings);
        assert!(!both.complete && both == derive(&merged(&watched, whole)));
        let known = String::from_utf8(said(&both)).unwrap().contains("known from another run of its image");
        assert_eq!(known, whole.runs.iter().any(|run| run.engine.is_some()));
        let alone = String::from_utf8(said(&derive(&watched))).unwrap();
        assert!(alone.contains("its start was not seen"), "{alone}");
    }
}

#[test]
fn every_grant_has_evidence_and_every_need_is_met() {
    for trace in traces() {
        let profile = derive(&trace);
        let shown: BTreeSet<_> = profile.evidence.capabilities.keys().copied().collect();
        assert_eq!(shown, profile.capabilities);
        for device in &profile.devices {
            assert!(profile.evidence.devices.contains_key(&device.rule()), "{device:?}");
        }
        for check in trace.capabilities.keys() {
            if let unpriv::profile::rules::Verdict::Needed(any) = unpriv::profile::rules::judge(check) {
                assert!(any.iter().any(|capability| profile.capabilities.contains(capability)), "{check:?}");
            }
        }
    }
}

#[test]
fn a_decisive_check_is_needed_whatever_the_rules_say() {
    for trace in traces() {
        for check in trace.capabilities.keys() {
            let decisive = CapabilityCheck { granted: true, decisive: true, ..check.clone() };
            let mut more = trace.clone();
            more.capabilities.add(decisive.clone(), 1);
            let profile = derive(&more);
            if let unpriv::profile::rules::Verdict::Needed(any) = unpriv::profile::rules::judge(&decisive) {
                assert!(any.iter().any(|capability| profile.capabilities.contains(capability)));
            }
        }
    }
}
