//! What unpacking a layer costs, step by step: `cargo bench -p parapull-snapshotter`.
//!
//! One layer of text and noise, gzip -6, in memory: inflated by flate2's own loop, by ours in order, with checkpoints noted,
//! ahead by guessing, and ahead from checkpoints; then unpacked whole, both digests and files on a tmpfs. Rates are of
//! uncompressed bytes. Compare ratios of one run only; `parapull-bench unpack` compares with other programs.

#![expect(clippy::unwrap_used, reason = "a broken bench should stop")]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::inflate::probe;
use parapull_snapshotter::unpack::{
    Bounds, Controls, Encoding, LayerSpec, OverlaySink, Position, Progress, ThreadPermit, unpack,
};

struct Layer {
    compressed: Vec<u8>,
    spec: LayerSpec,
    bytes: u64,
}

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let layer = layer();
    inflate(&mut criterion, &layer);
    whole(&mut criterion, &layer);
    criterion.final_summary();
}

fn inflate(criterion: &mut Criterion, layer: &Layer) {
    let mut group = criterion.benchmark_group("inflate");
    group.throughput(Throughput::Bytes(layer.bytes));
    group.sampling_mode(SamplingMode::Flat);
    let stream = &layer.compressed[..];
    group.bench_function("flate2", |bencher| {
        let mut buffer = vec![0; 256 << 10];
        bencher.iter(|| {
            let mut decoder = MultiGzDecoder::new(stream);
            while decoder.read(&mut buffer).unwrap() > 0 {
                black_box(&buffer);
            }
        });
    });
    for (name, span_bytes) in [("in order", None), ("noting", Some(SPAN_BYTES))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| probe::in_order(stream, span_bytes, |piece| _ = black_box(piece)));
        });
    }
    let checkpoints = probe::in_order(stream, Some(SPAN_BYTES), |_| {}).unwrap();
    for (name, known) in [("guessing", &[][..]), ("indexed", &checkpoints)] {
        for guessers in [1, 2, 4] {
            group.bench_function(BenchmarkId::new(name, guessers), |bencher| {
                bencher.iter(|| {
                    let take = |piece: &[u8]| _ = black_box(piece);
                    probe::ahead(stream, guessers, STRETCH_BYTES, known, take).unwrap();
                });
            });
        }
    }
    group.finish();
}

/// Needs root, as every layer does, for owners.
fn whole(criterion: &mut Criterion, layer: &Layer) {
    let mut group = criterion.benchmark_group("unpack");
    group.throughput(Throughput::Bytes(layer.bytes));
    group.sampling_mode(SamplingMode::Flat);
    let place = tempfile::tempdir_in(Path::new("/dev/shm")).unwrap();
    for threads in [1, 2, 3, 4] {
        group.bench_function(BenchmarkId::new("threads", threads), |bencher| {
            bencher.iter_with_large_drop(|| {
                let sink = tempfile::tempdir_in(&place).unwrap();
                let to = OverlaySink::new(&sink.path().join("layer"), Position::Upper).unwrap();
                let controls = Controls {
                    threads: &ThreadPermit::new(threads),
                    progress: &Progress::new(),
                    stop_source: &|| {},
                };
                let source = &layer.compressed[..];
                unpack(
                    source,
                    &layer.spec,
                    Box::new(to),
                    &Bounds::default(),
                    controls,
                )
                .unwrap();
                sink
            });
        });
    }
    group.finish();
}

/// Files of 10 KB in the mean, some of which do not compress.
fn layer() -> Layer {
    let mut state = 3_u64;
    let mut next = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state >> 33
    };
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..FILES {
        let bytes = (next() % 20_000) as usize;
        let mut content = Vec::with_capacity(bytes + 64);
        while content.len() < bytes {
            let (name, value) = (next() % 900, next() % 70_000);
            writeln!(content, "let item_{name} = {value:#x};").unwrap();
            if name % 90 == 0 {
                (0..200).for_each(|_| content.push(next() as u8));
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let path = format!("d{}/f{number}", number % 60);
        archive
            .append_data(&mut header, path, &content[..])
            .unwrap();
    }
    let tar = archive.into_inner().unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(&tar).unwrap();
    let compressed = encoder.finish().unwrap();
    Layer {
        spec: LayerSpec {
            encoding: Encoding::Sniffed,
            digest: Digest::of(&compressed),
            size: compressed.len() as u64,
            diff_id: Digest::of(&tar),
        },
        bytes: tar.len() as u64,
        compressed,
    }
}

const FILES: usize = 6_000;
/// What SOCI's indexes have.
const SPAN_BYTES: u64 = 4 << 20;
/// As a lane's.
const STRETCH_BYTES: usize = 2 << 20;
