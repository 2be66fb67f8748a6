//! What building for BPF takes beside the stable toolchain, its pins, and how to get it.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command::output, target_directory, workspace};

/// The version of bpf-linker. The version of rustc is in rust-toolchain.toml, and it pins the rest: rust-src,
/// rust-objcopy, and the LLVM that bpf-linker uses, which is rustc's own library.
pub(super) const BPF_LINKER: &str = "0.13.0";

/// The tools, all there and of the pinned versions.
pub(super) struct Tools {
    pub(super) rustc: String,
    pub(super) llvm: String,
    sysroot: PathBuf,
    host: String,
}

impl Tools {
    /// Finds what is there; installs what is not, or names it.
    pub(super) fn find(install: bool) -> Result<Self> {
        let tools = Self::rustc()?;
        let rust_src = !tools.rust_src().join("library/core/src/lib.rs").exists();
        let linker = !tools.linker_works();
        if !install {
            let mut missing = Vec::new();
            missing.extend(rust_src.then_some("the source of core (rust-src)"));
            let bpf_linker = format!("bpf-linker {BPF_LINKER} for LLVM {} (below target/tools)", tools.llvm);
            missing.extend(linker.then_some(bpf_linker.as_str()));
            ensure!(
                missing.is_empty(),
                "missing: {}: run `cargo xtask build-ebpf --install`",
                missing.join(", and ")
            );
            return Ok(tools);
        }
        if rust_src {
            tools.install_rust_src()?;
        }
        if linker {
            tools.install_linker()?;
        }
        Ok(tools)
    }

    fn rustc() -> Result<Self> {
        let answer = output(Command::new("rustc").arg("-vV").current_dir(workspace()))?;
        let field = |name: &str| {
            let found = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.map(str::to_owned).with_context(|| format!("`rustc -vV` tells no `{name}`"))
        };
        let (rustc, llvm, host) = (field("release")?, field("LLVM version")?, field("host")?);
        let pinned = pinned_rustc()?;
        ensure!(
            rustc == pinned,
            "this is rustc {rustc} and rust-toolchain.toml asks for {pinned}: use rustup, which reads that file"
        );
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace()))?;
        Ok(Self { rustc, llvm, host, sysroot: PathBuf::from(sysroot.trim()) })
    }

    pub(super) fn rust_src(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// Where rustc's LLVM is, for the programs that use it.
    pub(super) fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }

    /// `llvm-objcopy`, as rustc carries it.
    pub(super) fn objcopy(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(&self.host).join("bin/rust-objcopy")
    }

    pub(super) fn linker() -> PathBuf {
        directory().join("bin/bpf-linker")
    }

    /// Whether the linker is there, of this version, and finds the LLVM that it was linked with.
    fn linker_works(&self) -> bool {
        let version = Command::new(Self::linker())
            .arg("--version")
            .env("LD_LIBRARY_PATH", self.libraries())
            .output()
            .is_ok_and(|output| {
                output.status.success()
                    && String::from_utf8_lossy(&output.stdout).trim() == format!("bpf-linker {BPF_LINKER}")
            });
        let llvm = fs::read_to_string(stamp()).is_ok_and(|text| text.trim() == self.llvm);
        version && llvm
    }

    fn install_rust_src(&self) -> Result<()> {
        eprintln!("installing rust-src for rustc {} by rustup", self.rustc);
        let status = Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .current_dir(workspace())
            .status()
            .context("run rustup (install the source of the standard library by other means)")?;
        ensure!(status.success(), "cannot install rust-src by `rustup component add rust-src`");
        Ok(())
    }

    fn install_linker(&self) -> Result<()> {
        let directory = directory();
        eprintln!(
            "installing bpf-linker {BPF_LINKER} for rustc's LLVM {} into {} (takes some minutes)",
            self.llvm,
            directory.display()
        );
        let prefix = self.llvm_prefix(&directory)?;
        let major = self.llvm.split('.').next().unwrap_or_default();
        let status = Command::new(env!("CARGO"))
            .args(["install", "--quiet", "--locked", "--force", "--no-default-features", "--no-track"])
            .arg(format!("--features=llvm-{major}"))
            .arg("--root")
            .arg(&directory)
            .arg("--target-dir")
            .arg(directory.join("build"))
            .arg(format!("bpf-linker@{BPF_LINKER}"))
            .env("LLVM_PREFIX", prefix)
            // It links one small program: building it quickly is worth more than its speed.
            .envs([("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_DEBUG", "false")])
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .current_dir(workspace())
            .status()
            .context("run cargo install")?;
        ensure!(status.success(), "cannot install bpf-linker {BPF_LINKER}");
        fs::write(stamp(), &self.llvm).context("write the LLVM version of bpf-linker")?;
        // 200 MB of objects that nothing reads again.
        fs::remove_dir_all(directory.join("build")).context("remove bpf-linker's build directory")?;
        ensure!(self.linker_works(), "{} does not run", Self::linker().display());
        Ok(())
    }

    /// A directory laid out as an installed LLVM, with rustc's library in it under the name that a linker
    /// looks for.
    fn llvm_prefix(&self, directory: &Path) -> Result<PathBuf> {
        let library = self.llvm_library()?;
        let name = library.file_name().context("a library has a name")?;
        let prefix = directory.join("llvm");
        let lib = prefix.join("lib");
        if lib.exists() {
            fs::remove_dir_all(&lib).with_context(|| format!("remove {}", lib.display()))?;
        }
        fs::create_dir_all(&lib).with_context(|| format!("make {}", lib.display()))?;
        for link in [lib.join(name), lib.join("libLLVM.so")] {
            symlink(&library, &link).with_context(|| format!("make {}", link.display()))?;
        }
        Ok(prefix)
    }

    /// `libLLVM.so.22.1-rust-1.95.0-stable`.
    fn llvm_library(&self) -> Result<PathBuf> {
        let directory = self.libraries();
        let entries =
            fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?.flatten();
        let found = entries.map(|entry| entry.path()).find(|path| {
            path.to_string_lossy().contains(&format!("/libLLVM.so.{}", major_minor(&self.llvm)))
        });
        match found {
            Some(path) => Ok(path),
            None => {
                bail!("{} has no shared LLVM: use a toolchain that rustup installed", directory.display())
            }
        }
    }
}

fn major_minor(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(end, _)| &version[..end])
}

fn directory() -> PathBuf {
    target_directory().join("tools")
}

/// Says which LLVM the linker was linked with.
fn stamp() -> PathBuf {
    directory().join("bpf-linker.llvm")
}

/// The `channel` of rust-toolchain.toml.
fn pinned_rustc() -> Result<String> {
    let path = workspace().join("rust-toolchain.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let channel = text.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    Ok(channel.context("rust-toolchain.toml has no `channel`")?.to_owned())
}
