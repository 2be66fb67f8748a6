//! What the kernel side has to say, passed on as talk.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// Writes what the kernel side says to standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk;

impl Log for Talk {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        // The kernel side is told what to leave out before it is loaded.
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("unpriv: kernel side: {}", record.args());
    }

    fn flush(&self) {}
}

/// The level that the kernel side is loaded with.
pub(super) fn level(verbose: bool) -> u8 {
    (if verbose { log::Level::Debug } else { log::Level::Warn }) as u8
}

/// Reads what a loaded object says from now on.
pub(super) fn listen(ebpf: &mut Ebpf) -> Result<EbpfLogger<Talk>> {
    EbpfLogger::init_with_logger(ebpf, Talk).context("cannot read the kernel side's log")
}
