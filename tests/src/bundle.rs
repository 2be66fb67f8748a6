//! Containers of programs that do next to nothing, by an OCI runtime alone, with a time limit for each step: for
//! want of a call a runtime may hang.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Calls that the programs in a bundle make, beyond the execve that starts them.
pub const OWN_CALLS: [&str; 2] = ["exit_group", "pause"];
/// What [`DONE`] exits with; neither runtime fails with it.
pub const STATUS: i32 = 42;
/// Waits for its end.
const STAY: &str = "stay";
/// Exits with [`STATUS`].
const DONE: &str = "done";

/// What a container's process is: what a runtime does after it loaded the filter depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Root with docker's default capabilities, by an absolute path.
    Root,
    /// Another user with ambient capabilities and a further group, found in PATH, elsewhere than in `/`.
    Other,
    /// As [`Self::Root`], with a terminal.
    Terminal,
}

impl Process {
    /// All.
    pub const ALL: [Self; 3] = [Self::Root, Self::Other, Self::Terminal];
}

/// Whoever has it is alone with what it starts: children of a container come to this process, and are waited for
/// without knowing them.
static ALONE: Mutex<()> = Mutex::new(());

/// A bundle directory, and the runtime that it is for. While a container of it lives, nothing else in this process
/// may wait for a child.
pub struct Bundle {
    directory: TempDir,
    runtime: PathBuf,
    /// For each step.
    limit: Duration,
}

impl Bundle {
    /// # Errors
    /// It cannot be written.
    pub fn new(runtime: &Path, limit: Duration) -> Result<Self> {
        // What a runtime leaves behind is ours to wait for: not every first process of a machine is quick at it, and
        // a container is not gone before all that was executed in it is.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let directory = tempfile::tempdir()?;
        let rootfs = directory.path().join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "tmp"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        for path in [directory.path(), &rootfs] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nother:x:1000:1000::/tmp:/bin/sh\n")?;
        fs::write(rootfs.join("etc/group"), "root:x:0:\nother:x:1000:\nmore:x:2000:other\n")?;
        // mov eax, pause; syscall; jmp to the start
        program(&rootfs, STAY, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7])?;
        // mov edi, STATUS; mov eax, exit_group; syscall
        let [status, ..] = STATUS.to_le_bytes();
        program(&rootfs, DONE, &[0xbf, status, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05])?;
        Ok(Self { directory, runtime: runtime.to_owned(), limit })
    }

    /// One container: made, started, its filter loaded and its program ended, in one command.
    ///
    /// # Errors
    /// It did not, in the runtime's words; or it took too long.
    pub fn run(&self, process: Process, no_new_privileges: bool, seccomp: &Value) -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let id = new_id();
        self.configure(&id, &process.specification(no_new_privileges, DONE), seccomp)?;
        let ended = self.ended("run", &[&id]);
        self.remove(&id)?;
        expect(ended?, STATUS)
    }

    /// The life that an engine gives a container: created, started, something executed in it, removed.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn live(&self, process: Process, no_new_privileges: bool, seccomp: &Value) -> Result<()> {
        let id = new_id();
        self.live_as(&id, process, no_new_privileges, seccomp)
    }

    /// [`Self::live`] with this id, which is also the name of the cgroup.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn live_as(
        &self,
        id: &str,
        process: Process,
        no_new_privileges: bool,
        seccomp: &Value,
    ) -> Result<()> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.configure(id, &process.specification(no_new_privileges, STAY), seccomp)?;
        let lived = self.steps(id, process, no_new_privileges);
        self.remove(id)?;
        lived
    }

    fn steps(&self, id: &str, process: Process, no_new_privileges: bool) -> Result<()> {
        let file = |name: &str| self.directory.path().join(name).to_string_lossy().into_owned();
        let (pid, socket, exec) = (file("pid"), file("console"), file("process.json"));
        // Nobody takes the terminal out of it, nor needs to.
        let console = (process == Process::Terminal).then(|| UnixListener::bind(&socket)).transpose()?;
        let console_socket: &[&str] = if console.is_some() { &["--console-socket", &socket] } else { &[] };
        let create = [&["--pid-file", &pid], console_socket, &[id]].concat();
        let result = self.ended("create", &create).and_then(|ended| {
            expect(ended, 0)?;
            expect(self.ended("start", &[id])?, 0)?;
            self.wait_for_program(&pid)?;
            fs::write(&exec, serde_json::to_vec(&process.specification(no_new_privileges, STAY))?)?;
            let options: &[&str] = &["--detach", "--process", &exec, "--pid-file", &pid];
            expect(self.ended("exec", &[options, console_socket, &[id]].concat())?, 0)?;
            self.wait_for_program(&pid)
        });
        if console.is_some() {
            fs::remove_file(&socket)?;
        }
        result
    }

    /// The runtime is done before that process is: it may hang, or die, between the two.
    fn wait_for_program(&self, pid_file: &str) -> Result<()> {
        let pid = fs::read_to_string(pid_file).context("the runtime wrote no pid file")?;
        let deadline = Instant::now() + self.limit;
        loop {
            match fs::read_link(format!("/proc/{}/exe", pid.trim())) {
                Ok(program) if program.ends_with(STAY) => return has_filter(pid.trim()),
                Ok(_) if Instant::now() > deadline => bail!("the program was not executed in time"),
                Ok(_) => thread::sleep(Duration::from_millis(1)),
                Err(_) => bail!("the process ended before its program began"),
            }
        }
    }

    fn configure(&self, id: &str, process: &Value, seccomp: &Value) -> Result<()> {
        let namespaces = ["mount", "pid", "ipc", "uts"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": process,
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] },
            ],
            "linux": { "cgroupsPath": format!("/{id}"), "namespaces": namespaces, "seccomp": seccomp },
        });
        Ok(fs::write(self.directory.path().join("config.json"), serde_json::to_vec(&config)?)?)
    }

    fn start(&self, verb: &str, arguments: &[&str]) -> Result<Child> {
        let directory = self.directory.path();
        let mut command = Command::new(&self.runtime);
        if is_hybrid() {
            // crun refuses a host with controllers in both versions of cgroups: it need not see version 2.
            command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", "umount /sys/fs/cgroup/unified && exec \"$@\"", "sh"]);
            command.arg(&self.runtime);
        }
        command
            .arg("--root")
            .arg(directory.join("state"))
            .arg(verb)
            .args(arguments)
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("stderr"))?)
            .spawn()
            .with_context(|| format!("cannot run {}", self.runtime.display()))
    }

    /// How a command of the runtime ended, and what it said.
    fn ended(&self, verb: &str, arguments: &[&str]) -> Result<Ended> {
        let mut child = self.start(verb, arguments)?;
        let deadline = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("`{verb}` hung");
            }
            thread::sleep(Duration::from_millis(1));
        };
        let words = fs::read(self.directory.path().join("stderr"))?;
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Ok(Ended { verb: verb.to_owned(), status, words })
    }

    /// Leaves nothing behind, whatever state the container is in.
    fn remove(&self, id: &str) -> Result<()> {
        end_all(id)?;
        // It may not have come so far that there is something to delete.
        drop(self.ended("delete", &["--force", id]));
        let state = self.directory.path().join("state");
        if state.exists() {
            fs::remove_dir_all(state)?;
        }
        for cgroup in cgroups(id)? {
            drop(fs::remove_dir(cgroup));
        }
        Ok(())
    }
}

/// `SECCOMP_MODE_FILTER` in `proc_pid_status(5)`.
fn has_filter(pid: &str) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(status.lines().any(|line| line == "Seccomp:\t2"), "the program has no filter");
    Ok(())
}

struct Ended {
    verb: String,
    status: ExitStatus,
    words: String,
}

fn expect(ended: Ended, status: i32) -> Result<()> {
    let Ended { verb, status: found, words } = ended;
    ensure!(found.code() == Some(status), "`{verb}` ended with {found}: {words}");
    Ok(())
}

impl Process {
    /// `process` of config.json, and process.json of `exec`.
    fn specification(self, no_new_privileges: bool, program: &str) -> Value {
        // docker's default ones (moby `daemon/pkg/oci/caps/defaults.go`).
        let defaults = [
            "CAP_AUDIT_WRITE",
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_FSETID",
            "CAP_KILL",
            "CAP_MKNOD",
            "CAP_NET_BIND_SERVICE",
            "CAP_NET_RAW",
            "CAP_SETFCAP",
            "CAP_SETGID",
            "CAP_SETPCAP",
            "CAP_SETUID",
            "CAP_SYS_CHROOT",
        ];
        let narrow = ["CAP_NET_BIND_SERVICE"];
        let environment = ["PATH=/usr/bin:/bin"];
        match self {
            Self::Root | Self::Terminal => json!({
                "terminal": self == Self::Terminal,
                "user": { "uid": 0, "gid": 0 },
                "args": [format!("/bin/{program}")],
                "env": environment,
                "cwd": "/",
                "noNewPrivileges": no_new_privileges,
                "capabilities": { "bounding": defaults, "permitted": defaults, "effective": defaults },
            }),
            Self::Other => json!({
                "user": { "uid": 1000, "gid": 1000, "additionalGids": [2000] },
                "args": [program],
                "env": environment,
                "cwd": "/tmp",
                "noNewPrivileges": no_new_privileges,
                "capabilities": {
                    "bounding": narrow, "permitted": narrow, "effective": narrow, "inheritable": narrow, "ambient": narrow,
                },
            }),
        }
    }
}

/// A container id as engines give them, unlike any other on this machine.
#[must_use]
pub fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{:032x}{:032x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A static ELF program for x86-64, elf(5), with this code.
fn program(rootfs: &Path, name: &str, code: &[u8]) -> Result<()> {
    const BASE: u64 = 0x0040_0000;
    const HEADERS: u64 = 64 + 56;
    let length = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // Executable, EM_X86_64, version 1; entry, program headers, no section headers.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable: all of the file.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    let path = rootfs.join("bin").join(name);
    fs::write(&path, file)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Whether there are both versions of cgroups, and controllers in version 2.
fn is_hybrid() -> bool {
    fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").is_ok_and(|text| !text.trim().is_empty())
}

/// The cgroups of that name, in whichever hierarchies there are.
fn cgroups(id: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = vec![root.join(id)];
    for entry in fs::read_dir(root)? {
        found.push(entry?.path().join(id));
    }
    found.retain(|cgroup| cgroup.is_dir());
    Ok(found)
}

/// Ends all that is left in a container, also what a runtime that was killed left hanging in its set-up, and waits
/// until this process has no children.
fn end_all(id: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left = false;
        for cgroup in cgroups(id)? {
            let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            for process in processes.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)) {
                left = true;
                // It may be gone by now.
                kill_process(process, Signal::KILL).unwrap_or_default();
            }
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if !left && matches!(wait(WaitOptions::NOHANG), Err(Errno::CHILD)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "processes in the cgroup {id} cannot be ended");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The version of a runtime, as it prints it; `None` when it is not installed.
#[must_use]
pub fn version(runtime: &Path) -> Option<String> {
    unpriv::workload::answers::runtime_version(runtime.to_str()?)
}
