//! What is said to a command line that cannot be read.

use std::{ffi::OsString, process::ExitCode};

use clap::{
    Parser as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::exit::Exit;
use crate::shell::one_line;

/// Verbs that end with a command.
const WITH_COMMAND: [&str; 4] = ["tighten", "record", "verify", "run"];

/// Reports what clap found; help and the version are no errors.
pub(super) fn report(error: &clap::Error) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if error.kind() == ErrorKind::InvalidUtf8 {
        let name = arguments.iter().find(|argument| argument.to_str().is_none());
        let name = name.map(|name| one_line(&name.as_encoded_bytes().escape_ascii().to_string()));
        say!(
            "the argument `{}` is not UTF-8, which a trace cannot hold: give it another name, as by a symbolic link",
            name.unwrap_or_default()
        );
        return Exit::Usage.into();
    }
    // clap repeats what it was given: it is given what may be repeated.
    let printable: Vec<String> =
        arguments.iter().map(|argument| one_line(&argument.to_string_lossy())).collect();
    let harmless = super::Arguments::try_parse_from(printable).err();
    // Nobody to read it is no failure.
    drop(harmless.as_ref().filter(|other| other.kind() == error.kind()).unwrap_or(error).print());
    if error.use_stderr() && forgot_the_dashes(error, &arguments) {
        say!("the command comes after `--`, as in: unpriv tighten -- docker run IMAGE");
    }
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

fn forgot_the_dashes(error: &clap::Error, arguments: &[OsString]) -> bool {
    let verb = arguments.get(1).and_then(|verb| verb.to_str()).unwrap_or_default();
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => !name.starts_with('-'),
        _ => false,
    };
    error.kind() == ErrorKind::UnknownArgument
        && unknown
        && WITH_COMMAND.contains(&verb)
        && !arguments.iter().any(|argument| argument == "--")
}
