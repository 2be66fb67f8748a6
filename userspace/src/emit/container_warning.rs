//! What a person should know before relying on a rewritten `run` line.

use std::fmt;

use crate::{
    capability::Capability, profile, shell::printable, trace::is_below, workload::engine::EngineKind,
};

/// One thing to know. Printed once and kept in the output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// The engine has no name for the needed capability, so a broader one stands in for it.
    Broader {
        /// What is needed.
        needed: Capability,
        /// What is granted.
        granted: Capability,
        /// Version of the engine.
        version: String,
    },
    /// The engine has no name for the needed capability, and no other stands in for it.
    UnknownCapability {
        /// What is needed.
        needed: Capability,
        /// Version of the engine.
        version: String,
    },
    /// Capabilities are needed, but the container starts as this user, who gets none.
    NonRoot(String),
    /// Capabilities are needed by programs that gain them, and the engine gives them to all of this user's.
    Ambient(String),
    /// `AppArmor` is turned off, and why.
    AppArmorOff {
        /// Whose own profile it would be.
        engine: EngineKind,
        /// What that denies.
        reason: String,
        /// Why no other profile takes its place.
        obstacle: String,
    },
    /// A `--device` that the recording did not use was dropped.
    UnusedDevice(String),
    /// A `--device` that names no path could not be matched with the recording and stays as it was.
    UncheckedDevice(String),
    /// A device is allowed by number only: the engine cannot take its path.
    DeviceWithoutNode(EngineKind, String),
    /// A path that is needed writable stays read-only: the engine has no narrow option for it.
    StaysReadOnly(EngineKind, String),
    /// The version of the OCI runtime was not measured, so the seccomp profile is a guess; in these words.
    Runtime(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broader { needed, granted, version } => write!(
                f,
                "docker {} does not know {needed}: {granted} stands in for it, which is far broader; docker 23 or newer takes the narrow one",
                printable(version)
            ),
            Self::UnknownCapability { needed, version } => {
                write!(
                    f,
                    "docker {} does not know {needed} and will refuse it: use a newer docker",
                    printable(version)
                )
            }
            Self::NonRoot(user) => write!(
                f,
                "the container starts as user `{}`, to whom docker gives no capability: only a set-user-id program or one with file capabilities can use those in this line",
                printable(user)
            ),
            Self::Ambient(user) => write!(
                f,
                "podman gives these capabilities to every program of the user `{}`, not only to those that are set-user-id or have file capabilities, as --privileged does",
                printable(user)
            ),
            Self::AppArmorOff { engine, reason, obstacle } => write!(
                f,
                "AppArmor is off (apparmor=unconfined), as the profile {} denies what was used ({}) and no other could take its place: {}",
                engine.apparmor_profile(),
                printable(reason),
                printable(obstacle)
            ),
            Self::UnusedDevice(device) => {
                write!(f, "--device {} was not used in the recording and is left out", printable(device))
            }
            Self::UncheckedDevice(device) => {
                write!(f, "--device {} is no device path and stays as it was, unchecked", printable(device))
            }
            Self::DeviceWithoutNode(engine, path) => write!(
                f,
                "{engine} cannot take the device path {}: the device is allowed by number, and the container has to bring the node",
                printable(path)
            ),
            Self::StaysReadOnly(_, path) if is_below(path, "/sys/fs/cgroup") => write!(
                f,
                "{} was written, which takes docker 28 or newer (writable-cgroups) or podman (unmask): it stays read-only here",
                printable(path)
            ),
            Self::StaysReadOnly(engine, path) => write!(
                f,
                "{} was written, and {engine} has no narrow option that makes it writable: bind mount what is needed",
                printable(path)
            ),
            Self::Runtime(words) => f.write_str(words),
        }
    }
}

impl From<Warning> for profile::Warning {
    fn from(warning: Warning) -> Self {
        Self::Note(warning.to_string())
    }
}
