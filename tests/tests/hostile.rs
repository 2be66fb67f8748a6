//! Names from the workload are data: none reaches a terminal or a shell as anything else.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _};

use anyhow::{Result, ensure};
use e2e::cli::{Cli, docker_line, finish};

/// Clears the screen, sets a title, runs commands: whatever may be in the name of a file.
const NAME: &str =
    "a\nb\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\r$(touch pwned)`touch pwned`'\";touch pwned;\u{202e}";

#[test]
fn a_hostile_command_line_stays_one_word_everywhere() -> Result<()> {
    let cli = Cli::new()?;
    cli.copy("/bin/true", NAME)?;
    let command = [format!("./{NAME}"), format!("--{NAME}")];
    cli.with_command(&["tighten", "-o", "out"], &command)?.expect(0, &["\\x1b[2J"])?;
    for file in ["trace.json", "profile.json", "verify.json"] {
        let text = fs::read_to_string(cli.path("out").join(file))?;
        let raw = text.chars().find(|&character| character != '\n' && character.is_ascii_control());
        ensure!(raw.is_none(), "{file} has {raw:?}");
        cli.json(&format!("out/{file}"))?;
    }
    let trace = cli.json("out/trace.json")?;
    ensure!(trace["runs"][0]["command"][0] == command[0].as_str());
    ensure!(trace["programs"].get(&command[0]).is_some(), "{}", trace["programs"]);
    finish(&mut cli.command("out/run.sh"))?.expect(0, &[])?;
    for arguments in ["explain out/trace.json", "explain out/profile.json", "derive out/trace.json"] {
        cli.run(arguments.split(' '))?.expect(0, &[])?;
    }
    cli.with_command(&["verify", "out/profile.json"], &command)?.expect(0, &[])?;
    cli.with_command(&["run", "--profile", "out/profile.json"], &command)?.expect(0, &[])?;
    let missing = [format!("./missing-{NAME}")];
    cli.with_command(&["record", "-o", "trace.json"], &missing)?.expect(2, &["./missing-a\\nb\\x1b[2J"])?;
    cli.with_command(&["tighten", "-o", &format!("{NAME}.out")], &["true"])?.expect(0, &[])?;
    finish(&mut cli.command(cli.path(format!("{NAME}.out")).join("run.sh")))?.expect(0, &[])?;
    for verb in ["derive", "explain", "emit --target docker"] {
        let arguments = verb.split(' ').map(str::to_owned).chain([format!("missing-{NAME}")]);
        cli.run(arguments)?.expect(2, &["missing-a\\nb\\x1b[2J"])?;
    }
    cli.run(["explain", "out/trace.json", NAME])?.expect(2, &["\\x1b[2J"])?;
    cli.run([NAME])?.expect(2, &["\\x1b[2J"])?;
    ensure!(!cli.path("pwned").exists());
    Ok(())
}

#[test]
fn programs_of_any_name_are_recorded() -> Result<()> {
    let cli = Cli::new()?;
    let bytes = OsStr::from_bytes(b"bad-\xff\xfe-utf8");
    let long = format!("{0}/{0}", "x".repeat(250));
    fs::create_dir(cli.path("x".repeat(250)))?;
    cli.copy("/bin/true", bytes)?;
    cli.copy("/bin/true", NAME)?;
    cli.copy("/usr/sbin/chroot", &long)?;
    let script = "for program in ./bad* ./a*; do \"$program\"; done; \"./$0\" / true";
    let command = ["sh", "-c", script, &long];
    let said = cli.with_command(&["tighten", "--json", "-o", "out"], &command)?;
    let answer = said.expect(0, &[])?.json()?;
    ensure!(
        answer["verified"] == true && answer["profile"]["capabilities"][0] == "CAP_SYS_CHROOT",
        "{answer}"
    );
    let programs = cli.json("out/trace.json")?["programs"].clone();
    for name in ["./bad-\u{fffd}\u{fffd}-utf8", &format!("./{NAME}")] {
        ensure!(programs.get(name).is_some(), "{programs}");
    }
    let explained = cli.run(["explain", "out/trace.json", "SYS_CHROOT"])?.expect(0, &[])?;
    ensure!(explained.stdout.contains("xxxxxxxx"), "{explained:?}");
    ensure!(!cli.path("pwned").exists());
    Ok(())
}

#[test]
fn an_argument_that_a_trace_cannot_hold_is_named() -> Result<()> {
    let cli = Cli::new()?;
    let mut command = cli.unpriv(["record", "-o", "trace.json", "--"]);
    finish(command.arg(OsStr::from_bytes(b"./bad\xff\x1b")))?
        .expect(2, &["./bad\\xff\\x1b", "is not UTF-8"])?;
    ensure!(cli.files()?.is_empty());
    Ok(())
}

#[test]
fn what_the_workload_says_itself_is_passed_on_unchanged_but_never_repeated() -> Result<()> {
    let cli = Cli::new()?;
    // Twice the same, and then otherwise: the difference is told.
    let script = "printf 'red\\033[31m %s\\n' \"$(date +%N)\"; printf '\\033]0;title\\007' >&2";
    let said = cli.with_command(&["tighten", "-o", "out"], &["sh", "-c", script])?;
    // Its colours are its own, as without us; they come once, from the recorded run.
    ensure!(said.stderr.matches("red\u{1b}[31m ").count() == 1, "{said:?}");
    ensure!(said.stderr.matches("\u{1b}]0;title\u{7}").count() == 1, "{said:?}");
    ensure!(said.stdout.chars().all(|character| character == '\n' || !character.is_control()), "{said:?}");
    let script = "grep -q CapEff:.0*$ /proc/self/status && set two || set one; printf \"$1\\033[31m\\n\"";
    cli.with_command(&["record", "-o", "trace.json"], &["sh", "-c", script])?;
    cli.run(["derive", "trace.json", "-o", "profile.json"])?.expect(0, &[])?;
    let said = cli.with_command(&["verify", "profile.json"], &["sh", "-c", script])?;
    ensure!(said.status.code() == Some(1) && said.stdout.contains("`two\\x1b[31m` now"), "{said:?}");
    ensure!(!said.stdout.contains('\u{1b}'), "{said:?}");
    Ok(())
}

#[test]
fn a_hostile_docker_line_stays_what_it_is() -> Result<()> {
    let cli = Cli::new()?;
    let script = "cp /usr/sbin/chroot \"/tmp/$0\" && \"/tmp/$0\" / printf %s \"$1\"";
    let environment = format!("--env=X={NAME}");
    let line = docker_line(&[&environment], &["sh", "-c", script, NAME, NAME])?;
    let mut command = cli.unpriv(["tighten", "--json", "-o", "out", "--"]);
    let said = finish(command.args(&line))?;
    ensure!(said.status.success(), "{said:?}");
    // The workload's own output is passed on; ours is JSON.
    let answer = said.json()?;
    ensure!(
        answer["verified"] == true && answer["profile"]["capabilities"][0] == "CAP_SYS_CHROOT",
        "{answer}"
    );
    let words =
        answer["command"].as_array().map_or(0, |words| words.iter().filter(|word| *word == NAME).count());
    ensure!(words == 2, "{answer}");
    let again = finish(&mut cli.command("out/run.sh"))?;
    ensure!(again.status.success() && again.stdout == NAME, "{again:?}");
    cli.run(["explain", "out/trace.json"])?.expect(0, &[])?;
    let name = format!("--name={NAME}");
    cli.with_command(&["record", "-o", "t.json"], &docker_line(&[&name], &["true"])?)?
        .expect(2, &["Invalid container name"])?;
    cli.with_command(&["record", "-o", "t.json"], &["docker", "run", &format!("--{NAME}"), "image"])?
        .expect(2, &["--a\\nb\\x1b[2J"])?;
    ensure!(!cli.path("pwned").exists() && !cli.path("t.json").exists());
    Ok(())
}
