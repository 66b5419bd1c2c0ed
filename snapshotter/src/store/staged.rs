//! Layers that we unpack ourselves: a hidden place to build their trees, and the step that turns a finished tree into a committed snapshot.
//!
//! Staged trees are no snapshots: nothing lists them, so containerd's garbage collector, which removes what it does not know, never sees
//! one. Whether a tree's content is right (digests, implied directories) is the caller's business and done before [`Store::commit_staged`].

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::catalog::{self, Insertion, REFERENCE_LABEL};
use super::error::{Result, StoreError};
use super::layout::{self, Layout, Owner};
use super::meta::{MetaWrite, StagedLayer};
use super::snapshot::{Format, Info, Labels, Usage};
use super::{Inner, Store};
use crate::digest::Digest;

/// A finished tree that is to become a committed snapshot.
#[derive(Debug, Clone)]
pub struct CommitStaged {
    /// The chain id of the layer.
    pub snapshot_ref: Digest,
    /// The backend name of the committed snapshot below, as containerd passed it; none at the bottom.
    pub parent: Option<String>,
    /// The containerd namespace that asked.
    pub namespace: String,
    /// The labels of the request; `containerd.io/snapshot.ref` is set from `snapshot_ref`.
    pub labels: Labels,
    /// The tree, anywhere under the store's root.
    pub fs: PathBuf,
    /// What the tree occupies, counted while it was written.
    pub usage: Usage,
    /// How the tree lies on the disk.
    pub format: Format,
}

/// What [`Store::commit_staged`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommittedStaged {
    /// The tree was moved and is the committed snapshot of this name.
    Linked {
        /// The backend name.
        name: String,
    },
    /// There is such a snapshot already; the staged tree was not touched.
    Existed {
        /// The backend name.
        name: String,
    },
}

/// A directory under `staging/`, `<job>/<layer>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingDirectory {
    path: PathBuf,
}

impl StagingDirectory {
    /// The directory itself, for whatever the unpacker needs beside the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the layer's tree is built; exists and is empty at first.
    pub fn fs(&self) -> PathBuf {
        self.path.join("fs")
    }
}

impl Store {
    /// Makes the directory in which layer `layer` of job `job` is unpacked; what was there before goes to the trash.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components, or an IO error.
    pub fn staging_directory(&self, job: &str, layer: &str) -> Result<StagingDirectory> {
        let staging = StagingDirectory {
            path: self.staging_path(job, layer)?,
        };
        self.discard_staged(job, layer)?;
        for (path, mode) in [(staging.path.clone(), 0o700), (staging.fs(), 0o755)] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(StoreError::io("create directory", &path))?;
            layout::set_mode(&path, mode)?;
        }
        Ok(staging)
    }

    /// Discards what is staged of layer `layer` of job `job`, if anything; it is deleted in the background.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components.
    pub fn discard_staged(&self, job: &str, layer: &str) -> Result<()> {
        let path = self.staging_path(job, layer)?;
        self.forget_staged(|staged| staged.job == job && staged.layer == layer)?;
        if self.inner.layout.discard(&path) {
            self.inner.deleter.nudge();
        }
        Ok(())
    }

    /// Discards all that is staged of job `job`.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is not a single path component.
    pub fn discard_job(&self, job: &str) -> Result<()> {
        component(job)?;
        self.forget_staged(|staged| staged.job == job)?;
        if self
            .inner
            .layout
            .discard(&self.inner.layout.staging().join(job))
        {
            self.inner.deleter.nudge();
        }
        Ok(())
    }

    /// Records that the tree of `layer` is finished and verified, so that the next opening of the store keeps it.
    ///
    /// The caller has made the tree durable before; without this a restart discards it. [`Self::commit_staged`] ends the record.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components, `NotFound` if there is no such tree.
    pub fn keep_staged(&self, layer: &StagedLayer) -> Result<()> {
        let path = self.staging_path(&layer.job, &layer.layer)?;
        if !path.join("fs").is_dir() {
            return Err(StoreError::NotFound(format!(
                "staged tree {}",
                path.display()
            )));
        }
        let mut transaction = self.inner.meta.write()?;
        transaction.put_staged(layer)?;
        transaction.commit()
    }

    /// The staged layers that were kept and not committed or discarded since.
    pub fn kept_staged(&self) -> Result<Vec<StagedLayer>> {
        self.inner.meta.read()?.staged()
    }

    /// The directory of a staged layer, which must exist.
    ///
    /// # Errors
    /// `InvalidArgument` for names that are not single path components, `NotFound` without it.
    pub fn existing_staging_directory(&self, job: &str, layer: &str) -> Result<StagingDirectory> {
        let path = self.staging_path(job, layer)?;
        if !path.join("fs").is_dir() {
            return Err(StoreError::NotFound(format!(
                "staged tree {}",
                path.display()
            )));
        }
        Ok(StagingDirectory { path })
    }

    /// Turns a finished tree into a committed snapshot: one rename into the snapshots, one short transaction.
    ///
    /// There is one snapshot per parent and chain id: if it exists, the tree stays where it is. The tree's root takes its parent's owner and
    /// mode 0755, as every snapshot's. A crash leaves either the snapshot or a directory that the next opening clears.
    ///
    /// # Errors
    /// `NotFound` without such a parent, `InvalidArgument` if it is not committed; the staged tree is then untouched. After a failed commit
    /// it lies where it was.
    pub fn commit_staged(&self, request: CommitStaged) -> Result<CommittedStaged> {
        let inner = &*self.inner;
        let reference = request.snapshot_ref.to_string();
        let parent = request.parent.as_deref().unwrap_or_default();
        if let Some(info) = self.find_committed(&request.snapshot_ref, request.parent.as_deref())? {
            return Ok(CommittedStaged::Existed { name: info.name });
        }
        let name = backend_name(&request.namespace, parent, &reference);
        let new = inner.layout.make_new_empty()?;
        let insertion = Insertion {
            name: &name,
            parent,
            labels: with_reference(request.labels, &reference),
            usage: request.usage,
            format: request.format,
        };
        let committed = inner.meta.write().and_then(|transaction| {
            commit_in(inner, transaction, &new, &request.fs, insertion, &reference)
        });
        if !matches!(committed, Ok(CommittedStaged::Linked { .. })) {
            inner.layout.discard(&new);
            inner.deleter.nudge();
        }
        committed
    }

    /// The committed snapshot over `parent` that carries this chain id as its `containerd.io/snapshot.ref`.
    pub fn find_committed(
        &self,
        snapshot_ref: &Digest,
        parent: Option<&str>,
    ) -> Result<Option<Info>> {
        let view = self.inner.meta.read()?;
        let found = catalog::find_by_reference(
            view.as_ref(),
            parent.unwrap_or_default(),
            &snapshot_ref.to_string(),
        )?;
        Ok(found.map(|(name, record)| record.into_info(name)))
    }

    /// Drops the records of staged layers; takes a transaction only if there are any.
    fn forget_staged(&self, of: impl Fn(&StagedLayer) -> bool) -> Result<()> {
        let forgotten: Vec<_> = self.kept_staged()?.into_iter().filter(of).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        let mut transaction = self.inner.meta.write()?;
        for staged in forgotten {
            transaction.delete_staged(&staged.key())?;
        }
        transaction.commit()
    }

    fn staging_path(&self, job: &str, layer: &str) -> Result<PathBuf> {
        component(job)?;
        component(layer)?;
        Ok(self.inner.layout.staging().join(job).join(layer))
    }
}

fn commit_in(
    inner: &Inner,
    mut transaction: Box<dyn MetaWrite + '_>,
    new: &Path,
    staged: &Path,
    insertion: Insertion<'_>,
    reference: &str,
) -> Result<CommittedStaged> {
    if let Some((name, _)) =
        catalog::find_by_reference(transaction.as_ref(), insertion.parent, reference)?
    {
        return Ok(CommittedStaged::Existed { name });
    }
    let layout = &inner.layout;
    let name = insertion.name.to_owned();
    let (id, parents) = catalog::insert(transaction.as_mut(), insertion)
        .map_err(|error| error.context("failed to create snapshot"))?;
    let owner = match parents.first() {
        Some(&parent) => layout::owner_of(&layout.upper(parent))?,
        None => Owner { uid: 0, gid: 0 },
    };
    if let Some(key) = key_of(layout, staged) {
        transaction.delete_staged(&key)?;
    }
    layout::give_to(staged, owner)?;
    layout::set_mode(staged, 0o755)?;
    layout::rename(staged, &new.join("fs"))?;
    let durable = layout
        .put_in_place(new, id)
        .and_then(|()| layout::sync_directory(&layout.snapshot(id)))
        .and_then(|()| layout::sync_directory(&layout.snapshots()))
        .and_then(|()| transaction.commit());
    let Err(error) = durable else {
        tracing::debug!(name, id, "committed a staged tree");
        return Ok(CommittedStaged::Linked { name });
    };
    // A commit that reports an error may still have become durable, and a record must never be without its tree.
    match inner.meta.read().and_then(|view| view.record(&name)) {
        Ok(Some(_)) => Ok(CommittedStaged::Linked { name }),
        Ok(None) => {
            give_back(&[layout.upper(id), new.join("fs")], staged);
            Err(error)
        }
        Err(_) => Err(error),
    }
}

/// Puts the tree back where it was staged, from whichever of the places it had reached.
fn give_back(places: &[PathBuf], staged: &Path) {
    for place in places.iter().filter(|place| place.is_dir()) {
        if let Err(error) = layout::rename(place, staged) {
            tracing::warn!(%error, "failed to give a staged tree back after its commit failed; it will be unpacked again");
        }
    }
}

/// The key of the record that a staged tree may have, from where it lies.
fn key_of(layout: &Layout, staged: &Path) -> Option<String> {
    let within = staged.strip_prefix(layout.staging()).ok()?.parent()?;
    within.to_str().map(str::to_owned)
}

fn with_reference(mut labels: Labels, reference: &str) -> Labels {
    labels.insert(REFERENCE_LABEL.to_owned(), reference.to_owned());
    labels
}

/// `<namespace>/parapull.<hash of the parent>/<chain id>`: containerd's own names have a number in the middle, so they never meet.
fn backend_name(namespace: &str, parent: &str, reference: &str) -> String {
    let parent = match parent {
        "" => "0".to_owned(),
        name => Digest::of(name.as_bytes()).short(),
    };
    format!("{namespace}/parapull.{parent}/{reference}")
}

fn component(name: &str) -> Result<()> {
    let plain = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '\0']);
    match plain {
        true => Ok(()),
        false => Err(StoreError::InvalidArgument(format!(
            "{name:?} cannot name a staging directory"
        ))),
    }
}
