//! Random layers without whiteouts against GNU tar.

use std::process::Command;

use proptest::prelude::*;

use super::archive::{Member, archive, dir, file, hardlink, symlink};
use super::lane::{bottom, is_root, place};
use super::tree::Tree;

/// Names from so small a set that entries meet each other.
fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|components| components.join("/"))
}

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(String),
    Hardlink(usize),
    Fifo,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Directory),
        4 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Kind::File),
        1 => name().prop_map(Kind::Symlink),
        1 => any::<usize>().prop_map(Kind::Hardlink),
        1 => Just(Kind::Fifo),
    ]
}

fn layer() -> impl Strategy<Value = Vec<(String, Kind, u64, u64)>> {
    proptest::collection::vec(
        (name(), kind(), 0..0o10000_u64, 1..3_000_000_000_u64),
        1..30,
    )
}

/// Members that GNU tar and containerd take alike: every parent listed as a directory, no path listed twice.
fn members(layer: &[(String, Kind, u64, u64)]) -> Vec<Member> {
    let mut kinds: std::collections::BTreeMap<String, char> = std::collections::BTreeMap::new();
    let mut files: Vec<String> = Vec::new();
    let mut members = Vec::new();
    for (path, kind, mode, time) in layer {
        let parents: Vec<&str> = path
            .match_indices('/')
            .map(|(slash, _)| &path[..slash])
            .collect();
        if kinds.contains_key(path)
            || parents
                .iter()
                .any(|parent| kinds.get(*parent).is_some_and(|kind| *kind != 'd'))
        {
            continue;
        }
        for parent in parents {
            if kinds.insert(parent.to_owned(), 'd').is_none() {
                members.push(dir(parent).mtime(*time));
            }
        }
        let member = match kind {
            Kind::Directory => dir(path),
            Kind::File(data) => file(path, data),
            Kind::Symlink(target) => symlink(path, target),
            Kind::Hardlink(_) if files.is_empty() => continue,
            Kind::Hardlink(index) => hardlink(path, &files[index % files.len()]),
            Kind::Fifo => Member::new(b'6', path),
        };
        if matches!(kind, Kind::File(_)) {
            files.push(path.clone());
        }
        kinds.insert(
            path.clone(),
            if matches!(kind, Kind::Directory) {
                'd'
            } else {
                '-'
            },
        );
        members.push(
            member
                .mode(*mode)
                .owner(time % 70_000, mode % 70_000)
                .mtime(*time),
        );
    }
    members
}

/// GNU tar does not apply the header of a hard link to the inode: its attributes are those of the first name.
fn without_links(tree: &Tree) -> Vec<(Vec<u8>, super::tree::Node)> {
    let linked: std::collections::BTreeSet<_> = tree
        .0
        .iter()
        .filter(|(path, node)| **path != node.first)
        .map(|(_, node)| node.first.clone())
        .collect();
    let nodes = tree
        .0
        .iter()
        .map(|(path, node)| (path.clone(), node.clone()));
    nodes
        .map(|(path, mut node)| {
            if linked.contains(&node.first) {
                (node.mode, node.uid, node.gid, node.mtime) = (0, 0, 0, (0, 0));
            }
            (path, node)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_layers_are_as_gnu_tar_unpacks_them(layer in layer()) {
        if !is_root("random_layers_are_as_gnu_tar_unpacks_them") {
            return Ok(());
        }
        let tar = archive(members(&layer));
        let place = place();
        let (input, output) = (place.path().join("in.tar"), place.path().join("out"));
        std::fs::write(&input, &tar).unwrap();
        std::fs::create_dir(&output).unwrap();
        let options = ["-xp", "--numeric-owner", "--delay-directory-restore", "--warning=no-timestamp", "-f"];
        let unpacked = Command::new("tar").args(options).arg(&input).arg("-C").arg(&output).status().unwrap();
        prop_assert!(unpacked.success());
        let ours = bottom(&tar).unwrap().tree();
        prop_assert_eq!(without_links(&ours), without_links(&Tree::read(&output)));
    }
}
