//! Runs a workload with given grants, and says what it did.

use std::{
    fs,
    io::{Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    grants::{Grants, Host, base_rules, docker_argv, plain_argv, plain_surroundings},
    workload::{Form, Workload},
};

/// Longer than any workload takes; those that lose a privilege may wait for ever.
pub const TIMEOUT: Duration = Duration::from_secs(25);

/// What a run did, as far as it is compared. `None` as status: it did not end in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status or signal.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub stdout: String,
}

/// An outcome and what was said on standard error, which is not compared.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is compared.
    pub outcome: Outcome,
    /// For people.
    pub stderr: String,
}

/// Runs a workload once with these grants.
///
/// # Errors
/// It could not be started, or this machine cannot restrict it in this way.
pub fn run(workload: &Workload, form: Form, grants: &Grants, host: &Host) -> Result<Run> {
    prepare(workload)?;
    match form {
        Form::Docker | Form::Lab => run_docker(workload, grants),
        Form::Plain => run_plain(workload, grants, host, &plain_argv(workload), TIMEOUT),
    }
}

/// Makes the host ready for a run.
///
/// # Errors
/// The command for it fails.
fn prepare(workload: &Workload) -> Result<()> {
    if let Some([program, arguments @ ..]) = workload.prepare.as_deref() {
        let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
        let status = status.with_context(|| format!("running {program}"))?;
        ensure!(status.success(), "preparing {}: {program}: {status}", workload.name);
    }
    Ok(())
}

/// Undoes on the host what a run that broke off may have left behind.
///
/// # Errors
/// The command for it could not be started.
pub fn clean_up(workload: &Workload) -> Result<()> {
    if let Some([program, arguments @ ..]) = workload.cleanup.as_deref() {
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    }
    Ok(())
}

/// A name of this process's own.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("unpriv-zoo-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn run_docker(workload: &Workload, grants: &Grants) -> Result<Run> {
    let name = unique_name();
    let argv = docker_argv(workload, grants, &[format!("--name={name}")]);
    let run = finish(&argv, TIMEOUT)?;
    if run.outcome.status.is_none() {
        Command::new("docker").args(["rm", "--force", &name]).output().context("running docker rm")?;
    }
    clean_up(workload)?;
    // 125 is docker's own, when the container was not even created; but chroot(1) for one uses it, too.
    let refused = run.stderr.contains("docker: ") || run.stderr.contains("unknown flag");
    if run.outcome.status.and_then(|status| status.code()) == Some(125) && refused {
        bail!("docker refused {argv:?}: {}", run.stderr.trim());
    }
    Ok(run)
}

/// Runs `command` in the surroundings of a workload, with these grants, for `timeout` at most.
///
/// # Errors
/// As [`run`].
pub fn run_plain(
    workload: &Workload,
    grants: &Grants,
    host: &Host,
    command: &[String],
    timeout: Duration,
) -> Result<Run> {
    let mut argv = plain_surroundings(workload);
    let cgroup = grants.rules.as_ref().map(|_| DeviceCgroup::new(grants)).transpose()?;
    if let Some(cgroup) = &cgroup {
        argv.extend(["sh", "-euc", "echo $$ >\"$0\"; exec \"$@\""].map(str::to_owned));
        argv.push(cgroup.0.join("cgroup.procs").to_string_lossy().into_owned());
    }
    // Taking capabilities out of the bounding set suffices for root; its exec then has no more than those.
    let drop: Vec<_> =
        host.plain.difference(&grants.capabilities).map(|cap| cap.name().to_lowercase()).collect();
    if !drop.is_empty() {
        argv.extend(["capsh".to_owned(), format!("--drop={}", drop.join(","))]);
        argv.extend(["--", "-c", "exec \"$0\" \"$@\""].map(str::to_owned));
    }
    argv.extend_from_slice(command);
    let run = finish(&argv, timeout)?;
    clean_up(workload)?;
    Ok(run)
}

/// A cgroup of the v1 devices controller; removed on drop.
struct DeviceCgroup(PathBuf);

impl DeviceCgroup {
    fn new(grants: &Grants) -> Result<Self> {
        let path = devices_hierarchy()?.join(unique_name());
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        let cgroup = Self(path);
        fs::write(cgroup.0.join("devices.deny"), "a").context("denying all devices")?;
        for rule in base_rules().chain(grants.rules.clone().unwrap_or_default()) {
            cgroup.allow(&rule.to_string())?;
        }
        if let crate::grants::Nodes::Devices(devices) = &grants.nodes {
            for device in devices {
                let minor = device.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
                let letter = device.kind.letter();
                cgroup.allow(&format!("{letter} {}:{minor} {}", device.major, device.access))?;
            }
        }
        Ok(cgroup)
    }

    fn allow(&self, rule: &str) -> Result<()> {
        fs::write(self.0.join("devices.allow"), rule).with_context(|| format!("allowing device `{rule}`"))
    }
}

impl Drop for DeviceCgroup {
    fn drop(&mut self) {
        // Killed processes leave a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where the v1 devices controller is mounted.
///
/// # Errors
/// It is not: then plain commands cannot be denied devices by files alone.
pub fn devices_hierarchy() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "devices"))
        .map(|fields| PathBuf::from(fields[1]))
        .context("no v1 devices cgroup is mounted here")
}

/// Runs a command to its end, or to the time limit, and ends what it leaves behind.
fn finish(argv: &[String], timeout: Duration) -> Result<Run> {
    let mut stdout = tempfile::tempfile().context("creating a temporary file")?;
    let mut stderr = tempfile::tempfile().context("creating a temporary file")?;
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("running {}", argv[0]))?;
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        thread::sleep(Duration::from_millis(3));
    };
    // The process group was made for this run, and holds nothing else.
    let group = format!("-{}", child.id());
    Command::new("kill")
        .args(["-KILL", "--", &group])
        .stderr(Stdio::null())
        .status()
        .context("running kill")?;
    if status.is_none() {
        child.wait()?;
    }
    Ok(Run { outcome: Outcome { status, stdout: read(&mut stdout)? }, stderr: read(&mut stderr)? })
}

fn read(file: &mut fs::File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
