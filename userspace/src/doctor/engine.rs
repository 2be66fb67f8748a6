//! Engines: one is needed for `docker run …` and `podman run …` alone, so nothing here is more than a warning.

use super::Check;
use crate::{
    capability::Capability,
    emit::seccomp::{Runtime, RuntimeNeeds},
    shell::printable,
    workload::{
        answers::Info,
        apparmor,
        client::{Client, EngineError},
        engine::EngineKind,
    },
};

pub(super) fn checks() -> Vec<Check> {
    let docker = docker();
    let podman = podman();
    match (docker, podman) {
        // One engine is enough.
        (Err(_), Some(podman)) => podman,
        (Err(none), None) => vec![none],
        (Ok(docker), podman) => docker.into_iter().chain(podman.into_iter().flatten()).collect(),
    }
}

/// What docker says; an error is that there is no client.
fn docker() -> Result<Vec<Check>, Check> {
    let docker = Client::local(EngineKind::Docker);
    let client = match docker.client_version() {
        Ok(version) => Check::ok("docker client", printable(&version)),
        Err(error) => {
            return Err(Check::warning(
                "docker client",
                error.to_string(),
                "install docker or podman (`apt-get install docker.io`) to record containers; commands need none",
            ));
        }
    };
    let info = match docker.info() {
        Ok(info) => info,
        Err(error) => {
            let advice = match error {
                EngineError::Permission(_) => "run as root, or join the group of the daemon's socket",
                EngineError::IsPodman(_) => "write `podman run …` for containers",
                _ => "start it (`systemctl start docker`) to record containers; commands need none",
            };
            return Ok(vec![client, Check::warning("docker daemon", error.to_string(), advice)]);
        }
    };
    Ok(vec![
        client,
        daemon(&info),
        runtime(&info),
        security(EngineKind::Docker, &info),
        capabilities(&docker),
    ])
}

/// What podman says; `None` where there is none.
fn podman() -> Option<Vec<Check>> {
    let info = match Client::local(EngineKind::Podman).info() {
        Ok(info) => info,
        Err(EngineError::Client { .. }) => return None,
        Err(error) => {
            let advice = "see what `podman info` says; docker containers and commands need none";
            return Some(vec![Check::warning("podman", error.to_string(), advice)]);
        }
    };
    if info.rootless || info.remote {
        let found = format!("{}, without root or by a service", printable(&info.server_version));
        let advice = "run as root and without CONTAINER_HOST: only what root's podman runs can be recorded";
        return Some(vec![Check::warning("podman", found, advice)]);
    }
    let found = format!(
        "{}, storage {}, cgroup version {} by {}",
        info.server_version, info.driver, info.cgroup_version, info.cgroup_driver
    );
    Some(vec![Check::ok("podman", printable(&found)), runtime(&info), security(EngineKind::Podman, &info)])
}

fn daemon(info: &Info) -> Check {
    let found = format!(
        "{}, storage {}, cgroup version {} by {}",
        info.server_version, info.driver, info.cgroup_version, info.cgroup_driver
    );
    Check::ok("docker daemon", printable(&found))
}

fn runtime(info: &Info) -> Check {
    let runtime = info.default_runtime.as_str();
    let version = info.runtime_version(runtime);
    let (needs, guessed) = RuntimeNeeds::choose(Runtime {
        name: runtime,
        version: version.as_deref(),
        no_new_privileges: false,
    });
    let found = printable(&format!("{runtime} {}", version.as_deref().unwrap_or("of unknown version")));
    if guessed.is_none() {
        return Check::ok("OCI runtime", format!("{found}, measured"));
    }
    Check::warning(
        "OCI runtime",
        format!("{found}, not measured: filters are made for {} {}", needs.runtime, needs.version),
        "`unpriv verify` shows whether a container starts under its filter; runc and crun of the measured \
         versions are certain",
    )
}

fn security(engine: EngineKind, info: &Info) -> Check {
    let name = format!("{engine} security");
    let found = printable(&info.security_options.join(" "));
    let modules = info.security_modules();
    if modules.is_empty() {
        return Check::ok(&name, format!("{found}; no AppArmor, no SELinux"));
    }
    let obstacle = if modules.contains("apparmor") { apparmor::obstacle() } else { None };
    let modules: Vec<String> = modules.into_iter().collect();
    let found = format!("{found}; {} restricts containers", modules.join(" and "));
    match obstacle {
        None => Check::ok(&name, found),
        Some(obstacle) => Check::warning(
            &name,
            format!("{found}; no other AppArmor profile can be loaded: {obstacle}"),
            "until then an answer for which the engine's own profile is not enough says apparmor=unconfined",
        ),
    }
}

fn capabilities(docker: &Client) -> Check {
    const NAME: &str = "docker --cap-add";
    let mut unknown = Vec::new();
    for capability in Capability::RECENT {
        match docker.knows(capability) {
            Ok(true) => {}
            Ok(false) => unknown.push(capability.name()),
            Err(error) => return Check::warning(NAME, error.to_string(), "see `docker daemon`"),
        }
    }
    if unknown.is_empty() {
        Check::ok(NAME, "knows every capability")
    } else {
        Check::warning(
            NAME,
            format!("refuses {}", unknown.join(", ")),
            "use a newer docker, or CAP_SYS_ADMIN stands in for them",
        )
    }
}
