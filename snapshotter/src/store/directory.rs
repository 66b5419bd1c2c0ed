//! An image as plain directories: what `pull --to DIR` makes.
//!
//! `DIR/layers/<nnn>-<digest12>/fs` holds each layer in overlay form, `DIR/manifest.json` the manifest. The manifest is
//! written last, so a directory that has it is complete. Until then everything made can be taken back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::kept::KeptLayer;
use super::placement::{Placement, PlacementError};
use crate::digest::Digest;
use crate::unpack::{FixError, Inherited, Staged};

/// A directory an image is being pulled into.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    staging: PathBuf,
    /// Directories that did not exist before, the root first.
    made: Vec<PathBuf>,
    linked: Mutex<BTreeMap<u32, LinkedLayer>>,
}

/// One layer's place in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryPlace {
    /// 0 = bottom.
    pub index: u32,
    /// Digest of the compressed blob.
    pub digest: Digest,
}

/// A layer that took its place.
#[derive(Clone, Debug)]
pub struct LinkedLayer {
    /// Its tree.
    pub fs: PathBuf,
    /// It hides all layers below.
    pub opaque_root: bool,
    /// Directories of it that have no entry of their own, relative to `fs`.
    pub implied: Vec<PathBuf>,
}

/// What a directory holds before a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or it does not exist.
    Empty,
    /// This very image, complete.
    Complete,
    /// Something else.
    Other,
}

impl Directory {
    /// Looks what is in `root`, which may not exist; `manifest` is the image's.
    ///
    /// # Errors
    /// When it cannot be read or is no directory.
    pub fn look(root: &Path, manifest: &[u8]) -> io::Result<Found> {
        let mut entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Empty),
            Err(error) => return Err(error),
        };
        if entries.next().is_none() {
            return Ok(Found::Empty);
        }
        match fs::read(root.join(MANIFEST)) {
            Ok(found) if found == manifest => Ok(Found::Complete),
            _ => Ok(Found::Other),
        }
    }

    /// Begins to fill `root`, which is empty or does not exist.
    ///
    /// # Errors
    /// When a directory cannot be made, or another pull has begun to fill it; nothing is left then.
    pub fn begin(root: &Path) -> io::Result<Self> {
        let made = missing(root);
        let directory = Self {
            root: root.to_path_buf(),
            staging: root.join(STAGING),
            made,
            linked: Mutex::default(),
        };
        fs::create_dir_all(root)
            .and_then(|()| fs::create_dir(&directory.staging))
            .inspect_err(|_| directory.remove_made())?;
        fs::create_dir(root.join(LAYERS)).inspect_err(|_| {
            let _ = fs::remove_dir(&directory.staging);
            directory.remove_made();
        })?;
        Ok(directory)
    }

    /// Writes the manifest, which makes the directory complete.
    ///
    /// # Errors
    /// When it cannot be written; the caller then takes everything back.
    pub fn complete(&self, manifest: &[u8]) -> io::Result<()> {
        if let Err(error) = fs::remove_dir_all(&self.staging)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let unfinished = self.root.join(MANIFEST_UNFINISHED);
        fs::write(&unfinished, manifest)?;
        fs::rename(unfinished, self.root.join(MANIFEST))
    }

    /// Leaves the file system as it was found.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn take_back(&self) -> io::Result<()> {
        let removed = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        for directory in [&self.staging, &self.root.join(LAYERS)] {
            removed(fs::remove_dir_all(directory))?;
        }
        for file in [MANIFEST, MANIFEST_UNFINISHED] {
            removed(fs::remove_file(self.root.join(file)))?;
        }
        self.remove_made();
        Ok(())
    }

    /// Removes the directories it made, unless others use them as well.
    fn remove_made(&self) {
        for made in &self.made {
            if fs::remove_dir(made).is_err() {
                return;
            }
        }
    }

    /// The `fs` directories to mount, the topmost first: down to the first layer that hides all below it.
    pub fn lower_paths(&self) -> Vec<PathBuf> {
        self.below(u32::MAX)
    }

    /// The layers, bottom first.
    pub fn linked(&self) -> Vec<LinkedLayer> {
        let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        linked.values().cloned().collect()
    }

    fn below(&self, index: u32) -> Vec<PathBuf> {
        let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut paths = Vec::new();
        for (_, layer) in linked.range(..index).rev() {
            paths.push(layer.fs.clone());
            if layer.opaque_root {
                break;
            }
        }
        paths
    }
}

impl Placement for Directory {
    type Place = DirectoryPlace;

    fn staging(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }

    fn stage(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Nothing is kept: a pull that ends early leaves the directory as it was found.
    fn keep(&self, _layer: &KeptLayer) -> io::Result<()> {
        Ok(())
    }

    fn kept(&self) -> io::Result<Vec<KeptLayer>> {
        Ok(Vec::new())
    }

    fn discard(&self, directory: &Path) -> io::Result<()> {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn lowers(&self, place: &DirectoryPlace) -> Result<Vec<PathBuf>, PlacementError> {
        Ok(self.below(place.index))
    }

    fn link(
        &self,
        place: &DirectoryPlace,
        staged: &Staged,
    ) -> Result<Option<PathBuf>, PlacementError> {
        staged
            .fix_implied(&self.below(place.index))
            .map_err(|error| match error {
                FixError::NeedsParents { .. } => PlacementError::NeedsParents(error.to_string()),
                FixError::Disk { .. } => PlacementError::Disk(error.to_string()),
            })?;
        let directory =
            self.root
                .join(LAYERS)
                .join(format!("{:03}-{}", place.index, place.digest.short()));
        let fs = directory.join("fs");
        fs::create_dir(&directory)
            .and_then(|()| fs::rename(&staged.root, &fs))
            .map_err(|error| {
                let _ = fs::remove_dir(&directory);
                PlacementError::Disk(format!("link {}: {error}", directory.display()))
            })?;
        let layer = LinkedLayer {
            fs,
            opaque_root: staged.opaque_root,
            implied: staged
                .implied
                .iter()
                .filter(|implied| implied.inherited == Inherited::Everything)
                .map(|implied| implied.path.clone())
                .collect(),
        };
        self.linked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place.index, layer);
        Ok(None)
    }

    /// A directory takes one image, in which no two places are the same.
    fn link_existing(&self, place: &DirectoryPlace) -> Result<(), PlacementError> {
        Err(PlacementError::SourceGone(format!("layer {}", place.index)))
    }

    fn spool(&self) -> &Path {
        &self.staging
    }
}

/// `path` and its ancestors, as far as they do not exist.
fn missing(path: &Path) -> Vec<PathBuf> {
    path.ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .map(Path::to_path_buf)
        .collect()
}

const LAYERS: &str = "layers";
const MANIFEST: &str = "manifest.json";
const MANIFEST_UNFINISHED: &str = ".manifest.json.unfinished";
const STAGING: &str = ".staging";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_filled_by_one_pull_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("image");
        let first = Directory::begin(&root).unwrap();
        let staged = first.staging("a");
        fs::create_dir(&staged).unwrap();
        let error = Directory::begin(&root).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(staged.is_dir(), "what the first pull staged is gone");
    }

    #[test]
    fn taking_back_spares_what_others_put_beside() {
        let folder = tempfile::tempdir().unwrap();
        let first = Directory::begin(&folder.path().join("new/one")).unwrap();
        let second = Directory::begin(&folder.path().join("new/two")).unwrap();
        first.take_back().unwrap();
        assert!(!folder.path().join("new/one").exists());
        assert!(second.staging("x").parent().unwrap().is_dir());
        second.take_back().unwrap();
        // Whoever made the shared directory found it in use, so it stays; nothing in it does.
        let left = fs::read_dir(folder.path().join("new")).unwrap().count();
        assert_eq!(left, 0);
    }
}
