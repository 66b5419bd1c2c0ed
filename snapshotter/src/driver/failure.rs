//! Why a pull failed, in words for people and kinds for machines.

use std::fmt;

use parapull_engine::{FetchError, LaneError, LayerError};

use crate::digest::Digest;
use crate::registry;
use crate::unpack;

/// What failed in a pull: the layer, where its bytes came from, and the cause.
#[derive(Clone, Debug)]
pub struct PullError {
    /// The kind of `--json` output: `auth`, `not_found`, `rate_limited`, `network`, `registry`, `corrupt`, `bad_image`,
    /// `disk`, `config` or `cancelled`.
    pub kind: &'static str,
    /// Index of the layer in its image and digest of its blob, when one layer is to blame.
    pub layer: Option<(u32, Digest)>,
    /// The host the bytes came from, as `host[:port]`.
    pub host: Option<String>,
    /// The cause, without layer and host.
    pub message: String,
}

/// A cause as it was seen where it happened.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) kind: &'static str,
    pub(super) host: Option<String>,
    pub(super) message: String,
}

impl PullError {
    /// The pull was given up, by its caller or because the process ends.
    pub fn cancelled() -> Self {
        Self {
            kind: CANCELLED,
            layer: None,
            host: None,
            message: "cancelled".into(),
        }
    }

    /// Somebody else committed a layer below, so this pull will never get to the one asked for.
    pub(super) fn overtaken() -> Self {
        Self {
            kind: OVERTAKEN,
            message: "a layer below was committed by another pull".into(),
            ..Self::cancelled()
        }
    }

    /// Whether a new pull, begun at the layer asked for, would serve the caller.
    pub fn is_overtaken(&self) -> bool {
        self.kind == OVERTAKEN
    }

    /// Whether the pull was given up rather than failed.
    pub fn is_cancelled(&self) -> bool {
        self.kind == CANCELLED
    }

    /// Joins what the engine decided with the cause that was noted for the layer.
    ///
    /// `host` is the one the layer was last read from, for causes that were not seen at a host.
    pub(super) fn of_layer(
        index: u32,
        digest: Digest,
        error: LayerError,
        cause: Option<Cause>,
        host: Option<String>,
    ) -> Self {
        if error == LayerError::Cancelled {
            return Self::cancelled();
        }
        let cause = cause.unwrap_or_else(|| Cause::of_decision(error));
        Self {
            kind: cause.kind,
            layer: Some((index, digest)),
            host: cause.host.or(host),
            message: cause.message,
        }
    }
}

impl fmt::Display for PullError {
    /// `[layer <n> <digest12> from <host>: ]<cause>`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.layer, &self.host) {
            (Some((index, digest)), Some(host)) => {
                write!(f, "layer {index} {} from {host}: ", digest.short())?;
            }
            (Some((index, digest)), None) => write!(f, "layer {index} {}: ", digest.short())?,
            (None, Some(host)) => write!(f, "{host}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for PullError {}

impl Cause {
    pub(super) fn of_fetch(error: &registry::FetchError) -> Self {
        Self {
            kind: error.kind(),
            host: Some(error.host().to_owned()),
            message: with_sources(error.cause()),
        }
    }

    pub(super) fn of_lane(error: &unpack::UnpackError) -> Self {
        let kind = match error.class() {
            unpack::Class::Corrupt => "corrupt",
            unpack::Class::BadImage => "bad_image",
            unpack::Class::Disk => "disk",
            unpack::Class::Cancelled => "cancelled",
            unpack::Class::Source | unpack::Class::Defect => "disk",
        };
        Self {
            kind,
            host: None,
            message: with_sources(error),
        }
    }

    /// What the engine found by itself; nobody else saw it.
    fn of_decision(error: LayerError) -> Self {
        let message = match error {
            LayerError::Fetch(FetchError::Stalled) => STALLED.to_owned(),
            LayerError::NoProgress => NO_PROGRESS.to_owned(),
            other => other.to_string(),
        };
        Self {
            kind: kind_of(error),
            host: None,
            message,
        }
    }

    pub(super) fn of_disk(message: String) -> Self {
        Self {
            kind: "disk",
            host: None,
            message,
        }
    }
}

/// The engine's name for a failed request.
pub(super) fn fetch_error(error: &registry::FetchError) -> FetchError {
    use registry::{Cause, Class};
    match error.class() {
        Class::RateLimited => FetchError::RateLimited,
        Class::NotFound => FetchError::NotFound,
        Class::Auth => FetchError::Unauthorized,
        Class::Degrade => FetchError::RangeUnusable,
        Class::Corrupt | Class::Fatal => FetchError::Protocol,
        Class::Retry => match error.cause() {
            Cause::Status { .. } if error.retry_after().is_some() => FetchError::RateLimited,
            Cause::Status { .. } => FetchError::Server,
            _ => FetchError::Connection,
        },
    }
}

/// An error's text with those of its sources, which hold the reason more often than not.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

const fn kind_of(error: LayerError) -> &'static str {
    match error {
        LayerError::Fetch(error) => match error {
            FetchError::RateLimited => "rate_limited",
            FetchError::NotFound => "not_found",
            FetchError::Unauthorized => "auth",
            FetchError::Connection | FetchError::Stalled => "network",
            FetchError::Server | FetchError::RangeUnusable | FetchError::Protocol => "registry",
        },
        LayerError::Lane(LaneError::Corrupt) => "corrupt",
        LayerError::Lane(LaneError::BadImage) => "bad_image",
        LayerError::NoProgress => "network",
        LayerError::Lane(LaneError::Disk) | LayerError::Link(_) | LayerError::SpoolTooSmall => {
            "disk"
        }
        LayerError::Cancelled => "cancelled",
    }
}

/// The kind of a pull that was given up.
pub(super) const CANCELLED: &str = "cancelled";

/// The kind of a pull that cannot get to a layer; it never leaves the daemon.
const OVERTAKEN: &str = "overtaken";

const NO_PROGRESS: &str = "nothing of the whole image came for as long as progress_timeout allows";

const STALLED: &str =
    "no progress: less than 10 KiB/s for as long as stall_timeout allows, on every attempt";
