//! `--hooks`: which of the kernel's hooks record a run.

use crate::probe::HookSet;

/// The option of every verb that records.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Chosen {
    /// The kernel's hooks to record by, instead of the cheapest by which nothing is lost
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Kind::Auto)]
    hooks: Kind,
}

/// By the names that BPF loaders have for them.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Kind {
    /// The cheapest by which nothing is lost on this kernel
    Auto,
    /// BTF tracepoints, for capability checks, too (Linux 6.14 or newer)
    #[value(name = "tp_btf")]
    TpBtf,
    /// Trace events, which are not preempted (Linux 6.14 or newer)
    Tracepoint,
    /// BPF trampolines at the functions that check capabilities and devices
    Fentry,
    /// Kprobes at the functions that check capabilities and devices
    Kprobe,
}

impl Chosen {
    pub(super) fn set(self) -> HookSet {
        match self.hooks {
            Kind::Auto => HookSet::Auto,
            Kind::TpBtf => HookSet::BtfTracepoint,
            Kind::Tracepoint => HookSet::TraceEvent,
            Kind::Fentry => HookSet::Trampoline,
            Kind::Kprobe => HookSet::Kprobe,
        }
    }
}
