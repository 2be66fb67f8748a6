//! What the running kernel has, told without loading anything.

use anyhow::Result;
use btf_rs::Type;
use probe_ebpf::Offsets;

use super::{load::REQUIRED_TRACEPOINTS, offsets};

/// How many fields of kernel structures were looked up, all found.
///
/// # Errors
///
/// When the kernel has no BTF, or lacks a field: the error names it.
pub fn kernel_fields() -> Result<usize> {
    offsets::read(&offsets::kernel_types()?)?;
    Ok(size_of::<Offsets>() / size_of::<u32>())
}

/// The tracepoints without which nothing can be recorded, and whether the kernel has them.
///
/// # Errors
///
/// When the kernel has no BTF.
pub fn tracepoints() -> Result<Vec<(&'static str, bool)>> {
    let btf = offsets::kernel_types()?;
    let there = |name: &str| {
        // The type by which the verifier finds a tracepoint (check_attach_btf_id, kernel/bpf/verifier.c).
        let types = btf.resolve_types_by_name(&format!("btf_trace_{name}")).unwrap_or_default();
        types.iter().any(|found| matches!(found, Type::Typedef(_)))
    };
    Ok(REQUIRED_TRACEPOINTS.iter().map(|&name| (name, there(name))).collect())
}
