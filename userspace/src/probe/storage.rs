//! Where the kernel side keeps who belongs to the workload, and marking ourselves there.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Result, anyhow, bail};
use aya::{
    maps::Map,
    programs::{ProgramError, ProgramType, RawTracePoint, RawTracePointRunOptions, TestRun as _},
    sys::{BpfHelper, is_helper_supported},
};
use probe_ebpf::Task;

use super::{
    load::{Probe, refused},
    object,
};

/// The kernel side, as `cargo xtask build-ebpf` made it from `probe-ebpf`.
static WITH_STORAGE: &[u8] = aya::include_bytes_aligned!("../../ebpf/probe.bpf.o");
/// The same, for kernels without task storage.
static WITH_HASH: &[u8] = aya::include_bytes_aligned!("../../ebpf/probe-hash.bpf.o");

const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;

/// Where the kernel side keeps who belongs to the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskMap {
    /// In task storage where the kernel has it.
    #[default]
    Auto,
    /// In task storage.
    Storage,
    /// In a hash map, which has room for [`probe_ebpf::TASKS_HASHED`].
    Hash,
}

impl TaskMap {
    /// One of the two. Task storage came with Linux 5.11, its helper for the types of programs that we have with 5.13
    /// (`bpf_tracing_func_proto`, `kernel/trace/bpf_trace.c`).
    pub(super) fn choose(self) -> Self {
        if self != Self::Auto {
            return self;
        }
        match is_helper_supported(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_task_storage_get) {
            Ok(false) => Self::Hash,
            // Where nothing can be loaded, loading the rest says why.
            Ok(true) | Err(_) => Self::Storage,
        }
    }

    pub(super) fn object(self) -> &'static [u8] {
        if self == Self::Hash { WITH_HASH } else { WITH_STORAGE }
    }
}

impl Probe {
    /// Sets what the kernel side knows of this thread, which must be the process's first.
    ///
    /// # Errors
    ///
    /// What the kernel says, or that there is no room left.
    pub(super) fn mark(&self, value: &Task) -> Result<()> {
        match self.task_map {
            TaskMap::Hash => self.run_mark(value),
            _ => self.element(BPF_MAP_UPDATE_ELEM, std::ptr::from_ref(value) as u64),
        }
    }

    /// Forgets it.
    ///
    /// # Errors
    ///
    /// What the kernel says, or that it was not known.
    pub(super) fn unmark(&self) -> Result<()> {
        match self.task_map {
            TaskMap::Hash => self.run_mark(&Task::default()),
            _ => self.element(BPF_MAP_DELETE_ELEM, 0),
        }
    }

    /// One of the two commands that task storage takes, which aya has no type for.
    fn element(&self, command: libc::c_int, value: u64) -> Result<()> {
        let Some(Map::Unsupported(map)) = self.ebpf.map("TASKS") else {
            bail!("the object has no task storage");
        };
        let key = self.own.as_raw_fd();
        let attributes = ElementAttributes {
            map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            padding: 0,
            key: std::ptr::from_ref(&key) as u64,
            value,
            flags: 0,
        };
        // SAFETY: the attributes and what they point to outlive the call, with the sizes that the map has:
        // an int key, and a `Task` value where the command reads one.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of::<ElementAttributes>())
        };
        if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
    }

    /// Loads what is there for the hash map alone, and has it find out where the kernel keeps registers.
    pub(super) fn prepare_hash(&mut self) -> Result<()> {
        let mark: &mut RawTracePoint = object::program_mut(&mut self.ebpf, "mark")?.try_into()?;
        mark.load().map_err(|error| refused(&error.into(), "load the program that marks tasks"))?;
        let measure: &mut RawTracePoint = object::program_mut(&mut self.ebpf, "measure")?.try_into()?;
        let refused = |error: ProgramError| refused(&error.into(), "measure a stack");
        measure.load().map_err(refused)?;
        measure.attach("sys_enter").map_err(refused)?;
        // Any system call does, of anybody.
        let _ = rustix::process::getppid();
        Ok(measure.unload()?)
    }

    /// Has the kernel side do it: the key is an address in the kernel.
    fn run_mark(&self, value: &Task) -> Result<()> {
        let program = self.ebpf.program("mark").ok_or_else(|| anyhow!("the object has no program mark"))?;
        let program: &RawTracePoint = program.try_into()?;
        let mut options = RawTracePointRunOptions::new();
        options.args[..2].copy_from_slice(&[u64::from(value.stage), u64::from(value.launches)]);
        match program.test_run(options)?.return_value {
            0 if value.stage == 0 => bail!("it was not marked"),
            0 => bail!("the map of tasks is full"),
            _ => Ok(()),
        }
    }
}

/// The part of `union bpf_attr` that the `BPF_MAP_*_ELEM` commands read.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A file descriptor for a process, `pidfd_open(2)`.
///
/// # Errors
///
/// When there is no such process.
pub(super) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(clippy::cast_possible_truncation, reason = "file descriptors are ints")]
    // SAFETY: the kernel just gave it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
