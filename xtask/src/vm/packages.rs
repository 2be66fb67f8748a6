//! Debian packages: those that the host must have, and those that are only unpacked.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{output, quietly, script};

/// What building disks and running machines takes, by a program of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("debootstrap", "debootstrap"),
    ("busybox", "busybox-static"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The machine that the lab runs on.
pub(crate) struct Host {
    cache: PathBuf,
    mirror: String,
}

impl Host {
    /// Installs what is missing.
    pub(crate) fn ready() -> Result<Self> {
        ensure!(
            output(Command::new("id").arg("-u"))?.trim() == "0",
            "must run as root: it builds a root directory for the machines"
        );
        let mut missing: Vec<&str> = PROGRAMS
            .iter()
            .filter(|(program, _)| !is_program(program))
            .map(|(_, package)| *package)
            .collect();
        if !Path::new(KEYRING).exists() {
            missing.push("debian-archive-keyring");
        }
        missing.dedup();
        if !missing.is_empty() {
            eprintln!("vm: installing {}", missing.join(" "));
            quietly(Command::new("apt-get").args(["update", "-qq"]))?;
            quietly(
                Command::new("apt-get")
                    .args(["install", "-y", "-qq", "--no-install-recommends"])
                    .args(&missing)
                    .env("DEBIAN_FRONTEND", "noninteractive"),
            )?;
        }
        let cache = cache_directory()?;
        fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
        Ok(Self { cache, mirror: mirror()? })
    }

    /// A path in the cache.
    pub(crate) fn cached(&self, name: impl AsRef<Path>) -> PathBuf {
        self.cache.join(name)
    }

    /// An empty directory in the cache that something is being made in.
    pub(crate) fn empty(&self, name: &str) -> Result<PathBuf> {
        let path = self.cached(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// The packages of one suite, whatever this machine's own lists say.
    pub(crate) fn suite(&self, name: &str) -> Result<Suite> {
        let directory = self.cached(format!("apt/{name}"));
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part)).context("make apt's directories")?;
        }
        let list = format!("deb [signed-by={KEYRING}] {} {name} main\n", self.mirror);
        fs::write(directory.join("sources.list"), list).context("write sources.list")?;
        let suite = Suite { directory };
        eprintln!("vm: reading the package lists of {name}");
        // A mirror that is just being updated has lists that do not fit together: that passes.
        for pause in [10, 30, 60] {
            match quietly(&mut suite.apt("apt-get", &["update", "-qq", "--error-on=any"])) {
                Ok(()) => return Ok(suite),
                Err(error) => eprintln!("vm: trying again in {pause} s: {error:#}"),
            }
            thread::sleep(Duration::from_secs(pause));
        }
        quietly(&mut suite.apt("apt-get", &["update", "-qq", "--error-on=any"]))?;
        Ok(suite)
    }
}

/// A suite's package lists.
pub(crate) struct Suite {
    directory: PathBuf,
}

impl Suite {
    /// Downloads packages and unpacks them into one directory; nothing is installed.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let downloads = self.directory.join("download");
        fs::create_dir_all(&downloads).context("make a directory for packages")?;
        eprintln!("vm: fetching {}", packages.join(" "));
        let mut download = self.apt("apt-get", &["download", "-qq"]);
        quietly(download.args(packages).current_dir(&downloads))?;
        for entry in fs::read_dir(&downloads).context("list the packages")? {
            quietly(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(into))?;
        }
        fs::remove_dir_all(&downloads).context("remove the packages")
    }

    /// The package that a meta package stands for: what it depends on, as long as that begins with `prefix` and
    /// a digit.
    pub(crate) fn resolve(&self, package: &str, prefix: &str) -> Result<String> {
        let mut name = package.to_owned();
        loop {
            match self.depends(&name)?.into_iter().find(|depends| is_versioned(depends, prefix)) {
                Some(next) if next != name => name = next,
                _ => break,
            }
        }
        ensure!(is_versioned(&name, prefix), "{package} depends on no {prefix}…");
        Ok(name)
    }

    /// The first alternative of each dependency.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = output(self.apt("apt-cache", &["show", "--no-all-versions"]).arg(package))?;
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        let name = |one: &str| one.split_whitespace().next().map(str::to_owned);
        Ok(depends.split(',').filter_map(name).collect())
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Command {
        let directory = self.directory.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={directory}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={directory}/lists"),
            format!("Dir::Cache={directory}"),
            "Dir::State::status=/dev/null".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.args(arguments);
        command
    }
}

fn is_versioned(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether a program is in `PATH`.
pub(crate) fn is_program(name: &str) -> bool {
    let directories = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&directories)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|path| path.join(name).is_file())
}

/// `$UNPRIV_VM_CACHE`, else `unpriv-lab` among the user's caches.
fn cache_directory() -> Result<PathBuf> {
    if let Some(path) = env::var_os("UNPRIV_VM_CACHE") {
        return Ok(path.into());
    }
    let caches = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    Ok(caches.context("neither XDG_CACHE_HOME nor HOME is set")?.join("unpriv-lab"))
}

/// The mirror of Debian that this machine installs from.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var("DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let targets =
        script("apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages'", &[])?;
    let found = targets.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        ["Debian", "Debian", mirror] if mirror.starts_with("http") => Some(mirror.trim_end_matches('/')),
        _ => None,
    });
    match found {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!("this machine's apt knows no mirror of Debian: set DEBIAN_MIRROR to one's URL"),
    }
}
