//! What callers ask of the driver and what they get back.

use std::time::Duration;

use parapull_engine::{ImageId, Limits, Outcome, PullStats, Snapshot};
use tokio::sync::oneshot;

use super::failure::PullError;
use super::local::LocalBlobs;
use crate::digest::Digest;
use crate::image::{Image, Reference};
use crate::registry::{FetchError, Registry};

/// An image to pull.
#[derive(Clone)]
pub struct PullRequest {
    pub(super) image: Image,
    pub(super) registry: Registry,
    pub(super) first: usize,
    /// So many layers from `first` on lie in place already, for somebody else.
    pub(super) in_place: usize,
    /// What of it containerd has.
    pub(super) local: Option<LocalBlobs>,
    /// The hosts its blobs may be read from, in the order of the engine's sources.
    pub(super) hosts: Vec<String>,
}

impl PullRequest {
    /// Asks for `image` from its layer `first` upward (those below are linked already), read with `registry`.
    ///
    /// # Errors
    /// When the hosts that serve it cannot be named: a `hosts.toml` is unusable.
    pub fn new(image: Image, registry: Registry, first: usize) -> Result<Self, FetchError> {
        let hosts = registry.sources(&image.reference)?;
        Ok(Self {
            image,
            registry,
            first,
            in_place: 0,
            local: None,
            hosts,
        })
    }

    /// Says that the lowest `count` layers asked for were found in place, over the right parents: they are not fetched
    /// unless they turn out to be gone when their turn comes.
    #[must_use]
    pub fn with_in_place(mut self, count: usize) -> Self {
        self.in_place = count;
        self
    }

    /// Says which of its blobs are on this node: they are read from there, and fetched if they turn out to be gone or wrong.
    #[must_use]
    pub fn with_local_blobs(mut self, local: Option<LocalBlobs>) -> Self {
        self.local = local;
        self
    }
}

/// How a pull went, layer by layer.
#[derive(Clone, Debug)]
pub struct PullReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, when it failed.
    pub error: Option<PullError>,
    /// Whether it failed while nobody waited; the next caller within [`super::FAILURE_TOLD_WITHIN`] is told.
    pub unheard: bool,
    /// Requests and bytes.
    pub stats: PullStats,
    /// The layers wanted, bottom first.
    pub layers: Vec<LayerReport>,
}

/// How one layer went.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the tar stream.
    pub diff_id: Digest,
    /// Bytes of the blob.
    pub compressed_bytes: u64,
    /// Bytes of the tar stream.
    pub uncompressed_bytes: u64,
    /// Entries of the tar stream.
    pub entries: u64,
    /// Bytes of file content written.
    pub bytes_written: u64,
    /// From the first request to the last byte.
    pub fetch: Duration,
    /// From the lane's start to its end.
    pub unpack: Duration,
}

/// What the driver is doing, with the names the engine does not know.
#[derive(Clone, Debug)]
pub struct Status {
    /// The engine's picture.
    pub snapshot: Snapshot,
    /// Reference and layer digests of each image of it.
    pub images: Vec<(ImageId, Reference, Vec<Digest>)>,
}

/// A message to the driver.
pub(super) enum Command<P> {
    Request {
        request: Box<PullRequest>,
        started: oneshot::Sender<ImageId>,
        finished: oneshot::Sender<PullReport>,
    },
    Await {
        image: ImageId,
        index: u32,
        place: P,
        in_chain: bool,
        ready: oneshot::Sender<Result<(), PullError>>,
    },
    Cancel {
        image: ImageId,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    Limits(Limits),
    Shutdown,
}
