//! Finished trees in the staging area that outlive the process: a note beside each says what it is.
//!
//! A note is one small file, written once both digests of the layer hold and taken away before the tree is changed again. It needs
//! no sync, because the end of the process takes nothing from the kernel; after another boot no note is believed, since nobody knows
//! whether the tree behind it reached the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Store;
use super::error::{Result, StoreError};
use super::layout::{Layout, names_in};
use super::steps::passed;
use crate::digest::Digest;
use crate::unpack::{self, Implied, Inherited, Staged, Time};

/// A finished, verified tree in the staging area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLayer {
    /// The digest of the uncompressed layer that was verified.
    pub diff_id: Digest,
    /// Whether it was unpacked as the bottom layer of an image.
    pub bottom: bool,
    /// The tree.
    pub staged: Staged,
}

impl Store {
    /// Notes that a tree in the staging area is finished and verified, so that the next run of the process finds it.
    ///
    /// Without this a restart discards it. A tree with an implied directory whose name is not UTF-8 cannot be noted and is not an error.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn keep_staged(&self, layer: &KeptLayer) -> Result<()> {
        let Some(note) = Note::of(&self.inner.boot, layer) else {
            return Ok(());
        };
        let path = note_of(&layer.staged.root);
        let bytes = serde_json::to_vec(&note).map_err(StoreError::metadata("encode"))?;
        let new = path.with_extension("new");
        fs::write(&new, bytes).map_err(StoreError::io("write", &new))?;
        passed("write a note");
        fs::rename(&new, &path).map_err(StoreError::io("write", &path))?;
        passed("publish a note");
        Ok(())
    }

    /// Takes the note of a tree away, before the tree is changed.
    ///
    /// # Errors
    /// If there is one and it cannot be removed.
    pub fn release_staged(&self, root: &Path) -> Result<()> {
        let path = note_of(root);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => {
                passed("remove a note");
                Ok(())
            }
        }
    }

    /// The finished trees of the staging area: those an earlier run noted, and those of this one.
    ///
    /// # Errors
    /// If the staging area cannot be read.
    pub fn kept_staged(&self) -> Result<Vec<KeptLayer>> {
        let staging = self.inner.layout.staging();
        let mut kept = Vec::new();
        for job in names_in(&staging)? {
            for layer in names_in(&staging.join(&job))? {
                kept.extend(read(&staging.join(&job).join(layer), &self.inner.boot));
            }
        }
        Ok(kept)
    }
}

/// Moves everything of the staging area to the trash that is not noted; how many directories.
pub(super) fn discard_others(layout: &Layout, boot: &str) -> Result<u64> {
    let mut discarded = 0;
    for job in names_in(&layout.staging())? {
        let path = layout.staging().join(job);
        let layers = if path.is_dir() {
            names_in(&path)?
        } else {
            Vec::new()
        };
        let (kept, others): (Vec<PathBuf>, Vec<PathBuf>) = layers
            .into_iter()
            .map(|layer| path.join(layer))
            .partition(|layer| read(layer, boot).is_some());
        let dead = if kept.is_empty() { vec![path] } else { others };
        for directory in dead {
            discarded += u64::from(layout.discard(&directory));
        }
    }
    Ok(discarded)
}

/// What a note says: [`KeptLayer`] with paths as text.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    boot: String,
    diff_id: Digest,
    bottom: bool,
    bytes: u64,
    inodes: u64,
    entries: u64,
    data_bytes: u64,
    implied: Vec<NotedDirectory>,
    opaque_root: bool,
    newest: (i64, u32),
}

#[derive(Debug, Serialize, Deserialize)]
struct NotedDirectory {
    path: String,
    xattrs_only: bool,
    in_implied: bool,
}

impl Note {
    fn of(boot: &str, layer: &KeptLayer) -> Option<Self> {
        let Staged {
            root: _,
            usage,
            entries,
            data_bytes,
            implied,
            format: unpack::Format::Overlay,
            opaque_root,
            newest,
        } = &layer.staged;
        let implied = implied.iter().map(|directory| {
            Some(NotedDirectory {
                path: directory.path.to_str()?.to_owned(),
                xattrs_only: directory.inherited == Inherited::Xattrs,
                in_implied: directory.in_implied,
            })
        });
        Some(Self {
            boot: boot.to_owned(),
            diff_id: layer.diff_id,
            bottom: layer.bottom,
            bytes: usage.bytes,
            inodes: usage.inodes,
            entries: *entries,
            data_bytes: *data_bytes,
            implied: implied.collect::<Option<_>>()?,
            opaque_root: *opaque_root,
            newest: (newest.seconds, newest.nanoseconds),
        })
    }

    fn into_layer(self, root: PathBuf) -> KeptLayer {
        let implied = self.implied.into_iter().map(|directory| Implied {
            path: directory.path.into(),
            inherited: match directory.xattrs_only {
                true => Inherited::Xattrs,
                false => Inherited::Everything,
            },
            in_implied: directory.in_implied,
        });
        let (seconds, nanoseconds) = self.newest;
        KeptLayer {
            diff_id: self.diff_id,
            bottom: self.bottom,
            staged: Staged {
                root,
                usage: unpack::Usage {
                    bytes: self.bytes,
                    inodes: self.inodes,
                },
                entries: self.entries,
                data_bytes: self.data_bytes,
                implied: implied.collect(),
                format: unpack::Format::Overlay,
                opaque_root: self.opaque_root,
                newest: Time {
                    seconds,
                    nanoseconds,
                },
            },
        }
    }
}

/// The finished tree in `directory`; none without tree, note, or with the note of another boot.
fn read(directory: &Path, boot: &str) -> Option<KeptLayer> {
    let root = directory.join("fs");
    let bytes = fs::read(note_of(&root)).ok()?;
    let note: Note = serde_json::from_slice(&bytes)
        .inspect_err(|error| {
            tracing::warn!(directory = %directory.display(), %error, "an unreadable note of a staged layer; it is unpacked again");
        })
        .ok()?;
    (note.boot == boot && root.is_dir()).then(|| note.into_layer(root))
}

/// Where the note of the tree at `root` lies.
fn note_of(root: &Path) -> PathBuf {
    root.with_file_name(NOTE)
}

const NOTE: &str = "layer.json";
