//! Finished trees as committed snapshots, and the hidden place where they are built.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::super::staged::{CommitStaged, CommittedStaged};
use super::super::{Format, Info, Kind, REFERENCE_LABEL, StagedLayer, Store, StoreError, Usage};
use super::{commit_empty, labels, open, temporary_directory};
use crate::digest::Digest;

fn tree(store: &Store, layer: &str) -> PathBuf {
    let staging = store.staging_directory("job", layer).unwrap();
    fs::create_dir(staging.fs()).unwrap();
    fs::write(staging.fs().join(layer), b"content").unwrap();
    staging.fs()
}

fn request(fs: &Path, chain: &Digest, parent: Option<&str>) -> CommitStaged {
    CommitStaged {
        snapshot_ref: *chain,
        parent: parent.map(str::to_owned),
        namespace: "k8s.io".to_owned(),
        labels: labels(&[("containerd.io/snapshot/cri.image-ref", "a:1")]),
        fs: fs.to_path_buf(),
        usage: Usage {
            bytes: 4096,
            inodes: 2,
        },
        format: Format::Overlay,
    }
}

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
fn a_kept_tree_survives_a_restart_until_it_is_used_or_discarded() {
    let root = temporary_directory();
    let store = open(&root);
    let kept = |layer: &str| StagedLayer {
        job: "job".to_owned(),
        layer: layer.to_owned(),
        diff_id: Digest::of(layer.as_bytes()),
        bottom: true,
        format: Format::Overlay,
        usage: Usage {
            bytes: 4096,
            inodes: 2,
        },
    };
    for layer in ["one", "two", "three", "four", "unfinished"] {
        tree(&store, layer);
    }
    assert!(matches!(
        store.keep_staged(&kept("five")),
        Err(StoreError::NotFound(_))
    ));
    for layer in ["one", "two", "three", "four"] {
        store.keep_staged(&kept(layer)).unwrap();
    }
    let lost = store.existing_staging_directory("job", "four").unwrap();
    drop(store);
    fs::remove_dir_all(lost.path()).unwrap();

    let store = open(&root);
    assert_eq!(
        store.kept_staged().unwrap(),
        [kept("one"), kept("three"), kept("two")]
    );
    assert!(
        store
            .existing_staging_directory("job", "unfinished")
            .is_err()
    );
    let one = store.existing_staging_directory("job", "one").unwrap();
    assert!(one.fs().join("one").is_file());
    store
        .commit_staged(request(&one.fs(), &Digest::of(b"chain"), None))
        .unwrap();
    assert_eq!(store.kept_staged().unwrap(), [kept("three"), kept("two")]);
    store.discard_staged("job", "two").unwrap();
    assert_eq!(store.kept_staged().unwrap(), [kept("three")]);
    store.discard_job("job").unwrap();
    assert_eq!(store.kept_staged().unwrap(), []);
    drop(store);
    assert_eq!(*open(&root).recovery(), super::super::Recovery::default());
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
