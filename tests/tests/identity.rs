//! Only the workload is recorded, and all of it.

use std::{
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Result, ensure};
use e2e::cli::{Cli, container_name, docker_line, ended, start};
use serde_json::Value;

/// Ends a command with this.
struct Neighbour(Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Another tenant who never stops opening devices, mounting, and starting programs.
fn neighbour(cli: &Cli) -> Result<Neighbour> {
    let script = "cp /bin/chown ./neighbour-chown; touch there; while :; do
        ./neighbour-chown 5:5 there; : </dev/full; mount -t tmpfs none /mnt && umount /mnt; hostname >/dev/null; done";
    let mut command = cli.command("unshare");
    command.args(["--mount", "sh", "-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
    let neighbour = Neighbour(command.spawn()?);
    cli.wait_for("there")?;
    Ok(neighbour)
}

fn nothing_of_the_neighbour(trace: &Value) -> Result<()> {
    // The runtime mounts.
    let text = format!("{} {} {}", trace["syscalls"], trace["capabilities"], trace["programs"]);
    for word in ["neighbour", "CAP_CHOWN", "\"mount\"", "CAP_SYS_CHROOT"] {
        ensure!(!text.contains(word), "{word}: {text}");
    }
    ensure!(trace["devices"].as_array().is_some_and(Vec::is_empty), "{}", trace["devices"]);
    ensure!(trace["complete"] == true);
    Ok(())
}

#[test]
fn a_busy_neighbour_leaves_nothing_in_the_trace_of_a_command() -> Result<()> {
    let cli = Cli::new()?;
    let _busy = neighbour(&cli)?;
    for _ in 0..3 {
        cli.with_command(&["record", "--failures", "-o", "trace.json"], &["sleep", "0.3"])?.expect(0, &[])?;
        nothing_of_the_neighbour(&cli.json("trace.json")?)?;
    }
    Ok(())
}

#[test]
fn another_container_that_starts_meanwhile_leaves_nothing() -> Result<()> {
    let cli = Cli::new()?;
    let other =
        docker_line(&[], &["sh", "-c", "chroot / true; mount -t tmpfs none /mnt; touch x; chown 5:5 x"])?;
    let child =
        start(cli.unpriv(["record", "-o", "trace.json", "--"]).args(docker_line(&[], &["sleep", "2"])?))?;
    let tenants: Vec<_> = (0..2)
        .map(|_| {
            let other = other.clone();
            thread::spawn(move || Command::new(&other[0]).args(&other[1..]).status())
        })
        .collect();
    for tenant in tenants {
        ensure!(tenant.join().is_ok_and(|status| status.is_ok_and(|status| status.success())));
    }
    ended(child)?.expect(0, &[])?;
    nothing_of_the_neighbour(&cli.json("trace.json")?)
}

#[test]
fn what_docker_exec_brings_in_is_recorded() -> Result<()> {
    let (cli, name) = (Cli::new()?, container_name());
    let (named, volume) = (format!("--name={name}"), format!("--volume={}:/here", cli.path("").display()));
    let script = "touch /here/mark; while [ ! -e /here/done ]; do sleep 0.1; done";
    let line = docker_line(&[&named, &volume], &["sh", "-c", script])?;
    let child = start(cli.unpriv(["record", "-o", "trace.json", "--"]).args(line))?;
    cli.wait_for("mark")?;
    let exec =
        "unshare --uts hostname there; chroot / sh -c 'exec setsid chroot / true'; touch x; chown 5:5 x";
    let status = Command::new("docker").args(["exec", &name, "sh", "-c", exec]).status();
    std::fs::write(cli.path("done"), "")?;
    ended(child)?.expect(0, &[])?;
    let trace = cli.json("trace.json")?;
    ensure!(status?.success());
    for word in ["CAP_SYS_CHROOT", "CAP_CHOWN", "CAP_SYS_ADMIN", "sethostname", "/usr/sbin/chroot"] {
        ensure!(trace.to_string().contains(word), "{word}: {trace}");
    }
    Ok(())
}

#[test]
fn nested_namespaces_belong_to_the_outer_workload() -> Result<()> {
    let cli = Cli::new()?;
    let script = "unshare --mount --pid --fork unshare --mount --fork sh -c 'mount -t tmpfs none /mnt; exec setsid chroot / true'";
    cli.with_command(&["record", "-o", "trace.json"], &["sh", "-c", script])?.expect(0, &[])?;
    let trace = cli.json("trace.json")?.to_string();
    for word in ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "\"mount\"", "\"setsid\""] {
        ensure!(trace.contains(word), "{word}");
    }
    Ok(())
}
