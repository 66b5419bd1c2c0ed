//! Independent readers of compressed streams.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use parapull_snapshotter::unpack::Encoding;

/// What a reader made of a stream.
pub struct Reading {
    /// What came out, also before an error; not more than was asked for.
    pub bytes: Vec<u8>,
    pub end: End,
    /// Members may be followed by anything in ours: an error here need not be one there.
    pub is_gzip: bool,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum End {
    /// The stream is right to its end.
    Reached,
    /// There is more than was asked for.
    Beyond,
    Refused,
}

/// Reads at most a little more than `bytes_max`.
pub fn read(encoding: Encoding, stream: &[u8], bytes_max: usize) -> Reading {
    let is_sniffed = encoding == Encoding::Sniffed;
    if is_sniffed && stream.starts_with(&[0x1f, 0x8b, 8]) {
        return read_all(MultiGzDecoder::new(stream), bytes_max, true);
    }
    if is_sniffed && is_zstd(stream) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(stream).unwrap();
        decoder.window_log_max(27).unwrap();
        return read_all(decoder, bytes_max, false);
    }
    read_all(stream, bytes_max, false)
}

fn is_zstd(stream: &[u8]) -> bool {
    let Some((magic, rest)) = stream.split_first_chunk() else {
        return false;
    };
    let magic = u32::from_le_bytes(*magic);
    magic == 0xfd2f_b528 || (magic & 0xffff_fff0 == 0x184d_2a50 && rest.len() >= 4)
}

fn read_all(mut reader: impl Read, bytes_max: usize, is_gzip: bool) -> Reading {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if bytes.len() > bytes_max {
            break End::Beyond;
        }
        match reader.read(&mut buffer) {
            Ok(0) => break End::Reached,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(_) => break End::Refused,
        }
    };
    Reading {
        bytes,
        end,
        is_gzip,
    }
}
