//! Names for kernel return addresses, from /proc/kallsyms, and the call sites that they make.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader},
};

/// The function that holds each address. Empty when the kernel shows no addresses (`kptr_restrict`). What is in `known`
/// is not asked for again; what a module or a program has may be another's later, and is not put there.
pub(super) fn resolve(addresses: &BTreeSet<u64>, known: &mut BTreeMap<u64, String>) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let mut unknown = Vec::new();
    for &address in addresses {
        match known.get(&address) {
            Some(name) => drop(found.insert(address, name.clone())),
            None => unknown.push(address),
        }
    }
    if !unknown.is_empty()
        && let Ok(table) = File::open("/proc/kallsyms")
    {
        for (address, symbol) in resolve_in(BufReader::new(table), &unknown) {
            if symbol.stays {
                known.insert(address, symbol.name.clone());
            }
            found.insert(address, symbol.name);
        }
    }
    found
}

/// A function, by where it begins; at zero none does.
#[derive(Clone, Debug, Default)]
struct Symbol {
    start: u64,
    name: String,
    /// It is of the kernel proper.
    stays: bool,
}

/// The last function that begins before each of these sorted addresses. A return address is behind the call: the call
/// itself may be a function's last instruction.
fn resolve_in(mut table: impl BufRead, addresses: &[u64]) -> Vec<(u64, Symbol)> {
    // Of those between an address and the one before it; the table is in no order, and too long to be kept.
    let mut last = vec![Symbol::default(); addresses.len()];
    let mut line = String::new();
    while {
        line.clear();
        table.read_line(&mut line).is_ok_and(|length| length > 0)
    } {
        let Some((start, name, stays)) = function(&line) else { continue };
        let after = addresses.partition_point(|&address| address <= start);
        // Most lines get here, each behind the one before.
        if let Some(last) = last.get_mut(after).filter(|last| last.start < start) {
            last.start = start;
            plain_name(name).clone_into(&mut last.name);
            last.stays = stays;
        }
    }
    for index in 1..last.len() {
        if last[index].start == 0 {
            last[index] = last[index - 1].clone();
        }
    }
    addresses.iter().copied().zip(last).filter(|(_, symbol)| symbol.start != 0).collect()
}

/// Address and name of a line of kallsyms that is a function's, and whether it is of the kernel proper: what is of a
/// module or a program says so in brackets.
fn function(line: &str) -> Option<(u64, &str, bool)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_function = matches!(words.next()?, "t" | "T" | "w" | "W");
    let name = words.next()?;
    (is_function && address != 0).then_some((address, name, words.next().is_none()))
}

/// Without what the compiler appends to parts and clones (`.isra.0`, `.constprop.0`, `.cold`).
fn plain_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(plain, _)| plain)
}

/// The names from the check upwards to the system call's entry.
pub(super) fn call_site(callers: &[u64], symbols: &BTreeMap<u64, String>) -> Vec<String> {
    let names: Vec<&str> =
        callers.iter().map_while(|address| symbols.get(address)).map(String::as_str).collect();
    let check = names.iter().rposition(|name| is_check(name));
    names[check.map_or(0, |index| index + 1)..]
        .iter()
        .take_while(|name| !is_entry(name))
        .map(|&name| name.to_owned())
        .collect()
}

/// The check itself, and what a probe at it puts between it and its caller.
fn is_check(name: &str) -> bool {
    matches!(name, "cap_capable" | "security_capable")
        || name.starts_with("bpf_trampoline_")
        || name.strip_prefix("bpf_prog_").is_some_and(is_tagged)
}

/// Whether the rest of a name is that of a loaded program, `TAG_NAME` (`bpf_get_prog_name`, kernel/bpf/core.c): the
/// kernel has functions of its own whose names begin like theirs.
fn is_tagged(rest: &str) -> bool {
    const TAG: usize = 16;
    let tag = rest.split('_').next().unwrap_or_default();
    tag.len() == TAG && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where the kernel is entered: above it there is nothing to learn.
fn is_entry(name: &str) -> bool {
    ["__x64_sys_", "__ia32_sys_", "__do_sys_", "__se_sys_", "__arm64_sys_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "do_syscall_64" | "x64_sys_call" | "ia32_sys_call" | "asm_exc_page_fault" | "ret_from_fork"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "ffffffff81000020 t second.isra.0\nffffffff81000030 D data\nffffffff81000000 T first\n\
                         ffffffffc0000000 t other\t[module]\n";

    fn found(addresses: &[u64]) -> Vec<(u64, Symbol)> {
        resolve_in(TABLE.as_bytes(), addresses)
    }

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let kernel = 0xffff_ffff_8100_0000;
        let addresses =
            [kernel, kernel + 0x10, kernel + 0x20, kernel + 0x31, kernel + 0x32, 0xffff_ffff_c000_0001];
        let names: Vec<(u64, String, bool)> = found(&addresses)
            .into_iter()
            .map(|(address, symbol)| (address, symbol.name, symbol.stays))
            .collect();
        let expected = [
            (kernel + 0x10, "first", true),
            // The call ends `first`.
            (kernel + 0x20, "first", true),
            (kernel + 0x31, "second", true),
            (kernel + 0x32, "second", true),
            (0xffff_ffff_c000_0001, "other", false),
        ];
        assert_eq!(names, expected.map(|(address, name, stays)| (address, name.to_owned(), stays)));
    }

    #[test]
    fn what_is_known_of_the_kernel_is_not_looked_up_again() {
        let mut known = BTreeMap::from([(7, "seven".to_owned())]);
        assert_eq!(resolve(&BTreeSet::from([7]), &mut known), known);
    }

    #[test]
    fn the_kernels_own_functions_for_programs_are_callers() {
        let symbols: BTreeMap<u64, String> = (1..)
            .zip([
                "bpf_prog_0123456789abcdef_sees",
                "bpf_prog_select_runtime",
                "do_seccomp",
                "__x64_sys_seccomp",
            ])
            .map(|(address, name)| (address, name.to_owned()))
            .collect();
        assert_eq!(call_site(&[1, 2, 3, 4], &symbols), ["bpf_prog_select_runtime", "do_seccomp"]);
    }

    #[test]
    fn hidden_addresses_give_no_names() {
        assert!(resolve_in("0000000000000000 T first\n".as_bytes(), &[1]).is_empty());
    }
}
