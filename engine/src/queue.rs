//! The queue of fetches: which blobs could be read on, in order, for each image that wants them.
//!
//! It is kept up to date from what was touched, so an event costs what it changed and not what there is. After a look
//! that found nothing to start it remembers what it would take, and looks again only then.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::blob::{Blob, Mode};
use crate::config::FetchOrder;
use crate::engine::Engine;
use crate::fetch::Step;
use crate::id::{BlobId, ImageId};
use crate::layer::TreeId;
use crate::output::Destination;
use crate::ranks::{Place, Rank, Ranks};
use crate::snapshot::HoldReason;
use crate::sorted::SortedMap;

/// What the queue has done since the engine was made: what an event costs beyond what it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueWork {
    /// How often a blob was ranked.
    pub ranked: u64,
    /// How often a blob was looked at for its next step.
    pub visited: u64,
}

/// Blobs that have a next step, if nothing in common holds it back.
#[derive(Debug, Default)]
pub(crate) struct FetchQueue {
    entries: SortedMap<BlobId, Entry>,
    /// What each image could fetch; one that has nothing left may still stand here.
    of_images: SortedMap<ImageId, Ranks>,
    /// What the last look waits for; nothing when something changed since.
    idle: Option<Idle>,
    /// The blob whose image's turn it is and whose next piece does not fit the window: nobody overtakes it.
    pub(crate) waits_for_window: Option<BlobId>,
    work: QueueWork,
    blobs: Vec<BlobId>,
    layers: Vec<TreeId>,
    images: Vec<ImageId>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Nothing while it has no next step.
    place: Option<Place>,
    images: Vec<ImageId>,
}

/// What it takes until another look is worth it, by what was missing.
#[derive(Clone, Copy, Debug, Default)]
struct Idle {
    /// A permit, or a host.
    permit: bool,
    /// The least that would have to be free of the window, in bytes.
    window: Option<u64>,
    /// The least that would have to be free for layers without a lane, in bytes.
    laneless: Option<u64>,
    /// Blobs that were looked at.
    visited: u64,
}

/// What a look at one image's blobs found.
enum Look {
    Step(BlobId, Step),
    /// Its most urgent lane needs more of the window than is free.
    Window(BlobId),
    Nothing,
}

impl FetchQueue {
    /// Puts a blob where it belongs, or takes it out. Whether it may matter more than it did.
    fn put(&mut self, id: BlobId, place: Option<Place>, images: &[ImageId]) -> bool {
        let entry = self.entries.get_or_insert_with(id, Entry::default);
        let before = core::mem::replace(&mut entry.place, place);
        if entry.images == images {
            if before == place {
                return false;
            }
            for image in images {
                let ranks = self.of_images.get_or_insert_with(*image, Ranks::default);
                ranks.put(before, place);
            }
        } else {
            for image in &entry.images {
                if let Some(ranks) = self.of_images.get_mut(image) {
                    ranks.put(before, None);
                }
            }
            for image in images {
                let ranks = self.of_images.get_or_insert_with(*image, Ranks::default);
                ranks.put(None, place);
            }
            entry.images.clear();
            entry.images.extend(images);
        }
        let urgency = |place: Place| (place.rank.0, place.rank.1, place.rank.2, place.rank.4);
        place.is_some() && before.map(urgency) != place.map(urgency)
    }

    /// Forgets a blob.
    fn remove(&mut self, id: BlobId) {
        self.put(id, None, &[]);
        self.entries.remove(&id);
    }

    /// Forgets an image.
    pub(crate) fn leave(&mut self, image: ImageId) {
        self.of_images.remove(&image);
    }

    /// Whether an image has something to fetch.
    pub(crate) fn is_for(&self, image: ImageId) -> bool {
        self.of_images
            .get(&image)
            .is_some_and(|ranks| !ranks.is_empty())
    }

    /// Forgets what the last look waits for: what holds things up is measured otherwise from here on.
    pub(crate) const fn look_again(&mut self) {
        self.idle = None;
    }

    /// The images that have something to fetch, from `at` on and around.
    fn ring(&self, at: ImageId) -> impl Iterator<Item = ImageId> + Clone {
        let images = self.of_images.ring(at);
        images
            .filter(|(_, ranks)| !ranks.is_empty())
            .map(|(image, _)| *image)
    }
}

impl Engine {
    /// What the queue of fetches has done so far, for tests and benches to hold against the number of inputs.
    pub const fn queue_work(&self) -> QueueWork {
        self.queue.work
    }

    /// The most urgent step that nothing holds back, of the image whose turn it is.
    pub(crate) fn next_step(&mut self) -> Option<(BlobId, Step)> {
        self.refresh_queue();
        self.turn = None;
        if !self.is_look_worth_it() {
            return None;
        }
        self.queue.idle = None;
        let mut idle = Idle::default();
        loop {
            let (mut in_debt, mut next, mut waits_for_window) = (false, None, None);
            for image in self.queue.ring(self.bytes.at()) {
                let served = self.bytes.may_be_served(image);
                match self.look(image, &mut idle) {
                    Look::Step(..) | Look::Window(_) if !served => in_debt = true,
                    Look::Step(blob, step) => {
                        next = Some((image, Some((blob, step))));
                        break;
                    }
                    Look::Window(blob) => {
                        next = Some((image, None));
                        waits_for_window = Some(blob);
                        break;
                    }
                    Look::Nothing => {}
                }
            }
            self.queue.waits_for_window = waits_for_window;
            self.queue.work.visited += core::mem::take(&mut idle.visited);
            match next {
                Some((image, step)) => {
                    let step = step.or_else(|| self.next_repeat());
                    return self.take_turn(image, step, idle);
                }
                None if !in_debt => {
                    self.turn = None;
                    self.queue.idle = Some(idle);
                    return None;
                }
                None => self.bytes.refill(self.queue.ring(ImageId(0))),
            }
        }
    }

    fn take_turn(
        &mut self,
        image: ImageId,
        step: Option<(BlobId, Step)>,
        idle: Idle,
    ) -> Option<(BlobId, Step)> {
        if step.is_none() {
            // What others may repeat was not looked at for want of room, and may come to want a permit only.
            self.queue.idle = Some(Idle {
                permit: true,
                ..idle
            });
            self.turn = None;
            return None;
        }
        let image = match &step {
            // While one image waits for the window, others may still repeat what they have room for.
            Some((blob, Step::Repeat(_))) => {
                let entry = self.queue.entries.get(blob)?;
                let wants = entry.images.contains(&image);
                let can_pay = |image: &&ImageId| self.images[*image].fetches.free() > 0;
                if wants && can_pay(&&image) {
                    image
                } else {
                    *entry.images.iter().find(can_pay)?
                }
            }
            _ => image,
        };
        self.turn = Some(image);
        self.bytes.begin_turn(image);
        step
    }

    /// The first step of an image that nothing holds back.
    fn look(&self, image: ImageId, idle: &mut Idle) -> Look {
        let Some(ranks) = self.queue.of_images.get(&image) else {
            return Look::Nothing;
        };
        let can_ask = self.budgets.fetches.free() > 0 && self.images[&image].fetches.free() > 0;
        let within_reach = if can_ask { ranks.all() } else { ranks.open() };
        // What could be asked for with a permit is looked at when there is one.
        idle.permit |= within_reach.len() < ranks.all().len();
        for rank in within_reach {
            idle.visited += 1;
            let id = rank.5;
            let blob = &self.blobs[&id];
            match self.step(blob) {
                Ok(step) => return Look::Step(id, step),
                Err(HoldReason::Window) => {
                    let piece = blob.missing(blob.next).len();
                    let least = idle.window.map_or(piece, |least| least.min(piece));
                    idle.window = Some(least);
                    if blob.laned {
                        return Look::Window(id);
                    }
                }
                Err(HoldReason::Lane) => {
                    let needed = self.laneless_need(blob);
                    let least = idle.laneless.map_or(needed, |least| least.min(needed));
                    idle.laneless = Some(least);
                }
                Err(_) => idle.permit = true,
            }
        }
        Look::Nothing
    }

    /// Whether something of the most urgent kind could be asked for now: a repetition, or what keeps a lane fed.
    pub(crate) fn has_urgent_steps(&mut self) -> bool {
        self.refresh_queue();
        self.turn = None;
        let urgent = |rank: &&Rank| rank.0 == 0;
        let ranks = self.queue.of_images.values();
        let mut urgent = ranks.flat_map(|ranks| ranks.all().iter().take_while(urgent));
        urgent.any(|rank| self.step(&self.blobs[&rank.5]).is_ok())
    }

    /// The most urgent repetition that a permit is there for: it needs no room.
    fn next_repeat(&self) -> Option<(BlobId, Step)> {
        let due = |rank: &&Rank| rank.0 == 0;
        let mut ranks = self
            .queue
            .of_images
            .values()
            .flat_map(|ranks| ranks.all().iter().take_while(due));
        ranks.find_map(|rank| {
            let step = self.step(&self.blobs[&rank.5]);
            step.ok()
                .filter(|step| matches!(step, Step::Repeat(_)))
                .map(|step| (rank.5, step))
        })
    }

    fn is_look_worth_it(&self) -> bool {
        let Some(idle) = self.queue.idle else {
            return self.queue.ring(ImageId(0)).next().is_some();
        };
        let laneless_free = self.laneless_free().min(self.budgets.window.free());
        idle.permit && self.stirred
            || idle
                .window
                .is_some_and(|needed| needed <= self.budgets.window.free())
            || idle.laneless.is_some_and(|needed| needed <= laneless_free)
    }

    /// Looks at what was touched since the last time.
    pub(crate) fn refresh_queue(&mut self) {
        if self.blobs.is_untouched() && self.layers.is_untouched() {
            return;
        }
        let mut blobs = core::mem::take(&mut self.queue.blobs);
        let mut layers = core::mem::take(&mut self.queue.layers);
        let mut images = core::mem::take(&mut self.queue.images);
        self.blobs.take_touched(&mut blobs);
        self.layers.take_touched(&mut layers);
        let read_for = |layer: &TreeId| self.layers.get(layer).map(|layer| layer.blob);
        blobs.extend(layers.iter().filter_map(read_for));
        blobs.sort_unstable();
        blobs.dedup();
        self.queue.work.ranked += blobs.len() as u64;
        for id in &blobs {
            images.clear();
            self.recut(*id);
            let Some(blob) = self.blobs.get(id) else {
                self.queue.remove(*id);
                continue;
            };
            if let Some(layer) = self.layers.get(&blob.layer) {
                images.extend(layer.wanted.iter().map(|place| place.image));
                images.dedup();
            }
            let is_wanted = !images.is_empty();
            let place = is_wanted.then(|| self.candidate(*id, blob)).flatten();
            if self.queue.put(*id, place, &images) {
                self.queue.idle = None;
            }
            for image in &images {
                if !self.queue.is_for(*image) {
                    self.bytes.rest(*image);
                }
            }
        }
        blobs.clear();
        layers.clear();
        (self.queue.blobs, self.queue.layers, self.queue.images) = (blobs, layers, images);
    }

    /// Cuts a blob anew whose next piece is larger than changed limits allow.
    fn recut(&mut self, id: BlobId) {
        let Some(blob) = self.blobs.get(&id).filter(|_| self.pieces_shrank) else {
            return;
        };
        let piece_bytes_max = self.plan(blob.mode != Mode::Ranged).piece_bytes_max;
        if blob.has_next()
            && blob.missing(blob.next).len() > piece_bytes_max
            && let Some(blob) = self.blobs.get_mut(&id)
        {
            blob.recut(piece_bytes_max);
        }
    }

    /// The place of a blob that has a next step, if no limit that it shares with others is in the way.
    fn candidate(&self, id: BlobId, blob: &Blob) -> Option<Place> {
        if blob.ending || blob.consumed || blob.dropping.is_some() {
            return None;
        }
        let repeats = !blob.due.is_empty() && !matches!(blob.mode, Mode::Whole(Some(_)));
        if matches!(blob.mode, Mode::Settling(_)) || !repeats && !self.may_go_on(blob) {
            return None;
        }
        Some(Place {
            rank: self.rank(id, blob),
            is_open: matches!(blob.mode, Mode::Whole(Some(_))),
        })
    }

    fn may_go_on(&self, blob: &Blob) -> bool {
        let failed = matches!(blob.mode, Mode::Whole(None)) && blob.next > blob.frontier;
        !failed
            && blob.has_next()
            && (blob.destination == Destination::Spool
                || blob.charge.amount() + blob.missing(blob.next).len()
                    <= self.config.limits.raw().layer_window_bytes_max)
    }

    fn rank(&self, id: BlobId, blob: &Blob) -> Rank {
        let layer = &self.layers[&blob.layer];
        let index = layer.wanted.first().map_or(0, |place| place.index);
        let waits = u8::from(blob.due.is_empty());
        match self.config.scheduling.fetch_order {
            FetchOrder::LongestPath => {
                let awaited = self.is_awaited(layer);
                let remaining = Reverse(blob.remaining());
                (
                    self.tier(blob),
                    u64::from(waits),
                    !awaited,
                    remaining,
                    index,
                    id,
                )
            }
            FetchOrder::RoundRobin => (waits, u64::from(blob.next), false, Reverse(0), index, id),
            FetchOrder::BottomUp => (waits, u64::from(index), false, Reverse(0), index, id),
        }
    }

    /// Repeat what is charged already and keep every running lane fed (0), then let lanes run ahead (1), then look ahead
    /// for layers without a lane (2).
    fn tier(&self, blob: &Blob) -> u8 {
        let floor = LANE_FLOOR_PIECES * self.config.limits.piece_bytes_max();
        if !blob.due.is_empty() || blob.laned && blob.charge.amount() < floor {
            0
        } else if blob.laned {
            1
        } else {
            2
        }
    }

    /// That the queue is what it would be if it were made anew, and that nothing is left that could be started
    /// (invariant 10).
    pub(crate) fn check_queue(&self) {
        for (id, blob) in self.blobs.iter() {
            let place = self.queue.entries.get(id).and_then(|entry| entry.place);
            let wanted = &self.layers[&blob.layer].wanted;
            let expected = self.candidate(*id, blob).filter(|_| !wanted.is_empty());
            assert_eq!(
                place, expected,
                "invariant 10 (work): {id:?} is out of its place in the queue"
            );
            let idle = match self.step(blob) {
                Err(_) => true,
                Ok(Step::Repeat(_)) => false,
                Ok(_) => self.queue.waits_for_window.is_some(),
            };
            assert!(
                idle || expected.is_none(),
                "invariant 10 (work): {id:?} could be read on and is not: {:?}, {:?}",
                self.step(blob),
                self.queue.idle
            );
        }
        assert!(
            self.queue
                .entries
                .keys()
                .all(|id| self.blobs.contains_key(id)),
            "invariant 10 (work): the queue holds a blob that is gone"
        );
        if let Some(blob) = self
            .queue
            .waits_for_window
            .and_then(|id| self.blobs.get(&id))
        {
            let fits =
                blob.has_next() && blob.missing(blob.next).len() <= self.budgets.window.free();
            assert!(
                !fits || self.queue.entries.is_empty() || self.step(blob).is_err(),
                "invariant 10 (work): nobody overtakes a piece that has room"
            );
        }
    }
}

/// A running lane is kept at least this many pieces ahead before anyone else is served: one being inflated, one arriving.
const LANE_FLOOR_PIECES: u64 = 2;
