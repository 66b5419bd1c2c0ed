//! How a finished staged tree becomes a committed snapshot.
//!
//! Whether the tree's content is right (digests, implied directories) is the caller's business and done before [`Store::commit_staged`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::catalog::{self, Insertion};
use super::error::{Result, StoreError};
use super::layout::{self, Layout, Owner};
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
    /// The tree hides everything below it, so mounts end there.
    pub opaque_root: bool,
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

impl Store {
    /// Turns a finished tree into a committed snapshot.
    ///
    /// There is one snapshot per parent and chain id: if it exists, the tree stays where it is. The tree's root takes its parent's owner and
    /// mode 0755, as every snapshot's. A crash leaves either the snapshot or a directory that the next opening clears.
    ///
    /// What may wait for the disk, moving the tree and syncing it where that is the policy, is done before the transaction, so that no
    /// `Commit` or `Remove`, which containerd calls within its own transaction, waits for it.
    ///
    /// # Errors
    /// `NotFound` without such a parent, `InvalidArgument` if it is not committed, `StagedGone` without the tree; what is staged is then
    /// untouched. After a failed commit it lies where it was.
    pub fn commit_staged(&self, request: CommitStaged) -> Result<CommittedStaged> {
        let inner = &*self.inner;
        let reference = request.snapshot_ref.to_string();
        let parent = request.parent.as_deref().unwrap_or_default();
        if let Some(info) = self.find_committed(&request.snapshot_ref, request.parent.as_deref())? {
            return Ok(CommittedStaged::Existed { name: info.name });
        }
        let owner = self.owner_over(parent)?;
        if !request.fs.is_dir() {
            return Err(StoreError::StagedGone(request.fs));
        }
        let name = backend_name(&request.namespace, parent, &reference);
        let mut insertion = Insertion {
            id: self.reserved_id()?,
            reference: &reference,
            name: &name,
            parent,
            labels: request.labels,
            usage: request.usage,
            format: request.format,
            opaque_root: request.opaque_root,
            unsynced: true,
        };
        let id = insertion.id;
        let place = inner.layout.upper(id);
        let committed = move_in(&inner.layout, &request.fs, id, owner)
            .and_then(|()| inner.durability.before_commit())
            .and_then(|unsynced| {
                insertion.unsynced = unsynced;
                commit_in(inner, insertion)
            });
        let give_back = match &committed {
            Ok(CommittedStaged::Linked { .. }) => false,
            Ok(CommittedStaged::Existed { .. }) => true,
            // A commit that reports an error may still have become durable, and a record must never be without its tree.
            Err(_) => match inner.meta.read().and_then(|view| view.record(&name)) {
                Ok(Some(record)) if record.id == id => return Ok(CommittedStaged::Linked { name }),
                Ok(_) => true,
                Err(_) => false,
            },
        };
        if give_back && place.is_dir() {
            layout::rename(&place, &request.fs)?;
            inner.layout.discard(&inner.layout.snapshot(id));
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

    /// The owner that the root of a tree over `parent` has.
    fn owner_over(&self, parent: &str) -> Result<Owner> {
        let view = self.inner.meta.read()?;
        let parents = catalog::parents_of_new(view.as_ref(), parent)
            .map_err(|error| error.context("failed to create snapshot"))?;
        match parents.first() {
            Some(parent) => layout::owner_of(&self.inner.layout.upper(parent.id)),
            None => Ok(Owner { uid: 0, gid: 0 }),
        }
    }

    /// An id that no other snapshot has or will have.
    fn reserved_id(&self) -> Result<u64> {
        let mut reserved = self
            .inner
            .reserved
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = reserved.next() {
            return Ok(id);
        }
        let mut transaction = self.inner.meta.write()?;
        let mut ids = catalog::reserve_ids(transaction.as_mut(), RESERVED_IDS)?;
        transaction.commit()?;
        let first = ids.next();
        *reserved = ids;
        first.ok_or_else(|| StoreError::metadata("reserve ids in")("no id was drawn"))
    }
}

/// Ids that were drawn and not used; those left at the end of the process are never used.
#[derive(Debug)]
pub(super) struct ReservedIds(Mutex<Range<u64>>);

impl ReservedIds {
    pub(super) fn none() -> Self {
        Self(Mutex::new(0..0))
    }
}

/// Moves the tree to the place of snapshot `id`.
fn move_in(layout: &Layout, staged: &Path, id: u64, owner: Owner) -> Result<()> {
    layout::give_to(staged, owner)?;
    layout::set_mode(staged, 0o755)?;
    let new = layout.make_new_empty()?;
    let moved = layout
        .put_in_place(&new, id)
        .and_then(|()| layout::rename(staged, &layout.upper(id)));
    if moved.is_err() {
        layout.discard(&new);
        layout.discard(&layout.snapshot(id));
    }
    moved
}

fn commit_in(inner: &Inner, insertion: Insertion<'_>) -> Result<CommittedStaged> {
    let (id, name) = (insertion.id, insertion.name.to_owned());
    let mut transaction = inner.meta.write()?;
    let existing = catalog::insert(transaction.as_mut(), insertion)
        .map_err(|error| error.context("failed to create snapshot"))?;
    transaction.commit()?;
    match existing {
        Some(name) => Ok(CommittedStaged::Existed { name }),
        None => {
            tracing::debug!(name, id, "committed a staged tree");
            Ok(CommittedStaged::Linked { name })
        }
    }
}

/// `<namespace>/parapull.<hash of the parent>/<chain id>`: containerd's own names have a number in the middle, so they never meet.
fn backend_name(namespace: &str, parent: &str, reference: &str) -> String {
    let parent = match parent {
        "" => "0".to_owned(),
        name => Digest::of(name.as_bytes()).short(),
    };
    format!("{namespace}/parapull.{parent}/{reference}")
}

/// Drawn at once, so that not every layer costs a transaction more.
const RESERVED_IDS: u64 = 16;
