//! One machine: its QEMU, from power on to power off.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Shape, disk,
    kernel::Kernel,
    packages::{Host, is_program},
    payload::Payload,
};
use crate::command::output;

const STAGE2: &str = include_str!("stage2.sh");
/// MiB for what comes back; sparse.
const OUTPUT_SIZE: u64 = 1024;
/// QEMU before 10 loses races between two processors when the guest's kernel patches its own code ("Oops: int3").
const SAFE_QEMU: u32 = 10;
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic softlockup_panic=1 \
    watchdog_thresh=30 mitigations=off random.trust_cpu=on lsm=landlock,lockdown,yama,integrity,apparmor,bpf";
/// How often what a machine writes is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// A machine to be.
pub(crate) struct Machine<'a> {
    pub(crate) host: &'a Host,
    pub(crate) kernel: &'a Kernel,
    pub(crate) root: &'a Path,
    pub(crate) shape: Shape,
    /// What it writes on the root disk stays there.
    pub(crate) writable: bool,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The command's exit status.
    Exit(u8),
    /// It did not end in time.
    TimedOut,
    /// It ended without one; the end of what it said.
    Died(String),
}

impl Machine<'_> {
    /// Boots, runs a shell script with what it writes passed on, reads back the files of /out, and powers off.
    pub(crate) fn run(&self, payload: &Payload, script: &str, files: Option<&Path>) -> Result<Outcome> {
        let scratch =
            tempfile::tempdir_in(self.host.cached("")).context("make a directory for the machine")?;
        let path = |name: &str| scratch.path().join(name);
        self.initramfs(&path("initramfs"), &path("stage"), script)?;
        disk::ext4(Some(payload.path()), &path("payload"), disk::size_of(payload.path())?)?;
        disk::ext4(None, &path("out"), OUTPUT_SIZE)?;
        let mut streams = Vec::new();
        for name in ["console", "stdout", "stderr", "status"] {
            File::create(path(name)).with_context(|| format!("make the machine's {name}"))?;
        }
        streams.push(Follower::open(&path("stdout"), Sink::Stdout)?);
        streams.push(Follower::open(&path("stderr"), Sink::Stderr)?);
        streams.push(Follower::open(&path("console"), Sink::Talk)?);
        let errors = File::create(path("qemu")).context("make a file for QEMU's errors")?;
        let mut qemu = self.qemu(scratch.path())?;
        let child =
            qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().context("run QEMU")?;
        let ended = wait(child, self.shape.limit(), &mut streams)?;
        if let Some(files) = files {
            disk::read_back(&path("out"), files)?;
        }
        let status = fs::read_to_string(path("status")).context("read the machine's status")?;
        Ok(match (status.trim().parse(), ended) {
            (Ok(code), _) => Outcome::Exit(code),
            (Err(_), None) => Outcome::TimedOut,
            (Err(_), Some(_)) => Outcome::Died(last_words(&path("qemu"), &path("console"))),
        })
    }

    fn initramfs(&self, to: &Path, stage: &Path, script: &str) -> Result<()> {
        fs::create_dir(stage).context("make the machine's own files")?;
        let settings =
            format!("CGROUP={}\nKEEP_ROOT={}\n", self.shape.cgroup.name(), u8::from(self.writable));
        for (name, text) in [("stage2", STAGE2), ("settings", &settings), ("command", script)] {
            fs::write(stage.join(name), text).with_context(|| format!("write {name}"))?;
        }
        fs::copy(self.kernel.initramfs(), to).context("copy the initramfs")?;
        let mut file = File::options().append(true).open(to).context("open the initramfs")?;
        disk::archive(stage, &mut file)
    }

    fn qemu(&self, scratch: &Path) -> Result<Command> {
        let (mut command, version) = emulator(self.host)?;
        let processors = if version >= SAFE_QEMU { self.shape.processors } else { 1 };
        let file = |name: &str| scratch.join(name).display().to_string();
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max,-la57"])
            .args(["-smp", &processors.to_string(), "-m", &self.shape.memory.to_string()])
            .arg("-kernel")
            .arg(self.kernel.image())
            .args(["-initrd", &file("initramfs"), "-append", KERNEL_COMMAND_LINE])
            .args([
                "-chardev",
                &format!("file,id=console,path={}", file("console")),
                "-serial",
                "chardev:console",
            ])
            .args(["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]);
        for port in ["stdout", "stderr", "status"] {
            command.args(["-chardev", &format!("file,id={port},path={}", file(port))]);
            command.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        let root = self.root.display().to_string();
        let modules = self.kernel.modules().display().to_string();
        // By their place on the bus they are vda to vdd.
        for (place, (path, options)) in (16..).zip([
            (root, if self.writable { "cache=unsafe" } else { "snapshot=on" }),
            (modules, "readonly=on"),
            (file("payload"), "readonly=on"),
            (file("out"), "cache=unsafe"),
        ]) {
            command.args(["-drive", &format!("file={path},format=raw,if=none,id=disk{place},{options}")]);
            command.args(["-device", &format!("virtio-blk-pci,drive=disk{place},addr={place:x}")]);
        }
        Ok(command)
    }
}

/// Waits for QEMU's end, or ends it; `None` when it took too long.
fn wait(mut child: Child, limit: Duration, streams: &mut [Follower]) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let status = loop {
        for stream in streams.iter_mut() {
            stream.pass_on()?;
        }
        if let Some(status) = child.try_wait().context("wait for QEMU")? {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill().context("end QEMU")?;
            child.wait().context("wait for QEMU")?;
            break None;
        }
        thread::sleep(PAUSE);
    };
    for stream in streams {
        stream.pass_on()?;
    }
    Ok(status)
}

enum Sink {
    Stdout,
    Stderr,
    /// Lines that a machine says of itself, to standard error; the kernel's are left out.
    Talk,
}

/// Passes on what is appended to a file.
struct Follower {
    file: File,
    sink: Sink,
    rest: Vec<u8>,
}

impl Follower {
    fn open(path: &Path, sink: Sink) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file, sink, rest: Vec::new() })
    }

    fn pass_on(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).context("read what the machine wrote")?;
        if bytes.is_empty() {
            return Ok(());
        }
        // A closed pipe is no failure of the machine's.
        match self.sink {
            Sink::Stdout => drop(std::io::stdout().write_all(&bytes)),
            Sink::Stderr => drop(std::io::stderr().write_all(&bytes)),
            Sink::Talk => {
                self.rest.extend(bytes);
                while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = self.rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    if let Some(at) = line.find("vm: ") {
                        eprintln!("{}", line[at..].trim_end());
                    }
                }
            }
        }
        Ok(())
    }
}

fn last_words(qemu: &Path, console: &Path) -> String {
    const LINES: usize = 30;
    let text =
        |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let console = text(console);
    let lines: Vec<&str> = console.lines().collect();
    format!("{}{}", text(qemu), lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

/// QEMU and its major version: this machine's, or a newer one that is unpacked beside it.
fn emulator(host: &Host) -> Result<(Command, u32)> {
    const NAME: &str = "qemu-system-x86_64";
    if !is_program(NAME) {
        bail!("{NAME} is missing: apt-get install qemu-system-x86");
    }
    let own = major_version(&mut Command::new(NAME))?;
    // It ends when the thread that started it does, however that ends.
    let start = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "--"]).arg(program);
        command
    };
    if own >= SAFE_QEMU {
        return Ok((start(NAME.as_ref()), own));
    }
    let directory = host.cached("qemu");
    if !directory.exists() {
        let part = host.empty("qemu.part")?;
        let packages = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
        host.suite("bookworm-backports")?.unpack(&packages.map(str::to_owned), &part)?;
        fs::rename(&part, &directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let newer = || {
        let mut command = start(&directory.join("usr/bin").join(NAME));
        command.env("QEMU_MODULE_DIR", directory.join("usr/lib/x86_64-linux-gnu/qemu"));
        command.arg("-L").arg(directory.join("usr/share/qemu"));
        command.arg("-L").arg(directory.join("usr/share/seabios"));
        command
    };
    // It uses the libraries of the installed one, which are not the same everywhere.
    match major_version(&mut newer()) {
        Ok(version) => Ok((newer(), version)),
        Err(_) => Ok((start(NAME.as_ref()), own)),
    }
}

/// `10` of `QEMU emulator version 10.0.2 (…)`.
fn major_version(qemu: &mut Command) -> Result<u32> {
    let text = output(qemu.arg("--version"))?;
    let version = text.split(' ').nth(3).and_then(|version| version.split('.').next()?.parse().ok());
    version.with_context(|| format!("cannot read QEMU's version: {}", text.trim()))
}
