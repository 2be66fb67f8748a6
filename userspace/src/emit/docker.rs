//! The user's `docker run` without `--privileged`, with what the profile needs instead.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    apparmor::{AppArmorProfile, default_denies},
    docker_devices,
    docker_warning::Warning,
};
use crate::{
    capability::Capability,
    profile::Profile,
    trace::is_below,
    workload::{
        device_nodes::Nodes,
        docker_cli::{DockerRun, clean},
        docker_options::DockerOption,
    },
};

/// What the engine that will run the line knows and does.
#[derive(Clone, Debug)]
pub struct DockerTarget {
    /// Version of the daemon, such as `20.10.24+dfsg1`.
    pub version: String,
    /// Linux security modules that it applies, such as `apparmor`.
    pub security_modules: BTreeSet<String>,
    /// Capabilities that it has names for.
    pub capabilities: BTreeSet<Capability>,
    /// The seccomp profile, as the client will find it.
    pub seccomp: String,
    /// The image's own user, when it is known.
    pub image_user: Option<String>,
    /// What is at the paths of the user's `--device` options, as far as it is known.
    pub nodes: Nodes,
    /// The host's nodes of whole families of devices, by `b 7:*`. Empty where the line brings the host's /dev.
    pub families: BTreeMap<String, BTreeSet<String>>,
    /// What confines the container where the engine applies `AppArmor`.
    pub confinement: Confinement,
}

/// The choice of an `AppArmor` profile: the engine's own where it is enough, else a generated one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// A run under the engine's own profile was denied something by it.
    pub beyond_default: bool,
    /// Why no generated profile will do: it cannot be loaded, or it is not for it to allow.
    pub obstacle: Option<String>,
}

/// A rewritten line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The line.
    pub run: DockerRun,
    /// What to know about it.
    pub warnings: BTreeSet<Warning>,
    /// The `AppArmor` profile that it names, which has to be loaded.
    pub apparmor: Option<AppArmorProfile>,
}

impl DockerTarget {
    /// An engine of that version. Before docker 23 there are builds without names for the capabilities of
    /// Linux 5.8 and 5.9 (Debian's 20.10 is one), so none of them is trusted to have them.
    #[must_use]
    pub fn new(version: &str, security_modules: BTreeSet<String>, seccomp: &str) -> Self {
        let newest = if major(version).is_some_and(|major| major < 23) {
            Capability::AUDIT_READ
        } else {
            Capability::CHECKPOINT_RESTORE
        };
        Self {
            version: version.to_owned(),
            security_modules,
            capabilities: Capability::all().filter(|&capability| capability <= newest).collect(),
            seccomp: seccomp.to_owned(),
            image_user: None,
            nodes: Nodes::new(),
            families: BTreeMap::new(),
            confinement: Confinement::default(),
        }
    }
}

impl Rewritten {
    /// The argument vector, the program first.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        self.run.arguments()
    }
}

/// The same line without `--privileged` and the other widening options, with the profile's grants where the
/// first of those stood. All else stays as it was, in its order.
#[must_use]
pub fn rewrite(run: &DockerRun, profile: &Profile, target: &DockerTarget) -> Rewritten {
    let mut warnings = BTreeSet::new();
    let mut covered = BTreeSet::new();
    let mut options = Vec::new();
    let mut place = None;
    for option in &run.options {
        if widens(option) {
            place.get_or_insert(options.len());
        } else if option.name == "device" {
            options.extend(docker_devices::keep(
                option,
                &profile.devices,
                &target.nodes,
                &mut covered,
                &mut warnings,
            ));
        } else {
            options.push(option.clone());
        }
    }

    let mut grants = vec![DockerOption::attached("cap-drop", "ALL".to_owned())];
    let capabilities = capabilities(profile, target, &mut warnings);
    grants.extend(
        capabilities.iter().map(|one| DockerOption::attached("cap-add", one.short_name().to_owned())),
    );
    let missing = profile.devices.iter().filter(|device| !covered.contains(device));
    let (rules, mut nodes) = docker_devices::grant(missing, &target.families, &mut warnings);
    nodes.retain(|node| !options.iter().any(|kept| kept.name == node.name && kept.value == node.value));
    grants.extend(rules);
    let mut security = vec![format!("seccomp={}", target.seccomp)];
    let binds = kernel_paths(run, profile, target, &mut security, &mut warnings);
    let own_apparmor = options.iter().any(|option| security_key(option) == Some("apparmor"));
    let mut apparmor = None;
    if target.security_modules.contains("apparmor")
        && !own_apparmor
        && let Some(reason) = beyond_default(profile, target)
    {
        if let Some(obstacle) = &target.confinement.obstacle {
            warnings.insert(Warning::AppArmorOff { reason, obstacle: obstacle.clone() });
            security.push("apparmor=unconfined".to_owned());
        } else {
            let generated = AppArmorProfile::new(profile, &capabilities, image_name(&run.image));
            security.push(format!("apparmor={}", generated.name));
            apparmor = Some(generated);
        }
    }
    grants.extend(security.into_iter().map(|value| DockerOption::separate("security-opt", value)));
    // Last, because a line that is rewritten again keeps its devices and mounts where they stand.
    grants.extend(nodes);
    grants.extend(binds);

    if let Some(user) = run.user().or(target.image_user.as_deref())
        && !capabilities.is_empty()
        && !profile.gains_privileges
        && !is_root(user)
    {
        warnings.insert(Warning::NonRoot(user.to_owned()));
    }
    let place = place.unwrap_or_default();
    options.splice(place..place, grants);
    Rewritten { run: DockerRun { options, ..run.clone() }, warnings, apparmor }
}

/// Whether this option gives a privilege that the profile decides about. A user's own `AppArmor` profile,
/// `SELinux` label type and `no-new-privileges` are narrower than the default, and `--privileged` keeps them.
fn widens(option: &DockerOption) -> bool {
    match option.name {
        "privileged" | "cap-add" | "cap-drop" | "device-cgroup-rule" => true,
        "security-opt" => matches!(
            security_option(&option.value),
            ("seccomp" | "writable-cgroups", _)
                | ("apparmor" | "systempaths", "unconfined")
                | ("label", "disable")
        ),
        _ => false,
    }
}

/// Key and value, docker/cli `opts.go` `parseSecurityOpts`: `key=value`, or as it once was `key:value`.
fn security_option(value: &str) -> (&str, &str) {
    value.split_once('=').or_else(|| value.split_once(':')).unwrap_or((value, ""))
}

fn security_key(option: &DockerOption) -> Option<&str> {
    (option.name == "security-opt").then(|| security_option(&option.value).0)
}

fn capabilities(
    profile: &Profile,
    target: &DockerTarget,
    warnings: &mut BTreeSet<Warning>,
) -> BTreeSet<Capability> {
    let version = || target.version.clone();
    let granted = |&needed: &Capability| {
        if target.capabilities.contains(&needed) {
            return needed;
        }
        // The kernel accepts CAP_SYS_ADMIN for these: bpf_capable, perfmon_capable, checkpoint_restore_ns_capable.
        if needed >= Capability::PERFMON && needed <= Capability::CHECKPOINT_RESTORE {
            let granted = Capability::SYS_ADMIN;
            warnings.insert(Warning::Broader { needed, granted, version: version() });
            return granted;
        }
        warnings.insert(Warning::UnknownCapability { needed, version: version() });
        needed
    };
    profile.capabilities.iter().map(granted).collect()
}

/// Options for the profile's kernel paths: security options, and bind mounts of single paths of sysfs, which
/// docker mounts read-only itself.
fn kernel_paths(
    run: &DockerRun,
    profile: &Profile,
    target: &DockerTarget,
    security: &mut Vec<String>,
    warnings: &mut BTreeSet<Warning>,
) -> Vec<DockerOption> {
    let user_binds = run.binds();
    let mut binds = Vec::new();
    let mut unconfined = profile.paths.unmask.iter().any(|path| masks(&target.version, path));
    let mut writable_cgroups = false;
    for path in &profile.paths.write {
        if user_binds.iter().any(|(_, mounted)| is_below(path, mounted)) {
            continue;
        }
        if is_below(path, "/sys/fs/cgroup") {
            // docker 28.0 brought `writable-cgroups`.
            let known = major(&target.version).is_none_or(|major| major >= 28);
            writable_cgroups |= known;
            if !known {
                warnings.insert(Warning::StaysReadOnly(path.clone()));
            }
        } else if !is_below(path, "/sys") {
            unconfined = true;
        } else if path.contains([',', '"'])
            || clean(path) != *path
            || is_network_path(path) && !run.shares_host("network")
        {
            warnings.insert(Warning::StaysReadOnly(path.clone()));
        } else if path.contains(':') {
            // As those of PCI devices do, where `--volume` takes the colon for its own.
            binds.push(DockerOption::attached("mount", format!("type=bind,source={path},target={path}")));
        } else {
            binds.push(DockerOption::attached("volume", format!("{path}:{path}")));
        }
    }
    if unconfined {
        security.push("systempaths=unconfined".to_owned());
    }
    if writable_cgroups {
        security.push("writable-cgroups=true".to_owned());
    }
    binds
}

/// sysfs shows the network devices of the namespace it was mounted in: a bind of the host's is another thing.
fn is_network_path(path: &str) -> bool {
    path.split('/').any(|part| part == "net")
}

/// Why the engine's own `AppArmor` profile is not enough, if it is not.
fn beyond_default(profile: &Profile, target: &DockerTarget) -> Option<String> {
    let seen = || "what it was seen to need".to_owned();
    default_denies(profile).or_else(|| target.confinement.beyond_default.then(seen))
}

/// `app` of `registry:5000/team/app:1.2@sha256:…`.
fn image_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name)
}

/// Whether docker of that version masks a path that some engine masks. It never masks selinuxfs, and
/// 28.0.2 began with the two that show what other processors do.
fn masks(version: &str, path: &str) -> bool {
    let recent = is_below(path, "/proc/interrupts") || path.ends_with("/thermal_throttle");
    let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok();
    let parts: Vec<u32> = version.trim_start_matches('v').split('.').map_while(number).collect();
    let before = parts.len() >= 3 && parts[..] < [28, 0, 2][..];
    !(is_below(path, "/sys/fs/selinux") || recent && before)
}

/// `root`, `0`, `0:0` and so on.
fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse::<u32>() == Ok(0)
}

/// `28` of `28.2.2`; `None` of a build that is not numbered.
fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

#[cfg(test)]
#[path = "docker_tests.rs"]
mod tests;
