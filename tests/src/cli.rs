//! Runs the built `unpriv` as a user does, and holds what it says against the rules for all that it says.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    grants::{Grants, Host, IMAGE},
    workload::Form,
};

/// Longer than anything here takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The binary that cargo built beside this test.
///
/// # Errors
/// It was not built.
pub fn unpriv_binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // In the lab's machines all programs are in one directory.
    let beside = this.with_file_name("unpriv");
    if beside.is_file() {
        return Ok(beside);
    }
    let path = this.ancestors().nth(2).context("no target directory")?.join("unpriv");
    ensure!(path.is_file(), "{} is missing: run `cargo build` first", path.display());
    Ok(path)
}

/// `docker run --rm` with all that this machine can give, these options, the test image and a command.
///
/// # Errors
/// The docker daemon does not answer.
pub fn docker_line(options: &[&str], command: &[&str]) -> Result<Vec<String>> {
    static PRIVILEGED: OnceLock<Vec<String>> = OnceLock::new();
    let privileged = if let Some(options) = PRIVILEGED.get() {
        options
    } else {
        let all = Grants::everything(&Host::probe()?, Form::Docker).docker_options();
        PRIVILEGED.get_or_init(|| all)
    };
    let mut line = ["docker", "run", "--rm"].map(str::to_owned).to_vec();
    line.extend_from_slice(privileged);
    line.extend(options.iter().map(|&option| option.to_owned()));
    line.push(IMAGE.to_owned());
    line.extend(command.iter().map(|&word| word.to_owned()));
    Ok(line)
}

/// A container name of this process's own.
#[must_use]
pub fn container_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("unpriv-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether there is a container of this name, running or not.
///
/// # Errors
/// docker cannot be run.
pub fn container_exists(name: &str) -> Result<bool> {
    let filter = format!("name=^/{name}$");
    let done = Command::new("docker").args(["ps", "--all", "--quiet", "--filter", &filter]).output()?;
    ensure!(done.status.success(), "docker ps: {}", String::from_utf8_lossy(&done.stderr));
    Ok(!done.stdout.is_empty())
}

/// What a run of `unpriv` ended with.
#[derive(Debug)]
pub struct Said {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Holds it against an exit status, and against what its standard error has to tell.
    ///
    /// # Errors
    /// It is otherwise.
    pub fn expect(self, code: i32, words: &[&str]) -> Result<Self> {
        ensure!(self.status.code() == Some(code), "{}, not exit status {code}: {self:#?}", self.status);
        for word in words {
            ensure!(self.stderr.contains(word), "`{word}` is not said: {self:#?}");
        }
        ensure!(code == 0 || !words.is_empty(), "a failure has to say something");
        self.fit_to_print()
    }

    /// No control characters but line breaks, nothing that only a developer can read.
    ///
    /// # Errors
    /// There are.
    pub fn fit_to_print(self) -> Result<Self> {
        for text in [&self.stdout, &self.stderr] {
            let control = text.chars().find(|&character| character.is_control() && character != '\n');
            ensure!(control.is_none(), "{control:?} is printed: {self:#?}");
        }
        for word in ["panicked", "backtrace", "Err(", "Some(", "Os {", "Error {", "None)"] {
            ensure!(!self.stderr.contains(word), "`{word}` is said: {self:#?}");
        }
        for line in self.stderr.lines().filter_map(|line| line.strip_prefix("unpriv: ")) {
            let start = line.chars().next().unwrap_or(' ');
            ensure!(!start.is_uppercase() && !line.ends_with('.'), "not our style: {line}");
        }
        Ok(self)
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {self:#?}"))
    }
}

/// A directory of a test's own, to run `unpriv` in.
#[derive(Debug)]
pub struct Cli {
    directory: TempDir,
    binary: PathBuf,
}

impl Cli {
    /// An empty one.
    ///
    /// # Errors
    /// It cannot be made, or `unpriv` was not built.
    pub fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, binary: unpriv_binary()? })
    }

    /// A file in it.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn files(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(self.directory.path())? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// A file in it as JSON.
    ///
    /// # Errors
    /// It is none, or missing.
    pub fn json(&self, name: &str) -> Result<Value> {
        let text = fs::read(self.path(name)).with_context(|| format!("reading {name}"))?;
        serde_json::from_slice(&text).with_context(|| format!("{name} is no JSON"))
    }

    /// A copy of a program, of another name.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copy(&self, program: &str, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        fs::copy(program, self.path(name))
            .with_context(|| format!("copying {program} to {}", name.display()))?;
        Ok(())
    }

    /// `unpriv` with these arguments, in the directory and without input.
    pub fn unpriv(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.command(&self.binary);
        command.args(arguments);
        command
    }

    /// Any program, which finds `unpriv` in `PATH`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut search =
            self.binary.parent().map_or_else(Default::default, |path| path.as_os_str().to_owned());
        search.push(":");
        search.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.current_dir(self.directory.path()).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
        // A group of its own: Ctrl-C is for all of it, and for nothing else.
        command.env("PATH", search).process_group(0);
        command
    }

    /// Runs `unpriv` to its end.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Said> {
        finish(&mut self.unpriv(arguments))
    }

    /// Runs `unpriv VERB OPTIONS -- COMMAND` to its end.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn with_command(&self, options: &[&str], command: &[impl AsRef<OsStr>]) -> Result<Said> {
        finish(self.unpriv(options).arg("--").args(command))
    }

    /// Waits until a file is there.
    ///
    /// # Errors
    /// It does not come.
    pub fn wait_for(&self, name: &str) -> Result<()> {
        let end = Instant::now() + TIMEOUT;
        while !self.path(name).exists() {
            ensure!(Instant::now() < end, "{name} does not come");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Starts a command whose end [`ended`] waits for.
///
/// # Errors
/// It cannot be started.
pub fn start(command: &mut Command) -> Result<Child> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))
}

/// Waits for a child to end.
///
/// # Errors
/// It does not.
pub fn ended(child: Child) -> Result<Said> {
    let done = child.wait_with_output()?;
    let text = |bytes| String::from_utf8(bytes).context("not UTF-8");
    Ok(Said { status: done.status, stdout: text(done.stdout)?, stderr: text(done.stderr)? })
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run.
pub fn finish(command: &mut Command) -> Result<Said> {
    ended(start(command)?)
}

/// Sends a signal to a child, or to its whole process group as a terminal does.
///
/// # Errors
/// There is no such process.
pub fn send(signal: &str, child: &Child, group: bool) -> Result<()> {
    let target = if group { format!("-{}", child.id()) } else { child.id().to_string() };
    let status = Command::new("kill").args([&format!("-{signal}"), "--", &target]).status()?;
    if !status.success() {
        bail!("cannot send {signal} to {target}");
    }
    Ok(())
}
