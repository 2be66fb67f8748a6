//! A program that does nothing, attached: what our own is measured against.

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, loaded_programs},
};

use super::storage::TaskMap;

/// An empty program at `sys_enter`, until dropped.
pub struct EmptyProbe {
    _attached: Ebpf,
}

impl EmptyProbe {
    /// Loads and attaches it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn attach() -> Result<Self> {
        let btf = Btf::from_sys_fs().context("cannot parse this kernel's BTF")?;
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .load(TaskMap::Auto.choose().object())?;
        let program = ebpf.program_mut("empty_sys_enter").context("the object has no empty program")?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load("sys_enter", &btf)?;
        program.attach()?;
        Ok(Self { _attached: ebpf })
    }

    /// How many programs of ours or another recorder's are at `sys_enter` now, by their name.
    #[must_use]
    pub fn others() -> usize {
        loaded_programs().flatten().filter(|program| program.name().starts_with(b"sys_enter")).count()
    }
}
