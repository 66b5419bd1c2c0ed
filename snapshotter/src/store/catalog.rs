//! The rules of snapshots as operations on one metadata transaction: what containerd's `snapshots/storage` package defines.
//!
//! No file is touched here. Checks come in containerd's order, because which of two errors a caller sees is part of its contract.

use std::ops::Range;

use super::error::{Result, StoreError};
use super::meta::{MetaRead, MetaWrite, NO_PARENT, Record};
use super::snapshot::{Field, Format, Info, Kind, Labels, Usage, now_ns};

/// An active snapshot or view with everything its mounts need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) id: u64,
    pub(super) kind: Kind,
    /// The ids of the parents that show through, the nearest first: all of them down to the first that hides those below it.
    pub(super) parent_ids: Vec<u64>,
    pub(super) labels: Labels,
}

/// A committed snapshot to be inserted as a whole.
#[derive(Debug)]
pub(super) struct Insertion<'a> {
    pub(super) id: u64,
    /// The chain id, which becomes the label [`REFERENCE_LABEL`].
    pub(super) reference: &'a str,
    pub(super) name: &'a str,
    pub(super) parent: &'a str,
    pub(super) labels: Labels,
    pub(super) usage: Usage,
    pub(super) format: Format,
    pub(super) opaque_root: bool,
    pub(super) unsynced: bool,
}

/// A committed snapshot in a chain of parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ancestor {
    pub(super) id: u64,
    pub(super) name: String,
    /// It hides those below it.
    pub(super) opaque_root: bool,
}

/// The ids of a chain, the nearest first, as far as they show through.
pub(super) fn visible(chain: &[Ancestor]) -> Vec<u64> {
    let hiding = chain.iter().position(|ancestor| ancestor.opaque_root);
    let count = hiding.map_or(chain.len(), |index| index + 1);
    chain[..count].iter().map(|ancestor| ancestor.id).collect()
}

/// The record of `name`.
pub(super) fn record(meta: &(impl MetaRead + ?Sized), name: &str) -> Result<Record> {
    meta.record(name)?
        .ok_or_else(|| StoreError::NotFound(format!("snapshot {name:?} does not exist")))
}

/// The active snapshot or view `key` and its parents.
pub(super) fn opened(meta: &(impl MetaRead + ?Sized), key: &str) -> Result<Opened> {
    let record = record(meta, key)?;
    if record.kind == Kind::Committed {
        return Err(StoreError::FailedPrecondition(format!(
            "requested snapshot {key:?} not active or view"
        )));
    }
    let parent_ids = visible(&chain(meta, &record.parent)?);
    Ok(Opened {
        id: record.id,
        kind: record.kind,
        parent_ids,
        labels: record.labels,
    })
}

/// `name` and what is below it down to the bottom of its chain; nothing for an empty name.
pub(super) fn chain(meta: &(impl MetaRead + ?Sized), name: &str) -> Result<Vec<Ancestor>> {
    let mut chain = Vec::new();
    let mut name = name.to_owned();
    while !name.is_empty() {
        let record = meta
            .record(&name)?
            .ok_or_else(|| StoreError::NotFound(format!("missing parent {name:?}")))?;
        if chain.len() == CHAIN_LENGTH_MAX {
            return Err(StoreError::Damaged {
                name,
                reason: format!("it has more than {CHAIN_LENGTH_MAX} parents"),
            });
        }
        chain.push(Ancestor {
            id: record.id,
            name: std::mem::replace(&mut name, record.parent),
            opaque_root: record.opaque_root,
        });
    }
    Ok(chain)
}

/// Inserts an active snapshot or a view.
pub(super) fn create(
    meta: &mut (impl MetaWrite + ?Sized),
    kind: Kind,
    key: &str,
    parent: &str,
    labels: Labels,
) -> Result<Opened> {
    let parents = parents_of_new(meta, parent)?;
    if meta.record(key)?.is_some() {
        return Err(StoreError::AlreadyExists(format!("snapshot {key:?}")));
    }
    let now_ns = now_ns();
    let record = Record {
        id: meta.next_id()?,
        kind,
        parent: parent.to_owned(),
        parent_id: parents.first().map_or(NO_PARENT, |parent| parent.id),
        created_ns: now_ns,
        updated_ns: now_ns,
        labels: stored(labels),
        usage: Usage::default(),
        format: Format::Overlay,
        opaque_root: false,
        unsynced: false,
    };
    meta.put(key, &record)?;
    Ok(Opened {
        id: record.id,
        kind,
        parent_ids: visible(&parents),
        labels: record.labels,
    })
}

/// Inserts a committed snapshot that never was active, under an id that was drawn before.
///
/// If its parent has such a child already, that one's name is the answer and nothing is inserted.
pub(super) fn insert(
    meta: &mut (impl MetaWrite + ?Sized),
    insertion: Insertion<'_>,
) -> Result<Option<String>> {
    if let Some((name, _)) = find_by_reference(meta, insertion.parent, insertion.reference)? {
        return Ok(Some(name));
    }
    let parent_id = parents_of_new(meta, insertion.parent)?
        .first()
        .map(|parent| parent.id);
    let mut labels = stored(insertion.labels);
    labels.insert(REFERENCE_LABEL.to_owned(), insertion.reference.to_owned());
    if let Some(mut record) = meta.record(insertion.name)? {
        if record.kind != Kind::Committed || record.parent != insertion.parent {
            return Err(StoreError::AlreadyExists(format!(
                "snapshot {:?}",
                insertion.name
            )));
        }
        // The name says what it is, only the label was taken away by an update; containerd looks for the label.
        record.labels.extend(labels);
        meta.put(insertion.name, &record)?;
        return Ok(Some(insertion.name.to_owned()));
    }
    let now_ns = now_ns();
    let record = Record {
        id: insertion.id,
        kind: Kind::Committed,
        parent: insertion.parent.to_owned(),
        parent_id: parent_id.unwrap_or(NO_PARENT),
        created_ns: now_ns,
        updated_ns: now_ns,
        labels,
        usage: insertion.usage,
        format: insertion.format,
        opaque_root: insertion.opaque_root,
        unsynced: insertion.unsynced,
    };
    meta.put(insertion.name, &record)?;
    Ok(None)
}

/// Turns the active snapshot `key` into the committed snapshot `name`, which keeps its id and takes only the labels given here.
///
/// A `parent` is what containerd 2.2's `WithParent` sends: it must be the parent the snapshot has, or become it if it has none.
pub(super) fn commit(
    meta: &mut (impl MetaWrite + ?Sized),
    key: &str,
    name: &str,
    parent: Option<&str>,
    labels: Labels,
    usage: Usage,
) -> Result<u64> {
    if meta.record(name)?.is_some() {
        return Err(StoreError::AlreadyExists(format!(
            "committed snapshot {name:?}"
        )));
    }
    let active = meta
        .record(key)?
        .ok_or_else(|| StoreError::NotFound(format!("failed to get active snapshot {key:?}")))?;
    if active.kind != Kind::Active {
        return Err(StoreError::FailedPrecondition(format!(
            "snapshot {key:?} is not active"
        )));
    }
    let parent = match parent {
        None | Some("") => active.parent.clone(),
        Some(parent) if active.parent.is_empty() || active.parent == parent => parent.to_owned(),
        Some(parent) => {
            return Err(StoreError::InvalidArgument(format!(
                "parent {parent:?} of committed snapshot {name:?} is not the parent {:?} of active snapshot {key:?}",
                active.parent
            )));
        }
    };
    let parent_id = committed_parent_id(meta, &parent)?;
    meta.delete(key, &active)?;
    let now_ns = now_ns();
    let committed = Record {
        kind: Kind::Committed,
        parent,
        parent_id,
        created_ns: now_ns,
        updated_ns: now_ns,
        labels: stored(labels),
        usage,
        ..active
    };
    meta.put(name, &committed)?;
    Ok(committed.id)
}

/// Removes `key`; answers its id.
pub(super) fn remove(meta: &mut (impl MetaWrite + ?Sized), key: &str) -> Result<u64> {
    let record = meta
        .record(key)?
        .ok_or_else(|| StoreError::NotFound(format!("snapshot {key:?}")))?;
    if !meta.children(record.id)?.is_empty() {
        return Err(StoreError::FailedPrecondition(
            "cannot remove snapshot with child".to_owned(),
        ));
    }
    meta.delete(key, &record)?;
    Ok(record.id)
}

/// Changes the labels of `name` as `fields` say; no fields means the whole map.
pub(super) fn update(
    meta: &mut (impl MetaWrite + ?Sized),
    name: &str,
    labels: &Labels,
    fields: &[Field],
) -> Result<Info> {
    let mut record = record(meta, name)?;
    if fields.is_empty() {
        record.labels = labels.clone();
    }
    for field in fields {
        match field {
            Field::Labels => record.labels = labels.clone(),
            Field::Label(key) => {
                let value = labels.get(key).cloned().unwrap_or_default();
                record.labels.insert(key.clone(), value);
            }
            Field::Immutable(path) => {
                return Err(StoreError::InvalidArgument(format!(
                    "cannot update {path:?} field on snapshot {name:?}"
                )));
            }
        }
    }
    record.labels = stored(record.labels);
    record.updated_ns = now_ns();
    meta.put(name, &record)?;
    Ok(record.into_info(name.to_owned()))
}

/// The committed child of `parent` (empty for none) that carries `reference` as its `containerd.io/snapshot.ref`.
pub(super) fn find_by_reference(
    meta: &(impl MetaRead + ?Sized),
    parent: &str,
    reference: &str,
) -> Result<Option<(String, Record)>> {
    let parent_id = match parent {
        "" => NO_PARENT,
        name => match meta.record(name)? {
            Some(record) => record.id,
            None => return Ok(None),
        },
    };
    for name in meta.children(parent_id)? {
        let Some(record) = meta.record(&name)? else {
            continue;
        };
        let carries = record
            .labels
            .get(REFERENCE_LABEL)
            .is_some_and(|label| label == reference);
        if record.kind == Kind::Committed && carries {
            return Ok(Some((name, record)));
        }
    }
    Ok(None)
}

/// The label by which containerd finds the committed snapshot that a remote `Prepare` announced: the chain id.
pub const REFERENCE_LABEL: &str = "containerd.io/snapshot.ref";

/// Draws ids for snapshots to come.
pub(super) fn reserve_ids(meta: &mut (impl MetaWrite + ?Sized), count: u64) -> Result<Range<u64>> {
    let first = meta.next_id()?;
    let mut last = first;
    for _ in 1..count {
        last = meta.next_id()?;
    }
    Ok(first..last + 1)
}

/// The parents of a snapshot that is to be created over `parent`, the nearest first.
pub(super) fn parents_of_new(
    meta: &(impl MetaRead + ?Sized),
    parent: &str,
) -> Result<Vec<Ancestor>> {
    if parent.is_empty() {
        return Ok(Vec::new());
    }
    let record = meta
        .record(parent)?
        .ok_or_else(|| StoreError::NotFound(format!("missing parent {parent:?} bucket")))?;
    if record.kind != Kind::Committed {
        return Err(StoreError::InvalidArgument(format!(
            "parent {parent:?} is not committed snapshot"
        )));
    }
    chain(meta, parent)
}

fn committed_parent_id(meta: &(impl MetaRead + ?Sized), parent: &str) -> Result<u64> {
    if parent.is_empty() {
        return Ok(NO_PARENT);
    }
    match meta.record(parent)? {
        None => Err(StoreError::NotFound(format!("missing parent {parent:?}"))),
        Some(record) if record.kind != Kind::Committed => Err(StoreError::FailedPrecondition(
            format!("parent {parent:?} is not committed snapshot"),
        )),
        Some(record) => Ok(record.id),
    }
}

/// Ends the walk along damaged metadata; overlayfs itself takes at most 500 layers.
const CHAIN_LENGTH_MAX: usize = 2048;

/// Labels as they are stored: an empty value is no label, as in containerd's `boltutil.WriteLabels`.
fn stored(mut labels: Labels) -> Labels {
    labels.retain(|_, value| !value.is_empty());
    labels
}
