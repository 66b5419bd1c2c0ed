//! What opening a store puts in order after a crash.
//!
//! A directory without record goes to the trash; a record whose tree is missing, or may be hollow after a power failure
//! ([`super::durability`]), is dropped, and with it what was built on it. The order of file operations and commits elsewhere makes the first
//! kind ordinary and the second a sign of lost files, so only the second is worth a warning.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::Result;
use super::kept;
use super::layout::{Layout, names_in};
use super::meta::{MetaStore, MetaWrite, Record};
use super::snapshot::Kind;

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Snapshots that are gone, each after those that were built on it.
    pub dropped: Vec<Dropped>,
    /// Directories without a record that went to the trash.
    pub discarded: u64,
}

/// A snapshot that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The backend name or key.
    pub name: String,
    /// The image it was pulled for, if it was.
    pub image: Option<String>,
    /// Why.
    pub loss: Loss,
}

/// Why a snapshot is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its directory is missing.
    Directory,
    /// The machine stopped before its files were known to be on the disk.
    Unsynced,
    /// It was built on one that is gone.
    Parent,
}

/// Brings directories and records into agreement, and notes the `boot` they are used in from here on.
pub(super) fn recover(layout: &Layout, meta: &dyn MetaStore, boot: &str) -> Result<Recovery> {
    let dropped = drop_lost_records(layout, meta, boot)?;
    let known = known_ids(meta)?;
    let mut discarded = discard_unless(layout, &layout.snapshots(), &known)?;
    discarded += kept::discard_others(layout, boot)?;
    Ok(Recovery { dropped, discarded })
}

/// Drops the records without trustworthy directory, and those built on them.
fn drop_lost_records(layout: &Layout, meta: &dyn MetaStore, boot: &str) -> Result<Vec<Dropped>> {
    let view = meta.read()?;
    let earlier = view.boot()?;
    let rebooted = earlier.as_deref().is_some_and(|earlier| earlier != boot);
    let mut lost = Vec::new();
    view.visit(&mut |name, record| {
        let loss = match record.kind {
            _ if !layout.upper(record.id).is_dir() => Some(Loss::Directory),
            Kind::Committed if rebooted && record.unsynced => Some(Loss::Unsynced),
            Kind::Committed | Kind::Active | Kind::View => None,
        };
        lost.extend(loss.map(|loss| (name, record, loss)));
        Ok(())
    })?;
    drop(view);
    if lost.is_empty() && earlier.as_deref() == Some(boot) {
        return Ok(Vec::new());
    }
    let mut transaction = meta.write()?;
    let dropped = drop_all(transaction.as_mut(), lost)?;
    transaction.put_boot(boot)?;
    transaction.commit()?;
    for Dropped { name, image, loss } in &dropped {
        tracing::warn!(
            snapshot = name,
            image,
            ?loss,
            "a snapshot is gone: its files were lost, or those of its parents; if it belongs to an image, remove and pull that again"
        );
    }
    Ok(dropped)
}

fn drop_all(
    transaction: &mut (impl MetaWrite + ?Sized),
    lost: Vec<(String, Record, Loss)>,
) -> Result<Vec<Dropped>> {
    let mut dropped = Vec::new();
    let mut open: Vec<(String, Record, Loss, bool)> = lost
        .into_iter()
        .map(|(name, record, loss)| (name, record, loss, false))
        .collect();
    while let Some((name, record, loss, without_children)) = open.pop() {
        if transaction.record(&name)?.is_none() {
            continue;
        }
        if without_children {
            transaction.delete(&name, &record)?;
            let image = record.labels.get(IMAGE_LABEL).cloned();
            dropped.push(Dropped { name, image, loss });
            continue;
        }
        let children = transaction.children(record.id)?;
        open.push((name, record, loss, true));
        for child in children {
            let found = transaction.record(&child)?;
            open.extend(found.map(|record| (child, record, Loss::Parent, false)));
        }
    }
    Ok(dropped)
}

fn known_ids(meta: &dyn MetaStore) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    meta.read()?.visit(&mut |_, record| {
        known.insert(record.id.to_string());
        Ok(())
    })?;
    Ok(known)
}

fn discard_unless(layout: &Layout, directory: &Path, known: &BTreeSet<String>) -> Result<u64> {
    let mut discarded = 0;
    for name in names_in(directory)? {
        if !known.contains(&name) {
            discarded += u64::from(layout.discard(&directory.join(name)));
        }
    }
    Ok(discarded)
}

/// The image a client named when it had the layer pulled.
const IMAGE_LABEL: &str = "containerd.io/snapshot/cri.image-ref";
