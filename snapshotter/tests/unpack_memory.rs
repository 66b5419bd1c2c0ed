//! A layer much larger than memory is unpacked within a few hundred megabytes, by one lane or eight.
//!
//! The layer is made as it is read and its files keep no bytes, so what grows is the lane. This is the only test of its
//! process, whose peak it reads. `PARAPULL_HUGE_LAYER_MIB` makes the layer larger (`cargo xtask soak` takes 10 GiB, in
//! release mode): guessing is slow without optimisation, so an ordinary run lets it work on less.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::{self, Read, Write as _};
use std::path::Path;
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{
    Attributes, Bounds, Controls, Encoding, LayerPath, LayerSpec, Node, OverlaySink, Position,
    Progress, Sink, SinkError, Staged, ThreadPermit, unpack,
};
use sha2::{Digest as _, Sha256};

#[test]
fn a_huge_layer_takes_no_more_memory_than_a_small_one() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED memory of huge layers: needs root for owners");
        assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
        return;
    }
    let asked = std::env::var("PARAPULL_HUGE_LAYER_MIB").ok();
    let asked: Option<u64> = asked.map(|text| text.parse().unwrap());
    let huge = Huge::new(asked.unwrap_or(1024));
    let guessed = Huge::new(asked.unwrap_or(192));
    let shared = Huge::new(asked.map_or(128, |mib| mib / 8));
    for (what, layer, lanes, threads) in [
        ("one lane, one thread", &huge, 1, 1),
        ("one lane, three threads", &huge, 1, 3),
        ("one lane, eight threads", &guessed, 1, 8),
        ("eight lanes, two threads each", &shared, 8, 2),
    ] {
        reset_peak();
        thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(move || layer.unpack(threads));
            }
        });
        let peak = peak_bytes();
        let mib = layer.spec.size >> 20;
        eprintln!("{what}: {} MiB at {mib} MiB compressed", peak >> 20);
        assert!(peak <= PEAK_BYTES_MAX, "{what}: {} MiB", peak >> 20);
    }
}

/// A gzip layer of two files: pieces that refer to nothing before them, repeated.
struct Huge {
    header: Vec<u8>,
    start: Vec<u8>,
    unit: Vec<u8>,
    units: u64,
    between: Vec<u8>,
    end: Vec<u8>,
    spec: LayerSpec,
}

impl Huge {
    fn new(mib: u64) -> Self {
        let units = mib / 2;
        let unit = unit();
        let bytes = units * UNIT_BYTES as u64;
        let (first, second) = (member("first", bytes), member("second", bytes));
        let tail = vec![0; 1024];
        let mut sums = (Sha256::new(), Crc::new());
        let mut sum = |piece: &[u8]| {
            sums.0.update(piece);
            sums.1.update(piece);
        };
        for head in [&first, &second] {
            sum(head);
            (0..units).for_each(|_| sum(&unit));
        }
        sum(&tail);
        let mut end = deflated(&tail, FlushCompress::Finish);
        end.extend_from_slice(&sums.1.sum().to_le_bytes());
        end.extend_from_slice(&sums.1.amount().to_le_bytes());
        let mut spec = LayerSpec {
            encoding: Encoding::Sniffed,
            digest: Digest::of(b""),
            size: 0,
            diff_id: Digest::from_bytes(sums.0.finalize().into()),
        };
        let mut huge = Self {
            header: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
            start: deflated(&first, FlushCompress::Full),
            unit: deflated(&unit, FlushCompress::Full),
            units,
            between: deflated(&second, FlushCompress::Full),
            end,
            spec: spec.clone(),
        };
        let mut hasher = Sha256::new();
        for piece in (0..).map_while(|index| huge.piece(index)) {
            hasher.update(piece);
            spec.size += piece.len() as u64;
        }
        spec.digest = Digest::from_bytes(hasher.finalize().into());
        huge.spec = spec;
        huge
    }

    fn stream(&self) -> Stream<'_> {
        Stream {
            layer: self,
            piece: 0,
            at: 0,
        }
    }

    /// The piece that stands at `index`; none behind the last.
    fn piece(&self, index: u64) -> Option<&[u8]> {
        let second = 2 + self.units;
        match index {
            0 => Some(&self.header),
            1 => Some(&self.start),
            _ if index == second => Some(&self.between),
            _ if index < second + 1 + self.units => Some(&self.unit),
            _ if index == second + 1 + self.units => Some(&self.end),
            _ => None,
        }
    }

    fn unpack(&self, threads: u32) {
        let place = if Path::new("/dev/shm").is_dir() {
            tempfile::tempdir_in("/dev/shm").unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let sink = OverlaySink::new(&place.path().join("layer"), Position::Upper).unwrap();
        let sink = Box::new(WithoutBytes(Box::new(sink)));
        let controls = Controls {
            threads: &ThreadPermit::new(threads),
            progress: &Progress::new(),
            stop_source: &|| {},
        };
        let unpacked = unpack(
            self.stream(),
            &self.spec,
            sink,
            &Bounds::default(),
            controls,
        );
        assert_eq!(unpacked.unwrap().staged.entries, 2);
    }
}

/// The layer, read from its beginning.
struct Stream<'a> {
    layer: &'a Huge,
    piece: u64,
    at: usize,
}

impl Read for Stream<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < room.len() {
            let Some(piece) = self.layer.piece(self.piece) else {
                break;
            };
            let rest = &piece[self.at..];
            let bytes = rest.len().min(room.len() - filled);
            room[filled..filled + bytes].copy_from_slice(&rest[..bytes]);
            filled += bytes;
            self.at += bytes;
            if self.at == piece.len() {
                (self.piece, self.at) = (self.piece + 1, 0);
            }
        }
        Ok(filled)
    }
}

/// Makes the files, but lets their bytes be holes.
struct WithoutBytes(Box<OverlaySink>);

impl Sink for WithoutBytes {
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError> {
        self.0.directory(path, attributes)
    }

    fn file(&mut self, path: &LayerPath, of: &Attributes, size: u64) -> Result<(), SinkError> {
        self.0.file(path, of, size)
    }

    fn data(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn file_end(&mut self) -> Result<(), SinkError> {
        self.0.file_end()
    }

    fn symlink(&mut self, path: &LayerPath, to: &[u8], of: &Attributes) -> Result<(), SinkError> {
        self.0.symlink(path, to, of)
    }

    fn hardlink(&mut self, path: &LayerPath, to: &[u8], of: &Attributes) -> Result<(), SinkError> {
        self.0.hardlink(path, to, of)
    }

    fn node(&mut self, path: &LayerPath, node: Node, of: &Attributes) -> Result<(), SinkError> {
        self.0.node(path, node, of)
    }

    fn whiteout(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError> {
        self.0.whiteout(path, attributes)
    }

    fn opaque(&mut self, directory: Option<&LayerPath>) -> Result<(), SinkError> {
        self.0.opaque(directory)
    }

    fn finish(self: Box<Self>) -> Result<Staged, SinkError> {
        self.0.finish()
    }
}

/// A header and nothing else: the data come in units.
fn member(name: &str, bytes: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// What compresses to about a third.
fn unit() -> Vec<u8> {
    let mut state = 7_u64;
    let mut unit = Vec::with_capacity(UNIT_BYTES + 64);
    while unit.len() < UNIT_BYTES {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let (word, value) = (state >> 54, state >> 34 & 0xffff);
        writeln!(unit, "entry_{word} = {value:#x};").unwrap();
    }
    unit.truncate(UNIT_BYTES);
    unit
}

/// Raw DEFLATE; unless it is the last piece, a byte begins behind it and nothing there refers to it.
fn deflated(bytes: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(6), false);
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    let status = compress.compress_vec(bytes, &mut out, flush).unwrap();
    let is_last = matches!(flush, FlushCompress::Finish);
    assert_eq!(status == Status::StreamEnd, is_last);
    assert_eq!(compress.total_in(), bytes.len() as u64);
    out
}

/// proc(5), `clear_refs`.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1024
}

const UNIT_BYTES: usize = 1 << 20;
/// Beside the window, which is the engine's to bound.
const PEAK_BYTES_MAX: u64 = 256 << 20;
