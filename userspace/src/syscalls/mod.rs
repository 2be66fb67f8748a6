//! System call numbers and names per ABI. The tables are generated: `cargo xtask codegen`.

mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the name of a call without one begins with.
const UNNAMED: &str = "syscall_";

/// Whether this is the name that [`Abi::display_name`] gives to a number without one.
#[must_use]
pub fn is_unnamed(name: &str) -> bool {
    name.strip_prefix(UNNAMED).is_some_and(|number| number.parse::<u32>().is_ok())
}

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

    /// The inverse of [`Abi::oci_architecture`].
    #[must_use]
    pub fn from_oci_architecture(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|abi| abi.oci_architecture() == name)
    }

    /// All of its calls, sorted by number. Numbers of x32 are without its bit `0x40000000`.
    pub fn syscalls(self) -> impl Iterator<Item = (u32, &'static str)> {
        self.table().iter().copied()
    }

    /// The name of a call; `None` when the table has none, as for a call newer than this build.
    #[must_use]
    pub fn name(self, number: u32) -> Option<&'static str> {
        let table = self.table();
        let index = table.binary_search_by_key(&number, |&(number, _)| number).ok()?;
        table.get(index).map(|&(_, name)| name)
    }

    /// The name of a call, or `syscall_N` for a number without one.
    #[must_use]
    pub fn display_name(self, number: u32) -> String {
        self.name(number).map_or_else(|| format!("{UNNAMED}{number}"), str::to_owned)
    }

    /// The number of a call by its name, or by what [`Abi::display_name`] gives for one without.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        if let Some((number, _)) = self.syscalls().find(|&(_, known)| known == name) {
            return Some(number);
        }
        let number = name.strip_prefix(UNNAMED)?.parse().ok()?;
        (self.display_name(number) == name).then_some(number)
    }

    fn table(self) -> table::Table {
        match self {
            Self::X86_64 => table::X86_64,
            Self::X86 => table::X86,
            Self::X32 => table::X32,
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for abi in Abi::ALL {
            for (number, name) in abi.syscalls() {
                assert_eq!(abi.name(number), Some(name));
                assert_eq!(abi.number(name), Some(number));
            }
        }
    }

    #[test]
    fn a_number_without_a_name_round_trips_in_decimal() {
        assert_eq!(Abi::X86_64.name(9999), None);
        assert_eq!(Abi::X86_64.display_name(9999), "syscall_9999");
        assert_eq!(Abi::X86_64.number("syscall_9999"), Some(9999));
        for name in ["syscall_0", "syscall_09999", "syscall_+9999", "syscall_", "nonsense"] {
            assert_eq!(Abi::X86_64.number(name), None, "{name}");
        }
    }

    #[test]
    fn x32_numbers_are_without_their_bit() {
        assert_eq!(Abi::X32.number("write"), Some(1));
        assert_eq!(Abi::X32.number("execve"), Some(520));
        assert!(Abi::X32.syscalls().all(|(number, _)| number < 0x4000_0000));
    }

    /// The host's headers may be older or newer than the table; what both know must agree.
    #[test]
    fn the_tables_agree_with_the_kernel_headers() {
        for (abi, header) in [(Abi::X86_64, "64"), (Abi::X86, "32"), (Abi::X32, "x32")] {
            let path = format!("/usr/include/x86_64-linux-gnu/asm/unistd_{header}.h");
            let Ok(text) = fs::read_to_string(&path) else {
                eprintln!("skipped: no {path}");
                continue;
            };
            let mut agreed = 0;
            for line in text.lines() {
                let Some((name, number)) =
                    line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' '))
                else {
                    continue;
                };
                let number =
                    number.trim_start_matches("(__X32_SYSCALL_BIT + ").trim_end_matches(')').parse().unwrap();
                assert_eq!(abi.name(number), Some(name), "{abi}");
                agreed += 1;
            }
            assert!(agreed > 300, "{path}: {agreed}");
        }
    }

    #[test]
    fn no_name_is_twice_in_a_table() {
        for abi in Abi::ALL {
            let names: BTreeSet<_> = abi.syscalls().map(|(_, name)| name).collect();
            assert_eq!(names.len(), abi.syscalls().count());
        }
    }
}
