//! Links: putting staged layers in their places, bottom up, when someone waits for them.

use alloc::vec::Vec;

use crate::engine::Engine;
use crate::error::{LayerError, LinkError};
use crate::id::{ImageId, LayerId, OpId};
use crate::image::LinkState;
use crate::layer::{Layer, LayerState};
use crate::op::OpKind;
use crate::output::{Action, Event, Outcome, Place, Tree};

impl Engine {
    pub(crate) fn admit_links(&mut self) {
        let images: Vec<ImageId> = self.images.keys().copied().collect();
        for image in images {
            self.admit_link(image);
        }
    }

    /// Starts the next link of an image if its layer is staged and someone waits for it.
    ///
    /// Of several places that want one layer, all but the last take a clone: the last consumes the tree itself.
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
        let (layer_id, place) = (link.layer, Place { image: id, index });
        if link.callers == 0 {
            return;
        }
        let layer = &self.layers[&layer_id];
        match (link.state, layer.state) {
            (LinkState::Cloned, _) => self.start_link(place, layer_id, Tree::Clone(place)),
            (LinkState::Pending, LayerState::Consumed) => self.start_clone(place, layer_id),
            (LinkState::Pending, LayerState::Staged) => {
                if self.others_are(layer, place, |state| state == LinkState::Pending) {
                    self.start_clone(place, layer_id);
                } else if !self
                    .others_are(layer, place, |state| matches!(state, LinkState::Cloning(_)))
                {
                    self.start_link(place, layer_id, Tree::Original);
                }
            }
            _ => {}
        }
    }

    /// Whether another place that wants a layer is in such a state.
    fn others_are(&self, layer: &Layer, place: Place, state: impl Fn(LinkState) -> bool) -> bool {
        layer
            .wanted
            .iter()
            .filter(|other| **other != place)
            .any(|other| {
                let link = self.images[&other.image].link(other.index);
                link.is_some_and(|link| state(link.state))
            })
    }

    fn start_link(&mut self, place: Place, layer: LayerId, tree: Tree) {
        let op = self.open(OpKind::Link { place, layer, tree });
        self.set_link(place, LinkState::Linking(op));
        if let (Tree::Original, Some(entry)) = (tree, self.layers.get_mut(&layer)) {
            entry.state = LayerState::Leaving(op);
        }
        self.act(Action::LinkLayer {
            op,
            place,
            layer,
            tree,
        });
    }

    fn start_clone(&mut self, place: Place, layer: LayerId) {
        let op = self.open(OpKind::Clone { place, layer });
        self.set_link(place, LinkState::Cloning(op));
        self.act(Action::CloneLayer { op, place, layer });
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
        if let Some(entry) = self.layers.get_mut(&layer) {
            entry.wanted.remove(&place);
            if tree == Tree::Original {
                entry.state = LayerState::Consumed;
            }
        }
        // A tree that was made again for others goes on without this image.
        self.move_charges(place.image, layer);
        let live = self
            .images
            .get(&place.image)
            .is_some_and(crate::image::Image::is_live);
        if live {
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

    pub(crate) fn on_cloned(&mut self, id: OpId) {
        let Some(op) = self.close(id) else { return };
        let OpKind::Clone { place, layer } = op.kind else {
            return;
        };
        self.set_link(place, LinkState::Cloned);
        if self
            .images
            .get(&place.image)
            .is_some_and(|image| !image.is_live())
        {
            self.drop_clone(place, layer);
        }
    }

    pub(crate) fn on_link_failed(&mut self, id: OpId, error: LinkError) {
        let Some(op) = self.close(id) else { return };
        let (place, layer, tree) = match op.kind {
            OpKind::Link { place, layer, tree } => (place, layer, Some(tree)),
            OpKind::Clone { place, layer } => (place, layer, None),
            _ => return,
        };
        let state = if matches!(tree, Some(Tree::Clone(_))) {
            LinkState::Cloned
        } else {
            LinkState::Pending
        };
        self.set_link(place, state);
        if let (Some(Tree::Original), Some(entry)) = (tree, self.layers.get_mut(&layer)) {
            entry.state = LayerState::Staged;
        }
        let live = self
            .images
            .get(&place.image)
            .is_some_and(crate::image::Image::is_live);
        let gone = error == LinkError::SourceGone && !matches!(tree, Some(Tree::Clone(_)));
        if gone && !self.is_being_dropped(layer) {
            self.unpack_again(layer);
        }
        if !live {
            self.unlink(place);
            self.finish_if_ended(place.image);
            return;
        }
        match (error, tree) {
            (LinkError::NeedsParents, Some(Tree::Original)) => self.unpack_over(place, layer),
            (LinkError::SourceGone, None | Some(Tree::Original)) => {}
            _ => {
                let outcome = Outcome::Failed {
                    index: place.index,
                    error: LayerError::Link(error),
                };
                self.end_image(place.image, outcome);
            }
        }
    }

    /// The tree depends on what lies below: it is dropped and unpacked again over its parent.
    fn unpack_over(&mut self, place: Place, layer: LayerId) {
        if let Some(entry) = self.layers.get_mut(&layer) {
            entry.over = Some(place);
        }
        self.drop_staged(layer);
    }

    /// Whether a layer's tree is on its way out, after which it will be unpacked again if it is wanted.
    fn is_being_dropped(&self, layer: LayerId) -> bool {
        let entry = self.layers.get(&layer);
        entry.is_some_and(|entry| matches!(entry.state, LayerState::Dropping(_)))
    }

    /// The tree is gone: the layer starts over.
    pub(crate) fn unpack_again(&mut self, layer: LayerId) {
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
