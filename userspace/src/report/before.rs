//! What the user's line granted before.

use std::collections::BTreeSet;

use crate::{capability::Capability, workload::run_line::RunLine};

/// What docker gives to a container that asks for nothing (moby `oci/caps/defaults.go`). Podman says what it
/// gives.
const DOCKER_DEFAULT: [Capability; 14] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FSETID,
    Capability::FOWNER,
    Capability::MKNOD,
    Capability::NET_RAW,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETFCAP,
    Capability::SETPCAP,
    Capability::NET_BIND_SERVICE,
    Capability::SYS_CHROOT,
    Capability::KILL,
    Capability::AUDIT_WRITE,
];

/// What there is to grant on the host of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The bounding set: what "all capabilities" are.
    pub capabilities: BTreeSet<Capability>,
    /// Linux security modules that the engine applies, such as `apparmor`.
    pub security_modules: BTreeSet<String>,
    /// What the engine gives to a container that asks for nothing, when it says so.
    pub default_capabilities: Option<BTreeSet<Capability>>,
}

/// What a command line grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Capabilities.
    pub capabilities: BTreeSet<Capability>,
    /// Devices.
    pub devices: Devices,
    /// What filters system calls: `None` is nothing, else its name.
    pub seccomp: Option<String>,
    /// The engine's masked and read-only paths; `None` where there is no engine.
    pub kernel_paths: Option<KernelPaths>,
    /// What confines by `AppArmor` or `SELinux`, by module: `None` is nothing, else the profile or label.
    pub security_modules: Vec<(String, Option<String>)>,
}

/// Devices that a line grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// Every one of the host.
    Every,
    /// So many options name one, or rules about some.
    Named(usize),
}

/// What an engine does with paths of /proc and /sys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPaths {
    /// Nothing is masked, all is writable.
    Writable,
    /// Nothing is masked; sysfs is read-only.
    Unmasked,
    /// Some paths are not masked.
    Partly,
    /// As the engine does by itself.
    Masked,
}

impl Before {
    /// A plain command run by somebody with these capabilities: all else is the host's.
    #[must_use]
    pub fn command(capabilities: BTreeSet<Capability>) -> Self {
        Self {
            capabilities,
            devices: Devices::Every,
            seccomp: None,
            kernel_paths: None,
            security_modules: Vec::new(),
        }
    }

    /// A `run` line of an engine.
    #[must_use]
    pub fn container(run: &RunLine, host: &Host) -> Self {
        let security: Vec<(&str, &str)> = run
            .values("security-opt")
            .map(|value| value.split_once('=').or_else(|| value.split_once(':')).unwrap_or((value, "")))
            .collect();
        let option = |key: &str| security.iter().rfind(|(name, _)| *name == key).map(|(_, value)| *value);
        let privileged = run.is_privileged();
        let confined_by = |unconfined: bool, own: Option<&str>, by_default: &str| {
            if unconfined { None } else { Some(own.unwrap_or(by_default).to_owned()) }
        };
        let mut security_modules = Vec::new();
        if host.security_modules.contains("apparmor") {
            let own = option("apparmor");
            let unconfined = own == Some("unconfined") || privileged && own.is_none();
            security_modules
                .push(("AppArmor".to_owned(), confined_by(unconfined, own, run.engine.apparmor_profile())));
        }
        if host.security_modules.contains("selinux") {
            let unconfined = option("label") == Some("disable") || privileged;
            security_modules.push(("SELinux".to_owned(), confined_by(unconfined, None, "container_t")));
        }
        let unmasked = |what: &str| {
            let unmask = security.iter().filter(|(key, _)| *key == "unmask");
            unmask.flat_map(|(_, paths)| paths.split(':')).any(|path| path.eq_ignore_ascii_case(what))
        };
        let own = option("seccomp");
        let unfiltered = own == Some("unconfined") || privileged && own.is_none();
        Self {
            capabilities: capabilities(run, host),
            devices: devices(run),
            seccomp: confined_by(unfiltered, own, &format!("{}'s default", run.engine)),
            kernel_paths: Some(if privileged {
                KernelPaths::Writable
            } else if option("systempaths") == Some("unconfined") || unmasked("all") {
                KernelPaths::Unmasked
            } else if security.iter().any(|(key, _)| *key == "unmask") {
                KernelPaths::Partly
            } else {
                KernelPaths::Masked
            }),
            security_modules,
        }
    }
}

/// moby `oci/caps/utils.go` `TweakCapabilities`, container-libs `capabilities.MergeCapabilities`.
fn capabilities(run: &RunLine, host: &Host) -> BTreeSet<Capability> {
    let is_all = |name: &str| name.eq_ignore_ascii_case("all");
    let named = |option: &str| -> BTreeSet<Capability> {
        run.elements(option).filter_map(|name| name.parse().ok()).collect()
    };
    let (adds, drops) = (named("cap-add"), named("cap-drop"));
    if run.is_privileged() {
        host.capabilities.clone()
    } else if run.elements("cap-add").any(is_all) {
        &host.capabilities - &drops
    } else if run.elements("cap-drop").any(is_all) {
        adds
    } else {
        let default = host.default_capabilities.clone().unwrap_or_else(|| DOCKER_DEFAULT.into());
        &(&default - &drops) | &adds
    }
}

fn devices(run: &RunLine) -> Devices {
    let rules: Vec<&str> = run.elements("device-cgroup-rule").collect();
    if run.is_privileged() || rules.iter().any(|rule| rule.trim_start().starts_with('a')) {
        return Devices::Every;
    }
    Devices::Named(rules.len() + run.elements("device").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(line: &str) -> Before {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let host = Host {
            capabilities: Capability::all().collect(),
            security_modules: ["apparmor", "selinux"].map(str::to_owned).into(),
            default_capabilities: None,
        };
        Before::container(&RunLine::parse(&words).unwrap(), &host)
    }

    #[test]
    fn privileged_is_everything() {
        let before = before("docker run --privileged --cap-drop=ALL image");
        assert_eq!(before.capabilities.len(), 41);
        assert_eq!((before.devices, before.seccomp), (Devices::Every, None));
        assert_eq!(before.kernel_paths, Some(KernelPaths::Writable));
        assert!(before.security_modules.iter().all(|(_, by)| by.is_none()));
    }

    #[test]
    fn a_line_that_asks_for_nothing_has_what_docker_gives() {
        let before = before("docker run image");
        assert_eq!(before.capabilities, DOCKER_DEFAULT.into());
        assert_eq!(
            (before.devices, before.seccomp.as_deref()),
            (Devices::Named(0), Some("docker's default"))
        );
        assert_eq!(before.kernel_paths, Some(KernelPaths::Masked));
        assert_eq!(before.security_modules[0].1.as_deref(), Some("docker-default"));
    }

    #[test]
    fn explicit_options_count_as_docker_counts_them() {
        let count = |line: &str| before(&format!("docker run {line} image")).capabilities.len();
        assert_eq!(count("--cap-drop=ALL --cap-add=net_admin --cap-add CAP_CHOWN"), 2);
        assert_eq!(count("--cap-drop=CHOWN --cap-add=SYS_ADMIN --cap-add=KILL"), 14);
        assert_eq!(count("--cap-add=ALL --cap-drop=SYS_MODULE"), 40);
        let wide = before(
            "docker run --security-opt systempaths=unconfined --security-opt=apparmor:unconfined --security-opt seccomp=p.json --device /dev/fuse --device-cgroup-rule a image",
        );
        assert_eq!((wide.devices, wide.seccomp.as_deref()), (Devices::Every, Some("p.json")));
        assert_eq!(wide.kernel_paths, Some(KernelPaths::Unmasked));
        assert_eq!(wide.security_modules[0], ("AppArmor".to_owned(), None));
    }
}
