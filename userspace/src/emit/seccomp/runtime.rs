//! What an OCI runtime calls between loading the filter and the entrypoint: measured data, and the choice of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{PRIVILEGED, version::Version};
use crate::{profile::Warning, shell::one_line};

/// System calls of one version of an OCI runtime, after it loaded a seccomp filter and up to its execve of
/// the entrypoint, or of what is executed in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Called, and the runtime survives their failure.
    pub tolerated: BTreeSet<String>,
    /// Not seen to be called, but possible at any time, and why.
    pub occasional: BTreeMap<String, String>,
    /// Recorded starts; 0 where they were not counted.
    #[serde(default)]
    pub runs: u32,
    /// In how many of them each call was made.
    #[serde(default)]
    pub seen: BTreeMap<String, u32>,
    /// How each list was found.
    pub sources: Vec<String>,
}

/// The OCI runtime that will load a filter, as far as it matters to what that must let through.
#[derive(Clone, Copy, Debug)]
pub struct Runtime<'a> {
    /// Its name, such as `runc`.
    pub name: &'a str,
    /// Its version as it prints it, such as `1.1.5+ds1`; `None` when it is not known.
    pub version: Option<&'a str>,
    /// The container has no-new-privileges. Where that is not known: false, for which more is allowed.
    pub no_new_privileges: bool,
}

/// Calls that take over from mount(2). runc 1.3 tries them for a /proc of its own, and does without.
const MOUNTING: [&str; 7] =
    ["fsconfig", "fsmount", "fsopen", "fspick", "mount_setattr", "move_mount", "open_tree"];

macro_rules! measured {
    ($($name:literal)*) => { &[$(include_str!(concat!("../../../../profiles/runtimes/", $name, ".json"))),*] };
}

/// What `cargo xtask runtimes` wrote.
const MEASURED: &[&str] = measured![
    "crun-1.21"
    "crun-1.21-nnp"
    "crun-1.28"
    "crun-1.28-nnp"
    "crun-1.8.1"
    "crun-1.8.1-nnp"
    "runc-1.1.15"
    "runc-1.1.15-nnp"
    "runc-1.1.5"
    "runc-1.1.5-nnp"
    "runc-1.3.6"
    "runc-1.3.6-nnp"
    "runc-1.5.1"
    "runc-1.5.1-nnp"
];

impl RuntimeNeeds {
    /// Everything that was measured and is part of this build.
    pub fn measured() -> impl Iterator<Item = Self> {
        // A file that does not parse fails the test below, so none is passed over here.
        MEASURED.iter().filter_map(|text| serde_json::from_str(text).ok())
    }

    /// The needs of a runtime: those of the version if it was measured, else the union of the nearest
    /// measured versions on both sides, for it may behave like either; for an unknown runtime or version,
    /// everything that any measured runtime needs. With a warning when it is not the version itself.
    #[must_use]
    pub fn choose(runtime: Runtime<'_>) -> (Self, Option<Warning>) {
        let wanted = runtime.version.and_then(Version::parse);
        let known = || {
            Self::measured().filter(|needs| {
                needs.runtime == runtime.name && needs.no_new_privileges == runtime.no_new_privileges
            })
        };
        let of = |needs: &Self| Version::parse(&needs.version);
        let mut near: Vec<Self> = wanted.map_or_else(Vec::new, |_| {
            let below = known().filter(|needs| of(needs) <= wanted).max_by_key(of);
            let above = known().filter(|needs| of(needs) >= wanted).min_by_key(of);
            below.into_iter().chain(above).collect()
        });
        near.dedup();
        let exact = near.len() == 1 && near.iter().all(|needs| of(needs) == wanted);
        let Some(union) = near.into_iter().reduce(|one, two| one.union(&two)) else {
            return (Self::any(), Some(not_measured(runtime, "any measured runtime")));
        };
        let warning = (!exact).then(|| not_measured(runtime, &union.version));
        (union, warning)
    }

    /// Everything that any measured runtime needs.
    #[must_use]
    pub fn any() -> Self {
        Self::measured().reduce(|one, two| one.union(&two)).unwrap_or_default()
    }

    /// Every call to allow: not those that a runtime only tries and that an engine's default profile keeps from
    /// containers.
    pub fn calls(&self) -> impl Iterator<Item = &str> {
        let tried =
            |name: &&String| !PRIVILEGED.contains(&name.as_str()) && !MOUNTING.contains(&name.as_str());
        let tolerated = self.tolerated.iter().filter(tried);
        self.required.iter().chain(tolerated).chain(self.occasional.keys()).map(String::as_str)
    }

    /// The calls of both, each in the strictest of its lists. Counts of different measurements do not add up.
    fn union(&self, other: &Self) -> Self {
        let both = |one: &str, two: &str| {
            if one == two { one.to_owned() } else { format!("{one} and {two}") }
        };
        Self {
            runtime: both(&self.runtime, &other.runtime),
            version: both(&self.version, &other.version),
            measured_on: both(&self.measured_on, &other.measured_on),
            no_new_privileges: self.no_new_privileges && other.no_new_privileges,
            required: &self.required | &other.required,
            tolerated: &self.tolerated | &other.tolerated,
            occasional: self.occasional.clone().into_iter().chain(other.occasional.clone()).collect(),
            sources: self.sources.iter().chain(&other.sources).cloned().collect(),
            ..Self::default()
        }
    }
}

fn not_measured(runtime: Runtime<'_>, instead: &str) -> Warning {
    let (name, version) = (one_line(runtime.name), runtime.version.map(one_line));
    Warning::Note(format!(
        "what {name} {} calls before the entrypoint was not measured; the seccomp profile allows what was for {instead}",
        version.as_deref().unwrap_or("(version unknown)")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    fn choose(name: &str, version: Option<&str>, no_new_privileges: bool) -> (RuntimeNeeds, Option<Warning>) {
        RuntimeNeeds::choose(Runtime { name, version, no_new_privileges })
    }

    fn calls(needs: &RuntimeNeeds) -> BTreeSet<&str> {
        needs.calls().collect()
    }

    #[test]
    fn every_data_file_is_built_in_parses_and_names_real_calls() {
        let needs: Vec<_> = RuntimeNeeds::measured().collect();
        assert_eq!(needs.len(), MEASURED.len());
        for needs in &needs {
            assert!(needs.required.contains("execve"), "{} {}", needs.runtime, needs.version);
            for call in needs.calls() {
                assert!(Abi::X86_64.number(call).is_some(), "{call}");
            }
            assert!(needs.seen.values().all(|&runs| 0 < runs && runs <= needs.runs));
        }
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/runtimes");
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), MEASURED.len());
    }

    /// Whoever does not know whether a container has no-new-privileges can take the filter for those without.
    #[test]
    fn with_no_new_privileges_a_runtime_calls_no_more_under_the_filter() {
        for with in RuntimeNeeds::measured().filter(|needs| needs.no_new_privileges) {
            let (without, _) = choose(&with.runtime, Some(&with.version), false);
            assert!(calls(&with).is_subset(&calls(&without)), "{} {}", with.runtime, with.version);
        }
    }

    #[test]
    fn a_measured_version_is_taken_as_it_is() {
        let (needs, warning) = choose("runc", Some("1.1.5+ds1"), false);
        assert_eq!(needs.version, "1.1.5");
        assert!(!needs.required.contains("openat2"));
        assert_eq!(warning, None);
    }

    /// runc 1.2.8 began to use openat2 and statx, between two measured versions.
    #[test]
    fn a_version_between_two_measured_ones_gets_both() {
        let (needs, warning) = choose("runc", Some("1.2.8"), true);
        assert!(needs.no_new_privileges);
        assert!(needs.required.contains("openat2"));
        assert!(needs.tolerated.contains("epoll_ctl"));
        assert!(warning.is_some());
    }

    #[test]
    fn a_version_outside_gets_the_nearest_and_a_warning() {
        for (version, nearest) in [("1.0.0-rc93", "1.1.5"), ("2.0", "1.5.1")] {
            let (needs, warning) = choose("runc", Some(version), false);
            assert_eq!(needs.version, nearest);
            assert!(warning.is_some());
        }
    }

    #[test]
    fn an_unknown_runtime_or_version_gets_the_union_and_a_warning() {
        for (runtime, version) in [("youki", Some("0.5.0")), ("runc", None), ("crun", Some("HEAD"))] {
            let (needs, warning) = choose(runtime, version, false);
            assert_eq!(needs, RuntimeNeeds::any());
            assert!(warning.is_some());
        }
    }

    /// Versions of one runtime, those that were measured and what may stand around them.
    fn versions(runtime: &str) -> Vec<String> {
        let mut versions = vec!["0".to_owned(), "99.0.0".to_owned()];
        for needs in RuntimeNeeds::measured().filter(|needs| needs.runtime == runtime) {
            for suffix in ["", "+ds1", "-1", "-rc.1", "~rc1", ".1", "9"] {
                versions.push(needs.version.clone() + suffix);
            }
        }
        versions
    }

    #[test]
    fn any_version_gets_what_its_measured_neighbours_need() {
        let of = |version: &str| Version::parse(version).unwrap();
        for (runtime, no_new_privileges) in [("runc", false), ("runc", true), ("crun", false), ("crun", true)]
        {
            let mut measured: Vec<_> = RuntimeNeeds::measured()
                .filter(|needs| needs.runtime == runtime && needs.no_new_privileges == no_new_privileges)
                .collect();
            measured.sort_by_key(|needs| of(&needs.version));
            for version in versions(runtime) {
                let (chosen, _) = choose(runtime, Some(&version), no_new_privileges);
                let above = measured.partition_point(|needs| of(&needs.version) < of(&version));
                let exact = measured.get(above).is_some_and(|needs| of(&needs.version) == of(&version));
                let first = if exact { above } else { above.saturating_sub(1) };
                for neighbour in measured.iter().take(above + 1).skip(first) {
                    assert!(calls(neighbour).is_subset(&calls(&chosen)), "{runtime} {version}");
                    assert!(neighbour.required.is_subset(&chosen.required), "{runtime} {version}");
                }
            }
        }
    }
}
