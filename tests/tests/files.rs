//! Traces and profiles as files: what is wrong with one is told, and what is right gives the same bytes always.

use std::fs;

use anyhow::{Result, ensure};
use e2e::cli::{Cli, finish};

const TRACE: &str = "trace.json";
const PROFILE: &str = "profile.json";

/// A directory with a trace and its profile.
fn recorded() -> Result<Cli> {
    let cli = Cli::new()?;
    cli.with_command(&["record", "--failures", "-o", TRACE], &["sh", "-c", "chroot / true; cat /nope"])?;
    cli.run(["derive", TRACE, "-o", PROFILE])?.expect(0, &[])?;
    Ok(cli)
}

#[test]
fn a_file_that_is_malformed_is_told_where() -> Result<()> {
    let cli = recorded()?;
    let trace = fs::read_to_string(cli.path(TRACE))?;
    let profile = fs::read_to_string(cli.path(PROFILE))?;
    let cases: [(&str, String, &[&str]); 8] = [
        ("derive", trace.replacen("\"runs\"", "runs", 1), &["bad.json: line ", "column "]),
        ("derive", trace[..trace.len() / 2].to_owned(), &["bad.json: line "]),
        (
            "derive",
            trace.replacen("\"complete\": true", "\"complete\": \"yes\"", 1),
            &["`complete`", "line "],
        ),
        ("derive", trace.replacen("\"granted\": true", "\"granted\": 7", 1), &["`capabilities[", "granted`"]),
        ("derive", String::new(), &["bad.json is empty"]),
        ("derive", "[1, 2]".to_owned(), &["neither a trace nor a profile"]),
        ("derive", profile.clone(), &["is a profile, and a trace is needed", "unpriv record"]),
        ("derive", trace.replacen("\"version\": ", "\"version\": 9", 1), &["newer unpriv", "upgrade"]),
    ];
    for (verb, text, words) in cases {
        fs::write(cli.path("bad.json"), text)?;
        cli.run([verb, "bad.json", "-o", "out.json"])?.expect(2, words)?;
        ensure!(!cli.path("out.json").exists());
    }
    let cases: [(String, &[&str]); 3] = [
        (trace, &["is a trace, and a profile is needed", "`unpriv derive bad.json -o PROFILE`"]),
        (profile.replacen("\"version\": ", "\"version\": 9", 1), &["newer unpriv", "upgrade unpriv"]),
        (
            profile.replacen("\"capabilities\": [", "\"capabilities\": [\"CAP_\\u001b[31m\",", 1),
            &["`capabilities[0]`"],
        ),
    ];
    for (text, words) in cases {
        fs::write(cli.path("bad.json"), text)?;
        for verb in [&["verify", "bad.json"][..], &["run", "--profile", "bad.json"]] {
            cli.with_command(verb, &["touch", "mark"])?.expect(2, words)?;
        }
        cli.run(["emit", "--target", "docker", "bad.json", "-o", "out.json"])?.expect(2, words)?;
    }
    cli.run(["derive", "missing.json"])?.expect(2, &["cannot read missing.json"])?;
    ensure!(!cli.path("mark").exists() && !cli.path("out.json").exists());
    Ok(())
}

#[test]
fn the_same_trace_gives_the_same_bytes() -> Result<()> {
    let cli = recorded()?;
    let stdout = |arguments: &[&str]| anyhow::Ok(cli.run(arguments)?.expect(0, &[])?.stdout);
    let once = stdout(&["derive", TRACE])?;
    ensure!(once == fs::read_to_string(cli.path(PROFILE))?, "a file has other bytes than standard output");
    ensure!(once == stdout(&["derive", TRACE])?, "twice is not the same");
    ensure!(once == stdout(&["derive", TRACE, TRACE])?, "merging with itself changes it");
    ensure!(once == stdout(&["derive", "-o", "-", TRACE])?, "`-o -` is not standard output");
    for target in ["docker", "seccomp"] {
        let emit = ["emit", "--target", target, PROFILE];
        ensure!(stdout(&emit)? == stdout(&emit)?, "{target}");
    }
    cli.with_command(&["record", "-o", "other.json"], &["id"])?.expect(0, &[])?;
    ensure!(
        stdout(&["derive", TRACE, "other.json"])? == stdout(&["derive", "other.json", TRACE])?,
        "the order of traces matters"
    );
    ensure!(
        stdout(&["derive", TRACE, "other.json"])? == stdout(&["derive", "other.json", TRACE, "other.json"])?,
        "merging is not idempotent"
    );
    Ok(())
}

#[test]
fn standard_input_and_output_are_files_too() -> Result<()> {
    let cli = recorded()?;
    let said =
        cli.with_command(&["record", "-o", "-"], &["echo", "for people"])?.expect(0, &["for people"])?;
    ensure!(said.json()?["version"].is_number(), "standard output has only the trace");
    ensure!(!cli.path("-").exists());
    let said =
        finish(cli.command("sh").args(["-c", "unpriv record -- true | unpriv derive - | unpriv explain -"]))?;
    said.expect(0, &[])?
        .stdout
        .contains("system calls")
        .then_some(())
        .ok_or_else(|| anyhow::anyhow!("no answer"))
}
