//! The driver's loop: one input at a time into the engine, every answer out of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parapull_engine::{
    BlobId, Destination, Engine, Event, Have, ImageId, Input, LayerError, LayerId, OpId, Output,
    Place, PullLayer, Wake,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::Settings;
use super::blobs::BlobStore;
use super::clock::MonotonicClock;
use super::facts::{Fact, Facts};
use super::kept::Kept;
use super::lane::Steering;
use super::names::{LayerName, Names};
use super::placed::Placed;
use super::pulls::Pulls;
use super::recorder::Recorder;
use super::request::{Command, PullReport, PullRequest, Status};
use crate::digest::Digest;
use crate::index::Cache;
use crate::kill_points::passed;
use crate::store::Placement;
use crate::unpack::{Bounds, Staged};

/// A running driver.
pub(super) struct Run<P: Placement> {
    pub(super) engine: Engine,
    pub(super) clock: MonotonicClock,
    pub(super) wake: Option<Wake>,
    pub(super) names: Names,
    pub(super) pulls: Pulls<P::Place>,
    pub(super) blobs: BlobStore,
    pub(super) placement: Arc<P>,
    pub(super) bounds: Bounds,
    pub(super) indexes: Option<Cache>,
    pub(super) sockets: Handle,
    pub(super) destination: Destination,
    pub(super) report_bytes: u64,
    pub(super) fetches: BTreeMap<OpId, FetchControl>,
    pub(super) lanes: BTreeMap<OpId, LaneControl>,
    /// Where layers are being unpacked or lie staged.
    pub(super) directories: BTreeMap<(LayerId, Option<Place>), PathBuf>,
    pub(super) staged: BTreeMap<(LayerId, Option<Place>), Staged>,
    pub(super) placed: Placed,
    /// What an earlier run of the process left for this one.
    pub(super) kept: Kept,
    /// What a link or clone that is under way is about.
    pub(super) links: BTreeMap<OpId, (LayerId, Option<Place>)>,
    pub(super) facts: Facts,
    pub(super) reports: mpsc::Receiver<Fact>,
    pub(super) commands: mpsc::Receiver<Command<P::Place>>,
    pub(super) leavers: mpsc::UnboundedReceiver<(ImageId, u32)>,
    pub(super) recorder: Option<Recorder>,
    pub(super) stopping: bool,
}

pub(super) struct FetchControl {
    /// The layer its figures are reported for.
    pub(super) layer: Option<LayerId>,
    pub(super) granted: watch::Sender<u64>,
    pub(super) cancel: Option<oneshot::Sender<()>>,
}

pub(super) struct LaneControl {
    pub(super) layer: LayerId,
    /// The place whose own tree it makes.
    pub(super) over: Option<Place>,
    pub(super) blob: BlobId,
    pub(super) steering: Arc<Steering>,
}

impl<P: Placement> Run<P> {
    pub(super) fn new(
        settings: Settings<P>,
        commands: mpsc::Receiver<Command<P::Place>>,
        leavers: mpsc::UnboundedReceiver<(ImageId, u32)>,
    ) -> Self {
        let clock = MonotonicClock::start();
        let engine = Engine::new(settings.config, clock.now());
        let (facts, reports) = Facts::channel();
        let mut recorder = settings.recorder;
        if let Some(recorder) = &mut recorder {
            recorder.head(settings.config, engine.next_op());
        }
        let found = settings.placement.kept().unwrap_or_else(|error| {
            tracing::warn!(%error, "what an earlier run unpacked is unpacked again");
            Vec::new()
        });
        Self {
            clock,
            kept: Kept::new(found, settings.config.timing.staging_ttl_ms),
            wake: None,
            names: Names::default(),
            pulls: Pulls::new(),
            blobs: BlobStore::new(settings.placement.spool()),
            placement: settings.placement,
            bounds: settings.bounds,
            indexes: settings.indexes,
            sockets: settings.sockets,
            destination: settings.config.scheduling.destination,
            report_bytes: settings.config.limits.piece_bytes_max() / 2,
            fetches: BTreeMap::new(),
            lanes: BTreeMap::new(),
            directories: BTreeMap::new(),
            staged: BTreeMap::new(),
            placed: Placed::default(),
            links: BTreeMap::new(),
            facts,
            reports,
            commands,
            leavers,
            recorder,
            stopping: false,
            engine,
        }
    }

    /// Serves commands and reports until it is told to stop and nothing is under way.
    pub(super) async fn run(mut self) {
        while !(self.stopping && self.engine.is_idle()) {
            let deadline = self.wake.map(|wake| self.clock.deadline(wake.at));
            tokio::select! {
                Some(fact) = self.reports.recv() => self.on_fact(fact),
                Some((image, index)) = self.leavers.recv() => self.leave(Place { image, index }),
                command = self.commands.recv(), if !self.stopping => match command {
                    Some(command) => self.on_command(command),
                    None => self.stop(),
                },
                () = sleep_until(deadline) => self.feed(Input::TimerReached),
                () = sleep_until(self.kept.expires()) => self.drop_kept(),
            }
        }
    }

    fn on_command(&mut self, command: Command<P::Place>) {
        match command {
            Command::Request {
                request,
                started,
                finished,
            } => self.request(&request, started, finished),
            Command::Await {
                image,
                index,
                place,
                in_chain,
                ready,
            } => {
                if self
                    .pulls
                    .wait(Place { image, index }, place, in_chain, ready)
                {
                    self.feed(Input::LayerAwaited { image, index });
                }
            }
            Command::Cancel { image } => self.feed(Input::PullCancelled { image }),
            Command::Status { reply } => {
                let _ = reply.send(Status {
                    snapshot: self.engine.snapshot(),
                    images: self.pulls.images(),
                });
            }
            Command::Limits(limits) => {
                self.report_bytes = limits.piece_bytes_max() / 2;
                self.feed(Input::LimitsChanged(limits));
            }
            Command::Shutdown => self.stop(),
        }
    }

    fn drop_kept(&mut self) {
        for directory in self.kept.drain() {
            self.discard_directory(directory);
        }
    }

    fn leave(&mut self, at: Place) {
        for _ in 0..self.pulls.leave(at) {
            let Place { image, index } = at;
            self.feed(Input::LayerLeft { image, index });
        }
    }

    fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.feed(Input::ShutdownRequested);
        }
    }

    fn request(
        &mut self,
        request: &PullRequest,
        started: oneshot::Sender<ImageId>,
        finished: oneshot::Sender<PullReport>,
    ) {
        let image = self.names.image();
        let wanted = request.image.layers.iter().enumerate().skip(request.first);
        let ids: Vec<_> = wanted
            .map(|(index, layer)| self.names.layer(image, layer, index == 0, request))
            .collect();
        self.record_names(request, &ids);
        let mut chains = Vec::with_capacity(request.image.layers.len());
        for layer in &request.image.layers {
            let chain = chains
                .last()
                .map_or(layer.diff_id, |below: &Digest| below.chain(&layer.diff_id));
            chains.push(chain);
        }
        let layers = request.image.layers[request.first..]
            .iter()
            .zip(&ids)
            .zip(&chains[request.first..])
            .enumerate()
            .map(|(index, ((layer, (blob, id)), chain))| PullLayer {
                blob: *blob,
                size: layer.descriptor.size,
                layer: *id,
                chain: self.names.chain(image, *chain),
                hosts: self.names.hosts(*blob),
                have: self.have(image, (*blob, *id), index < request.in_place),
            })
            .collect();
        self.pulls.begin(image, request, &ids, finished);
        let _ = started.send(image);
        self.feed(Input::PullRequested(parapull_engine::Pull {
            image,
            layers,
            weight: 1,
        }));
    }

    /// What of a layer is here already.
    fn have(&mut self, image: ImageId, (blob, layer): (BlobId, LayerId), in_place: bool) -> Have {
        let Some(name) = self.names.layer_name(layer) else {
            return Have::Nothing;
        };
        if in_place {
            Have::InPlace
        } else if self.adopt(image, layer, name) {
            Have::Staged
        } else if self.placed.find(name).is_some() {
            Have::Elsewhere
        } else if self
            .names
            .blob(blob)
            .is_some_and(|blob| blob.local.is_some())
        {
            Have::LocalBlob
        } else {
            Have::Nothing
        }
    }

    /// Takes what an earlier run left of a layer, if there is something and the engine does not know the layer yet.
    fn adopt(&mut self, image: ImageId, layer: LayerId, name: LayerName) -> bool {
        let tree = (layer, None);
        if self.staged.contains_key(&tree) || self.names.is_used_beside(image, layer) {
            return false;
        }
        let Some(staged) = self.kept.take(name) else {
            return false;
        };
        tracing::info!(diff_id = %name.diff_id, "a layer was unpacked before the restart");
        if let Some(directory) = staged.root.parent() {
            self.directories.insert(tree, directory.to_path_buf());
        }
        self.staged.insert(tree, staged);
        true
    }

    /// Lets a staged tree lie for the next run, which finds it by the note that its lane made.
    fn leave_staged(&mut self, layer: LayerId) {
        let tree = (layer, None);
        self.staged.remove(&tree);
        self.directories.remove(&tree);
        if let Some(name) = self.names.layer_name(layer) {
            tracing::info!(diff_id = %name.diff_id, "a layer is left for the next start");
        }
    }

    fn record_names(&mut self, request: &PullRequest, ids: &[(BlobId, LayerId)]) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        for (layer, (blob, id)) in request.image.layers[request.first..].iter().zip(ids) {
            recorder.blob(*blob, &layer.descriptor.digest);
            recorder.layer(*id, &layer.diff_id);
        }
    }

    fn on_fact(&mut self, fact: Fact) {
        self.note(&fact);
        self.feed(fact.input);
    }

    /// Keeps what belongs to a fact and is not the engine's business.
    fn note(&mut self, fact: &Fact) {
        let op = match &fact.input {
            Input::RangeFetched { op } | Input::RangeFailed { op, .. } => {
                if let Some(layer) = self.fetches.remove(op).and_then(|fetch| fetch.layer) {
                    self.pulls.fetch_ended(layer);
                    self.note_cause(layer, fact);
                }
                return;
            }
            Input::OpCancelled { op, .. } => {
                self.fetches.remove(op);
                *op
            }
            Input::LaneFinished {
                op,
                produced,
                entries,
            } => {
                if let (Some(lane), Some(staged)) = (self.lanes.get(op), &fact.staged) {
                    self.pulls
                        .unpack_ended(lane.layer, *produced, *entries, staged.data_bytes);
                    self.staged.insert((lane.layer, lane.over), staged.clone());
                    self.blobs.forget_read(lane.blob);
                }
                *op
            }
            Input::LaneFailed { op, .. } => *op,
            Input::Linked { op } => {
                if let Some(tree) = self.links.remove(op) {
                    self.staged.remove(&tree);
                    self.discard(tree);
                    // A tree of a place's own may have been made over its parents.
                    let name = self.names.layer_name(tree.0).filter(|_| tree.1.is_none());
                    if let (Some(name), Some(placed)) = (name, &fact.staged) {
                        self.placed.note(name, placed.clone());
                    }
                }
                return;
            }
            Input::Cloned { op } => {
                if let (Some(tree), Some(staged)) = (self.links.remove(op), &fact.staged) {
                    self.staged.insert(tree, staged.clone());
                }
                return;
            }
            Input::LinkFailed { op, .. } => {
                if let Some(tree) = self.links.remove(op) {
                    self.note_cause(tree.0, fact);
                    // What a clone that failed left of its tree.
                    if !self.staged.contains_key(&tree) {
                        self.discard(tree);
                    }
                }
                return;
            }
            _ => return,
        };
        if let Some(lane) = self.lanes.remove(&op) {
            self.note_cause(lane.layer, fact);
            if fact.staged.is_none() {
                self.discard((lane.layer, lane.over));
            }
        }
    }

    fn note_cause(&mut self, layer: LayerId, fact: &Fact) {
        let error = match fact.input {
            Input::RangeFailed { error, .. } => LayerError::Fetch(error),
            Input::LaneFailed { error, .. } => LayerError::Lane(error),
            Input::LinkFailed { error, .. } => LayerError::Link(error),
            _ => return,
        };
        if let Some(cause) = &fact.cause {
            tracing::debug!(%layer, kind = cause.kind, cause = %cause.message, "an attempt failed");
            self.pulls.note_cause(layer, error, cause.clone());
        }
    }

    /// The law: one input, then every answer.
    fn feed(&mut self, input: Input) {
        let now = self.clock.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.input(now, &input);
        }
        self.engine.handle_input(now, input);
        loop {
            let output = self.engine.poll_output();
            if let Some(recorder) = &mut self.recorder {
                recorder.output(&output);
            }
            match output {
                Output::Action(action) => {
                    passed(|| point("before", &action));
                    self.act(action);
                    passed(|| point("after", &action));
                }
                Output::Event(event) => {
                    passed(|| point("before", &event));
                    self.on_event(&event);
                    passed(|| point("after", &event));
                }
                Output::Idle { wake } => {
                    self.wake = wake;
                    return;
                }
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        tracing::trace!(?event);
        if let Event::LayerKept { layer } = event {
            self.leave_staged(*layer);
        }
        if let Some(image) = self.pulls.on_event(event) {
            let staged = &self.staged;
            self.names
                .forget(image, |layer| staged.contains_key(&(layer, None)));
            self.pulls.forget_unused();
        }
    }
}

/// The name of a moment around an answer of the engine: its kind without its figures.
fn point(when: &str, answer: &dyn std::fmt::Debug) -> String {
    let answer = format!("{answer:?}");
    let kind = answer.split([' ', '(', '{']).next().unwrap_or_default();
    format!("{when} {kind}")
}

/// Sleeps until the deadline, for ever without one.
async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
