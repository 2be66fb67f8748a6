//! Running other programs: what they must do, and what is said when they do not.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", last_lines(&String::from_utf8_lossy(&output.stderr)));
    String::from_utf8(output.stdout).with_context(|| format!("{program} wrote something else than text"))
}

/// Runs a command that must succeed, and shows nothing of it but why it failed.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// A shell script with `$1`, `$2`, … that must succeed, likewise.
pub(crate) fn script(text: &str, arguments: &[&str]) -> Result<String> {
    output(Command::new("sh").args(["-euc", text, "sh"]).args(arguments))
}

fn last_lines(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
