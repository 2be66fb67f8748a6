//! Warnings in words, for people.

use std::fmt;

use super::Warning;
use crate::shell::printable;

impl fmt::Display for Warning {
    /// One line, whatever the workload named its files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| printable(text).replace('\n', "\\n");
        match self {
            Self::Incomplete(why) => {
                write!(f, "the recording is incomplete, so a grant may be missing: {}", text(why))
            }
            Self::Opportunistic { capability, reason } => {
                write!(f, "{capability} was checked but is not needed: {}", text(reason))
            }
            Self::FileUnread(path) => write!(
                f,
                "{} was gone before its file capabilities and set-id bits could be read",
                text(path)
            ),
            Self::ReadsCapabilities(program) => {
                write!(f, "{} reads its own capabilities: with fewer it may behave otherwise", text(program))
            }
            Self::PathsUnknown => f.write_str(
                "the files that the container opened were not recorded, so kernel paths that it needs are not known",
            ),
            Self::Note(note) => f.write_str(&text(note)),
        }
    }
}
