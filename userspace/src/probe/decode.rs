//! From the maps' bytes to the facts of a trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use anyhow::Result;
use aya::{
    Pod,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use probe_ebpf::{
    ABIS, CREDENTIAL_ACCESS, CREDENTIAL_OVERRIDDEN, CREDENTIAL_OWN, CapabilityKey, CapabilitySetKey, Counts,
    DeviceKey, ExecEvent, FailureKey, NAMESPACE_CHILD, NAMESPACE_OWNER, NO_SYSCALL, OPTION_IN_SET_ID,
    OPTION_NO_AUDIT, OPTIONS_UNKNOWN, PATH, PROGRAM_OTHER, PROGRAM_RUNTIME, ProgramPath, SET_AMBIENT_RAISE,
    SET_CAPSET, SYSCALLS, Seen, status,
};

use tokio::io::unix::AsyncFd;

use super::{hooks::Fact, load::Probe, object, symbols};
use crate::{
    capability::Capability,
    errno,
    syscalls::Abi,
    trace::{
        Access, Argument, CapabilityCheck, CapabilityRequest, CapabilitySetChange, Credential, DeviceAccess,
        DeviceType, Failure, Loss, Namespace, Program, RUNTIME, SyscallUse, Trace,
    },
};

/// What evidence calls the programs beyond the ones that can be told apart.
pub(super) const OTHER_PROGRAMS: &str = "(other programs)";

/// What a call that returns from a signal handler looks like: `restore_sigcontext` (x86) sets `orig_ax` to -1, here
/// without the bit of x32, and the result to what the interrupted code had in that register.
const NO_CALL: u32 = !0x4000_0000;

macro_rules! plain {
    ($($wrapper:ident($inner:ty)),+ $(,)?) => {$(
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(super) struct $wrapper(pub(super) $inner);
        // SAFETY: whole numbers and arrays of them; the layout has no padding (sizes are asserted in probe-ebpf).
        unsafe impl Pod for $wrapper {}
    )+};
}
plain!(
    PlainSeen(Seen),
    PlainCounts(Counts),
    PlainPath(ProgramPath),
    PlainCapability(CapabilityKey),
    PlainCapabilitySet(CapabilitySetKey),
    PlainDevice(DeviceKey),
    PlainFailure(FailureKey),
);

/// A program that started for the first time.
#[derive(Clone, Debug)]
pub struct ExecutedProgram {
    /// Its process, in the initial pid namespace; it may be gone already.
    pub pid: u32,
    /// Its index.
    pub program: u32,
    /// As given to execve.
    pub path: String,
}

/// What the kernel side saw.
#[derive(Debug)]
pub struct Recording {
    /// The facts, without the run that they belong to.
    pub trace: Trace,
    /// Programs by their index.
    pub programs: BTreeMap<u32, String>,
}

impl Probe {
    /// The programs that started since the last call.
    ///
    /// # Errors
    ///
    /// When the object has no such map.
    pub fn executed(&mut self) -> Result<Vec<ExecutedProgram>> {
        self.log.flush();
        let map = object::map_mut(&mut self.ebpf, "EVENTS")?;
        let mut ring = RingBuf::try_from(map)?;
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            let word = |index: usize| -> Option<u32> {
                Some(u32::from_ne_bytes(item.get(index * 4..index * 4 + 4)?.try_into().ok()?))
            };
            const { assert!(size_of::<ExecEvent>() == 8 + PATH) };
            if let (Some(pid), Some(program), Some(path)) = (word(0), word(1), item.get(8..)) {
                events.push(ExecutedProgram { pid, program, path: text(path) });
            }
        }
        Ok(events)
    }

    /// What is readable when [`Self::executed`] has something.
    ///
    /// # Errors
    ///
    /// When the object has no such map, or outside of a runtime.
    pub fn events(&mut self) -> Result<AsyncFd<OwnedFd>> {
        let map = object::map_mut(&mut self.ebpf, "EVENTS")?;
        let ring = RingBuf::try_from(map)?;
        // SAFETY: the ring is alive, and with it its descriptor.
        let fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        // SAFETY: the descriptor is our own copy, open for as long as it is registered.
        Ok(unsafe { AsyncFd::register(fd.try_clone_to_owned()?) }?)
    }

    /// Tasks of the workload that are alive.
    #[must_use]
    pub fn alive(&self) -> u64 {
        let status = self.status.read();
        status[status::STARTED as usize].saturating_sub(status[status::ENDED as usize])
    }

    /// A program of the workload was executed.
    #[must_use]
    pub fn began(&self) -> bool {
        self.status.read()[status::PROGRAMS_USED as usize] != 0
    }

    /// Everything that was recorded so far.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn recording(&self) -> Result<Recording> {
        let mut trace = Trace::empty();
        // First, because reading maps makes the kernel skip programs of other tasks.
        self.read_skipped(&mut trace);
        let programs = self.programs()?;
        let names = Names { programs: &programs };
        self.read_syscalls(&names, &mut trace)?;
        self.read_capabilities(&names, &mut trace)?;
        self.read_capability_sets(&names, &mut trace)?;
        self.read_devices(&names, &mut trace)?;
        if self.hooks_by_fact().contains_key(&Fact::Failures) {
            self.read_failures(&names, &mut trace)?;
            trace.paths = Some(self.opened(&names)?);
            trace.mounts = Some(self.mounts(&names)?);
        }
        self.read_losses(&mut trace);
        trace.picks_loop_devices = self.status.read()[status::LOOP_DEVICES_PICKED as usize] != 0;
        trace.programs = programs.values().map(|path| (path.clone(), Program::default())).collect();
        if self.status.read()[status::PROGRAMS_FULL as usize] != 0 {
            // Their calls and checks are all there; their files nobody could look at.
            let unread = Program { unread: true, ..Program::default() };
            trace.programs.insert(OTHER_PROGRAMS.to_owned(), unread);
        }
        trace.complete = trace.lost.is_empty();
        Ok(Recording { trace, programs })
    }

    pub(super) fn hash<K: Pod, V: Pod>(&self, name: &str) -> Result<HashMap<&aya::maps::MapData, K, V>> {
        let map = object::map(&self.ebpf, name)?;
        Ok(HashMap::try_from(map)?)
    }

    fn array<V: Pod>(&self, name: &str) -> Result<Array<&aya::maps::MapData, V>> {
        let map = object::map(&self.ebpf, name)?;
        Ok(Array::try_from(map)?)
    }

    /// The programs of the workload so far, by their index.
    fn programs(&self) -> Result<BTreeMap<u32, String>> {
        let mut programs = BTreeMap::new();
        for entry in &self.hash::<PlainPath, u32>("PATHS")? {
            let (PlainPath(path), index) = entry?;
            programs.insert(index, text(&path.bytes));
        }
        Ok(programs)
    }

    fn read_syscalls(&self, names: &Names<'_>, trace: &mut Trace) -> Result<()> {
        let seen = self.array::<PlainSeen>("SEEN")?;
        let map = object::map(&self.ebpf, "COUNTS")?;
        let counts = PerCpuArray::<_, PlainCounts>::try_from(map)?.get(&0, 0)?;
        let indices = names.programs.keys().copied().chain([PROGRAM_OTHER, PROGRAM_RUNTIME]);
        for program in indices {
            let PlainSeen(calls) = seen.get(&program, 0)?;
            for (abi, number) in marked(&calls) {
                let name = Abi::ALL[abi].display_name(u32::try_from(number)?);
                if program == PROGRAM_RUNTIME {
                    trace.runtime_syscalls.insert(name);
                    continue;
                }
                let uses: &mut SyscallUse =
                    trace.syscalls.entry(Abi::ALL[abi]).or_default().entry(name).or_default();
                uses.count = counts.iter().map(|PlainCounts(cpu)| cpu.calls[abi][number]).sum();
                uses.programs.insert(names.program(program));
            }
        }
        Ok(())
    }

    fn read_capabilities(&self, names: &Names<'_>, trace: &mut Trace) -> Result<()> {
        let mut checks = Vec::new();
        for entry in &self.hash::<PlainCapability, u64>("CAPABILITIES")? {
            let (PlainCapability(key), count) = entry?;
            checks.push((key, count));
        }
        let addresses: BTreeSet<u64> =
            checks.iter().flat_map(|(key, _)| key.callers).filter(|&address| address != 0).collect();
        let symbols = symbols::resolve(&addresses, &mut self.kernel_names.borrow_mut());
        for (key, count) in checks {
            // A capability that this build has no name for cannot be granted by name either.
            let Some(capability) = Capability::from_number(key.capability) else {
                trace.lost.insert(Loss::UnknownCapability(key.capability));
                continue;
            };
            let (abi, syscall) = names.syscall(u32::from(key.abi), key.syscall);
            let check = CapabilityCheck {
                capability,
                granted: key.granted == 1,
                credential: match key.credential {
                    CREDENTIAL_OWN => Credential::Own,
                    CREDENTIAL_ACCESS => Credential::Access,
                    CREDENTIAL_OVERRIDDEN => Credential::Overridden,
                    _ => Credential::Other,
                },
                namespace: match key.namespace {
                    NAMESPACE_CHILD => Namespace::Child,
                    NAMESPACE_OWNER => Namespace::Owner,
                    _ => Namespace::Own,
                },
                root: key.root == 1,
                program: names.program(key.program),
                argument: (key.has_argument == 1)
                    .then(|| argument(syscall.as_deref(), key.argument))
                    .flatten(),
                abi,
                syscall,
                call_site: symbols::call_site(&key.callers, &symbols),
                decisive: false,
                audited: option(key.options, OPTION_NO_AUDIT).map(|quiet| !quiet),
                in_set_id: option(key.options, OPTION_IN_SET_ID),
            };
            trace.capabilities.add(check, count);
        }
        Ok(())
    }

    fn read_capability_sets(&self, names: &Names<'_>, trace: &mut Trace) -> Result<()> {
        for entry in &self.hash::<PlainCapabilitySet, u64>("CAPABILITY_SETS")? {
            let (PlainCapabilitySet(key), count) = entry?;
            let request = match key.kind {
                SET_CAPSET => CapabilityRequest::Set {
                    effective: Capability::from_bits(key.effective),
                    permitted: Capability::from_bits(key.permitted),
                    inheritable: Capability::from_bits(key.inheritable),
                    derived: key.derived == 1,
                },
                SET_AMBIENT_RAISE => match Capability::from_bits(key.effective).pop_first() {
                    Some(capability) => CapabilityRequest::AmbientRaise(capability),
                    None => continue,
                },
                _ => CapabilityRequest::Read,
            };
            trace
                .capability_sets
                .add(CapabilitySetChange { program: names.program(key.program), request }, count);
        }
        Ok(())
    }

    fn read_devices(&self, names: &Names<'_>, trace: &mut Trace) -> Result<()> {
        const BLOCK: u32 = 1;
        const MKNOD: u32 = 1;
        const READ: u32 = 2;
        const WRITE: u32 = 4;
        for entry in &self.hash::<PlainDevice, u64>("DEVICES")? {
            let (PlainDevice(key), count) = entry?;
            let (abi, syscall) = names.syscall(key.abi, key.syscall);
            let access = DeviceAccess {
                kind: if key.kind == BLOCK { DeviceType::Block } else { DeviceType::Character },
                major: key.major,
                minor: key.minor,
                access: Access {
                    read: key.access & READ != 0,
                    write: key.access & WRITE != 0,
                    mknod: key.access & MKNOD != 0,
                },
                program: names.program(key.program),
                abi,
                syscall,
            };
            trace.devices.add(access, count);
        }
        Ok(())
    }

    fn read_failures(&self, names: &Names<'_>, trace: &mut Trace) -> Result<()> {
        let mut failures = crate::trace::Facts::default();
        for entry in &self.hash::<PlainFailure, u64>("FAILURES")? {
            let (PlainFailure(key), count) = entry?;
            if key.syscall == NO_CALL {
                continue;
            }
            let (abi, Some(syscall)) = names.syscall(key.abi, key.syscall) else { continue };
            failures.add(
                Failure { program: names.program(key.program), abi, syscall, errno: errno::name(key.errno) },
                count,
            );
        }
        trace.failures = Some(failures);
        Ok(())
    }
}

/// Text up to its closing zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Whether the kernel asked with this option, where the hook tells.
fn option(options: u8, option: u8) -> Option<bool> {
    (options != OPTIONS_UNKNOWN).then_some(options & option != 0)
}

fn marked(seen: &Seen) -> impl Iterator<Item = (usize, usize)> {
    (0..ABIS).flat_map(move |abi| {
        (0..SYSCALLS).filter(move |&number| seen.calls[abi][number] != 0).map(move |number| (abi, number))
    })
}

pub(super) struct Names<'a> {
    programs: &'a BTreeMap<u32, String>,
}

impl Names<'_> {
    pub(super) fn program(&self, index: u32) -> String {
        match index {
            PROGRAM_RUNTIME => RUNTIME.to_owned(),
            index => self.programs.get(&index).map_or(OTHER_PROGRAMS, String::as_str).to_owned(),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as one vocabulary at the call sites")]
    pub(super) fn syscall(&self, abi: u32, number: u32) -> (Abi, Option<String>) {
        let abi = Abi::ALL.get(abi as usize).copied().unwrap_or(Abi::X86_64);
        (abi, (number != NO_SYSCALL).then(|| abi.display_name(number)))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel reads these arguments as 32-bit words")]
fn argument(syscall: Option<&str>, value: u64) -> Option<Argument> {
    Some(match syscall? {
        "setuid" | "setgid" | "setuid32" | "setgid32" => Argument::SameId(value == 1),
        "chmod" | "fchmod" | "fchmodat" | "fchmodat2" => Argument::Mode(value as u32),
        "ioctl" => Argument::Request(value as u32),
        "setsockopt" => Argument::Option((value >> 32) as u32, value as u32),
        "unshare" | "setns" | "clone" | "fanotify_init" | "fanotify_mark" | "perf_event_open" => {
            Argument::Flags(value)
        }
        "setxattr" | "lsetxattr" | "fsetxattr" => Argument::Size(value),
        _ => Argument::Operation(value as u32),
    })
}
