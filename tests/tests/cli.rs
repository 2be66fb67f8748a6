//! What cannot be done is said so that a person can help it, and nothing half-written stays.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use e2e::{
    cli::{Cli, docker_line, finish, start},
    grants::IMAGE,
};

fn without(cli: &Cli, capabilities: &str, arguments: &str) -> Result<e2e::cli::Said> {
    let drop = format!("--drop={capabilities}");
    finish(cli.command("capsh").args([&drop, "--", "-c", &format!("exec unpriv {arguments}")]))
}

#[test]
fn somebody_who_is_not_root_is_told_which_capabilities_are_missing() -> Result<()> {
    let cli = Cli::new()?;
    fs::set_permissions(cli.path("."), fs::Permissions::from_mode(0o777))?;
    // The build directory may be closed to others.
    let copy = cli.path("unpriv-copy");
    fs::copy(e2e::unpriv_binary()?, &copy)?;
    for arguments in [&["record", "-o", "trace.json"][..], &["tighten", "-o", "a/b"]] {
        let mut command = cli.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&copy);
        finish(command.args(arguments).args(["--", "touch", "mark"]))?
            .expect(4, &["CAP_BPF", "CAP_PERFMON", "run unpriv as root"])?;
    }
    ensure!(cli.files()?.len() == 1, "{:?}", cli.files());
    Ok(())
}

#[test]
fn root_without_a_capability_is_told_which() -> Result<()> {
    let cli = Cli::new()?;
    let record = "record -o trace.json -- touch mark";
    for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"] {
        let both = format!("{},cap_sys_admin", name.to_lowercase());
        let said = without(&cli, &both, record)?.expect(4, &[&format!("without {name}:")])?;
        ensure!(said.stderr.lines().count() == 1, "{said:?}");
    }
    ensure!(cli.files()?.is_empty(), "{:?}", cli.files());
    // Either of them is enough.
    for dropped in ["cap_sys_admin", "cap_bpf,cap_perfmon"] {
        without(&cli, dropped, record)?.expect(0, &[])?;
    }
    Ok(())
}

#[test]
fn a_docker_that_cannot_be_asked_is_named() -> Result<()> {
    let cli = Cli::new()?;
    let line = ["docker", "run", "--rm", IMAGE, "true"];
    for verb in ["record", "tighten"] {
        let command = |output: &str| {
            let mut command = cli.unpriv([verb, "-o", output, "--"]);
            command.args(line);
            command
        };
        finish(command("out").env("PATH", "/nonexistent"))?
            .expect(4, &["`docker` cannot be run", "install docker"])?;
        finish(command("out").env("DOCKER_HOST", "unix:///nonexistent"))?
            .expect(4, &["daemon does not answer", "start it", "unix:///nonexistent"])?;
    }
    ensure!(cli.files()?.is_empty(), "{:?}", cli.files());
    Ok(())
}

#[test]
fn a_docker_line_that_is_wrong_is_told_what_and_where() -> Result<()> {
    let cli = Cli::new()?;
    let cases: [(&[&str], &[&str]); 6] = [
        (&["run", "--rm", "--pull=never", "unpriv.invalid/none:1"], &["unpriv.invalid/none:1"]),
        (&["run", "--rm", "--privilegd", IMAGE], &["`--privilegd` is not an option", "correct it"]),
        (&["run", "--rm"], &["no image", "docker run … IMAGE"]),
        (&["ps"], &["`docker ps` starts no container", "`docker run`"]),
        (&["run", "--name"], &["--name"]),
        (&["run", "--rm", IMAGE, "/no/such/program"], &["/no/such/program"]),
    ];
    for (line, words) in cases {
        let line: Vec<&str> = ["docker"].iter().chain(line).copied().collect();
        let said = cli.with_command(&["tighten", "-o", "a/b/c"], &line)?;
        let code = if line.contains(&"/no/such/program") { 2 } else { said.status.code().unwrap_or(-1) };
        said.expect(code, words)?;
        ensure!(code == 2, "{line:?}: exit status {code}");
        ensure!(cli.files()?.is_empty(), "{line:?}: {:?}", cli.files());
    }
    Ok(())
}

#[test]
fn a_command_that_cannot_be_executed_is_named() -> Result<()> {
    let cli = Cli::new()?;
    for (command, words) in [
        ("no-such-command", "no-such-command: command not found"),
        ("./no/such", "./no/such: command not found"),
        ("/etc/passwd", "/etc/passwd: Permission denied"),
        ("/etc", "/etc: is a directory"),
        ("", "command not found"),
    ] {
        for verb in ["record", "tighten"] {
            cli.with_command(&[verb, "-o", "out"], &[command])?.expect(2, &[words])?;
        }
    }
    ensure!(cli.files()?.is_empty(), "{:?}", cli.files());
    Ok(())
}

#[test]
fn no_command_is_a_matter_of_usage() -> Result<()> {
    let cli = Cli::new()?;
    for verb in ["record", "tighten"] {
        cli.run([verb])?.expect(2, &["<COMMAND>", "Usage: unpriv"])?;
        cli.run([verb, "--"])?.expect(2, &["<COMMAND>"])?;
        cli.run([verb, "true"])?.expect(2, &["comes after `--`"])?;
        cli.run([verb, "--frobnicate", "--", "true"])?.expect(2, &["--frobnicate"])?;
    }
    cli.run(["frobnicate"])?.expect(2, &["frobnicate"])?;
    cli.run(["emit", "profile.json", "--target", "\u{1b}[31m"])?.expect(2, &["\\x1b[31m"]).map(drop)?;
    ensure!(cli.files()?.is_empty(), "{:?}", cli.files());
    Ok(())
}

#[test]
fn the_end_of_a_workload_is_told_and_recorded() -> Result<()> {
    let cli = Cli::new()?;
    cli.with_command(&["record", "-o", "three.json"], &["sh", "-c", "exit 3"])?
        .expect(0, &["ended with exit status 3"])?;
    ensure!(cli.json("three.json")?["runs"][0]["outcome"]["exit"] == 3);
    cli.with_command(&["record", "-o", "nine.json"], &["sh", "-c", "kill -9 $$"])?
        .expect(0, &["ended by signal 9"])?;
    ensure!(cli.json("nine.json")?["runs"][0]["outcome"]["signal"] == 9);
    cli.with_command(&["tighten", "-o", "out", "--json"], &["sh", "-c", "exit 3"])?
        .expect(0, &["exit status 3 even with every privilege"])?;
    finish(&mut cli.command(cli.path("out/run.sh")))?.expect(3, &[""])?;
    Ok(())
}

#[test]
fn an_output_that_cannot_be_written_is_found_out_before_the_run() -> Result<()> {
    let cli = Cli::new()?;
    fs::write(cli.path("file"), "mine")?;
    fs::create_dir(cli.path("directory"))?;
    let mark = cli.path("mark").to_string_lossy().into_owned();
    for (verb, output, words) in [
        ("tighten", "file", &["file is no directory", "-o"][..]),
        ("tighten", "file/below", &["file/below", "-o"]),
        ("tighten", "/proc/sys/below", &["/proc/sys/below", "-o"]),
        ("record", "missing/trace.json", &["missing/trace.json", "no directory missing"]),
        ("record", "directory", &["directory: it is a directory"]),
        ("record", "/proc/sys/trace.json", &["/proc/sys/trace.json"]),
    ] {
        cli.with_command(&[verb, "-o", output], &["touch", &mark])?.expect(2, words)?;
    }
    // A file of the bundle whose name is taken.
    fs::create_dir_all(cli.path("bundle/run.sh"))?;
    cli.with_command(&["tighten", "-o", "bundle"], &["touch", &mark])?.expect(2, &["bundle/run.sh"])?;
    ensure!(fs::read_dir(cli.path("bundle"))?.count() == 1);
    ensure!(fs::read_to_string(cli.path("file"))? == "mine");
    ensure!(cli.files()?.len() == 3, "{:?}", cli.files());
    Ok(())
}

#[test]
fn a_read_only_directory_is_found_out_before_the_run() -> Result<()> {
    let cli = Cli::new()?;
    fs::create_dir(cli.path("sealed"))?;
    // Root may write to a directory of mode 0555; not to a mount that is read-only.
    let script = "mount --bind sealed sealed && mount -o remount,bind,ro sealed && exec unpriv \"$@\"";
    for (verb, output) in [("record", "sealed/trace.json"), ("tighten", "sealed"), ("tighten", "sealed/new")]
    {
        let mut command = cli.command("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", verb, "-o", output, "--", "touch", "mark"]);
        finish(&mut command)?.expect(2, &["sealed", "ead-only file"])?;
    }
    ensure!(!cli.path("mark").exists());
    Ok(())
}

#[test]
fn a_reader_that_leaves_is_no_failure() -> Result<()> {
    let cli = Cli::new()?;
    cli.with_command(&["record", "-o", "trace.json"], &["true"])?.expect(0, &[])?;
    for arguments in [
        "derive trace.json",
        "explain trace.json",
        "record -- true",
        "tighten -o out -- true",
        "verify out/profile.json -- true",
        "--help",
    ] {
        // Both streams at once: talk, too, may have nobody to hear it.
        let mut child = start(cli.unpriv(arguments.split(' ')).env("LC_ALL", "C"))?;
        drop(child.stdout.take());
        drop(child.stderr.take());
        let status = child.wait()?;
        ensure!(status.success(), "{arguments}: {status}");
    }
    Ok(())
}

#[test]
fn both_forms_of_run_sh_run_and_json_is_json() -> Result<()> {
    let cli = Cli::new()?;
    let line = docker_line(&["--device=/dev/full"], &["sh", "-c", "echo it ran; chroot / true"])?;
    let plain = ["sh", "-c", "echo it ran; chroot / true"].map(str::to_owned);
    let unused = ["--device /dev/full was not used in the recording and is left out"];
    for (directory, command, warnings) in [("docker", &line[..], &unused[..]), ("plain", &plain, &[])] {
        let answer =
            cli.with_command(&["tighten", "--json", "-o", directory], command)?.expect(0, &[])?.json()?;
        ensure!(answer["verified"] == true, "{answer}");
        ensure!(answer["profile"]["capabilities"][0] == "CAP_SYS_CHROOT", "{answer}");
        ensure!(answer["warnings"] == serde_json::json!(warnings), "{answer}");
        let script = cli.path(directory).join("run.sh");
        ensure!(fs::metadata(&script)?.permissions().mode() & 0o111 != 0);
        let said = finish(&mut cli.command(&script))?;
        ensure!(said.status.success() && said.stdout == "it ran\n", "{said:?}");
        for file in ["trace.json", "profile.json", "seccomp.json", "verify.json"] {
            cli.json(&format!("{directory}/{file}"))?;
        }
    }
    Ok(())
}
