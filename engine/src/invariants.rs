//! What must hold after every drained input, by number.
//!
//! Numbers 1 to 14 are those of the design; 4, 12, 13 and 14 speak about histories and are checked where they happen or
//! by the simulator, which sees the whole run.

use alloc::collections::BTreeMap;

use crate::blob::{Blob, ChunkState, Mode};
use crate::engine::Engine;
use crate::id::{BlobId, HostId, ImageId, OpId};
use crate::image::{Image, LinkState};
use crate::layer::LayerState;
use crate::op::{Fetch, OpKind};
use crate::output::Destination;
use crate::timers::Deadline;

impl Engine {
    /// Checks every invariant of the state; its cost grows with the state.
    ///
    /// # Panics
    /// When one does not hold, with its number.
    pub fn check_invariants(&self) {
        self.check_permits();
        self.check_hosts();
        for (id, blob) in self.blobs.iter() {
            self.check_ranges(*id, blob);
        }
        self.check_window();
        self.races.check(self.config.hedging.hedges_max.into());
        self.check_terminal();
        self.check_owed();
        self.check_wake();
        self.check_queue();
        self.check_threads();
        self.bytes.check("bytes");
        self.bytes.check_debts("bytes");
        self.lane_time.check("lane time");
    }

    fn check_permits(&self) {
        let (mut fetches, mut unpacks, mut threads) = (0, 0, 0);
        let mut of_images: BTreeMap<ImageId, (u64, u64)> = BTreeMap::new();
        for op in self.ops.values() {
            match &op.kind {
                OpKind::Fetch(fetch) => {
                    fetches += fetch.total.amount();
                    of_images.entry(fetch.image.0).or_default().0 += fetch.image.1.amount();
                }
                OpKind::Lane(lane) => {
                    unpacks += lane.total.amount();
                    threads += lane.threads.amount();
                    of_images.entry(lane.image.0).or_default().1 += lane.image.1.amount();
                }
                OpKind::Clone { .. }
                | OpKind::Link { .. }
                | OpKind::DropClone { .. }
                | OpKind::DropStaged { .. }
                | OpKind::DropBytes { .. } => {}
            }
        }
        assert_eq!(
            fetches,
            self.budgets.fetches.used(),
            "invariant 1 (permits): fetches"
        );
        assert_eq!(
            unpacks,
            self.budgets.unpacks.used(),
            "invariant 1 (permits): unpacks"
        );
        assert_eq!(
            threads,
            self.budgets.threads.used(),
            "invariant 1 (permits): threads"
        );
        for (id, image) in &self.images {
            let held = of_images.remove(id).unwrap_or_default();
            let used = (image.fetches.used(), image.unpacks.used());
            assert_eq!(held, used, "invariant 1 (permits): of {id:?}");
        }
        assert!(
            of_images.is_empty(),
            "invariant 7 (terminal): ops are paid by ended images {of_images:?}"
        );
    }

    /// Each host counts the fetches that are open at it.
    fn check_hosts(&self) {
        let mut of_hosts: BTreeMap<HostId, u64> = BTreeMap::new();
        for op in self.ops.values() {
            if let OpKind::Fetch(Fetch {
                host: Some(host), ..
            }) = &op.kind
            {
                *of_hosts.entry(*host).or_default() += 1;
            }
        }
        for (id, host) in &self.hosts {
            let open = of_hosts.remove(id).unwrap_or_default();
            assert_eq!(
                open, host.open,
                "invariant 1 (permits): connections of {id:?}"
            );
        }
        assert!(
            of_hosts.is_empty(),
            "invariant 1 (permits): fetches at unknown hosts {of_hosts:?}"
        );
    }

    /// {present, in flight, waiting, not started} partition the blob; what is issued is a prefix.
    fn check_ranges(&self, id: BlobId, blob: &Blob) {
        let count = blob.chunk_count();
        assert!(
            blob.frontier <= count && blob.next <= count,
            "invariant 2 (ranges): {id:?} left its plan"
        );
        let settling = blob.ending || blob.consumed || matches!(blob.mode, Mode::Settling(_));
        for index in 0..count {
            let chunk = blob.chunk(index);
            let issued = index < blob.next;
            match chunk.state {
                ChunkState::Idle => assert!(
                    !issued || settling,
                    "invariant 6 (window): a hole in {id:?} at {index}"
                ),
                ChunkState::InFlight(op) => {
                    assert!(
                        issued && blob.open.contains(&op),
                        "invariant 2 (ranges): {id:?} {index} is in no fetch"
                    );
                }
                ChunkState::Backoff { until, told } => {
                    let deadline = Deadline::Retry {
                        blob: id,
                        chunk: index,
                        told,
                    };
                    let timed = self.timers.holds(until, deadline);
                    assert!(
                        issued && timed,
                        "invariant 8 (owed): {id:?} {index} waits for nothing"
                    );
                }
                ChunkState::Due => assert!(
                    blob.due.contains(&index),
                    "invariant 2 (ranges): {id:?} {index} is lost"
                ),
                ChunkState::Present => {}
            }
        }
        for op in blob.open.iter() {
            assert!(
                self.ops.contains_key(op),
                "invariant 5 (ops): {id:?} counts a closed fetch"
            );
            assert!(
                settling || self.brings_its_own(blob, *op),
                "invariant 2 (ranges): {op:?} brings what another fetch of {id:?} brings"
            );
        }
        assert!(
            blob.released <= blob.frontier_bytes(),
            "invariant 3 (progress): {id:?} released what it has not"
        );
    }

    /// Whether no other fetch brings what this one brings, but for a hedge. One whose range is here, or that was told to
    /// end, brings nothing.
    fn brings_its_own(&self, blob: &Blob, id: OpId) -> bool {
        let Some(op) = self.ops.get(&id) else {
            return false;
        };
        let OpKind::Fetch(fetch) = &op.kind else {
            return false;
        };
        let own = |state| state == ChunkState::InFlight(id) || state == ChunkState::Present;
        op.cancelling
            || blob.mode != Mode::Ranged
            || own(blob.chunk(fetch.chunk).state)
            || self.races.covers(id, fetch.blob, fetch.chunk)
    }

    fn check_window(&self) {
        let (mut window, mut spool, mut laneless) = (0, 0, 0);
        for blob in self.blobs.values() {
            let amount = blob.charge.amount();
            match blob.destination {
                Destination::Spool => spool += amount,
                Destination::Window => {
                    window += amount;
                    if !blob.laned {
                        laneless += amount;
                    }
                }
            }
        }
        assert_eq!(
            window,
            self.budgets.window.used(),
            "invariant 6 (window): charges"
        );
        assert_eq!(
            spool,
            self.budgets.spool.used(),
            "invariant 6 (window): spool charges"
        );
        assert_eq!(
            laneless, self.budgets.laneless,
            "invariant 6 (window): charges without a lane"
        );
        assert!(
            window <= self.budgets.window.max(),
            "invariant 6 (window): {window} exceeds it"
        );
        let laneless_max = self.config.limits.laneless_bytes_max();
        assert!(
            laneless <= laneless_max,
            "invariant 6 (window): layers without a lane hold {laneless}"
        );
        for blob in self
            .blobs
            .values()
            .filter(|blob| blob.destination == Destination::Window)
        {
            let outstanding: u64 = (blob.frontier..blob.next)
                .filter(|index| blob.chunk(*index).state != ChunkState::Idle)
                .map(|index| blob.missing(index).len())
                .sum();
            let held = outstanding + blob.unread_bytes();
            assert_eq!(
                held,
                blob.charge.amount(),
                "invariant 6 (window): {:?} holds what it is not charged for",
                blob.layer
            );
        }
    }

    fn check_terminal(&self) {
        for (id, layer) in self.layers.iter() {
            for place in &layer.wanted {
                assert!(
                    self.images.contains_key(&place.image),
                    "invariant 7 (terminal): {id:?} is wanted by no image"
                );
            }
            let blob_lives = self
                .blobs
                .get(&layer.blob)
                .is_some_and(|blob| blob.layer == *id);
            let kept = layer.expires.is_some()
                || blob_lives
                || matches!(layer.state, LayerState::Dropping(_));
            assert!(
                !layer.wanted.is_empty() || kept,
                "invariant 7 (terminal): {id:?} is kept for nobody"
            );
        }
        for (id, blob) in self.blobs.iter() {
            assert!(
                self.layers.contains_key(&blob.layer),
                "invariant 7 (terminal): {id:?} feeds no layer"
            );
        }
        if self.images.is_empty() && self.ops.is_empty() && self.layers.is_empty() {
            assert!(
                self.timers.is_empty()
                    && self.blobs.is_empty()
                    && self.chains.is_empty()
                    && self.races.is_empty(),
                "invariant 7 (terminal): something is left"
            );
            assert_eq!(
                self.budgets.window.used(),
                0,
                "invariant 7 (terminal): bytes are left"
            );
        }
    }

    /// Unfinished work is owed an event: by an op, a deadline, or a caller. What an image waits for may be owed to another
    /// one, whose layer reads the same blob.
    fn check_owed(&self) {
        let waits_for_caller = |image: &Image| {
            image
                .next_link()
                .and_then(|index| image.link(index))
                .is_some_and(|link| {
                    link.callers == 0 && link.state == LinkState::Pending && image.callers > 0
                })
        };
        let owed = !self.ops.is_empty()
            || !self.timers.is_empty()
            || self.images.values().any(waits_for_caller);
        assert!(
            owed || self.images.is_empty(),
            "invariant 8 (owed): nobody owes an event to {:?}",
            self.images.keys()
        );
    }

    fn check_wake(&self) {
        if let Some(wake) = self.timers.next() {
            assert!(
                wake.at > self.now,
                "invariant 9 (wake): {wake:?} has passed at {:?}",
                self.now
            );
        }
    }
}
