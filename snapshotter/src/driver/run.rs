//! The driver's loop: one input at a time into the engine, every answer out of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parapull_engine::{
    Action, BlobId, Destination, Engine, Event, ImageId, Input, LayerError, LayerId, LinkError,
    OpId, Output, Place, Tree, Wake,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::Settings;
use super::blobs::BlobStore;
use super::clock::MonotonicClock;
use super::facts::{Fact, Facts};
use super::failure::Cause;
use super::fetch::{self, FetchOrder};
use super::lane::{self, LaneOrder, Steering};
use super::names::Names;
use super::pulls::Pulls;
use super::recorder::Recorder;
use super::request::{Command, PullReport, PullRequest, Status};
use crate::store::{Placement, PlacementError};
use crate::unpack::{Bounds, Position, Staged};

/// A running driver.
pub(super) struct Run<P: Placement> {
    engine: Engine,
    clock: MonotonicClock,
    wake: Option<Wake>,
    names: Names,
    pulls: Pulls<P::Place>,
    blobs: BlobStore,
    placement: Arc<P>,
    bounds: Bounds,
    sockets: Handle,
    destination: Destination,
    report_bytes: u64,
    fetches: BTreeMap<OpId, FetchControl>,
    lanes: BTreeMap<OpId, LaneControl>,
    /// Where layers are being unpacked or lie staged.
    directories: BTreeMap<(LayerId, Option<Place>), PathBuf>,
    staged: BTreeMap<(LayerId, Option<Place>), Staged>,
    /// What a link or clone that is under way is about.
    links: BTreeMap<OpId, (LayerId, Option<Place>)>,
    facts: Facts,
    reports: mpsc::Receiver<Fact>,
    commands: mpsc::Receiver<Command<P::Place>>,
    leavers: mpsc::UnboundedReceiver<(ImageId, u32)>,
    recorder: Option<Recorder>,
    stopping: bool,
}

struct FetchControl {
    /// The layer its figures are reported for.
    layer: Option<LayerId>,
    granted: watch::Sender<u64>,
    cancel: Option<oneshot::Sender<()>>,
}

struct LaneControl {
    layer: LayerId,
    blob: BlobId,
    steering: Arc<Steering>,
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
        Self {
            clock,
            wake: None,
            names: Names::default(),
            pulls: Pulls::new(),
            blobs: BlobStore::new(settings.placement.spool()),
            placement: settings.placement,
            bounds: settings.bounds,
            sockets: settings.sockets,
            destination: settings.config.scheduling.destination,
            report_bytes: settings.config.limits.piece_bytes_max() / 2,
            fetches: BTreeMap::new(),
            lanes: BTreeMap::new(),
            directories: BTreeMap::new(),
            staged: BTreeMap::new(),
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
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.flush();
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
            Command::Shutdown => self.stop(),
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
        let sources = u16::try_from(request.hosts.len()).unwrap_or(u16::MAX);
        let layers = request.image.layers[request.first..]
            .iter()
            .zip(&ids)
            .map(|(layer, (blob, id))| parapull_engine::PullLayer {
                blob: *blob,
                size: layer.descriptor.size,
                layer: *id,
                sources,
                have: parapull_engine::Have::Nothing,
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
                    self.staged.insert((lane.layer, None), staged.clone());
                    self.blobs.forget_read(lane.blob);
                }
                *op
            }
            Input::LaneFailed { op, .. } => *op,
            Input::Linked { op } => {
                if let Some(tree) = self.links.remove(op) {
                    self.staged.remove(&tree);
                    self.discard(tree);
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
                self.discard((lane.layer, None));
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
                Output::Action(action) => self.act(action),
                Output::Event(event) => self.on_event(&event),
                Output::Idle { wake } => {
                    self.wake = wake;
                    return;
                }
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        tracing::trace!(?event);
        if let Some(image) = self.pulls.on_event(event) {
            let staged = &self.staged;
            self.names
                .forget(image, |layer| staged.contains_key(&(layer, None)));
            self.pulls.forget_unused();
        }
        if let (true, Some(recorder)) = (self.pulls.is_empty(), &mut self.recorder) {
            recorder.flush();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::FetchRange { .. } => self.start_fetch(action),
            Action::GrantCredit { op, bytes } => {
                if let Some(fetch) = self.fetches.get(&op) {
                    fetch.granted.send_modify(|granted| *granted += bytes);
                }
            }
            Action::StartLane {
                op,
                layer,
                blob,
                threads,
                over,
            } => self.start_lane(op, layer, blob, threads, over),
            Action::ResizeLane { op, threads } => {
                if let Some(lane) = self.lanes.get(&op) {
                    lane.steering.resize(threads);
                }
            }
            Action::LinkLayer {
                op,
                place,
                layer,
                tree,
            } => self.start_link(op, place, layer, tree),
            Action::CloneLayer { op, place, layer } => self.start_clone(op, place, layer),
            Action::DropStaged { op, layer, tree } => {
                let tree = (layer, owner(tree));
                self.staged.remove(&tree);
                self.discard(tree);
                self.names.forget_layer(layer);
                self.answer(Input::Dropped { op });
            }
            Action::DropBytes { op, blob, range } => {
                self.blobs.forget_from(blob, range.start);
                self.answer(Input::BytesDropped { op });
            }
            Action::CancelOp { op } => self.cancel(op),
        }
    }

    fn start_fetch(&mut self, action: Action) {
        let Action::FetchRange {
            op,
            blob,
            range,
            mode,
            source,
            credit,
            to,
            ..
        } = action
        else {
            return;
        };
        let Some(origin) = self.names.blob(blob).cloned() else {
            return self.fail_fetch(op);
        };
        let layer = self.pulls.layer_of(blob);
        if let Some(layer) = layer {
            self.pulls.fetch_began(layer, origin.host(source));
        }
        let bytes = self.blobs.bytes(blob, origin.descriptor.size, to);
        let (granted, grants) = watch::channel(credit);
        let (cancel, cancelled) = oneshot::channel();
        let order = FetchOrder {
            op,
            origin,
            source: source.0,
            range,
            mode,
            credit,
            bytes,
            report_bytes: self.report_bytes,
        };
        self.sockets
            .spawn(fetch::run(order, grants, cancelled, self.facts.clone()));
        let control = FetchControl {
            layer,
            granted,
            cancel: Some(cancel),
        };
        self.fetches.insert(op, control);
    }

    /// A blob nobody can name any more cannot be fetched.
    fn fail_fetch(&self, op: OpId) {
        self.answer(Input::RangeFailed {
            op,
            error: parapull_engine::FetchError::NotFound,
            received: 0,
            retry_after_ms: None,
        });
    }

    fn start_lane(
        &mut self,
        op: OpId,
        layer: LayerId,
        blob: BlobId,
        threads: u32,
        over: Option<Place>,
    ) {
        let Some((spec, name)) = self.names.spec(layer, blob) else {
            return self.answer(Input::OpCancelled { op, received: 0 });
        };
        let steering = Steering::new(threads);
        let input = self.blobs.input(blob, spec.size, self.destination);
        let control = LaneControl {
            layer,
            blob,
            steering: Arc::clone(&steering),
        };
        self.lanes.insert(op, control);
        self.pulls.unpack_began(layer);
        let staging_name = format!("{}-{}", spec.digest.short(), op);
        let directory = match self.placement.stage(&staging_name) {
            Ok(directory) => directory,
            Err(error) => return self.fail_lane(op, error.to_string()),
        };
        self.directories.insert((layer, None), directory.clone());
        let position = match (
            name.is_bottom,
            over.and_then(|place| self.pulls.place(place)),
        ) {
            (true, _) => Position::Bottom,
            (false, None) => Position::Upper,
            (false, Some(place)) => match self.placement.lowers(&place) {
                Ok(lowers) => Position::Over(lowers),
                Err(error) => return self.fail_lane(op, error.to_string()),
            },
        };
        let order = LaneOrder {
            op,
            input,
            directory,
            position,
            bounds: self.bounds.clone(),
            steering,
            report_bytes: self.report_bytes,
            spec,
        };
        let facts = self.facts.clone();
        let thread = std::thread::Builder::new().name(format!("lane-{op}"));
        if let Err(error) = thread.spawn(move || lane::run(&order, &facts)) {
            self.fail_lane(op, format!("start a thread: {error}"));
        }
    }

    fn fail_lane(&self, op: OpId, message: String) {
        self.answer_with(Fact {
            input: Input::LaneFailed {
                op,
                error: parapull_engine::LaneError::Disk,
            },
            cause: Some(Cause::of_disk(message)),
            staged: None,
        });
    }

    fn start_link(&mut self, op: OpId, place: Place, layer: LayerId, tree: Tree) {
        let tree = (layer, owner(tree));
        self.links.insert(op, tree);
        let found = self.staged.get(&tree).cloned().zip(self.pulls.place(place));
        let Some((staged, place)) = found else {
            return self.answer(Input::LinkFailed {
                op,
                error: LinkError::SourceGone,
            });
        };
        let (placement, facts) = (Arc::clone(&self.placement), self.facts.clone());
        tokio::task::spawn_blocking(move || {
            let fact = match guarded(|| placement.link(&place, &staged)) {
                Ok(()) => Input::Linked { op }.into(),
                Err(error) => link_failed(op, &error),
            };
            facts.tell_blocking(fact);
        });
    }

    fn start_clone(&mut self, op: OpId, place: Place, layer: LayerId) {
        let tree = (layer, Some(place));
        self.links.insert(op, tree);
        let Some(original) = self.staged.get(&(layer, None)).cloned() else {
            return self.answer(Input::LinkFailed {
                op,
                error: LinkError::SourceGone,
            });
        };
        let digest = self
            .pulls
            .digest(place)
            .map(|digest| digest.short())
            .unwrap_or_default();
        let directory = match self.placement.stage(&format!("{digest}-{op}")) {
            Ok(directory) => directory,
            Err(error) => {
                return self.answer_with(link_failed(op, &PlacementError::Disk(error.to_string())));
            }
        };
        self.directories.insert(tree, directory.clone());
        let facts = self.facts.clone();
        tokio::task::spawn_blocking(move || {
            let copy = || {
                original
                    .copy_to(&directory)
                    .map_err(|error| PlacementError::Disk(error.to_string()))
            };
            let fact = match guarded(copy) {
                Ok(staged) => Fact {
                    input: Input::Cloned { op },
                    cause: None,
                    staged: Some(staged),
                },
                Err(error) => link_failed(op, &error),
            };
            facts.tell_blocking(fact);
        });
    }

    fn cancel(&mut self, op: OpId) {
        if let Some(fetch) = self.fetches.get_mut(&op)
            && let Some(cancel) = fetch.cancel.take()
        {
            let _ = cancel.send(());
        }
        if let Some(lane) = self.lanes.get(&op) {
            self.blobs.cancel_lane(lane.blob);
        }
    }

    /// Removes a staging directory, somewhere the driver does not wait for.
    fn discard(&mut self, tree: (LayerId, Option<Place>)) {
        let Some(directory) = self.directories.remove(&tree) else {
            return;
        };
        let placement = Arc::clone(&self.placement);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = placement.discard(&directory) {
                tracing::warn!(directory = %directory.display(), %error, "a staging directory is left");
            }
        });
    }

    /// Reports an end that was known at once; the law wants it to come after the drain.
    fn answer(&self, input: Input) {
        self.answer_with(input.into());
    }

    fn answer_with(&self, fact: Fact) {
        let facts = self.facts.clone();
        tokio::spawn(async move { facts.tell(fact).await });
    }
}

/// Turns a panic into an error, because every op must end.
fn guarded<T>(work: impl FnOnce() -> Result<T, PlacementError>) -> Result<T, PlacementError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(PlacementError::Disk(
            "a defect of this program: it panicked".into(),
        ))
    })
}

const fn owner(tree: Tree) -> Option<Place> {
    match tree {
        Tree::Original => None,
        Tree::Clone(place) => Some(place),
    }
}

fn link_failed(op: OpId, error: &PlacementError) -> Fact {
    let link_error = match error {
        PlacementError::NeedsParents(_) => LinkError::NeedsParents,
        PlacementError::SourceGone(_) => LinkError::SourceGone,
        PlacementError::Disk(_) => LinkError::Disk,
    };
    Fact {
        input: Input::LinkFailed {
            op,
            error: link_error,
        },
        cause: Some(Cause::of_disk(error.to_string())),
        staged: None,
    }
}

/// Sleeps until the deadline, for ever without one.
async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
