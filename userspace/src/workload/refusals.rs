//! Lines that cannot be recorded as they are, and what to do instead.

use anyhow::{Result, bail};

use super::{engine::EngineKind, run_line::RunLine};

const ROOTLESS: &str = "unpriv records what root's podman runs: copy the image (`podman save IMAGE | sudo podman load`) and give the line as root, `sudo unpriv tighten -- podman run …`";

pub(super) const NO_SERVICE: &str = "unset CONTAINER_HOST and CONTAINER_CONNECTION, or the connection in containers.conf, and give the line as root on the machine that is to run it";

/// Programs that run the command that follows them, and keep the caller's rights.
const WRAPPERS: [&str; 10] =
    ["env", "time", "nice", "ionice", "nohup", "timeout", "stdbuf", "setsid", "strace", "systemd-run"];
/// Programs that run a command as somebody else; `su` takes it as one word.
const BECOMING: [&str; 6] = ["sudo", "doas", "runuser", "su", "setpriv", "machinectl"];

/// The option of a line with which its container cannot be recorded, and why.
pub(super) fn unsupported(run: &RunLine) -> Option<(&'static str, &'static str)> {
    const REMOTE: &str = "another podman runs the container, perhaps elsewhere or without root: leave it out, and give the line as root on the machine that is to run it";
    const OUTPUT: &str = "it hides the answers of podman: leave it out, and redirect the output of unpriv";
    const DESCRIPTORS: &str =
        "`podman create` and `podman start` cannot pass file descriptors on: use a mount or a socket";
    if run.engine != EngineKind::Podman {
        return None;
    }
    let global = run.global.iter().filter(|option| match option.name {
        "remote" | "noout" => option.is_on(),
        "url" | "host" | "connection" | "out" => true,
        _ => false,
    });
    let of_run = run.options.iter().filter(|option| match (option.name, option.value.as_str()) {
        ("preserve-fd", _) | ("cgroups", "disabled") => true,
        ("preserve-fds", count) => count != "0",
        ("rmi" | "rootfs", _) => option.is_on(),
        ("passwd", _) => !option.is_on(),
        ("pod", name) => name.starts_with("new:"),
        _ => false,
    });
    let option = global.chain(of_run).next()?;
    let why = match option.name {
        "out" | "noout" => OUTPUT,
        "preserve-fd" | "preserve-fds" => DESCRIPTORS,
        "rmi" => "the next run needs the image: leave it out, `--rm` is enough",
        "rootfs" => "such a container has no image to name: make one of it (`podman import`)",
        "passwd" => "`podman create` does not take it: leave it out",
        "cgroups" => "a container is recognised by its cgroup: leave it out",
        "pod" => "the next run would find the pod there: make it first (`podman pod create`), and name it",
        _ => REMOTE,
    };
    Some((option.name, why))
}

/// An engine's client is not what is to be recorded: its containers are, and they are not its children.
pub(super) fn hidden_engine(command: &[String]) -> Result<()> {
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let Some(first) = command.first().map(|word| base(word)) else { return Ok(()) };
    if first == "nerdctl" && command.iter().any(|word| word == "run") {
        bail!("`nerdctl run` is not understood: only `docker run …` and `podman run …` are");
    }
    let becoming = BECOMING.contains(&first.as_str());
    if !becoming && !WRAPPERS.contains(&first.as_str()) {
        return Ok(());
    }
    // `su` has the command in one word.
    let words: Vec<String> =
        command[1..].iter().flat_map(|word| word.split_ascii_whitespace()).map(base).collect();
    let is_engine = |word: &String| EngineKind::of(word).is_some() || word == "nerdctl";
    let Some(at) = words.iter().position(is_engine) else { return Ok(()) };
    if !words[at..].iter().any(|word| word == "run") {
        return Ok(());
    }
    let engine = &words[at];
    if becoming && engine == "podman" && as_somebody_else(&first, &words[..at]) {
        bail!("`{first}` starts {engine} without root, whose containers cannot be recorded: {ROOTLESS}");
    }
    bail!("`{first}` hides the container: put it before unpriv (`sudo unpriv tighten -- {engine} run …`)");
}

/// Whether what stands before the engine names a user other than root.
fn as_somebody_else(program: &str, words: &[String]) -> bool {
    let named = |flags: &[&str]| {
        let after =
            words.windows(2).find(|pair| flags.contains(&pair[0].as_str())).map(|pair| pair[1].as_str());
        after.or_else(|| {
            words.iter().find_map(|word| {
                word.split_once('=').filter(|(flag, _)| flags.contains(flag)).map(|(_, user)| user)
            })
        })
    };
    let with_option = named(&["-u", "--user", "--reuid"]);
    let user = match program {
        "su" | "runuser" | "machinectl" if with_option.is_none() => {
            words.iter().map(String::as_str).find(|word| {
                !word.starts_with('-') && !matches!(*word, "shell" | "sh" | "bash" | "-c" | ".host")
            })
        }
        _ => with_option,
    };
    user.is_some_and(|user| !matches!(user.trim_end_matches("@.host"), "root" | "0" | "#0"))
}

/// Why the containers of this podman cannot be recorded, if they cannot.
pub(super) fn refuse_rootless(rootless: bool, remote: bool) -> Result<()> {
    if remote {
        bail!("podman hands its containers to a service: {NO_SERVICE}");
    }
    if rootless {
        bail!("this podman runs without root, and its containers cannot be recorded: {ROOTLESS}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        hidden_engine(&words).err().map(|error| error.to_string())
    }

    #[test]
    fn a_client_behind_another_program_is_refused() {
        assert!(refused("nerdctl run -it alpine").unwrap().contains("nerdctl"));
        assert!(refused("sudo -E docker run alpine").unwrap().contains("before unpriv"));
        assert!(refused("env A=1 docker run alpine").unwrap().contains("docker run"));
        assert!(refused("timeout 5 /usr/bin/podman run alpine").unwrap().contains("podman run"));
        assert!(refused("sudo podman run alpine").unwrap().contains("before unpriv"));
        assert!(refused("sudo -u root podman run alpine").unwrap().contains("before unpriv"));
        assert_eq!(refused("sudo -u nobody id"), None);
        assert_eq!(refused("mount -t tmpfs none /mnt"), None);
        assert_eq!(refused("sudo podman ps"), None);
        assert_eq!(refused("echo docker run"), None);
    }

    #[test]
    fn podman_as_somebody_else_is_refused_with_the_way_out() {
        for line in [
            "sudo -u alice podman run alpine",
            "sudo --user=alice -i podman run alpine",
            "runuser -u alice -- podman run alpine",
            "runuser - alice -c podman run alpine",
            "su - alice -c podman run alpine",
            "setpriv --reuid=1000 podman run alpine",
            "machinectl shell alice@ podman run alpine",
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let said = hidden_engine(&words).unwrap_err().to_string();
            assert!(said.contains("podman save IMAGE | sudo podman load"), "{line}: {said}");
        }
        let words = ["su", "alice", "-c", "podman run --privileged alpine"].map(str::to_owned);
        assert!(hidden_engine(&words).unwrap_err().to_string().contains("without root"));
    }

    #[test]
    fn what_podman_gives_away_is_refused() {
        let refused = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            RunLine::parse(&words).err().map(|error| error.to_string())
        };
        for (line, option) in [
            ("podman --remote run i", "--remote"),
            ("podman -r run i", "--remote"),
            ("podman --url unix:///run/user/1000/podman/podman.sock run i", "--url"),
            ("podman -c box run i", "--connection"),
            ("podman -H ssh://x run i", "--host"),
            ("podman --out f run i", "--out"),
            ("podman run --preserve-fds=1 i", "--preserve-fds"),
            ("podman run --rmi i", "--rmi"),
            ("podman run --cgroups=disabled i", "--cgroups"),
            ("podman run --pod new:x i", "--pod"),
            ("podman run --passwd=false i", "--passwd"),
            ("podman run --rootfs /r sh", "--rootfs"),
        ] {
            assert!(refused(line).unwrap().starts_with(&format!("`{option}` cannot")), "{line}");
        }
        for line in
            ["podman --remote=false run i", "podman run --pod x i", "podman run --cgroups=split --passwd i"]
        {
            assert_eq!(refused(line), None);
        }
    }
}
