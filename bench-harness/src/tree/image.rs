//! An unpacked image: its layers' trees and their merged view.

use std::path::{Path, PathBuf};

use parapull_snapshotter::tree::image_sha256;

use super::{Difference, Entry, Kind, MergedView, Tree, TreeError, diff, scan};
use crate::layout::LayerContents;

/// The trees of one pulled image, with the times that do not count forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTree {
    /// Each layer in overlay form, bottom first.
    pub layers: Vec<Tree>,
    /// What a container sees.
    pub merged: Tree,
}

impl ImageTree {
    /// Reads the layer folders `layers` (bottom first) and their merged view, mounted on the folder `mount_point`.
    ///
    /// `contents` tells for each layer which directories have an entry of their own.
    ///
    /// # Errors
    /// When a tree cannot be read or mounted, or there is not one content list per layer.
    pub fn read(
        layers: &[PathBuf],
        contents: &[LayerContents],
        mount_point: &Path,
    ) -> Result<Self, TreeError> {
        Self::read_above(layers, contents, mount_point, |_| 0)
    }

    /// As [`ImageTree::read`], for the folders of `parapull-snapshotter pull`: its mounts end at the topmost layer whose
    /// root hides all below, which the kernel would not do by itself.
    ///
    /// # Errors
    /// As [`ImageTree::read`].
    pub fn read_pulled(
        layers: &[PathBuf],
        contents: &[LayerContents],
        mount_point: &Path,
    ) -> Result<Self, TreeError> {
        Self::read_above(layers, contents, mount_point, |trees| {
            let hides = |tree: &Tree| tree.entries.get(&b""[..]).is_some_and(Entry::is_opaque);
            trees.iter().rposition(hides).unwrap_or(0)
        })
    }

    /// Mounts the layers from the one `lowest` names upward.
    fn read_above(
        layers: &[PathBuf],
        contents: &[LayerContents],
        mount_point: &Path,
        lowest: impl Fn(&[Tree]) -> usize,
    ) -> Result<Self, TreeError> {
        if layers.len() != contents.len() {
            return Err(TreeError::Snapshots {
                image: mount_point.display().to_string(),
                reason: format!(
                    "{} layer folders for {} layers",
                    layers.len(),
                    contents.len()
                ),
            });
        }
        let mut trees = Vec::with_capacity(layers.len());
        for (layer, contents) in layers.iter().zip(contents) {
            let mut tree = scan(layer)?;
            tree.forget_times(&contents.directories);
            trees.push(tree);
        }
        let view = MergedView::mount(&layers[lowest(&trees)..], mount_point)?;
        let mut merged = scan(view.path())?;
        drop(view);
        forget_merged_times(&mut merged, &trees);
        Ok(Self {
            layers: trees,
            merged,
        })
    }

    /// `tree_sha256` as reports carry it: layers and merged view in one digest.
    pub fn sha256(&self) -> String {
        image_sha256(&self.layers, &self.merged)
    }

    /// Every difference to `other`, each with the layer's number (from 0 = bottom) or `merged` before its path.
    pub fn diff(&self, other: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        if self.layers.len() != other.layers.len() {
            differences.push(Difference {
                path: "image".into(),
                what: format!("{} layers ≠ {}", self.layers.len(), other.layers.len()),
            });
        }
        for (index, (left, right)) in self.layers.iter().zip(&other.layers).enumerate() {
            differences.extend(
                diff(left, right)
                    .into_iter()
                    .map(|found| within(&format!("layer {index}"), found)),
            );
        }
        differences.extend(
            diff(&self.merged, &other.merged)
                .into_iter()
                .map(|found| within("merged", found)),
        );
        differences
    }
}

/// Forgets the time of a merged directory when the topmost layer that has it forgot its own: that one is what the
/// kernel shows. A whiteout is seen only where a single layer is mounted, and has no time there either.
fn forget_merged_times(merged: &mut Tree, layers: &[Tree]) {
    for (path, entry) in &mut merged.entries {
        if entry.is_whiteout() {
            entry.mtime_ns = None;
        }
        if entry.kind != Kind::Directory {
            continue;
        }
        let top = layers
            .iter()
            .rev()
            .find_map(|layer| layer.entries.get(path));
        if path.is_empty() || top.is_none_or(|top| top.mtime_ns.is_none()) {
            entry.mtime_ns = None;
        }
    }
}

fn within(part: &str, difference: Difference) -> Difference {
    Difference {
        path: format!("{part} {}", difference.path),
        ..difference
    }
}
