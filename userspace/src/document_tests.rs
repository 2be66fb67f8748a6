//! What goes wrong with files, and what is said about it.

use std::os::unix::fs::symlink;

use super::*;
use crate::profile::derive;

fn file(text: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    file.write_all(text).unwrap();
    file
}

/// The error, with the file's name replaced by FILE.
fn error(result: Result<impl fmt::Debug, Error>, path: &Path) -> String {
    result.unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
}

fn trace_error(text: &str) -> String {
    let file = file(text.as_bytes());
    error(read_trace(file.path()), file.path())
}

fn changed(from: &str, to: &str) -> String {
    let text = String::from_utf8(to_json(&Trace::empty())).unwrap();
    assert!(text.contains(from), "{text}");
    text.replace(from, to)
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.json");
    let trace = Trace::empty();
    write(&path, &to_json(&trace)).unwrap();
    assert_eq!(read_trace(&path).unwrap(), trace);
    assert_eq!(read_either(&path).unwrap(), Document::Trace(Box::new(trace.clone())));
    let profile = derive(&trace);
    write(&path, &to_json(&profile)).unwrap();
    assert_eq!(read_profile(&path).unwrap(), profile);
    assert_eq!(read_either(&path).unwrap(), Document::Profile(Box::new(profile)));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_malformed_file_is_named_with_line_column_and_field() {
    assert_eq!(trace_error("\n{\"version\": 1,,}"), "FILE: line 2, column 15: key must be a string");
    assert_eq!(trace_error("{}\nx"), "FILE: line 2, column 1: trailing characters");
    assert_eq!(
        trace_error("[1]"),
        "FILE is neither a trace nor a profile: `unpriv record` writes the one, `unpriv derive` the other"
    );
    assert_eq!(trace_error(" \n"), "FILE is empty: was the command that wrote it interrupted?");
    let message = trace_error(&changed(
        "\"capabilities\": []",
        "\"capabilities\": [{\"fact\": {\"capability\": \"CAP_NOPE\"}}]",
    ));
    assert!(message.starts_with("FILE: line 9, column "), "{message}");
    assert!(
        message.contains("`capabilities[0].fact.capability`: `CAP_NOPE` is not a capability"),
        "{message}"
    );
    let message = trace_error(&changed("\"lost\"", "\"extra\": 1, \"lost\""));
    assert!(message.contains("line 4") && message.contains("`extra`: unknown field `extra`"), "{message}");
    let message = trace_error(&changed("\"version\": 1", "\"version\": \"one\""));
    assert!(message.contains("line 2") && message.contains("`version`: invalid type"), "{message}");
}

#[test]
fn a_newer_file_is_told_by_its_version_whatever_else_it_holds() {
    let text = changed("\"version\": 1", "\"version\": 3, \"novelty\": []");
    let newer = "FILE was written by a newer unpriv (format 3; this one reads 1): upgrade unpriv";
    assert_eq!(trace_error(&text), newer);
    let file = file(text.as_bytes());
    assert_eq!(error(read_either(file.path()), file.path()), newer);
}

#[test]
fn the_other_kind_of_file_is_called_by_its_name() {
    let trace = file(&to_json(&Trace::empty()));
    assert_eq!(
        error(read_profile(trace.path()), trace.path()),
        "FILE is a trace, and a profile is needed here: `unpriv derive FILE -o PROFILE` makes one of it"
    );
    let profile = file(&to_json(&derive(&Trace::empty())));
    assert_eq!(
        error(read_trace(profile.path()), profile.path()),
        "FILE is a profile, and a trace is needed here: `unpriv record -o TRACE -- COMMAND` writes one"
    );
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/nowhere/trace.json");
    assert_eq!(error(read_trace(path), path), "cannot read FILE: No such file or directory (os error 2)");
}

#[test]
fn what_a_file_holds_cannot_reach_the_terminal_as_a_command() {
    let hostile = trace_error(&changed("\"lost\"", "\"\\u001b[2J\\n\\u202e\": 1, \"lost\""));
    assert!(hostile.contains("\\x1b[2J\\n\\u202e") && !hostile.contains(['\x1b', '\n']), "{hostile}");
    let path = Path::new("/nowhere/\x1b[2J\n");
    let message = read_trace(path).unwrap_err().to_string();
    assert!(message.contains("/nowhere/\\x1b[2J\\n"), "{message}");
}

#[test]
fn where_nothing_can_be_written_is_found_out_before() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("new.json");
    check_writable(&inside).unwrap();
    assert!(!inside.exists());
    check_writable(Path::new("-")).unwrap();
    check_writable(Path::new("/dev/null")).unwrap();
    assert_eq!(
        error(check_writable(directory.path()), directory.path()),
        "cannot write FILE: it is a directory"
    );
    let beyond = directory.path().join("missing/new.json");
    let message = error(check_writable(&beyond), &beyond);
    assert!(message.starts_with("cannot write FILE: there is no directory /"), "{message}");
    assert!(check_writable(Path::new("/proc/new.json")).is_err());
}

#[test]
fn a_device_and_a_symbolic_link_stay_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    write(Path::new("/dev/null"), b"x").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    symlink(&file, &link).unwrap();
    write(&link, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    write_executable(&file, b"new").unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o750);
}
