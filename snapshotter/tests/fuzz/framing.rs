//! Compressed streams in slices of all sizes, against independent readers.

use std::io::{Read, Write as _};

use flate2::{Compression, GzBuilder};
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{Class, Encoding, LayerSpec, UnpackError, probe};

use super::choices::Choices;
use super::reference::{self, End};

/// Decompresses the stream whole and in slices: the outcome is the same each time, and what others make of it.
///
/// The first three bytes say how; the others are the stream, or choose its pieces. Says whether it was accepted.
pub fn check(data: &[u8]) -> bool {
    let mut choices = Choices::new(data);
    let (how, seed) = (choices.byte(), choices.number());
    let encoding = if how & 7 == 7 {
        Encoding::Plain
    } else {
        Encoding::Sniffed
    };
    let stream = if how & 8 == 0 {
        choices.take(usize::MAX).to_vec()
    } else {
        pieces(&mut choices)
    };
    let reading = reference::read(encoding, &stream, BYTES_MAX);
    let whole = decompress(&stream, encoding, None);
    compare(&whole, &reading);
    for seed in [seed, seed ^ 0x5555] {
        let sliced = decompress(&stream, encoding, Some(seed));
        if whole.is_beyond() || sliced.is_beyond() {
            // A fault right behind the limit is met or not, as the slices fall: then each is held to the reference only.
            compare(&sliced, &reading);
            if let (Some(whole), Some(sliced)) = (whole.start(), sliced.start()) {
                assert_eq!(whole, sliced, "slices make a difference");
            }
        } else {
            assert_eq!(
                whole.described(),
                sliced.described(),
                "slices make a difference"
            );
        }
    }
    whole.0.is_ok()
}

fn compare(ours: &Outcome, others: &reference::Reading) {
    match (&ours.0, others.end) {
        (Ok((bytes, true)), End::Reached) => assert_eq!(bytes, &others.bytes),
        (Ok((bytes, true)), End::Refused) => {
            assert!(others.is_gzip, "accepted what the reference refuses");
            assert_eq!(bytes, &others.bytes);
        }
        (Ok((_, true)), End::Beyond) => panic!("ended too early"),
        (Ok((bytes, false)), _) => {
            let common = bytes.len().min(others.bytes.len());
            assert_eq!(bytes[..common], others.bytes[..common]);
        }
        (Err(error), End::Reached) => panic!("refused what the reference accepts: {error}"),
        (Err(error), _) => {
            assert_eq!(error.class(), Class::Corrupt, "{error}");
        }
    }
}

/// Bytes and whether they are all, or why there are none.
struct Outcome(Result<(Vec<u8>, bool), UnpackError>);

impl Outcome {
    const fn is_beyond(&self) -> bool {
        matches!(self.0, Ok((_, false)))
    }

    /// What came before the limit.
    fn start(&self) -> Option<&[u8]> {
        let (bytes, _) = self.0.as_ref().ok()?;
        Some(&bytes[..bytes.len().min(BYTES_MAX)])
    }

    /// Where an error was found depends on the slices, which one it is does not.
    fn described(&self) -> Option<&[u8]> {
        self.0.as_ref().ok().map(|(bytes, _)| &bytes[..])
    }
}

/// Whole, or in slices that follow from a seed.
fn decompress(stream: &[u8], encoding: Encoding, seed: Option<u16>) -> Outcome {
    let spec = LayerSpec {
        encoding,
        digest: Digest::of(stream),
        size: stream.len() as u64,
        diff_id: Digest::of(b""),
    };
    let mut output = Sizes::new(seed, 1 << 16);
    let source = Sliced {
        rest: stream,
        sizes: Sizes::new(seed.map(|seed| !seed), usize::MAX),
    };
    Outcome(probe::decompress(source, &spec, BYTES_MAX, || {
        output.next()
    }))
}

/// Sizes of slices: small ones mostly, and sometimes large.
struct Sizes {
    state: Option<u32>,
    otherwise: usize,
}

impl Sizes {
    fn new(seed: Option<u16>, otherwise: usize) -> Self {
        Self {
            state: seed.map(|seed| u32::from(seed) | 1 << 16),
            otherwise,
        }
    }

    fn next(&mut self) -> usize {
        let Some(state) = &mut self.state else {
            return self.otherwise;
        };
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (kind, size) = (*state >> 30, (*state >> 16) as usize & 0xfff);
        match kind {
            0 => 1,
            1 => size % 16 + 1,
            _ => size + 1,
        }
    }
}

struct Sliced<'a> {
    rest: &'a [u8],
    sizes: Sizes,
}

impl Read for Sliced<'_> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let bytes = target.len().min(self.sizes.next());
        self.rest.read(&mut target[..bytes])
    }
}

/// Members, frames, padding and garbage in a row, with a byte changed now and then.
fn pieces(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..PIECES_MAX {
        if choices.is_empty() {
            break;
        }
        let (kind, repeat) = (choices.byte(), choices.byte());
        let length = usize::from(choices.byte());
        let content = choices.take(length).repeat(usize::from(repeat % 64) + 1);
        let mut piece = piece(kind, &content);
        if kind & 0xc0 == 0xc0 && !piece.is_empty() {
            let at = usize::from(choices.number()) % piece.len();
            piece[at] ^= choices.byte();
        }
        if kind & 0xe0 == 0xa0 {
            piece.truncate(usize::from(choices.number()) % (piece.len() + 1));
        }
        stream.extend(piece);
    }
    stream
}

fn piece(kind: u8, content: &[u8]) -> Vec<u8> {
    let gzip = |builder: GzBuilder, level| {
        let mut encoder = builder.write(Vec::new(), Compression::new(level));
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    match kind % 10 {
        0 | 1 => gzip(GzBuilder::new(), u32::from(kind % 3)),
        2 => gzip(
            GzBuilder::new()
                .extra(&b"BC\x02\0xx"[..])
                .filename("n")
                .comment("c"),
            1,
        ),
        3 => with_header_checksum(&gzip(GzBuilder::new(), 1)),
        4 | 5 => zstd::bulk::compress(content, 1).unwrap(),
        6 => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        7 => {
            let length = u32::try_from(content.len()).unwrap();
            let magic = 0x184d_2a50_u32 + u32::from(kind / 16);
            [&magic.to_le_bytes()[..], &length.to_le_bytes(), content].concat()
        }
        8 => vec![0; content.len()],
        _ => content.to_vec(),
    }
}

/// Adds the CRC of the header, which hardly anybody writes: the lower half of its CRC-32.
fn with_header_checksum(member: &[u8]) -> Vec<u8> {
    let mut header = member[..10].to_vec();
    header[3] |= 2;
    let mut checksum = flate2::Crc::new();
    checksum.update(&header);
    let sum = checksum.sum().to_le_bytes();
    [&header, &sum[..2], &member[10..]].concat()
}

/// Output that is looked at.
const BYTES_MAX: usize = 1 << 20;
const PIECES_MAX: usize = 16;
