//! What an OCI runtime calls between loading the filter and the entrypoint: measured data, and the choice of it.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::profile::Warning;

/// System calls of one version of an OCI runtime, after it loaded a seccomp filter and up to its execve of
/// the entrypoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeNeeds {
    /// The runtime, such as `runc`.
    pub runtime: String,
    /// Its version, such as `1.1.5`.
    pub version: String,
    /// Kernel and architecture.
    pub measured_on: String,
    /// Measured with no-new-privileges, where runtimes load the filter later.
    pub no_new_privileges: bool,
    /// Without one of these the container does not start.
    pub required: BTreeSet<String>,
    /// Called in every run; the runtime survives their failure.
    pub tolerated: BTreeSet<String>,
    /// Called in some runs only.
    pub occasional: BTreeSet<String>,
    /// How each list was found.
    pub sources: Vec<String>,
}

const MEASURED: [&str; 6] = [
    include_str!("../../../../profiles/runtimes/crun-1.8.1.json"),
    include_str!("../../../../profiles/runtimes/crun-1.8.1-nnp.json"),
    include_str!("../../../../profiles/runtimes/runc-1.1.5.json"),
    include_str!("../../../../profiles/runtimes/runc-1.1.5-nnp.json"),
    include_str!("../../../../profiles/runtimes/runc-1.5.1.json"),
    include_str!("../../../../profiles/runtimes/runc-1.5.1-nnp.json"),
];

impl RuntimeNeeds {
    /// Everything that was measured and is part of this build.
    pub fn measured() -> impl Iterator<Item = Self> {
        // A file that does not parse fails the test below, so none is passed over here.
        MEASURED.iter().filter_map(|text| serde_json::from_str(text).ok())
    }

    /// The needs of a runtime: those of the version if it was measured, else the union of the nearest
    /// measured versions on both sides, for it may behave like either.
    ///
    /// With a warning when that is a guess: a version outside of what was measured, or, for an unknown
    /// runtime or version, everything that any measured runtime needs.
    #[must_use]
    pub fn choose(runtime: &str, version: Option<&str>, no_new_privileges: bool) -> (Self, Option<Warning>) {
        let mut known: Vec<Self> = Self::measured()
            .filter(|needs| needs.no_new_privileges == no_new_privileges && needs.runtime == runtime)
            .collect();
        known.sort_by_key(|needs| parse_version(&needs.version));
        if let Some(wanted) = version.and_then(parse_version) {
            let below = known.iter().rfind(|needs| parse_version(&needs.version) <= Some(wanted));
            let above = known.iter().find(|needs| parse_version(&needs.version) >= Some(wanted));
            match (below, above) {
                (Some(below), Some(above)) => return (below.union(above), None),
                (Some(near), None) | (None, Some(near)) => {
                    return (near.clone(), Some(not_measured(runtime, version, &near.version)));
                }
                (None, None) => {}
            }
        }
        let mut all = Self::measured().filter(|needs| needs.no_new_privileges == no_new_privileges);
        let first = all.next().unwrap_or_else(|| Self::none(no_new_privileges));
        let union = all.fold(first, |union, needs| union.union(&needs));
        (union, Some(not_measured(runtime, version, "all measured runtimes")))
    }

    /// Every call to allow.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        self.required.iter().chain(&self.tolerated).chain(&self.occasional).map(String::as_str)
    }

    fn union(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let both = |one: &str, two: &str| {
            if one == two { one.to_owned() } else { format!("{one}, {two}") }
        };
        Self {
            runtime: both(&self.runtime, &other.runtime),
            version: both(&self.version, &other.version),
            measured_on: both(&self.measured_on, &other.measured_on),
            no_new_privileges: self.no_new_privileges && other.no_new_privileges,
            required: &self.required | &other.required,
            tolerated: &self.tolerated | &other.tolerated,
            occasional: &self.occasional | &other.occasional,
            sources: self.sources.iter().chain(&other.sources).cloned().collect(),
        }
    }

    fn none(no_new_privileges: bool) -> Self {
        Self {
            runtime: String::new(),
            version: String::new(),
            measured_on: String::new(),
            no_new_privileges,
            required: BTreeSet::new(),
            tolerated: BTreeSet::new(),
            occasional: BTreeSet::new(),
            sources: Vec::new(),
        }
    }
}

fn not_measured(runtime: &str, version: Option<&str>, instead: &str) -> Warning {
    let version = version.unwrap_or("(version unknown)");
    Warning::Note(format!(
        "what {runtime} {version} calls before the entrypoint was not measured; \
         the seccomp profile allows what was for {instead}"
    ))
}

/// `1.1.5`, also with a packager's suffix: `1.1.5+ds1`, `1.2.0-rc.1`.
fn parse_version(text: &str) -> Option<[u32; 3]> {
    let text = text.trim().trim_start_matches('v');
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let mut parts = text[..end].split('.').filter(|part| !part.is_empty()).map(str::parse);
    let major = parts.next()?.ok()?;
    let mut next = || parts.next().map_or(Some(0), Result::ok);
    Some([major, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    #[test]
    fn every_data_file_is_built_in_parses_and_names_real_calls() {
        let needs: Vec<_> = RuntimeNeeds::measured().collect();
        assert_eq!(needs.len(), MEASURED.len());
        for needs in &needs {
            assert!(needs.required.contains("execve"), "{} {}", needs.runtime, needs.version);
            for call in needs.calls() {
                assert!(Abi::X86_64.number(call).is_some(), "{call}");
            }
        }
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/runtimes");
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), MEASURED.len());
    }

    #[test]
    fn a_measured_version_is_taken_as_it_is() {
        let (needs, warning) = RuntimeNeeds::choose("runc", Some("1.1.5+ds1"), false);
        assert_eq!(needs.version, "1.1.5");
        assert!(!needs.required.contains("openat2"));
        assert_eq!(warning, None);
    }

    /// runc 1.2.8 began to use openat2 and statx, between the two measured versions.
    #[test]
    fn a_version_between_two_measured_ones_gets_both() {
        let (needs, warning) = RuntimeNeeds::choose("runc", Some("1.2.8"), true);
        assert!(needs.no_new_privileges);
        assert!(needs.required.contains("openat2"));
        assert!(needs.tolerated.contains("epoll_ctl"));
        assert_eq!(warning, None);
    }

    #[test]
    fn a_version_outside_gets_the_nearest_and_a_warning() {
        for (version, nearest) in [("1.0.0-rc93", "1.1.5"), ("2.0", "1.5.1")] {
            let (needs, warning) = RuntimeNeeds::choose("runc", Some(version), false);
            assert_eq!(needs.version, nearest);
            assert!(warning.is_some());
        }
    }

    #[test]
    fn an_unknown_runtime_or_version_gets_the_union_and_a_warning() {
        for (runtime, version) in [("youki", Some("0.5.0")), ("runc", None), ("crun", Some("HEAD"))] {
            let (needs, warning) = RuntimeNeeds::choose(runtime, version, false);
            let calls: BTreeSet<_> = needs.calls().collect();
            assert!(["openat2", "setresuid", "futex"].iter().all(|call| calls.contains(call)));
            assert!(warning.is_some());
        }
    }
}
