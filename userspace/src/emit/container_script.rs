//! `run.sh`: a rewritten line as a script that finds its profiles beside itself.

use crate::{shell::quote_word, workload::run_line::RunLine};

/// The script, one option a line. The option `seccomp=SECCOMP` becomes the file of that name in the script's
/// own directory, so that the bundle can be moved. `apparmor` is the name of the profile that the line needs loaded
/// and the file of it, beside the script.
#[must_use]
pub fn run_script(run: &RunLine, seccomp: &str, apparmor: Option<(&str, &str)>) -> Vec<u8> {
    let quoted = |words: &[String]| words.iter().map(|word| quote_word(word)).collect::<Vec<_>>().join(" ");
    let mut lines = vec![format!("exec {}", quoted(&run.beginning()))];
    let ours = format!("seccomp={seccomp}");
    let file = quote_word(seccomp.rsplit('/').next().unwrap_or(seccomp));
    for words in run.option_lines() {
        lines.push(match &words[..] {
            [option, value] if option == "--security-opt" && *value == ours => {
                format!("--security-opt \"seccomp=$dir\"/{file}")
            }
            words => quoted(words),
        });
    }
    lines.push(quoted(&run.image_and_command()));
    let script = format!(
        "#!/bin/sh\n\
         # Written by unpriv: the recorded command without --privileged, with what the recording used.\n\
         dir=$(CDPATH= cd -- \"$(dirname -- \"$0\")\" && pwd) || exit\n\
         {}{}\n",
        apparmor.map_or_else(String::new, |(name, file)| load(name, file)),
        lines.join(" \\\n  ")
    );
    script.into_bytes()
}

/// Loads an `AppArmor` profile, which takes root; anybody else may find it loaded.
fn load(name: &str, file: &str) -> String {
    format!(
        "# The engine takes an AppArmor profile by name: it has to be in the kernel.\n\
         if [ \"$(id -u)\" = 0 ]; then\n  \
           PATH=$PATH:/usr/sbin:/sbin apparmor_parser --replace --skip-cache \"$dir\"/{file} || exit\n\
         else\n  \
           echo \"run.sh: if the AppArmor profile {name} is not loaded: sudo apparmor_parser -r $dir/{file}\" >&2\n\
         fi\n"
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    #[test]
    fn the_script_passes_every_argument_on_and_finds_its_profile() {
        let directory = tempfile::tempdir().unwrap();
        // A client that prints its arguments.
        let bundle = directory.path().join("my 'bundle' $x");
        fs::create_dir(&bundle).unwrap();
        let client = directory.path().join("docker");
        fs::write(&client, "#!/bin/sh\nprintf '%s\\0' \"$@\"\n").unwrap();
        Command::new("chmod").arg("+x").arg(&client).status().unwrap();
        let client = client.to_str().unwrap();
        let line = [
            client,
            "-H",
            "x y",
            "run",
            "-it",
            "-e",
            "A=\nb'$(id)\\",
            "--security-opt",
            "seccomp=out/s p.json",
            "--name=--",
            "--",
            "image",
            "sh",
            "-c",
            "echo \"$0\" `id` \u{1b}[2J\n# x\\",
        ];
        let line: Vec<String> = line.map(str::to_owned).to_vec();
        let run = RunLine::parse(&line).unwrap();
        let script = bundle.join("run.sh");
        fs::write(&script, run_script(&run, "out/s p.json", None)).unwrap();
        for start in [directory.path(), &bundle] {
            let output = Command::new("sh").arg(&script).current_dir(start).output().unwrap();
            let mut expected = line[1..].to_vec();
            expected[7] = format!("seccomp={}/s p.json", bundle.to_str().unwrap());
            let expected: Vec<u8> =
                expected.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), String::from_utf8(expected).unwrap());
        }
    }

    #[test]
    fn the_script_loads_its_apparmor_profile_or_says_how() {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("bin");
        fs::create_dir(&programs).unwrap();
        let run = RunLine::parse(&["docker", "run", "i"].map(str::to_owned)).unwrap();
        let script = directory.path().join("run.sh");
        fs::write(&script, run_script(&run, "s", Some(("unpriv-i-0", "apparmor.profile")))).unwrap();
        for (name, text) in
            [("docker", "#!/bin/sh\n"), ("apparmor_parser", "#!/bin/sh\nprintf '%s ' \"$@\"\n")]
        {
            fs::write(programs.join(name), text).unwrap();
        }
        let run_as = |id: &str| {
            fs::write(programs.join("id"), format!("#!/bin/sh\necho {id}\n")).unwrap();
            Command::new("chmod").arg("-R").arg("+x").arg(&programs).status().unwrap();
            let path = format!("{}:/usr/bin:/bin", programs.display());
            let output = Command::new("/bin/sh").arg(&script).env("PATH", path).output().unwrap();
            assert!(output.status.success());
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        let file = directory.path().join("apparmor.profile").display().to_string();
        assert_eq!(run_as("0").0, format!("--replace --skip-cache {file} "));
        let (stdout, advice) = run_as("1000");
        assert!(stdout.is_empty() && advice.contains(&format!("sudo apparmor_parser -r {file}")), "{advice}");
    }

    #[test]
    fn the_script_has_one_option_a_line() {
        let line = "docker run -it --rm --cap-drop=ALL --cap-add=NET_ADMIN -v /a:/b --security-opt seccomp=o/seccomp.json i sh";
        let run = RunLine::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap();
        let script = String::from_utf8(run_script(&run, "o/seccomp.json", None)).unwrap();
        assert_eq!(
            script.lines().skip(3).collect::<Vec<_>>(),
            [
                "exec docker run \\",
                "  -it \\",
                "  --rm \\",
                "  --cap-drop=ALL \\",
                "  --cap-add=NET_ADMIN \\",
                "  -v /a:/b \\",
                "  --security-opt \"seccomp=$dir\"/seccomp.json \\",
                "  i sh"
            ]
        );
    }
}
