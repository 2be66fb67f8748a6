//! `probe.bpf.json`: what the committed objects were built from, and with what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::tools::{BPF_LINKER, Tools};
use crate::{command::output, workspace};

/// Beside the sources in `probe-ebpf/src`: what says how they are compiled.
const MANIFESTS: [&str; 2] = ["probe-ebpf/Cargo.toml", "xtask/src/build_ebpf.rs"];

/// Hashes are SHA-256 in hexadecimal.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Hashes of the objects by path in the workspace.
    objects: BTreeMap<String, String>,
    /// Hashes by path in the workspace.
    sources: BTreeMap<String, String>,
    /// Crates that the programs use, with versions.
    crates: BTreeSet<String>,
    /// Versions by tool.
    tools: BTreeMap<String, String>,
}

impl Record {
    /// Of the source as it is now; without objects yet.
    pub(super) fn of_tree(tools: &Tools) -> Result<Self> {
        let mut sources = BTreeMap::new();
        for path in MANIFESTS {
            sources.insert(path.to_owned(), hash_file(&workspace().join(path))?);
        }
        hash_directory("probe-ebpf/src", &mut sources)?;
        let versions =
            [("rustc", &tools.rustc), ("llvm", &tools.llvm), ("bpf-linker", &BPF_LINKER.to_owned())];
        Ok(Self {
            objects: BTreeMap::new(),
            sources,
            crates: crates()?,
            tools: versions.map(|(tool, version)| (tool.to_owned(), version.clone())).into(),
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }

    pub(super) fn add_object(&mut self, path: &str, object: &[u8]) {
        self.objects.insert(path.to_owned(), hash(object));
    }

    pub(super) fn has_object(&self, path: &str, object: &[u8]) -> bool {
        self.objects.get(path).is_some_and(|recorded| *recorded == hash(object))
    }

    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Files and crates that are not the same in both.
    pub(super) fn source_differences(&self, other: &Self) -> Vec<String> {
        let mut differences = differing(&self.sources, &other.sources);
        differences.extend(self.crates.symmetric_difference(&other.crates).cloned());
        differences
    }

    /// Tools that are not the same in both.
    pub(super) fn tool_differences(&self, other: &Self) -> Vec<String> {
        differing(&self.tools, &other.tools)
            .into_iter()
            .map(|tool| {
                let version = |record: &Self| record.tools.get(&tool).cloned().unwrap_or_default();
                format!("{tool} {} there, {} here", version(self), version(other))
            })
            .collect()
    }
}

fn differing(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// `aya-ebpf v0.2.1` and the like, ourselves left out.
fn crates() -> Result<BTreeSet<String>> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["tree", "--quiet", "--locked", "--package=probe-ebpf", "--features=ebpf", "--prefix=none"])
        .args(["--edges=normal", "--target=all", "--no-dedupe", "--format={p}"])
        .current_dir(workspace());
    let tree = output(&mut command)?;
    // A proc macro's line ends with `(proc-macro)`, a workspace member's with its directory.
    let crates = tree.lines().filter(|line| !line.contains('/') && !line.is_empty());
    Ok(crates.map(|line| line.trim_end_matches(" (proc-macro)").to_owned()).collect())
}

fn hash_directory(directory: &str, hashes: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(workspace().join(directory)).with_context(|| format!("list {directory}"))? {
        let entry = entry?;
        let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            hash_directory(&name, hashes)?;
        } else {
            hashes.insert(name, hash_file(&entry.path())?);
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> Result<String> {
    Ok(hash(&fs::read(path).with_context(|| format!("read {}", path.display()))?))
}

fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_source_and_a_changed_tool_are_told_apart() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let record = |source: &str, linker: &str| Record {
            objects: BTreeMap::new(),
            sources: map(&[("a.rs", "1"), ("b.rs", source)]),
            crates: BTreeSet::new(),
            tools: map(&[("bpf-linker", linker)]),
        };
        let one = record("2", "0.13.0");
        assert_eq!(one.source_differences(&record("3", "0.13.0")), ["b.rs"]);
        assert!(one.source_differences(&record("2", "0.14.0")).is_empty());
        assert_eq!(one.tool_differences(&record("2", "0.14.0")), ["bpf-linker 0.13.0 there, 0.14.0 here"]);
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
