//! Traces and profiles as files: read with errors that say where, written whole or not at all.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{
    profile::{self, Profile},
    shell::{escape_json, one_line, quote_word},
    trace::{self, Trace},
};

/// What stands for standard input or standard output.
const STANDARD_STREAM: &str = "-";
/// What messages call it when it is read.
const STANDARD_INPUT: &str = "standard input";

/// A file that this tool wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// What happened.
    Trace(Box<Trace>),
    /// What is needed.
    Profile(Box<Profile>),
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Document::Trace`].
    Trace,
    /// [`Document::Profile`].
    Profile,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {name}: {error}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {name}: {error}")]
    Write {
        /// The file.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// Nothing in it.
    #[error("{0} is empty: was the command that wrote it interrupted?")]
    Empty(String),
    /// JSON, but not from here.
    #[error(
        "{0} is neither a trace nor a profile: `unpriv record` writes the one, `unpriv derive` the other"
    )]
    Neither(String),
    /// The other kind than the verb wants.
    #[error("{name} is a {found}, and a {wanted} is needed here: {}", .wanted.way_out(.name))]
    Other {
        /// The file.
        name: String,
        /// What it is.
        found: Kind,
        /// What the verb wants.
        wanted: Kind,
    },
    /// From a version of this tool that knew more.
    #[error("{name} was written by a newer unpriv (format {found}; this one reads {}): upgrade unpriv", .kind.version())]
    Newer {
        /// The file.
        name: String,
        /// What it is.
        kind: Kind,
        /// Its version.
        found: u64,
    },
    /// Not JSON, or a field that is not as it should be.
    #[error("{name}: line {line}, column {column}: {}{message}", field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default())]
    Malformed {
        /// The file.
        name: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// Path of the field, such as `capabilities[0].fact.program`.
        field: Option<String>,
        /// What is wrong with it.
        message: String,
    },
}

/// What tells the kinds and versions apart, read before the rest so that a newer file's unknown fields give
/// the right message.
#[derive(Deserialize)]
struct Head {
    version: Option<u64>,
    runs: Option<IgnoredAny>,
    seccomp: Option<IgnoredAny>,
}

/// Reads a trace; `-` is standard input.
///
/// # Errors
///
/// When there is no such file, or it is no trace that this build reads.
pub fn read_trace(path: &Path) -> Result<Trace, Error> {
    let (name, text) = load(path)?;
    expect(&name, &text, Kind::Trace)?;
    strict(&name, &text)
}

/// Reads a profile; `-` is standard input.
///
/// # Errors
///
/// When there is no such file, or it is no profile that this build reads.
pub fn read_profile(path: &Path) -> Result<Profile, Error> {
    let (name, text) = load(path)?;
    expect(&name, &text, Kind::Profile)?;
    strict(&name, &text)
}

/// Reads a trace or a profile, whichever it is; `-` is standard input.
///
/// # Errors
///
/// When there is no such file, or it is neither.
pub fn read_either(path: &Path) -> Result<Document, Error> {
    let (name, text) = load(path)?;
    match kind(&name, &text)? {
        Kind::Trace => strict(&name, &text).map(|trace| Document::Trace(Box::new(trace))),
        Kind::Profile => strict(&name, &text).map(|profile| Document::Profile(Box::new(profile))),
    }
}

/// Pretty JSON with a line break at its end; the same value gives the same bytes. It can be shown on a
/// terminal: JSON itself would leave the control characters beyond ASCII as they are.
#[must_use]
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Our own types: their keys are strings, and nothing else can fail in memory.
    let mut text = escape_json(&serde_json::to_string_pretty(value).unwrap_or_default());
    text.push('\n');
    text.into_bytes()
}

/// Writes a file whole or not at all, and not again when it holds just that; `-` is standard output, where a reader
/// that left is no failure.
///
/// # Errors
///
/// When it cannot be written; what was there before is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_with_mode(path, bytes, 0o666)
}

/// [`write`] for a script: executable as far as the umask allows.
///
/// # Errors
///
/// As [`write`].
pub fn write_executable(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_with_mode(path, bytes, 0o777)
}

/// Finds out before a long run whether [`write`] will succeed; leaves nothing behind.
///
/// # Errors
///
/// When it will not.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    if is_standard_stream(path) {
        return Ok(());
    }
    let check = || match target(path)? {
        Target::Replace(file) => {
            if file.exists() {
                // An immutable file cannot be replaced either.
                drop(File::options().append(true).open(&file)?);
            }
            temporary_beside(&file, 0o600).map(drop)
        }
        // Opening a FIFO would wait for its reader.
        Target::InPlace(_) => Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?),
    };
    check().map_err(|error| Error::Write { name: display(path), error })
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    if !is_standard_stream(path) {
        return write_file(path, bytes, mode).map_err(|error| Error::Write { name: display(path), error });
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::Write { name: "standard output".to_owned(), error })
        }
        _ => Ok(()),
    }
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match target(path)? {
        Target::InPlace(file) => File::options().write(true).open(file)?.write_all(bytes),
        Target::Replace(file) if mode & 0o111 == 0 && fs::read(&file).is_ok_and(|old| old == bytes) => Ok(()),
        Target::Replace(file) => {
            let mut temporary = temporary_beside(&file, mode)?;
            temporary.write_all(bytes)?;
            if let Ok(old) = fs::metadata(&file) {
                temporary.as_file().set_permissions(kept(&old.permissions(), mode))?;
            }
            temporary.as_file().sync_data()?;
            temporary.persist(&file).map_err(|error| error.error)?;
            Ok(())
        }
    }
}

/// The old file's permissions; a script becomes executable for those who may read it.
fn kept(old: &Permissions, mode: u32) -> Permissions {
    let old = old.mode();
    Permissions::from_mode(if mode & 0o111 == 0 { old } else { old | (old & 0o444) >> 2 })
}

/// How a path is written to.
enum Target {
    /// A regular file, or none yet: a new file takes its place.
    Replace(PathBuf),
    /// A device or a pipe, which has to stay what it is.
    InPlace(PathBuf),
}

fn target(path: &Path) -> io::Result<Target> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return if fs::symlink_metadata(path).is_ok() {
                Err(io::Error::new(ErrorKind::NotFound, "it is a symbolic link to nothing"))
            } else {
                Ok(Target::Replace(path.to_owned()))
            };
        }
        metadata => metadata?,
    };
    if metadata.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory"));
    }
    // A symbolic link stays one.
    Ok(if metadata.is_file() {
        Target::Replace(path.canonicalize()?)
    } else {
        Target::InPlace(path.to_owned())
    })
}

fn temporary_beside(file: &Path, mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".unpriv-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(parent)
        .map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                return io::Error::new(
                    ErrorKind::NotFound,
                    format!("there is no directory {}", display(parent)),
                );
            }
            // tempfile's own words name a file that nobody knows.
            error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error)
        })
}

fn load(path: &Path) -> Result<(String, Vec<u8>), Error> {
    let name = if is_standard_stream(path) { STANDARD_INPUT.to_owned() } else { display(path) };
    let read = || {
        if !is_standard_stream(path) {
            return fs::read(path);
        }
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Error::Read { name, error }),
    }
}

fn is_standard_stream(path: &Path) -> bool {
    path == Path::new(STANDARD_STREAM)
}

/// A path as messages write it, on one line.
#[must_use]
pub fn display(path: &Path) -> String {
    one_line(&path.display().to_string())
}

fn expect(name: &str, text: &[u8], wanted: Kind) -> Result<(), Error> {
    let found = kind(name, text)?;
    if found == wanted { Ok(()) } else { Err(Error::Other { name: name.to_owned(), found, wanted }) }
}

fn kind(name: &str, text: &[u8]) -> Result<Kind, Error> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::Empty(name.to_owned()));
    }
    let object = text.trim_ascii_start().starts_with(b"{");
    if !object && strict::<IgnoredAny>(name, text).is_ok() {
        return Err(Error::Neither(name.to_owned()));
    }
    let head: Head = strict(name, text)?;
    let kind = match (head.runs, head.seccomp) {
        (Some(_), None) => Kind::Trace,
        (None, Some(_)) => Kind::Profile,
        _ => return Err(Error::Neither(name.to_owned())),
    };
    match head.version {
        Some(found) if found > u64::from(kind.version()) => {
            Err(Error::Newer { name: name.to_owned(), kind, found })
        }
        _ => Ok(kind),
    }
}

fn strict<T: DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        // What is no JSON has no fields.
        let field = error.inner().is_data().then(|| error.path().to_string()).filter(|path| path != ".");
        malformed(name, field, error.inner())
    })?;
    json.end().map_err(|error| malformed(name, None, &error))?;
    Ok(value)
}

fn malformed(name: &str, field: Option<String>, error: &serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let message = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    // The file may come from anywhere: its keys and values are no more than text.
    Error::Malformed {
        name: name.to_owned(),
        line,
        column,
        field: field.map(|field| one_line(&field)),
        message: one_line(message),
    }
}

impl Kind {
    /// The newest version of it that this build reads.
    fn version(self) -> u32 {
        match self {
            Self::Trace => trace::VERSION,
            Self::Profile => profile::VERSION,
        }
    }

    /// How to come by one, for somebody who holds the other.
    fn way_out(self, name: &str) -> String {
        match self {
            Self::Trace => "`unpriv record -o TRACE -- COMMAND` writes one".to_owned(),
            Self::Profile => {
                let file = if name == STANDARD_INPUT { STANDARD_STREAM.to_owned() } else { quote_word(name) };
                format!("`unpriv derive {file} -o PROFILE` makes one of it")
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Profile => "profile",
        })
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
