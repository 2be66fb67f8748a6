//! Loading and attaching the programs, and saying who the workload is.

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, Map, MapData},
    programs::{BtfTracePoint, CgroupAttachMode, CgroupDevice},
};
use aya_log::EbpfLogger;
use probe_ebpf::{ABIS, Argument, CONTAINER_ID, Container, Offsets, STAGE_LAUNCHER, SYSCALLS, Task};
use rustix::thread::CapabilitySet;

use super::{
    kernel_log::{self, Talk},
    offsets, storage,
};
use crate::syscalls::Abi;

/// The kernel side, as `cargo xtask build-ebpf` made it from `probe-ebpf`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../ebpf/probe.bpf.o");

/// The tracepoints without which nothing can be recorded.
pub const REQUIRED_TRACEPOINTS: [&str; 6] = [
    "sys_enter",
    "cap_capable",
    "task_newtask",
    "sched_process_exec",
    "sched_process_exit",
    "cgroup_attach_task",
];

/// This host cannot record, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct HostCannot(anyhow::Error);

impl HostCannot {
    pub(super) fn new(error: anyhow::Error) -> Self {
        Self(error)
    }
}

/// What to attach beyond what every recording needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hooks {
    /// `sys_exit`, which sees calls fail and files of the kernel's file systems opened.
    pub failures: bool,
    /// Let the kernel side say what it does.
    pub verbose: bool,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainOffsets(Offsets);
// SAFETY: only u32 fields, without padding.
unsafe impl aya::Pod for PlainOffsets {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainContainer(Container);
// SAFETY: bytes and a u32 at a multiple of four, without padding.
unsafe impl aya::Pod for PlainContainer {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct ArgumentTable([u8; ABIS * SYSCALLS]);
// SAFETY: bytes.
unsafe impl aya::Pod for ArgumentTable {}

/// The kernel side, attached.
pub struct Probe {
    pub(super) ebpf: Ebpf,
    pub(super) log: EbpfLogger<Talk>,
    hooks: BTreeSet<String>,
    own: OwnedFd,
}

impl Probe {
    /// Loads and attaches everything; from then on tasks can be marked.
    ///
    /// # Errors
    ///
    /// Names what the kernel refused and the way out.
    pub fn attach(hooks: Hooks) -> Result<Self, HostCannot> {
        Self::try_attach(hooks).map_err(HostCannot)
    }

    fn try_attach(hooks: Hooks) -> Result<Self> {
        let offsets = PlainOffsets(offsets::read()?);
        let level = kernel_log::level(hooks.verbose);
        let btf = Btf::from_sys_fs().context("cannot parse this kernel's BTF")?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .override_global("OFFSETS", &offsets, true)
            .override_global("AYA_LOG_LEVEL", &level, true)
            .load(OBJECT)
            .map_err(|error| refused(&error.into(), "create the recorder's maps"))?;
        fill_arguments(&mut ebpf)?;
        let own = storage::pidfd(std::process::id()).context("cannot open a pidfd (Linux 5.3 or newer)")?;
        let log = kernel_log::listen(&mut ebpf)?;
        let mut probe = Self { ebpf, log, hooks: BTreeSet::new(), own };
        for name in REQUIRED_TRACEPOINTS {
            probe.tracepoint(name, &btf)?;
        }
        probe.tracepoint("cgroup_mkdir", &btf)?;
        if hooks.failures {
            probe.tracepoint("sys_exit", &btf)?;
        }
        probe.devices()?;
        Ok(probe)
    }

    /// The hooks that are live.
    #[must_use]
    pub fn hooks(&self) -> &BTreeSet<String> {
        &self.hooks
    }

    pub(super) fn add_hook(&mut self, name: &str) {
        self.hooks.insert(name.to_owned());
    }

    fn tracepoint(&mut self, name: &str, btf: &Btf) -> Result<()> {
        let program =
            self.ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load(name, btf).map_err(|error| missing_tracepoint(name, error))?;
        program
            .attach()
            .map_err(|error| refused(&error.into(), &format!("attach to the tracepoint {name}")))?;
        self.hooks.insert(format!("tp_btf/{name}"));
        Ok(())
    }

    fn devices(&mut self) -> Result<()> {
        let program =
            self.ebpf.program_mut("device").ok_or_else(|| anyhow!("the object has no program device"))?;
        let program: &mut CgroupDevice = program.try_into()?;
        program.load().map_err(|error| refused(&error.into(), "load the device program"))?;
        let root = cgroup2_root()?;
        let cgroup = File::open(&root).with_context(|| format!("cannot open {}", root.display()))?;
        // A link always shares the cgroup with others (cgroup_bpf_link_attach); the kernel refuses the flag
        // that would say so.
        program.attach(cgroup, CgroupAttachMode::Single).map_err(|error| {
            refused(&error.into(), &format!("attach a device program to {}", root.display()))
        })?;
        self.hooks.insert("cgroup/device".to_owned());
        Ok(())
    }

    /// Runs `spawn` on this thread, which must be the process's first; what it starts belongs to the
    /// workload from its `launches`-plus-first execve on.
    ///
    /// # Errors
    ///
    /// When this process cannot be marked, or `spawn` fails.
    pub fn spawn<T>(&self, launches: u32, spawn: impl FnOnce() -> Result<T>) -> Result<T> {
        let map = self.tasks()?;
        let ours = Task { stage: STAGE_LAUNCHER, launches, ..Task::default() };
        storage::set(map.fd().as_fd(), self.own.as_fd(), &ours).context("cannot mark the workload")?;
        let result = spawn();
        storage::remove(map.fd().as_fd(), self.own.as_fd()).context("cannot unmark unpriv itself")?;
        result
    }

    /// From now on, what an OCI runtime puts into the cgroup of this container belongs to the workload.
    ///
    /// # Errors
    ///
    /// When the id is not one that an engine gives.
    pub fn watch_container(&mut self, id: &str) -> Result<()> {
        let bytes: [u8; CONTAINER_ID] = match id.as_bytes().try_into() {
            Ok(bytes) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => bytes,
            _ => bail!("`{}` is not a full container id", id.escape_debug()),
        };
        let mut map: Array<&mut MapData, PlainContainer> = Array::try_from(
            self.ebpf.map_mut("CONTAINER").ok_or_else(|| anyhow!("the object has no CONTAINER"))?,
        )?;
        map.set(0, PlainContainer(Container { id: bytes, armed: 1 }), 0)?;
        Ok(())
    }

    fn tasks(&self) -> Result<&MapData> {
        match self.ebpf.map("TASKS") {
            Some(Map::Unsupported(map)) => Ok(map),
            _ => bail!("the object has no task storage"),
        }
    }
}

/// Where the unified cgroup hierarchy is mounted.
///
/// # Errors
///
/// When it is not.
pub fn cgroup2_root() -> Result<PathBuf> {
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        source.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    match found {
        Some(path) => Ok(PathBuf::from(path)),
        None => {
            bail!("no cgroup2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified` makes one")
        }
    }
}

fn missing_tracepoint(name: &str, error: aya::programs::ProgramError) -> anyhow::Error {
    use aya::programs::ProgramError;
    match error {
        ProgramError::Btf(_) if name == "cap_capable" => anyhow!(
            "this kernel has no tracepoint cap_capable (Linux 6.14 or newer has it): capabilities cannot be \
             recorded on it; `unpriv doctor` tells more"
        ),
        ProgramError::Btf(_) => anyhow!("this kernel has no tracepoint {name}; `unpriv doctor` tells more"),
        error => refused(&error.into(), &format!("load the program for the tracepoint {name}")),
    }
}

/// The end of a message: the verifier tells all that it looked at before it says what it does not like.
fn last_lines(message: &str) -> String {
    const LINES: usize = 6;
    let lines: Vec<&str> = message.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

/// Says why the kernel said no, as far as it can be known.
pub(super) fn refused(error: &anyhow::Error, what: &str) -> anyhow::Error {
    let not_permitted = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.raw_os_error() == Some(libc::EPERM));
    if !not_permitted {
        return anyhow!("the kernel refused to {what}: {}", last_lines(&format!("{error:#}")));
    }
    let missing = missing_capabilities();
    if missing.is_empty() {
        return anyhow!(
            "the kernel refused to {what}: {error:#}: unpriv records as root of the initial user namespace; \
             `unpriv doctor` tells what is missing"
        );
    }
    anyhow!(
        "cannot {what} without {}: run unpriv as root and with it, or with CAP_SYS_ADMIN",
        missing.join(", ")
    )
}

/// What recording needs and this process lacks; `CAP_SYS_ADMIN` stands for all of them (kernel/bpf/syscall.c,
/// `bpf_cap_init` and `bpf_prog_load`).
fn missing_capabilities() -> Vec<&'static str> {
    let Ok(sets) = rustix::thread::capabilities(None) else { return Vec::new() };
    if sets.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    ];
    needed.into_iter().filter(|(one, _)| !sets.effective.contains(*one)).map(|(_, name)| name).collect()
}

/// Which calls' arguments decide whether a capability check mattered.
fn fill_arguments(ebpf: &mut Ebpf) -> Result<()> {
    let mut table = [Argument::None as u8; ABIS * SYSCALLS];
    for (index, abi) in Abi::ALL.into_iter().enumerate() {
        for (number, name) in abi.syscalls() {
            let choice = match name {
                "setuid" | "setuid32" => Argument::SameUser,
                "setgid" | "setgid32" => Argument::SameGroup,
                "prctl" | "bpf" | "keyctl" | "unshare" | "clone" => Argument::First,
                "ioctl" | "fcntl" | "fcntl64" | "chmod" | "fchmod" | "setns" => Argument::Second,
                "fchmodat" | "fchmodat2" => Argument::Third,
                "setsockopt" => Argument::SecondAndThird,
                _ => continue,
            };
            if let Some(slot) = table.get_mut(index * SYSCALLS + number as usize) {
                *slot = choice as u8;
            }
        }
    }
    let mut map: Array<&mut MapData, ArgumentTable> =
        Array::try_from(ebpf.map_mut("ARGUMENTS").ok_or_else(|| anyhow!("the object has no ARGUMENTS"))?)?;
    map.set(0, ArgumentTable(table), 0)?;
    Ok(())
}
