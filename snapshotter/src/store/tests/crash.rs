//! What is left when the process dies at each step, and that the next opening puts it in order.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::super::memory::{CRASH_AFTER, CRASH_BEFORE, FAIL, MemoryMeta};
use super::super::staged::{CommitStaged, CommittedStaged};
use super::super::{Format, Labels, Result, Store, Usage};
use super::{commit_empty, open, open_over, snapshot_directories, temporary_directory};
use crate::digest::Digest;

fn staged(store: &Store, parent: Option<&str>) -> CommitStaged {
    let staging = store.staging_directory("job", "layer").unwrap();
    fs::create_dir(staging.fs()).unwrap();
    fs::write(staging.fs().join("file"), b"content").unwrap();
    CommitStaged {
        snapshot_ref: Digest::of(b"chain"),
        parent: parent.map(str::to_owned),
        namespace: "k8s.io".to_owned(),
        labels: Labels::new(),
        fs: staging.fs(),
        usage: Usage {
            bytes: 7,
            inodes: 2,
        },
        format: Format::Overlay,
    }
}

type Operation = fn(&Store) -> Result<()>;

/// Every operation that changes metadata, on a store that has `base`, `top` over it and active `a`.
const OPERATIONS: [(&str, Operation); 6] = [
    ("prepare", |store| {
        store.prepare("new", "base", Labels::new()).map(drop)
    }),
    ("view", |store| {
        store.view("new", "top", Labels::new()).map(drop)
    }),
    ("commit", |store| {
        store.commit("new", "a", Labels::new(), None)
    }),
    ("remove", |store| store.remove("top")),
    ("update", |store| {
        store.update("top", &Labels::new(), &[]).map(drop)
    }),
    ("commit_staged", |store| {
        store.commit_staged(staged(store, Some("base"))).map(drop)
    }),
];

fn populated(root: &TempDir, meta: &MemoryMeta) -> Store {
    let store = open_over(root, meta);
    commit_empty(&store, "base", "");
    commit_empty(&store, "top", "base");
    store.prepare("a", "base", Labels::new()).unwrap();
    // Draws ids in advance, so that the next commit of a staged tree is the one that inserts it.
    store
        .commit_staged(CommitStaged {
            snapshot_ref: Digest::of(b"earlier"),
            ..staged(&store, None)
        })
        .unwrap();
    store.discard_job("job").unwrap();
    store
}

fn names(store: &Store) -> Vec<String> {
    let mut names = Vec::new();
    store
        .walk(|info| {
            names.push(info.name);
            Ok(())
        })
        .unwrap();
    names
}

/// Every record has its tree, every directory its record, and nothing is staged.
fn assert_consistent(store: &Store, context: &str) {
    let mut ids = Vec::new();
    let view = store.inner.meta.read().unwrap();
    view.visit(&mut |name, record| {
        assert!(
            store.inner.layout.upper(record.id).is_dir(),
            "{context}: {name} has lost its tree"
        );
        ids.push(record.id.to_string());
        Ok(())
    })
    .unwrap();
    ids.sort_unstable();
    assert_eq!(snapshot_directories(store), ids, "{context}");
    let staged = fs::read_dir(store.root().join("staging")).unwrap().count();
    assert_eq!(staged, 0, "{context}");
}

#[test]
fn a_crash_at_a_commit_leaves_all_or_nothing() {
    for (operation, run) in OPERATIONS {
        for crash in [CRASH_BEFORE, CRASH_AFTER] {
            let context = format!("{operation} {crash}");
            let (root, meta) = (temporary_directory(), MemoryMeta::default());
            let store = populated(&root, &meta);
            let before = names(&store);
            meta.next_commit.store(crash, Ordering::SeqCst);
            let crashed = catch_unwind(AssertUnwindSafe(|| run(&store))).is_err();
            assert!(crashed, "{context}");
            drop(store);

            let store = open_over(&root, &meta);
            assert_eq!(store.recovery().dropped, [""; 0], "{context}");
            assert_consistent(&store, &context);
            if crash == CRASH_BEFORE {
                assert_eq!(names(&store), before, "{context}");
            }
            // Again: done, or refused because it had been done.
            let _ = run(&store);
            drop(store);
            let store = open_over(&root, &meta);
            assert_consistent(&store, &context);
        }
    }
}

#[test]
fn a_failed_commit_changes_nothing_and_can_be_tried_again() {
    for (operation, run) in OPERATIONS {
        let (root, meta) = (temporary_directory(), MemoryMeta::default());
        let store = populated(&root, &meta);
        let before = names(&store);
        meta.next_commit.store(FAIL, Ordering::SeqCst);
        run(&store).unwrap_err();
        assert_eq!(names(&store), before, "{operation}");
        run(&store).unwrap();
        let changed = names(&store) != before;
        assert_eq!(changed, operation != "update", "{operation}");
        drop(store);
        let store = open_over(&root, &meta);
        assert_eq!(store.recovery().dropped, [""; 0], "{operation}");
        assert_consistent(&store, operation);
    }
}

#[test]
fn a_failed_commit_gives_the_staged_tree_back() {
    let (root, meta) = (temporary_directory(), MemoryMeta::default());
    let store = populated(&root, &meta);
    let request = staged(&store, Some("base"));
    meta.next_commit.store(FAIL, Ordering::SeqCst);
    store.commit_staged(request.clone()).unwrap_err();
    assert_eq!(fs::read(request.fs.join("file")).unwrap(), b"content");
    let linked = store.commit_staged(request).unwrap();
    assert!(
        matches!(linked, CommittedStaged::Linked { .. }),
        "{linked:?}"
    );
}

#[test]
fn opening_clears_what_has_no_record_and_drops_what_has_no_tree() {
    let root = temporary_directory();
    let store = open(&root);
    commit_empty(&store, "base", "");
    commit_empty(&store, "middle", "base");
    commit_empty(&store, "top", "middle");
    commit_empty(&store, "other", "base");
    store.prepare("active", "top", Labels::new()).unwrap();
    store.staging_directory("job", "layer").unwrap();
    let snapshots = store.root().join("snapshots");
    let middle = store.lower_paths("middle").unwrap().swap_remove(0);
    drop(store);
    for stray in ["new-17", "99", "strange"] {
        fs::create_dir_all(snapshots.join(stray).join("fs")).unwrap();
    }
    fs::remove_dir(middle).unwrap();

    let store = open(&root);
    assert_eq!(store.recovery().dropped, ["active", "middle", "top"]);
    assert_eq!(names(&store), ["base", "other"]);
    // Three strays, the directories of the three dropped snapshots, one staged job.
    assert_eq!(store.recovery().discarded, 7);
    assert_consistent(&store, "after recovery");
    let again = {
        drop(store);
        open(&root)
    };
    assert_eq!(*again.recovery(), super::super::Recovery::default());
}
