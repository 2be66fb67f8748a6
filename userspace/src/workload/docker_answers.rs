//! What docker answers, as far as it matters here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
};

use serde::{Deserialize, Deserializer};

/// The parts of `docker info` that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Version of the daemon, such as `20.10.24+dfsg1`.
    #[serde(default)]
    pub server_version: String,
    /// Storage driver, such as `overlay2`.
    #[serde(default)]
    pub driver: String,
    /// `cgroupfs`, `systemd` or `none`.
    #[serde(default)]
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(default)]
    pub cgroup_version: String,
    /// Kernel release of the daemon's host.
    #[serde(default)]
    pub kernel_version: String,
    /// Machine architecture of the daemon's host.
    #[serde(default)]
    pub architecture: String,
    /// The OCI runtime of a run without `--runtime`.
    #[serde(default)]
    pub default_runtime: String,
    /// OCI runtimes by name.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub runtimes: BTreeMap<String, Runtime>,
    /// Such as `name=seccomp,profile=default`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub security_options: Vec<String>,
    /// Why the daemon's part is missing.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub server_errors: Vec<String>,
}

/// An OCI runtime that the daemon knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Runtime {
    /// Its program on the daemon's host; absent for a runtime that is a containerd shim.
    #[serde(default)]
    pub path: Option<String>,
}

/// The parts of `docker inspect` of a container that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// With a slash before it.
    #[serde(default)]
    pub name: String,
    /// The first program.
    #[serde(default)]
    pub path: String,
    /// Its arguments.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub args: Vec<String>,
    /// Digest of the image's configuration, `sha256:…`.
    pub image: String,
    /// Where it is in its life.
    pub state: State,
    /// What it was made with.
    pub host_config: HostConfig,
    /// What the image and the line say of the process.
    pub config: Config,
    /// Where its layers are; absent with containerd's image store.
    #[serde(default)]
    pub graph_driver: Option<GraphDriver>,
    /// The profile in force, on a host with `AppArmor`.
    #[serde(default)]
    pub app_armor_profile: String,
}

/// State of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// `created`, `running`, `exited`, …
    pub status: String,
    /// The first process on the host; 0 when there is none.
    pub pid: i64,
    /// Exit status, meaningful once it has run.
    pub exit_code: i32,
    /// The kernel ended it for lack of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Why it could not be started.
    #[serde(default)]
    pub error: String,
}

/// What a container was made with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// OCI runtime.
    #[serde(default)]
    pub runtime: String,
    /// `--privileged`.
    #[serde(default)]
    pub privileged: bool,
}

/// The storage of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// `overlay2` and so on.
    pub name: String,
    /// Its own words; for overlay2 `LowerDir`, topmost first, with colons between.
    #[serde(default)]
    pub data: Option<BTreeMap<String, String>>,
}

impl GraphDriver {
    /// The directories of the image's layers on the daemon's host, topmost first.
    #[must_use]
    pub fn layers(&self) -> Vec<&str> {
        let lower =
            self.data.as_ref().filter(|_| self.name == "overlay2").and_then(|data| data.get("LowerDir"));
        lower.map(|lower| lower.split(':').collect()).unwrap_or_default()
    }
}

/// The process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Its user: the line's, else the image's; empty is root.
    #[serde(default)]
    pub user: String,
}

impl Container {
    /// Why the entrypoint never ran, when the runtime failed before it. `docker run` says so by exit status
    /// 125, 126 or 127, which `docker start` does not: it is 1.
    #[must_use]
    pub fn start_failure(&self) -> Option<&str> {
        let error = self.state.error.as_str();
        (self.state.status == "created" && !error.is_empty()).then_some(error)
    }
}

impl Info {
    /// Linux security modules that the engine applies: `apparmor`, `selinux`; and `seccomp`, `rootless`,
    /// `userns` and the other names that docker lists with them are left out.
    #[must_use]
    pub fn security_modules(&self) -> BTreeSet<String> {
        let names = self.security_options.iter().filter_map(|option| {
            let name = option.split(',').find_map(|field| field.strip_prefix("name=")).unwrap_or(option);
            matches!(name, "apparmor" | "selinux").then(|| name.to_owned())
        });
        names.collect()
    }

    /// The program of an OCI runtime on the daemon's host, when it is one.
    #[must_use]
    pub fn runtime_program(&self, name: &str) -> Option<&str> {
        let path = self.runtimes.get(name)?.path.as_deref()?;
        // A containerd shim (`io.containerd.runc.v2`) is looked up by name and is no program of that name.
        (!path.is_empty() && !path.starts_with("io.containerd.")).then_some(path)
    }
}

/// The version that a local OCI runtime prints; `None` when it is not here, as with a remote daemon.
#[must_use]
pub fn runtime_version(program: &str) -> Option<String> {
    let name = Path::new(program).file_name()?.to_str()?;
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    output.status.success().then_some(())?;
    read_runtime_version(name, &String::from_utf8_lossy(&output.stdout))
}

/// `runc version 1.1.5+ds1`, `crun version 1.8.1`; the first line's last word.
pub(super) fn read_runtime_version(name: &str, text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let version = line
        .strip_prefix(name)?
        .trim()
        .strip_prefix("version")
        .unwrap_or(line)
        .split_whitespace()
        .next_back()?;
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
}

/// Go writes an empty list or map as `null`.
pub(super) fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
