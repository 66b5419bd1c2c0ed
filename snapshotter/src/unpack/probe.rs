//! What tests and fuzz targets reach of a lane's inside: the decoder alone. It makes no tree.

use std::io::Read;

use super::decoder::Decoder;
use super::error::UnpackError;
use super::indexing::Indexing;
use super::progress::Progress;
use super::spec::LayerSpec;

/// Decompresses a layer as a lane does, into buffers whose sizes `buffer_bytes` gives in turn, and says whether that
/// was all: it stops once more than `bytes_max` came out.
///
/// # Errors
/// [`UnpackError`], if the bytes are not the ones of `spec` or not a stream of its encoding.
pub fn decompress<R: Read>(
    source: R,
    spec: &LayerSpec,
    bytes_max: usize,
    mut buffer_bytes: impl FnMut() -> usize,
) -> Result<(Vec<u8>, bool), UnpackError> {
    let progress = Progress::new();
    let mut decoder = Decoder::new(source, spec.clone(), Indexing::default());
    let mut bytes = Vec::new();
    while bytes.len() <= bytes_max {
        let end = bytes.len();
        bytes.resize(end + buffer_bytes().max(1), 0);
        let filled = decoder.fill(&mut bytes[end..], &progress)?;
        bytes.truncate(end + filled);
        if filled == 0 {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}
