//! Why a tree could not be read.

use std::io;
use std::path::PathBuf;

use crate::cri::CriError;
use crate::layout::LayoutError;
use crate::processes::ProcessError;

use super::ScanError;

/// Why a tree could not be read; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A tree cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A folder of layers cannot be read.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted, such as "read".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The merged view cannot be mounted.
    #[error("mount {layers} layers on {path}: {source}", path = path.display())]
    Mount {
        /// Number of layers.
        layers: usize,
        /// The mount point.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// containerd's answer about a snapshot cannot be understood.
    #[error("find the layers of {image}: {reason}")]
    Snapshots {
        /// The image.
        image: String,
        /// What is missing or odd.
        reason: String,
    },
    /// The image's own description cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// `ctr` failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// CRI failed.
    #[error(transparent)]
    Cri(#[from] CriError),
}

impl TreeError {
    /// Wraps an I/O error with what was attempted on which path.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::File {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}
