//! What implied directories take from the layers below, at link time and when unpacked over them.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use parapull_snapshotter::unpack::{FixError, Position};

use super::archive::{Member, archive, dir, file, symlink};
use super::lane::{Layer, at, bottom, is_root, upper};
use super::tree::Node;
use super::whiteouts::whiteout;

/// Unpacks layers, the bottom one first, and gives them the topmost first.
fn below(layers: impl IntoIterator<Item = Vec<Member>>) -> Vec<Layer> {
    let mut below = Vec::new();
    for members in layers {
        let tar = archive(members);
        let layer = if below.is_empty() {
            bottom(&tar)
        } else {
            upper(&tar)
        };
        below.insert(0, layer.unwrap());
    }
    below
}

fn roots(layers: &[Layer]) -> Vec<PathBuf> {
    layers.iter().map(Layer::root).collect()
}

/// The tree of `members` upon `lowers`, fixed at link time; unpacked over them it must be the same.
fn linked(members: Vec<Member>, lowers: &[Layer]) -> Layer {
    let tar = archive(members);
    let roots = roots(lowers);
    let over = at(&tar, Position::Over(roots.clone())).unwrap();
    let layer = upper(&tar).unwrap();
    layer.staged.fix_implied(&roots).unwrap();
    assert_eq!(layer.tree(), over.tree());
    layer
}

fn lower_dir(name: &str) -> Member {
    dir(name)
        .mode(0o1750)
        .owner(10, 20)
        .mtime(30)
        .xattr("user.a", "b")
}

fn has_everything(node: &Node) -> bool {
    let has_time = node.mtime == (30, 0);
    node.mode == 0o1750
        && node.owner() == (10, 20)
        && has_time
        && node.xattr("user.a") == Some(b"b")
}

#[test]
fn implied_directories_take_everything_from_below() {
    if !is_root("implied_directories_take_everything_from_below") {
        return;
    }
    let lowers = below([
        vec![lower_dir("d"), lower_dir("d/e")],
        vec![file("other", "x")],
    ]);
    let tree = linked(vec![file("d/e/new", "x"), whiteout("d/.wh.gone")], &lowers).tree();
    assert!(
        has_everything(tree.at("d")) && has_everything(tree.at("d/e")),
        "{tree:?}"
    );
    let tree = linked(vec![whiteout("d/.wh..wh..opq")], &lowers).tree();
    assert!(has_everything(&Node {
        xattrs: [(b"user.a".to_vec(), b"b".to_vec())].into(),
        ..tree.at("d").clone()
    }));
    assert!(tree.at("d").is_opaque());
}

#[test]
fn trusted_attributes_are_not_taken() {
    if !is_root("trusted_attributes_are_not_taken") {
        return;
    }
    let lowers = below([
        vec![dir("d")],
        vec![lower_dir("d"), whiteout("d/.wh..wh..opq")],
    ]);
    assert!(lowers[0].tree().at("d").is_opaque());
    let tree = linked(vec![file("d/f", "x")], &lowers).tree();
    assert!(has_everything(tree.at("d")) && !tree.at("d").is_opaque());
}

#[test]
fn a_later_entry_keeps_only_the_xattrs_from_below() {
    if !is_root("a_later_entry_keeps_only_the_xattrs_from_below") {
        return;
    }
    let lowers = below([vec![lower_dir("d").xattr("user.own", "below")]]);
    let entry = dir("d")
        .mode(0o700)
        .owner(1, 1)
        .mtime(5)
        .xattr("user.own", "mine");
    let tree = linked(vec![file("d/f", "x"), entry], &lowers).tree();
    let node = tree.at("d");
    assert_eq!(
        (node.mode, node.owner(), node.mtime),
        (0o700, (1, 1), (5, 0))
    );
    assert_eq!(
        (node.xattr("user.a"), node.xattr("user.own")),
        (Some(&b"b"[..]), Some(&b"mine"[..]))
    );
}

#[test]
fn row_03_what_is_implied_below_its_own_whiteout_takes_nothing() {
    if !is_root("row_03_what_is_implied_below_its_own_whiteout_takes_nothing") {
        return;
    }
    let lowers = below([vec![lower_dir("d"), lower_dir("d/e")]]);
    for members in [
        vec![whiteout(".wh.d"), file("d/e/f", "x")],
        vec![file("d/e/f", "x"), whiteout(".wh.d")],
    ] {
        let tree = linked(members, &lowers).tree();
        for path in ["d", "d/e"] {
            let node = tree.at(path);
            assert_eq!((node.mode, node.owner()), (0o755, (0, 0)), "{path}");
            assert_eq!(node.xattr("user.a"), None, "{path}");
        }
        assert!(tree.at("d").is_opaque());
    }
    let entry = dir("d").mode(0o700).xattr("user.own", "mine");
    let members = vec![file("d/f", "x"), entry, whiteout(".wh.d")];
    let node = linked(members, &lowers).tree().at("d").clone();
    assert_eq!(
        (node.xattr("user.a"), node.xattr("user.own")),
        (None, Some(&b"mine"[..]))
    );
}

#[test]
fn row_04_a_lower_file_or_whiteout_in_the_way_ends_the_search() {
    if !is_root("row_04_a_lower_file_or_whiteout_in_the_way_ends_the_search") {
        return;
    }
    for hiding in [file("a", "x"), whiteout(".wh.a")] {
        let lowers = below([vec![lower_dir("a"), lower_dir("a/b")], vec![hiding]]);
        let tree = linked(vec![file("a/b/c", "x")], &lowers).tree();
        for path in ["a", "a/b"] {
            assert_eq!(
                (tree.at(path).mode, tree.at(path).owner()),
                (0o755, (0, 0)),
                "{path}"
            );
        }
    }
}

#[test]
fn row_05_each_lower_layer_is_resolved_alone() {
    if !is_root("row_05_each_lower_layer_is_resolved_alone") {
        return;
    }
    let hidden_by_opaque = below([
        vec![lower_dir("d"), lower_dir("d/e")],
        vec![dir("d"), whiteout("d/.wh..wh..opq")],
    ]);
    let tree = linked(vec![file("d/e/f", "x")], &hidden_by_opaque).tree();
    assert!(has_everything(tree.at("d/e")));
    let behind_symlink = below([vec![lower_dir("usr/lib"), symlink("lib", "/usr/lib")]]);
    let tree = linked(vec![file("lib/f", "x")], &behind_symlink).tree();
    assert!(has_everything(tree.at("lib")));
    let dangling = below([vec![lower_dir("d")], vec![symlink("d", "/nowhere")]]);
    let tree = linked(vec![file("d/f", "x")], &dangling).tree();
    assert!(has_everything(tree.at("d")));
}

#[test]
fn row_05_symlinks_of_a_lower_layer_stay_inside_it() {
    if !is_root("row_05_symlinks_of_a_lower_layer_stay_inside_it") {
        return;
    }
    let lowers = below([vec![symlink("d", "../../../../tmp"), symlink("e", "/tmp")]]);
    let tree = linked(vec![file("d/f", "x"), file("e/f", "x")], &lowers).tree();
    assert_eq!((tree.at("d").mode, tree.at("e").mode), (0o755, 0o755));
}

#[test]
fn row_06_groups_are_inherited_from_setgid_directories() {
    if !is_root("row_06_groups_are_inherited_from_setgid_directories") {
        return;
    }
    let own = [
        dir("s").mode(0o2755).owner(1, 50),
        file("s/new/er/f", "x").owner(2, 2),
    ];
    let tree = linked(own.to_vec(), &below([vec![dir("x")]])).tree();
    assert_eq!(
        (tree.at("s/new").owner(), tree.at("s/new").mode),
        ((0, 50), 0o755)
    );
    assert_eq!(tree.at("s/new/er").owner(), (0, 0));
    let lowers = below([vec![dir("s").mode(0o2755).owner(1, 60)]]);
    let tree = linked(vec![file("s/new/er/f", "x")], &lowers).tree();
    assert_eq!((tree.at("s").mode, tree.at("s").owner()), (0o2755, (1, 60)));
    assert_eq!(
        (tree.at("s/new").owner(), tree.at("s/new").mode),
        ((0, 60), 0o755)
    );
    assert_eq!(tree.at("s/new/er").owner(), (0, 0));
}

/// `user::rwx, user:1:rwx, group::r-x, mask::rwx, other::r-x`, as the kernel stores an ACL.
pub fn acl() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [
            tag.to_le_bytes().as_slice(),
            &permissions.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, 7, none),
        entry(2, 7, 1),
        entry(4, 5, none),
        entry(0x10, 7, none),
        entry(0x20, 5, none),
    ];
    [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

/// Whether the file system of the tests has ACLs at all.
fn has_acls() -> bool {
    let layer = upper(&archive(
        [dir("d").xattr("system.posix_acl_default", acl())],
    ))
    .unwrap();
    let has = layer
        .tree()
        .at("d")
        .xattr("system.posix_acl_default")
        .is_some();
    if !has {
        eprintln!("SKIPPED default ACLs: the file system of the tests has none");
    }
    has
}

#[test]
fn row_06_default_acls_within_the_layer_are_inherited() {
    if !is_root("row_06_default_acls_within_the_layer_are_inherited") || !has_acls() {
        return;
    }
    let members = [
        dir("d").xattr("system.posix_acl_default", acl()),
        file("d/f", "x"),
        file("d/new/f", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert!(tree.at("d/f").xattr("system.posix_acl_access").is_some());
    assert!(tree.at("d/new").xattr("system.posix_acl_default").is_some());
}

#[test]
fn row_06_default_acls_from_below_need_the_parents() {
    if !is_root("row_06_default_acls_from_below_need_the_parents") || !has_acls() {
        return;
    }
    let lowers = below([vec![
        dir("d")
            .owner(5, 5)
            .xattr("system.posix_acl_default", acl()),
    ]]);
    let tar = archive([file("d/f", "x"), file("e/f", "x")]);
    let layer = upper(&tar).unwrap();
    let before = layer.tree();
    let error = layer.staged.fix_implied(&roots(&lowers)).unwrap_err();
    assert!(
        matches!(&error, FixError::NeedsParents { path } if path.to_str() == Some("d")),
        "{error}"
    );
    assert_eq!(layer.tree(), before, "nothing was changed");
    let over = at(&tar, Position::Over(roots(&lowers))).unwrap();
    let tree = over.tree();
    assert_eq!(tree.at("d").owner(), (5, 5));
    assert!(tree.at("d/f").xattr("system.posix_acl_access").is_some());
    assert!(over.staged.implied.is_empty());
}

#[test]
fn row_08_the_lower_time_always() {
    if !is_root("row_08_the_lower_time_always") {
        return;
    }
    let lowers = below([vec![
        lower_dir("d")
            .pax("mtime", "30.000000007")
            .pax("atime", "40.5"),
    ]]);
    let layer = linked(vec![file("d/f", "x").mtime(1000)], &lowers);
    let metadata = std::fs::metadata(layer.root().join("d")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (30, 7));
}
