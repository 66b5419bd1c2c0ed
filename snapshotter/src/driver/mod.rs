//! The driver: the only place that owns the engine. It turns actions into fetches, lanes and links, and their ends into
//! inputs.
//!
//! It runs as one task that never blocks and never awaits an effect: completions come in over a bounded channel, answers
//! go out over one-shots. Fetches run on the socket runtime, lanes on threads of their own, links where blocking is
//! allowed.

mod advice;
mod blobs;
mod clock;
mod effects;
mod facts;
mod failure;
mod fetch;
mod indexes;
mod kept;
mod lane;
mod local;
mod names;
mod placed;
mod pulls;
mod recorder;
mod request;
mod run;

use parapull_engine::{Config, ImageId, Limits};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use advice::Advice;
pub use failure::{PullError, with_sources};
pub use local::LocalBlobs;
pub use pulls::FAILURE_TOLD_WITHIN;
pub use recorder::{Recorder, RecorderError};
pub use request::{LayerReport, PullReport, PullRequest, Status};

use crate::index::Cache;
use crate::store::Placement;
use crate::unpack::Bounds;
use request::Command;
use run::Run;

/// What a driver is made from.
pub struct Settings<P> {
    /// The engine's configuration.
    pub config: Config,
    /// Where layers go.
    pub placement: std::sync::Arc<P>,
    /// Bounds on what a layer may hold.
    pub bounds: Bounds,
    /// Where fetches run.
    pub sockets: Handle,
    /// Where indexes of blobs are kept, if anywhere.
    pub indexes: Option<Cache>,
    /// Where every input and output is written, if anywhere.
    pub recorder: Option<Recorder>,
}

/// The way to a running driver; clones reach the same one.
pub struct Driver<P: Placement> {
    commands: mpsc::Sender<Command<P::Place>>,
    /// Callers that went away; each had been counted before, so this cannot grow without bound.
    left: mpsc::UnboundedSender<(ImageId, u32)>,
}

/// A pull under way.
pub struct Pull {
    /// Its id.
    pub image: ImageId,
    finished: oneshot::Receiver<PullReport>,
}

impl<P: Placement> Driver<P> {
    /// Starts a driver on the current runtime, which nothing should block; it first looks for what an earlier run staged.
    ///
    /// Its task ends after [`Self::shut_down`], when every pull has ended.
    pub fn start(settings: Settings<P>) -> (Self, JoinHandle<()>) {
        let (commands, requests) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (left, leavers) = mpsc::unbounded_channel();
        let task = tokio::spawn(Run::new(settings, requests, leavers).run());
        (Self { commands, left }, task)
    }

    /// Starts to pull an image.
    ///
    /// # Errors
    /// When the driver has ended.
    pub async fn pull(&self, request: PullRequest) -> Result<Pull, PullError> {
        let (started, image) = oneshot::channel();
        let (finished, report) = oneshot::channel();
        let request = Box::new(request);
        self.send(Command::Request {
            request,
            started,
            finished,
        })
        .await?;
        Ok(Pull {
            image: image.await.map_err(|_| PullError::cancelled())?,
            finished: report,
        })
    }

    /// Waits until a layer is in its place; dropping the future tells the engine that the caller left.
    ///
    /// # Errors
    /// Why the layer will not become ready; `cancelled` as well when the pull is over already. Of a pull that failed while
    /// nobody waited, one caller within [`FAILURE_TOLD_WITHIN`] is told why.
    pub async fn await_layer(
        &self,
        image: ImageId,
        index: u32,
        place: P::Place,
    ) -> Result<(), PullError> {
        self.wait(image, index, place, false).await
    }

    /// [`Self::await_layer`] for a caller who knows that every layer below is committed, as containerd does.
    ///
    /// # Errors
    /// As there, and [`PullError::is_overtaken`] when this pull waits for a layer below that nobody will ask for any more.
    pub async fn await_layer_in_chain(
        &self,
        image: ImageId,
        index: u32,
        place: P::Place,
    ) -> Result<(), PullError> {
        self.wait(image, index, place, true).await
    }

    async fn wait(
        &self,
        image: ImageId,
        index: u32,
        place: P::Place,
        in_chain: bool,
    ) -> Result<(), PullError> {
        // Declared first and so dropped last: when the driver looks who has gone, the receiver is closed.
        let mut guard = Caller {
            left: self.left.clone(),
            waits_for: Some((image, index)),
        };
        let (ready, answer) = oneshot::channel();
        self.send(Command::Await {
            image,
            index,
            place,
            in_chain,
            ready,
        })
        .await?;
        let answer = answer.await.map_err(|_| PullError::cancelled())?;
        guard.waits_for = None;
        answer
    }

    /// Ends a pull at once.
    pub async fn cancel(&self, image: ImageId) {
        let _ = self.send(Command::Cancel { image }).await;
    }

    /// What it is doing.
    ///
    /// # Errors
    /// When the driver has ended.
    pub async fn status(&self) -> Result<Status, PullError> {
        let (reply, status) = oneshot::channel();
        self.send(Command::Status { reply }).await?;
        status.await.map_err(|_| PullError::cancelled())
    }

    /// Other limits from here on; what runs goes on until it fits them.
    pub async fn change_limits(&self, limits: Limits) {
        let _ = self.send(Command::Limits(limits)).await;
    }

    /// Ends every pull; the driver's task ends after the last one.
    pub async fn shut_down(&self) {
        let _ = self.send(Command::Shutdown).await;
    }

    async fn send(&self, command: Command<P::Place>) -> Result<(), PullError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| PullError::cancelled())
    }
}

impl<P: Placement> Clone for Driver<P> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            left: self.left.clone(),
        }
    }
}

impl Pull {
    /// Waits for its end.
    pub async fn finished(self) -> PullReport {
        let cancelled = PullReport {
            outcome: parapull_engine::Outcome::Cancelled,
            error: Some(PullError::cancelled()),
            unheard: false,
            stats: parapull_engine::PullStats::default(),
            layers: Vec::new(),
        };
        self.finished.await.unwrap_or(cancelled)
    }
}

/// Someone who waits for a layer, and is known to have left when dropped.
struct Caller {
    left: mpsc::UnboundedSender<(ImageId, u32)>,
    waits_for: Option<(ImageId, u32)>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(layer) = self.waits_for.take() {
            let _ = self.left.send(layer);
        }
    }
}

/// Commands waiting for the driver at most; a caller behind them waits.
const COMMANDS_QUEUED_MAX: usize = 256;
