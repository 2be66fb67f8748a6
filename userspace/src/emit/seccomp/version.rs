//! Versions as OCI runtimes print them, in the order in which they came out.

/// A version's numbers, and whether it is the release itself rather than a candidate for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u32; 3],
    released: bool,
}

impl Version {
    /// `1.1.5`, `1.21`, also with what packagers append: `1.1.5+ds1`, `1.21-1`. `1.2.0-rc.1`, `1.2.0~rc1` and their like
    /// come before `1.2.0`. `None` where there is no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let release = release(text);
        let mut parts = release.split('.').map(str::parse);
        let major = parts.next()?.ok()?;
        let mut next = || parts.next().map_or(Some(0), Result::ok);
        let numbers = [major, next()?, next()?];
        let suffix = text[release.len()..].trim_start_matches(['-', '~', '.']);
        let candidate = ["alpha", "beta", "rc", "pre"].iter().any(|name| suffix.starts_with(name));
        Some(Self { numbers, released: !candidate })
    }
}

/// The numbers at the start of a version, as `1.1.5` of `1.1.5+ds1`; the kernel's `6.12.0-1-amd64`, too.
#[must_use]
pub fn release(version: &str) -> &str {
    let end = version.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(version.len());
    version[..end].trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_in_which_they_came_out() {
        let order =
            ["1.0.0-rc93", "1.0.0", "1.1.5", "1.1.15", "1.2.0-rc.1", "1.2.0", "1.8.1", "1.21", "1.100"];
        let versions: Vec<_> = order.iter().map(|text| Version::parse(text).unwrap()).collect();
        assert!(versions.is_sorted_by(|one, two| one < two));
    }

    #[test]
    fn what_packagers_append_changes_nothing() {
        for (text, same) in [
            ("1.1.5+ds1", "1.1.5"),
            ("1.21-1", "1.21.0"),
            ("v1.3.6+ds1-1", "1.3.6"),
            ("1.2.0~rc1", "1.2.0-rc.1"),
            ("1.1.5+dev", "1.1.5"),
            ("1.5.0.rc1", "1.5.0-beta.2"),
        ] {
            assert_eq!(Version::parse(text), Version::parse(same), "{text}");
        }
        for text in ["", "HEAD", "-1", "99999999999"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
