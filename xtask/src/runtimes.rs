//! What OCI runtimes call between loading a seccomp filter and executing the entrypoint, measured: recorded in many
//! starts, and then taken away, one call at a time.

mod candidates;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::bundle::{Bundle, OWN_CALLS, Process, new_id, version};
use serde_json::{Value, json};
use unpriv::{
    emit::seccomp::{RuntimeNeeds, release},
    probe::{Hooks, Probe},
};

/// A start takes a tenth of a second; one that is this late waits for what it was denied.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The runtimes' programs; without any, the runc and the crun in PATH. One of another release of a distribution
    /// need not be installed: patchelf(1) tells it where its unpacked libraries are
    runtimes: Vec<PathBuf>,
    /// Recorded starts of each runtime, with no-new-privileges and without
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Starts without each call that was recorded, before it is held to be dispensable
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// Where the files go; profiles/runtimes of this tree if not given
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let output = arguments.output.clone().unwrap_or_else(|| crate::workspace().join("profiles/runtimes"));
    let installed = ["runc", "crun"].map(PathBuf::from);
    let runtimes = if arguments.runtimes.is_empty() { &installed[..] } else { &arguments.runtimes };
    for program in runtimes {
        for no_new_privileges in [false, true] {
            let runtime = Runtime::new(program, no_new_privileges)?;
            let needs =
                runtime.measure(arguments).with_context(|| format!("measure {}", runtime.name_of_file()))?;
            let mut text = serde_json::to_vec_pretty(&needs)?;
            text.push(b'\n');
            let file = output.join(runtime.name_of_file());
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
    }
    Ok(())
}

/// One runtime, under one of the two orders in which it loads the filter.
struct Runtime {
    name: String,
    version: String,
    /// All that it says of its own build.
    build: String,
    bundle: Bundle,
    no_new_privileges: bool,
}

impl Runtime {
    fn new(program: &Path, no_new_privileges: bool) -> Result<Self> {
        let version = version(program).with_context(|| format!("{} tells no version", program.display()))?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = Command::new(program).arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let build = text.lines().filter(|line| !line.starts_with("rundir")).collect::<Vec<_>>().join(", ");
        let version = release(&version).to_owned();
        // It is run in another directory; a bare name is looked up in PATH.
        let program = if program.components().count() > 1 { &std::path::absolute(program)? } else { program };
        let bundle = Bundle::new(program, LIMIT)?;
        Ok(Self { name, version, build, bundle, no_new_privileges })
    }

    fn name_of_file(&self) -> String {
        let suffix = if self.no_new_privileges { "-nnp" } else { "" };
        format!("{}-{}{suffix}.json", self.name, self.version)
    }

    fn measure(&self, arguments: &Arguments) -> Result<RuntimeNeeds> {
        let &Arguments { runs, starts, .. } = arguments;
        let seen = self.record(runs)?;
        let mut occasional = candidates::of_go(&self.build);
        occasional.retain(|name, _| !seen.contains_key(name));
        let all: BTreeSet<&str> = seen.keys().chain(occasional.keys()).map(String::as_str).collect();
        self.survives(starts, &allowing(&all, None)).context("with all of it allowed")?;
        let (mut required, mut tolerated) = (BTreeSet::new(), BTreeSet::new());
        for name in seen.keys() {
            let mut rest = all.clone();
            rest.remove(name.as_str());
            let errnos = [libc::ENOSYS, libc::EPERM];
            let failure = errnos
                .into_iter()
                .find_map(|errno| self.survives(starts, &allowing(&rest, Some(errno))).err());
            let list = if failure.is_some() { &mut required } else { &mut tolerated };
            list.insert(name.clone());
            let why = failure.map_or_else(|| "starts".to_owned(), |error| format!("{error:#}"));
            let why = why.lines().next().unwrap_or_default();
            eprintln!("xtask: {} without {name}: {why}", self.name_of_file());
        }
        let system = rustix::system::uname();
        let [kernel, machine] = [system.release(), system.machine()].map(|text| text.to_string_lossy());
        Ok(RuntimeNeeds {
            runtime: self.name.clone(),
            version: self.version.clone(),
            measured_on: format!("Linux {}, {machine}", release(&kernel)),
            no_new_privileges: self.no_new_privileges,
            required,
            tolerated,
            occasional,
            runs,
            seen,
            sources: vec![
                format!("cargo xtask runtimes, {}", self.build),
                format!(
                    "`seen`: in how many of {runs} lives of a container (create, start, exec, delete), in turn as \
                     root, as another user, with a terminal"
                ),
                format!(
                    "`required`: a life of up to {starts} failed or hung without it, be it that it was answered with \
                     ENOSYS or with EPERM; `tolerated`: all succeeded"
                ),
            ],
        })
    }

    /// In how many starts the recorder saw each call.
    fn record(&self, runs: u32) -> Result<BTreeMap<String, u32>> {
        let mut seen = BTreeMap::new();
        let everything = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            // Without any rule there might be no filter.
            "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM }],
        });
        for (_, process) in (0..runs).zip(Process::ALL.into_iter().cycle()) {
            let id = new_id();
            let mut probe = Probe::attach(Hooks::default())?;
            probe.watch_container(&id)?;
            self.bundle.live_as(&id, process, self.no_new_privileges, &everything)?;
            let trace = probe.recording()?.trace;
            ensure!(trace.runtime_syscalls.contains("execve"), "no filter was seen to be loaded");
            ensure!(trace.lost.is_empty(), "{:?}", trace.lost);
            for name in trace.runtime_syscalls {
                *seen.entry(name).or_default() += 1;
            }
        }
        Ok(seen)
    }

    /// That many lives under a filter.
    fn survives(&self, starts: u32, seccomp: &Value) -> Result<()> {
        for (_, process) in (0..starts).zip(Process::ALL.into_iter().cycle()) {
            self.bundle.live(process, self.no_new_privileges, seccomp)?;
        }
        Ok(())
    }
}

/// Lets through these and what the bundle's programs call; all else gets an errno, or ends the process.
fn allowing(names: &BTreeSet<&str>, errno: Option<i32>) -> Value {
    let names: Vec<&str> = names.iter().copied().chain(OWN_CALLS).collect();
    let mut seccomp = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
    });
    if let Some(errno) = errno {
        seccomp["defaultAction"] = "SCMP_ACT_ERRNO".into();
        seccomp["defaultErrnoRet"] = errno.into();
    }
    seccomp
}
