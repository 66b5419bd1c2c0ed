//! Chains: which places have the same layer over the same parents, so that what one of them links serves the others.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::engine::Engine;
use crate::id::ChainId;
use crate::image::LinkState;
use crate::output::Place;

/// The places of every chain that some image mentions.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    chains: BTreeMap<ChainId, Chain>,
}

#[derive(Debug, Default)]
struct Chain {
    places: BTreeSet<Place>,
    /// It was linked, and nobody has found it gone since.
    linked: bool,
}

/// What a place finds where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: it must bring a tree.
    Nothing,
    /// Another image's place is about to be linked there.
    Coming,
    /// A tree.
    Linked,
}

impl Chains {
    pub(crate) fn enter(&mut self, chain: ChainId, place: Place) {
        self.chains.entry(chain).or_default().places.insert(place);
    }

    pub(crate) fn leave(&mut self, chain: ChainId, place: Place) {
        if let Some(entry) = self.chains.get_mut(&chain) {
            entry.places.remove(&place);
            if entry.places.is_empty() {
                self.chains.remove(&chain);
            }
        }
    }

    /// Notes that a tree is in place, or that it was found gone.
    pub(crate) fn set_linked(&mut self, chain: ChainId, linked: bool) {
        if let Some(entry) = self.chains.get_mut(&chain) {
            entry.linked = linked;
        }
    }

    pub(crate) fn is_linked(&self, chain: ChainId) -> bool {
        self.chains.get(&chain).is_some_and(|chain| chain.linked)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

impl Engine {
    /// What lies where a place is to be linked, or is on its way there.
    pub(crate) fn found(&self, place: Place, chain: ChainId) -> Found {
        let Some(entry) = self.chains.chains.get(&chain) else {
            return Found::Nothing;
        };
        if mutant!(ChainLinkedTwice) {
            return Found::Nothing;
        }
        if entry.linked {
            return Found::Linked;
        }
        let comes = |other: &Place| {
            *other != place
                && self.is_coming(*other)
                && !(self.brings_own(place) && place < *other && self.brings_own(*other))
        };
        if entry.places.iter().any(comes) {
            Found::Coming
        } else {
            Found::Nothing
        }
    }

    /// Whether a place is yet to be linked with a tree made over its own parents: of several, the first goes first.
    fn brings_own(&self, place: Place) -> bool {
        let link = self
            .images
            .get(&place.image)
            .and_then(|image| image.link(place.index));
        link.is_some_and(|link| link.state == LinkState::Pending && link.tree.over.is_some())
    }

    /// Whether a place is being linked, or is being given a tree of its own and somebody waits for it.
    fn is_coming(&self, place: Place) -> bool {
        let Some(image) = self.images.get(&place.image) else {
            return false;
        };
        let Some(link) = image.link(place.index) else {
            return false;
        };
        match link.state {
            LinkState::Done => false,
            LinkState::Linking(_) => true,
            LinkState::Cloning(_) | LinkState::Dropping(_) => image.is_live(),
            LinkState::Cloned => image.is_live() && link.callers > 0,
            LinkState::Pending => image.is_live() && link.callers > 0 && link.tree.over.is_some(),
        }
    }
}
