//! `userspace/ebpf/*.o` from the source in `probe-ebpf`: the same bytes from any directory on any machine.

mod record;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{record::Record, tools::Tools};
use crate::{target_directory, workspace};

/// The committed objects, each with the feature that it is built with, and what they were built from, in the workspace.
const OBJECTS: [(&str, &str); 2] =
    [("userspace/ebpf/probe.bpf.o", "ebpf"), ("userspace/ebpf/probe-hash.bpf.o", "hash")];
const RECORD: &str = "userspace/ebpf/probe.bpf.json";

/// In the names of all functions that a panic calls.
const PANIC: &[u8] = b"9panicking";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail when the committed objects were not built from this source
    #[arg(long)]
    check: bool,
    /// Install what the build needs and is missing: rust-src by rustup, bpf-linker below target/
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let tools = Tools::find(arguments.install)?;
    let mut fresh = Record::of_tree(&tools)?;
    let record = workspace().join(RECORD);
    if arguments.check {
        let recorded = Record::read(&record)?;
        let differences = recorded.source_differences(&fresh);
        ensure!(
            differences.is_empty(),
            "the objects were not built from this source; these differ: {}: run `cargo xtask build-ebpf`",
            differences.join(", ")
        );
        return OBJECTS
            .iter()
            .try_for_each(|(object, feature)| check(&tools, &fresh, &recorded, object, feature));
    }
    for (object, feature) in OBJECTS {
        let bytes = build(&tools, feature)?;
        fs::write(workspace().join(object), &bytes).with_context(|| format!("write {object}"))?;
        fresh.add_object(object, &bytes);
        eprintln!("{object}: {} bytes", bytes.len());
    }
    fs::write(&record, fresh.to_json()?).with_context(|| format!("write {RECORD}"))
}

/// A committed object against a fresh build. Says whether the source or a tool is what differs.
fn check(tools: &Tools, fresh: &Record, recorded: &Record, object: &str, feature: &str) -> Result<()> {
    let committed = fs::read(workspace().join(object)).with_context(|| format!("read {object}"))?;
    ensure!(
        recorded.has_object(object, &committed),
        "{object} is not what {RECORD} describes: run `cargo xtask build-ebpf`"
    );
    let bytes = build(tools, feature)?;
    if bytes == committed {
        eprintln!("{object} is what this source builds to, byte for byte");
        return Ok(());
    }
    let tools = recorded.tool_differences(fresh);
    ensure!(
        !tools.is_empty(),
        "{object} has {} bytes and this source builds to {} others with the same tools: run `cargo xtask build-ebpf`",
        committed.len(),
        bytes.len()
    );
    // The recorded hashes are all that is left to compare, and they agree.
    eprintln!(
        "{object} was built from this source by its recorded hashes; its bytes differ from a build here, \
         as these tools do: {}",
        tools.join(", ")
    );
    Ok(())
}

/// An object, with its type information (BTF) and without the debug sections that no loader reads.
fn build(tools: &Tools, feature: &str) -> Result<Vec<u8>> {
    let directory = target_directory().join("ebpf");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--package=probe-ebpf", "--bin=probe"])
        .args(["--features", feature, "--target=bpfel-unknown-none", "-Zbuild-std=core"])
        .arg("--target-dir")
        .arg(&directory)
        .current_dir(workspace())
        // The stable compiler, with the two unstable things that the BPF target takes: build-std and the
        // intrinsic for atomic addition.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(tools)?.join("\x1f"))
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("CARGO_BUILD_TARGET")
        .env("LD_LIBRARY_PATH", tools.libraries())
        .status()
        .context("run cargo build")?;
    ensure!(status.success(), "cannot build probe-ebpf");
    let linked = directory.join("bpfel-unknown-none/release/probe");
    let stripped = directory.join("probe.bpf.o");
    let status = Command::new(tools.objcopy())
        .arg("--strip-debug")
        .args([&linked, &stripped])
        .env("LD_LIBRARY_PATH", tools.libraries())
        .status()
        .with_context(|| format!("run {}", tools.objcopy().display()))?;
    ensure!(status.success(), "cannot strip {}", linked.display());
    let bytes = fs::read(&stripped).with_context(|| format!("read {}", stripped.display()))?;
    // The kernel refuses it, but only when the program that may panic is loaded.
    ensure!(
        !bytes.windows(PANIC.len()).any(|window| window == PANIC),
        "a program may panic (an index or a slice whose bounds the compiler cannot tell)"
    );
    Ok(bytes)
}

fn flags(tools: &Tools) -> Result<Vec<String>> {
    let mut flags: Vec<String> = [
        "-Cdebuginfo=2",
        "-Ctarget-cpu=v3",
        "-Clink-arg=--btf",
        "-Clink-arg=--log-level=warn",
        "--cfg=bpf_target_arch=\"x86_64\"",
    ]
    .map(str::to_owned)
    .into();
    flags.push(format!("-Clinker={}", Tools::linker().display()));
    // Paths get into BTF's line information. Nothing here may depend on where things are.
    let mut remap = |from: &Path, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    remap(&workspace(), "/unpriv");
    remap(&tools.rust_src(), "/rust");
    for registry in registries()? {
        remap(&registry, "/crates");
    }
    Ok(flags)
}

/// Where cargo keeps the source of crates: one directory for each registry and mirror.
fn registries() -> Result<Vec<PathBuf>> {
    let home = match (std::env::var_os("CARGO_HOME"), std::env::var_os("HOME")) {
        (Some(home), _) => PathBuf::from(home),
        (None, Some(home)) => PathBuf::from(home).join(".cargo"),
        (None, None) => bail!("neither CARGO_HOME nor HOME is set"),
    };
    let sources = home.join("registry/src");
    let entries = fs::read_dir(&sources).with_context(|| format!("list {}", sources.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
