//! Warnings, each once: what concerns many programs or capabilities in one line.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Style, inline, wrap};
use crate::{capability::Capability, profile::Warning};

/// What a person should know, the worst first. Nothing when there is nothing.
#[must_use]
pub fn warnings(warnings: &BTreeSet<Warning>, style: Style) -> String {
    let mut out = String::new();
    let mut line = |start: &str, text: &str| wrap(&mut out, &format!("{start} "), 2, text, style);
    let incomplete = list(warnings, |warning| match warning {
        Warning::Incomplete(why) => Some(why),
        _ => None,
    });
    if let Some(why) = incomplete {
        line("incomplete recording, so a grant may be missing:", &why);
    }
    for warning in warnings {
        if matches!(warning, Warning::Note(_) | Warning::PathsUnknown) {
            line("note:", &warning.to_string());
        }
    }
    let unread = list(warnings, |warning| match warning {
        Warning::FileUnread(path) => Some(path),
        _ => None,
    });
    if let Some(paths) = unread {
        line("gone before file capabilities and set-id bits could be read:", &paths);
    }
    let readers = list(warnings, |warning| match warning {
        Warning::ReadsCapabilities(program) => Some(program),
        _ => None,
    });
    if let Some(programs) = readers {
        line("reads its own capabilities, so may behave otherwise with fewer:", &programs);
    }
    let left_out = opportunistic(warnings);
    if !left_out.is_empty() {
        line("checked but not needed:", &left_out);
    }
    out
}

fn list<'a>(
    warnings: &'a BTreeSet<Warning>,
    choose: impl Fn(&'a Warning) -> Option<&'a String>,
) -> Option<String> {
    let chosen: Vec<String> = warnings.iter().filter_map(choose).map(|text| inline(text)).collect();
    (!chosen.is_empty()).then(|| chosen.join(", "))
}

fn opportunistic(warnings: &BTreeSet<Warning>) -> String {
    let mut reasons: BTreeMap<Capability, Vec<String>> = BTreeMap::new();
    for warning in warnings {
        if let Warning::Opportunistic { capability, reason } = warning {
            reasons.entry(*capability).or_default().push(inline(reason));
        }
    }
    let each: Vec<String> = reasons
        .iter()
        .map(|(capability, reasons)| format!("{capability} ({})", reasons.join("; ")))
        .collect();
    each.join(", ")
}
