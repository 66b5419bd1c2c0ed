//! The cases of containerd's `MetaStoreSuite` (snapshots/storage), over every metadata store.

use super::super::catalog;
use super::super::error::{Result, StoreError};
use super::super::meta::{MetaStore, MetaWrite};
use super::super::snapshot::{Field, Kind, Labels, Usage};
use super::{every_meta, labels, temporary_directory};

/// What a case expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fine,
    NotFound,
    AlreadyExists,
    InvalidArgument,
    FailedPrecondition,
}

fn outcome<T>(result: &Result<T>) -> Outcome {
    match result {
        Ok(_) => Outcome::Fine,
        Err(StoreError::NotFound(_)) => Outcome::NotFound,
        Err(StoreError::AlreadyExists(_)) => Outcome::AlreadyExists,
        Err(StoreError::InvalidArgument(_)) => Outcome::InvalidArgument,
        Err(StoreError::FailedPrecondition(_)) => Outcome::FailedPrecondition,
        Err(other) => panic!("{other}"),
    }
}

/// Two committed snapshots in a chain, three active ones and two views.
const POPULATION: [(&str, &str, Kind); 7] = [
    ("committed-1", "", Kind::Committed),
    ("committed-2", "committed-1", Kind::Committed),
    ("active-1", "", Kind::Active),
    ("active-2", "committed-1", Kind::Active),
    ("active-3", "committed-2", Kind::Active),
    ("view-1", "", Kind::View),
    ("view-2", "committed-2", Kind::View),
];

fn populate(meta: &dyn MetaStore) {
    let mut transaction = meta.write().unwrap();
    let write = transaction.as_mut();
    for (name, parent, kind) in POPULATION {
        if kind == Kind::Committed {
            catalog::create(write, Kind::Active, "temporary", parent, Labels::new()).unwrap();
            let usage = Usage {
                bytes: 1,
                inodes: 1,
            };
            catalog::commit(write, "temporary", name, None, Labels::new(), usage).unwrap();
        } else {
            catalog::create(write, kind, name, parent, Labels::new()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

type Case = fn(&mut dyn MetaWrite) -> Outcome;

/// One row per failure variant of the suite; each runs in a transaction of its own that is dropped.
const CASES: [(&str, Outcome, Case); 24] = [
    ("GetInfo", Outcome::Fine, |meta| {
        outcome(&catalog::record(meta, "active-2"))
    }),
    ("GetInfoNotExist", Outcome::NotFound, |meta| {
        outcome(&catalog::record(meta, "active-not-exist"))
    }),
    ("GetSnapshot", Outcome::Fine, |meta| {
        outcome(&catalog::opened(meta, "view-2"))
    }),
    ("GetSnapshotNotExist", Outcome::NotFound, |meta| {
        outcome(&catalog::opened(meta, "active-not-exist"))
    }),
    (
        "GetSnapshotCommitted",
        Outcome::FailedPrecondition,
        |meta| outcome(&catalog::opened(meta, "committed-1")),
    ),
    ("CreateActive", Outcome::Fine, |meta| {
        create(meta, "new", "committed-2")
    }),
    ("CreateActiveNotExist", Outcome::NotFound, |meta| {
        create(meta, "new", "missing")
    }),
    ("CreateActiveExist", Outcome::AlreadyExists, |meta| {
        create(meta, "active-1", "")
    }),
    (
        "CreateActiveExistCommitted",
        Outcome::AlreadyExists,
        |meta| create(meta, "committed-1", ""),
    ),
    ("CreateActiveFromActive", Outcome::InvalidArgument, |meta| {
        create(meta, "new", "active-1")
    }),
    ("CreateActiveFromView", Outcome::InvalidArgument, |meta| {
        create(meta, "new", "view-1")
    }),
    ("Commit", Outcome::Fine, |meta| {
        commit(meta, "active-1", "committed-3", None)
    }),
    ("CommitNotExist", Outcome::NotFound, |meta| {
        commit(meta, "missing", "committed-3", None)
    }),
    ("CommitExist", Outcome::AlreadyExists, |meta| {
        commit(meta, "active-1", "committed-1", None)
    }),
    ("CommitCommitted", Outcome::FailedPrecondition, |meta| {
        commit(meta, "committed-1", "committed-3", None)
    }),
    ("CommitViewFails", Outcome::FailedPrecondition, |meta| {
        commit(meta, "view-1", "committed-3", None)
    }),
    ("CommitSameParent", Outcome::Fine, |meta| {
        commit(meta, "active-2", "committed-3", Some("committed-1"))
    }),
    ("RebaseOnto", Outcome::Fine, |meta| {
        commit(meta, "active-1", "committed-3", Some("committed-2"))
    }),
    ("RebaseOtherParent", Outcome::InvalidArgument, |meta| {
        commit(meta, "active-2", "committed-3", Some("committed-2"))
    }),
    ("RebaseNotExist", Outcome::NotFound, |meta| {
        commit(meta, "active-1", "committed-3", Some("missing"))
    }),
    ("RebaseNotCommitted", Outcome::FailedPrecondition, |meta| {
        commit(meta, "active-1", "committed-3", Some("active-2"))
    }),
    ("Remove", Outcome::Fine, |meta| {
        outcome(&catalog::remove(meta, "view-2"))
    }),
    ("RemoveNotExist", Outcome::NotFound, |meta| {
        outcome(&catalog::remove(meta, "missing"))
    }),
    ("RemoveWithChildren", Outcome::FailedPrecondition, |meta| {
        outcome(&catalog::remove(meta, "committed-1"))
    }),
];

fn create(meta: &mut dyn MetaWrite, key: &str, parent: &str) -> Outcome {
    outcome(&catalog::create(
        meta,
        Kind::Active,
        key,
        parent,
        Labels::new(),
    ))
}

fn commit(meta: &mut dyn MetaWrite, key: &str, name: &str, parent: Option<&str>) -> Outcome {
    outcome(&catalog::commit(
        meta,
        key,
        name,
        parent,
        Labels::new(),
        Usage::default(),
    ))
}

#[test]
fn each_case_of_the_suite_ends_as_in_containerd() {
    let root = temporary_directory();
    for (store, meta) in every_meta(&root) {
        populate(meta.as_ref());
        for (name, expected, case) in CASES {
            let mut transaction = meta.write().unwrap();
            assert_eq!(case(transaction.as_mut()), expected, "{name} over {store}");
        }
        let mut found = Vec::new();
        let view = meta.read().unwrap();
        view.visit(&mut |name, record| {
            found.push((name, record.parent, record.kind));
            Ok(())
        })
        .unwrap();
        let mut expected =
            POPULATION.map(|(name, parent, kind)| (name.to_owned(), parent.to_owned(), kind));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected, "dropped transactions changed {store}");
    }
}

#[test]
fn an_empty_store_knows_nothing() {
    let root = temporary_directory();
    for (store, meta) in every_meta(&root) {
        let view = meta.read().unwrap();
        assert_eq!(
            outcome(&catalog::record(view.as_ref(), "x")),
            Outcome::NotFound,
            "{store}"
        );
        assert_eq!(
            outcome(&catalog::opened(view.as_ref(), "x")),
            Outcome::NotFound,
            "{store}"
        );
        assert!(view.children(0).unwrap().is_empty(), "{store}");
    }
}

#[test]
fn ids_are_unique_survive_commit_and_form_the_chain() {
    let root = temporary_directory();
    for (store, meta) in every_meta(&root) {
        let mut transaction = meta.write().unwrap();
        let write = transaction.as_mut();
        let first = catalog::create(write, Kind::Active, "a", "", Labels::new()).unwrap();
        let second = catalog::create(write, Kind::View, "v", "", Labels::new()).unwrap();
        assert_ne!(first.id, second.id, "{store}");
        let committed =
            catalog::commit(write, "a", "c", None, Labels::new(), Usage::default()).unwrap();
        assert_eq!(committed, first.id, "{store}");
        let third = catalog::create(write, Kind::Active, "b", "c", Labels::new()).unwrap();
        assert_eq!(third.parent_ids, [first.id], "{store}");
        catalog::commit(write, "b", "d", None, Labels::new(), Usage::default()).unwrap();
        let fourth = catalog::create(write, Kind::View, "w", "d", Labels::new()).unwrap();
        assert_eq!(
            fourth.parent_ids,
            [third.id, first.id],
            "{store}: the nearest first"
        );
        assert_eq!(catalog::remove(write, "w").unwrap(), fourth.id, "{store}");
        let after = catalog::create(write, Kind::View, "w", "c", Labels::new()).unwrap();
        assert!(after.id > fourth.id, "{store}: an id is not used twice");
        assert_eq!(catalog::opened(write, "w").unwrap(), after, "{store}");
    }
}

#[test]
fn a_rebased_snapshot_becomes_a_child_of_its_parent() {
    let root = temporary_directory();
    for (store, meta) in every_meta(&root) {
        populate(meta.as_ref());
        let mut transaction = meta.write().unwrap();
        let write = transaction.as_mut();
        let id = catalog::commit(
            write,
            "active-1",
            "top",
            Some("committed-2"),
            Labels::new(),
            Usage::default(),
        )
        .unwrap();
        let chain = catalog::chain(write, "top").unwrap();
        let names: Vec<&str> = chain
            .iter()
            .map(|ancestor| ancestor.name.as_str())
            .collect();
        assert_eq!(names, ["top", "committed-2", "committed-1"], "{store}");
        assert_eq!(chain[0].id, id);
        for (key, expected) in [
            ("committed-2", Outcome::FailedPrecondition),
            ("top", Outcome::Fine),
        ] {
            assert_eq!(
                outcome(&catalog::remove(write, key)),
                expected,
                "{store}: {key}"
            );
        }
    }
}

#[test]
fn update_follows_the_mask() {
    let root = temporary_directory();
    let before = labels(&[("l1", "v1"), ("l2", "v2")]);
    let given = labels(&[("l1", "updated"), ("l3", "v3"), ("empty", "")]);
    let all_given: &[(&str, &str)] = &[("l1", "updated"), ("l3", "v3")];
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let table: [(&[&str], Pairs<'_>); 5] = [
        (&[], all_given),
        (&["labels"], all_given),
        (&["labels.l1"], &[("l1", "updated"), ("l2", "v2")]),
        (&["labels.l2"], &[("l1", "v1")]),
        (
            &["labels.l3", "labels.l1", "labels.empty"],
            &[("l1", "updated"), ("l2", "v2"), ("l3", "v3")],
        ),
    ];
    for (store, meta) in every_meta(&root) {
        for (paths, expected) in table {
            let mut transaction = meta.write().unwrap();
            let write = transaction.as_mut();
            catalog::create(write, Kind::Active, "a", "", before.clone()).unwrap();
            let created = catalog::record(write, "a").unwrap();
            let fields: Vec<Field> = paths.iter().map(|path| Field::from_path(path)).collect();
            let info = catalog::update(write, "a", &given, &fields).unwrap();
            assert_eq!(info.labels, labels(expected), "{store}: {paths:?}");
            assert_eq!(info.created_ns, created.created_ns);
            assert!(info.updated_ns >= created.updated_ns);
            assert_eq!(
                catalog::record(write, "a")
                    .unwrap()
                    .into_info("a".to_owned()),
                info
            );
        }
        let mut transaction = meta.write().unwrap();
        let write = transaction.as_mut();
        catalog::create(write, Kind::Active, "a", "", before.clone()).unwrap();
        let parent = [Field::from_path("parent")];
        assert_eq!(
            outcome(&catalog::update(write, "a", &given, &parent)),
            Outcome::InvalidArgument,
            "{store}"
        );
        assert_eq!(
            outcome(&catalog::update(write, "b", &given, &[])),
            Outcome::NotFound,
            "{store}"
        );
    }
}
