//! The pulls under way, as their callers see them: who waits for what, and what is to be reported.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parapull_engine::{BlobId, Event, ImageId, LayerError, LayerId, Place};
use tokio::sync::oneshot;

use super::failure::{CANCELLED, Cause, PullError};
use super::request::{LayerReport, PullReport, PullRequest};
use crate::digest::Digest;
use crate::image::Reference;

/// Every pull under way.
pub(super) struct Pulls<P> {
    pulls: BTreeMap<ImageId, PullState<P>>,
    clocks: BTreeMap<LayerId, LayerClock>,
    /// The last cause seen for each layer, and the error it was told to the engine as.
    causes: BTreeMap<LayerId, (LayerError, Cause)>,
    /// Why pulls failed that ended while nobody waited, until the next caller hears it.
    unheard: BTreeMap<ImageId, (tokio::time::Instant, PullError)>,
}

struct PullState<P> {
    reference: Reference,
    first: u32,
    layers: Vec<PulledLayer<P>>,
    error: Option<PullError>,
    /// Whether a caller has been told the error.
    heard: bool,
    finished: Option<oneshot::Sender<PullReport>>,
}

struct PulledLayer<P> {
    layer: LayerId,
    blob: BlobId,
    digest: Digest,
    diff_id: Digest,
    compressed_bytes: u64,
    place: Option<P>,
    waiting: Vec<oneshot::Sender<Result<(), PullError>>>,
    linked: bool,
}

/// When things happened to a layer, and what came of it.
#[derive(Clone, Debug, Default)]
struct LayerClock {
    /// Whom it was last asked from.
    host: Option<String>,
    fetch_began: Option<Instant>,
    fetch_ended: Option<Instant>,
    unpack_began: Option<Instant>,
    unpack: Duration,
    uncompressed_bytes: u64,
    entries: u64,
    bytes_written: u64,
}

impl<P> PullState<P> {
    /// What a caller of a layer can be told at once, if anything.
    fn answer(&self, index: usize, in_chain: bool) -> Option<Result<(), PullError>> {
        if let Some(error) = &self.error {
            return Some(Err(error.clone()));
        }
        let Some(layer) = self.layers.get(index) else {
            return Some(Err(PullError::cancelled()));
        };
        if layer.linked {
            return Some(Ok(()));
        }
        let left_behind = |layer: &PulledLayer<P>| !layer.linked && layer.waiting.is_empty();
        let overtaken = in_chain && self.layers[..index].iter().any(left_behind);
        overtaken.then(|| Err(PullError::overtaken()))
    }
}

impl<P: Clone> Pulls<P> {
    pub(super) fn new() -> Self {
        Self {
            pulls: BTreeMap::new(),
            clocks: BTreeMap::new(),
            causes: BTreeMap::new(),
            unheard: BTreeMap::new(),
        }
    }

    pub(super) fn begin(
        &mut self,
        image: ImageId,
        request: &PullRequest,
        ids: &[(BlobId, LayerId)],
        finished: oneshot::Sender<PullReport>,
    ) {
        let layers = request.image.layers[request.first..]
            .iter()
            .zip(ids)
            .map(|(layer, (blob, id))| PulledLayer {
                layer: *id,
                blob: *blob,
                digest: layer.descriptor.digest,
                diff_id: layer.diff_id,
                compressed_bytes: layer.descriptor.size,
                place: None,
                waiting: Vec::new(),
                linked: false,
            })
            .collect();
        let state = PullState {
            reference: request.image.reference.clone(),
            first: u32::try_from(request.first).unwrap_or(u32::MAX),
            layers,
            error: None,
            heard: false,
            finished: Some(finished),
        };
        self.pulls.insert(image, state);
    }

    /// Adds a caller that waits for a layer; false when the answer was given at once, or the caller has gone.
    ///
    /// A caller `in_chain` says that every layer below is committed. If one of them is not linked by this pull, somebody
    /// else committed it, nobody will wait for it here, and this pull would never get to the caller's layer.
    pub(super) fn wait(
        &mut self,
        at: Place,
        place: P,
        in_chain: bool,
        ready: oneshot::Sender<Result<(), PullError>>,
    ) -> bool {
        let answer = match self.pulls.get(&at.image) {
            None => Some(Err(self.take_unheard(at.image))),
            Some(pull) => pull.answer(at.index as usize, in_chain),
        };
        if let Some(answer) = answer {
            let is_failure = answer.as_ref().is_err_and(|error| !error.is_overtaken());
            if ready.send(answer).is_ok()
                && is_failure
                && let Some(pull) = self.pulls.get_mut(&at.image)
            {
                pull.heard = true;
            }
            return false;
        }
        match self.layer_mut(at) {
            Some(layer) if !ready.is_closed() => {
                layer.place = Some(place);
                layer.waiting.push(ready);
                true
            }
            _ => false,
        }
    }

    /// Forgets callers of a layer that have gone; how many there were.
    pub(super) fn leave(&mut self, at: Place) -> usize {
        let Some(layer) = self.layer_mut(at) else {
            return 0;
        };
        let before = layer.waiting.len();
        layer.waiting.retain(|caller| !caller.is_closed());
        before - layer.waiting.len()
    }

    /// What is known of the place a layer is to be linked in.
    pub(super) fn place(&self, at: Place) -> Option<P> {
        self.layer(at)?.place.clone()
    }

    pub(super) fn digest(&self, at: Place) -> Option<Digest> {
        self.layer(at).map(|layer| layer.digest)
    }

    fn layer(&self, at: Place) -> Option<&PulledLayer<P>> {
        self.pulls.get(&at.image)?.layers.get(at.index as usize)
    }

    /// Tells callers what an event means for them. Returns the image that is over, if one is.
    pub(super) fn on_event(&mut self, event: &Event) -> Option<ImageId> {
        match *event {
            Event::LayerReady { place } => {
                if let Some(layer) = self.layer_mut(place) {
                    layer.linked = true;
                    for caller in layer.waiting.drain(..) {
                        let _ = caller.send(Ok(()));
                    }
                }
                None
            }
            Event::LayerFailed { place, error } => {
                let layer = self.layer(place).map(|layer| layer.layer);
                // What an earlier attempt met is not why this one failed.
                let cause = layer
                    .and_then(|layer| self.causes.get(&layer))
                    .filter(|(told, _)| *told == error)
                    .map(|(_, cause)| cause.clone());
                let host = layer.and_then(|layer| self.clocks.get(&layer)?.host.clone());
                self.fail(place, |index, digest| {
                    PullError::of_layer(index, digest, error, cause, host)
                });
                None
            }
            Event::PullFinished {
                image,
                outcome,
                stats,
            } => {
                let pull = self.pulls.remove(&image)?;
                self.keep_unheard(image, &pull);
                let report = PullReport {
                    outcome,
                    stats,
                    layers: pull.layers.iter().map(|layer| self.report(layer)).collect(),
                    error: pull.error,
                    unheard: self.unheard.contains_key(&image),
                };
                if let Some(finished) = pull.finished {
                    let _ = finished.send(report);
                }
                Some(image)
            }
            Event::Degraded { .. }
            | Event::Retrying { .. }
            | Event::LayerKept { .. }
            | Event::Held { .. }
            | Event::NewLife { .. } => None,
        }
    }

    fn fail(&mut self, place: Place, error: impl FnOnce(u32, Digest) -> PullError) {
        let Some(pull) = self.pulls.get_mut(&place.image) else {
            return;
        };
        let first = pull.first;
        let Some(layer) = pull.layers.get_mut(place.index as usize) else {
            return;
        };
        let mut error = error(first + place.index, layer.digest);
        // Its consequences for other layers are told with the cause.
        match &pull.error {
            Some(cause) if error.kind == CANCELLED => error = cause.clone(),
            _ => pull.error = Some(error.clone()),
        }
        for caller in layer.waiting.drain(..) {
            pull.heard |= caller.send(Err(error.clone())).is_ok();
        }
    }

    /// Keeps a failure that nobody waited for.
    fn keep_unheard(&mut self, image: ImageId, pull: &PullState<P>) {
        let now = tokio::time::Instant::now();
        self.unheard
            .retain(|_, (since, _)| now - *since < FAILURE_TOLD_WITHIN);
        if let Some(error) = &pull.error
            && !pull.heard
            && !error.is_cancelled()
        {
            self.unheard.insert(image, (now, error.clone()));
        }
    }

    /// What the first caller of a pull that is over is told.
    fn take_unheard(&mut self, image: ImageId) -> PullError {
        let kept = self.unheard.remove(&image);
        kept.filter(|(since, _)| since.elapsed() < FAILURE_TOLD_WITHIN)
            .map_or_else(PullError::cancelled, |(_, error)| error)
    }

    fn layer_mut(&mut self, at: Place) -> Option<&mut PulledLayer<P>> {
        self.pulls
            .get_mut(&at.image)?
            .layers
            .get_mut(at.index as usize)
    }

    fn report(&self, layer: &PulledLayer<P>) -> LayerReport {
        let clock = self.clocks.get(&layer.layer).cloned().unwrap_or_default();
        let fetch = clock
            .fetch_began
            .zip(clock.fetch_ended)
            .map(|(began, ended)| ended - began);
        LayerReport {
            digest: layer.digest,
            diff_id: layer.diff_id,
            compressed_bytes: layer.compressed_bytes,
            uncompressed_bytes: clock.uncompressed_bytes,
            entries: clock.entries,
            bytes_written: clock.bytes_written,
            fetch: fetch.unwrap_or_default(),
            unpack: clock.unpack,
        }
    }

    pub(super) fn note_cause(&mut self, layer: LayerId, error: LayerError, cause: Cause) {
        self.causes.insert(layer, (error, cause));
    }

    pub(super) fn fetch_began(&mut self, layer: LayerId, host: Option<&String>) {
        let clock = self.clocks.entry(layer).or_default();
        clock.fetch_began.get_or_insert_with(Instant::now);
        clock.host = host.cloned();
    }

    pub(super) fn fetch_ended(&mut self, layer: LayerId) {
        self.clocks.entry(layer).or_default().fetch_ended = Some(Instant::now());
    }

    pub(super) fn unpack_began(&mut self, layer: LayerId) {
        self.clocks.entry(layer).or_default().unpack_began = Some(Instant::now());
    }

    pub(super) fn unpack_ended(
        &mut self,
        layer: LayerId,
        uncompressed_bytes: u64,
        entries: u64,
        bytes_written: u64,
    ) {
        let clock = self.clocks.entry(layer).or_default();
        clock.unpack = clock
            .unpack_began
            .map(|began| began.elapsed())
            .unwrap_or_default();
        (clock.uncompressed_bytes, clock.entries, clock.bytes_written) =
            (uncompressed_bytes, entries, bytes_written);
    }

    /// Forgets what no pull will report.
    pub(super) fn forget_unused(&mut self) {
        let used = |id: &LayerId| {
            self.pulls
                .values()
                .any(|pull| pull.layers.iter().any(|layer| layer.layer == *id))
        };
        let unused: Vec<LayerId> = self
            .clocks
            .keys()
            .chain(self.causes.keys())
            .filter(|id| !used(id))
            .copied()
            .collect();
        for id in unused {
            self.clocks.remove(&id);
            self.causes.remove(&id);
        }
    }

    /// The layer a blob is read for.
    pub(super) fn layer_of(&self, blob: BlobId) -> Option<LayerId> {
        let mut layers = self.pulls.values().flat_map(|pull| &pull.layers);
        layers
            .find(|layer| layer.blob == blob)
            .map(|layer| layer.layer)
    }

    pub(super) fn images(&self) -> Vec<(ImageId, Reference, Vec<Digest>)> {
        self.pulls
            .iter()
            .map(|(id, pull)| {
                let digests = pull.layers.iter().map(|layer| layer.digest).collect();
                (*id, pull.reference.clone(), digests)
            })
            .collect()
    }
}

/// How long a failure is kept that nobody waited for: far longer than containerd takes from one `Prepare` of a pull to the
/// next, and shorter than the 10 s after which kubelet tries a failed pull again.
pub const FAILURE_TOLD_WITHIN: Duration = Duration::from_secs(5);
