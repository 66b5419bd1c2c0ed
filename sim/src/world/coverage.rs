//! Which interesting states a world is in, told from what is said and done.

use parapull_engine::{
    Action, BlobId, Event, FetchMode, Have, HoldReason, ImageId, Input, LayerError, Outcome, Pull,
    SourceId, Timer, Tree, Wake,
};
use parapull_scenario::registry::FaultKind;
use parapull_scenario::{LocalFaultKind, Paused};

use super::lanes::Lane;
use super::{Work, World};
use crate::coverage::Point;

impl World<'_> {
    pub(super) fn sometimes(&mut self, point: Point) {
        self.record.coverage.sometimes(point);
    }

    pub(super) fn cover_action(&mut self, action: &Action) {
        let point = match *action {
            Action::FetchRange {
                mode,
                source,
                attempt,
                range,
                hedge,
                ..
            } => {
                let elsewhere = source.0 > 0 && source != SourceId::LOCAL;
                for (is_so, point) in [
                    (hedge && elsewhere, Point::HedgedElsewhere),
                    (elsewhere, Point::SecondSource),
                    (source == SourceId::LOCAL, Point::LocalRead),
                    (
                        source == SourceId(1) && self.is_held(SourceId(0)),
                        Point::MirrorForHeld,
                    ),
                    (mode == FetchMode::Whole, Point::WholeRead),
                    (attempt > 1, Point::Repeated),
                    (
                        attempt == self.plan.config.timing.attempts_max,
                        Point::LastAttempt,
                    ),
                    (attempt > 1 && range.start > 0, Point::Resumed),
                ] {
                    if is_so {
                        self.sometimes(point);
                    }
                }
                return;
            }
            Action::GrantCredit { .. } => Point::CreditGranted,
            Action::StartLane { over: None, .. } => Point::LaneStarted,
            Action::StartLane { over: Some(_), .. } => Point::LaneOverParents,
            Action::ResizeLane { op, threads } => {
                let told = self.lanes.get(&op).map_or(0, Lane::threads_told);
                let ordinary = self.plan.config.limits.raw().threads_per_lane_max;
                match (told > threads, told.max(threads) > ordinary) {
                    (false, true) => self.sometimes(Point::LaneWide),
                    (true, true) => self.sometimes(Point::LaneWideNoMore),
                    (_, false) => {}
                }
                if told > threads {
                    Point::LaneNarrowed
                } else {
                    Point::LaneWidened
                }
            }
            Action::LinkLayer { tree, .. } => match tree {
                Tree::Original => return,
                Tree::Own(_) => Point::CloneLinked,
                Tree::Linked => Point::LinkedAlready,
            },
            Action::CloneLayer { .. } => Point::Cloned,
            Action::DropStaged { tree, .. } => match tree {
                Tree::Original => Point::StagedDropped,
                Tree::Own(_) => Point::CloneDropped,
                Tree::Linked => return,
            },
            Action::DropBytes { range, .. } if range.start == 0 => Point::BytesDropped,
            Action::DropBytes { .. } => Point::LookAheadDropped,
            Action::CancelOp { op } if self.fetches.contains_key(&op) => Point::FetchCancelled,
            Action::CancelOp { op } if self.lanes.contains_key(&op) => Point::LaneCancelled,
            Action::CancelOp { .. } => Point::EndBeforeCancel,
        };
        self.sometimes(point);
    }

    pub(super) fn cover_event(&mut self, event: &Event) {
        match *event {
            Event::Degraded { .. } => self.sometimes(Point::Degraded),
            Event::NewLife { blob } => {
                self.sometimes(Point::NewLife);
                if self.wanted_by(blob) > 1 {
                    self.sometimes(Point::NewLifeShared);
                }
            }
            Event::LayerKept { .. } => self.sometimes(Point::LayerKept),
            Event::PullFinished { image, outcome, .. } => {
                self.sometimes(match outcome {
                    Outcome::Ready => Point::OutcomeReady,
                    Outcome::Cancelled => Point::OutcomeCancelled,
                    Outcome::Failed { error, .. } => match error {
                        LayerError::Fetch(_) => Point::OutcomeFetch,
                        LayerError::Lane(_) => Point::OutcomeLane,
                        LayerError::Link(_) => Point::OutcomeLink,
                        LayerError::NoProgress => Point::OutcomeFetch,
                        LayerError::SpoolTooSmall => Point::OutcomeSpool,
                        LayerError::Cancelled => Point::OutcomeCancelled,
                    },
                });
                let open: Vec<BlobId> = self.fetches.values().map(|fetch| fetch.blob).collect();
                if outcome == Outcome::Cancelled
                    && open.iter().any(|blob| self.shares(image, *blob))
                {
                    self.sometimes(Point::EndsWhileShared);
                }
                if outcome == Outcome::Ready && self.record.crashes > 0 {
                    self.sometimes(Point::ReadyAfterCrash);
                }
            }
            _ => {}
        }
    }

    pub(super) fn cover_input(&mut self, input: &Input) {
        match input {
            Input::PullRequested(pull) => self.cover_pull(pull),
            Input::LimitsChanged(_) => self.sometimes(Point::LimitsChanged),
            Input::ShutdownRequested => self.sometimes(Point::Shutdown),
            Input::PullCancelled { .. } => self.sometimes(Point::CancelledOutright),
            _ => {}
        }
    }

    fn cover_pull(&mut self, pull: &Pull) {
        for layer in &pull.layers {
            match layer.have {
                Have::Staged => self.sometimes(Point::FoundStaged),
                Have::Linked => self.sometimes(Point::FoundLinked),
                Have::Elsewhere => self.sometimes(Point::FoundElsewhere),
                _ => {}
            }
            if self.fetches.values().any(|fetch| fetch.blob == layer.blob) {
                self.sometimes(Point::SharedInFlight);
            }
        }
        let pulls = self.record.pulls.iter();
        let live = pulls.filter(|pull| pull.requested.is_some() && pull.finished.is_none());
        if live.count() >= 3 {
            self.sometimes(Point::ThreePulls);
        }
    }

    pub(super) fn cover_wake(&mut self, wake: Option<Wake>) {
        let Some(wake) = wake else { return };
        self.sometimes(match wake.why {
            Timer::RetryBackoff => Point::WakeBackoff,
            Timer::RetryAfter => Point::WakeRetryAfter,
            Timer::StallCheck | Timer::Progress => Point::WakeStall,
            Timer::Silence => Point::WakeSilence,
            Timer::Hedge => Point::WakeHedge,
            Timer::HostReady => Point::WakeHost,
            Timer::CancelGrace | Timer::ShutdownGrace => Point::WakeGrace,
            Timer::StagingTtl => Point::WakeStaging,
        });
    }

    /// Looks at what holds things up; now and then, because it costs more than the rest of a step.
    pub(super) fn cover_holds(&mut self) {
        let looks = self.scenario.seed.is_multiple_of(SEEDS_PER_LOOK)
            && self.record.inputs.is_multiple_of(INPUTS_PER_LOOK);
        if !looks {
            return;
        }
        let snapshot = self.engine.snapshot();
        let blobs = snapshot.blobs.iter().map(|blob| blob.hold);
        let images = snapshot.images.iter().flat_map(|image| &image.layers);
        for hold in blobs.chain(images.map(|layer| layer.hold)) {
            if let Some(point) = hold_point(hold) {
                self.sometimes(point);
            }
        }
    }

    /// Pulls under way that want a blob.
    fn wanted_by(&self, blob: BlobId) -> usize {
        let pulls = self.record.pulls.iter().zip(&self.plan.pulls);
        pulls
            .filter(|(pull, _)| pull.requested.is_some() && pull.finished.is_none())
            .filter(|(_, layers)| layers.iter().any(|layer| self.plan.blob_of(*layer) == blob))
            .count()
    }

    /// Whether a blob of an image that ends is wanted by a pull under way.
    fn shares(&self, image: ImageId, blob: BlobId) -> bool {
        let mut layers = self.plan.pulls[image.0 as usize].iter();
        layers.any(|layer| self.plan.blob_of(*layer) == blob) && self.wanted_by(blob) > 0
    }

    pub(super) fn cover_crash(&mut self) {
        self.sometimes(Point::Crash);
        if self.record.crashes > 1 {
            self.sometimes(Point::CrashAgain);
        }
        let links = |work: &Work| matches!(work, Work::Link { .. });
        for (is_so, point) in [
            (!self.fetches.is_empty(), Point::CrashInFetch),
            (!self.lanes.is_empty(), Point::CrashInLane),
            (self.works.values().any(links), Point::CrashInLink),
        ] {
            if is_so {
                self.sometimes(point);
            }
        }
    }
}

pub(super) const fn pause_point(of: Paused) -> Point {
    match of {
        Paused::Lane { .. } => Point::LanePaused,
        Paused::Link => Point::LinkPaused,
        Paused::Drop => Point::DropPaused,
    }
}

pub(super) const fn local_point(kind: LocalFaultKind) -> Point {
    match kind {
        LocalFaultKind::LaneDisk { .. } => Point::LaneDisk,
        LocalFaultKind::LaneBadImage { .. } => Point::LaneBadImage,
        LocalFaultKind::LinkNeedsParents => Point::LinkNeedsParents,
        LocalFaultKind::LinkSourceGone => Point::LinkSourceGone,
        LocalFaultKind::LinkDisk => Point::LinkDisk,
        LocalFaultKind::LocalGone => Point::LocalGone,
        LocalFaultKind::LocalCorrupt => Point::LocalCorrupt,
    }
}

/// The point of a fault that was met.
pub(crate) const fn fault_point(kind: FaultKind) -> Point {
    match kind {
        FaultKind::ResetAfter { .. } => Point::FaultReset,
        FaultKind::TruncatedAfter { .. } => Point::FaultTruncated,
        FaultKind::CorruptByte { .. } => Point::FaultCorrupt,
        FaultKind::Status {
            retry_after_seconds: Some(_),
            ..
        } => Point::FaultRetryAfter,
        FaultKind::Status { .. } => Point::FaultStatus,
        FaultKind::StallAfter { .. } => Point::FaultStall,
        FaultKind::Trickle { .. } => Point::FaultTrickle,
        FaultKind::WrongContentLength { .. } => Point::FaultLength,
        FaultKind::WholeBodyForRange => Point::FaultWholeBody,
        FaultKind::WrongRange => Point::FaultWrongRange,
    }
}

const fn hold_point(hold: HoldReason) -> Option<Point> {
    Some(match hold {
        HoldReason::Nothing => return None,
        HoldReason::Fetches => Point::HoldFetches,
        HoldReason::FetchesPerImage => Point::HoldFetchesPerImage,
        HoldReason::Window => Point::HoldWindow,
        HoldReason::LayerWindow => Point::HoldLayerWindow,
        HoldReason::Lane => Point::HoldLane,
        HoldReason::Spool => Point::HoldSpool,
        HoldReason::Backoff => Point::HoldBackoff,
        HoldReason::RetryAfter => Point::HoldRetryAfter,
        HoldReason::HostConnections => Point::HoldHostConnections,
        HoldReason::HostRequests => Point::HoldHostRequests,
        HoldReason::Settling => Point::HoldSettling,
        HoldReason::Unpacks => Point::HoldUnpacks,
        HoldReason::UnpacksPerImage => Point::HoldUnpacksPerImage,
        HoldReason::Threads => Point::HoldThreads,
        HoldReason::Bytes => Point::HoldBytes,
        HoldReason::Parent => Point::HoldParent,
        HoldReason::Caller => Point::HoldCaller,
        HoldReason::BlobInUse => Point::HoldBlobInUse,
        HoldReason::LimitsChanging => Point::HoldLimits,
    })
}

const SEEDS_PER_LOOK: u64 = 8;
const INPUTS_PER_LOOK: u64 = 4;
