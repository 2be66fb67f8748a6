//! Ctrl-C and SIGTERM in the middle: what was seen is kept and marked incomplete, nothing is left behind.

use std::{
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use e2e::cli::{Cli, Said, container_exists, container_name, docker_line, ended, finish, send, start};
use serde_json::json;

/// Asks for a capability, says so, and waits.
const WORKLOAD: &str = "chroot / true; touch \"$0\"; sleep 20 >&- 2>&-; touch \"$0-late\"";
/// One that Ctrl-C ends in an orderly way.
const HANDLES: &str = "trap 'exit 5' INT TERM; chroot / true; touch \"$0\"; sleep 20 >&- 2>&- & wait";
const INCOMPLETE: &str = "incomplete: the recording was stopped before the workload ended";

/// Starts `unpriv` on a command and waits until that has touched the file `mark`.
fn under_way(cli: &Cli, options: &[&str], command: &[String]) -> Result<Child> {
    let child = start(cli.unpriv(options).arg("--").args(command))?;
    cli.wait_for("mark")?;
    Ok(child)
}

fn plain(script: &str) -> Vec<String> {
    ["sh", "-c", script, "mark"].map(str::to_owned).to_vec()
}

fn docker(cli: &Cli, name: &str, script: &str) -> Result<Vec<String>> {
    let (name, volume) = (format!("--name={name}"), format!("--volume={}:/here", cli.path("").display()));
    docker_line(&[&name, &volume, "--workdir=/here"], &["sh", "-c", script, "mark"])
}

/// The trace so far, and a profile that says so.
fn is_incomplete(cli: &Cli, said: Said, trace: &str) -> Result<()> {
    said.expect(3, &[INCOMPLETE])?;
    let written = cli.json(trace)?;
    ensure!(written["complete"] == false && written["lost"] == json!(["interrupted"]), "{written}");
    ensure!(written["runs"][0]["outcome"].is_null());
    let profile = cli.run(["derive", trace])?.expect(3, &[INCOMPLETE])?.json()?;
    ensure!(
        profile["complete"] == false && profile["capabilities"] == json!(["CAP_SYS_CHROOT"]),
        "{profile}"
    );
    let warnings = profile["warnings"].to_string();
    ensure!(warnings.contains("incomplete"), "{warnings}");
    Ok(())
}

#[test]
fn ctrl_c_keeps_the_trace_of_a_plain_command() -> Result<()> {
    let cli = Cli::new()?;
    let child = under_way(&cli, &["record", "-o", "trace.json"], &plain(WORKLOAD))?;
    send("INT", &child, true)?;
    is_incomplete(&cli, ended(child)?, "trace.json")?;
    cli.run(["derive", "trace.json", "-o", "profile.json"])?.expect(3, &[INCOMPLETE])?;
    for (arguments, code) in
        [("emit profile.json --target docker", 3), ("run --profile profile.json -- true", 0)]
    {
        let said = cli.run(arguments.split(' '))?;
        ensure!(said.stderr.contains("profile.json: made from an incomplete recording"), "{said:?}");
        ensure!(said.status.code() == Some(code), "{said:?}");
    }
    Ok(())
}

#[test]
fn sigterm_reaches_a_plain_command() -> Result<()> {
    let cli = Cli::new()?;
    let child = under_way(&cli, &["record", "-o", "trace.json"], &plain(HANDLES))?;
    let begin = Instant::now();
    send("TERM", &child, false)?;
    is_incomplete(&cli, ended(child)?, "trace.json")?;
    ensure!(begin.elapsed() < Duration::from_secs(10));
    Ok(())
}

#[test]
fn the_second_ctrl_c_ends_a_command_that_ignores_the_first() -> Result<()> {
    let cli = Cli::new()?;
    let script = "trap '' INT; chroot / true; touch \"$0\"; sleep 20 >&- 2>&-";
    let child = under_way(&cli, &["record", "-o", "trace.json"], &plain(script))?;
    send("INT", &child, true)?;
    // Signals of one kind that are not taken yet are one.
    std::thread::sleep(Duration::from_millis(200));
    send("INT", &child, true)?;
    let begin = Instant::now();
    let group = child.id();
    is_incomplete(&cli, ended(child)?, "trace.json")?;
    ensure!(begin.elapsed() < Duration::from_secs(10));
    // What ignores it is the workload's own affair; here it would only lie around.
    finish(cli.command("sh").args(["-c", &format!("kill -KILL -- -{group}; true")]))?;
    Ok(())
}

#[test]
fn ctrl_c_keeps_the_trace_of_a_container_and_leaves_none() -> Result<()> {
    for (script, signal) in [(HANDLES, "INT"), (HANDLES, "TERM"), (WORKLOAD, "INT")] {
        let (cli, name) = (Cli::new()?, container_name());
        let child = under_way(&cli, &["record", "-o", "trace.json"], &docker(&cli, &name, script)?)?;
        send(signal, &child, signal == "INT")?;
        if script == WORKLOAD {
            // The first process of a container ignores what it has no handler for.
            std::thread::sleep(Duration::from_millis(200));
            send("INT", &child, true)?;
        }
        is_incomplete(&cli, ended(child)?, "trace.json")?;
        ensure!(!container_exists(&name)?, "{signal} leaves the container");
        ensure!(!cli.path("mark-late").exists());
    }
    Ok(())
}

#[test]
fn a_container_that_ignores_sigterm_is_ended_in_time() -> Result<()> {
    let (cli, name) = (Cli::new()?, container_name());
    let child = under_way(&cli, &["record", "-o", "trace.json"], &docker(&cli, &name, WORKLOAD)?)?;
    let begin = Instant::now();
    send("TERM", &child, false)?;
    is_incomplete(&cli, ended(child)?, "trace.json")?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    ensure!(!container_exists(&name)?);
    Ok(())
}

#[test]
fn ctrl_c_at_any_moment_leaves_no_container() -> Result<()> {
    for delay in [0, 50, 150, 300, 450, 700] {
        let (cli, name) = (Cli::new()?, container_name());
        let line = docker(&cli, &name, "sleep 20")?;
        let child = start(cli.unpriv(["tighten", "-o", "out", "--"]).args(&line))?;
        std::thread::sleep(Duration::from_millis(delay));
        send("INT", &child, true)?;
        std::thread::sleep(Duration::from_millis(600));
        // It may have ended already.
        drop(send("INT", &child, true));
        let said = ended(child)?.fit_to_print()?;
        ensure!(!said.status.success(), "{delay} ms: {said:?}");
        ensure!(!container_exists(&name)?, "{delay} ms: {said:?}");
    }
    Ok(())
}

#[test]
fn ctrl_c_while_recording_for_tighten_gives_an_incomplete_bundle() -> Result<()> {
    let cli = Cli::new()?;
    let child = under_way(&cli, &["tighten", "-o", "out"], &plain(WORKLOAD))?;
    send("INT", &child, true)?;
    let said = ended(child)?;
    ensure!(said.stdout.contains("not verified"), "{said:?}");
    is_incomplete(&cli, said, "out/trace.json")?;
    for file in ["profile.json", "seccomp.json", "run.sh", "verify.json"] {
        ensure!(cli.path("out").join(file).exists(), "{file} is missing");
    }
    Ok(())
}

#[test]
fn ctrl_c_while_verifying_keeps_what_was_recorded_and_proves_nothing() -> Result<()> {
    let cli = Cli::new()?;
    // The second run waits.
    let script =
        "wait() { touch \"$1\"; sleep $2 >&- 2>&-; }\n[ -e first ] && wait \"$0\" 20 || wait first 0.01";
    let child = under_way(&cli, &["tighten", "-o", "out"], &plain(script))?;
    send("INT", &child, true)?;
    let said = ended(child)?;
    ensure!(said.stdout.contains("NOT verified: interrupted"), "{said:?}");
    ensure!(said.status.code() == Some(1), "{said:?}");
    let verification = cli.json("out/verify.json")?;
    ensure!(verification["same"] == false && verification["interrupted"] == true, "{verification}");
    ensure!(cli.json("out/trace.json")?["complete"] == true);
    Ok(())
}
