//! The user's `docker run` or `podman run` without `--privileged`, with what the profile needs instead.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    apparmor::{AppArmorProfile, default_denies},
    container_devices,
    container_warning::Warning,
};
use crate::{
    capability::Capability,
    profile::Profile,
    trace::{READ_ONLY, is_below},
    workload::{
        device_nodes::Nodes,
        engine::EngineKind,
        run_line::{RunLine, clean},
        run_options::RunOption,
    },
};

/// What the engine that will run the line knows and does.
#[derive(Clone, Debug)]
pub struct EngineTarget {
    /// Which it is.
    pub engine: EngineKind,
    /// Its version, such as `20.10.24+dfsg1`.
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
    pub run: RunLine,
    /// What to know about it.
    pub warnings: BTreeSet<Warning>,
    /// The `AppArmor` profile that it names, which has to be loaded.
    pub apparmor: Option<AppArmorProfile>,
}

impl EngineTarget {
    /// An engine of that version. Before 23 there are builds of docker without names for the capabilities of
    /// Linux 5.8 and 5.9 (Debian's 20.10 is one), so none of them is trusted to have them.
    #[must_use]
    pub fn new(engine: EngineKind, version: &str, security_modules: BTreeSet<String>, seccomp: &str) -> Self {
        let old = engine == EngineKind::Docker && major(version).is_some_and(|major| major < 23);
        let newest = if old { Capability::AUDIT_READ } else { Capability::CHECKPOINT_RESTORE };
        Self {
            engine,
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
pub fn rewrite(run: &RunLine, profile: &Profile, target: &EngineTarget) -> Rewritten {
    let mut warnings = BTreeSet::new();
    let mut covered = BTreeSet::new();
    let mut options = Vec::new();
    let mut place = None;
    for option in &run.options {
        if widens(option) {
            place.get_or_insert(options.len());
        } else if option.name == "device" {
            let kept = option.elements(run.engine).filter_map(|one| {
                container_devices::keep(&one, &profile.devices, &target.nodes, &mut covered, &mut warnings)
            });
            options.extend(kept);
        } else {
            options.push(option.clone());
        }
    }

    let mut grants = vec![RunOption::attached("cap-drop", "ALL".to_owned())];
    let capabilities = capabilities(profile, target, &mut warnings);
    grants.extend(capabilities.iter().map(|one| RunOption::attached("cap-add", one.short_name().to_owned())));
    let missing = profile.devices.iter().filter(|device| !covered.contains(device));
    let (rules, mut nodes) = container_devices::grant(missing, target, &mut warnings);
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
            let (engine, obstacle) = (target.engine, obstacle.clone());
            warnings.insert(Warning::AppArmorOff { engine, reason, obstacle });
            security.push("apparmor=unconfined".to_owned());
        } else {
            let generated = AppArmorProfile::new(profile, &capabilities, image_name(&run.image));
            security.push(format!("apparmor={}", generated.name));
            apparmor = Some(generated);
        }
    }
    grants.extend(security.into_iter().map(|value| RunOption::separate("security-opt", value)));
    // Last, because a line that is rewritten again keeps its devices and mounts where they stand.
    grants.extend(nodes);
    grants.extend(binds);

    if let Some(user) = run.user().or(target.image_user.as_deref())
        && !capabilities.is_empty()
        && !is_root(user)
    {
        match target.engine {
            EngineKind::Docker if !profile.gains_privileges => {
                warnings.insert(Warning::NonRoot(user.to_owned()));
            }
            // What only set-user-ID programs had, its other programs now have as well.
            EngineKind::Podman if run.is_privileged() => {
                warnings.insert(Warning::Ambient(user.to_owned()));
            }
            EngineKind::Docker | EngineKind::Podman => {}
        }
    }
    let place = place.unwrap_or_default();
    options.splice(place..place, grants);
    Rewritten { run: RunLine { options, ..run.clone() }, warnings, apparmor }
}

/// Whether this option gives a privilege that the profile decides about. A user's own `AppArmor` profile,
/// `SELinux` label type and `no-new-privileges` are narrower than the default, and `--privileged` keeps them.
fn widens(option: &RunOption) -> bool {
    match option.name {
        "privileged" | "cap-add" | "cap-drop" | "device-cgroup-rule" => true,
        "security-opt" => matches!(
            security_option(&option.value),
            ("seccomp" | "writable-cgroups" | "unmask", _)
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

fn security_key(option: &RunOption) -> Option<&str> {
    (option.name == "security-opt").then(|| security_option(&option.value).0)
}

fn capabilities(
    profile: &Profile,
    target: &EngineTarget,
    warnings: &mut BTreeSet<Warning>,
) -> BTreeSet<Capability> {
    let version = || target.version.clone();
    let granted = |&needed: &Capability| {
        if target.capabilities.contains(&needed) {
            return needed;
        }
        // The kernel accepts CAP_SYS_ADMIN for these: bpf_capable, perfmon_capable, checkpoint_restore_ns_capable.
        if Capability::RECENT.contains(&needed) {
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
/// engines mount read-only themselves.
fn kernel_paths(
    run: &RunLine,
    profile: &Profile,
    target: &EngineTarget,
    security: &mut Vec<String>,
    warnings: &mut BTreeSet<Warning>,
) -> Vec<RunOption> {
    let user_binds = run.binds();
    let mut binds = Vec::new();
    // Each a path that the engine masks or mounts read-only.
    let mut unmask: BTreeSet<&str> = profile.paths.unmask.iter().map(String::as_str).collect();
    unmask.retain(|path| masks(target, path));
    let mut writable_cgroups = false;
    for path in &profile.paths.write {
        if user_binds.iter().any(|(_, mounted)| is_below(path, mounted)) {
            continue;
        }
        if is_below(path, "/sys/fs/cgroup") {
            // docker 28.0 brought `writable-cgroups`; podman unmasks them.
            let known =
                target.engine == EngineKind::Podman || major(&target.version).is_none_or(|major| major >= 28);
            writable_cgroups |= known;
            if !known {
                warnings.insert(Warning::StaysReadOnly(target.engine, path.clone()));
            }
        } else if !is_below(path, "/sys") {
            unmask.insert(READ_ONLY.into_iter().find(|read_only| is_below(path, read_only)).unwrap_or(path));
        } else if path.contains([',', '"'])
            || clean(path) != *path
            || is_network_path(path) && !run.shares_host("network")
        {
            warnings.insert(Warning::StaysReadOnly(target.engine, path.clone()));
        } else if path.contains(':') {
            // As those of PCI devices do, where `--volume` takes the colon for its own.
            binds.push(RunOption::attached("mount", format!("type=bind,source={path},target={path}")));
        } else {
            binds.push(RunOption::attached("volume", format!("{path}:{path}")));
        }
    }
    match target.engine {
        EngineKind::Docker => {
            if !unmask.is_empty() {
                security.push("systempaths=unconfined".to_owned());
            }
            if writable_cgroups {
                security.push("writable-cgroups=true".to_owned());
            }
        }
        EngineKind::Podman => {
            if writable_cgroups {
                unmask.insert("/sys/fs/cgroup");
            }
            // One each: podman 4.3 recognises the cgroups only by themselves.
            security.extend(unmask.into_iter().map(|path| format!("unmask={path}")));
        }
    }
    binds
}

/// sysfs shows the network devices of the namespace it was mounted in: a bind of the host's is another thing.
fn is_network_path(path: &str) -> bool {
    path.split('/').any(|part| part == "net")
}

/// Why the engine's own `AppArmor` profile is not enough, if it is not.
fn beyond_default(profile: &Profile, target: &EngineTarget) -> Option<String> {
    let seen = || "what it was seen to need".to_owned();
    default_denies(profile).or_else(|| target.confinement.beyond_default.then(seen))
}

/// `app` of `registry:5000/team/app:1.2@sha256:…`.
fn image_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name)
}

/// Whether the engine masks a path that some engine masks.
///
/// Docker never masks selinuxfs, and 28.0.2 began with the two that show what other processors do. Podman
/// began with these in 5.5.0 and with powercap in 4.8.0, masked /sys/dev/block until 5.4.0, and has
/// /proc/asound read-only instead.
fn masks(target: &EngineTarget, path: &str) -> bool {
    let recent = is_below(path, "/proc/interrupts") || path.ends_with("/thermal_throttle");
    match target.engine {
        EngineKind::Docker => {
            !(is_below(path, "/sys/fs/selinux")
                || is_below(path, "/sys/dev/block")
                || recent && is_before(&target.version, [28, 0, 2]))
        }
        EngineKind::Podman => {
            let powercap = is_below(path, "/sys/devices/virtual/powercap");
            let names_of_disks = is_below(path, "/sys/dev/block");
            !(is_below(path, "/proc/asound")
                || names_of_disks && !is_before(&target.version, [5, 4, 0])
                || recent && is_before(&target.version, [5, 5, 0])
                || powercap && is_before(&target.version, [4, 8, 0]))
        }
    }
}

fn is_before(version: &str, then: [u32; 3]) -> bool {
    let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok();
    let parts: Vec<u32> = version.trim_start_matches('v').split('.').map_while(number).collect();
    parts.len() >= 3 && parts[..] < then[..]
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
#[path = "container_tests.rs"]
mod tests;
