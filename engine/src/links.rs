//! Links: putting layers in their places, bottom up, when someone waits for them.
//!
//! A place takes what is linked over the same parents already; else it takes the staged tree, or a clone of it when
//! others want that too; else, when the tree turns out to depend on what lies below, one made over its own parents.

use alloc::vec::Vec;

use crate::chains::Found;
use crate::engine::Engine;
use crate::error::{LayerError, LinkError};
use crate::id::{ImageId, OpId};
use crate::image::{Image, LinkState};
use crate::layer::{LayerState, TreeId};
use crate::op::OpKind;
use crate::output::{Action, Event, Outcome, Place, Tree};

impl Engine {
    pub(crate) fn admit_links(&mut self) {
        if !self.work_may_start {
            return;
        }
        let images: Vec<ImageId> = self.images.keys().copied().collect();
        for image in images {
            self.admit_link(image);
        }
    }

    /// Starts the next link of an image if its layer is there and someone waits for it.
    fn admit_link(&mut self, id: ImageId) {
        let image = &self.images[&id];
        if !image.is_live() {
            return;
        }
        let Some(index) = image.next_link() else {
            return;
        };
        let index = index + u32::from(mutant!(LinkBeforeParent));
        let Some(link) = image.link(index) else {
            return;
        };
        if link.callers == 0 {
            return;
        }
        let (tree, place) = (link.tree, Place { image: id, index });
        match link.state {
            LinkState::Cloned => self.start_link(place, tree, Tree::Own(place)),
            LinkState::Pending => match self.found(place, link.chain) {
                Found::Linked => self.start_link(place, tree, Tree::Linked),
                Found::Coming => {}
                Found::Nothing => self.bring(place, tree),
            },
            _ => {}
        }
    }

    /// Gives a place the staged tree, or a clone of it.
    ///
    /// Of several places that need a tree of one layer, all but the last take a clone: the last consumes the tree itself.
    fn bring(&mut self, place: Place, tree: TreeId) {
        match self.layers[&tree].state {
            LayerState::Consumed => self.start_clone(place, tree),
            LayerState::Absent => self.unpack_again(tree),
            LayerState::Staged => {
                let others = self.others(place, tree);
                if others.contains(&LinkState::Pending) {
                    self.start_clone(place, tree);
                } else if !others
                    .iter()
                    .any(|state| matches!(state, LinkState::Cloning(_)))
                {
                    self.start_link(place, tree, tree.name());
                }
            }
            _ => {}
        }
    }

    /// Where the other places stand that want a tree of a layer and will not find one where they belong.
    fn others(&self, place: Place, tree: TreeId) -> Vec<LinkState> {
        let chain_of = |place: Place| Some(self.images.get(&place.image)?.link(place.index)?.chain);
        let chain = chain_of(place);
        self.layers[&tree]
            .wanted
            .iter()
            .filter(|other| **other != place)
            .filter_map(|other| {
                let link = self.images.get(&other.image)?.link(other.index)?;
                let shares = link.state == LinkState::Pending
                    && (Some(link.chain) == chain || self.chains.is_linked(link.chain));
                (!shares).then_some(link.state)
            })
            .collect()
    }

    fn start_link(&mut self, place: Place, layer: TreeId, tree: Tree) {
        let op = self.open(OpKind::Link { place, layer, tree });
        self.set_link(place, LinkState::Linking(op));
        if let (true, Some(entry)) = (tree == layer.name(), self.layers.get_mut(&layer)) {
            entry.state = LayerState::Leaving(op);
        }
        self.act(Action::LinkLayer {
            op,
            place,
            layer: layer.layer,
            tree,
        });
    }

    fn start_clone(&mut self, place: Place, layer: TreeId) {
        let made = self.layers[&layer].made;
        let op = self.open(OpKind::Clone { place, layer, made });
        self.set_link(place, LinkState::Cloning(op));
        self.act(Action::CloneLayer {
            op,
            place,
            layer: layer.layer,
        });
    }

    pub(crate) fn set_link(&mut self, place: Place, state: LinkState) {
        if let Some(link) = self
            .images
            .get_mut(&place.image)
            .and_then(|image| image.link_mut(place.index))
        {
            link.state = state;
        }
    }

    pub(crate) fn on_linked(&mut self, id: OpId) {
        let Some(op) = self.close(id) else { return };
        let OpKind::Link { place, layer, tree } = op.kind else {
            return;
        };
        self.set_link(place, LinkState::Done);
        self.note_chain(place, true);
        if let Some(entry) = self.layers.get_mut(&layer) {
            entry.wanted.remove(&place);
            if tree == layer.name() {
                entry.state = LayerState::Consumed;
            }
        }
        // A tree that was made again for others goes on without this image.
        self.move_charges(place.image, layer);
        if self.images.get(&place.image).is_some_and(Image::is_live) {
            self.tell(Event::LayerReady { place });
            if mutant!(ReadyTwice) {
                self.tell(Event::LayerReady { place });
            }
            self.dismiss_callers(place);
        }
        self.retain_until_forgotten(place.image, layer);
        self.release_layer(layer);
        self.finish_if_linked(place.image);
        self.finish_if_ended(place.image);
    }

    fn note_chain(&mut self, place: Place, linked: bool) {
        let link = self
            .images
            .get(&place.image)
            .and_then(|image| image.link(place.index));
        if let Some(chain) = link.map(|link| link.chain) {
            self.chains.set_linked(chain, linked);
        }
    }

    pub(crate) fn on_cloned(&mut self, id: OpId) {
        let Some(op) = self.close(id) else { return };
        let OpKind::Clone { place, .. } = op.kind else {
            return;
        };
        self.set_link(place, LinkState::Cloned);
        if !self.images.get(&place.image).is_some_and(Image::is_live) {
            self.drop_clone(place);
        }
    }

    pub(crate) fn on_link_failed(&mut self, id: OpId, error: LinkError) {
        let Some(op) = self.close(id) else { return };
        let (place, layer, tree) = match op.kind {
            OpKind::Link { place, layer, tree } => (place, layer, Some(tree)),
            OpKind::Clone { place, layer, .. } => (place, layer, None),
            _ => return,
        };
        // Another clone may have found the tree gone, and it was made again since.
        let made_since = matches!(op.kind, OpKind::Clone { made, .. }
            if self.layers.get(&layer).is_some_and(|layer| layer.made != made));
        let of_made = tree == Some(layer.name());
        let of_clone = !of_made && matches!(tree, Some(Tree::Own(_)));
        let state = if of_clone {
            LinkState::Cloned
        } else {
            LinkState::Pending
        };
        self.set_link(place, state);
        if let (true, Some(entry)) = (of_made, self.layers.get_mut(&layer)) {
            entry.state = LayerState::Staged;
        }
        if error == LinkError::SourceGone && !made_since {
            self.on_source_gone(place, layer, tree);
        }
        if !self.images.get(&place.image).is_some_and(Image::is_live) {
            self.unlink(place);
            self.finish_if_ended(place.image);
            return;
        }
        match error {
            LinkError::NeedsParents if of_made && layer.over.is_none() => {
                self.make_over_parents(place);
            }
            LinkError::NeedsParents if of_clone => {
                self.need_parents(place);
                self.drop_clone(place);
            }
            LinkError::SourceGone if !of_clone => {}
            LinkError::NeedsParents | LinkError::SourceGone | LinkError::Disk => {
                let outcome = Outcome::Failed {
                    index: place.index,
                    error: LayerError::Link(error),
                };
                self.end_image(place.image, outcome);
            }
        }
    }

    /// What a link or clone was to be made from is gone: nobody counts on it any more.
    fn on_source_gone(&mut self, place: Place, layer: TreeId, tree: Option<Tree>) {
        match tree {
            Some(Tree::Linked) => self.note_chain(place, false),
            Some(tree) if tree != layer.name() => {}
            _ if self.is_being_dropped(layer) => {}
            _ => self.unpack_again(layer),
        }
    }

    fn need_parents(&mut self, place: Place) {
        if let Some(link) = self
            .images
            .get_mut(&place.image)
            .and_then(|image| image.link_mut(place.index))
        {
            link.needs_parents = true;
        }
    }

    /// The tree depends on what lies below this place: it gets one of its own, unpacked over its parents. The shared one
    /// may still serve others.
    pub(crate) fn make_over_parents(&mut self, place: Place) {
        let Some(link) = self
            .images
            .get_mut(&place.image)
            .and_then(|image| image.link_mut(place.index))
        else {
            return;
        };
        let shared = link.tree;
        let own = TreeId {
            over: Some(place),
            ..shared
        };
        link.tree = own;
        let Some(entry) = self.layers.get(&shared) else {
            return;
        };
        let entry = entry.again_over(place);
        self.layers.insert(own, entry);
        self.unfed.insert(own);
        self.unwant(place, shared);
        self.feed(own);
    }

    /// Whether a layer's tree is on its way out, after which it will be unpacked again if it is wanted.
    fn is_being_dropped(&self, layer: TreeId) -> bool {
        let entry = self.layers.get(&layer);
        entry.is_some_and(|entry| matches!(entry.state, LayerState::Dropping(_)))
    }

    /// The tree is gone: the layer starts over.
    pub(crate) fn unpack_again(&mut self, layer: TreeId) {
        let Some(entry) = self.layers.get_mut(&layer) else {
            return;
        };
        // Several clones may find the tree gone; the first of them has it made again.
        if matches!(entry.state, LayerState::Waiting | LayerState::Unpacking(_)) {
            return;
        }
        entry.state = LayerState::Waiting;
        self.unfed.insert(layer);
        self.feed(layer);
    }

    /// Ends a successful pull once nothing mentions it.
    pub(crate) fn finish_if_linked(&mut self, id: ImageId) {
        let Some(image) = self.images.get(&id) else {
            return;
        };
        if image.is_live() && image.next_link().is_none() && image.releasing.is_empty() {
            self.finish(id, Outcome::Ready);
        }
    }
}
