//! However many threads a lane has, and whenever that changes, it makes the same layer.

use std::io::{self, Read, Write as _};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use flate2::read::MultiGzDecoder;
use flate2::{Compression, write::GzEncoder};
use parapull_snapshotter::unpack::{
    Bounds, Controls, Encoding, Indexing, OverlaySink, Position, Progress, ThreadPermit, unpack,
    unpack_indexed,
};
use proptest::prelude::*;

use super::archive::{archive, file};
use super::lane::{is_root, place, run, spec};
use super::pipeline::large;
use super::streams::gzip;
use super::tree::Tree;

#[test]
fn any_number_of_threads_makes_the_same_tree() {
    if !is_root("any_number_of_threads_makes_the_same_tree") {
        return;
    }
    let tar = large();
    let compressed = gzip(&tar);
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    let trees: Vec<Tree> = (0..7)
        .map(|threads| {
            let place = place();
            let dir = place.path().join("layer");
            let unpacked = run(
                &compressed[..],
                &spec,
                &dir,
                Position::Upper,
                &Bounds::default(),
                threads,
            )
            .unwrap();
            assert_eq!(unpacked.compressed_bytes, compressed.len() as u64);
            assert_eq!(unpacked.uncompressed_bytes, tar.len() as u64);
            assert_eq!(unpacked.staged.entries, 40);
            Tree::read(&unpacked.staged.root)
        })
        .collect();
    assert_eq!(trees[0].0.len(), 40);
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]));
}

/// A source that changes the permit at each read.
struct Resizing<'a> {
    bytes: &'a [u8],
    permit: &'a ThreadPermit,
    reads: u32,
}

impl Read for Resizing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        self.permit.grant(self.reads % 7);
        let bytes = buffer.len().min(3_000);
        self.bytes.read(&mut buffer[..bytes])
    }
}

#[test]
fn the_permit_may_change_at_any_buffer() {
    if !is_root("the_permit_may_change_at_any_buffer") {
        return;
    }
    let tar = large();
    let compressed = gzip(&tar);
    let place = place();
    let dir = place.path().join("layer");
    let permit = ThreadPermit::new(1);
    let progress = Progress::new();
    let source = Resizing {
        bytes: &compressed,
        permit: &permit,
        reads: 0,
    };
    let controls = Controls {
        threads: &permit,
        progress: &progress,
        stop_source: &|| {},
    };
    let sink = Box::new(OverlaySink::new(&dir, Position::Upper).unwrap());
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    let unpacked = unpack(source, &spec, sink, &Bounds::default(), controls).unwrap();
    assert_eq!(Tree::read(&unpacked.staged.root).0.len(), 40);
    assert_eq!(
        (progress.bytes_in(), progress.bytes_out()),
        (compressed.len() as u64, tar.len() as u64)
    );
    assert_eq!(progress.entries(), 40);
}

/// A source that gives long reads and changes the permit every now and then.
struct Hurrying<'a> {
    bytes: &'a [u8],
    permit: &'a ThreadPermit,
    reads: u32,
    /// Those that a thread made which does nothing but read for others that inflate.
    reads_ahead: &'a AtomicU32,
}

impl Read for Hurrying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if thread::current().name() == Some("read") {
            self.reads_ahead.fetch_add(1, Ordering::Relaxed);
        }
        if self.reads.is_multiple_of(40) {
            self.permit
                .grant([5, 1, 4, 2][(self.reads / 40) as usize % 4]);
        }
        let bytes = buffer.len().min(60_000);
        self.bytes.read(&mut buffer[..bytes])
    }
}

#[test]
fn a_layer_inflated_in_pieces_is_the_same_layer() {
    if !is_root("a_layer_inflated_in_pieces_is_the_same_layer") {
        return;
    }
    let text = letters(14 << 20);
    let tar = archive([file("text", &text)]);
    let compressed = gzip_in_blocks(&tar);
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    for changes in [false, true] {
        let place = place();
        let dir = place.path().join("layer");
        let permit = ThreadPermit::new(5);
        let progress = Progress::new();
        let ignored = ThreadPermit::new(1);
        let reads_ahead = AtomicU32::new(0);
        let source = Hurrying {
            bytes: &compressed,
            permit: if changes { &permit } else { &ignored },
            reads: 0,
            reads_ahead: &reads_ahead,
        };
        let controls = Controls {
            threads: &permit,
            progress: &progress,
            stop_source: &|| {},
        };
        let sink = Box::new(OverlaySink::new(&dir, Position::Upper).unwrap());
        let unpacked = unpack(source, &spec, sink, &Bounds::default(), controls).unwrap();
        assert_eq!(progress.bytes_in(), compressed.len() as u64);
        assert!(std::fs::read(unpacked.staged.root.join("text")).unwrap() == text);
        assert!(reads_ahead.into_inner() > 0, "it was inflated in order");
    }
}

#[test]
fn a_layer_entered_at_checkpoints_is_the_same_layer() {
    if !is_root("a_layer_entered_at_checkpoints_is_the_same_layer") {
        return;
    }
    let tar = archive([
        file("letters", letters(14 << 20)),
        file("zeros", vec![0; 9 << 20]),
    ]);
    let compressed = gzip_in_blocks(&tar);
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    let mut known = Vec::new();
    for (threads, span_bytes) in [
        (1, Some(1 << 20)),
        (2, Some(1 << 20)),
        (5, None),
        (3, Some(1 << 20)),
        (4, Some(1 << 20)),
    ] {
        let place = place();
        let sink = OverlaySink::new(&place.path().join("layer"), Position::Upper).unwrap();
        let indexing = Indexing {
            known: known.clone(),
            note_span_bytes: span_bytes,
        };
        let controls = Controls {
            threads: &ThreadPermit::new(threads),
            progress: &Progress::new(),
            stop_source: &|| {},
        };
        let bounds = Bounds::default();
        let unpacked = unpack_indexed(
            &compressed[..],
            &spec,
            indexing,
            Box::new(sink),
            &bounds,
            controls,
        );
        let unpacked = unpacked.unwrap();
        assert_eq!(unpacked.uncompressed_bytes, tar.len() as u64);
        if span_bytes.is_some() {
            assert!(
                known.is_empty() || known == unpacked.checkpoints,
                "{threads} threads"
            );
            known = unpacked.checkpoints;
            assert!(known.len() > 13, "{} checkpoints", known.len());
        }
    }
}

/// A source whose reads change the permit as a schedule says: after so many reads, to so many threads.
struct Scheduled<'a> {
    bytes: &'a [u8],
    permit: &'a ThreadPermit,
    schedule: std::slice::Iter<'a, (u32, u32)>,
    reads_left: u32,
    next: u32,
}

impl Read for Scheduled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reads_left == 0 {
            self.permit.grant(self.next);
            if let Some((reads, threads)) = self.schedule.next() {
                (self.reads_left, self.next) = (*reads, *threads);
            }
        }
        self.reads_left = self.reads_left.saturating_sub(1);
        let bytes = buffer.len().min(40_000);
        self.bytes.read(&mut buffer[..bytes])
    }
}

/// Streams that guesses fit well, badly and not at all, with what flate2 decodes from them.
static STREAMS: LazyLock<Vec<(Vec<u8>, Vec<u8>)>> = LazyLock::new(|| {
    let tar = archive([
        file("letters", letters(7 << 20)),
        file("zeros", vec![0; 3 << 20]),
        file("more", letters(2 << 20)),
    ]);
    let (head, tail) = tar.split_at(tar.len() / 2);
    let members = [gzip_in_blocks(head), gzip_in_blocks(tail)].concat();
    let streams = [gzip_in_blocks(&tar), members, gzip(&tar)];
    let decoded = |stream: &Vec<u8>| {
        let mut decoded = Vec::new();
        MultiGzDecoder::new(&stream[..])
            .read_to_end(&mut decoded)
            .unwrap();
        decoded
    };
    streams
        .into_iter()
        .map(|stream| (decoded(&stream), stream))
        .collect()
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) })]

    /// From in order to in pieces and back, in the middle of blocks and members, is what flate2 decodes.
    #[test]
    fn whatever_the_threads_are_and_become_the_layer_is_the_same(
        which in 0_usize..3,
        schedule in prop::collection::vec((0_u32..70, 0_u32..9), 1..12),
    ) {
        if !is_root("whatever_the_threads_are_and_become_the_layer_is_the_same") {
            return Ok(());
        }
        let (tar, compressed) = &STREAMS[which];
        let spec = spec(compressed, tar, Encoding::Sniffed);
        let place = place();
        let permit = ThreadPermit::new(1);
        let progress = Progress::new();
        let source = Scheduled {
            bytes: compressed,
            permit: &permit,
            schedule: schedule.iter(),
            reads_left: 0,
            next: 1,
        };
        let controls = Controls {
            threads: &permit,
            progress: &progress,
            stop_source: &|| {},
        };
        let sink = OverlaySink::new(&place.path().join("layer"), Position::Upper).unwrap();
        // Both digests are held against the stream and what flate2 makes of it.
        let unpacked = unpack(source, &spec, Box::new(sink), &Bounds::default(), controls);
        let unpacked = unpacked.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(unpacked.uncompressed_bytes, tar.len() as u64);
        prop_assert_eq!(progress.bytes_in(), compressed.len() as u64);
        prop_assert_eq!(progress.bytes_out(), tar.len() as u64);
        prop_assert_eq!(unpacked.staged.entries, 3);
    }
}

/// Letters drawn at random: a quarter is saved by shorter codes, so every block has codes of its own.
pub fn letters(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'A' + (state >> 59) as u8
    };
    std::iter::repeat_with(draw).take(bytes).collect()
}

/// At zlib's usual level: the quickest one makes one block of everything.
pub fn gzip_in_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
