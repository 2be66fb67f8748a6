//! System call numbers and names per ABI. The tables are generated: `cargo xtask codegen`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A system call ABI of the x86-64 kernel. Each has its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Abi {
    /// 64-bit programs.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 32-bit programs, and `int 0x80` from any.
    #[serde(rename = "x86")]
    X86,
    /// 32-bit pointers on the 64-bit instruction set.
    #[serde(rename = "x32")]
    X32,
}

impl Abi {
    /// All of them, in the order of their index in the kernel side's tables.
    pub const ALL: [Self; 3] = [Self::X86_64, Self::X86, Self::X32];

    /// The OCI runtime specification's name for it.
    #[must_use]
    pub fn oci_architecture(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "x86",
            Self::X32 => "x32",
        })
    }
}
