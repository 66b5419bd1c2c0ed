//! A picture of the engine's state as plain data: for status pages and plots, never for decisions.

use alloc::vec::Vec;

use crate::engine::Engine;
use crate::id::{ImageId, LayerId};
use crate::image::{Image, LinkState};
use crate::layer::{LayerState, TreeId};
use crate::output::Outcome;

/// What an engine is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// Fetches open, and at most.
    pub fetches: (u64, u64),
    /// Fetches among them that bring what another one brings too, and at most.
    #[cfg_attr(feature = "serde", serde(default))]
    pub hedges: (u64, u64),
    /// Lanes open, and at most.
    pub unpacks: (u64, u64),
    /// Threads granted, and at most.
    pub threads: (u64, u64),
    /// Bytes charged to the window, and at most.
    pub window_bytes: (u64, u64),
    /// Bytes charged to the spool, and at most.
    pub spool_bytes: (u64, u64),
    /// Inputs about ops that were closed already.
    pub stale: u64,
    /// The pulls.
    pub images: Vec<ImageSnapshot>,
    /// The blobs being read.
    pub blobs: Vec<BlobSnapshot>,
}

/// What a pull is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ImageSnapshot {
    /// The image.
    pub image: ImageId,
    /// Callers waiting for any of its layers.
    pub callers: u32,
    /// How it is ending, if it is.
    pub ending: Option<Outcome>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerSnapshot>,
}

/// What a layer of a pull is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LayerSnapshot {
    /// The layer.
    pub layer: LayerId,
    /// Where it stands.
    pub phase: LayerPhase,
    /// Why it does not get further.
    pub hold: HoldReason,
    /// Compressed size in bytes; 0 when it was linked before.
    pub size: u64,
    /// Compressed bytes present or read.
    pub fetched: u64,
    /// Compressed bytes a lane has let go of.
    pub released: u64,
    /// Uncompressed bytes written.
    pub produced: u64,
    /// Entries written.
    pub entries: u64,
}

/// What a blob is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlobSnapshot {
    /// Its layer.
    pub layer: LayerId,
    /// Fetches open for it.
    pub fetches: u32,
    /// Bytes it is charged for.
    pub charged_bytes: u64,
    /// What holds the next fetch back.
    pub hold: HoldReason,
}

/// Where a layer stands, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum LayerPhase {
    /// Nothing has begun.
    Waiting,
    /// Bytes arrive, no lane reads them.
    Fetching,
    /// A lane is at work.
    Unpacking,
    /// Verified and out of sight.
    Staged,
    /// In its place.
    Linked,
}

/// Why something is not started. Everything that waits has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum HoldReason {
    /// Nothing holds it: it runs or is done.
    Nothing,
    /// All fetches are taken.
    Fetches,
    /// All fetches of the image are taken.
    FetchesPerImage,
    /// The window is full.
    Window,
    /// The layer's share of the window is full: its lane is the slower side.
    LayerWindow,
    /// What may be fetched for layers without a lane is used up.
    Lane,
    /// The spool is full.
    Spool,
    /// A failed range waits out its backoff.
    Backoff,
    /// Every host asked to be left alone for a while.
    RetryAfter,
    /// The host bears no more connections.
    HostConnections,
    /// The host's request rate is used up.
    HostRequests,
    /// The plan changes: fetches are closing, bytes are being dropped.
    Settling,
    /// All lanes are taken.
    Unpacks,
    /// All lanes of the image are taken.
    UnpacksPerImage,
    /// All threads are taken.
    Threads,
    /// The blob is not complete, and the strategy wants it to be.
    Bytes,
    /// The layer below is not linked.
    Parent,
    /// Nobody waits for it.
    Caller,
    /// The same blob is being read for another layer.
    BlobInUse,
    /// Lower limits wait for what is held.
    LimitsChanging,
}

impl Engine {
    /// What it is doing.
    pub fn snapshot(&self) -> Snapshot {
        let budgets = &self.budgets;
        Snapshot {
            fetches: (budgets.fetches.used(), budgets.fetches.max()),
            hedges: (self.races.open(), self.config.hedging.hedges_max.into()),
            unpacks: (budgets.unpacks.used(), budgets.unpacks.max()),
            threads: (budgets.threads.used(), budgets.threads.max()),
            window_bytes: (budgets.window.used(), budgets.window.max()),
            spool_bytes: (budgets.spool.used(), budgets.spool.max()),
            stale: self.stale,
            images: self
                .images
                .iter()
                .map(|(id, image)| self.picture(*id, image))
                .collect(),
            blobs: self
                .blobs
                .values()
                .map(|blob| BlobSnapshot {
                    layer: blob.layer.layer,
                    fetches: u32::try_from(blob.open.len()).unwrap_or(u32::MAX),
                    charged_bytes: blob.charge.amount(),
                    hold: self.fetch_hold(blob),
                })
                .collect(),
        }
    }

    fn picture(&self, id: ImageId, image: &Image) -> ImageSnapshot {
        let next = image.next_link();
        let layers = image
            .links
            .iter()
            .zip(0..)
            .map(|(link, index)| {
                self.layer_picture(link.tree, link.state, next == Some(index), link.callers > 0)
            })
            .collect();
        ImageSnapshot {
            image: id,
            callers: image.callers,
            ending: image.ending,
            layers,
        }
    }

    fn layer_picture(
        &self,
        id: TreeId,
        link: LinkState,
        is_next: bool,
        awaited: bool,
    ) -> LayerSnapshot {
        let mut picture = LayerSnapshot {
            layer: id.layer,
            phase: LayerPhase::Linked,
            hold: HoldReason::Nothing,
            size: 0,
            fetched: 0,
            released: 0,
            produced: 0,
            entries: 0,
        };
        let Some(layer) = self.layers.get(&id) else {
            return picture;
        };
        picture.size = layer.size;
        (picture.produced, picture.entries) = (layer.produced, layer.entries);
        (picture.fetched, picture.released) = (layer.size, layer.size);
        if link == LinkState::Done {
            return picture;
        }
        (picture.phase, picture.hold) = match layer.state {
            LayerState::Waiting => (LayerPhase::Waiting, self.lane_hold(id, layer)),
            LayerState::Unpacking(_) => (LayerPhase::Unpacking, HoldReason::Nothing),
            LayerState::Staged
            | LayerState::Leaving(_)
            | LayerState::Consumed
            | LayerState::Absent
            | LayerState::Dropping(_) => {
                let hold = match (is_next, awaited) {
                    (false, _) => HoldReason::Parent,
                    (true, false) => HoldReason::Caller,
                    (true, true) => HoldReason::Nothing,
                };
                (LayerPhase::Staged, hold)
            }
        };
        let blob = self.blobs.get(&layer.blob).filter(|blob| blob.layer == id);
        if let (Some(blob), LayerState::Waiting | LayerState::Unpacking(_)) = (blob, layer.state) {
            picture.fetched = blob.released + blob.unread_bytes();
            picture.released = blob.released;
            if picture.phase == LayerPhase::Waiting && blob.next > 0 {
                picture.phase = LayerPhase::Fetching;
            }
        }
        picture
    }
}
