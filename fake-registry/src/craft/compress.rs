//! Turns a tar stream into a blob stream of the planned media type.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use parapull_scenario::MediaType;

/// Tar bytes of one member of a multi-member gzip layer, unless the layer is too small for two of them.
const MEMBER_BYTES: u64 = 1 << 20;

/// A compressor over any writer.
pub(super) enum Compressor<W: Write> {
    Gzip(GzEncoder<W>),
    GzipMembers {
        encoder: Option<GzEncoder<W>>,
        level: u32,
        member_bytes: u64,
        left_bytes: u64,
    },
    Zstd(zstd::stream::write::Encoder<'static, W>),
    Uncompressed(W),
}

impl<W: Write> Compressor<W> {
    /// A compressor for a tar of `tar_bytes`.
    pub(super) fn new(media_type: MediaType, tar_bytes: u64, inner: W) -> io::Result<Self> {
        Ok(match media_type {
            MediaType::Gzip { level } => Self::Gzip(GzEncoder::new(inner, Compression::new(level))),
            MediaType::GzipMembers { level } => {
                let member_bytes = MEMBER_BYTES.min(tar_bytes.div_ceil(2)).max(1);
                Self::GzipMembers {
                    encoder: Some(GzEncoder::new(inner, Compression::new(level))),
                    level,
                    member_bytes,
                    left_bytes: member_bytes,
                }
            }
            MediaType::Zstd { level } => {
                let level = i32::try_from(level).map_err(io::Error::other)?;
                let mut encoder = zstd::stream::write::Encoder::new(inner, level)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            MediaType::Uncompressed => Self::Uncompressed(inner),
        })
    }

    /// Ends the stream and hands the writer below back.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::GzipMembers { encoder, .. } => encoder.ok_or_else(ended)?.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Uncompressed(inner) => Ok(inner),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(encoder) => encoder.write(buffer),
            Self::GzipMembers {
                encoder,
                level,
                member_bytes,
                left_bytes,
            } => {
                if *left_bytes == 0 && !buffer.is_empty() {
                    let inner = encoder.take().ok_or_else(ended)?.finish()?;
                    *encoder = Some(GzEncoder::new(inner, Compression::new(*level)));
                    *left_bytes = *member_bytes;
                }
                let take = buffer
                    .len()
                    .min(usize::try_from(*left_bytes).unwrap_or(usize::MAX));
                let written = encoder.as_mut().ok_or_else(ended)?.write(&buffer[..take])?;
                *left_bytes -= written as u64;
                Ok(written)
            }
            Self::Zstd(encoder) => encoder.write(buffer),
            Self::Uncompressed(inner) => inner.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::GzipMembers { encoder, .. } => encoder.as_mut().ok_or_else(ended)?.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::Uncompressed(inner) => inner.flush(),
        }
    }
}

/// A member failed to end earlier, so nothing can follow.
fn ended() -> io::Error {
    io::Error::other("the compressed stream has ended after an earlier error")
}
