//! Watching a container that runs already: what lived before counts, nothing is disturbed, the gap is named.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::cli::{Cli, Said, container_name, docker_line, send};
use serde_json::{Value, json};

const UNSEEN: &str = "incomplete: the container ran before the recording began: its start was not seen";
/// Longer than anything here takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A container in the background; ended when dropped.
struct Tenant(String);

impl Drop for Tenant {
    fn drop(&mut self) {
        drop(Command::new("docker").args(["rm", "--force", &self.0]).output());
    }
}

impl Tenant {
    /// Starts one on a shell script, with the test's directory at /here, and waits until it has made `up`.
    fn start(cli: &Cli, options: &[&str], script: &str) -> Result<Self> {
        let name = container_name();
        let (named, volume) =
            (format!("--name={name}"), format!("--volume={}:/here", cli.path("").display()));
        let mut all = vec!["--detach", &named, &volume];
        all.extend(options);
        let line = docker_line(&all, &["sh", "-c", script])?;
        let done = Command::new(&line[0]).args(&line[1..]).output()?;
        let tenant = Self(name);
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        cli.wait_for("up")?;
        fs::remove_file(cli.path("up"))?;
        Ok(tenant)
    }

    fn exec(&self, script: &str) -> Result<()> {
        let done = Command::new("docker").args(["exec", &self.0, "sh", "-c", script]).output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Its first process and when that started; fails when it does not run.
    fn state(&self) -> Result<String> {
        let format = "{{.State.Status}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}";
        let done = Command::new("docker").args(["inspect", "--format", format, &self.0]).output()?;
        let state = String::from_utf8(done.stdout)?;
        ensure!(state.starts_with("running "), "{} does not run: {state}", self.0);
        Ok(state)
    }
}

/// `unpriv record --container`, under way.
struct Watch(Child, std::path::PathBuf);

impl Watch {
    /// Returns when it has attached.
    fn begin(cli: &Cli, container: &str, options: &[&str]) -> Result<Self> {
        let errors = cli.path("errors");
        let mut command = cli.unpriv(["record", "-o", "trace.json", "--container", container]);
        let command = command.args(options).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let mut watch = Self(command.spawn()?, errors);
        let end = Instant::now() + TIMEOUT;
        while !fs::read_to_string(&watch.1)?.contains("attached to ") {
            ensure!(watch.0.try_wait()?.is_none(), "{}", fs::read_to_string(&watch.1)?);
            ensure!(Instant::now() < end, "it does not attach");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(watch)
    }

    fn end(mut self) -> Result<Said> {
        let status = self.0.wait()?;
        Ok(Said { status, stdout: String::new(), stderr: fs::read_to_string(&self.1)? })
    }
}

fn touch(cli: &Cli, name: &str) -> Result<()> {
    File::create(cli.path(name)).map(drop).with_context(|| format!("making {name}"))
}

fn only_the_start_is_missing(trace: &Value) -> Result<()> {
    ensure!(trace["complete"] == false && trace["lost"] == json!(["started_before"]), "{}", trace["lost"]);
    Ok(())
}

fn has(trace: &Value, words: &[&str]) -> Result<()> {
    let text = trace.to_string();
    for word in words {
        ensure!(text.contains(word), "{word} is missing: {text}");
    }
    Ok(())
}

/// The programs that made a call.
fn callers<'a>(trace: &'a Value, call: &str) -> &'a Value {
    &trace["syscalls"]["x86_64"][call]["programs"]
}

#[test]
fn what_ran_before_is_watched_and_nothing_is_disturbed() -> Result<()> {
    if std::env::var_os("UNPRIV_TEST_WAIT").is_some() {
        return wait_in_the_container();
    }
    let cli = Cli::new()?;
    // One waits in pause (34) all the time, one calls getpgid (121) at times, one mounts; a device and a file of
    // /proc/sys are open since before; threads wait for the file `go`.
    let threads = std::env::current_exe()?;
    let program = format!("--volume={}:/threads:ro", threads.display());
    let script = "exec 3</dev/full 4>>/proc/sys/net/ipv4/ip_forward
        perl -e 'syscall(34)' & perl -e 'while (1) { syscall(121, 0); select(undef, undef, undef, 0.1) }' &
        cd /here; UNPRIV_TEST_WAIT=1 /threads --exact what_ran_before_is_watched_and_nothing_is_disturbed >/dev/null &
        while ! [ -e threads-up ]; do sleep 0.05; done; rm threads-up; touch up
        while :; do mount -t tmpfs none /mnt && umount /mnt; sleep 0.3; done";
    let tenant = Tenant::start(&cli, &[&program], script)?;
    let elsewhere = Cli::new()?;
    let neighbour = Tenant::start(
        &elsewhere,
        &[],
        "touch /here/up; while :; do setpriv --clear-groups true; setsid true; : </dev/kmsg; sleep 0.1; done",
    )?;
    let before = tenant.state()?;
    let watch = Watch::begin(&cli, &tenant.0, &["--duration", "4s"])?;
    let begin = Instant::now();
    touch(&cli, "go")?;
    tenant.exec("touch x; chown 5:5 x")?;
    watch.end()?.expect(3, &["attached to ", "recorded ", UNSEEN])?;
    let took = begin.elapsed();
    ensure!(took > Duration::from_secs(3) && took < Duration::from_secs(30), "{took:?}");
    ensure!(before == tenant.state()?);
    neighbour.state()?;

    let trace = cli.json("trace.json")?;
    only_the_start_is_missing(&trace)?;
    has(
        &trace,
        &["\"CAP_SYS_ADMIN\"", "path_mount", "\"CAP_CHOWN\"", "/usr/bin/chown", "\"CAP_SYS_CHROOT\""],
    )?;
    for (call, program) in [
        ("pause", "/usr/bin/perl"),
        ("getpgid", "/usr/bin/perl"),
        ("chroot", "/threads"),
        ("mount", "/usr/bin/mount"),
    ] {
        ensure!(callers(&trace, call) == &json!([program]), "{call}: {}", callers(&trace, call));
    }
    // The runtime of `docker exec` has calls of its own.
    let text = format!("{} {} {}", trace["syscalls"], trace["programs"], trace["devices"]);
    for word in ["setgroups", "setsid", "setpriv", "\"major\":1,\"minor\":11"] {
        ensure!(!text.contains(word), "{word} is the neighbour's: {text}");
    }
    let full = json!({"type": "c", "major": 1, "minor": 7, "access": "r", "syscall": null});
    let devices = trace["devices"].as_array().context("no devices")?;
    let held = |device: &Value| {
        let fact = &device["fact"];
        ["type", "major", "minor", "access", "syscall"].iter().all(|&field| fact[field] == full[field])
    };
    ensure!(devices.iter().any(held), "{}", trace["devices"]);
    let paths = trace["paths"].as_array().context("no paths")?;
    let written = |path: &Value| {
        path["fact"]["path"] == "/proc/sys/net/ipv4/ip_forward" && path["fact"]["write"] == true
    };
    ensure!(paths.iter().any(written), "{}", trace["paths"]);
    let run = &trace["runs"][0];
    ensure!(run["attached"]["container"] == tenant.0.as_str() && run["outcome"].is_null(), "{run}");
    ensure!(run["attached"]["milliseconds"].as_u64().is_some_and(|time| time >= 4000), "{run}");
    ensure!(run["engine"]["name"] == "docker" && run["command"][0] == "sh", "{run}");

    let profile = cli.run(["derive", "trace.json"])?.expect(3, &[UNSEEN])?.json()?;
    ensure!(profile["complete"] == false, "{profile}");
    has(&profile, &["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "its start was not seen", "ip_forward"])
}

/// What the one above runs in its container.
fn wait_in_the_container() -> Result<()> {
    let waiting = thread::spawn(|| {
        let end = Instant::now() + TIMEOUT;
        while !Path::new("go").exists() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        std::os::unix::fs::chroot("/")
    });
    File::create("threads-up")?;
    Ok(waiting.join().ok().context("a thread fails")??)
}

#[test]
fn processes_that_do_nothing_but_fork_and_end_are_all_followed() -> Result<()> {
    let cli = Cli::new()?;
    // Each generation is a new process; the last one makes a call of its own.
    let script = "cd /here; for call in 121 124 145 147 148 186; do
        perl -e 'until (-e \"go\") { fork and exit } syscall(shift, 0); open F, \">\", \"done-$$\"' $call &
        done; touch up; sleep 60";
    let tenant = Tenant::start(&cli, &[], script)?;
    let watch = Watch::begin(&cli, &tenant.0, &[])?;
    touch(&cli, "go")?;
    let end = Instant::now() + TIMEOUT;
    while cli.files()?.iter().filter(|name| name.starts_with("done-")).count() < 6 {
        ensure!(Instant::now() < end, "they do not end: {:?}", cli.files()?);
        thread::sleep(Duration::from_millis(10));
    }
    send("INT", &watch.0, true)?;
    watch.end()?.expect(3, &[UNSEEN])?;
    tenant.state()?;
    let trace = cli.json("trace.json")?;
    only_the_start_is_missing(&trace)?;
    has(
        &trace["syscalls"],
        &[
            "\"getpgid\"",
            "\"getsid\"",
            "\"sched_getscheduler\"",
            "\"sched_get_priority_min\"",
            "\"sched_rr_get_interval\"",
            "\"gettid\"",
        ],
    )
}

#[test]
fn a_container_that_ends_ends_its_recording() -> Result<()> {
    let cli = Cli::new()?;
    let script = "cd /here; touch up; until [ -e go ]; do sleep 0.05; done; chroot / true; exit 7";
    let tenant = Tenant::start(&cli, &[], script)?;
    let watch = Watch::begin(&cli, &tenant.0, &["--duration", "1h"])?;
    touch(&cli, "go")?;
    watch.end()?.expect(3, &[UNSEEN])?;
    let trace = cli.json("trace.json")?;
    only_the_start_is_missing(&trace)?;
    has(&trace, &["CAP_SYS_CHROOT"])
}

#[test]
fn sigterm_ends_the_recording_and_not_the_container() -> Result<()> {
    let cli = Cli::new()?;
    let tenant = Tenant::start(&cli, &[], "touch /here/up; sleep 60")?;
    let before = tenant.state()?;
    let watch = Watch::begin(&cli, &tenant.0, &["--engine", "docker"])?;
    send("TERM", &watch.0, false)?;
    watch.end()?.expect(3, &[UNSEEN])?;
    ensure!(before == tenant.state()?);
    // With a start from elsewhere it is still not known whether both start alike.
    let start = docker_line(&[], &["true"])?;
    cli.with_command(&["record", "-o", "start.json"], &start)?.expect(0, &[])?;
    let profile = cli.run(["derive", "start.json", "trace.json"])?.expect(3, &[UNSEEN])?.json()?;
    ensure!(profile["complete"] == false, "{profile}");
    has(&profile["warnings"], &["known from another run of its image"])
}

#[test]
fn what_cannot_be_attached_to_is_said_with_the_way_out() -> Result<()> {
    let cli = Cli::new()?;
    let record =
        |name: &str| cli.run(["record", "-o", "trace.json", "--engine", "docker", "--container", name]);
    record("no-such-container")?.expect(2, &["docker has no container `no-such-container`", "docker ps"])?;
    let made = container_name();
    let done =
        Command::new("docker").args(["create", "--name", &made, e2e::grants::IMAGE, "true"]).output()?;
    ensure!(done.status.success(), "{done:?}");
    let made = Tenant(made);
    record(&made.0)?.expect(2, &["does not run, it is created", "start it"])?;
    let mut command =
        cli.unpriv(["record", "-o", "trace.json", "--engine", "docker", "--container", &made.0]);
    e2e::cli::finish(command.env("DOCKER_HOST", "unix:///run/no-such-socket"))?
        .expect(4, &["the docker daemon does not answer"])?;
    for (arguments, words) in [
        ("record --container a -- true", "cannot be used with"),
        ("record --duration 5m -- true", "cannot be used with"),
        ("record --container a --duration 5x", "60s, 5m or 1h30m"),
    ] {
        let said = cli.run(arguments.split(' '))?;
        ensure!(said.status.code() == Some(2) && said.stderr.contains(words), "{said:?}");
    }
    ensure!(!cli.path("trace.json").exists());
    Ok(())
}
