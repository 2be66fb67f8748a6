//! What a person may call a grant.

use std::fmt;

use super::text::inline;
use crate::{capability::Capability, syscalls::Abi, trace::DeviceType};

/// How alike a name must be to be offered, Jaro-Winkler.
const ALIKE: f64 = 0.86;
/// How many are offered.
const OFFERS: usize = 3;

/// One reading of what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    Capability(Capability),
    Path(String),
    Numbers { kind: Option<DeviceType>, major: u32, minor: Option<u32> },
    Syscall(String),
}

/// A name that is none of them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownGrant {
    /// As written.
    name: String,
    /// What it may have been meant to be.
    similar: Vec<String>,
}

impl fmt::Display for UnknownGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no capability, device or system call: ", inline(&self.name))?;
        if self.similar.is_empty() {
            f.write_str("write it like CAP_NET_ADMIN, /dev/fuse, `c 10:229` or openat")
        } else {
            write!(f, "did you mean {}?", self.similar.join(" or "))
        }
    }
}

/// Every reading: `chown` is a capability and a system call, `CAP_CHOWN` only the one.
pub(super) fn parse(text: &str) -> Result<Vec<Grant>, UnknownGrant> {
    let text = text.trim();
    if text.starts_with('/') {
        return Ok(vec![Grant::Path(text.to_owned())]);
    }
    if let Some(numbers) = numbers(text) {
        return Ok(vec![numbers]);
    }
    let mut grants: Vec<Grant> = text.parse().into_iter().map(Grant::Capability).collect();
    if Abi::ALL.iter().any(|abi| abi.number(text).is_some()) {
        grants.push(Grant::Syscall(text.to_owned()));
    }
    if grants.is_empty() {
        return Err(UnknownGrant { name: text.to_owned(), similar: similar(text, &names()) });
    }
    Ok(grants)
}

/// `c 10:229`, `10:229`, `b 7:*`.
fn numbers(text: &str) -> Option<Grant> {
    let (kind, numbers) = match text.split_at_checked(1) {
        Some(("c", rest)) => (Some(DeviceType::Character), rest),
        Some(("b", rest)) => (Some(DeviceType::Block), rest),
        _ => (None, text),
    };
    let (major, minor) = numbers.trim().split_once(':')?;
    let minor = if minor == "*" { None } else { Some(minor.parse().ok()?) };
    Some(Grant::Numbers { kind, major: major.parse().ok()?, minor })
}

fn names() -> Vec<String> {
    let calls = Abi::X86_64.syscalls().map(|(_, name)| name.to_owned());
    Capability::all().map(|capability| capability.name().to_owned()).chain(calls).collect()
}

/// The names most like this one, the most alike first.
pub(super) fn similar(text: &str, names: &[String]) -> Vec<String> {
    let bare = |name: &str| {
        let lower = name.to_ascii_lowercase();
        lower.strip_prefix("cap_").unwrap_or(&lower).to_owned()
    };
    let text = bare(text);
    let mut alike: Vec<(f64, &String)> = names
        .iter()
        .map(|name| (strsim::jaro_winkler(&text, &bare(name)), name))
        .filter(|&(alike, _)| alike >= ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    alike.into_iter().take(OFFERS).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_capability_is_one() {
        for spelling in ["sys_admin", "CAP_SYS_ADMIN", "Cap_Sys_Admin", "SYS_ADMIN"] {
            assert_eq!(parse(spelling), Ok(vec![Grant::Capability(Capability::SYS_ADMIN)]));
        }
        let call = Grant::Syscall("chown".to_owned());
        assert_eq!(parse("chown"), Ok(vec![Grant::Capability(Capability::CHOWN), call]));
        assert_eq!(parse("CAP_CHOWN"), Ok(vec![Grant::Capability(Capability::CHOWN)]));
    }

    #[test]
    fn devices_are_paths_or_numbers() {
        assert_eq!(parse("/dev/fuse"), Ok(vec![Grant::Path("/dev/fuse".to_owned())]));
        let numbers = |kind, major, minor| Ok(vec![Grant::Numbers { kind, major, minor }]);
        assert_eq!(parse("10:229"), numbers(None, 10, Some(229)));
        assert_eq!(parse("c 10:229"), numbers(Some(DeviceType::Character), 10, Some(229)));
        assert_eq!(parse("b 7:*"), numbers(Some(DeviceType::Block), 7, None));
    }

    #[test]
    fn a_name_that_is_nothing_gets_what_is_like_it() {
        let message = |name: &str| parse(name).unwrap_err().to_string();
        assert!(message("sys_admn").ends_with("did you mean CAP_SYS_ADMIN?"), "{}", message("sys_admn"));
        assert!(message("opnat").contains("did you mean openat"), "{}", message("opnat"));
        assert!(message("\x1b[2J\n").starts_with("`\\x1b[2J` is no"), "{}", message("\x1b[2J\n"));
    }
}
