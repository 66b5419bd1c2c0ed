//! Errors as gRPC statuses, in the classes that containerd's `errdefs` reads back from them.

use tonic::{Code, Status};

use super::filters::FilterError;
use crate::store::StoreError;

/// Why a remote `Prepare` could be neither fulfilled nor left to the ordinary way: containerd fails the pull with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// The class the caller sees.
    pub class: RemoteErrorClass,
    /// A lower-case fragment that names image, layer, host and cause.
    pub message: String,
}

/// The classes of a [`RemoteError`]; containerd 1.6 shows those it does not know as "unknown" with the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteErrorClass {
    /// The image or layer does not exist in the registry.
    NotFound,
    /// The registry cannot be reached, or the work goes on and a retry collects it.
    Unavailable,
    /// The registry wants credentials it was not given.
    Unauthenticated,
    /// The registry refuses these credentials.
    PermissionDenied,
    /// The image is malformed.
    InvalidArgument,
    /// A limit or a full disk.
    ResourceExhausted,
    /// The content does not match its digest.
    DataLoss,
    /// The pull was cancelled.
    Cancelled,
    /// Too much time passed.
    DeadlineExceeded,
    /// Anything else.
    Internal,
}

impl From<RemoteError> for Status {
    fn from(error: RemoteError) -> Self {
        let code = match error.class {
            RemoteErrorClass::NotFound => Code::NotFound,
            RemoteErrorClass::Unavailable => Code::Unavailable,
            RemoteErrorClass::Unauthenticated => Code::Unauthenticated,
            RemoteErrorClass::PermissionDenied => Code::PermissionDenied,
            RemoteErrorClass::InvalidArgument => Code::InvalidArgument,
            RemoteErrorClass::ResourceExhausted => Code::ResourceExhausted,
            RemoteErrorClass::DataLoss => Code::DataLoss,
            RemoteErrorClass::Cancelled => Code::Cancelled,
            RemoteErrorClass::DeadlineExceeded => Code::DeadlineExceeded,
            RemoteErrorClass::Internal => Code::Internal,
        };
        Self::new(code, error.message)
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NotFound(_) => Code::NotFound,
            StoreError::AlreadyExists(_) => Code::AlreadyExists,
            StoreError::InvalidArgument(_) => Code::InvalidArgument,
            StoreError::FailedPrecondition(_) => Code::FailedPrecondition,
            // What Go answers for an error outside errdefs.
            StoreError::StagedGone(_)
            | StoreError::Io { .. }
            | StoreError::Metadata { .. }
            | StoreError::Damaged { .. }
            | StoreError::NewerSchema { .. } => {
                tracing::error!(%error, "the snapshot store failed");
                Code::Unknown
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<FilterError> for Status {
    fn from(error: FilterError) -> Self {
        Self::invalid_argument(format!("{error}: invalid argument"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_the_store_has_containerd_s_code_and_ending() {
        let text = || "snapshot \"x\"".to_owned();
        let table = [
            (StoreError::NotFound(text()), Code::NotFound, ": not found"),
            (
                StoreError::AlreadyExists(text()),
                Code::AlreadyExists,
                ": already exists",
            ),
            (
                StoreError::InvalidArgument(text()),
                Code::InvalidArgument,
                ": invalid argument",
            ),
            (
                StoreError::FailedPrecondition(text()),
                Code::FailedPrecondition,
                ": failed precondition",
            ),
        ];
        for (error, code, ending) in table {
            let status = Status::from(error);
            assert_eq!(status.code(), code);
            assert!(status.message().ends_with(ending), "{}", status.message());
        }
    }
}
