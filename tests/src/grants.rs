//! What a run is granted, and the command lines that grant it.

use std::{collections::BTreeSet, fmt, fs, os::unix::fs::FileTypeExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use unpriv::{
    capability::Capability,
    profile::Device,
    trace::{Access, DeviceType},
};

use crate::workload::{Expected, Form, Workload};

/// The image that `setup.sh` makes.
pub const IMAGE: &str = "unpriv-zoo:latest";

/// Where the fixture lies, on the host and in the image.
pub const FIXTURE: &str = "/opt/zoo";

/// A device cgroup rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Block or character.
    pub kind: DeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number; `None` is all of them.
    pub minor: Option<u32>,
    /// What it allows.
    pub access: Access,
}

impl fmt::Display for Rule {
    /// As the v1 device cgroup and docker's `--device-cgroup-rule` take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minor = self.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        write!(f, "{} {}:{minor} {}", self.kind.letter(), self.major, self.access)
    }
}

/// Device nodes that the container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// The host's `/dev`, as it is.
    Dev,
    /// These, each bind-mounted and without a rule of its own.
    Bound(BTreeSet<String>),
    /// These, as `--device` gives them: with their rules.
    Devices(BTreeSet<Device>),
}

/// What a run is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Capabilities.
    pub capabilities: BTreeSet<Capability>,
    /// Device nodes; a plain command has the host's, always.
    pub nodes: Nodes,
    /// Device rules beyond those for every container; `None` is everything.
    pub rules: Option<Vec<Rule>>,
    /// No masked and read-only paths; a plain command has none, always.
    pub unmasked: bool,
}

/// What this machine can grant.
#[derive(Clone, Debug)]
pub struct Host {
    /// Capabilities in our bounding set.
    pub plain: BTreeSet<Capability>,
    /// Those of them that the docker daemon knows.
    pub docker: BTreeSet<Capability>,
    /// Device nodes below /dev, without those that every container has.
    pub nodes: Vec<Device>,
    /// Majors that have a driver.
    pub majors: Vec<(DeviceType, u32)>,
    /// Kernel and engine, for people.
    pub description: String,
}

impl Host {
    /// Looks at this machine.
    ///
    /// # Errors
    /// /proc, /dev or the docker daemon do not answer.
    pub fn probe() -> Result<Self> {
        let plain = bounding_set()?;
        let mut docker = plain.clone();
        for recent in Capability::RECENT {
            if docker.contains(&recent) && !docker_knows(recent)? {
                docker.remove(&recent);
            }
        }
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let version = output(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))?;
        let description = format!("Linux {}, docker {}", release.trim(), version.trim());
        Ok(Self { plain, docker, nodes: device_nodes()?, majors: device_majors()?, description })
    }

    /// The capabilities that a form can have here.
    #[must_use]
    pub fn capabilities(&self, form: Form) -> &BTreeSet<Capability> {
        match form {
            Form::Docker | Form::Lab => &self.docker,
            Form::Plain => &self.plain,
        }
    }
}

fn bounding_set() -> Result<BTreeSet<Capability>> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let bits = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .context("/proc/self/status has no CapBnd line")?;
    Ok(Capability::from_bits(u64::from_str_radix(bits.trim(), 16)?))
}

/// An engine refuses an unknown capability when it creates the container.
pub(crate) fn docker_knows(capability: Capability) -> Result<bool> {
    let created = Command::new("docker")
        .args(["create", "--cap-add", capability.short_name(), IMAGE, "true"])
        .output()
        .context("running docker create")?;
    if created.status.success() {
        let id = String::from_utf8_lossy(&created.stdout);
        output(Command::new("docker").args(["rm", id.trim()]))?;
        return Ok(true);
    }
    let talk = String::from_utf8_lossy(&created.stderr);
    if talk.to_lowercase().contains("capability") {
        return Ok(false);
    }
    bail!("docker create {IMAGE}: {} (run tests/setup.sh)", talk.trim());
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("running {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// null, zero, full, random, urandom, tty, ptmx, terminals: the runtime gives them to every container.
const BASE: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// Rules for the devices that every container has.
pub(crate) fn base_rules() -> impl Iterator<Item = Rule> {
    BASE.into_iter().map(|(major, minor)| Rule {
        kind: DeviceType::Character,
        major,
        minor,
        access: everything(),
    })
}

/// `rwm`.
pub(crate) fn everything() -> Access {
    Access { read: true, write: true, mknod: true }
}

fn device_nodes() -> Result<Vec<Device>> {
    let mut nodes = Vec::new();
    let mut directories = vec![Path::new("/dev").to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let (file_type, path) = (metadata.file_type(), path.to_string_lossy().into_owned());
            if file_type.is_dir() {
                // Other file systems there are the container's own.
                if !["/dev/pts", "/dev/shm", "/dev/mqueue"].contains(&path.as_str()) {
                    directories.push(path.into());
                }
                continue;
            }
            let kind = if file_type.is_block_device() {
                DeviceType::Block
            } else if file_type.is_char_device() {
                DeviceType::Character
            } else {
                continue;
            };
            let (major, minor) = numbers(std::os::unix::fs::MetadataExt::rdev(&metadata));
            let is_base = kind == DeviceType::Character && BASE.contains(&(major, Some(minor)));
            if !is_base && path != "/dev/console" {
                nodes.push(Device {
                    kind,
                    major,
                    minor: Some(minor),
                    access: everything(),
                    path: Some(path),
                });
            }
        }
    }
    nodes.sort();
    Ok(nodes)
}

/// Major and minor as the kernel packs them for user space (`new_encode_dev`).
fn numbers(rdev: u64) -> (u32, u32) {
    let major = (rdev >> 8) & 0xfff;
    let minor = (rdev & 0xff) | ((rdev >> 12) & 0xfff_ff00);
    // Both masks leave less than 32 bits.
    (u32::try_from(major).unwrap_or_default(), u32::try_from(minor).unwrap_or_default())
}

fn device_majors() -> Result<Vec<(DeviceType, u32)>> {
    let text = fs::read_to_string("/proc/devices").context("reading /proc/devices")?;
    let mut kind = DeviceType::Character;
    let mut majors = BTreeSet::new();
    for line in text.lines() {
        match line {
            "Character devices:" => kind = DeviceType::Character,
            "Block devices:" => kind = DeviceType::Block,
            _ => {
                if let Some(Ok(major)) = line.split_whitespace().next().map(str::parse) {
                    majors.insert((kind, major));
                }
            }
        }
    }
    Ok(majors.into_iter().collect())
}

impl Grants {
    /// Everything that this machine can grant: as near to `--privileged` as it gets.
    #[must_use]
    pub fn everything(host: &Host, form: Form) -> Self {
        Self { capabilities: host.capabilities(form).clone(), nodes: Nodes::Dev, rules: None, unmasked: true }
    }

    /// Exactly what is expected to be needed.
    #[must_use]
    pub fn exactly(expected: &Expected) -> Self {
        let (with_node, without): (BTreeSet<_>, BTreeSet<_>) =
            expected.devices.iter().cloned().partition(|device| device.path.is_some());
        let rules = without.into_iter().map(|device| Rule {
            kind: device.kind,
            major: device.major,
            minor: device.minor,
            access: device.access,
        });
        Self {
            capabilities: expected.capabilities.clone(),
            nodes: Nodes::Devices(with_node),
            rules: Some(rules.collect()),
            unmasked: expected.unmasked,
        }
    }

    /// The options of `docker run` that grant this and nothing else. System calls are not filtered, and
    /// no security module restricts.
    #[must_use]
    pub fn docker_options(&self) -> Vec<String> {
        let mut options = vec!["--cap-drop=ALL".to_owned()];
        options.extend(self.capabilities.iter().map(|cap| format!("--cap-add={}", cap.short_name())));
        options.push("--security-opt=seccomp=unconfined".to_owned());
        if Path::new("/sys/kernel/security/apparmor/profiles").exists() {
            options.push("--security-opt=apparmor=unconfined".to_owned());
        }
        if self.unmasked {
            options.push("--security-opt=systempaths=unconfined".to_owned());
        }
        match &self.nodes {
            Nodes::Dev => options.push("--volume=/dev:/dev".to_owned()),
            Nodes::Bound(paths) => {
                options.extend(paths.iter().map(|path| format!("--volume={path}:{path}")));
            }
            Nodes::Devices(devices) => {
                for device in devices {
                    if let Some(path) = &device.path {
                        options.push(format!("--device={path}:{path}:{}", device.access));
                    }
                }
            }
        }
        match &self.rules {
            None => options.push("--device-cgroup-rule=a *:* rwm".to_owned()),
            Some(rules) => options.extend(rules.iter().map(|rule| format!("--device-cgroup-rule={rule}"))),
        }
        options
    }
}

/// `docker run` of a workload with these grants, and with these further options, such as `--name`.
#[must_use]
pub fn docker_argv(workload: &Workload, grants: &Grants, further: &[String]) -> Vec<String> {
    let mut argv = vec!["docker".to_owned(), "run".to_owned(), "--rm".to_owned()];
    argv.extend_from_slice(further);
    argv.extend(grants.docker_options());
    argv.extend(workload.user.map(|user| format!("--user={user}:{user}")));
    argv.extend_from_slice(&workload.docker.args);
    argv.push(IMAGE.to_owned());
    argv.extend_from_slice(&workload.command);
    argv
}

/// `docker run` of a workload with as much privilege as this machine can give: what unpriv is given to tighten.
#[must_use]
pub fn privileged_docker_argv(workload: &Workload, host: &Host) -> Vec<String> {
    docker_argv(workload, &Grants::everything(host, Form::Docker), &[])
}

/// The plain command itself: what unpriv is given to record.
#[must_use]
pub fn plain_argv(workload: &Workload) -> Vec<String> {
    let mut argv = Vec::new();
    if let Some(user) = workload.user {
        let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
        argv.extend(["setpriv".to_owned(), user, group, "--clear-groups".to_owned(), "--".to_owned()]);
    }
    argv.extend_from_slice(&workload.command);
    argv
}

/// The surroundings of a plain command: put this before unpriv, or before the command to run it alone.
///
/// It keeps the host from harm: a mount namespace with a fresh fixture, and the namespaces that the workload
/// names. Everything in it runs fully privileged.
#[must_use]
pub fn plain_surroundings(workload: &Workload) -> Vec<String> {
    let mut setup = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; umask 022\n\
         mount -t tmpfs -o mode=755 none {FIXTURE}\n\
         tar -C {FIXTURE} --xattrs --xattrs-include='*' -xpf /var/cache/unpriv-zoo/fixture.tar\n"
    );
    if workload.plain.namespaces.iter().any(|namespace| namespace == "net") {
        setup += "ip link set lo up\n";
    }
    let mut argv = vec!["unshare".to_owned(), "--mount".to_owned()];
    argv.extend(workload.plain.namespaces.iter().map(|namespace| format!("--{namespace}")));
    argv.extend(["sh", "-euc"].map(str::to_owned));
    argv.push(setup + "exec \"$@\"");
    argv.push("sh".to_owned());
    argv.extend_from_slice(&workload.plain.around);
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_beyond_a_byte_are_unpacked() {
        assert_eq!(numbers(0x0705), (7, 5));
        assert_eq!(numbers(0x0010_0a03), (10, 259));
    }

    #[test]
    fn options_grant_what_is_expected_and_nothing_else() {
        let expected: Expected = toml::from_str(
            r#"
            capabilities = ["CAP_SYS_ADMIN"]
            devices = [
                { type = "b", major = 7, minor = 5, access = "rw", path = "/dev/loop5" },
                { type = "b", major = 8, access = "r" },
            ]
            "#,
        )
        .unwrap();
        assert_eq!(
            Grants::exactly(&expected).docker_options(),
            [
                "--cap-drop=ALL",
                "--cap-add=SYS_ADMIN",
                "--security-opt=seccomp=unconfined",
                "--device=/dev/loop5:/dev/loop5:rw",
                "--device-cgroup-rule=b 8:* r",
            ]
        );
    }
}
