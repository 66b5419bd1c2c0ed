//! Where layers are unpacked and what linking one means: in a snapshot store, or in a plain directory.

use std::io;
use std::path::{Path, PathBuf};

use super::kept::KeptLayer;
use crate::unpack::Staged;

/// The place layers end up in. Its methods may block; the driver calls them from threads that may.
pub trait Placement: Send + Sync + 'static {
    /// What is known of one place: which layer, over which parent, for whom.
    type Place: Clone + Send + Sync + 'static;

    /// Where a layer of this name is unpacked, on the file system layers are linked in; nothing is made. Names are used once.
    fn staging(&self, name: &str) -> PathBuf;

    /// Makes that directory, or leaves it absent.
    ///
    /// # Errors
    /// When it cannot be made.
    fn stage(&self, directory: &Path) -> io::Result<()>;

    /// Notes that a staged tree is finished and verified, so that a later run of the process may find it.
    ///
    /// # Errors
    /// When the note cannot be written.
    fn keep(&self, layer: &KeptLayer) -> io::Result<()>;

    /// The trees that an earlier run of the process noted. To be asked before anything is staged.
    ///
    /// # Errors
    /// When they cannot be looked for.
    fn kept(&self) -> io::Result<Vec<KeptLayer>>;

    /// Removes a staging directory and all that is in it.
    ///
    /// # Errors
    /// When something of it remains.
    fn discard(&self, directory: &Path) -> io::Result<()>;

    /// The `fs` directories below a place, the topmost first.
    ///
    /// # Errors
    /// When a parent is gone.
    fn lowers(&self, place: &Self::Place) -> Result<Vec<PathBuf>, PlacementError>;

    /// Puts a staged tree into its place, whole or not at all. Answers where the tree lies now, if others may copy it
    /// from there.
    ///
    /// # Errors
    /// See [`PlacementError`]; the staged tree is intact after any of them.
    fn link(&self, place: &Self::Place, staged: &Staged)
    -> Result<Option<PathBuf>, PlacementError>;

    /// Takes for a place what lies there already, over the same parents.
    ///
    /// # Errors
    /// `SourceGone` when nothing does.
    fn link_existing(&self, place: &Self::Place) -> Result<(), PlacementError>;

    /// A directory for compressed bytes, on the file system that is to pay for them.
    fn spool(&self) -> &Path;
}

/// Why a layer could not be put into its place.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// Its tree depends on its parents and must be unpacked over them.
    #[error("the layer must be unpacked over its parents: {0}")]
    NeedsParents(String),
    /// The staged tree is gone.
    #[error("the unpacked layer is gone: {0}")]
    SourceGone(String),
    /// The disk or the store refused.
    #[error("{0}")]
    Disk(String),
}
