//! Chunks: what was never asked for is cut anew when limits change, or when more is known of the host it comes from.
//!
//! The sizes are computed in [`crate::plan`]; what is known of hosts is learned in [`crate::tempo`]. A chunk that was
//! asked for stays what it is.

use alloc::vec::Vec;

use crate::blob::{Blob, Mode};
use crate::engine::Engine;
use crate::host::Host;
use crate::id::BlobId;
use crate::op::Fetch;
use crate::plan::{self, Known};
use crate::tempo::{Fetched, Tempo};

impl Engine {
    /// Cuts blobs anew where that is due.
    pub(crate) fn recut(&mut self) {
        if !core::mem::take(&mut self.recut_due) {
            return;
        }
        let cuts = self.cuts();
        if cuts.is_empty() {
            return;
        }
        for (id, wanted, bytes_max) in cuts {
            if let Some(blob) = self.blobs.get_mut(&id) {
                blob.recut(wanted, bytes_max);
            }
        }
        self.queue.look_again();
    }

    /// The blobs to cut anew, with the size to aim at and the largest.
    fn cuts(&self) -> Vec<(BlobId, u64, u64)> {
        let limits = &self.config.limits;
        let slice = self.plan(true).piece_bytes_max;
        let chunk = self.plan(false).piece_bytes_max;
        let unasked = |blob: &Blob| blob.unasked_bytes();
        let work_bytes = self.blobs.values().map(unasked).sum();
        let cut = |(id, blob): (&BlobId, &Blob)| {
            let most = if blob.mode == Mode::Ranged {
                chunk
            } else {
                slice
            };
            let chooses = blob.mode == Mode::Ranged && limits.chooses_chunks();
            let wanted = if chooses {
                self.chosen_bytes(blob, work_bytes)
            } else {
                most
            };
            let due = blob.next_piece_bytes() > most || chooses && blob.is_cut_otherwise(wanted);
            (due && blob.has_next()).then_some((*id, wanted, most))
        };
        self.blobs.iter().filter_map(cut).collect()
    }

    /// What the chunks of a blob should have by what is known now.
    fn chosen_bytes(&self, blob: &Blob, work_bytes: u64) -> u64 {
        let raw = self.config.limits.raw();
        let host = self.hosts.get(&blob.host(blob.first_source));
        let images = u32::try_from(self.images.len()).unwrap_or(u32::MAX);
        let of_images = raw.fetches_per_image_max.saturating_mul(images.max(1));
        let connections = host.map_or(u64::MAX, Host::ceiling);
        let permits = u64::from(raw.fetches_max.min(of_images)).min(connections);
        let unknown = Tempo::default();
        let tempo = host.map_or(&unknown, |host| &host.tempo);
        let requests = self.config.hosts.requests_per_second_max;
        plan::chosen_bytes(&Known {
            bounds: (raw.chunk_bytes_min, raw.chunk_bytes_max),
            work_bytes,
            permits,
            lasting_bytes: tempo.lasting_bytes(),
            seldom_bytes: tempo.seldom_bytes(requests, permits),
        })
    }

    /// Learns what a range that ended well says about its host.
    pub(crate) fn note_tempo(&mut self, fetch: &Fetch) {
        let Some(host) = fetch.host else { return };
        let fetched = Fetched {
            asked_at: fetch.asked_at,
            first: fetch.first.unwrap_or((self.now, fetch.kept)),
            ended_at: self.now,
            bytes: fetch.kept,
        };
        if self.host_mut(host).tempo.learn(&fetched) && self.config.limits.chooses_chunks() {
            self.recut_due = true;
        }
    }
}
