//! Workloads as the files in `workloads/` describe them.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use unpriv::{capability::Capability, profile::Device};

/// One thing to run, in a container or plainly, and what it is known to need.
///
/// It exits with 0 and prints always the same when it worked, and may be run again where it has run before.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its file's name without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// One line: what it does.
    pub description: String,
    /// What is instructive about it.
    pub notes: Option<String>,
    /// The command and its arguments, the same in both forms.
    pub command: Vec<String>,
    /// Runs as this user and group: docker's `--user`, or plainly through setpriv(1), which is then recorded too.
    pub user: Option<u32>,
    /// The image, where it is not the zoo's.
    pub image: Option<String>,
    /// Run on the host, as root, before each run: what one run leaves must not be what the next finds.
    pub prepare: Option<Vec<String>>,
    /// Undoes on the host, as root, what a run that broke off may have left behind.
    pub cleanup: Option<Vec<String>>,
    /// The docker form.
    #[serde(default)]
    pub docker: Docker,
    /// The plain form.
    #[serde(default)]
    pub plain: Plain,
    /// Grants without which a call fails, and the workload gets over it.
    #[serde(default)]
    pub tolerates: Tolerates,
    /// What ablation found.
    #[serde(default)]
    pub expect: Expect,
}

/// How a workload runs in docker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// Further arguments of `docker run`, which are not privileges.
    pub args: Vec<String>,
    /// Why it does not run in docker.
    pub skip: Option<String>,
}

/// How a workload runs as a plain command.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plain {
    /// Namespaces to give it beyond a mount namespace, by their unshare(1) option: `net`, `uts`, `ipc`.
    pub namespaces: Vec<String>,
    /// A command that runs it, given its argv: part of the surroundings, not recorded.
    pub around: Vec<String>,
    /// Why it does not run plainly.
    pub skip: Option<String>,
}

/// Grants that ablation takes away, as it looks at the outcome alone, and that who also looks at failing calls
/// may keep.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tolerates {
    /// Capabilities.
    pub capabilities: BTreeSet<Capability>,
    /// Paths of device nodes.
    pub devices: BTreeSet<String>,
    /// Whole families of devices, as `b 7:*`, of which another run uses another member.
    pub families: BTreeSet<String>,
}

/// What ablation found for each form; `None` is not known.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// In docker.
    pub docker: Option<Expected>,
    /// As a plain command.
    pub plain: Option<Expected>,
    /// In the lab's machines, when it runs nowhere else or needs other things there.
    pub lab: Option<Expected>,
    /// In the lab's podman, when that sets other things up than docker does.
    pub podman: Option<Expected>,
}

/// A minimal set of grants: with it the workload works, with any one grant less it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expected {
    /// Capabilities.
    pub capabilities: BTreeSet<Capability>,
    /// Devices beyond those that every container has. `path` is set when there must be a node; without it the
    /// device rule suffices, as the workload makes its own node.
    pub devices: BTreeSet<Device>,
    /// The engine's masked and read-only paths must be neither (docker's `systempaths=unconfined`).
    pub unmasked: bool,
    /// Other minimal sets of capabilities; none means that there is only the one.
    pub alternatives: Vec<BTreeSet<Capability>>,
}

/// The two ways in which a workload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `docker run`.
    Docker,
    /// A command on the host.
    Plain,
    /// `docker run` in a machine of the lab, for what no other machine can do.
    Lab,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Docker => "docker",
            Self::Plain => "plain",
            Self::Lab => "lab",
        })
    }
}

impl Workload {
    /// What ablation found for this form.
    #[must_use]
    pub fn expected(&self, form: Form) -> Option<&Expected> {
        match form {
            Form::Docker => self.expect.docker.as_ref(),
            Form::Plain => self.expect.plain.as_ref(),
            Form::Lab => self.expect.lab.as_ref().or(self.expect.docker.as_ref()),
        }
    }

    /// Why this form does not exist.
    #[must_use]
    pub fn skipped(&self, form: Form) -> Option<&str> {
        match form {
            Form::Docker => self.docker.skip.as_deref(),
            Form::Plain => self.plain.skip.as_deref(),
            Form::Lab => self.docker.skip.is_none().then_some("as in docker"),
        }
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        directory().join(format!("{}.toml", self.name))
    }
}

/// `$UNPRIV_WORKLOADS`, which the lab's machines set, or where this was built.
fn directory() -> PathBuf {
    let there = std::env::var_os("UNPRIV_WORKLOADS");
    there.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads"), PathBuf::from)
}

/// All workloads, sorted by name.
///
/// # Errors
/// A file that cannot be read or is not a workload; the error names it.
pub fn workloads() -> Result<Vec<Workload>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory()).with_context(|| format!("reading {}", directory().display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut workload: Workload =
            toml::from_str(&text).with_context(|| format!("parsing {}", path.display()))?;
        workload.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.push(workload);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Replaces the expectation of one form in a workload's file; the rest of the file stays as it is.
///
/// # Errors
/// The file cannot be read or written.
pub fn write_expected(workload: &Workload, form: Form, expected: &Expected, measured_on: &str) -> Result<()> {
    let path = workload.path();
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let header = format!("[expect.{form}]");
    // Tables in a file are apart by an empty line, and none is inside of an expectation.
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text.trim_end();
    while let Some(at) = rest.rfind("\n\n[expect.") {
        parts.insert(0, rest[at + 2..].to_owned());
        rest = &rest[..at];
    }
    parts.retain(|part| !part.starts_with(&header));
    parts.push(format!("{header}\n{}", format_expected(expected, measured_on)));
    parts.sort();
    fs::write(&path, format!("{}\n\n{}\n", rest.trim_end(), parts.join("\n\n")))
        .with_context(|| format!("writing {}", path.display()))
}

fn format_expected(expected: &Expected, measured_on: &str) -> String {
    let names = |set: &BTreeSet<Capability>| {
        let quoted: Vec<_> = set.iter().map(|capability| format!("\"{capability}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut lines = vec![
        format!("# Measured on {measured_on}."),
        format!("capabilities = {}", names(&expected.capabilities)),
    ];
    if !expected.alternatives.is_empty() {
        let sets: Vec<_> = expected.alternatives.iter().map(names).collect();
        lines.push(format!("alternatives = [{}]", sets.join(", ")));
    }
    if !expected.devices.is_empty() {
        lines.push("devices = [".to_owned());
        for device in &expected.devices {
            let minor = device.minor.map(|minor| format!(", minor = {minor}")).unwrap_or_default();
            let path = device.path.as_ref().map(|path| format!(", path = \"{path}\"")).unwrap_or_default();
            lines.push(format!(
                "    {{ type = \"{}\", major = {}{minor}, access = \"{}\"{path} }},",
                device.kind.letter(),
                device.major,
                device.access
            ));
        }
        lines.push("]".to_owned());
    }
    if expected.unmasked {
        lines.push("unmasked = true".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_parses_and_says_what_it_does() {
        let all = workloads().unwrap();
        assert!(all.len() >= 28);
        for workload in &all {
            assert!(!workload.command.is_empty(), "{}", workload.name);
            assert!(!workload.description.is_empty(), "{}", workload.name);
            for form in [Form::Docker, Form::Plain] {
                assert!(
                    workload.expected(form).is_some() != workload.skipped(form).is_some(),
                    "{} {form}: either an expectation or a reason to skip it",
                    workload.name
                );
            }
        }
    }

    #[test]
    fn a_written_expectation_reads_back_the_same() {
        for workload in workloads().unwrap() {
            for form in [Form::Docker, Form::Plain] {
                if let Some(expected) = workload.expected(form) {
                    let text = format_expected(expected, "a test");
                    assert_eq!(&toml::from_str::<Expected>(&text).unwrap(), expected);
                }
            }
        }
    }
}
