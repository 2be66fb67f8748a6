//! Container engines whose `run` lines are understood, and how their command lines differ.

use std::fmt;

use super::run_tables::{self as tables, Row};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineKind {
    /// docker: a client and a daemon.
    Docker,
    /// podman, run by root: no daemon.
    Podman,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// By the name of the program that a line starts with.
    #[must_use]
    pub fn of(program: &str) -> Option<Self> {
        match program.rsplit('/').next() {
            Some("docker") => Some(Self::Docker),
            Some("podman") => Some(Self::Podman),
            _ => None,
        }
    }

    /// As it is called, also its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// `docker run`.
    #[must_use]
    pub fn run(self) -> &'static str {
        match self {
            Self::Docker => "docker run",
            Self::Podman => "podman run",
        }
    }

    /// Versions whose options are known.
    #[must_use]
    pub fn known_versions(self) -> &'static str {
        match self {
            Self::Docker => "docker 20.10 to 29.7",
            Self::Podman => "podman 4.3 to 5.8",
        }
    }

    /// What confines its containers on a host with `AppArmor` (moby/profiles `apparmor`, container-libs
    /// `common/pkg/apparmor`); podman's name ends with the version of that library.
    #[must_use]
    pub fn apparmor_profile(self) -> &'static str {
        match self {
            Self::Docker => "docker-default",
            Self::Podman => "containers-default",
        }
    }

    /// Options before the command.
    pub(super) fn global_options(self) -> &'static [&'static [Row]] {
        match self {
            Self::Docker => &[tables::DOCKER_GLOBAL],
            Self::Podman => &[tables::PODMAN_GLOBAL, tables::PODMAN_EVERYWHERE],
        }
    }

    /// Options of `run`.
    pub(super) fn run_options(self) -> &'static [&'static [Row]] {
        match self {
            Self::Docker => &[tables::RUN, tables::DOCKER_RUN],
            Self::Podman => &[tables::RUN, tables::PODMAN_RUN, tables::PODMAN_EVERYWHERE],
        }
    }

    /// Options of `run` that `create` does not have, and that change nothing in what is made.
    pub(super) fn run_only(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["detach", "detach-keys", "sig-proxy"],
            Self::Podman => &["detach", "detach-keys", "sig-proxy", "passwd"],
        }
    }

    /// Options that may stand among those of `run`, and that every other command about the container needs
    /// as well: they say where it is.
    pub(super) fn is_everywhere(self, option: &str) -> bool {
        self == Self::Podman && tables::PODMAN_EVERYWHERE.iter().any(|row| row.0 == option)
    }

    /// Whether one value of this option is a list with commas (pflag's `StringSlice`).
    pub(super) fn takes_list(self, option: &str) -> bool {
        const LISTS: [&str; 5] = ["attach", "cap-add", "cap-drop", "device", "device-cgroup-rule"];
        self == Self::Podman && LISTS.contains(&option)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
