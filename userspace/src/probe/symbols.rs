//! Names for kernel return addresses, from /proc/kallsyms, and the call sites that they make.

use std::collections::{BTreeMap, BTreeSet};

/// The function that holds each address. Empty when the kernel shows no addresses (`kptr_restrict`).
pub(super) fn resolve(addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let Ok(text) = std::fs::read_to_string("/proc/kallsyms") else { return BTreeMap::new() };
    resolve_in(&text, addresses)
}

fn resolve_in(text: &str, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut symbols: Vec<(u64, &str)> = text.lines().filter_map(function).collect();
    symbols.sort_unstable();
    addresses
        .iter()
        .filter_map(|&address| {
            // A return address is behind the call: the call itself may be a function's last instruction.
            let after = symbols.partition_point(|&(start, _)| start < address);
            let (_, name) = symbols.get(after.checked_sub(1)?)?;
            Some((address, plain_name(name).to_owned()))
        })
        .collect()
}

/// Address and name of a line of kallsyms that is a function's.
fn function(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_function = matches!(words.next()?, "t" | "T" | "w" | "W");
    (is_function && address != 0).then_some((address, words.next()?))
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

    const TABLE: &str =
        "ffffffff81000000 T first\nffffffff81000020 t second.isra.0\nffffffff81000030 D data\n";

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let wanted = BTreeSet::from([0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020, 0xffff_ffff_8100_0031]);
        let found = resolve_in(TABLE, &wanted);
        assert_eq!(found[&0xffff_ffff_8100_0010], "first");
        assert_eq!(found[&0xffff_ffff_8100_0020], "first", "the call ends `first`");
        assert_eq!(found[&0xffff_ffff_8100_0031], "second");
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
        assert!(resolve_in("0000000000000000 T first\n", &BTreeSet::from([1])).is_empty());
    }
}
