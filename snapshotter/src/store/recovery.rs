//! What opening a store puts in order after a crash.
//!
//! A directory without record goes to the trash; a record without directory is dropped. The order of file operations and commits elsewhere
//! makes the first kind ordinary and the second a sign of lost files, so only the second is worth a warning.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::Result;
use super::layout::{Layout, names_in};
use super::meta::{MetaStore, Record};

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Snapshots whose directory was missing; they and what was built on them are gone.
    pub dropped: Vec<String>,
    /// Directories without a record that went to the trash.
    pub discarded: u64,
}

/// Brings directories and records into agreement.
pub(super) fn recover(layout: &Layout, meta: &dyn MetaStore) -> Result<Recovery> {
    let dropped = drop_lost_records(layout, meta)?;
    let known = known_ids(meta)?;
    let mut discarded = discard_unless(layout, &layout.snapshots(), &known)?;
    let kept = kept_staged(layout, meta)?;
    let jobs: BTreeSet<String> = kept.iter().map(|(job, _)| job.clone()).collect();
    discarded += discard_unless(layout, &layout.staging(), &jobs)?;
    for job in &jobs {
        let layers = kept
            .iter()
            .filter(|(of, _)| of == job)
            .map(|(_, layer)| layer.clone())
            .collect();
        discarded += discard_unless(layout, &layout.staging().join(job), &layers)?;
    }
    Ok(Recovery { dropped, discarded })
}

/// Drops the records without directory, and those built on them, children first.
fn drop_lost_records(layout: &Layout, meta: &dyn MetaStore) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    meta.read()?.visit(&mut |name, record| {
        if !layout.upper(record.id).is_dir() {
            lost.push((name, record));
        }
        Ok(())
    })?;
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = meta.write()?;
    let mut dropped = Vec::new();
    while let Some((name, record)) = lost.pop() {
        if transaction.record(&name)?.is_none() {
            continue;
        }
        for child in transaction.children(record.id)? {
            let found: Option<Record> = transaction.record(&child)?;
            lost.extend(found.map(|record| (child, record)));
        }
        tracing::warn!(
            snapshot = name,
            id = record.id,
            "dropping a snapshot whose directory, or whose parent's, is missing"
        );
        transaction.delete(&name, &record)?;
        dropped.push(name);
    }
    transaction.commit()?;
    dropped.sort_unstable();
    Ok(dropped)
}

/// Jobs and layers of staged trees that are kept; records whose tree is missing are dropped.
fn kept_staged(layout: &Layout, meta: &dyn MetaStore) -> Result<BTreeSet<(String, String)>> {
    let (kept, lost): (Vec<_>, Vec<_>) = meta.read()?.staged()?.into_iter().partition(|staged| {
        layout
            .staging()
            .join(&staged.job)
            .join(&staged.layer)
            .join("fs")
            .is_dir()
    });
    if !lost.is_empty() {
        let mut transaction = meta.write()?;
        for staged in lost {
            transaction.delete_staged(&staged.key())?;
        }
        transaction.commit()?;
    }
    Ok(kept
        .into_iter()
        .map(|staged| (staged.job, staged.layer))
        .collect())
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
