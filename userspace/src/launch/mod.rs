//! Runs a plain command under a profile, without a container engine.
//!
//! The child joins a device cgroup, drops capabilities, sets no-new-privileges where that changes nothing,
//! installs the seccomp filter, and executes the command: nothing else runs under the filter.

mod cgroup;
mod devices;
mod executable;
mod filter;

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use rustix::{
    io::Errno,
    thread::{CapabilitySet, capabilities, capability_is_in_bounding_set},
};

pub use self::{
    cgroup::{CgroupError, DeviceCgroup, device_control},
    executable::NotExecutable,
};
use crate::{
    capability::Capability,
    emit::seccomp::{self, Problem},
    probe::process::Confinement,
    profile::Profile,
    shell::one_line,
};

/// How to launch, besides the profile.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Leave devices to file permissions alone: no cgroup is made.
    pub without_device_cgroup: bool,
    /// Where to look for the command; `None` is this process's `PATH`.
    pub search_path: Option<OsString>,
}

/// A command that will run under a profile.
#[derive(Debug)]
pub struct Launch {
    /// To set up further (standard streams, directory, environment) and to spawn. Every process that it
    /// starts is confined. Do not change its user: capabilities would be gone before they can be dropped.
    pub command: Command,
    /// Where it runs. Remove it when the command has ended.
    pub cgroup: Option<DeviceCgroup>,
    executable: PathBuf,
}

/// Why a command cannot run under a profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No command at all.
    #[error("no command to run")]
    NoCommand,
    /// Its file cannot be executed.
    #[error(transparent)]
    Executable(#[from] NotExecutable),
    /// The profile's seccomp part cannot work.
    #[error(transparent)]
    Seccomp(#[from] Problem),
    /// The profile says that executing a file gains privilege, so no-new-privileges cannot stand in.
    #[error(
        "without no-new-privileges, which would change what this command does, {0} is needed to drop \
         privilege: run as root"
    )]
    Unprivileged(&'static str),
    /// Devices cannot be restricted.
    #[error("cannot restrict devices: {0}; run as root, or leave devices alone with --no-device-cgroup")]
    Cgroup(#[from] CgroupError),
    /// This process's own capabilities cannot be read.
    #[error("cannot read the capabilities of this process: {0}")]
    Capabilities(io::Error),
    /// The child failed before or in execve.
    #[error("{}: {error}{}", one_line(&path.to_string_lossy()), hint(error))]
    Start {
        /// The executable.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl Error {
    /// The exit status for it: 127 and 126 as shells have them, else the tool's own.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Executable(NotExecutable::NotFound(_)) => 127,
            Self::Executable(NotExecutable::Refused { .. }) | Self::Start { .. } => 126,
            Self::NoCommand | Self::Seccomp(_) => 2,
            Self::Unprivileged(_) | Self::Cgroup(_) | Self::Capabilities(_) => 4,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // kernel security/commoncap.c, `get_file_caps`
        Some(libc::EPERM) => " (its file capabilities may need more than the profile grants)",
        Some(libc::ENOENT) => " (its interpreter is missing)",
        _ => "",
    }
}

/// The file that a command's name stands for, as a shell would find it.
///
/// # Errors
/// When there is none, or it cannot be executed.
pub fn find(name: &str) -> Result<PathBuf, Error> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    Ok(executable::find(std::ffi::OsStr::new(name), &search)?)
}

/// Prepares a command to run under a profile. Makes the cgroup, starts nothing.
///
/// The profile's [`Paths`](crate::profile::Paths) do not matter here: only engines mask paths.
///
/// # Errors
/// When the command is no executable, the profile cannot work, or this process lacks a privilege that
/// applying it needs.
pub fn prepare(profile: &Profile, arguments: &[OsString], options: &Options) -> Result<Launch, Error> {
    let (name, rest) = arguments.split_first().ok_or(Error::NoCommand)?;
    let search = options.search_path.clone().or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let executable = executable::find(name, &search)?;
    seccomp::check(&profile.seccomp)?;
    let mut confinement = confinement(profile)?;
    let cgroup = if options.without_device_cgroup {
        None
    } else {
        Some(DeviceCgroup::create(&devices::rules(&profile.devices))?)
    };
    if let Some(cgroup) = &cgroup {
        confinement.cgroups.push(cgroup.entrance()?);
    }
    let mut command = Command::new(&executable);
    command.arg0(name).args(rest);
    confinement.apply_to(&mut command);
    Ok(Launch { command, cgroup, executable })
}

impl Launch {
    /// The file that will be executed.
    #[must_use]
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Start`]. Under a profile without `write` the child cannot tell that execve failed: it is then
    /// a child that a signal ended.
    pub fn spawn(&mut self) -> Result<Child, Error> {
        self.command.spawn().map_err(|error| Error::Start { path: self.executable.clone(), error })
    }
}

fn confinement(profile: &Profile) -> Result<Confinement, Error> {
    let keep = CapabilitySet::from_bits_retain(Capability::to_bits(&profile.capabilities));
    let own = capabilities(None).map_err(|error| Error::Capabilities(error.into()))?.effective;
    let no_new_privileges = !profile.gains_privileges;
    if !no_new_privileges {
        // kernel/seccomp.c, `seccomp_prepare_filter`
        if !own.contains(CapabilitySet::SYS_ADMIN) {
            return Err(Error::Unprivileged("CAP_SYS_ADMIN"));
        }
        if !own.contains(CapabilitySet::SETPCAP) && bounding_set_exceeds(keep)? {
            return Err(Error::Unprivileged("CAP_SETPCAP"));
        }
    }
    Ok(Confinement {
        cgroups: Vec::new(),
        capabilities: keep.bits(),
        // With no-new-privileges nothing is gained from the bounding set at execve.
        bounding_set: own.contains(CapabilitySet::SETPCAP),
        no_new_privileges,
        filter: filter::compile(&profile.seccomp)?,
    })
}

fn bounding_set_exceeds(keep: CapabilitySet) -> Result<bool, Error> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !keep.contains(capability) => return Ok(true),
            Ok(_) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(Error::Capabilities(error.into())),
        }
    }
    Ok(false)
}
