//! Trees: staged by lanes, linked into places, cloned, dropped.

use std::collections::BTreeSet;

use parapull_engine::{BlobId, ByteRange, Input, LayerId, LinkError, OpId, Place, Tree};
use parapull_scenario::{Canary, LocalFaultKind, Paused};

use super::coverage::local_point;
use super::{Violation, World};
use crate::events::Coming;

/// The trees of one layer.
#[derive(Debug, Default)]
pub(super) struct Trees {
    /// The one its lane staged is there.
    pub(super) original: bool,
    /// The engine was told of it.
    pub(super) known: bool,
    /// Places that have a tree of their own staged: a clone, or one unpacked over their parents.
    own: BTreeSet<Place>,
    /// Places whose own tree was unpacked over their parents.
    over: BTreeSet<Place>,
    /// Some place holds it, so that it can be cloned from there.
    linked: bool,
    /// It lies in place since an earlier life of the daemon, for an image that is not pulled here.
    elsewhere: bool,
}

impl Trees {
    /// What of them a daemon that starts finds: whole trees, nothing that was made for one place.
    pub(super) fn survive(&mut self) {
        self.known = false;
        self.own.clear();
        self.over.clear();
    }

    /// The daemon ends and leaves the staged tree; `false` when there is none.
    pub(super) fn leave(&mut self) -> bool {
        self.known = false;
        self.original
    }

    /// Whether something is staged that nobody will drop.
    pub(super) fn is_left(&self) -> bool {
        self.known && self.original || !self.own.is_empty()
    }

    /// Whether a lane over these parents would stage what is staged.
    pub(super) fn is_staged(&self, over: Option<Place>) -> bool {
        over.map_or(self.original, |place| self.own.contains(&place))
    }

    /// A lane is done.
    pub(super) fn stage(&mut self, over: Option<Place>) {
        match over {
            None => (self.original, self.known) = (true, true),
            Some(place) => {
                self.own.insert(place);
                self.over.insert(place);
            }
        }
    }
}

/// A link, clone or drop under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Link {
        place: Place,
        layer: LayerId,
        tree: Tree,
    },
    Clone {
        place: Place,
        layer: LayerId,
    },
    DropStaged {
        layer: LayerId,
        tree: Tree,
    },
    DropBytes {
        blob: BlobId,
        from: u64,
    },
}

impl World<'_> {
    /// Puts in place what lies staged from an earlier life of the daemon.
    pub(super) fn stage_from_before(&mut self) {
        let pulls = self.scenario.pulls.iter().zip(&self.plan.pulls);
        for (pull, (spec, layers)) in pulls.enumerate() {
            for index in spec.staged.iter().filter(|index| **index >= spec.linked) {
                if let Some(layer) = layers.get(*index as usize) {
                    self.trees.entry(*layer).or_default().original = true;
                }
            }
            for index in spec.elsewhere.iter().filter(|index| **index >= spec.linked) {
                if let Some(layer) = layers.get(*index as usize) {
                    self.trees.entry(*layer).or_default().elsewhere = true;
                }
            }
            let chains = &self.plan.chains[pull];
            let linked = chains.iter().take(spec.linked as usize);
            self.chains_linked
                .extend(linked.map(|chain| (*chain, true)));
        }
    }

    /// Whether a layer lies in place for an image that is not pulled here.
    pub(super) fn is_elsewhere(&self, layer: LayerId) -> bool {
        self.trees.get(&layer).is_some_and(|trees| trees.elsewhere)
    }

    /// Whether a layer is staged, as the engine is about to be told. A daemon that stops takes no more pulls; what it has
    /// staged stays for its next life.
    pub(super) fn tell_staged(&mut self, layer: LayerId) -> bool {
        let stops = self.scenario.shutdown_ms.map(|ms| ms * 1_000_000);
        let known = stops.is_none_or(|stops| self.now < stops);
        let Some(trees) = self.trees.get_mut(&layer) else {
            return false;
        };
        trees.known |= known && trees.original;
        trees.original
    }

    pub(super) fn start_link(
        &mut self,
        op: OpId,
        place: Place,
        layer: LayerId,
        tree: Tree,
    ) -> Result<(), Violation> {
        if self.linked(place.image) != place.index {
            return Err(Violation::Correctness(format!(
                "{place:?} is linked before its parent"
            )));
        }
        if self.plan.pulls[place.image.0 as usize].get(place.index as usize) != Some(&layer) {
            return Err(Violation::Correctness(format!(
                "{layer:?} is linked at {place:?}, where it does not belong"
            )));
        }
        let nanos = u64::from(self.scenario.host.link_layer_us) * NANOS_PER_MICRO
            + self.pause_of(|of| of == Paused::Link);
        self.record.link(self.now, place);
        self.work(op, Work::Link { place, layer, tree }, nanos);
        Ok(())
    }

    pub(super) fn start_clone(
        &mut self,
        op: OpId,
        place: Place,
        layer: LayerId,
    ) -> Result<(), Violation> {
        let trees = self.trees.entry(layer).or_default();
        // That a tree is gone may have been seen already, and be told late.
        let is_late = self.scenario.mishaps.delivery.is_some();
        if !trees.original && !trees.linked && !trees.elsewhere && !is_late {
            return Err(Violation::Correctness(format!(
                "{layer:?} is cloned, but there is no tree of it"
            )));
        }
        let planned = self.plan.layer(layer);
        let host = &self.scenario.host;
        let nanos = planned.entries * host.file_create_ns
            + per_second(planned.uncompressed_bytes, host.copy_bytes_per_second);
        self.work(op, Work::Clone { place, layer }, nanos);
        Ok(())
    }

    pub(super) fn start_drop(
        &mut self,
        op: OpId,
        layer: LayerId,
        tree: Tree,
    ) -> Result<(), Violation> {
        let nanos = self.plan.layer(layer).entries * self.scenario.host.file_create_ns / 2
            + self.pause_of(|of| of == Paused::Drop);
        self.work(op, Work::DropStaged { layer, tree }, nanos);
        Ok(())
    }

    pub(super) fn start_drop_bytes(
        &mut self,
        op: OpId,
        blob: BlobId,
        range: ByteRange,
    ) -> Result<(), Violation> {
        let from = range.start;
        let written = self.fetches.values().any(|fetch| {
            fetch.blob == blob && fetch.range.start.max(fetch.position) < range.end && from == 0
        });
        if written {
            return Err(Violation::Correctness(format!(
                "{blob:?} is dropped while it is being fetched"
            )));
        }
        let nanos = DROP_BYTES_NANOS + self.pause_of(|of| of == Paused::Drop);
        self.work(op, Work::DropBytes { blob, from }, nanos);
        Ok(())
    }

    fn work(&mut self, op: OpId, work: Work, nanos: u64) {
        self.works.insert(op, work);
        self.events.push(self.now + nanos, Coming::Done { op });
    }

    pub(super) fn on_done(&mut self, op: OpId) -> Result<(), Violation> {
        let Some(work) = self.works.remove(&op) else {
            return Ok(());
        };
        let input = match work {
            Work::Link { place, layer, tree } => self.end_link(op, place, layer, tree)?,
            Work::Clone { place, layer } => self.end_clone(op, place, layer),
            Work::DropStaged { layer, tree } => {
                let trees = self.trees.entry(layer).or_default();
                match tree {
                    Tree::Original => trees.original = false,
                    Tree::Own(place) => {
                        trees.own.remove(&place);
                        trees.over.remove(&place);
                    }
                    Tree::Linked => {
                        let why = format!("{layer:?} is to be dropped where it is linked");
                        return Err(Violation::Correctness(why));
                    }
                }
                Input::Dropped { op }
            }
            Work::DropBytes { blob, from } => {
                self.drop_held(blob, from);
                Input::BytesDropped { op }
            }
        };
        self.inbox.push_back(input);
        Ok(())
    }

    fn end_link(
        &mut self,
        op: OpId,
        place: Place,
        layer: LayerId,
        tree: Tree,
    ) -> Result<Input, Violation> {
        let chain = self.plan.chain_of(place);
        let over = self.trees.entry(layer).or_default().over.contains(&place);
        if let Some(error) = self.link_fault(place.index, over, tree) {
            if error == LinkError::SourceGone {
                if tree == Tree::Linked {
                    self.chains_linked.insert(chain, false);
                } else {
                    self.trees.entry(layer).or_default().original = false;
                }
            }
            return Ok(Input::LinkFailed { op, error });
        }
        let lies = self.lies(Canary::LeftTree);
        let linked = self.chains_linked.get(&chain).copied();
        if (tree, linked) == (Tree::Linked, Some(false)) {
            let error = LinkError::SourceGone;
            return Ok(Input::LinkFailed { op, error });
        }
        let trees = self.trees.entry(layer).or_default();
        let there = match tree {
            Tree::Original if lies => trees.original,
            Tree::Original => std::mem::take(&mut trees.original),
            Tree::Own(of) => of == place && trees.own.remove(&of),
            Tree::Linked => linked.is_some(),
        };
        if !there {
            return Err(Violation::Correctness(format!(
                "{layer:?} is linked at {place:?}, but its tree is not staged"
            )));
        }
        trees.linked = true;
        trees.over.remove(&place);
        self.chains_linked.insert(chain, true);
        self.callers[place.image.0 as usize].linked = place.index + 1;
        Ok(Input::Linked { op })
    }

    fn end_clone(&mut self, op: OpId, place: Place, layer: LayerId) -> Input {
        let gone = self.local_fault(place.index, |kind| {
            matches!(kind, LocalFaultKind::LinkSourceGone)
        });
        let trees = self.trees.entry(layer).or_default();
        let is_anywhere = trees.original || trees.elsewhere;
        if (gone.is_some() || !is_anywhere) && !trees.linked {
            (trees.original, trees.elsewhere) = (false, false);
            let error = LinkError::SourceGone;
            return Input::LinkFailed { op, error };
        }
        trees.own.insert(place);
        Input::Cloned { op }
    }

    fn link_fault(&mut self, index: u32, over: bool, tree: Tree) -> Option<LinkError> {
        let generic = match tree {
            Tree::Original => true,
            Tree::Own(_) => !over,
            Tree::Linked => false,
        };
        let kind = self.local_fault(index, |kind| match kind {
            LocalFaultKind::LinkNeedsParents => generic,
            LocalFaultKind::LinkSourceGone => !matches!(tree, Tree::Own(_)),
            LocalFaultKind::LinkDisk => true,
            LocalFaultKind::LaneDisk { .. }
            | LocalFaultKind::LaneBadImage { .. }
            | LocalFaultKind::LocalGone
            | LocalFaultKind::LocalCorrupt => false,
        })?;
        Some(match kind {
            LocalFaultKind::LinkNeedsParents => LinkError::NeedsParents,
            LocalFaultKind::LinkSourceGone => LinkError::SourceGone,
            LocalFaultKind::LinkDisk
            | LocalFaultKind::LaneDisk { .. }
            | LocalFaultKind::LaneBadImage { .. }
            | LocalFaultKind::LocalGone
            | LocalFaultKind::LocalCorrupt => LinkError::Disk,
        })
    }

    /// A tree is left for the next start: it must be there.
    pub(super) fn keep_tree(&mut self, layer: LayerId) -> Result<(), Violation> {
        if self.trees.get_mut(&layer).is_some_and(Trees::leave) {
            return Ok(());
        }
        Err(Violation::Correctness(format!(
            "{layer:?} is kept, but no tree of it is staged"
        )))
    }

    /// The first fault of the node that fits and has not happened often enough; counts it.
    pub(super) fn local_fault(
        &mut self,
        index: u32,
        fits: impl Fn(LocalFaultKind) -> bool,
    ) -> Option<LocalFaultKind> {
        for (fault, count) in self
            .scenario
            .local_faults
            .iter()
            .zip(&mut self.local_faults)
        {
            if *count < fault.times
                && fault.layer.is_none_or(|layer| layer == index)
                && fits(fault.kind)
            {
                *count += 1;
                self.record.local_faults += 1;
                self.record.coverage.sometimes(local_point(fault.kind));
                return Some(fault.kind);
            }
        }
        None
    }
}

/// Nanoseconds that `bytes` take at a rate.
pub(super) fn per_second(bytes: u64, bytes_per_second: u64) -> u64 {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

const DROP_BYTES_NANOS: u64 = 100_000;
const NANOS_PER_MICRO: u64 = 1_000;
