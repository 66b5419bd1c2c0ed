//! The merged view computed from layers' trees is the one the kernel mounts, entry by entry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use parapull_bench::layout::LayerContents;
use parapull_bench::tree::{ImageTree, diff, merged, scan};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use support::can_run;

fn whiteout(path: &Path) {
    let mode = Mode::empty();
    mknodat(CWD, path, FileType::CharacterDevice, mode, 0).unwrap();
    assert!(
        fs::symlink_metadata(path)
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

fn opaque(path: &Path) {
    let flags = XattrFlags::empty();
    setxattr(path, "trusted.overlay.opaque", b"y", flags).unwrap();
}

fn fill(path: &Path, names: &[&str]) {
    for name in names {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, name.as_bytes()).unwrap();
    }
}

fn layers(root: &Path) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> = (0..4).map(|number| root.join(number.to_string())).collect();
    let [first, second, third, fourth] = folders.as_slice() else {
        unreachable!("four were made");
    };
    fill(
        first,
        &[
            "a/x",
            "a/y",
            "a-b",
            "d/e/f",
            "k/l",
            "o/old/deep",
            "s/t",
            "w",
        ],
    );
    fs::hard_link(first.join("w"), first.join("v")).unwrap();
    fs::hard_link(first.join("w"), first.join("a/w")).unwrap();
    symlink("a/x", first.join("link")).unwrap();

    fill(second, &["a/x", "d/g", "k", "o/new", "z"]);
    whiteout(&second.join("v"));
    opaque(&second.join("o"));
    fs::set_permissions(second.join("d"), PermissionsExt::from_mode(0o2711)).unwrap();
    setxattr(second.join("d"), "user.kept", b"1", XattrFlags::empty()).unwrap();
    lchown(second.join("z"), Some(12), Some(34)).unwrap();
    whiteout(&second.join("s"));

    fill(third, &["s/again", "o/third"]);
    whiteout(&third.join("a"));
    whiteout(&third.join("never-there"));

    fill(fourth, &["a/back", "link/inside"]);
    whiteout(&fourth.join("k"));
    folders
}

#[test]
fn the_computed_view_is_the_mounted_one() {
    if !can_run("merged view", &[]) {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let folders = layers(folder.path());
    for number in 1..=folders.len() {
        let some = &folders[..number];
        let contents = vec![LayerContents::default(); number];
        let image = ImageTree::read(some, &contents, &folder.path().join("merged")).unwrap();
        let differences = diff(&image.merged, &merged(&image.layers));
        assert!(differences.is_empty(), "{number} layers: {differences:?}");
    }
    // Hard-linked names that are left, and a subtree that came back, must be among what was compared.
    let trees: Vec<_> = folders.iter().map(|layer| scan(layer).unwrap()).collect();
    let top = merged(&trees);
    let paths: Vec<String> = top
        .entries
        .keys()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    assert!(
        !paths
            .iter()
            .any(|path| path == "v" || path == "a/x" || path == "k")
    );
    for path in ["a/back", "s/again", "link/inside", "o/third", "w"] {
        assert!(paths.iter().any(|known| known == path), "{path}: {paths:?}");
    }
}

#[test]
fn an_opaque_root_ends_the_view_of_a_pull_and_a_single_layer_shows_its_whiteouts() {
    if !can_run("merged view of opaque roots", &[]) {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let folders: Vec<PathBuf> = (0..3)
        .map(|number| folder.path().join(number.to_string()))
        .collect();
    for (number, path) in folders.iter().enumerate() {
        fill(path, &["same", ["first", "second", "third"][number]]);
    }
    opaque(&folders[1]);
    whiteout(&folders[1].join("gone"));
    let mount_point = folder.path().join("merged");
    for (number, lowest) in [(1, 0), (2, 1), (3, 1)] {
        let contents = vec![LayerContents::default(); number];
        let image = ImageTree::read_pulled(&folders[..number], &contents, &mount_point).unwrap();
        let differences = diff(&image.merged, &merged(&image.layers[lowest..]));
        assert!(differences.is_empty(), "{number} layers: {differences:?}");
        let sees_first = image.merged.entries.contains_key(&b"first"[..]);
        assert_eq!(sees_first, lowest == 0, "{number} layers");
    }
}
