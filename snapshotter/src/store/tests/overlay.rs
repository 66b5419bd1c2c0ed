//! What containerd's `overlay_test.go` checks: the mounts, the directories and the sizes of an ordinary store.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::super::layout::Layout;
use super::super::mounts::MountRules;
use super::super::{Kind, Labels, Mount, Options, Store, StoreError};
use super::{commit_empty, labels, open, options, snapshot_directories, temporary_directory};

fn rules(configured: &[&str], remap_ids: bool, userxattr: bool, index_known: bool) -> MountRules {
    let configured: Vec<String> = configured
        .iter()
        .map(|option| (*option).to_owned())
        .collect();
    MountRules::new(&configured, remap_ids, userxattr, index_known)
}

fn opened(kind: Kind, parent_ids: &[u64], labels: Labels) -> super::super::catalog::Opened {
    super::super::catalog::Opened {
        id: 9,
        kind,
        parent_ids: parent_ids.to_vec(),
        labels,
    }
}

#[test]
fn mounts_are_containerd_s_option_for_option() {
    let root = temporary_directory();
    let layout = Layout::create(root.path()).unwrap();
    let at = |rest: &str| layout.snapshots().join(rest).to_string_lossy().into_owned();
    let overlay = |options: &[String]| ("overlay", "overlay".to_owned(), options.to_vec());
    let bind = |source: &str, options: &[&str]| {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        ("bind", at(source), options)
    };
    let text = |text: &str| text.to_owned();
    let (work, upper) = (
        format!("workdir={}", at("9/work")),
        format!("upperdir={}", at("9/fs")),
    );
    let (one, two) = (
        format!("lowerdir={}", at("3/fs")),
        format!("lowerdir={}:{}", at("3/fs"), at("1/fs")),
    );
    let plain = || rules(&[], false, false, true);
    let configured = || rules(&["volatile", "index=on"], false, false, true);
    let mapping = labels(&[
        ("containerd.io/snapshot/uidmapping", "0:1000:10"),
        ("containerd.io/snapshot/gidmapping", "0:2000:10"),
    ]);
    let none = Labels::new;

    let table = [
        (
            plain(),
            opened(Kind::Active, &[], none()),
            bind("9/fs", &["rw", "rbind"]),
        ),
        (
            plain(),
            opened(Kind::View, &[], none()),
            bind("9/fs", &["ro", "rbind"]),
        ),
        (
            plain(),
            opened(Kind::View, &[3], none()),
            bind("3/fs", &["ro", "rbind"]),
        ),
        (
            plain(),
            opened(Kind::View, &[3, 1], none()),
            overlay(&[two.clone(), text("index=off")]),
        ),
        (
            plain(),
            opened(Kind::Active, &[3], none()),
            overlay(&[work.clone(), upper.clone(), one.clone(), text("index=off")]),
        ),
        (
            rules(&[], false, false, false),
            opened(Kind::Active, &[3, 1], none()),
            overlay(&[work.clone(), upper.clone(), two.clone()]),
        ),
        (
            rules(&["volatile"], false, true, true),
            opened(Kind::Active, &[3], none()),
            overlay(&[
                work.clone(),
                upper.clone(),
                one.clone(),
                text("volatile"),
                text("userxattr"),
                text("index=off"),
            ]),
        ),
        // An index that was configured is not overridden (ConfiguredIndexNotOverridden), and binds take no configured options.
        (
            configured(),
            opened(Kind::Active, &[3], none()),
            overlay(&[
                work.clone(),
                upper.clone(),
                one.clone(),
                text("volatile"),
                text("index=on"),
            ]),
        ),
        (
            configured(),
            opened(Kind::Active, &[], none()),
            bind("9/fs", &["rw", "rbind"]),
        ),
        // Id mappings lead the options where they are honoured (RemappedBind, RemappedActive), and are ignored elsewhere.
        (
            rules(&[], true, false, false),
            opened(Kind::Active, &[], mapping.clone()),
            bind(
                "9/fs",
                &["uidmap=0:1000:10", "gidmap=0:2000:10", "rw", "rbind"],
            ),
        ),
        (
            rules(&[], true, false, false),
            opened(Kind::Active, &[3], mapping.clone()),
            overlay(&[
                text("uidmap=0:1000:10"),
                text("gidmap=0:2000:10"),
                work,
                upper,
                one,
            ]),
        ),
        (
            plain(),
            opened(Kind::Active, &[], mapping),
            bind("9/fs", &["rw", "rbind"]),
        ),
    ];
    for (rules, opened, (kind, source, options)) in table {
        let expected = vec![Mount {
            kind,
            source,
            options,
        }];
        assert_eq!(
            rules.mounts(&layout, &opened),
            expected,
            "{rules:?} {opened:?}"
        );
    }
}

#[test]
fn a_bottom_layer_can_be_had_as_an_overlay() {
    let root = temporary_directory();
    let store = open(&root);
    let mounts = store.prepare_with_upper("a", "", Labels::new()).unwrap();
    let options = &mounts[0].options;
    assert_eq!(mounts[0].kind, "overlay");
    assert_eq!(
        options[2],
        format!("lowerdir={}", store.root().join("empty").display())
    );
    assert!(options[1].ends_with("snapshots/1/fs"), "{options:?}");
    assert_eq!(
        store.mounts("a").unwrap()[0].kind,
        "bind",
        "asked again, it is the ordinary one"
    );
}

#[test]
fn directories_have_containerd_s_modes_and_owners() {
    let root = temporary_directory();
    let store = open(&root);
    store.prepare("a", "", Labels::new()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let snapshots = store.root().join("snapshots");
    let expected = [
        (store.root().to_path_buf(), 0o700),
        (snapshots.clone(), 0o700),
        (snapshots.join("1/fs"), 0o755),
        (snapshots.join("1/work"), 0o711),
    ];
    for (path, bits) in expected {
        assert_eq!(mode(&path), bits, "{}", path.display());
    }
    if rustix::process::geteuid().is_root() {
        chown(snapshots.join("1/fs"), Some(1234), Some(5678)).unwrap();
    }
    fs::set_permissions(snapshots.join("1/fs"), fs::Permissions::from_mode(0o700)).unwrap();
    store.commit("base", "a", Labels::new(), None).unwrap();
    store.view("v", "base", Labels::new()).unwrap();
    let (parent, child) = (
        fs::metadata(snapshots.join("1/fs")).unwrap(),
        fs::metadata(snapshots.join("2/fs")).unwrap(),
    );
    assert_eq!((child.uid(), child.gid()), (parent.uid(), parent.gid()));
    assert_eq!(
        mode(&snapshots.join("2/fs")),
        0o755,
        "the mode is not inherited"
    );
    assert!(
        !snapshots.join("2/work").exists(),
        "a view is not written to"
    );
}

#[test]
fn an_id_mapping_decides_the_owner_and_must_map_root() {
    let root = temporary_directory();
    let store = open(&root);
    let mapping = |uids: &str| {
        labels(&[
            ("containerd.io/snapshot/uidmapping", uids),
            ("containerd.io/snapshot/gidmapping", "1:1:10,0:70000:1"),
        ])
    };
    for wrong in ["", "0", "0:1", "0:1:x", "1:1:10", "0:1:0", "0:1:10,"] {
        let result = store.prepare("a", "", mapping(wrong));
        // An empty label is no label.
        let refused = matches!(result, Err(StoreError::InvalidArgument(_)));
        assert_eq!(refused, !wrong.is_empty(), "{wrong:?}: {result:?}");
    }
    store.remove("a").unwrap();
    if rustix::process::geteuid().is_root() {
        store.prepare("b", "", mapping("0:65536:100")).unwrap();
        let id = snapshot_directories(&store).pop().unwrap();
        let fs = fs::metadata(store.root().join("snapshots").join(id).join("fs")).unwrap();
        assert_eq!((fs.uid(), fs.gid()), (65536, 70000));
    }
}

#[test]
fn a_committed_snapshot_keeps_its_directory_and_takes_only_new_labels() {
    let root = temporary_directory();
    let store = open(&root);
    let mounts = store.prepare("a", "", labels(&[("old", "1")])).unwrap();
    fs::write(Path::new(&mounts[0].source).join("f"), vec![1; 5000]).unwrap();
    let measured = store.usage("a").unwrap();
    store
        .commit("base", "a", labels(&[("new", "2")]), None)
        .unwrap();

    let info = store.stat("base").unwrap();
    assert_eq!(
        (info.kind, info.labels),
        (Kind::Committed, labels(&[("new", "2")]))
    );
    assert_eq!(info.created_ns, info.updated_ns);
    assert!(matches!(store.stat("a"), Err(StoreError::NotFound(_))));
    assert_eq!(store.usage("base").unwrap(), measured);
    fs::write(Path::new(&mounts[0].source).join("g"), vec![1; 5000]).unwrap();
    assert_eq!(
        store.usage("base").unwrap(),
        measured,
        "as recorded at commit"
    );
    assert_eq!(
        store.lower_paths("base").unwrap(),
        [Path::new(&mounts[0].source)]
    );
    assert!(matches!(
        store.mounts("base"),
        Err(StoreError::FailedPrecondition(_))
    ));
}

#[test]
fn removal_frees_the_key_at_once_and_the_space_soon() {
    let root = temporary_directory();
    let store = open(&root);
    commit_empty(&store, "base", "");
    commit_empty(&store, "top", "base");
    let error = store.remove("base").unwrap_err();
    assert!(error.to_string().contains("remove"), "{error}");
    store.remove("top").unwrap();
    store.prepare("top", "base", Labels::new()).unwrap();
    assert_eq!(snapshot_directories(&store), ["1", "3"]);
    let trash = store.root().join("trash");
    store.remove("top").unwrap();
    // Closing waits for the deleter, which has finished or been told to stop; the next opening finishes.
    drop(store);
    let store = open(&root);
    store.cleanup();
    for _ in 0..1000 {
        if fs::read_dir(&trash).unwrap().next().is_none() {
            return;
        }
        std::thread::yield_now();
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    panic!("the trash was not emptied");
}

#[test]
fn two_stores_cannot_share_a_root() {
    let root = temporary_directory();
    let store = open(&root);
    let second = Store::open(root.path(), &options())
        .unwrap_err()
        .to_string();
    assert!(second.contains("metadata.redb"), "{second}");
    drop(store);
    Store::open(root.path(), &Options::default()).unwrap();
}

#[test]
fn a_read_does_not_wait_for_an_open_write() {
    let root = temporary_directory();
    let store = open(&root);
    commit_empty(&store, "base", "");
    let transaction = store.inner.meta.write().unwrap();
    assert_eq!(store.stat("base").unwrap().kind, Kind::Committed);
    let mut names = Vec::new();
    store
        .walk(|info| {
            names.push(info.name.clone());
            // As in the suite's StatInWalk.
            assert_eq!(store.stat(&info.name)?, info);
            Ok(())
        })
        .unwrap();
    assert_eq!(names, ["base"]);
    drop(transaction);
}

#[test]
fn a_root_that_mount_options_cannot_carry_is_refused() {
    let root = temporary_directory();
    for name in ["a:b", "a,b", "a\\b"] {
        let error = Store::open(root.path().join(name), &options()).unwrap_err();
        assert!(
            matches!(error, StoreError::InvalidArgument(_)),
            "{name}: {error}"
        );
    }
}

#[test]
fn many_threads_leave_one_consistent_store() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 12;
    let root = temporary_directory();
    let store = open(&root);
    commit_empty(&store, "base", "");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let name = format!("{thread}-{round}");
                    commit_empty(&store, &name, "base");
                    store
                        .view(&format!("{name}-view"), &name, Labels::new())
                        .unwrap();
                    assert!(store.remove(&name).is_err(), "it has a child");
                    store.remove(&format!("{name}-view")).unwrap();
                    if round % 2 == 0 {
                        store.remove(&name).unwrap();
                    }
                    // All contend for one key; exactly one creation in a row can succeed.
                    if store.prepare("contended", "base", Labels::new()).is_ok() {
                        store.remove("contended").unwrap();
                    }
                }
            });
        }
    });
    let mut count = 0;
    store
        .walk(|_| {
            count += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(count, 1 + THREADS * ROUNDS / 2);
    assert_eq!(snapshot_directories(&store).len(), count);
    drop(store);
    assert_eq!(*open(&root).recovery(), super::super::Recovery::default());
}
