//! Why a pull of the bench failed.

use std::{fmt, io};

use crate::cri::CriError;
use crate::layout::LayoutError;
use crate::processes::ProcessError;
use crate::timeline::TimelineError;
use crate::tree::TreeError;

/// The ends of the logs of the daemons that failed to pull.
#[derive(Debug)]
pub struct Logs {
    /// containerd's.
    pub containerd: String,
    /// The snapshotter's, empty without one.
    pub snapshotter: String,
}

impl fmt::Display for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "containerd's log ends with:\n{}", self.containerd)?;
        if self.snapshotter.is_empty() {
            return Ok(());
        }
        write!(f, "\nthe snapshotter's with:\n{}", self.snapshotter)
    }
}

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
    #[error("{cause}\n{logs}")]
    Cri {
        /// The answer.
        cause: CriError,
        /// What the daemons said.
        logs: Box<Logs>,
    },
    /// A pull by `ctr` or by our own client failed.
    #[error("{cause}\n{logs}")]
    Client {
        /// Its complaint.
        cause: ProcessError,
        /// What the daemons said.
        logs: Box<Logs>,
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
