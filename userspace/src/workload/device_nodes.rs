//! Device nodes of this host by path, for options that name devices by symbolic link or directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use super::run_line::{RunLine, clean};
use crate::trace::DeviceType;

/// How far below a directory the engine's walk is followed; `/dev` is never deeper.
const DEPTH: usize = 8;

/// A device by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Block or character.
    pub kind: DeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// By cleaned path: one node, reached through symbolic links if need be, or those below a directory.
pub type Nodes = BTreeMap<String, BTreeSet<Node>>;

/// What is at the paths of the line's `--device` options. Only to be asked where the daemon is on this host;
/// what is not there or cannot be read is left out.
#[must_use]
pub fn device_nodes(run: &RunLine) -> Nodes {
    let hosts = run.elements("device").filter_map(|value| value.split(':').next());
    hosts
        .filter(|host| host.starts_with('/'))
        .map(|host| {
            let mut nodes = BTreeSet::new();
            if let Ok(metadata) = fs::metadata(host) {
                collect(Path::new(host), &metadata, DEPTH, &mut nodes);
            }
            (clean(host), nodes)
        })
        .collect()
}

fn collect(path: &Path, metadata: &Metadata, depth: usize, nodes: &mut BTreeSet<Node>) {
    nodes.extend(node(metadata));
    let Some(below) = depth.checked_sub(1).filter(|_| metadata.is_dir()) else { return };
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // Of the entry itself: the engine's walk follows no links below the directory.
        if let Ok(metadata) = entry.metadata() {
            collect(&entry.path(), &metadata, below, nodes);
        }
    }
}

fn node(metadata: &Metadata) -> Option<Node> {
    let kind = match metadata.file_type() {
        kind if kind.is_block_device() => DeviceType::Block,
        kind if kind.is_char_device() => DeviceType::Character,
        _ => return None,
    };
    let number = metadata.rdev();
    Some(Node { kind, major: libc::major(number), minor: libc::minor(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_through_links_and_below_directories() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let (link, directory) = (link.to_str().unwrap(), directory.path().to_str().unwrap());
        let words = [
            "docker",
            "run",
            "--device",
            link,
            "--device=/dev/.:/d:r",
            "--device",
            directory,
            "--device=/none",
            "--device=a=b",
            "i",
        ];
        let nodes = device_nodes(&RunLine::parse(&words.map(str::to_owned)).unwrap());
        let null = Node { kind: DeviceType::Character, major: 1, minor: 3 };
        assert_eq!(nodes[link], BTreeSet::from([null]));
        assert!(nodes["/dev"].contains(&null) && nodes["/dev"].len() > 1);
        // A link below a directory is not followed.
        assert_eq!((nodes[directory].len(), nodes["/none"].len(), nodes.len()), (0, 0, 4));
    }
}
