//! Attaching to a container that runs already: every task of it is marked, and what it is in the middle of is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::read_link,
    io::Read as _,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
};

use anyhow::{Context as _, Result};
use aya::{
    Btf, Pod,
    maps::{Array, HashMap, MapData},
    programs::Iter,
};
use probe_ebpf::{Attach, FoundTask, NO_SYSCALL, PATH, ProgramPath};
use tokio::io::unix::AsyncFd;

use super::{
    decode::OTHER_PROGRAMS,
    load::{HostCannot, Probe},
    object, storage,
};
use crate::syscalls::Abi;

/// Passes over the machine's tasks before giving up on seeing one that finds nothing new.
const MAX_PASSES: usize = 100;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainAttach(Attach);
// SAFETY: five u64, without padding.
unsafe impl Pod for PlainAttach {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainPath(ProgramPath);
// SAFETY: bytes.
unsafe impl Pod for PlainPath {}

/// What was there when a container was attached to.
#[derive(Debug, Default)]
pub struct Attached {
    /// Threads that were marked.
    pub threads: usize,
    /// Programs that they ran.
    pub programs: BTreeSet<String>,
    /// The calls that they were in, which no later event shows, and by which programs.
    pub calls: BTreeMap<(Abi, String), BTreeSet<String>>,
}

/// The container that is to be attached to has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the container ended before it could be attached to")]
pub struct Gone;

impl Probe {
    /// Marks every task in the cgroups of the container `id`, whose first process is `init`. What enters them
    /// or is born there from now on belongs to the workload as well.
    ///
    /// # Errors
    ///
    /// [`Gone`], or [`HostCannot`] when the kernel refuses.
    pub fn attach_container(&mut self, id: &str, init: u32) -> Result<Attached> {
        self.load_iterators().map_err(HostCannot::new)?;
        self.watch_container(id)?;
        self.set_attach(Attach { init: u64::from(init), ..Attach::default() })?;
        let mut attached = Attached::default();
        let mut paths = BTreeMap::new();
        for _ in 0..MAX_PASSES {
            let found = self.pass("attach_tasks")?;
            let mut fresh = self.begin_marking()?;
            for task in &found {
                fresh |= task.new == 1;
                fresh |= self.name(task, &mut paths)?;
                attached.add(task, paths.get(&task.memory).map_or(OTHER_PROGRAMS, String::as_str));
            }
            if !fresh {
                break;
            }
        }
        self.set_attach(Attach::default())?;
        if attached.threads == 0 {
            return Err(Gone.into());
        }
        self.pass("attach_files")?;
        Ok(attached)
    }

    /// Readable when that process has ended.
    ///
    /// # Errors
    ///
    /// [`Gone`] when it has already.
    pub fn end_of(&self, process: u32) -> Result<AsyncFd<OwnedFd>> {
        let descriptor = storage::pidfd(process).map_err(|_| Gone)?;
        // SAFETY: the descriptor is our own, open for as long as it is registered.
        unsafe { AsyncFd::register(descriptor) }.context("cannot wait for the end of the container")
    }

    fn load_iterators(&mut self) -> Result<()> {
        let btf = Btf::from_sys_fs().context("cannot parse this kernel's BTF")?;
        for (name, kind) in [("attach_tasks", "task"), ("attach_files", "task_file")] {
            self.iterator(name)?.load(kind, &btf).map_err(|error| {
                super::load::refused(&error.into(), &format!("load the iterator over {kind}s"))
            })?;
            self.add_hook(&format!("iter/{kind}"));
        }
        Ok(())
    }

    fn iterator(&mut self, name: &str) -> Result<&mut Iter> {
        let program = object::program_mut(&mut self.ebpf, name)?;
        Ok(program.try_into()?)
    }

    /// Runs an iterator over everything that it iterates over; what it wrote.
    fn pass(&mut self, name: &str) -> Result<Vec<FoundTask>> {
        let iterator = self.iterator(name)?;
        let link = iterator.attach().and_then(|link| iterator.take_link(link));
        let mut file = link.context("cannot iterate over the tasks of this machine")?.into_file()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).context("cannot iterate over the tasks of this machine")?;
        let word = |chunk: &[u8], index: usize| {
            let bytes = chunk.get(index * 4..index * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let tasks = bytes.chunks_exact(size_of::<FoundTask>()).map(|chunk| FoundTask {
            process: word(chunk, 0),
            abi: word(chunk, 1),
            syscall: word(chunk, 2),
            new: word(chunk, 3),
            memory: u64::from(word(chunk, 4)) | u64::from(word(chunk, 5)) << 32,
        });
        Ok(tasks.collect())
    }

    /// Tells the kernel side what a process runs, once; whether that was news.
    fn name(&mut self, task: &FoundTask, paths: &mut BTreeMap<u64, String>) -> Result<bool> {
        if paths.contains_key(&task.memory) {
            return Ok(false);
        }
        // One that has ended has told nothing more than its call.
        let Ok(path) = read_link(format!("/proc/{}/exe", task.process)) else { return Ok(false) };
        let mut bytes = [0; PATH];
        let kept = &path.as_os_str().as_bytes()[..path.as_os_str().len().min(PATH - 1)];
        bytes[..kept.len()].copy_from_slice(kept);
        paths.insert(task.memory, String::from_utf8_lossy(kept).into_owned());
        let map = object::map_mut(&mut self.ebpf, "RUNNING")?;
        let mut map: HashMap<&mut MapData, u64, PlainPath> = HashMap::try_from(map)?;
        map.insert(task.memory, PlainPath(ProgramPath { bytes }), 0)
            .context("the container has more processes than can be attached to")?;
        Ok(true)
    }

    /// From the second pass on tasks are marked: by then their programs have been looked up, and what they do
    /// next counts as those'. Whether it begins now; [`Gone`] when the first pass did not find the container.
    fn begin_marking(&mut self) -> Result<bool> {
        let map = object::map(&self.ebpf, "ATTACH")?;
        let PlainAttach(attach) = Array::<_, PlainAttach>::try_from(map)?.get(&0, 0)?;
        if attach.namespace == 0 {
            return Err(Gone.into());
        }
        if attach.marking == 0 {
            self.set_attach(Attach { marking: 1, ..attach })?;
        }
        Ok(attach.marking == 0)
    }

    fn set_attach(&mut self, attach: Attach) -> Result<()> {
        let map = object::map_mut(&mut self.ebpf, "ATTACH")?;
        let mut map: Array<&mut MapData, PlainAttach> = Array::try_from(map)?;
        Ok(map.set(0, PlainAttach(attach), 0)?)
    }
}

impl Attached {
    fn add(&mut self, task: &FoundTask, program: &str) {
        if task.new != 1 {
            return;
        }
        self.threads += 1;
        self.programs.insert(program.to_owned());
        if let Some(&abi) = Abi::ALL.get(task.abi as usize)
            && task.syscall != NO_SYSCALL
        {
            let call = (abi, abi.display_name(task.syscall));
            self.calls.entry(call).or_default().insert(program.to_owned());
        }
    }
}
