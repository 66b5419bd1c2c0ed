//! Finished trees as committed snapshots, and the hidden place where they are built.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use super::super::staged::{CommitStaged, CommittedStaged};
use super::super::{Info, Kind, REFERENCE_LABEL, Store, StoreError, Usage};
use super::commit_request as request;
use super::staged_tree as tree;
use super::{commit_empty, labels, link, open, temporary_directory};
use crate::digest::Digest;

fn all(store: &Store) -> Vec<Info> {
    let mut infos = Vec::new();
    store
        .walk(|info| {
            infos.push(info);
            Ok(())
        })
        .unwrap();
    infos
}

#[test]
fn a_chain_of_staged_trees_is_found_as_containerd_looks_for_it() {
    let root = temporary_directory();
    let store = open(&root);
    let (bottom, top) = (Digest::of(b"bottom"), Digest::of(b"top"));
    let trees = [tree(&store, "one"), tree(&store, "two")];
    if rustix::process::geteuid().is_root() {
        chown(&trees[1], Some(7), Some(7)).unwrap();
    }
    fs::set_permissions(&trees[1], fs::Permissions::from_mode(0o700)).unwrap();

    let CommittedStaged::Linked { name: first } = store
        .commit_staged(request(&trees[0], &bottom, None))
        .unwrap()
    else {
        panic!("not linked");
    };
    let CommittedStaged::Linked { name: second } = store
        .commit_staged(request(&trees[1], &top, Some(&first)))
        .unwrap()
    else {
        panic!("not linked");
    };

    for (chain, parent, name) in [
        (&bottom, None, &first),
        (&top, Some(first.as_str()), &second),
    ] {
        let info = store.find_committed(chain, parent).unwrap().unwrap();
        assert_eq!((&info.name, info.kind), (name, Kind::Committed));
        assert_eq!(info.labels[REFERENCE_LABEL], chain.to_string());
        assert_eq!(info.labels["containerd.io/snapshot/cri.image-ref"], "a:1");
        assert_eq!(store.stat(name).unwrap(), info);
        assert_eq!(
            store.usage(name).unwrap(),
            Usage {
                bytes: 4096,
                inodes: 2
            }
        );
        assert!(
            name.starts_with("k8s.io/") && name.ends_with(&chain.to_string()),
            "{name}"
        );
    }
    assert_eq!(
        store.find_committed(&top, None).unwrap(),
        None,
        "another parent is another snapshot"
    );
    assert_eq!(store.find_committed(&top, Some("missing")).unwrap(), None);

    let lowers = store.lower_paths(&second).unwrap();
    assert!(
        lowers[0].join("two").is_file() && lowers[1].join("one").is_file(),
        "{lowers:?}"
    );
    let metadata = fs::metadata(&lowers[0]).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
    assert_eq!(
        metadata.uid(),
        fs::metadata(&lowers[1]).unwrap().uid(),
        "the root takes its parent's owner"
    );
    assert!(!trees[0].exists() && !trees[1].exists());

    store
        .prepare("k8s.io/3/container", &second, labels(&[]))
        .unwrap();
    assert!(matches!(
        store.remove(&second),
        Err(StoreError::FailedPrecondition(_))
    ));
}

#[test]
fn a_second_tree_of_the_same_layer_stays_where_it_is() {
    let root = temporary_directory();
    let store = open(&root);
    let chain = Digest::of(b"chain");
    let (first, second) = (tree(&store, "one"), tree(&store, "two"));
    let CommittedStaged::Linked { name } =
        store.commit_staged(request(&first, &chain, None)).unwrap()
    else {
        panic!("not linked");
    };
    let again = store.commit_staged(request(&second, &chain, None)).unwrap();
    assert_eq!(again, CommittedStaged::Existed { name: name.clone() });
    assert!(second.join("two").is_file());
    // Also for another namespace: containerd lets it refer to the same backend snapshot.
    let other = CommitStaged {
        namespace: "moby".to_owned(),
        ..request(&second, &chain, None)
    };
    assert_eq!(
        store.commit_staged(other).unwrap(),
        CommittedStaged::Existed { name }
    );
    assert_eq!(all(&store).len(), 1);
}

#[test]
fn the_same_chain_over_another_parent_is_another_snapshot() {
    let root = temporary_directory();
    let store = open(&root);
    commit_empty(&store, "base", "");
    let chain = Digest::of(b"chain");
    let trees = [tree(&store, "one"), tree(&store, "two")];
    let linked = [
        store
            .commit_staged(request(&trees[0], &chain, None))
            .unwrap(),
        store
            .commit_staged(request(&trees[1], &chain, Some("base")))
            .unwrap(),
    ];
    assert!(
        linked
            .iter()
            .all(|linked| matches!(linked, CommittedStaged::Linked { .. })),
        "{linked:?}"
    );
    assert_ne!(linked[0], linked[1]);
}

#[test]
fn a_parent_that_cannot_be_one_leaves_the_tree_untouched() {
    let root = temporary_directory();
    let store = open(&root);
    store.prepare("active", "", labels(&[])).unwrap();
    let tree = tree(&store, "one");
    let chain = Digest::of(b"chain");
    let missing = store.commit_staged(request(&tree, &chain, Some("missing")));
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    let active = store.commit_staged(request(&tree, &chain, Some("active")));
    assert!(
        matches!(active, Err(StoreError::InvalidArgument(_))),
        "{active:?}"
    );
    assert!(tree.join("one").is_file());
    let gone = store.commit_staged(request(&tree.join("nothing"), &chain, None));
    assert!(matches!(gone, Err(StoreError::StagedGone(_))), "{gone:?}");
    assert_eq!(all(&store).len(), 1);
    assert_eq!(
        super::snapshot_directories(&store),
        ["1"],
        "nothing half-made is left"
    );
}

#[test]
fn staged_trees_are_hidden_and_survive_cleanup() {
    let root = temporary_directory();
    let store = open(&root);
    let tree = tree(&store, "one");
    store.cleanup();
    assert_eq!(all(&store), []);
    assert!(tree.join("one").is_file());
    let renewed = store.staging_directory("job", "one").unwrap();
    assert_eq!(
        fs::read_dir(renewed.path()).unwrap().count(),
        0,
        "a new attempt begins empty"
    );
    store.discard_staged("job", "one").unwrap();
    store.discard_staged("job", "one").unwrap();
    assert!(!tree.exists());
    store.staging_directory("job", "two").unwrap();
    store.discard_job("job").unwrap();
    assert!(!store.root().join("staging/job").exists());
}

#[test]
fn staging_names_cannot_lead_elsewhere() {
    let root = temporary_directory();
    let store = open(&root);
    for name in ["", ".", "..", "a/b", "/etc", "a\0b"] {
        assert!(store.staging_directory(name, "layer").is_err(), "{name:?}");
        assert!(store.staging_directory("job", name).is_err(), "{name:?}");
        assert!(store.discard_job(name).is_err(), "{name:?}");
    }
}

#[test]
fn mounts_end_at_a_tree_that_hides_what_is_below() {
    let root = temporary_directory();
    let store = open(&root);
    let bottom = link(&store, "bottom", None);
    let fs = tree(&store, "hiding");
    let opaque = CommitStaged {
        opaque_root: true,
        ..request(&fs, &Digest::of(b"hiding"), Some(&bottom))
    };
    let CommittedStaged::Linked { name: hiding } = store.commit_staged(opaque).unwrap() else {
        panic!("not linked");
    };
    let above = link(&store, "above", Some(&hiding));
    let top = link(&store, "top", Some(&above));
    drop(store);

    let store = open(&root);
    let at = |id: u32| store.root().join(format!("snapshots/{id}/fs"));
    let lowers = store.lower_paths(&top).unwrap();
    assert_eq!(lowers, [at(4), at(3), at(2)]);
    assert_eq!(store.lower_paths(&hiding).unwrap(), [at(2)]);
    let below = |parent: &str, key: &str| {
        let mounts = [
            store.prepare(key, parent, labels(&[])).unwrap(),
            store.mounts(key).unwrap(),
        ];
        assert_eq!(mounts[0], mounts[1]);
        let lower = mounts[0][0].options.iter();
        lower
            .filter_map(|option| option.strip_prefix("lowerdir="))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (three, one) = (
        format!(
            "{}:{}:{}",
            at(4).display(),
            at(3).display(),
            at(2).display()
        ),
        at(2).display().to_string(),
    );
    assert_eq!(below(&top, "a"), [three]);
    assert_eq!(below(&hiding, "b"), [one]);
    let view = store.view("v", &hiding, labels(&[])).unwrap();
    assert_eq!(
        (view[0].kind, view[0].source.as_str()),
        ("bind", at(2).to_str().unwrap())
    );
    // What is hidden is still a parent.
    assert_eq!(store.stat(&hiding).unwrap().parent, bottom);
    assert!(store.remove(&bottom).is_err());
}

#[test]
fn a_label_that_was_taken_away_is_given_back() {
    let root = temporary_directory();
    let store = open(&root);
    let chain = Digest::of(b"chain");
    let trees = [tree(&store, "one"), tree(&store, "two")];
    let CommittedStaged::Linked { name } = store
        .commit_staged(request(&trees[0], &chain, None))
        .unwrap()
    else {
        panic!("not linked");
    };
    store
        .update(&name, &labels(&[("other", "x")]), &[])
        .unwrap();
    assert_eq!(store.find_committed(&chain, None).unwrap(), None);
    let again = store
        .commit_staged(request(&trees[1], &chain, None))
        .unwrap();
    assert_eq!(again, CommittedStaged::Existed { name: name.clone() });
    assert!(trees[1].join("two").is_file(), "the tree was given back");
    let info = store.find_committed(&chain, None).unwrap().unwrap();
    assert_eq!((&info.name, info.labels["other"].as_str()), (&name, "x"));
    assert_eq!(super::snapshot_directories(&store), ["1"]);
}

#[test]
fn of_many_that_bring_one_layer_one_is_taken() {
    let root = temporary_directory();
    let store = open(&root);
    let chain = Digest::of(b"chain");
    let trees: Vec<PathBuf> = (0..8)
        .map(|number| tree(&store, &number.to_string()))
        .collect();
    let results: Vec<CommittedStaged> = std::thread::scope(|scope| {
        let threads: Vec<_> = trees
            .iter()
            .map(|tree| scope.spawn(|| store.commit_staged(request(tree, &chain, None)).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let linked = results
        .iter()
        .filter(|result| matches!(result, CommittedStaged::Linked { .. }));
    assert_eq!(linked.count(), 1, "{results:?}");
    assert_eq!(
        trees.iter().filter(|tree| tree.is_dir()).count(),
        7,
        "the others have their trees"
    );
    assert_eq!(super::snapshot_directories(&store).len(), 1);
    assert_eq!(all(&store).len(), 1);
}
