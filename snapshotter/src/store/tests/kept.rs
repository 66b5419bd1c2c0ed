//! Finished trees that outlive the process.

use std::fs;
use std::path::Path;

use super::super::{KeptLayer, Options, Recovery, Store};
use super::{commit_request, labels, open, options, staged_tree, temporary_directory};
use crate::digest::Digest;
use crate::unpack::{Format, Implied, Inherited, Staged, Time, Usage};

fn layer(root: &Path, name: &str) -> KeptLayer {
    let implied = |path: &str, inherited, in_implied| Implied {
        path: path.into(),
        inherited,
        in_implied,
    };
    KeptLayer {
        diff_id: Digest::of(name.as_bytes()),
        bottom: name == "one",
        staged: Staged {
            root: root.to_path_buf(),
            usage: Usage {
                bytes: 4096,
                inodes: 2,
            },
            entries: 7,
            data_bytes: 5000,
            implied: vec![
                implied("usr", Inherited::Everything, false),
                implied("usr/lib \"\n", Inherited::Xattrs, true),
            ],
            format: Format::Overlay,
            opaque_root: name == "two",
            newest: Time {
                seconds: -1,
                nanoseconds: 999_999_999,
            },
        },
    }
}

fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<String> = store
        .kept_staged()
        .unwrap()
        .into_iter()
        .map(|kept| {
            let directory = kept.staged.root.parent().unwrap();
            directory.file_name().unwrap().to_str().unwrap().to_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_kept_tree_survives_a_restart_until_it_is_used_or_discarded() {
    let root = temporary_directory();
    let store = open(&root);
    let mut kept = Vec::new();
    for name in ["one", "two", "three", "four", "unfinished"] {
        let tree = staged_tree(&store, name);
        if name != "unfinished" {
            kept.push(layer(&tree, name));
        }
    }
    for layer in &kept {
        store.keep_staged(layer).unwrap();
    }
    drop(store);
    fs::remove_dir_all(&kept[3].staged.root).unwrap();

    let store = open(&root);
    assert_eq!(names(&store), ["one", "three", "two"]);
    // The directory of "four" and that of "unfinished".
    assert_eq!(store.recovery().discarded, 2);
    let found = store.kept_staged().unwrap();
    for layer in &kept[..3] {
        assert!(found.contains(layer), "{layer:?} in {found:?}");
        assert!(layer.staged.root.is_dir());
    }
    let request = commit_request(&kept[0].staged.root, &Digest::of(b"chain"), None);
    store.commit_staged(request).unwrap();
    assert_eq!(names(&store), ["three", "two"]);
    store
        .discard_staging_directory(kept[1].staged.root.parent().unwrap())
        .unwrap();
    assert_eq!(names(&store), ["three"]);
    store.release_staged(&kept[2].staged.root).unwrap();
    store.release_staged(&kept[2].staged.root).unwrap();
    assert_eq!(names(&store), [""; 0]);
    assert!(kept[2].staged.root.is_dir(), "only its note is gone");
    drop(store);
    let store = open(&root);
    assert_eq!(store.recovery().discarded, 1, "the whole job");
    drop(store);
    assert_eq!(*open(&root).recovery(), Recovery::default());
}

#[test]
fn no_kept_tree_is_believed_after_another_boot() {
    let root = temporary_directory();
    let boot = |id: &str| Options {
        boot_id: Some(id.to_owned()),
        ..options()
    };
    let store = Store::open(root.path(), &boot("first")).unwrap();
    let tree = staged_tree(&store, "one");
    store.keep_staged(&layer(&tree, "one")).unwrap();
    drop(store);
    let store = Store::open(root.path(), &boot("second")).unwrap();
    assert_eq!(names(&store), [""; 0]);
    assert!(!tree.exists());
}

#[test]
fn a_note_that_cannot_be_read_is_no_note() {
    let root = temporary_directory();
    let store = open(&root);
    for (name, text) in [("empty", ""), ("torn", "{\"boot\":\"x\""), ("other", "[1]")] {
        let tree = staged_tree(&store, name);
        fs::write(tree.with_file_name("layer.json"), text).unwrap();
    }
    fs::write(store.root().join("staging/stray"), b"").unwrap();
    drop(store);
    let store = open(&root);
    assert_eq!(names(&store), [""; 0]);
    assert_eq!(
        fs::read_dir(store.root().join("staging")).unwrap().count(),
        0
    );
}

#[test]
fn a_tree_whose_note_cannot_be_written_is_only_not_kept() {
    use std::os::unix::ffi::OsStringExt;
    let root = temporary_directory();
    let store = open(&root);
    let tree = staged_tree(&store, "one");
    let mut odd = layer(&tree, "one");
    odd.staged.implied[0].path = std::ffi::OsString::from_vec(b"\xff".to_vec()).into();
    store.keep_staged(&odd).unwrap();
    assert_eq!(names(&store), [""; 0]);
    store.prepare("a", "", labels(&[])).unwrap();
    let outside = store.root().join("snapshots/1");
    assert!(store.discard_staging_directory(&outside).is_err());
    assert!(outside.is_dir());
}
