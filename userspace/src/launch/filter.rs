//! A seccomp profile as a classic BPF program, for several ABIs at once.
//!
//! The kernel shows a filter the call's number and its `AUDIT_ARCH_…`. x32 calls come as `AUDIT_ARCH_X86_64`
//! with bit 30 set in the number. For each architecture the program is a list of number ranges with one
//! answer each, from the highest down.

use std::collections::BTreeMap;

use libc::sock_filter;

use crate::{
    emit::seccomp::{Problem, abis},
    profile::{Action, Seccomp},
    syscalls::Abi,
};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// `__X32_SYSCALL_BIT`, `arch/x86/include/uapi/asm/unistd.h`.
const X32_BIT: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The filter. A call by an ABI that the profile does not list kills the process, as libseccomp's filters
/// kill its thread; a program of several threads would otherwise hang.
///
/// # Errors
/// Architectures that are missing or unknown.
pub(super) fn compile(seccomp: &Seccomp) -> Result<Vec<sock_filter>, Problem> {
    let abis = abis(seccomp)?;
    let has = |abi| abis.contains(&abi);
    let default = answer(seccomp.default_action, seccomp.default_errno_ret);
    let outside = |abi| if has(abi) { default } else { libc::SECCOMP_RET_KILL_PROCESS };

    let mut native = BTreeMap::from([
        (0, outside(Abi::X86_64)),
        (X32_BIT, outside(Abi::X32)),
        // syscall(-1) is no x32 call but the number of none at all.
        (u32::MAX, outside(Abi::X86_64)),
    ]);
    let mut i386 = BTreeMap::from([(0, outside(Abi::X86))]);
    for &abi in &abis {
        let (ranges, bit) = match abi {
            Abi::X86_64 => (&mut native, 0),
            Abi::X32 => (&mut native, X32_BIT),
            Abi::X86 => (&mut i386, 0),
        };
        for rule in &seccomp.syscalls {
            for number in rule.names.iter().filter_map(|name| abi.number(name)) {
                let number = number | bit;
                ranges.insert(number, answer(rule.action, rule.errno_ret));
                ranges.entry(number + 1).or_insert(default);
            }
        }
    }

    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, ARCHITECTURE)];
    for (architecture, ranges) in [(AUDIT_ARCH_X86_64, native), (AUDIT_ARCH_I386, i386)] {
        let section = section(ranges);
        // Past the section; every section ends by returning. A conditional jump reaches only 255 further.
        let length = u32::try_from(section.len()).unwrap_or(u32::MAX);
        program.push(jump(libc::BPF_JEQ, architecture, 1, 0));
        program.push(statement(libc::BPF_JMP | libc::BPF_JA, length));
        program.extend(section);
    }
    program.push(returns(libc::SECCOMP_RET_KILL_PROCESS));
    Ok(program)
}

/// The answers for one architecture, by the first number of each range.
fn section(ranges: BTreeMap<u32, u32>) -> Vec<sock_filter> {
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for range in ranges {
        if merged.last().is_none_or(|last| last.1 != range.1) {
            merged.push(range);
        }
    }
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER)];
    for (first, answer) in merged.into_iter().rev() {
        if first > 0 {
            program.push(jump(libc::BPF_JGE, first, 0, 1));
        }
        program.push(returns(answer));
    }
    program
}

fn answer(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        // Runtimes take EPERM when the profile has no errno.
        Action::Errno => {
            libc::SECCOMP_RET_ERRNO | (errno.unwrap_or(libc::EPERM.cast_unsigned()) & libc::SECCOMP_RET_DATA)
        }
    }
}

fn returns(answer: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, answer)
}

fn statement(code: u32, k: u32) -> sock_filter {
    instruction(code, k, 0, 0)
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, k, jt, jf)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Classic BPF codes have 8 bits.
    sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::seccomp::workload_seccomp;

    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

    /// What the kernel's interpreter would answer, for the instructions that `compile` uses.
    fn ask(program: &[sock_filter], architecture: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let branch = |yes: bool| usize::from(if yes { jt } else { jf });
            match (code, k) {
                (0x20, NUMBER) => accumulator = number,
                (0x20, ARCHITECTURE) => accumulator = architecture,
                (0x05, _) => at += k as usize,
                (0x15, _) => at += branch(accumulator == k),
                (0x35, _) => at += branch(accumulator >= k),
                (0x06, _) => return k,
                _ => panic!("code {code:#x}"),
            }
        }
    }

    fn profile(abis: &[Abi]) -> Seccomp {
        let names = ["read", "mmap2", "getdents64"].map(str::to_owned);
        workload_seccomp(&abis.iter().map(|&abi| (abi, names.clone().into())).collect()).0
    }

    #[test]
    fn every_number_of_every_listed_abi_gets_its_rules_answer() {
        let seccomp = profile(&Abi::ALL);
        let program = compile(&seccomp).unwrap();
        for (abi, architecture, bit) in [
            (Abi::X86_64, AUDIT_ARCH_X86_64, 0),
            (Abi::X86, AUDIT_ARCH_I386, 0),
            (Abi::X32, AUDIT_ARCH_X86_64, X32_BIT),
        ] {
            for number in 0..1000 {
                let rule = abi.name(number).and_then(|name| {
                    seccomp.syscalls.iter().find(|rule| rule.names.iter().any(|listed| listed == name))
                });
                let expected = match rule.map(|rule| rule.action) {
                    Some(Action::Allow) => ALLOW,
                    Some(Action::Errno) => EPERM,
                    None => ENOSYS,
                };
                assert_eq!(ask(&program, architecture, number | bit), expected, "{abi} {number}");
            }
        }
        assert_eq!(ask(&program, AUDIT_ARCH_X86_64, u32::MAX), ENOSYS);
        assert_eq!(ask(&program, 0xc000_00b7, 0), KILL);
    }

    #[test]
    fn an_abi_that_is_not_listed_is_killed() {
        let program = compile(&profile(&[Abi::X86_64])).unwrap();
        assert_eq!(ask(&program, AUDIT_ARCH_X86_64, 0), ALLOW);
        assert_eq!(ask(&program, AUDIT_ARCH_I386, 3), KILL);
        assert_eq!(ask(&program, AUDIT_ARCH_X86_64, X32_BIT), KILL);
        assert_eq!(ask(&program, AUDIT_ARCH_X86_64, u32::MAX), ENOSYS);
    }

    #[test]
    fn a_full_profile_stays_below_the_kernels_limit() {
        let every_second = |abi: Abi| abi.syscalls().step_by(2).map(|(_, name)| name.to_owned()).collect();
        let calls = Abi::ALL.into_iter().map(|abi| (abi, every_second(abi))).collect();
        // BPF_MAXINSNS
        assert!(compile(&workload_seccomp(&calls).0).unwrap().len() < 4096);
    }
}
