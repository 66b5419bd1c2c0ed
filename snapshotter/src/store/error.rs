//! What can go wrong in the store, in the classes that containerd tells apart.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the snapshot store.
///
/// The first four classes are containerd's `errdefs` of the same names; their texts end with the class as containerd's do, because clients
/// cut that ending off (`errdefs.FromGRPC`) and because its conformance suite matches on them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The snapshot, or a parent it names, does not exist.
    #[error("{0}: not found")]
    NotFound(String),
    /// The key or name is taken.
    #[error("{0}: already exists")]
    AlreadyExists(String),
    /// The request contradicts itself or names a field that cannot be changed.
    #[error("{0}: invalid argument")]
    InvalidArgument(String),
    /// The snapshot is not in a state that allows the operation.
    #[error("{0}: failed precondition")]
    FailedPrecondition(String),
    /// The staged tree that was to be committed is not there.
    #[error("staged tree {} is gone", .0.display())]
    StagedGone(PathBuf),
    /// A file operation failed.
    #[error("failed to {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The metadata database failed.
    #[error("failed to {action} the snapshot metadata: {source}")]
    Metadata {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the database answered.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A metadata record cannot be understood.
    #[error("snapshot metadata of {name:?} is damaged: {reason}")]
    Damaged {
        /// The record's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The metadata was written by a newer version.
    #[error(
        "snapshot metadata has schema {found}, this version reads up to {known}; use the newer version or an empty root"
    )]
    NewerSchema {
        /// The schema found.
        found: u64,
        /// The newest schema this version reads.
        known: u64,
    },
}

impl StoreError {
    /// Puts `context` before the text of the four classes; other errors name their place already.
    pub(super) fn context(self, context: &str) -> Self {
        let join = |text: String| format!("{context}: {text}");
        match self {
            Self::NotFound(text) => Self::NotFound(join(text)),
            Self::AlreadyExists(text) => Self::AlreadyExists(join(text)),
            Self::InvalidArgument(text) => Self::InvalidArgument(join(text)),
            Self::FailedPrecondition(text) => Self::FailedPrecondition(join(text)),
            other @ (Self::StagedGone(_)
            | Self::Io { .. }
            | Self::Metadata { .. }
            | Self::Damaged { .. }
            | Self::NewerSchema { .. }) => other,
        }
    }

    /// For `map_err`: an IO error with what was tried and where.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source: source.into(),
        }
    }

    /// For `map_err`: a database error with what was tried.
    pub(super) fn metadata<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        action: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Metadata {
            action,
            source: source.into(),
        }
    }
}

/// The result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
