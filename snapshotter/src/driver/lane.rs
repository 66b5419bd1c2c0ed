//! One lane: a thread that turns a layer's bytes into a tree.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parapull_engine::{Input, LaneError, OpId, Waiting};

use super::blobs::LaneInput;
use super::facts::{Fact, Facts};
use super::failure::Cause;
use super::fetch::REPORT_INTERVAL;
use super::indexes::{BlobIndex, Noted};
use crate::store::PlacementError;
use crate::unpack::{
    self, Bounds, Controls, LayerSpec, OverlaySink, Position, Progress, Staged, ThreadPermit,
    UnpackError, Unpacked,
};

/// What a lane is to do.
pub(super) struct LaneOrder {
    pub(super) op: OpId,
    pub(super) spec: LayerSpec,
    pub(super) input: LaneInput,
    pub(super) directory: PathBuf,
    /// Makes the directory and tells what lies below. It may block, and so may [`Self::keep`].
    pub(super) prepare: Box<dyn Fn() -> Result<Position, PlacementError> + Send + Sync>,
    /// Notes the finished tree for a later run of the process.
    pub(super) keep: Box<dyn Fn(&Staged) + Send + Sync>,
    /// What is known of the blob's inside, and where that is kept.
    pub(super) index: BlobIndex,
    pub(super) bounds: Bounds,
    pub(super) steering: Arc<Steering>,
    pub(super) report_bytes: u64,
}

/// How a running lane is steered.
#[derive(Debug)]
pub(super) struct Steering {
    pub(super) threads: ThreadPermit,
    pub(super) progress: Progress,
    /// Threads last reported to the engine.
    reported: AtomicU32,
    told: AtomicU32,
}

impl Steering {
    pub(super) fn new(threads: u32) -> Arc<Self> {
        Arc::new(Self {
            threads: ThreadPermit::new(threads),
            progress: Progress::new(),
            reported: AtomicU32::new(threads),
            told: AtomicU32::new(threads),
        })
    }

    pub(super) fn resize(&self, threads: u32) {
        self.told.store(threads, Ordering::Relaxed);
        self.threads.grant(threads);
    }

    /// The number of threads to report, once the lane has come down to what it was told.
    fn honoured(&self) -> Option<u32> {
        let told = self.told.load(Ordering::Relaxed);
        let honours = self.progress.threads() <= told;
        (honours && self.reported.swap(told, Ordering::Relaxed) != told).then_some(told)
    }
}

/// Runs a lane to its one end, which it reports. Blocks.
pub(super) fn run(order: &LaneOrder, facts: &Facts) {
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        let position = (order.prepare)()?;
        let unpacked = unpack(order, position, facts);
        Ok(unpacked.inspect(|unpacked| (order.keep)(&unpacked.staged)))
    }));
    let outcome = guarded.unwrap_or_else(|_| {
        Ok(Err(UnpackError::Panicked {
            stage: "lane",
            message: "see standard error".into(),
        }))
    });
    let mut unpacked = match outcome {
        Err(refused) => return facts.tell_blocking(refused_by_disk(order.op, &refused)),
        Ok(Err(error)) => return facts.tell_blocking(failed(order, &error)),
        Ok(Ok(unpacked)) => unpacked,
    };
    let noted = Noted::take(&mut unpacked);
    facts.tell_blocking(Fact {
        input: Input::LaneFinished {
            op: order.op,
            produced: unpacked.uncompressed_bytes,
            entries: unpacked.staged.entries,
        },
        cause: None,
        staged: Some(unpacked.staged),
    });
    // Nobody waits for it.
    order.index.keep(noted);
}

fn unpack(order: &LaneOrder, position: Position, facts: &Facts) -> Result<Unpacked, UnpackError> {
    let bounds = order.bounds.clone().within(&order.directory);
    if let Some(room) = &bounds.room {
        room.check(order.spec.size)?;
    }
    let reader = order
        .input
        .reader(reporter(order, facts.clone()))
        .map_err(UnpackError::Source)?;
    let sink = OverlaySink::new(&order.directory, position)?;
    let stop = || order.input.cancel();
    let controls = Controls {
        threads: &order.steering.threads,
        progress: &order.steering.progress,
        stop_source: &stop,
    };
    unpack::unpack_indexed(
        reader,
        &order.spec,
        order.index.indexing(),
        Box::new(sink),
        &bounds,
        controls,
    )
}

/// Reports what the reader lets go of: every half chunk, every 20 ms, and before every wait.
fn reporter(order: &LaneOrder, facts: Facts) -> Box<dyn FnMut(u64, bool) + Send> {
    let (op, report_bytes, steering) = (order.op, order.report_bytes, Arc::clone(&order.steering));
    let mut reported = 0;
    let mut reported_at = Instant::now();
    let mut held = steering.progress.held();
    Box::new(move |released, waiting| {
        if let Some(threads) = steering.honoured() {
            facts.tell_blocking(Input::LaneResized { op, threads }.into());
        }
        let due = released - reported >= report_bytes || reported_at.elapsed() >= REPORT_INTERVAL;
        if !(due || waiting && released > reported) {
            return;
        }
        reported = released;
        reported_at = Instant::now();
        let progress = &steering.progress;
        let before = std::mem::replace(&mut held, progress.held());
        let waiting = match held.longest_since(&before) {
            unpack::Waiting::Input => Waiting::Input,
            unpack::Waiting::Cpu => Waiting::Cpu,
            unpack::Waiting::Disk => Waiting::Disk,
        };
        let input = Input::LaneAdvanced {
            op,
            released,
            produced: progress.bytes_out(),
            entries: progress.entries(),
            waiting,
        };
        facts.tell_blocking(input.into());
    })
}

fn refused_by_disk(op: OpId, error: &PlacementError) -> Fact {
    Fact {
        input: Input::LaneFailed {
            op,
            error: LaneError::Disk,
        },
        cause: Some(Cause::of_disk(error.to_string())),
        staged: None,
    }
}

fn failed(order: &LaneOrder, error: &UnpackError) -> Fact {
    let lane_error = match error.class() {
        unpack::Class::Cancelled => {
            return Input::OpCancelled {
                op: order.op,
                received: 0,
            }
            .into();
        }
        unpack::Class::Corrupt => LaneError::Corrupt,
        unpack::Class::BadImage => LaneError::BadImage,
        unpack::Class::Disk | unpack::Class::Source | unpack::Class::Defect => LaneError::Disk,
    };
    Fact {
        input: Input::LaneFailed {
            op: order.op,
            error: lane_error,
        },
        cause: Some(Cause::of_lane(error)),
        staged: None,
    }
}
