//! Pulls on containerd's behalf: the first `Prepare` of an image starts all its layers, each later one collects its own.
//!
//! containerd asks one layer at a time, bottom up, so what a call starts outlives it: the pull is the image's, callers come
//! and go. An image that cannot be pulled here at all (an unknown kind of layer, a rebased call) is left to containerd, for
//! all of its layers: it would fetch everything above such a layer itself.

mod image_source;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parapull_engine::ImageId;
use tokio::sync::{OnceCell, watch};

use crate::digest::Digest;
use crate::driver::{Driver, FAILURE_TOLD_WITHIN, PullError, PullRequest};
use crate::grpc::{Remote, RemoteError, RemoteErrorClass, RemoteOutcome, RemotePrepare};
use crate::image::Image;
use crate::store::Store;
use crate::unpack::Encoding;

pub use image_source::ImageSource;
pub use snapshots::{SnapshotPlace, SnapshotPlacement};

/// Answers the `Prepare` calls that carry the labels of a pull.
pub struct Pulls {
    driver: Driver<SnapshotPlacement>,
    images: ImageSource,
    store: Store,
    enabled: bool,
    jobs: Mutex<BTreeMap<JobKey, Arc<Job>>>,
    stopping: watch::Sender<bool>,
}

/// What makes two calls belong to one pull.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct JobKey {
    namespace: String,
    manifest: Digest,
}

/// One image being pulled, or left to containerd.
#[derive(Default)]
struct Job {
    started: OnceCell<Started>,
}

#[derive(Clone, Debug)]
enum Started {
    Pulling {
        image: ImageId,
        /// The chain id of every layer, bottom first.
        chains: Vec<Digest>,
        /// Index of the first layer of the request.
        first: usize,
    },
    /// Left to containerd, and why; for all of its layers, since none of them can be unpacked here.
    Left(String),
    /// Left to containerd because of how it asked; it may ask otherwise the next time.
    Refused(RemoteOutcome),
}

impl Pulls {
    /// Pulls with this driver, which links into `store`, what `images` can name; when not `enabled`, everything is left to
    /// containerd.
    pub fn new(
        driver: Driver<SnapshotPlacement>,
        images: ImageSource,
        store: Store,
        enabled: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            driver,
            images,
            store,
            enabled,
            jobs: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Ends every call that waits, and answers later ones alike: the daemon stops, whatever a registry still owes them.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    async fn prepare(self: &Arc<Self>, call: RemotePrepare) -> Result<RemoteOutcome, RemoteError> {
        if !self.enabled {
            return Ok(RemoteOutcome::Fallback);
        }
        if call
            .request
            .is_rebased(call.parent.as_deref().unwrap_or_default())
        {
            return Ok(rebased(&call));
        }
        let key = JobKey {
            namespace: call.namespace.clone(),
            manifest: call.request.manifest_digest,
        };
        // A pull that was given up between two calls is started once more, for the layers that are left. Of one that failed
        // meanwhile the first call hears why, and the next begins anew.
        for _ in 0..2 {
            if let Some(outcome) = self.try_prepare(&call, &key).await? {
                return Ok(outcome);
            }
        }
        Err(remote_error(&call, &PullError::cancelled()))
    }

    /// Joins or starts the image's pull and waits for the layer; nothing, when the pull ended without it.
    async fn try_prepare(
        self: &Arc<Self>,
        call: &RemotePrepare,
        key: &JobKey,
    ) -> Result<Option<RemoteOutcome>, RemoteError> {
        let job = Arc::clone(self.lock().entry(key.clone()).or_default());
        let started = match job.started.get_or_try_init(|| self.start(call, key)).await {
            Ok(started) => started.clone(),
            Err(error) => {
                self.forget(key, &job);
                return Err(error);
            }
        };
        let (image, chains, first) = match started {
            Started::Left(reason) => {
                tracing::info!(image = %call.request.image_ref, %reason, "left to containerd");
                return Ok(Some(RemoteOutcome::Fallback));
            }
            Started::Refused(outcome) => {
                self.forget(key, &job);
                return Ok(Some(outcome));
            }
            Started::Pulling {
                image,
                chains,
                first,
            } => (image, chains, first),
        };
        if is_rebased(call, &chains) {
            return Ok(Some(rebased(call)));
        }
        let position = chains
            .iter()
            .position(|chain| *chain == call.request.snapshot_ref);
        let Some(position) = position else {
            return Ok(Some(RemoteOutcome::Fallback));
        };
        let collected = match position.checked_sub(first) {
            Some(index) => self.collect(call, image, index).await,
            None => Ok(false),
        };
        match collected {
            Ok(true) => Ok(Some(RemoteOutcome::Committed)),
            Ok(false) => {
                self.start_over(call, key, &job, image).await?;
                Ok(None)
            }
            Err(error) => {
                self.forget(key, &job);
                if error.is_cancelled() {
                    Ok(None)
                } else {
                    Err(remote_error(call, &error))
                }
            }
        }
    }

    /// Waits for the layer a call is about; false when this pull cannot serve it and another one could.
    async fn collect(
        &self,
        call: &RemotePrepare,
        image: ImageId,
        index: usize,
    ) -> Result<bool, PullError> {
        let place = SnapshotPlace {
            namespace: call.namespace.clone(),
            parent: call.parent.clone(),
            snapshot_ref: call.request.snapshot_ref,
            labels: call.labels.clone(),
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        match self.driver.await_layer_in_chain(image, index, place).await {
            Err(error) if error.is_overtaken() => return Ok(false),
            outcome => outcome?,
        }
        // containerd's garbage collector may have taken a layer that this pull linked before.
        let found = self
            .store
            .find_committed(&call.request.snapshot_ref, call.parent.as_deref());
        Ok(found.is_ok_and(|found| found.is_some()))
    }

    /// Begins a new pull at the layer asked for and ends the old one; what both want goes on.
    async fn start_over(
        self: &Arc<Self>,
        call: &RemotePrepare,
        key: &JobKey,
        old: &Arc<Job>,
        old_image: ImageId,
    ) -> Result<(), RemoteError> {
        let new = Arc::new(Job::default());
        new.started
            .get_or_try_init(|| self.start(call, key))
            .await?;
        {
            let mut jobs = self.lock();
            if jobs.get(key).is_none_or(|known| Arc::ptr_eq(known, old)) {
                jobs.insert(key.clone(), new);
            }
        }
        self.driver.cancel(old_image).await;
        Ok(())
    }

    /// Reads what the image is and starts to pull all of it from this layer upward.
    async fn start(
        self: &Arc<Self>,
        call: &RemotePrepare,
        key: &JobKey,
    ) -> Result<Started, RemoteError> {
        let source = self.images.image(&call.namespace, &call.request).await?;
        let (image, registry, is_local) = (source.image, source.registry, source.is_local);
        if let Some(reason) = unsupported(&image) {
            return Ok(Started::Left(reason));
        }
        let chains = image.chain_ids();
        if is_rebased(call, &chains) {
            return Ok(Started::Refused(rebased(call)));
        }
        let first = chains
            .iter()
            .position(|chain| *chain == call.request.snapshot_ref);
        let Some(first) = first else {
            // Not a layer of the manifest it names.
            return Ok(Started::Refused(RemoteOutcome::Fallback));
        };
        let in_place = self.in_place(call, &chains[first..]);
        let local = match is_local {
            true => {
                let wanted = first + in_place;
                let looked_up = self.images.local_blobs(&call.namespace, &image, wanted);
                Some(looked_up.await)
            }
            false => None,
        };
        let request = PullRequest::new(image, registry, first).map_err(|error| RemoteError {
            class: RemoteErrorClass::Unavailable,
            message: format!("{}: {error}", call.request.image_ref),
        })?;
        let request = request.with_in_place(in_place).with_local_blobs(local);
        let pull = self
            .driver
            .pull(request)
            .await
            .map_err(|error| remote_error(call, &error))?;
        let id = pull.image;
        let (pulls, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            let report = pull.finished().await;
            tracing::info!(
                manifest = %key.manifest,
                outcome = ?report.outcome,
                bytes_fetched = report.stats.bytes_fetched,
                bytes_local = report.stats.bytes_local,
                "pull finished"
            );
            pulls.store.sync_soon();
            if report.unheard {
                // containerd's next question about the image is answered with it; a pull begun silently instead would
                // have it wait for the same failure once more.
                tokio::time::sleep(FAILURE_TOLD_WITHIN).await;
            }
            pulls.forget_image(&key, id);
        });
        Ok(Started::Pulling {
            image: id,
            chains,
            first,
        })
    }

    /// How many layers from the one asked for upward are committed already: for another namespace, or by an image that
    /// containerd has forgotten and not yet cleaned up after.
    fn in_place(&self, call: &RemotePrepare, chains: &[Digest]) -> usize {
        let mut parent = call.parent.clone();
        let mut count = 0;
        for chain in chains {
            let Ok(Some(found)) = self.store.find_committed(chain, parent.as_deref()) else {
                break;
            };
            parent = Some(found.name);
            count += 1;
        }
        count
    }

    fn forget(&self, key: &JobKey, job: &Arc<Job>) {
        let mut jobs = self.lock();
        if jobs.get(key).is_some_and(|known| Arc::ptr_eq(known, job)) {
            jobs.remove(key);
        }
    }

    fn forget_image(&self, key: &JobKey, id: ImageId) {
        let mut jobs = self.lock();
        let is_it = jobs.get(key).and_then(|job| job.started.get()).is_some_and(
            |started| matches!(started, Started::Pulling { image, .. } if *image == id),
        );
        if is_it {
            jobs.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobKey, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Remote for SharedPulls {
    async fn prepare_remote(&self, request: RemotePrepare) -> Result<RemoteOutcome, RemoteError> {
        let mut stopping = self.0.stopping.subscribe();
        let image_ref = request.request.image_ref.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => Err(RemoteError {
                class: RemoteErrorClass::Unavailable,
                message: format!("{image_ref}: the snapshotter is stopping; ask again"),
            }),
            outcome = self.0.prepare(request) => outcome,
        }
    }
}

/// [`Pulls`] as the snapshots service takes it.
#[derive(Clone)]
pub struct SharedPulls(pub Arc<Pulls>);

/// Why an image must be left to containerd, if it must.
fn unsupported(image: &Image) -> Option<String> {
    image
        .layers
        .iter()
        .map(|layer| &layer.descriptor.media_type)
        .find(|media_type| Encoding::of_media_type(media_type).is_none())
        .map(|media_type| format!("layers of type {media_type} cannot be unpacked here"))
}

/// Whether containerd unpacks this layer without its parent, to put it over the parent later (containerd 2.2's parallel
/// unpacking): what we would commit for it could not have the right parent.
fn is_rebased(call: &RemotePrepare, chains: &[Digest]) -> bool {
    call.parent.is_none()
        && chains
            .first()
            .is_some_and(|bottom| *bottom != call.request.snapshot_ref)
}

fn rebased(call: &RemotePrepare) -> RemoteOutcome {
    tracing::warn!(
        image = %call.request.image_ref,
        "containerd rebases layers; remove the capability \"rebase\" from this plugin's configuration"
    );
    RemoteOutcome::FallbackRebased
}

fn remote_error(call: &RemotePrepare, error: &PullError) -> RemoteError {
    let class = match error.kind {
        "auth" => RemoteErrorClass::Unauthenticated,
        "not_found" => RemoteErrorClass::NotFound,
        "network" | "registry" | "rate_limited" => RemoteErrorClass::Unavailable,
        "corrupt" => RemoteErrorClass::DataLoss,
        "bad_image" => RemoteErrorClass::InvalidArgument,
        "disk" => RemoteErrorClass::ResourceExhausted,
        "cancelled" => RemoteErrorClass::Cancelled,
        _ => RemoteErrorClass::Internal,
    };
    RemoteError {
        class,
        message: format!("{}: {error}", call.request.image_ref),
    }
}
