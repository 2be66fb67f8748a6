//! Loading and attaching the programs, and saying who the workload is.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::Program,
};
use aya_log::EbpfLogger;
use probe_ebpf::{ABIS, Argument, CONTAINER_ID, Container, Offsets, STAGE_LAUNCHER, SYSCALLS, Task};
use rustix::thread::CapabilitySet;

use super::{
    direct,
    hooks::{self, Fact, HookSet, Refused},
    kernel_log::{self, Talk},
    memory_limit::MemoryLimit,
    object, offsets,
    preemption::{self, Preemption},
    status::Status,
    storage::{self, TaskMap},
};
use crate::syscalls::Abi;

/// The tracepoints without which nothing can be recorded.
pub const REQUIRED_TRACEPOINTS: [&str; 5] =
    ["sys_enter", "task_newtask", "sched_process_exec", "sched_process_exit", "cgroup_attach_task"];

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
    /// Attach to a container that runs already, [`Probe::attach_container`].
    pub attach: bool,
    /// Which of the kernel's hooks.
    pub set: HookSet,
    /// Where who belongs to the workload is kept.
    pub tasks: TaskMap,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainOffsets(Offsets);
// SAFETY: only u32 fields, without padding.
unsafe impl aya::Pod for PlainOffsets {}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PlainContainer(pub(super) Container);
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
    pub(super) status: Status,
    /// What the kernel skipped before there was a workload.
    pub(super) skipped_before: BTreeMap<String, u64>,
    hooks: BTreeMap<Fact, Vec<String>>,
    preempted: BTreeSet<Fact>,
    pub(super) own: OwnedFd,
    pub(super) task_map: TaskMap,
    /// Tasks of the workload may do their work by threads of the kernel, which do not belong to it.
    pub(super) foreign_workers: bool,
    /// Names of the kernel's addresses that were looked up.
    pub(super) kernel_names: RefCell<BTreeMap<u64, String>>,
}

impl Drop for Probe {
    /// Each program's end waits until no processor runs it any more (`synchronize_rcu_tasks`, for trampolines): all
    /// of them together wait as long as one.
    fn drop(&mut self) {
        std::thread::scope(|threads| {
            for (_, program) in self.ebpf.programs_mut().filter(|(_, program)| program.fd().is_ok()) {
                threads.spawn(|| match program {
                    Program::BtfTracePoint(program) => program.unload(),
                    Program::FEntry(program) => program.unload(),
                    Program::FExit(program) => program.unload(),
                    Program::KProbe(program) => program.unload(),
                    Program::TracePoint(program) => program.unload(),
                    // Its own drop does the same.
                    _ => Ok(()),
                });
            }
        });
    }
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
        let _limit = MemoryLimit::raise();
        let task_map = hooks.tasks.choose();
        let types = offsets::kernel_types()?;
        let offsets = PlainOffsets(offsets::read(&types)?);
        let level = kernel_log::level(hooks.verbose);
        let btf = Btf::from_sys_fs().context("cannot parse this kernel's BTF")?;
        let hashed = task_map == TaskMap::Hash;
        let task_stack = if hashed { offsets::field(&types, "task_struct", "stack")? } else { 0 };
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .override_global("OFFSETS", &offsets, true)
            .override_global("LEAST_ADDRESS", &direct::least_address(), true)
            .override_global("ATTACHES", &u32::from(hooks.attach), true)
            .override_global("AYA_LOG_LEVEL", &level, true)
            .override_global("TASK_STACK", &task_stack, hashed)
            .load(task_map.object())
            .map_err(|error| refused(&error.into(), "create the recorder's maps"))?;
        fill_arguments(&mut ebpf)?;
        let own = storage::pidfd(std::process::id()).context("cannot open a pidfd (Linux 5.3 or newer)")?;
        let log = kernel_log::listen(&mut ebpf)?;
        let status = Status::map(&ebpf)?;
        let mut probe = Self {
            ebpf,
            log,
            status,
            skipped_before: BTreeMap::new(),
            hooks: BTreeMap::new(),
            preempted: BTreeSet::new(),
            own,
            task_map,
            foreign_workers: hashed && !offsets::has_own_io_workers(&types),
            kernel_names: RefCell::default(),
        };
        let mut preemption = Preemption::default();
        if hashed {
            probe.prepare_hash()?;
        }
        // Before Linux 5.12, which counts it, the kernel skips no programs of trampolines and BTF tracepoints
        // (`__bpf_prog_enter`), but those of kprobes and trace events all the same (`trace_call_bpf`).
        if !hashed || probe.counts_skipped() {
            preemption = preemption::ask(&types);
        }
        for fact in Fact::ALL {
            if fact == Fact::Failures && !hooks.failures {
                continue;
            }
            let (kind, mut names) = hooks::attach(&mut probe.ebpf, &btf, fact, hooks.set, preemption)
                .map_err(|errors| no_way(fact, errors))?;
            if fact == Fact::Capabilities {
                names.extend(probe.attach_direct(&btf, kind)?);
            }
            if kind.is_preempted(fact, preemption) {
                probe.preempted.insert(fact);
            }
            probe.hooks.insert(fact, names);
        }
        probe.skipped_before = probe.skipped();
        Ok(probe)
    }

    /// The hooks that are live.
    #[must_use]
    pub fn hooks(&self) -> BTreeSet<String> {
        self.hooks.values().flatten().cloned().collect()
    }

    /// Adds one that shows who belongs to a container.
    pub(super) fn add_hook(&mut self, name: &str) {
        self.hooks.entry(Fact::Containers).or_default().push(name.to_owned());
    }

    /// The same, by what they show.
    #[must_use]
    pub fn hooks_by_fact(&self) -> &BTreeMap<Fact, Vec<String>> {
        &self.hooks
    }

    /// Where who belongs to the workload is kept.
    #[must_use]
    pub fn task_map(&self) -> TaskMap {
        self.task_map
    }

    /// What the kernel may miss now and then by these hooks, and count, because it preempts their programs.
    #[must_use]
    pub fn preempted(&self) -> &BTreeSet<Fact> {
        &self.preempted
    }

    /// Runs `spawn` on this thread, which must be the process's first; what it starts belongs to the
    /// workload from its `launches`-plus-first execve on.
    ///
    /// # Errors
    ///
    /// When this process cannot be marked, or `spawn` fails.
    pub fn spawn<T>(&self, launches: u32, spawn: impl FnOnce() -> Result<T>) -> Result<T> {
        let ours = Task { stage: STAGE_LAUNCHER, launches, ..Task::default() };
        self.mark(&ours).context("cannot mark the workload")?;
        let result = spawn();
        self.unmark().context("cannot unmark unpriv itself")?;
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
        let mut map: Array<&mut MapData, PlainContainer> =
            Array::try_from(object::map_mut(&mut self.ebpf, "CONTAINER")?)?;
        map.set(0, PlainContainer(Container { id: bytes, armed: 1 }), 0)?;
        Ok(())
    }
}

/// Why a kind of fact cannot be recorded.
pub(super) fn no_way(fact: Fact, errors: Vec<Refused>) -> anyhow::Error {
    let reasons: Vec<String> = errors
        .into_iter()
        .map(|Refused { hook, error }| {
            if is_not_permitted(&error) {
                format!("{:#}", refused(&error, &format!("attach to {hook}")))
            } else {
                format!("{hook}: {}", last_lines(&format!("{error:#}")))
            }
        })
        .collect();
    anyhow!("{} cannot be recorded here: {}", fact.name(), reasons.join("; "))
}

/// The end of a message: the verifier tells all that it looked at before it says what it does not like.
fn last_lines(message: &str) -> String {
    const LINES: usize = 6;
    let lines: Vec<&str> = message.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

fn is_not_permitted(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.raw_os_error() == Some(libc::EPERM))
}

/// Says why the kernel said no, as far as it can be known.
pub(super) fn refused(error: &anyhow::Error, what: &str) -> anyhow::Error {
    if !is_not_permitted(error) {
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
                "prctl" | "bpf" | "keyctl" | "unshare" | "clone" | "fanotify_init" => Argument::First,
                "ioctl" | "fcntl" | "fcntl64" | "chmod" | "fchmod" | "setns" | "fanotify_mark" => {
                    Argument::Second
                }
                "fchmodat" | "fchmodat2" => Argument::Third,
                "setxattr" | "lsetxattr" | "fsetxattr" => Argument::Fourth,
                "setsockopt" => Argument::SecondAndThird,
                "perf_event_open" => Argument::PerfFlags,
                _ => continue,
            };
            if let Some(slot) = table.get_mut(index * SYSCALLS + number as usize) {
                *slot = choice as u8;
            }
        }
    }
    let mut map: Array<&mut MapData, ArgumentTable> = Array::try_from(object::map_mut(ebpf, "ARGUMENTS")?)?;
    map.set(0, ArgumentTable(table), 0)?;
    Ok(())
}
