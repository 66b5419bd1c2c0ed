//! Decompressors as state machines: bytes in, bytes out, no reading.
//!
//! Which one is needed is seen by the first bytes, as containerd and Docker do it.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

use super::spec::Encoding;

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
            return Ok(Self::Gzip(Box::new(Gzip::new())));
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
            Self::Gzip(gzip) => gzip.step(input, output),
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

/// Gzip members in a row, and whatever stands behind the last one.
///
/// Padding and garbage behind the last member are ignored, as `gzip`, `unpigz` and `igzip` do: the two digests decide
/// whether the stream is right.
pub(super) struct Gzip {
    state: GzipState,
}

enum GzipState {
    Member {
        inflate: Decompress,
        is_first: bool,
        has_output: bool,
    },
    Between,
    Garbage,
}

impl Gzip {
    fn new() -> Self {
        Self {
            state: GzipState::member(true),
        }
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        match &mut self.state {
            GzipState::Garbage => Ok(Step {
                consumed: input.len(),
                produced: 0,
            }),
            GzipState::Between => {
                match input.first() {
                    None => {}
                    Some(byte) if *byte == GZIP_MAGIC[0] => self.state = GzipState::member(false),
                    Some(_) => self.state = GzipState::Garbage,
                }
                Ok(Step::default())
            }
            GzipState::Member {
                inflate,
                is_first,
                has_output,
            } => {
                let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, output, FlushDecompress::None);
                let step = Step {
                    consumed: (inflate.total_in() - before_in) as usize,
                    produced: (inflate.total_out() - before_out) as usize,
                };
                *has_output |= step.produced > 0;
                match status {
                    Ok(Status::StreamEnd) => self.state = GzipState::Between,
                    Ok(Status::Ok | Status::BufError) => {}
                    Err(_) if !*is_first && !*has_output => {
                        self.state = GzipState::Garbage;
                        return Ok(Step {
                            consumed: input.len(),
                            produced: 0,
                        });
                    }
                    Err(error) => return Err(format!("bad gzip data: {error}")),
                }
                Ok(step)
            }
        }
    }

    fn end(&self) -> Result<(), String> {
        match self.state {
            GzipState::Member {
                is_first,
                has_output,
                ..
            } if is_first || has_output => Err("ends inside a gzip member".into()),
            _ => Ok(()),
        }
    }
}

impl GzipState {
    fn member(is_first: bool) -> Self {
        Self::Member {
            inflate: Decompress::new_gzip(WINDOW_BITS),
            is_first,
            has_output: false,
        }
    }
}

/// Zstandard frames in a row, skippable ones included.
pub(super) struct ZstdFrames {
    decoder: Zstd<'static>,
    /// Inside a frame, or with output that did not fit yet.
    open: bool,
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
        self.open = hint.map_err(|error| format!("bad zstd data: {error}"))? != 0;
        Ok(step)
    }
}

/// Bytes by which every known format can be told.
pub(super) const SNIFF_BYTES: usize = 8;
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Magic numbers of skippable frames are 0x184d2a50 to 0x184d2a5f, little-endian.
const ZSTD_SKIPPABLE_REST: [u8; 3] = [0x2a, 0x4d, 0x18];
/// DEFLATE's largest window: 32 KiB.
const WINDOW_BITS: u8 = 15;
/// 128 MiB, what the zstd tool itself needs no flag for; a frame that wants more is refused before it is allocated.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
