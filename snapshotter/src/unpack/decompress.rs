//! Decompressors as state machines: bytes in, bytes out, no reading.
//!
//! Which one is needed is seen by the first bytes, as containerd and Docker do it.

use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::{self, DParameter};

use super::spec::Encoding;
use crate::inflate::{Gzip, Stop};

/// A stream being decompressed.
pub(super) enum Decompressor {
    Plain,
    Gzip(Box<Gzip>),
    Zstd(ZstdFrames),
}

/// How far one step came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub(super) consumed: usize,
    pub(super) produced: usize,
}

impl Decompressor {
    /// Chooses by the first bytes of the stream: [`SNIFF_BYTES`] of them, or all there are.
    pub(super) fn new(encoding: Encoding, start: &[u8]) -> Result<Self, String> {
        if encoding == Encoding::Plain {
            return Ok(Self::Plain);
        }
        if start.starts_with(&GZIP_MAGIC) {
            return Ok(Self::Gzip(Box::new(Gzip::new()?)));
        }
        let is_skippable = start.len() >= SNIFF_BYTES
            && start[0] & 0xf0 == 0x50
            && start[1..4] == ZSTD_SKIPPABLE_REST;
        if start.starts_with(&ZSTD_MAGIC) || is_skippable {
            return ZstdFrames::new().map(Self::Zstd);
        }
        Ok(Self::Plain)
    }

    /// Decompresses some of `input` into `output`. With neither progress nor an error more input is needed.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        match self {
            Self::Plain => {
                let bytes = input.len().min(output.len());
                output[..bytes].copy_from_slice(&input[..bytes]);
                Ok(Step {
                    consumed: bytes,
                    produced: bytes,
                })
            }
            Self::Gzip(gzip) => gzip.step(input, output, Stop::Full).map(|step| Step {
                consumed: step.consumed,
                produced: step.produced,
            }),
            Self::Zstd(frames) => frames.step(input, output),
        }
    }

    /// Checks that the stream may end here.
    pub(super) fn end(&self) -> Result<(), String> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(gzip) => gzip.end(),
            Self::Zstd(frames) if frames.open => Err("ends inside a zstd frame".into()),
            Self::Zstd(_) => Ok(()),
        }
    }
}

/// Zstandard frames in a row, skippable ones included.
pub(super) struct ZstdFrames {
    decoder: Zstd<'static>,
    /// Inside a frame, or with output that did not fit yet.
    open: bool,
    /// The first bytes of the frame, as many as its header may have.
    header: Vec<u8>,
    /// Bytes that came out of the frame.
    produced: u64,
}

impl ZstdFrames {
    fn new() -> Result<Self, String> {
        let start = || {
            let mut decoder = Zstd::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
            Ok(decoder)
        };
        let decoder = start().map_err(|error: std::io::Error| error.to_string())?;
        Ok(Self {
            decoder,
            open: false,
            header: Vec::with_capacity(ZSTD_HEADER_BYTES_MAX),
            produced: 0,
        })
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        if input.is_empty() && !self.open {
            return Ok(Step::default());
        }
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(output);
        let hint = self.decoder.run(&mut source, &mut target);
        let step = Step {
            consumed: source.pos(),
            produced: target.pos(),
        };
        let wanted = ZSTD_HEADER_BYTES_MAX - self.header.len();
        self.header
            .extend_from_slice(&input[..step.consumed.min(wanted)]);
        self.produced += step.produced as u64;
        self.open = hint.map_err(|error| format!("bad zstd data: {error}"))? != 0;
        if !self.open {
            self.end_frame()?;
        }
        Ok(step)
    }

    /// libzstd compares a frame with the size that its header states, but not if the last block is empty, unless it was
    /// given the whole frame at once.
    fn end_frame(&mut self) -> Result<(), String> {
        let stated = zstd_safe::get_frame_content_size(&self.header)
            .ok()
            .flatten();
        if stated.is_some_and(|stated| stated != self.produced) {
            return Err("bad zstd data: a frame has another size than it says".into());
        }
        self.header.clear();
        self.produced = 0;
        Ok(())
    }
}

/// Bytes by which every known format can be told.
pub(super) const SNIFF_BYTES: usize = 8;
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Magic numbers of skippable frames are 0x184d2a50 to 0x184d2a5f, little-endian.
const ZSTD_SKIPPABLE_REST: [u8; 3] = [0x2a, 0x4d, 0x18];
/// 128 MiB, what the zstd tool itself needs no flag for; a frame that wants more is refused before it is allocated.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// RFC 8878, 3.1.1: a magic number and at most 14 bytes of header.
const ZSTD_HEADER_BYTES_MAX: usize = 18;
