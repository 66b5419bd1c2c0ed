//! The snapshot store: what containerd calls snapshots, as directories in overlay form plus metadata records.
//!
//! It behaves like containerd's overlayfs snapshotter, and can besides take in a finished tree as a committed snapshot
//! ([`Store::commit_staged`]), which is how layers that were pulled by ourselves enter.
//!
//! It knows nothing of gRPC, registries or the engine, and makes no mounts. All operations are synchronous: metadata operations take one
//! short transaction, reads never wait for writers, and only [`Store::commit`] and [`Store::usage`] of active snapshots walk a tree, outside
//! any transaction.

mod catalog;
mod database;
mod directory;
mod durability;
mod error;
mod kept;
mod layout;
mod lost;
#[cfg(test)]
mod memory;
mod meta;
mod mounts;
mod placement;
mod recovery;
mod snapshot;
mod staged;
mod staging;
mod steps;
mod trash;
mod usage;
mod worker;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use catalog::REFERENCE_LABEL;
pub use directory::{Directory, DirectoryPlace, Found, LinkedLayer};
pub use durability::{SyncPolicy, kernel_boot_id};
pub use error::{Result, StoreError};
pub use kept::KeptLayer;
pub use lost::Lost;
pub use placement::{Placement, PlacementError};
pub use recovery::{Dropped, Loss, Recovery};
pub use snapshot::{Field, Format, Info, Kind, Labels, Mount, Usage};
pub use staged::{CommitStaged, CommittedStaged};
pub use staging::StagingDirectory;
pub use trash::Pause;

use catalog::Opened;
use database::DatabaseMeta;
use durability::{Disk, Durability};
use layout::Layout;
use meta::{MetaStore, MetaWrite, Record};
use mounts::MountRules;
use staged::ReservedIds;
use worker::Worker;

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Options for all overlay mounts, before those the kernel asks for; binds do not get them. Default: none.
    pub mount_options: Vec<String>,
    /// Whether the labels `containerd.io/snapshot/{uid,gid}mapping` become mount options; needs idmapped overlays (Linux 5.19) and the
    /// capability `remap-ids` in containerd's configuration. Default: false.
    pub remap_ids: bool,
    /// Whether descriptions carry the label `containerd.io/snapshot/overlay.upperdir`: where a snapshot's own files lie. Default: false.
    pub upperdir_label: bool,
    /// Whether [`Store::remove`] returns only when the files are gone. Default: false.
    pub sync_remove: bool,
    /// How gently removed trees are deleted.
    pub pause: Pause,
    /// When unpacked layers are made to survive a power failure.
    pub sync: SyncPolicy,
    /// The boot this process runs under; none: ask the kernel.
    pub boot_id: Option<String>,
}

/// A snapshot store; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    meta: Arc<dyn MetaStore>,
    rules: MountRules,
    upperdir_label: bool,
    sync_remove: bool,
    deleter: Worker,
    durability: Durability,
    recovery: Recovery,
    boot: String,
    reserved: ReservedIds,
}

impl Store {
    /// Opens or creates the store under `root`, which it owns alone, and puts in order what a crash left.
    ///
    /// # Errors
    /// If the directories or the metadata cannot be made or read, if another process has the store open, or if a newer version wrote it.
    pub fn open(root: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let layout = Layout::create(root.as_ref())?;
        let meta = DatabaseMeta::open(&layout.metadata())?;
        let disk = Disk::of(layout.root())?;
        Self::assemble(layout, Arc::new(meta), disk, options)
    }

    fn assemble(
        layout: Layout,
        meta: Arc<dyn MetaStore>,
        disk: Disk,
        options: &Options,
    ) -> Result<Self> {
        let boot = match &options.boot_id {
            Some(boot) => boot.clone(),
            None => kernel_boot_id()?,
        };
        let recovery = recovery::recover(&layout, meta.as_ref(), &boot)?;
        let rules = MountRules::detect(layout.root(), &options.mount_options, options.remap_ids);
        let deleter = trash::start_deleter(&layout, options.pause)
            .map_err(StoreError::io("start the deleter of", &layout.trash()))?;
        let durability = Durability::start(options.sync, disk, Arc::clone(&meta))?;
        Ok(Self {
            inner: Arc::new(Inner {
                layout,
                meta,
                rules,
                upperdir_label: options.upperdir_label,
                sync_remove: options.sync_remove,
                deleter,
                durability,
                recovery,
                boot,
                reserved: ReservedIds::none(),
            }),
        })
    }

    /// What opening the store found and put in order.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// The root directory with all symbolic links resolved.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// Creates the active snapshot `key` over the committed snapshot `parent` (empty for none).
    ///
    /// # Errors
    /// `NotFound` without such a parent, `InvalidArgument` if it is not committed, `AlreadyExists` if the key is taken.
    pub fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let opened = self.create(Kind::Active, key, parent, labels)?;
        Ok(self.inner.rules.mounts(&self.inner.layout, &opened))
    }

    /// As [`Self::prepare`], with an overlay and an upper directory even without parent.
    ///
    /// For containerd's parent-less parallel unpacking, which would lose whiteouts in a bind.
    pub fn prepare_with_upper(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        let opened = self.create(Kind::Active, key, parent, labels)?;
        Ok(self
            .inner
            .rules
            .mounts_with_upper(&self.inner.layout, &opened))
    }

    /// Creates the read-only view `key` of the committed snapshot `parent` (empty for none).
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let opened = self.create(Kind::View, key, parent, labels)?;
        Ok(self.inner.rules.mounts(&self.inner.layout, &opened))
    }

    /// The mounts of an active snapshot or view.
    ///
    /// # Errors
    /// `NotFound`, or `FailedPrecondition` for a committed snapshot.
    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let opened = catalog::opened(self.inner.meta.read()?.as_ref(), key)
            .map_err(|error| error.context("failed to get active mount"))?;
        Ok(self.inner.rules.mounts(&self.inner.layout, &opened))
    }

    /// Ends the active snapshot `key` as the committed snapshot `name` with exactly these labels, and measures it before.
    ///
    /// `parent` is what containerd 2.2 sends when it unpacked without parent; `None` keeps the parent of the active snapshot.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, `NotFound` without such a key or parent, `FailedPrecondition` if `key` is not active or the
    /// parent not committed, `InvalidArgument` if the active snapshot has another parent.
    pub fn commit(
        &self,
        name: &str,
        key: &str,
        labels: Labels,
        parent: Option<&str>,
    ) -> Result<()> {
        let id = catalog::record(self.inner.meta.read()?.as_ref(), key)
            .map_err(|error| error.context("failed to commit snapshot"))?
            .id;
        let usage = usage::usage_of(&self.inner.layout.upper(id))?;
        let mut transaction = self.inner.meta.write()?;
        let committed = catalog::commit(transaction.as_mut(), key, name, parent, labels, usage)
            .map_err(|error| error.context("failed to commit snapshot"))?;
        if committed != id {
            return Err(StoreError::FailedPrecondition(format!(
                "failed to commit snapshot: active snapshot {key:?} was replaced meanwhile"
            )));
        }
        transaction.commit()?;
        tracing::debug!(
            key,
            name,
            id,
            bytes = usage.bytes,
            inodes = usage.inodes,
            "committed a snapshot"
        );
        Ok(())
    }

    /// Removes `key`, whatever its kind; its space is freed in the background, unless [`Options::sync_remove`] says otherwise.
    ///
    /// # Errors
    /// `NotFound`, or `FailedPrecondition` while it is the parent of others.
    pub fn remove(&self, key: &str) -> Result<()> {
        let mut transaction = self.inner.meta.write()?;
        let id = catalog::remove(transaction.as_mut(), key)
            .map_err(|error| error.context("failed to remove"))?;
        transaction.commit()?;
        // After the commit, so that a crash in between leaves a directory without record, which recovery clears, and never the opposite.
        if self.inner.layout.discard(&self.inner.layout.snapshot(id)) {
            self.inner.deleter.nudge();
            if self.inner.sync_remove {
                trash::empty_at_once(&self.inner.layout);
            }
        }
        tracing::debug!(key, id, "removed a snapshot");
        Ok(())
    }

    /// The description of `key`.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn stat(&self, key: &str) -> Result<Info> {
        let record = catalog::record(self.inner.meta.read()?.as_ref(), key)?;
        Ok(self.described(key.to_owned(), record))
    }

    /// Changes labels as `fields` say (none: the whole map) and answers the new description.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidArgument` for a field that cannot be changed.
    pub fn update(&self, name: &str, labels: &Labels, fields: &[Field]) -> Result<Info> {
        let id = catalog::record(self.inner.meta.read()?.as_ref(), name)?.id;
        let mut transaction = self.inner.meta.write()?;
        let info = catalog::update(transaction.as_mut(), name, labels, fields)?;
        transaction.commit()?;
        Ok(self.with_upperdir(id, info))
    }

    /// Calls `visitor` with the description of every snapshot, in the order of their names, as of one moment; an error ends the walk.
    pub fn walk(&self, mut visitor: impl FnMut(Info) -> Result<()>) -> Result<()> {
        let view = self.inner.meta.read()?;
        view.visit(&mut |name, record| visitor(self.described(name, record)))
    }

    /// What `key` occupies without its parents: measured for an active snapshot, as committed for others.
    ///
    /// # Errors
    /// `NotFound`, or an IO error of the measurement.
    pub fn usage(&self, key: &str) -> Result<Usage> {
        let record = catalog::record(self.inner.meta.read()?.as_ref(), key)?;
        match record.kind {
            Kind::Active => usage::usage_of(&self.inner.layout.upper(record.id)),
            Kind::View | Kind::Committed => Ok(record.usage),
        }
    }

    /// Wakes the deleter of removed snapshots and returns at once.
    pub fn cleanup(&self) {
        self.inner.deleter.nudge();
    }

    /// Has what was unpacked so far made durable soon, as the policy says; returns at once.
    pub fn sync_soon(&self) {
        self.inner.durability.sync_soon();
    }

    /// Makes what was unpacked so far durable, as the policy says, and waits for it.
    ///
    /// # Errors
    /// If the file system cannot be synced or the metadata cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.inner.durability.sync()
    }

    /// The trees of the committed snapshot `name` and its parents, top first, as far as they show through: what a layer above them would
    /// have as lower directories.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn lower_paths(&self, name: &str) -> Result<Vec<PathBuf>> {
        let chain = catalog::chain(self.inner.meta.read()?.as_ref(), name)?;
        Ok(catalog::visible(&chain)
            .into_iter()
            .map(|id| self.inner.layout.upper(id))
            .collect())
    }

    fn described(&self, name: String, record: Record) -> Info {
        let id = record.id;
        self.with_upperdir(id, record.into_info(name))
    }

    /// Adds where a snapshot's own files lie, where that is wanted; nothing of it is stored.
    fn with_upperdir(&self, id: u64, mut info: Info) -> Info {
        if self.inner.upperdir_label {
            let upper = self.inner.layout.upper(id);
            let value = upper.to_string_lossy().into_owned();
            info.labels.insert(UPPERDIR_LABEL.to_owned(), value);
        }
        info
    }

    fn create(&self, kind: Kind, key: &str, parent: &str, labels: Labels) -> Result<Opened> {
        let layout = &self.inner.layout;
        let mapped_root = mounts::mapped_root(&labels)?;
        let new = layout.make_new(kind == Kind::Active)?;
        let created = self.inner.meta.write().and_then(|transaction| {
            create_in(
                layout,
                transaction,
                &new,
                mapped_root,
                (kind, key, parent, labels),
            )
        });
        if created.is_err() {
            layout.discard(&new);
            self.inner.deleter.nudge();
        }
        created
    }
}

/// As containerd's overlayfs snapshotter names it.
const UPPERDIR_LABEL: &str = "containerd.io/snapshot/overlay.upperdir";

type Creation<'a> = (Kind, &'a str, &'a str, Labels);

/// Inserts the record and moves `new` to its place; what is left in that place after a failed commit is cleared by the next use of the id.
fn create_in(
    layout: &Layout,
    mut transaction: Box<dyn MetaWrite + '_>,
    new: &Path,
    mapped_root: Option<layout::Owner>,
    (kind, key, parent, labels): Creation<'_>,
) -> Result<Opened> {
    let opened = catalog::create(transaction.as_mut(), kind, key, parent, labels)
        .map_err(|error| error.context("failed to create snapshot"))?;
    let owner = match (mapped_root, opened.parent_ids.first()) {
        (Some(root), _) => Some(root),
        (None, Some(&parent)) => Some(layout::owner_of(&layout.upper(parent))?),
        (None, None) => None,
    };
    if let Some(owner) = owner {
        layout::give_to(&new.join("fs"), owner)?;
    }
    layout.put_in_place(new, opened.id)?;
    transaction.commit()?;
    tracing::debug!(
        key,
        parent,
        kind = kind.name(),
        id = opened.id,
        "created a snapshot"
    );
    Ok(opened)
}
