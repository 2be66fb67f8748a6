//! Tiny programs that tests write themselves, so that no compiler and no package is needed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use unpriv::syscalls::Abi;

/// An ELF program that makes one call with no arguments and exits with its errno, 0 on success.
pub(crate) fn caller(directory: &Path, abi: Abi, number: u32) -> PathBuf {
    let [a, b, c, d] = number.to_le_bytes();
    let code = match abi {
        // mov eax, N; int 0x80; neg eax; mov ebx, eax; mov eax, 1; int 0x80
        Abi::X86 => vec![0xb8, a, b, c, d, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80],
        // mov eax, N; syscall; neg eax; mov edi, eax; mov eax, 231; syscall
        Abi::X86_64 | Abi::X32 => {
            let d = if abi == Abi::X32 { d | 0x40 } else { d };
            vec![0xb8, a, b, c, d, 0x0f, 0x05, 0xf7, 0xd8, 0x89, 0xc7, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]
        }
    };
    let path = directory.join(format!("{abi}-{number}"));
    fs::write(&path, elf(abi == Abi::X86, &code)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The smallest static ELF file around this code, elf(5).
fn elf(bits_32: bool, code: &[u8]) -> Vec<u8> {
    let word = |value: u64| value.to_le_bytes()[..if bits_32 { 4 } else { 8 }].to_vec();
    let (header, entry) = if bits_32 { (52_u16, 32_u16) } else { (64, 56) };
    let start = u64::from(header + entry);
    let (base, length) = (0x0040_0000, start + code.len() as u64);
    let mut file = vec![0x7f, b'E', b'L', b'F', if bits_32 { 1 } else { 2 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let machine: u16 = if bits_32 { 3 } else { 62 };
    for part in [2_u16, machine, 1, 0] {
        file.extend(part.to_le_bytes());
    }
    for part in [base + start, header.into(), 0] {
        file.extend(word(part));
    }
    file.extend(0_u32.to_le_bytes());
    for part in [header, entry, 1, 0, 0, 0] {
        file.extend(part.to_le_bytes());
    }
    let (load, read_execute) = (1_u32.to_le_bytes(), 5_u32.to_le_bytes());
    file.extend(load);
    if !bits_32 {
        file.extend(read_execute);
    }
    for part in [0, base, base, length, length] {
        file.extend(word(part));
    }
    if bits_32 {
        file.extend(read_execute);
    }
    file.extend(word(0x1000));
    file.extend(code);
    file
}
