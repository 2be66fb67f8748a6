//! The parts of a loaded object by their names.

use anyhow::{Result, anyhow};
use aya::{Ebpf, maps::Map, programs::Program};

/// A map.
///
/// # Errors
///
/// When the object has none of that name; so do the others.
pub(super) fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Map> {
    ebpf.map(name).ok_or_else(|| anyhow!("the object has no {name}"))
}

/// The same, to write to.
pub(super) fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no {name}"))
}

/// A program, to load and attach.
pub(super) fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    ebpf.program_mut(name).ok_or_else(|| anyhow!("the object has no program {name}"))
}
