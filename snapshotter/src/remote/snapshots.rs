//! Layers as committed snapshots: staged out of sight, linked by one rename and one short transaction.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::store::{
    CommitStaged, CommittedStaged, Format, KeptLayer, Labels, Placement, PlacementError, Store,
    StoreError, Usage,
};
use crate::unpack::{FixError, Staged};

/// Puts layers into the snapshot store.
#[derive(Debug)]
pub struct SnapshotPlacement {
    store: Store,
    /// What this life of the process stages; another life's names never meet these.
    job: PathBuf,
    spool: PathBuf,
}

/// A layer's place in the store.
#[derive(Clone, Debug)]
pub struct SnapshotPlace {
    /// The containerd namespace.
    pub namespace: String,
    /// Backend name of the committed snapshot below.
    pub parent: Option<String>,
    /// The layer's chain id.
    pub snapshot_ref: Digest,
    /// The labels of the call.
    pub labels: Labels,
}

impl SnapshotPlacement {
    /// Links layers into `store`; compressed bytes, where a strategy stores them, go beside the staged trees.
    ///
    /// # Errors
    /// When the directory for compressed bytes cannot be made.
    pub fn new(store: Store) -> io::Result<Self> {
        let spool = store.root().join("spool");
        std::fs::create_dir_all(&spool)?;
        let job = store
            .job_directory(&store.new_job())
            .map_err(io::Error::other)?;
        Ok(Self { store, job, spool })
    }

    /// Where the tree of a committed snapshot lies.
    fn tree(&self, name: &str) -> Option<PathBuf> {
        self.store.lower_paths(name).ok()?.into_iter().next()
    }
}

impl Placement for SnapshotPlacement {
    type Place = SnapshotPlace;

    fn staging(&self, name: &str) -> PathBuf {
        self.job.join(name)
    }

    fn stage(&self, directory: &Path) -> io::Result<()> {
        self.store
            .make_staging_directory(directory)
            .map_err(io::Error::other)
    }

    fn keep(&self, layer: &KeptLayer) -> io::Result<()> {
        self.store.keep_staged(layer).map_err(io::Error::other)
    }

    fn kept(&self) -> io::Result<Vec<KeptLayer>> {
        self.store.kept_staged().map_err(io::Error::other)
    }

    fn discard(&self, directory: &Path) -> io::Result<()> {
        self.store
            .discard_staging_directory(directory)
            .map_err(io::Error::other)
    }

    fn lowers(&self, place: &SnapshotPlace) -> Result<Vec<PathBuf>, PlacementError> {
        match &place.parent {
            None => Ok(Vec::new()),
            Some(parent) => self.store.lower_paths(parent).map_err(|error| disk(&error)),
        }
    }

    fn link(
        &self,
        place: &SnapshotPlace,
        staged: &Staged,
    ) -> Result<Option<PathBuf>, PlacementError> {
        let lowers = self.lowers(place)?;
        // From here on the tree is this place's: what is left of it after a crash is of no use to another.
        self.store
            .release_staged(&staged.root)
            .map_err(|error| disk(&error))?;
        staged.fix_implied(&lowers).map_err(|error| match error {
            FixError::NeedsParents { .. } => PlacementError::NeedsParents(error.to_string()),
            FixError::Disk { .. } => PlacementError::Disk(error.to_string()),
        })?;
        let committed = self.store.commit_staged(CommitStaged {
            snapshot_ref: place.snapshot_ref,
            parent: place.parent.clone(),
            namespace: place.namespace.clone(),
            labels: place.labels.clone(),
            fs: staged.root.clone(),
            usage: Usage {
                bytes: staged.usage.bytes,
                inodes: staged.usage.inodes,
            },
            format: Format::Overlay,
            opaque_root: staged.opaque_root,
        });
        match committed {
            Ok(CommittedStaged::Linked { name }) => Ok(self.tree(&name)),
            // It may have been made over its parents; what we know of our tree says nothing about it.
            Ok(CommittedStaged::Existed { .. }) => Ok(None),
            Err(error @ StoreError::StagedGone(_)) => {
                Err(PlacementError::SourceGone(error.to_string()))
            }
            Err(error) => Err(disk(&error)),
        }
    }

    fn link_existing(&self, place: &SnapshotPlace) -> Result<(), PlacementError> {
        let found = self
            .store
            .find_committed(&place.snapshot_ref, place.parent.as_deref())
            .map_err(|error| disk(&error))?;
        match found {
            Some(_) => Ok(()),
            None => Err(PlacementError::SourceGone(place.snapshot_ref.to_string())),
        }
    }

    fn spool(&self) -> &Path {
        &self.spool
    }
}

fn disk(error: &StoreError) -> PlacementError {
    PlacementError::Disk(error.to_string())
}
