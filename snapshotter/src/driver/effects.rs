//! What the engine's actions become: fetches on the socket runtime, lanes on threads, links where blocking is allowed.
//!
//! Every action that starts an op sees to it that the op ends exactly once, whatever fails on the way.

use std::path::PathBuf;
use std::sync::Arc;

use parapull_engine::{Action, BlobId, Input, LayerId, LinkError, OpId, Place, Tree};
use tokio::sync::{oneshot, watch};

use super::facts::Fact;
use super::failure::Cause;
use super::fetch::{self, FetchOrder};
use super::indexes::BlobIndex;
use super::lane::{self, LaneOrder, Steering};
use super::names::LayerName;
use super::run::{FetchControl, LaneControl, Run};
use crate::store::{KeptLayer, Placement, PlacementError};
use crate::unpack::{Position, Staged};

impl<P: Placement> Run<P> {
    pub(super) fn act(&mut self, action: Action) {
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
                if self.stopping {
                    // At its end the engine lets go of every tree; what is noted is the next run's, the rest goes at its start.
                    self.directories.remove(&tree);
                } else {
                    self.discard(tree);
                }
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
            source,
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
            over,
            blob,
            steering: Arc::clone(&steering),
        };
        self.lanes.insert(op, control);
        self.pulls.unpack_began(layer);
        let staging_name = format!("{}-{}", spec.digest.short(), op);
        let directory = self.placement.staging(&staging_name);
        self.directories.insert((layer, over), directory.clone());
        let over = over.and_then(|place| self.pulls.place(place));
        let order = LaneOrder {
            op,
            input,
            keep: self.keeping(name, over.is_some()),
            prepare: self.preparation(directory.clone(), name, over),
            directory,
            index: BlobIndex::new(self.indexes.as_ref(), &spec),
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

    /// What a lane does before it unpacks: reads and makes what only a thread that may block should.
    fn preparation(
        &self,
        directory: PathBuf,
        name: LayerName,
        over: Option<P::Place>,
    ) -> Box<dyn Fn() -> Result<Position, PlacementError> + Send + Sync> {
        let placement = Arc::clone(&self.placement);
        Box::new(move || {
            placement
                .stage(&directory)
                .map_err(|error| PlacementError::Disk(error.to_string()))?;
            match &over {
                _ if name.is_bottom => Ok(Position::Bottom),
                None => Ok(Position::Upper),
                Some(place) => placement.lowers(place).map(Position::Over),
            }
        })
    }

    /// What a lane does with its finished tree: notes it, unless it suits one place only.
    fn keeping(&self, name: LayerName, over: bool) -> Box<dyn Fn(&Staged) + Send + Sync> {
        if over || self.kept.ttl().is_zero() {
            return Box::new(|_| {});
        }
        let placement = Arc::clone(&self.placement);
        Box::new(move |staged| {
            let layer = KeptLayer {
                diff_id: name.diff_id,
                bottom: name.is_bottom,
                staged: staged.clone(),
            };
            if let Err(error) = placement.keep(&layer) {
                tracing::warn!(tree = %staged.root.display(), %error, "a finished layer would be unpacked again after a restart");
            }
        })
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
        if tree == Tree::Linked {
            return self.start_link_existing(op, place);
        }
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
                Ok(root) => Fact {
                    input: Input::Linked { op },
                    cause: None,
                    staged: root.map(|root| Staged { root, ..staged }),
                },
                Err(error) => link_failed(op, &error),
            };
            facts.tell_blocking(fact);
        });
    }

    /// What is to be linked lies in its place already, unless somebody took it away.
    fn start_link_existing(&self, op: OpId, place: Place) {
        let Some(place) = self.pulls.place(place) else {
            let error = LinkError::SourceGone;
            return self.answer(Input::LinkFailed { op, error });
        };
        let (placement, facts) = (Arc::clone(&self.placement), self.facts.clone());
        tokio::task::spawn_blocking(move || {
            let fact = match guarded(|| placement.link_existing(&place)) {
                Ok(()) => Input::Linked { op }.into(),
                Err(error) => link_failed(op, &error),
            };
            facts.tell_blocking(fact);
        });
    }

    fn start_clone(&mut self, op: OpId, place: Place, layer: LayerId) {
        let tree = (layer, Some(place));
        self.links.insert(op, tree);
        let placed = || self.placed.find(self.names.layer_name(layer)?);
        let original = self.staged.get(&(layer, None)).or_else(placed).cloned();
        let Some(original) = original else {
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
        let directory = self.placement.staging(&format!("{digest}-{op}"));
        self.directories.insert(tree, directory.clone());
        let (placement, facts) = (Arc::clone(&self.placement), self.facts.clone());
        tokio::task::spawn_blocking(move || {
            let copy = || {
                let copied = placement
                    .stage(&directory)
                    .and_then(|()| original.copy_to(&directory));
                copied.map_err(|error| {
                    let gone = !original.root.is_dir();
                    let kind =
                        [PlacementError::Disk, PlacementError::SourceGone][usize::from(gone)];
                    kind(error.to_string())
                })
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
    pub(super) fn discard(&mut self, tree: (LayerId, Option<Place>)) {
        if let Some(directory) = self.directories.remove(&tree) {
            self.discard_directory(directory);
        }
    }

    pub(super) fn discard_directory(&self, directory: PathBuf) {
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
        Tree::Original | Tree::Linked => None,
        Tree::Own(place) => Some(place),
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
