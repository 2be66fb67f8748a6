//! Docker: an engine is needed for `docker run …` alone, so nothing here is more than a warning.

use super::Check;
use crate::{
    capability::Capability,
    emit::seccomp::{Runtime, RuntimeNeeds},
    shell::printable,
    workload::{
        docker::{Docker, DockerError},
        docker_answers::{Info, runtime_version},
    },
};

/// What engines built before these existed refuse.
const RECENT: [Capability; 3] = [Capability::PERFMON, Capability::BPF, Capability::CHECKPOINT_RESTORE];

pub(super) fn checks() -> Vec<Check> {
    let docker = Docker::local();
    let client = match docker.client_version() {
        Ok(version) => Check::ok("docker client", printable(&version)),
        Err(error) => {
            return vec![Check::warning(
                "docker client",
                error.to_string(),
                "install docker (`apt-get install docker.io`) to record containers; commands need none",
            )];
        }
    };
    let info = match docker.info() {
        Ok(info) => info,
        Err(error) => {
            let advice = match error {
                DockerError::Permission(_) => "run as root, or join the group of the daemon's socket",
                _ => "start it (`systemctl start docker`) to record containers; commands need none",
            };
            return vec![client, Check::warning("docker daemon", error.to_string(), advice)];
        }
    };
    vec![client, daemon(&info), runtime(&info), security(&info), capabilities(&docker)]
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
    let version = info.runtime_program(runtime).and_then(runtime_version);
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

fn security(info: &Info) -> Check {
    let found = printable(&info.security_options.join(" "));
    let modules = info.security_modules();
    if modules.is_empty() {
        return Check::ok("docker security", format!("{found}; no AppArmor, no SELinux"));
    }
    let modules: Vec<String> = modules.into_iter().collect();
    Check::ok("docker security", format!("{found}; {} restricts containers", modules.join(" and ")))
}

fn capabilities(docker: &Docker) -> Check {
    const NAME: &str = "docker --cap-add";
    let mut unknown = Vec::new();
    for capability in RECENT {
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
