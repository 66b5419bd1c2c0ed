//! Why a pull of the bench failed.

use std::io;

use crate::cri::CriError;
use crate::layout::LayoutError;
use crate::processes::ProcessError;
use crate::timeline::TimelineError;
use crate::tree::TreeError;

/// Why a pull could not be made or judged; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A process failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The image's layout cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The pulled trees cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A pull by CRI failed.
    #[error("{source}\ncontainerd's log ends with:\n{containerd}\n{snapshotter}")]
    Cri {
        /// The answer.
        source: CriError,
        /// The end of containerd's log.
        containerd: String,
        /// The end of the snapshotter's log, if there is one.
        snapshotter: String,
    },
    /// The pull command's result is not what it promises.
    #[error("understand the result of `pull --json`: {source}\n{text}")]
    Result {
        /// The cause.
        source: serde_json::Error,
        /// What it wrote, cut.
        text: String,
    },
    /// The pull command made another tree than it says.
    #[error(
        "believe the result of `pull --json`: it says tree_sha256 {told}, its folders have {found}"
    )]
    TreeDigest {
        /// What it printed.
        told: String,
        /// What was read from the folders and their mount.
        found: String,
    },
    /// The recorded pull cannot be read.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
    /// The registry's profile cannot be read.
    #[error(transparent)]
    Profile(#[from] parapull_sim::preset::PresetFileError),
    /// Bytes written could not be counted.
    #[error("count the bytes written: {0}")]
    Written(#[source] io::Error),
}
