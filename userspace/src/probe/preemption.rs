//! Whether the kernel may preempt a program of ours: then it skips the program for other tasks meanwhile.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use btf_rs::{Btf, Type};
use rustix::fs::{Mode, OFlags};

use super::{cgroup2, offsets};

/// What may be preempted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preemption {
    /// Programs at BTF tracepoints.
    pub(super) tracepoints: bool,
    /// Whatever the kernel does, unless it says otherwise.
    pub(super) kernel: bool,
}

/// Asks the running kernel.
pub(super) fn ask(btf: &Btf) -> Preemption {
    let kernel = kernel_is_preemptible();
    // Where the test itself does not work, what the kernel skips is still counted.
    Preemption { kernel, tracepoints: kernel && tracepoints_are_preemptible(btf).unwrap_or(false) }
}

/// Whether tasks are preempted in the kernel, by its build's name (`UTS_VERSION`, `scripts/mkcompile_h`) and by
/// the mode that it was booted with. Assumed where it cannot be told.
fn kernel_is_preemptible() -> bool {
    let system = rustix::system::uname();
    is_preemptible(&system.version().to_string_lossy(), mode().ok().as_deref())
}

fn is_preemptible(version: &str, mode: Option<&str>) -> bool {
    let mut words = version.split_whitespace().filter(|word| word.starts_with("PREEMPT"));
    match words.next() {
        None => false,
        Some("PREEMPT_DYNAMIC") => {
            // `none (voluntary) full`: `sched_dynamic_show`, kernel/sched/debug.c.
            let chosen = mode.and_then(|modes| modes.split_once('(')?.1.split_once(')'));
            !matches!(chosen, Some(("none" | "voluntary", _)))
        }
        Some(_) => true,
    }
}

/// The choice of a kernel with `CONFIG_PREEMPT_DYNAMIC`.
fn mode() -> Result<String> {
    let debugfs = cgroup2::detached("debugfs")?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut file: File = rustix::fs::openat(debugfs, "sched/preempt", flags, Mode::empty())?.into();
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Runs a program at a tracepoint that reads how often preemption was switched off there.
fn tracepoints_are_preemptible(btf: &Btf) -> Result<bool> {
    /// `PREEMPT_MASK`, include/linux/preempt.h.
    const PREEMPT_MASK: u32 = 0xff;
    let map = map().context("cannot make a map")?;
    let program = load(btf, &map)?;
    let attached = attach(&program).context("cannot attach")?;
    // Any system call does, of anybody.
    let _ = rustix::process::getppid();
    drop(attached);
    let [ran, count] = look_up(&map)?;
    anyhow::ensure!(ran == 1, "the program did not run");
    Ok(count & PREEMPT_MASK == 0)
}

/// One eBPF instruction: opcode, registers (source in the high half), offset, constant.
fn instruction(code: u8, registers: u8, offset: u16, constant: u32) -> u64 {
    u64::from(code) | u64::from(registers) << 8 | u64::from(offset) << 16 | u64::from(constant) << 32
}

/// Loads the program. The count is a per-processor variable, on some kernels in a structure of such.
fn load(btf: &Btf, map: &OwnedFd) -> Result<OwnedFd> {
    const LOAD_WIDE: u8 = 0x18;
    const LOAD_WORD: u8 = 0x61;
    const STORE_WORD: u8 = 0x63;
    const STORE_CONSTANT: u8 = 0x62;
    const SET: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    /// Source registers of a wide load: a map's value, a kernel variable (`BPF_PSEUDO_MAP_VALUE`,
    /// `BPF_PSEUDO_BTF_ID`).
    const MAP_VALUE: u8 = 2 << 4;
    const VARIABLE: u8 = 3 << 4;
    const THIS_CPU_POINTER: u32 = 154;
    let (variable, offset) = match variable(btf, "__preempt_count") {
        Some(id) => (id, 0),
        None => (
            variable(btf, "pcpu_hot").context("this kernel's BTF has no preemption count")?,
            offsets::field(btf, "pcpu_hot", "preempt_count")?,
        ),
    };
    let instructions = [
        instruction(LOAD_WIDE, 1 | VARIABLE, 0, variable),
        0,
        instruction(CALL, 0, 0, THIS_CPU_POINTER),
        instruction(LOAD_WORD, 2, u16::try_from(offset)?, 0),
        instruction(LOAD_WIDE, 1 | MAP_VALUE, 0, map.as_raw_fd().cast_unsigned()),
        0,
        instruction(STORE_CONSTANT, 1, 0, 1),
        instruction(STORE_WORD, 1 | 2 << 4, 4, 0),
        instruction(SET, 0, 0, 0),
        instruction(EXIT, 0, 0, 0),
    ];
    let target = id(btf, "btf_trace_sys_enter", |found| matches!(found, Type::Typedef(_)))
        .context("this kernel has no tracepoint sys_enter")?;
    load_at(&instructions, target).context("cannot load")
}

fn variable(btf: &Btf, name: &str) -> Option<u32> {
    id(btf, name, |found| matches!(found, Type::Var(_)))
}

fn id(btf: &Btf, name: &str, is: impl Fn(&Type) -> bool) -> Option<u32> {
    let ids = btf.resolve_ids_by_name(name).unwrap_or_default();
    ids.into_iter().find(|&id| btf.resolve_type_by_id(id).is_ok_and(|found| is(&found)))
}

/// `union bpf_attr` as the 32-bit words that the commands here read, include/uapi/linux/bpf.h.
#[repr(C, align(8))]
struct Attributes([u32; 32]);

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the attributes are live and of that size; each caller keeps alive what they point to.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<Attributes>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

fn descriptor(command: libc::c_long, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: these commands return a descriptor that is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address in two words.
fn words<T>(pointer: *const T) -> [u32; 2] {
    let address = pointer as u64;
    #[expect(clippy::cast_possible_truncation, reason = "the other half is beside it")]
    [address as u32, (address >> 32) as u32]
}

fn map() -> io::Result<OwnedFd> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let mut attributes = Attributes([0; 32]);
    attributes.0[..4].copy_from_slice(&[BPF_MAP_TYPE_ARRAY, 4, 8, 1]);
    descriptor(BPF_MAP_CREATE, &mut attributes)
}

fn load_at(instructions: &[u64], target: u32) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_TRACING: u32 = 26;
    const BPF_TRACE_RAW_TP: u32 = 23;
    let mut attributes = Attributes([0; 32]);
    let words_of = &mut attributes.0;
    words_of[0] = BPF_PROG_TYPE_TRACING;
    words_of[1] = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    words_of[2..4].copy_from_slice(&words(instructions.as_ptr()));
    words_of[4..6].copy_from_slice(&words(c"GPL".as_ptr()));
    // expected_attach_type, attach_btf_id.
    words_of[17] = BPF_TRACE_RAW_TP;
    words_of[27] = target;
    descriptor(BPF_PROG_LOAD, &mut attributes)
}

fn attach(program: &OwnedFd) -> io::Result<OwnedFd> {
    const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
    let mut attributes = Attributes([0; 32]);
    attributes.0[2] = program.as_raw_fd().cast_unsigned();
    descriptor(BPF_RAW_TRACEPOINT_OPEN, &mut attributes)
}

fn look_up(map: &OwnedFd) -> io::Result<[u32; 2]> {
    const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
    let (key, mut value) = (0_u32, [0_u32; 2]);
    let mut attributes = Attributes([0; 32]);
    attributes.0[0] = map.as_raw_fd().cast_unsigned();
    attributes.0[2..4].copy_from_slice(&words(&raw const key));
    attributes.0[4..6].copy_from_slice(&words((&raw mut value).cast_const()));
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_counts_where_the_kernel_can_choose() {
        assert!(!is_preemptible("#1 SMP Debian 5.10.223-1", None));
        assert!(is_preemptible("#1 SMP PREEMPT Debian 5.10", None));
        assert!(is_preemptible("#1 SMP PREEMPT_RT Debian 6.1", Some("none (voluntary) full")));
        assert!(!is_preemptible("#1 SMP PREEMPT_DYNAMIC Debian", Some("none (voluntary) full \n")));
        assert!(!is_preemptible("#1 SMP PREEMPT_DYNAMIC Debian", Some("(none) voluntary full \n")));
        assert!(is_preemptible("#1 SMP PREEMPT_DYNAMIC Debian", Some("full (lazy) \n")));
        assert!(is_preemptible("#1 SMP PREEMPT_DYNAMIC Debian", None));
    }

    #[test]
    fn the_running_kernel_tells_where_it_names_its_variables() {
        // Without CONFIG_KALLSYMS_ALL the verifier finds no variable (check_pseudo_btf_id).
        let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap();
        let named =
            symbols.lines().any(|line| line.ends_with(" __preempt_count") || line.ends_with(" pcpu_hot"));
        let told = tracepoints_are_preemptible(&offsets::kernel_types().unwrap());
        assert_eq!(told.is_ok(), named, "{told:?}");
    }
}
