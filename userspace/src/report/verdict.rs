//! What verification found, for people.

use std::fmt::Write as _;

use crate::{
    shell::printable,
    trace::Outcome,
    verify::{Denial, Difference, Verification},
};

/// What verification found, in a few lines.
#[must_use]
pub fn verdict(verification: &Verification) -> String {
    let runs = verification.rounds.len();
    if verification.same {
        let compared = if verification.output_compared {
            "same exit status, same output, nothing newly denied"
        } else {
            "same exit status, nothing newly denied (output was not compared: it is not the same twice)"
        };
        let times = if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs, with repairs") };
        return format!("verified by running it ({times}): {compared}");
    }
    if verification.interrupted {
        return "NOT verified: interrupted before it was done".to_owned();
    }
    let mut text = "NOT verified: it behaves otherwise with these grants".to_owned();
    if !verification.repeatable {
        text.push_str("\n  the unchanged command ends otherwise too when it is run again: undo what it changes with --prepare CMD, or judge it with --check CMD");
    }
    let Some(last) = verification.rounds.last() else { return text };
    for difference in &last.differences {
        let _ = write!(text, "\n  {}", describe_difference(difference));
    }
    for denial in &last.denials {
        let _ = write!(text, "\n  denied by {}: {}", denial.layer(), describe_denial(denial));
    }
    text
}

fn describe_outcome(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Exit(code)) => format!("exit status {code}"),
        Some(Outcome::Signal(signal)) => format!("signal {signal}"),
        None => "no end".to_owned(),
    }
}

fn describe_difference(difference: &Difference) -> String {
    match difference {
        Difference::DidNotStart(words) => format!("it did not start: {}", printable(words)),
        Difference::Outcome { before, after } => {
            format!("{} before, {} now", describe_outcome(*before), describe_outcome(*after))
        }
        Difference::Output { stream, before, after } => {
            format!("{stream}: `{}` before, `{}` now", printable(before), printable(after))
        }
        Difference::Check(words) => format!("--check failed: {}", printable(words)),
        Difference::NewFailure(failure) => format!(
            "{} by {} newly fails with {}",
            printable(&failure.syscall),
            printable(&failure.program),
            failure.errno
        ),
    }
}

fn describe_denial(denial: &Denial) -> String {
    match denial {
        Denial::Seccomp(failure) | Denial::ReadOnly(failure) | Denial::Unknown(failure) => {
            format!("{} by {} ({})", failure.syscall, printable(&failure.program), failure.errno)
        }
        Denial::Capability(check) => format!("{} for {}", check.capability, printable(&check.program)),
        Denial::CapabilitySet { program, .. } => format!("capset by {}", printable(program)),
        Denial::AppArmor(refusal) => format!("{} for {}", refusal.access, printable(&refusal.program)),
        Denial::Device(access) => format!(
            "{} {}:{} {} for {}",
            access.kind.letter(),
            access.major,
            access.minor,
            access.access,
            printable(&access.program)
        ),
    }
}
