//! `AppArmor` globs for all paths but some: its language has no other way to make an exception of a denial.

use std::collections::BTreeMap;

/// Paths that are left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    path: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The path and what is below it.
    Path,
    /// Every path that begins so.
    Beginning,
}

/// What is left of an opening behind a beginning, and whether all that follows is open.
type Rest<'a> = (&'a [char], bool);

impl Opening {
    /// A path and what is below it.
    pub(super) fn path(path: &str) -> Self {
        Self { path: path.to_owned(), kind: Kind::Path }
    }

    /// Every path that begins so.
    pub(super) fn beginning(path: &str) -> Self {
        Self { path: path.to_owned(), kind: Kind::Beginning }
    }
}

/// Globs that together match every path below `root`, which ends with a slash, but the open ones and the
/// directories that these are in.
pub(super) fn all_but(root: &str, open: &[Opening]) -> Vec<String> {
    let mut paths: Vec<(Vec<char>, bool)> = Vec::new();
    for opening in open {
        // The whole tree, or the directory itself.
        if root.starts_with(&format!("{}/", opening.path.trim_end_matches('/'))) {
            return Vec::new();
        }
        let Some(rest) = opening.path.strip_prefix(root) else { continue };
        let rest: Vec<char> = rest.bytes().map(plain).collect();
        if opening.kind == Kind::Path {
            paths.push(([&rest[..], &['/']].concat(), true));
        }
        paths.push((rest, opening.kind == Kind::Beginning));
    }
    let mut globs = BTreeMap::new();
    let rests: Vec<Rest<'_>> = paths.iter().map(|(path, all)| (&path[..], *all)).collect();
    others(root, "", &rests, &mut globs);
    let glob = |(directory, names): (String, Vec<String>)| match &names[..] {
        [one] => directory + one,
        many => format!("{directory}{{{}}}", many.join(",")),
    };
    globs.into_iter().map(glob).collect()
}

/// A byte that means itself both in a glob and in a set of characters; `?`, which is any, for all others.
fn plain(byte: u8) -> char {
    let means_itself = byte.is_ascii_alphanumeric() || b"/._:".contains(&byte);
    if means_itself { char::from(byte) } else { '?' }
}

/// Adds, by directory, the names that begin with `name` and are not open. At each character a path may go
/// another way than every open one.
fn others(directory: &str, name: &str, open: &[Rest<'_>], globs: &mut BTreeMap<String, Vec<String>>) {
    if open.iter().any(|(rest, all)| rest.is_empty() && *all) {
        return;
    }
    let is_open = open.iter().any(|(rest, _)| rest.is_empty());
    let mut next: Vec<char> = open.iter().filter_map(|(rest, _)| rest.first().copied()).collect();
    next.sort_unstable();
    next.dedup();
    // Where any character leads on, those that are named do so, too.
    let any = next.contains(&'?');
    if any {
        next.retain(|one| matches!(one, '?' | '/'));
    }
    let mut deny = |glob: String| globs.entry(directory.to_owned()).or_default().push(glob);
    if !name.is_empty() && !is_open {
        deny(name.to_owned());
    }
    if next.is_empty() {
        deny(if name.is_empty() { "**".to_owned() } else { format!("{name}{{/,[^/]}}**") });
    } else if !any {
        deny(format!("{name}[^{}]**", next.iter().collect::<String>()));
    } else if !name.is_empty() && !next.contains(&'/') {
        deny(format!("{name}/**"));
    }
    for character in next {
        let leads = |one: char| one == character || character == '?' && one != '/';
        let rests: Vec<Rest<'_>> = open
            .iter()
            .filter_map(|(rest, all)| {
                rest.split_first().filter(|(one, _)| leads(**one)).map(|(_, rest)| (rest, *all))
            })
            .collect();
        if character == '/' {
            others(&format!("{directory}{name}/"), "", &rests, globs);
        } else {
            others(directory, &format!("{name}{character}"), &rests, globs);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Whether a glob matches a whole path, apparmor.d(5) "Globbing".
    pub(in crate::emit) fn matches(glob: &str, path: &str) -> bool {
        let expanded = expand(glob);
        expanded.iter().any(|glob| matches_plain(glob.as_bytes(), path.as_bytes()))
    }

    /// Every choice of the alternatives in braces.
    fn expand(glob: &str) -> Vec<String> {
        let Some(open) = glob.find('{') else { return vec![glob.to_owned()] };
        let (mut depth, mut start, mut parts) = (0, open + 1, Vec::new());
        for (at, one) in glob.char_indices().skip_while(|&(at, _)| at < open) {
            depth += i32::from(one == '{') - i32::from(one == '}');
            if depth == 1 && one == ',' || depth == 0 {
                parts.push(&glob[start..at]);
                start = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
        let wholes = parts.iter().map(|part| format!("{}{part}{}", &glob[..open], &glob[start..]));
        wholes.flat_map(|whole| expand(&whole)).collect()
    }

    fn matches_plain(glob: &[u8], path: &[u8]) -> bool {
        let any = |rest: &[u8], not: &[u8]| {
            let free = path.iter().take_while(|byte| !not.contains(byte)).count();
            (0..=free).any(|used| matches_plain(rest, &path[used..]))
        };
        match glob {
            [] => path.is_empty(),
            [b'*', b'*', rest @ ..] => any(rest, b""),
            [b'*', rest @ ..] => any(rest, b"/"),
            [b'?', rest @ ..] => {
                path.first().is_some_and(|&byte| byte != b'/') && matches_plain(rest, &path[1..])
            }
            [b'[', b'^', rest @ ..] => {
                let end = rest.iter().position(|&byte| byte == b']').unwrap();
                let in_set = |byte: u8| match &rest[..end] {
                    [low, b'-', high, more @ ..] => (*low..=*high).contains(&byte) || more.contains(&byte),
                    set => set.contains(&byte),
                };
                path.first().is_some_and(|&byte| !in_set(byte)) && matches_plain(&rest[end + 1..], &path[1..])
            }
            [one, rest @ ..] => path.first() == Some(one) && matches_plain(rest, &path[1..]),
        }
    }

    #[test]
    fn every_path_is_either_open_or_matched() {
        let open = ["/s/ab/c", "/s/abc", "/s/ab/d.e", "/s/x"].map(Opening::path);
        let globs = all_but("/s/", &open);
        let is_open = |path: &str| {
            ["/s/ab/c", "/s/abc", "/s/ab/d.e", "/s/x"]
                .iter()
                .any(|open| path == *open || path.starts_with(&format!("{open}/")))
        };
        let alphabet = ["a", "b", "c", "d", ".", "e", "x", "/"];
        let mut paths = vec!["/s/".to_owned()];
        for length in 0..5 {
            let longer: Vec<String> = paths
                .iter()
                .filter(|path| path.len() == 3 + length)
                .flat_map(|path| alphabet.iter().map(move |one| format!("{path}{one}")))
                .filter(|path| !path.contains("//"))
                .collect();
            paths.extend(longer);
        }
        for path in paths.iter().filter(|path| !path.ends_with('/')) {
            let matched = globs.iter().any(|glob| matches(glob, path));
            assert_ne!(matched, is_open(path), "{path} with {globs:?}");
        }
        assert!(paths.len() > 10_000);
    }

    #[test]
    fn without_openings_everything_below_is_meant() {
        assert_eq!(all_but("/sys/firmware/", &[]), ["/sys/firmware/**"]);
        assert_eq!(all_but("/sys/firmware/", &[Opening::path("/proc/x")]), ["/sys/firmware/**"]);
    }

    #[test]
    fn a_whole_tree_that_is_open_leaves_nothing() {
        assert_eq!(all_but("/sys/firmware/", &[Opening::path("/sys/firmware")]), [""; 0]);
        assert_eq!(all_but("/sys/firmware/", &[Opening::path("/sys/")]), [""; 0]);
    }

    #[test]
    fn an_open_path_is_left_out_with_what_is_below() {
        assert_eq!(
            all_but("/sys/", &[Opening::path("/sys/a/be")]),
            ["/sys/{[^a]**,a,a[^/]**}", "/sys/a/{[^b]**,b,b[^e]**,be[^/]**}"]
        );
        assert_eq!(all_but("/p/", &[Opening::beginning("/p/1")]), ["/p/[^1]**"]);
    }

    #[test]
    fn what_means_something_in_a_glob_is_any_character() {
        assert_eq!(
            all_but("/s/", &[Opening::path("/s/a-]"), Opening::path("/s/ab,x")]),
            ["/s/{[^a]**,a,a/**,a?,a?/**,a??[^/x]**,a??x[^/]**}"],
        );
    }
}
