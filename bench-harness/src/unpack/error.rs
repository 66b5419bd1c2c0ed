//! Why unpacking could not be measured.

use std::io;
use std::path::{Path, PathBuf};

use parapull_snapshotter::unpack::UnpackError;

use crate::processes::ProcessError;
use crate::report::PlotError;

/// Why unpacking could not be measured; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum UnpackBenchError {
    /// A program could not be found, started, or failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file or a file system failed.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// We could not unpack.
    #[error("unpack {path}: {source}", path = path.display())]
    Unpack {
        /// The layer.
        path: PathBuf,
        /// The cause.
        source: UnpackError,
    },
    /// Somebody made something else than asked for.
    #[error("believe {who}: {why}")]
    Wrong {
        /// Whom.
        who: String,
        /// Why not.
        why: String,
    },
    /// The picture failed.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

impl UnpackBenchError {
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
