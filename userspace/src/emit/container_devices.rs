//! Devices of a profile as options of the engine, and the user's own `--device` options held against it.

use std::collections::BTreeSet;

use super::{container::EngineTarget, container_warning::Warning};
use crate::{
    profile::Device,
    trace::Access,
    workload::{
        device_nodes::{Node, Nodes},
        run_line::clean,
        run_options::RunOption,
    },
};

/// A `--device` value, docker/cli `opts.go` `parseLinuxDevice`, podman `ParseDevice`: `host[:container][:access]`.
struct Mapping<'a> {
    host: &'a str,
    container: Option<&'a str>,
    access: &'a str,
}

impl<'a> Mapping<'a> {
    /// `None` for what engines take as a CDI device name, or refuse.
    fn parse(value: &'a str) -> Option<Self> {
        let parts: Vec<&str> = value.split(':').collect();
        let (host, container, access) = match parts[..] {
            [host] => (host, None, "rwm"),
            [host, access] if is_access(access) => (host, None, access),
            [host, container] => (host, Some(container), "rwm"),
            [host, container, access] if is_access(access) => (host, Some(container), access),
            _ => return None,
        };
        host.starts_with('/').then_some(Self { host, container, access })
    }

    /// The same mapping with this access, in the shortest form that engines parse.
    fn with_access(&self, access: &str) -> String {
        match self.container {
            Some(container) => format!("{}:{container}:{access}", self.host),
            None => format!("{}:{access}", self.host),
        }
    }
}

/// One or more of r, w and m, each once.
fn is_access(text: &str) -> bool {
    let mut left = vec!['r', 'w', 'm'];
    let each_once = text
        .chars()
        .all(|letter| left.iter().position(|&one| one == letter).map(|at| left.remove(at)).is_some());
    each_once && !text.is_empty()
}

/// Access as an engine is asked for it. Every container may mknod any device (runc `AllowedDevices`), so `m`
/// is only said where there is nothing else to say.
fn letters(access: Access) -> String {
    let without = Access { mknod: false, ..access };
    if without.is_empty() { access.to_string() } else { without.to_string() }
}

/// The user's own `--device`: with the access that is needed, or `None` when nothing of it is.
/// The devices that it brings are added to `covered`.
pub(super) fn keep<'a>(
    option: &RunOption,
    devices: &'a BTreeSet<Device>,
    nodes: &Nodes,
    covered: &mut BTreeSet<&'a Device>,
    warnings: &mut BTreeSet<Warning>,
) -> Option<RunOption> {
    let Some(mapping) = Mapping::parse(&option.value) else {
        warnings.insert(Warning::UncheckedDevice(option.value.clone()));
        return Some(option.clone());
    };
    let host = clean(mapping.host);
    let used: Vec<&Device> = devices
        .iter()
        .filter(|device| is_at(device, &host, nodes.get(&host).into_iter().flatten()))
        .collect();
    if used.is_empty() {
        warnings.insert(Warning::UnusedDevice(option.value.clone()));
        return None;
    }
    let access = used.iter().fold(Access::default(), |access, device| access.union(device.access));
    // A family is more than this one node: its rule is still needed.
    covered.extend(used.iter().filter(|device| device.minor.is_some()));
    let access = letters(access);
    if mapping.access == access {
        Some(option.clone())
    } else {
        Some(option.with_value(mapping.with_access(&access)))
    }
}

/// Whether this device is at, or below, that path of the host.
fn is_at<'a>(device: &Device, host: &str, mut nodes: impl Iterator<Item = &'a Node>) -> bool {
    let below = |path: &str| {
        let path = clean(path);
        path.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    device.path.as_deref().is_some_and(below)
        || nodes.any(|node| {
            (node.kind, node.major) == (device.kind, device.major)
                && device.minor.is_none_or(|minor| minor == node.minor)
        })
}

/// The options for needed devices that no option of the user brings: rules by number, and nodes by path. A
/// family is a rule, and the nodes that the host has for it: without them the container cannot open any.
pub(super) fn grant<'a>(
    devices: impl Iterator<Item = &'a Device>,
    target: &EngineTarget,
    warnings: &mut BTreeSet<Warning>,
) -> (Vec<RunOption>, Vec<RunOption>) {
    let (mut rules, mut nodes) = (Vec::new(), Vec::new());
    for device in devices {
        let access = letters(device.access);
        match device.path.as_deref().filter(|_| device.minor.is_some()) {
            Some(path) if path.starts_with('/') && !path.contains(':') => {
                nodes.push(RunOption::attached("device", format!("{path}:{access}")));
                continue;
            }
            Some(path) => {
                warnings.insert(Warning::DeviceWithoutNode(target.engine, path.to_owned()));
            }
            None => {}
        }
        let members = target.families.get(&device.rule()).into_iter().flatten();
        nodes.extend(members.map(|path| RunOption::attached("device", format!("{path}:{access}"))));
        let minor = device.minor.map_or("*".to_owned(), |minor| minor.to_string());
        let rule = format!("{} {}:{minor} {access}", device.kind.letter(), device.major);
        rules.push(RunOption::attached("device-cgroup-rule", rule));
    }
    (rules, nodes)
}
