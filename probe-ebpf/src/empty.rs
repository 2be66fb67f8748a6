//! A program that does nothing: what any program at `sys_enter` costs, for `cargo xtask bench`.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "sys_enter")]
pub(crate) fn empty_sys_enter(_: BtfTracePointContext) -> i32 {
    0
}
