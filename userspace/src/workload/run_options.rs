//! Options of a `run` line, as the engines' flag library (spf13/pflag) reads them.

use super::{
    engine::EngineKind,
    run_tables::{ALIASES, Row},
};
use crate::shell::one_line;

/// Why a command line is no `run` of an engine that can be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing at all, or another program.
    #[error("`{}` is no container engine: give the whole command, such as `docker run --privileged IMAGE`", one_line(.0))]
    NotEngine(String),
    /// Another command of the engine.
    #[error("`{engine} {}` starts no container: give a `{engine} run` command", one_line(words))]
    NotRun {
        /// The engine.
        engine: EngineKind,
        /// What stands where `run` should.
        words: String,
    },
    /// An option that this build does not know, so it cannot tell where the image is.
    #[error(
        "`{}` is not an option of `{command}` ({}): correct it, or write it after the image if it belongs to the container's command",
        one_line(option), engine.known_versions()
    )]
    UnknownOption {
        /// The engine.
        engine: EngineKind,
        /// As written.
        option: String,
        /// `docker` or `docker run`.
        command: &'static str,
    },
    /// An option with which the container cannot be recorded, and what to do instead.
    #[error("`--{option}` cannot be recorded: {why}")]
    Unsupported {
        /// Long name.
        option: &'static str,
        /// Why not, and the way out.
        why: &'static str,
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
    #[error("no image after the options: give the whole `{0} run … IMAGE [COMMAND]`")]
    NoImage(EngineKind),
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

    /// Those that it stands for, where the engine takes a list; otherwise itself.
    pub fn elements(&self, engine: EngineKind) -> impl Iterator<Item = Self> {
        let list = engine.takes_list(self.name) && self.value.contains(',');
        let parts = if list { self.value.split(',').collect() } else { Vec::new() };
        let whole = if list { None } else { Some(self.clone()) };
        let parts: Vec<Self> =
            parts.into_iter().map(|part| Self::attached(self.name, part.to_owned())).collect();
        whole.into_iter().chain(parts)
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

/// What a command of an engine takes.
pub(super) struct Known {
    /// The engine.
    pub(super) engine: EngineKind,
    /// `docker` or `docker run`.
    pub(super) command: &'static str,
    /// Its options.
    pub(super) tables: &'static [&'static [Row]],
}

impl Known {
    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.tables.iter().copied().flatten()
    }

    fn unknown(&self, option: String) -> ParseError {
        ParseError::UnknownOption { engine: self.engine, option, command: self.command }
    }
}

/// Options from the start of `arguments`, and how many arguments they took. Stops at the first argument
/// that is no option, or before `--`.
pub(super) fn parse(known: &Known, arguments: &[String]) -> Result<(Vec<RunOption>, usize), ParseError> {
    let mut options = Vec::new();
    let mut next = 0;
    while let Some(argument) = arguments.get(next) {
        if !argument.starts_with('-') || argument == "-" || argument == "--" {
            break;
        }
        let following = arguments.get(next + 1);
        let before = options.len();
        if argument.starts_with("--") {
            options.push(long(known, argument, following)?);
        } else {
            cluster(known, argument, following, next, &mut options)?;
        }
        next += 1;
        for option in &options[before..] {
            next += usize::from(option.separate);
            let takes_value = known.rows().any(|row| row.0 == option.name && row.2);
            if !takes_value && boolean(&option.value).is_none() {
                return Err(ParseError::BadBoolean { option: option.name, value: option.value.clone() });
            }
        }
    }
    Ok((options, next))
}

fn long(known: &Known, argument: &str, following: Option<&String>) -> Result<RunOption, ParseError> {
    let written = argument.strip_prefix("--").unwrap_or(argument);
    let (name, attached) = match written.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (written, None),
    };
    let &(row_name, _, takes_value) =
        known.rows().find(|row| row.0 == name).ok_or_else(|| known.unknown(format!("--{name}")))?;
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
    known: &Known,
    argument: &str,
    following: Option<&String>,
    index: usize,
    options: &mut Vec<RunOption>,
) -> Result<(), ParseError> {
    let mut rest = &argument[1..];
    while let Some(letter) = rest.chars().next() {
        let &(name, _, takes_value) = known
            .rows()
            .find(|row| row.1 == Some(letter))
            .ok_or_else(|| known.unknown(format!("-{letter}")))?;
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
