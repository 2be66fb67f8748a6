//! The root disk of the machines: Debian with the engines, and the test image in both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::{
    Shape, disk,
    kernel::Kernel,
    machine::{Machine, Outcome},
    packages::Host,
    payload::Payload,
};
use crate::{
    command::{output, quietly, script},
    workspace,
};

/// Releases of Debian that the machines, and the test image in them, may be made of.
pub(crate) const SUITES: [&str; 2] = ["bookworm", "trixie"];
/// Since trixie the client is no part of docker.io.
const SPLIT_DOCKER: &str = "trixie";
/// Engines and tools, beside what the workloads call. systemd is there for containers that mount this /usr.
const PACKAGES: &str = "docker.io runc crun podman netavark aardvark-dns uidmap slirp4netns apparmor bpftool kmod \
    ca-certificates dmsetup cryptsetup-bin systemd";
/// Virtual size in MiB: what a machine can write is what is left of it.
const SIZE: u64 = 8192;
const BAKE: &str = include_str!("bake.sh");

/// podman without systemd and without CNI plugins. Its containers have no network unless their line says otherwise,
/// as docker's: setting one up takes some thirty calls of iptables, twice.
const CONTAINERS_CONF: &str = "[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\n\
    [network]\nnetwork_backend=\"netavark\"\n[containers]\nnetns=\"none\"\n";

/// The root disk.
pub(crate) struct Root(PathBuf);

impl Root {
    /// From the cache, else built; `kernel` boots it once, for the engines to take the test image.
    pub(crate) fn fetch(host: &Host, kernel: &Kernel, suite: &str) -> Result<Self> {
        let image_script = workspace().join("tests/image.sh");
        let recipe = recipe(suite, &[&image_script, &workspace().join("tests/fixture.sh")])?;
        let path = host.cached(format!("root-{suite}-{recipe}.ext4"));
        if path.exists() {
            return Ok(Self(path));
        }
        let begin = Instant::now();
        let image = output(Command::new(&image_script).arg(suite))?;
        let part = host.cached("root.part");
        build(Path::new(image.trim()), suite, &part)?;
        let mut payload = Payload::empty()?;
        payload.add_as(Path::new(image.trim()), "image.tar")?;
        eprintln!("vm: giving the engines their test image (boots once)");
        let shape = Shape { memory: 3072, timeout: 900, ..Shape::default() };
        let machine = Machine { host, kernel, root: &part, shape, writable: true };
        match machine.run(&payload, BAKE, None)? {
            Outcome::Exit(0) => {}
            other => bail!("the engines did not take the test image: {other:?}"),
        }
        forget_others(host, &format!("root-{suite}-"))?;
        fs::rename(&part, &path).with_context(|| format!("make {}", path.display()))?;
        eprintln!("vm: the root disk is ready ({} s)", begin.elapsed().as_secs());
        Ok(Self(path))
    }

    pub(super) fn disk(&self) -> &Path {
        &self.0
    }
}

fn packages(suite: &str) -> String {
    let client = if suite == SPLIT_DOCKER { " docker-cli" } else { "" };
    format!("{PACKAGES}{client}")
}

/// What the disk is made by; another recipe makes another one.
fn recipe(suite: &str, files: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for text in [suite, &packages(suite), BAKE, CONTAINERS_CONF] {
        hash.update(text);
    }
    for file in files {
        hash.update(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    let digest = hash.finalize();
    Ok(format!("{:016x}", u64::from_be_bytes(digest[..8].try_into()?)))
}

fn forget_others(host: &Host, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(host.cached("")).context("list the cache")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_file(entry.path()).context("remove a disk of another recipe")?;
        }
    }
    Ok(())
}

/// The test image's root directory, with the engines installed into it.
fn build(image: &Path, suite: &str, disk_image: &Path) -> Result<()> {
    eprintln!("vm: installing {suite}'s engines into a root directory (about a minute)");
    let root = tempfile::tempdir().context("make a temporary directory")?;
    let path = root.path().to_string_lossy().into_owned();
    // In memory: dpkg syncs after every file.
    quietly(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "root", &path]))?;
    let built = script(
        r#"root=$1; image=$2; packages=$3
        tar -C "$root" --xattrs --xattrs-include='*' -xpf "$image"
        cp /etc/resolv.conf "$root/etc/resolv.conf"
        printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"; chmod 755 "$root/usr/sbin/policy-rc.d"
        export DEBIAN_FRONTEND=noninteractive
        # The image also knows a second architecture, for one program that it has by now.
        apt="apt-get -qq -o APT::Architectures=$(dpkg --print-architecture)"
        for wait in 10 30 60 0; do
            chroot "$root" $apt update --error-on=any >/dev/null && break
            sleep $wait
        done
        # shellcheck disable=SC2086
        chroot "$root" $apt install -y --no-install-recommends $packages >/dev/null
        rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man \
            "$root"/usr/share/locale "$root"/etc/cni/net.d/* "$root/usr/sbin/policy-rc.d"
        # podman asks dpkg which package its programs are of, each time, and dpkg reads them all.
        rm -f "$root"/var/lib/dpkg/info/*.list
        mkdir -p "$root/unpriv" "$root/out" "$root/new""#,
        &[&path, &image.to_string_lossy(), &packages(suite)],
    )
    .and_then(|_| {
        let settings = root.path().join("etc/containers/containers.conf");
        fs::write(&settings, CONTAINERS_CONF).with_context(|| format!("write {}", settings.display()))?;
        fs::create_dir_all(root.path().join("var/cache/unpriv-zoo")).context("make the fixture's directory")?;
        let fixture = image.with_extension("fixture.tar");
        fs::copy(&fixture, root.path().join("var/cache/unpriv-zoo/fixture.tar"))
            .with_context(|| format!("copy {}", fixture.display()))?;
        drop(fs::remove_file(disk_image));
        disk::ext4(Some(root.path()), disk_image, SIZE)
    });
    quietly(Command::new("umount").arg(&path))?;
    built
}
