//! Which of the kernel's hooks show each kind of fact, and in which order they are tried.

use std::fs::File;

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupDevice, FEntry, FExit, KProbe, Program, ProgramError,
        TracePoint,
    },
};

use super::{cgroup2, object, preemption::Preemption};

/// Which hooks to prefer, by the names that BPF loaders have for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookSet {
    /// The cheapest by which nothing is lost on this kernel.
    #[default]
    Auto,
    /// BTF tracepoints alone.
    BtfTracepoint,
    /// Trace events, whose programs are not preempted.
    TraceEvent,
    /// BPF trampolines on kernel functions, where no tracepoint has to be used.
    Trampoline,
    /// Kprobes, where no tracepoint has to be used.
    Kprobe,
}

/// Kinds of facts, in the order in which they are attached: what may be missing comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Capability checks.
    Capabilities,
    /// Device accesses.
    Devices,
    /// Who belongs to a container.
    Containers,
    /// Who belongs to the workload by descent, and what it executes.
    Processes,
    /// System calls and capability sets.
    SystemCalls,
    /// Calls that fail, and files of the kernel's file systems.
    Failures,
}

impl Fact {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Capabilities,
        Self::Devices,
        Self::Containers,
        Self::Processes,
        Self::SystemCalls,
        Self::Failures,
    ];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::Devices => "devices",
            Self::Containers => "containers",
            Self::Processes => "processes",
            Self::SystemCalls => "system calls",
            Self::Failures => "failures and kernel files",
        }
    }
}

/// How a program comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BtfTracepoint,
    TraceEvent,
    Cgroup,
    Trampoline,
    Kprobe,
}

impl Kind {
    /// Whether tasks are preempted in such a program, so that the kernel skips it for others meanwhile. BPF
    /// trampolines always run preemptible (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c), kprobes and trace
    /// events never; a device program is not skipped, and those for cgroups hold a spin lock.
    pub(super) fn is_preempted(self, fact: Fact, preemption: Preemption) -> bool {
        match self {
            Self::BtfTracepoint => preemption.tracepoints && fact != Fact::Containers,
            Self::Trampoline => preemption.kernel,
            Self::TraceEvent | Self::Cgroup | Self::Kprobe => false,
        }
    }
}

/// One way to attach one program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    BtfTracepoint(&'static str),
    TraceEvent(&'static str, &'static str),
    Cgroup,
    Entry(&'static str),
    Exit(&'static str),
    Kprobe(&'static str),
    KprobeReturn(&'static str),
}

/// A hook that the kernel does not have or does not give, and why.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) hook: String,
    pub(super) error: anyhow::Error,
}

/// A program of the object, and where it goes.
pub(super) type Placed = (&'static str, Hook);

/// What shows a fact: each kind of hook, with the programs that it takes together.
fn ways(fact: Fact) -> &'static [(Kind, &'static [Placed])] {
    const CHECK: &str = "cap_capable";
    const DEVICE: &str = "devcgroup_check_permission";
    match fact {
        Fact::Capabilities => &[
            (Kind::BtfTracepoint, &[("cap_capable", Hook::BtfTracepoint(CHECK))]),
            (Kind::TraceEvent, &[("cap_capable_event", Hook::TraceEvent("capability", CHECK))]),
            (Kind::Trampoline, &[("cap_capable_fexit", Hook::Exit(CHECK))]),
            (
                Kind::Kprobe,
                // The return first: an entry without it would be taken for one that got lost.
                &[
                    ("cap_capable_kretprobe", Hook::KprobeReturn(CHECK)),
                    ("cap_capable_kprobe", Hook::Kprobe(CHECK)),
                ],
            ),
        ],
        Fact::Devices => &[
            (Kind::Cgroup, &[("device", Hook::Cgroup)]),
            (Kind::Trampoline, &[("device_fentry", Hook::Entry(DEVICE))]),
            (Kind::Kprobe, &[("device_kprobe", Hook::Kprobe(DEVICE))]),
        ],
        // Under a spin lock (TRACE_CGROUP_PATH, kernel/cgroup/cgroup-internal.h), so never preempted.
        Fact::Containers => &[(
            Kind::BtfTracepoint,
            &[
                ("cgroup_attach_task", Hook::BtfTracepoint("cgroup_attach_task")),
                ("cgroup_mkdir", Hook::BtfTracepoint("cgroup_mkdir")),
            ],
        )],
        Fact::Processes => &[
            (
                Kind::BtfTracepoint,
                &[
                    ("task_newtask", Hook::BtfTracepoint("task_newtask")),
                    ("sched_process_exec", Hook::BtfTracepoint("sched_process_exec")),
                    ("sched_process_exit", Hook::BtfTracepoint("sched_process_exit")),
                ],
            ),
            (
                Kind::TraceEvent,
                &[
                    ("sched_wakeup_new", Hook::BtfTracepoint("sched_wakeup_new")),
                    ("sched_process_exec_event", Hook::TraceEvent("sched", "sched_process_exec")),
                    ("sched_process_exit_event", Hook::TraceEvent("sched", "sched_process_exit")),
                ],
            ),
        ],
        Fact::SystemCalls => &[
            (Kind::BtfTracepoint, &[("sys_enter", Hook::BtfTracepoint("sys_enter"))]),
            (Kind::TraceEvent, &[("sys_enter_event", Hook::TraceEvent("raw_syscalls", "sys_enter"))]),
        ],
        Fact::Failures => &[
            (Kind::BtfTracepoint, &[("sys_exit", Hook::BtfTracepoint("sys_exit"))]),
            (Kind::TraceEvent, &[("sys_exit_event", Hook::TraceEvent("raw_syscalls", "sys_exit"))]),
        ],
    }
}

impl HookSet {
    fn kind(self) -> Option<Kind> {
        match self {
            Self::Auto => None,
            Self::BtfTracepoint => Some(Kind::BtfTracepoint),
            Self::TraceEvent => Some(Kind::TraceEvent),
            Self::Trampoline => Some(Kind::Trampoline),
            Self::Kprobe => Some(Kind::Kprobe),
        }
    }

    /// The kinds of hooks to try for a fact: the one asked for, where it can show that; else the cheapest first
    /// of those in which nothing is preempted.
    fn order(self, fact: Fact, preemption: Preemption) -> Vec<Kind> {
        let there = |kind: &Kind| ways(fact).iter().any(|(other, _)| other == kind);
        if let Some(kind) = self.kind().filter(there) {
            return vec![kind];
        }
        let order = match preemption {
            Preemption { tracepoints: true, .. } => {
                [Kind::TraceEvent, Kind::Kprobe, Kind::Cgroup, Kind::BtfTracepoint, Kind::Trampoline]
            }
            Preemption { kernel: true, .. } => {
                [Kind::BtfTracepoint, Kind::Kprobe, Kind::Cgroup, Kind::Trampoline, Kind::TraceEvent]
            }
            Preemption { .. } => {
                [Kind::BtfTracepoint, Kind::Cgroup, Kind::Trampoline, Kind::Kprobe, Kind::TraceEvent]
            }
        };
        order.into_iter().filter(there).collect()
    }
}

impl Hook {
    /// By the name that BPF loaders have for it.
    fn name(self) -> String {
        match self {
            Self::BtfTracepoint(name) => format!("tp_btf/{name}"),
            Self::TraceEvent(category, name) => format!("tracepoint/{category}/{name}"),
            Self::Cgroup => "cgroup/device".to_owned(),
            Self::Entry(function) => format!("fentry/{function}"),
            Self::Exit(function) => format!("fexit/{function}"),
            Self::Kprobe(function) => format!("kprobe/{function}"),
            Self::KprobeReturn(function) => format!("kretprobe/{function}"),
        }
    }
}

/// Attaches what shows a fact; by which kind of hooks, and their names.
///
/// # Errors
///
/// Why none of the ways can be gone, for each way.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    fact: Fact,
    set: HookSet,
    preemption: Preemption,
) -> Result<(Kind, Vec<String>), Vec<Refused>> {
    let mut errors = Vec::new();
    for kind in set.order(fact, preemption) {
        let programs = ways(fact).iter().find(|(other, _)| *other == kind);
        let programs = programs.map_or(&[][..], |(_, programs)| programs);
        match attach_all(ebpf, btf, programs) {
            Ok(names) => return Ok((kind, names)),
            Err(error) => errors.push(error),
        }
    }
    Err(errors)
}

/// Attaches programs that belong together: all of them or none.
///
/// # Errors
///
/// Which hook was refused, and why.
pub(super) fn attach_all(ebpf: &mut Ebpf, btf: &Btf, programs: &[Placed]) -> Result<Vec<String>, Refused> {
    let mut names = Vec::new();
    for (index, &(name, hook)) in programs.iter().enumerate() {
        if let Err(error) = attach_one(ebpf, btf, name, hook) {
            // Half of a way shows nothing, and a birth is not to be counted twice.
            for (name, _) in &programs[..index] {
                detach(ebpf, name);
            }
            return Err(Refused { hook: hook.name(), error });
        }
        names.push(hook.name());
    }
    Ok(names)
}

fn attach_one(ebpf: &mut Ebpf, btf: &Btf, name: &str, hook: Hook) -> Result<()> {
    let program = object::program_mut(ebpf, name)?;
    match hook {
        Hook::BtfTracepoint(tracepoint) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(tracepoint, btf).map_err(absent)?;
            program.attach()?;
        }
        Hook::TraceEvent(category, event) => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            program.attach(category, event)?;
        }
        Hook::Entry(function) => {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, btf).map_err(absent)?;
            program.attach()?;
        }
        Hook::Exit(function) => {
            let program: &mut FExit = program.try_into()?;
            program.load(function, btf).map_err(absent)?;
            program.attach()?;
        }
        Hook::Kprobe(function) | Hook::KprobeReturn(function) => {
            let program: &mut KProbe = program.try_into()?;
            program.load()?;
            program.attach(function, 0)?;
        }
        Hook::Cgroup => {
            let program: &mut CgroupDevice = program.try_into()?;
            program.load()?;
            let root: File = cgroup2::root()?;
            // A link always shares the cgroup with others (cgroup_bpf_link_attach); the kernel refuses the flag
            // that would say so.
            program.attach(root, CgroupAttachMode::Single).context("cannot attach to the root of cgroup2")?;
        }
    }
    Ok(())
}

/// Takes back what [`attach_one`] did, of the kinds that come several together.
fn detach(ebpf: &mut Ebpf, name: &str) {
    // A program that cannot be taken back stays and sees what nothing reads.
    match ebpf.program_mut(name) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::TracePoint(program)) => program.unload(),
        Some(Program::KProbe(program)) => program.unload(),
        _ => Ok(()),
    }
    .unwrap_or_default();
}

/// What is missing in BTF is missing in the kernel.
fn absent(error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::Btf(_) => anyhow!("this kernel has none"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREEMPTION: [Preemption; 3] = [
        Preemption { tracepoints: false, kernel: false },
        Preemption { tracepoints: false, kernel: true },
        Preemption { tracepoints: true, kernel: true },
    ];

    #[test]
    fn every_fact_has_a_way_on_every_kernel() {
        for preemption in PREEMPTION {
            for fact in Fact::ALL {
                assert_eq!(HookSet::Auto.order(fact, preemption).len(), ways(fact).len());
            }
        }
    }

    #[test]
    fn a_set_that_is_asked_for_is_the_only_one_for_what_it_can_show() {
        for preemption in PREEMPTION {
            assert_eq!(HookSet::Kprobe.order(Fact::Capabilities, preemption), [Kind::Kprobe]);
            assert_eq!(HookSet::Trampoline.order(Fact::Devices, preemption), [Kind::Trampoline]);
            assert_eq!(HookSet::Kprobe.order(Fact::Containers, preemption), [Kind::BtfTracepoint]);
        }
    }

    #[test]
    fn what_can_be_preempted_is_the_last_choice_where_it_is() {
        let [none, kernel, tracepoints] = PREEMPTION;
        let first = |preemption, fact| HookSet::Auto.order(fact, preemption)[0];
        assert_eq!(first(none, Fact::SystemCalls), Kind::BtfTracepoint);
        assert_eq!(first(none, Fact::Devices), Kind::Cgroup);
        assert_eq!(first(kernel, Fact::Capabilities), Kind::BtfTracepoint);
        assert_eq!(HookSet::Auto.order(Fact::Capabilities, kernel)[1], Kind::Kprobe);
        for fact in [Fact::Capabilities, Fact::Processes, Fact::SystemCalls, Fact::Failures] {
            assert_eq!(first(tracepoints, fact), Kind::TraceEvent);
        }
    }
}
