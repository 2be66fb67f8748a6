//! The options of the docker client, and how its flag library (spf13/pflag) reads them.

use crate::shell::one_line;

/// Long name, short name, whether it takes a value.
type Row = (&'static str, Option<char>, bool);

/// `docker [GLOBAL OPTIONS]`, docker/cli `cli/flags/options.go` and `cmd/docker/docker.go`.
pub(super) const GLOBAL: &[Row] = &[
    ("config", None, true),
    ("context", Some('c'), true),
    ("debug", Some('D'), false),
    ("help", Some('h'), false),
    ("host", Some('H'), true),
    ("log-level", Some('l'), true),
    ("tls", None, false),
    ("tlscacert", None, true),
    ("tlscert", None, true),
    ("tlskey", None, true),
    ("tlsverify", None, false),
    ("version", Some('v'), false),
];

/// `docker run [OPTIONS]`, docker/cli `cli/command/container/{run,opts}.go`: the union of v20.10 to v29.7.
pub(super) const RUN: &[Row] = &[
    ("add-host", None, true),
    ("annotation", None, true),
    ("attach", Some('a'), true),
    ("blkio-weight", None, true),
    ("blkio-weight-device", None, true),
    ("cap-add", None, true),
    ("cap-drop", None, true),
    ("cgroup-parent", None, true),
    ("cgroupns", None, true),
    ("cidfile", None, true),
    ("cpu-count", None, true),
    ("cpu-percent", None, true),
    ("cpu-period", None, true),
    ("cpu-quota", None, true),
    ("cpu-rt-period", None, true),
    ("cpu-rt-runtime", None, true),
    ("cpu-shares", Some('c'), true),
    ("cpus", None, true),
    ("cpuset-cpus", None, true),
    ("cpuset-mems", None, true),
    ("detach", Some('d'), false),
    ("detach-keys", None, true),
    ("device", None, true),
    ("device-cgroup-rule", None, true),
    ("device-read-bps", None, true),
    ("device-read-iops", None, true),
    ("device-write-bps", None, true),
    ("device-write-iops", None, true),
    ("disable-content-trust", None, false),
    ("dns", None, true),
    ("dns-opt", None, true),
    ("dns-option", None, true),
    ("dns-search", None, true),
    ("domainname", None, true),
    ("entrypoint", None, true),
    ("env", Some('e'), true),
    ("env-file", None, true),
    ("expose", None, true),
    ("gpus", None, true),
    ("group-add", None, true),
    ("health-cmd", None, true),
    ("health-interval", None, true),
    ("health-retries", None, true),
    ("health-start-interval", None, true),
    ("health-start-period", None, true),
    ("health-timeout", None, true),
    ("help", None, false),
    ("hostname", Some('h'), true),
    ("init", None, false),
    ("interactive", Some('i'), false),
    ("io-maxbandwidth", None, true),
    ("io-maxiops", None, true),
    ("ip", None, true),
    ("ip6", None, true),
    ("ipc", None, true),
    ("isolation", None, true),
    ("kernel-memory", None, true),
    ("label", Some('l'), true),
    ("label-file", None, true),
    ("link", None, true),
    ("link-local-ip", None, true),
    ("log-driver", None, true),
    ("log-opt", None, true),
    ("mac-address", None, true),
    ("memory", Some('m'), true),
    ("memory-reservation", None, true),
    ("memory-swap", None, true),
    ("memory-swappiness", None, true),
    ("mount", None, true),
    ("name", None, true),
    ("net", None, true),
    ("net-alias", None, true),
    ("network", None, true),
    ("network-alias", None, true),
    ("no-healthcheck", None, false),
    ("oom-kill-disable", None, false),
    ("oom-score-adj", None, true),
    ("pid", None, true),
    ("pids-limit", None, true),
    ("platform", None, true),
    ("privileged", None, false),
    ("publish", Some('p'), true),
    ("publish-all", Some('P'), false),
    ("pull", None, true),
    ("quiet", Some('q'), false),
    ("read-only", None, false),
    ("restart", None, true),
    ("rm", None, false),
    ("runtime", None, true),
    ("security-opt", None, true),
    ("shm-size", None, true),
    ("sig-proxy", None, false),
    ("stop-signal", None, true),
    ("stop-timeout", None, true),
    ("storage-opt", None, true),
    ("sysctl", None, true),
    ("tmpfs", None, true),
    ("tty", Some('t'), false),
    ("ulimit", None, true),
    ("use-api-socket", None, false),
    ("user", Some('u'), true),
    ("userns", None, true),
    ("uts", None, true),
    ("volume", Some('v'), true),
    ("volume-driver", None, true),
    ("volumes-from", None, true),
    ("workdir", Some('w'), true),
];

/// Second names, and the ones under which they are kept.
const ALIASES: &[(&str, &str)] =
    &[("dns-opt", "dns-option"), ("net", "network"), ("net-alias", "network-alias")];

/// Why a command line is no `docker run`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing at all, or another program.
    #[error("`{}` is not docker: give the whole command, such as `docker run --privileged IMAGE`", one_line(.0))]
    NotDocker(String),
    /// Another docker command.
    #[error("`docker {}` starts no container: give a `docker run` command", one_line(.0))]
    NotRun(String),
    /// An option that this build does not know, so it cannot tell where the image is.
    #[error(
        "`{}` is not an option of `{command}` up to docker 29.7: correct it, or write it after the image if it belongs to the container's command",
        one_line(option)
    )]
    UnknownOption {
        /// As written.
        option: String,
        /// `docker` or `docker run`.
        command: &'static str,
    },
    /// The line ends where a value should be.
    #[error("`{}` needs a value: write it after the option", one_line(.0))]
    MissingValue(String),
    /// A boolean option with a value that is none.
    #[error("`{}` is neither true nor false, which is what `--{option}` takes", one_line(value))]
    BadBoolean {
        /// Long name.
        option: &'static str,
        /// As written.
        value: String,
    },
    /// The line ends before the image.
    #[error("no image after the options: give the whole `docker run … IMAGE [COMMAND]`")]
    NoImage,
    /// `--help`, which runs nothing.
    #[error("`--help` runs nothing: leave it out to record the command")]
    Help,
    /// An argument holds a NUL byte, which no program can be given.
    #[error("argument {0} holds a NUL byte: remove it")]
    Nul(usize),
}

/// One option, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOption {
    /// Long name without dashes; a second name (`net`) is kept under the first (`network`).
    pub name: &'static str,
    /// Its value; `true` for a boolean option without one.
    pub value: String,
    /// `--name=value`, `--name`, or of a short option what follows the dash: `t`, `v=/a:/b`.
    text: String,
    /// The value is an argument of its own.
    separate: bool,
    /// Short options of one argument (`-itd`) share its number.
    cluster: Option<usize>,
}

impl RunOption {
    /// `--name=value`, as this tool writes it.
    #[must_use]
    pub fn attached(name: &'static str, value: String) -> Self {
        Self { name, text: format!("--{name}={value}"), value, separate: false, cluster: None }
    }

    /// `--name value` in two arguments.
    #[must_use]
    pub fn separate(name: &'static str, value: String) -> Self {
        Self { name, text: format!("--{name}"), value, separate: true, cluster: None }
    }

    /// The same option with another value, written the same way.
    #[must_use]
    pub fn with_value(&self, value: String) -> Self {
        let mut other = self.clone();
        if !self.separate {
            other.text = match self.text.strip_suffix(&self.value) {
                Some(before) => format!("{before}{value}"),
                None => format!("{}={value}", self.text),
            };
        }
        other.value = value;
        other
    }

    /// Both are short options of one argument.
    pub(super) fn shares_argument_with(&self, other: &Self) -> bool {
        self.cluster.is_some() && self.cluster == other.cluster
    }

    /// Whether a boolean option is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        boolean(&self.value) == Some(true)
    }
}

/// The options as arguments again, exactly as they were written; what remains of a cluster stays together.
pub(super) fn print<'a>(options: impl IntoIterator<Item = &'a RunOption>) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut open = None;
    for option in options {
        match (option.cluster, arguments.last_mut()) {
            (Some(cluster), Some(last)) if open == Some(cluster) => last.push_str(&option.text),
            (Some(_), _) => arguments.push(format!("-{}", option.text)),
            (None, _) => arguments.push(option.text.clone()),
        }
        open = option.cluster;
        if option.separate {
            arguments.push(option.value.clone());
        }
    }
    arguments
}

/// Options from the start of `arguments`, and how many arguments they took. Stops at the first argument
/// that is no option, or before `--`.
pub(super) fn parse(
    table: &[Row],
    command: &'static str,
    arguments: &[String],
) -> Result<(Vec<RunOption>, usize), ParseError> {
    let mut options = Vec::new();
    let mut next = 0;
    while let Some(argument) = arguments.get(next) {
        if !argument.starts_with('-') || argument == "-" || argument == "--" {
            break;
        }
        let following = arguments.get(next + 1);
        let before = options.len();
        if argument.starts_with("--") {
            options.push(long(table, command, argument, following)?);
        } else {
            cluster(table, command, argument, following, next, &mut options)?;
        }
        next += 1;
        for option in &options[before..] {
            next += usize::from(option.separate);
            let takes_value = table.iter().any(|row| row.0 == option.name && row.2);
            if !takes_value && boolean(&option.value).is_none() {
                return Err(ParseError::BadBoolean { option: option.name, value: option.value.clone() });
            }
        }
    }
    Ok((options, next))
}

fn long(
    table: &[Row],
    command: &'static str,
    argument: &str,
    following: Option<&String>,
) -> Result<RunOption, ParseError> {
    let written = argument.strip_prefix("--").unwrap_or(argument);
    let (name, attached) = match written.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (written, None),
    };
    let &(row_name, _, takes_value) = table
        .iter()
        .find(|row| row.0 == name)
        .ok_or_else(|| ParseError::UnknownOption { option: format!("--{name}"), command })?;
    let (value, separate) = match attached {
        Some(value) => (value.to_owned(), false),
        None if !takes_value => ("true".to_owned(), false),
        None => (following.ok_or_else(|| ParseError::MissingValue(argument.to_owned()))?.clone(), true),
    };
    let name = ALIASES.iter().find(|alias| alias.0 == row_name).map_or(row_name, |alias| alias.1);
    Ok(RunOption { name, value, text: argument.to_owned(), separate, cluster: None })
}

/// Short options of one argument: each takes `=value`, or if it needs one the rest or the next argument.
fn cluster(
    table: &[Row],
    command: &'static str,
    argument: &str,
    following: Option<&String>,
    index: usize,
    options: &mut Vec<RunOption>,
) -> Result<(), ParseError> {
    let mut rest = &argument[1..];
    while let Some(letter) = rest.chars().next() {
        let &(name, _, takes_value) = table
            .iter()
            .find(|row| row.1 == Some(letter))
            .ok_or_else(|| ParseError::UnknownOption { option: format!("-{letter}"), command })?;
        let after = &rest[letter.len_utf8()..];
        let (value, text, separate) = match after.strip_prefix('=').filter(|value| !value.is_empty()) {
            Some(value) => (value.to_owned(), rest, false),
            None if !takes_value => ("true".to_owned(), &rest[..letter.len_utf8()], false),
            None if !after.is_empty() => (after.to_owned(), rest, false),
            None => {
                let value = following.ok_or_else(|| ParseError::MissingValue(format!("-{letter}")))?;
                (value.clone(), rest, true)
            }
        };
        rest = &rest[text.len()..];
        options.push(RunOption { name, value, text: text.to_owned(), separate, cluster: Some(index) });
    }
    Ok(())
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
