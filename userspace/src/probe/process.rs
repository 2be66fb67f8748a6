//! A child process: how it gives up privilege between fork and execve, and how signals reach it.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::Command,
    sync::atomic::{AtomicI32, Ordering},
};

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

/// What a child gives up before it executes its program.
#[derive(Debug)]
pub struct Confinement {
    /// `cgroup.procs`, open for writing, of the cgroups to move to.
    pub cgroups: Vec<File>,
    /// The capabilities to keep, as bits.
    pub capabilities: u64,
    /// Drop the others from the bounding set, too. Needs `CAP_SETPCAP`.
    pub bounding_set: bool,
    /// Set no-new-privileges. Without it the filter needs `CAP_SYS_ADMIN`.
    pub no_new_privileges: bool,
    /// The seccomp filter, installed last; it must allow execve.
    pub filter: Vec<libc::sock_filter>,
}

impl Confinement {
    /// Applies to every child that the command starts from now on.
    pub fn apply_to(self, command: &mut Command) {
        // SAFETY: `enter` runs between fork and execve. It allocates nothing, takes no lock, and makes
        // system calls on what was prepared before the fork.
        unsafe { command.pre_exec(move || self.enter()) };
    }

    fn enter(&self) -> io::Result<()> {
        for mut procs in &self.cgroups {
            // 0 is the writer itself, cgroups(7).
            procs.write_all(b"0")?;
        }
        let keep = CapabilitySet::from_bits_retain(self.capabilities);
        if self.bounding_set {
            for bit in 0..u64::BITS {
                let capability = CapabilitySet::from_bits_retain(1 << bit);
                if keep.contains(capability) {
                    continue;
                }
                match remove_capability_from_bounding_set(capability) {
                    Ok(()) => {}
                    // Beyond the last capability that this kernel has.
                    Err(Errno::INVAL) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut sets = capabilities(None)?;
        // Lowers the ambient set as well, kernel/capability.c and security/commoncap.c `cap_capset`.
        sets.inheritable &= keep;
        if self.no_new_privileges {
            // Else the filter below still needs CAP_SYS_ADMIN, and execve makes both sets anew from the
            // inheritable, ambient and bounding sets.
            sets.permitted &= keep;
            sets.effective &= keep;
        }
        set_capabilities(None, sets)?;
        if self.no_new_privileges {
            set_no_new_privs(true)?;
        }
        install(&self.filter)
    }
}

/// Installs a seccomp filter on the calling thread, for good.
fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::Error::from(Errno::TOOBIG))?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and the instructions it points to are live, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where [`forward_signals`] sends them; 0 is nowhere.
static CHILD: AtomicI32 = AtomicI32::new(0);

const FORWARDED: [libc::c_int; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// From now on passes signals that ask a process to do something on to this one, and survives them.
///
/// Not those that the terminal sends: its whole foreground process group gets them, the child as well. Not
/// those that are ignored already, as `nohup` arranges.
///
/// # Errors
/// The error of sigaction(2).
pub fn forward_signals(child: u32) -> io::Result<()> {
    CHILD.store(libc::pid_t::try_from(child).map_err(io::Error::other)?, Ordering::SeqCst);
    for signal in FORWARDED {
        // SAFETY: a zeroed sigaction is a valid one, with the default action and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: `action` is live and is written only.
        if unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if action.sa_sigaction == libc::SIG_IGN {
            continue;
        }
        action.sa_sigaction =
            forward as extern "C" fn(libc::c_int, *const libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: `forward` has the type that SA_SIGINFO asks for and is async-signal-safe.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The child has ended, and its number may soon be another's.
pub fn stop_forwarding_signals() {
    CHILD.store(0, Ordering::SeqCst);
}

extern "C" fn forward(signal: libc::c_int, info: *const libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let code = unsafe { (*info).si_code };
    let child = CHILD.load(Ordering::SeqCst);
    // A positive code is the kernel's own: the terminal's.
    if code > 0 || child == 0 {
        return;
    }
    // SAFETY: kill(2) is async-signal-safe; errno is this thread's own and is put back, because the code
    // that was interrupted may be about to read it.
    unsafe {
        let errno = *libc::__errno_location();
        libc::kill(child, signal);
        *libc::__errno_location() = errno;
    }
}
