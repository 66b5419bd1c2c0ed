//! What is left when the process dies at each step, and that the next opening puts it in order.
//!
//! Every effect on the disk says that it is done (`steps`), and every operation is ended after each of its effects in turn. A panic stands for
//! the end of the process: no error path runs, and of the destructors only those that close files and forget transactions.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::super::memory::MemoryMeta;
use super::super::staged::CommittedStaged;
use super::super::steps::crash_after;
use super::super::{KeptLayer, Labels, Recovery, Result, Store, StoreError};
use super::{
    commit_empty, commit_request, names, open, open_over, snapshot_directories, staged_tree,
    temporary_directory,
};
use crate::digest::Digest;
use crate::unpack::{Format, Staged, Time};

type Operation = fn(&Store) -> Result<()>;

/// Every operation that changes the disk, on a store that has `base`, `top` over it, active `a` and the staged tree `ready`.
const OPERATIONS: [(&str, Operation); 13] = [
    ("prepare", |store| {
        store.prepare("new", "base", Labels::new()).map(drop)
    }),
    ("prepare without parent", |store| {
        store.prepare("new", "", Labels::new()).map(drop)
    }),
    ("prepare with upper", |store| {
        store.prepare_with_upper("new", "", Labels::new()).map(drop)
    }),
    ("prepare over nothing", |store| {
        match store.prepare("new", "missing", Labels::new()) {
            Err(StoreError::NotFound(_)) => Ok(()),
            other => other.map(drop),
        }
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
    ("commit staged", |store| {
        store
            .commit_staged(commit_request(
                &ready(store),
                &Digest::of(b"chain"),
                Some("base"),
            ))
            .map(drop)
    }),
    ("stage", |store| {
        store.staging_directory("job", "ready").map(drop)
    }),
    ("keep staged", |store| {
        store.keep_staged(&kept(&ready(store)))
    }),
    ("release staged", |store| {
        store.keep_staged(&kept(&ready(store)))?;
        store.release_staged(&ready(store))
    }),
    ("discard job", |store| store.discard_job("job")),
];

fn ready(store: &Store) -> std::path::PathBuf {
    store.root().join("staging/job/ready/fs")
}

fn kept(tree: &std::path::Path) -> KeptLayer {
    KeptLayer {
        diff_id: Digest::of(b"ready"),
        bottom: false,
        staged: Staged {
            root: tree.to_path_buf(),
            usage: crate::unpack::Usage::default(),
            entries: 1,
            data_bytes: 7,
            implied: Vec::new(),
            format: Format::Overlay,
            opaque_root: false,
            newest: Time::default(),
        },
    }
}

/// The metadata store that is tested, which outlives the process.
enum Backing {
    Memory(MemoryMeta),
    Database,
}

impl Backing {
    const EVERY: [fn() -> Self; 2] = [|| Self::Memory(MemoryMeta::default()), || Self::Database];

    fn open(&self, root: &TempDir) -> Store {
        match self {
            Self::Memory(meta) => open_over(root, meta),
            Self::Database => open(root),
        }
    }

    fn populated(&self, root: &TempDir) -> Store {
        let store = self.open(root);
        commit_empty(&store, "base", "");
        commit_empty(&store, "top", "base");
        store.prepare("a", "base", Labels::new()).unwrap();
        staged_tree(&store, "ready");
        store
    }
}

/// Every record has its tree, every directory its record, and what is staged is a whole tree with its note.
fn assert_consistent(store: &Store, context: &str) {
    let mut ids = Vec::new();
    let view = store.inner.meta.read().unwrap();
    view.visit(&mut |name, record| {
        assert!(
            store.inner.layout.upper(record.id).is_dir(),
            "{context}: {name} has lost its tree"
        );
        if name.starts_with("k8s.io/parapull") {
            let file = store.inner.layout.upper(record.id).join("ready");
            assert_eq!(fs::read(file).unwrap(), b"content", "{context}");
        }
        ids.push(record.id.to_string());
        Ok(())
    })
    .unwrap();
    ids.sort_unstable();
    assert_eq!(snapshot_directories(store), ids, "{context}");
    let kept = store.kept_staged().unwrap();
    let jobs = fs::read_dir(store.root().join("staging")).unwrap().count();
    assert_eq!(jobs, kept.len(), "{context}");
    for layer in kept {
        assert_eq!(
            fs::read(layer.staged.root.join("ready")).unwrap(),
            b"content"
        );
    }
}

/// Runs an operation to its end after this many effects; whether it crashed.
fn run_and_crash(operation: Operation, store: &Store, effects: u32) -> bool {
    crash_after(Some(effects));
    let ended = catch_unwind(AssertUnwindSafe(|| operation(store)));
    crash_after(None);
    match ended {
        Ok(result) => {
            result.unwrap();
            false
        }
        Err(_) => true,
    }
}

#[test]
fn an_operation_that_ends_after_any_of_its_effects_leaves_all_or_nothing() {
    let mut crashes = 0;
    for backing in Backing::EVERY {
        for (operation, run) in OPERATIONS {
            let root = temporary_directory();
            let store = backing().populated(&root);
            let before = names(&store);
            run(&store).unwrap();
            let outcomes = [before, names(&store)];
            let mut effects = 0;
            while crashes_after(effects, &backing(), operation, run, &outcomes) {
                effects += 1;
            }
            assert!(effects > 0, "{operation} has no effects");
            crashes += effects;
        }
    }
    assert!(crashes > 100, "{crashes} crashes are too few to be a test");
}

/// Ends an operation after so many effects, and checks what the next opening makes of it; false when it has no more effects.
fn crashes_after(
    effects: u32,
    backing: &Backing,
    operation: &str,
    run: Operation,
    outcomes: &[Vec<String>; 2],
) -> bool {
    let context = format!("{operation} after {effects}");
    let root = temporary_directory();
    let store = backing.populated(&root);
    let crashed = run_and_crash(run, &store, effects);
    drop(store);

    let store = backing.open(&root);
    assert_eq!(store.recovery().dropped, [], "{context}");
    assert_consistent(&store, &context);
    let found = names(&store);
    assert!(outcomes.contains(&found), "{context}: {found:?}");
    // Again: done, or refused because it had been done, or because what was staged is gone.
    let _ = run(&store);
    drop(store);
    assert_consistent(&backing.open(&root), &context);
    crashed
}

#[test]
fn a_failed_commit_changes_nothing_and_can_be_tried_again() {
    for (operation, run) in OPERATIONS {
        let (root, meta) = (temporary_directory(), MemoryMeta::default());
        let store = Backing::Memory(meta.clone()).populated(&root);
        let before = names(&store);
        meta.fail_next_commit.store(true, Ordering::SeqCst);
        let failed = run(&store).is_err();
        let committed = !meta.fail_next_commit.swap(false, Ordering::SeqCst);
        assert_eq!(failed, committed, "{operation}");
        if failed {
            assert_eq!(names(&store), before, "{operation}");
            run(&store).unwrap();
        }
        drop(store);
        let store = open_over(&root, &meta);
        assert_eq!(store.recovery().dropped, [], "{operation}");
        assert_consistent(&store, operation);
    }
}

#[test]
fn a_failed_commit_gives_the_staged_tree_back() {
    let (root, meta) = (temporary_directory(), MemoryMeta::default());
    let store = Backing::Memory(meta.clone()).populated(&root);
    let request = commit_request(&ready(&store), &Digest::of(b"chain"), Some("base"));
    // Draws ids, so that the commit that fails is the one that inserts.
    let earlier = commit_request(
        &staged_tree(&store, "earlier"),
        &Digest::of(b"earlier"),
        None,
    );
    store.commit_staged(earlier).unwrap();
    meta.fail_next_commit.store(true, Ordering::SeqCst);
    store.commit_staged(request.clone()).unwrap_err();
    assert_eq!(fs::read(request.fs.join("ready")).unwrap(), b"content");
    let linked = store.commit_staged(request).unwrap();
    assert!(
        matches!(linked, CommittedStaged::Linked { .. }),
        "{linked:?}"
    );
}

/// A store with everything recovery puts in order, and how many effects that takes.
fn disordered(root: &TempDir) {
    let store = open(root);
    commit_empty(&store, "base", "");
    commit_empty(&store, "middle", "base");
    commit_empty(&store, "top", "middle");
    commit_empty(&store, "other", "base");
    store.prepare("active", "top", Labels::new()).unwrap();
    staged_tree(&store, "unfinished");
    let snapshots = store.root().join("snapshots");
    let middle = store.lower_paths("middle").unwrap().swap_remove(0);
    drop(store);
    for stray in ["new-17", "99", "strange"] {
        fs::create_dir_all(snapshots.join(stray).join("fs")).unwrap();
    }
    fs::remove_dir(middle).unwrap();
}

fn dropped_names(store: &Store) -> Vec<&str> {
    let dropped = store.recovery().dropped.iter();
    dropped.map(|dropped| dropped.name.as_str()).collect()
}

#[test]
fn opening_clears_what_has_no_record_and_drops_what_has_no_tree() {
    let root = temporary_directory();
    disordered(&root);
    let store = open(&root);
    assert_eq!(dropped_names(&store), ["active", "top", "middle"]);
    assert_eq!(names(&store), ["base", "other"]);
    // Three strays, the directories of the three dropped snapshots, one staged job.
    assert_eq!(store.recovery().discarded, 7);
    assert_consistent(&store, "after recovery");
    drop(store);
    assert_eq!(*open(&root).recovery(), Recovery::default());
}

#[test]
fn an_opening_that_ends_after_any_of_its_effects_is_taken_up_by_the_next() {
    for effects in 0.. {
        let root = temporary_directory();
        disordered(&root);
        crash_after(Some(effects));
        let opened = catch_unwind(AssertUnwindSafe(|| open(&root)));
        crash_after(None);
        let crashed = opened.is_err();
        drop(opened);
        let store = open(&root);
        assert_eq!(names(&store), ["base", "other"], "after {effects}");
        assert_consistent(&store, &format!("after {effects}"));
        if !crashed {
            assert!(effects > 5, "{effects} effects are too few to be a test");
            return;
        }
    }
}
