//! What the engines answer, as far as it matters here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
};

use serde::{Deserialize, Deserializer};

use crate::capability::Capability;

/// The parts of `docker info` that matter here; of `podman info`, what is the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Version of the engine, such as `20.10.24+dfsg1`.
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
    /// Capabilities of a container that asks for nothing, where the engine says so.
    #[serde(skip)]
    pub default_capabilities: Option<BTreeSet<Capability>>,
    /// Version of the default runtime, where the engine says so.
    #[serde(skip)]
    pub default_runtime_version: Option<String>,
    /// It runs without root.
    #[serde(skip)]
    pub rootless: bool,
    /// The client hands its containers to a service.
    #[serde(skip)]
    pub remote: bool,
}

/// The parts of `podman info` that matter here (podman `libpod/define/info.go`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodmanInfo {
    host: PodmanHost,
    store: PodmanStore,
    version: PodmanVersion,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodmanHost {
    arch: String,
    cgroup_manager: String,
    cgroup_version: String,
    kernel: String,
    oci_runtime: PodmanRuntime,
    security: PodmanSecurity,
    #[serde(default)]
    service_is_remote: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct PodmanRuntime {
    name: String,
    path: String,
    version: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of podman's answer")]
struct PodmanSecurity {
    #[serde(default)]
    apparmor_enabled: bool,
    #[serde(default)]
    capabilities: String,
    rootless: bool,
    #[serde(default)]
    seccomp_enabled: bool,
    #[serde(default)]
    selinux_enabled: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodmanStore {
    graph_driver_name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PodmanVersion {
    version: String,
}

impl From<PodmanInfo> for Info {
    fn from(info: PodmanInfo) -> Self {
        let PodmanInfo { host, store, version } = info;
        let PodmanRuntime { name, path, version: runtime_version } = host.oci_runtime;
        let security = [
            ("apparmor", host.security.apparmor_enabled),
            ("seccomp", host.security.seccomp_enabled),
            ("selinux", host.security.selinux_enabled),
            ("rootless", host.security.rootless),
        ];
        let names = host.security.capabilities.split(',').filter_map(|name| name.trim().parse().ok());
        Self {
            server_version: version.version,
            driver: store.graph_driver_name,
            cgroup_driver: host.cgroup_manager,
            cgroup_version: host.cgroup_version.trim_start_matches('v').to_owned(),
            kernel_version: host.kernel,
            architecture: host.arch,
            default_runtime_version: read_runtime_version(&name, &runtime_version),
            runtimes: BTreeMap::from([(name.clone(), Runtime { path: Some(path) })]),
            default_runtime: name,
            security_options: security
                .into_iter()
                .filter(|(_, on)| *on)
                .map(|(name, _)| format!("name={name}"))
                .collect(),
            server_errors: Vec::new(),
            default_capabilities: Some(names.collect()),
            rootless: host.security.rootless,
            remote: host.service_is_remote,
        }
    }
}

/// An OCI runtime that the daemon knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Runtime {
    /// Its program on the daemon's host; absent for a runtime that is a containerd shim.
    #[serde(default)]
    pub path: Option<String>,
}

/// The parts of `inspect` of a container that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Digest of the image's configuration, with docker behind `sha256:`.
    pub image: String,
    /// OCI runtime, where podman says it.
    #[serde(default, rename = "OCIRuntime")]
    pub oci_runtime: String,
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
    /// OCI runtime, where docker says it.
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
    /// `overlay2`, with podman `overlay`, and so on.
    pub name: String,
    /// Its own words; for those `LowerDir`, topmost first, with colons between.
    #[serde(default)]
    pub data: Option<BTreeMap<String, String>>,
}

impl GraphDriver {
    /// The directories of the image's layers on the daemon's host, topmost first.
    #[must_use]
    pub fn layers(&self) -> Vec<&str> {
        let overlay = matches!(self.name.as_str(), "overlay2" | "overlay");
        let lower = self.data.as_ref().filter(|_| overlay).and_then(|data| data.get("LowerDir"));
        lower.map(|lower| lower.split(':').collect()).unwrap_or_default()
    }
}

/// The parts of `inspect` of an image that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Image {
    id: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    repo_digests: Vec<String>,
    #[serde(default)]
    config: Option<Config>,
}

impl Image {
    /// A digest to name it by: its repository digest, else its ID.
    #[must_use]
    pub fn digest(&self) -> String {
        let id = self.id.strip_prefix("sha256:").unwrap_or(&self.id);
        self.repo_digests.iter().min().cloned().unwrap_or_else(|| format!("sha256:{id}"))
    }

    /// Whom its containers start as, when it says so.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.config.as_ref().map(|config| config.user.as_str()).filter(|user| !user.is_empty())
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
    /// Its OCI runtime; empty is the engine's default.
    #[must_use]
    pub fn runtime(&self) -> &str {
        if self.oci_runtime.is_empty() { &self.host_config.runtime } else { &self.oci_runtime }
    }

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

    /// The version of an OCI runtime, when it can be known.
    #[must_use]
    pub fn runtime_version(&self, name: &str) -> Option<String> {
        let said = self.default_runtime_version.clone().filter(|_| name == self.default_runtime);
        said.or_else(|| self.runtime_program(name).and_then(runtime_version))
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
