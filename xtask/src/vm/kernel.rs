//! Debian's kernels: fetched, unpacked, and made ready to boot.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{disk, packages::Host};
use crate::command::{output, quietly, script};

/// Names, Debian's suites that have them, and packages.
const KERNELS: [(&str, &str, &str); 4] = [
    ("5.10", "bullseye", "linux-image-cloud-amd64"),
    ("6.1", "bookworm", "linux-image-cloud-amd64"),
    ("6.12", "trixie", "linux-image-cloud-amd64"),
    ("newest", "trixie-backports", "linux-image-cloud-amd64"),
];
/// What the root disk, the other disks and the ports take, and engines right after.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "ext4", "virtio_console", "overlay"];
const STAGE1: &str = include_str!("stage1.sh");

/// A kernel, its modules and its initramfs.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    directory: PathBuf,
}

impl Kernel {
    /// What it may be called.
    pub(crate) fn names() -> [&'static str; KERNELS.len()] {
        KERNELS.map(|(name, _, _)| name)
    }

    /// From the cache, else from Debian.
    pub(crate) fn fetch(host: &Host, name: &str) -> Result<Self> {
        let Some(&(_, suite, package)) = KERNELS.iter().find(|kernel| kernel.0 == name) else {
            bail!("no kernel {name}: there are {}", Self::names().join(", "));
        };
        let kernel = Self { directory: host.cached(format!("kernels/{name}")) };
        if kernel.directory.exists() {
            return Ok(kernel);
        }
        let suite = host.suite(suite)?;
        let image = suite.resolve(package, "linux-image-")?;
        let version = image.trim_start_matches("linux-image-");
        let part = host.empty(&format!("kernels/{name}.part"))?;
        let unpacked = part.join("unpacked");
        fs::create_dir(&unpacked).context("make a directory for the kernel")?;
        // Since 7.0 an image depends on its parts instead of holding them.
        let parts = suite.depends(&image)?;
        let is_part = |name: &String| name.ends_with(version) && name.starts_with("linux-");
        let packages: Vec<String> =
            [image.clone()].into_iter().chain(parts.into_iter().filter(is_part)).collect();
        suite.unpack(&packages, &unpacked)?;
        Self::build(&part, &unpacked).with_context(|| format!("build what {image} boots from"))?;
        fs::remove_dir_all(&unpacked).context("remove the unpacked kernel")?;
        fs::rename(&part, &kernel.directory)
            .with_context(|| format!("make {}", kernel.directory.display()))?;
        Ok(kernel)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    pub(super) fn initramfs(&self) -> PathBuf {
        self.directory.join("initramfs")
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.directory.join("modules.ext4")
    }

    fn build(part: &Path, unpacked: &Path) -> Result<()> {
        let modules =
            script(r#"find "$1" -path '*lib/modules/*' -prune -type d"#, &[&unpacked.to_string_lossy()])?;
        let modules = PathBuf::from(modules.lines().next().context("the package has no modules")?);
        let release = modules.file_name().context("modules have a release")?.to_string_lossy().into_owned();
        eprintln!("vm: preparing Linux {release}");
        let boot = unpacked.join(format!("boot/vmlinuz-{release}"));
        let image = if boot.exists() { boot } else { modules.join("vmlinuz") };
        fs::copy(&image, part.join("vmlinuz")).with_context(|| format!("copy {}", image.display()))?;
        drop(fs::remove_file(modules.join("vmlinuz")));
        let stage = part.join("stage");
        let home = stage.join("lib/modules").join(&release);
        fs::create_dir_all(stage.join("lib/modules")).context("make a directory for modules")?;
        fs::rename(&modules, &home).context("move the modules")?;
        // Unpacking each when it is loaded is slow in an emulated machine.
        script(
            r#"find "$1" -name '*.ko.xz' -print0 | xargs -0 -r -P2 -n64 xz -d"#,
            &[&home.to_string_lossy()],
        )?;
        quietly(Command::new("depmod").arg("-b").arg(&stage).arg(&release))?;
        disk::ext4(Some(&home), &part.join("modules.ext4"), disk::size_of(&home)?)?;
        initramfs(&part.join("initramfs"), &stage, &release)?;
        fs::remove_dir_all(&stage).context("remove the modules")
    }
}

/// busybox, the first modules in their order, and the first script.
fn initramfs(path: &Path, stage: &Path, release: &str) -> Result<()> {
    let root = stage.join("initramfs");
    for directory in ["bin", "modules", "dev", "proc", "sys", "new"] {
        fs::create_dir_all(root.join(directory)).context("make the initramfs")?;
    }
    let busybox = output(Command::new("sh").args(["-c", "command -v busybox"]))?;
    fs::copy(busybox.trim(), root.join("bin/busybox")).context("copy busybox")?;
    let mut order = String::new();
    let mut known = BTreeSet::new();
    for module in MODULES {
        let depends = output(Command::new("modprobe").arg("-d").arg(stage).args([
            "-S",
            release,
            "--show-depends",
            module,
        ]))?;
        for file in depends.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim) {
            let name = Path::new(file).file_name().context("a module has a name")?.to_string_lossy();
            if known.insert(name.to_string()) {
                fs::copy(file, root.join("modules").join(&*name)).with_context(|| format!("copy {file}"))?;
                order.push_str(&name);
                order.push('\n');
            }
        }
    }
    fs::write(root.join("modules/order"), order).context("write the order of modules")?;
    fs::write(root.join("init"), STAGE1).context("write the first script")?;
    quietly(Command::new("chmod").arg("755").arg(root.join("init")))?;
    disk::archive(&root, &mut File::create(path).context("make the initramfs")?)
}
