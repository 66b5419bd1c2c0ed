//! zlib-rs as a raw DEFLATE decoder that can begin at any bit of a stream, stop between blocks and tell its window.
//!
//! All `unsafe` of inflating is here. flate2 offers none of `inflatePrime`, `Z_BLOCK` and `inflateGetDictionary`, and the safe
//! interface of zlib-rs does not either.
#![expect(
    unsafe_code,
    reason = "block borders, bit offsets and windows are reached by zlib's C interface only"
)]

use libz_rs_sys as z;

/// A decoder of DEFLATE data without header and trailer.
pub(crate) struct RawInflate {
    /// Boxed, because zlib's state points back to it.
    stream: Box<z::z_stream>,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inflated {
    /// Bytes of the input that were taken. Of the last one some bits may be unused.
    pub(crate) consumed: usize,
    /// Bytes that were put into the output.
    pub(crate) produced: usize,
    /// Where it stands.
    pub(crate) at: Place,
}

/// Where a decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Inside a block: more input or more room is needed.
    Inside,
    /// Between two blocks; this many bits of the last byte taken belong to the next one.
    Between {
        /// 0 to 7.
        unused_bits: u32,
    },
    /// Behind the last block, in the same terms.
    End {
        /// 0 to 7; they mean nothing.
        unused_bits: u32,
    },
}

/// When to return although there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// When input or room is used up.
    Full,
    /// And at the end of each block.
    Block,
}

impl RawInflate {
    /// A decoder at the beginning of a stream.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub(crate) fn new() -> Result<Self, BadDeflate> {
        let mut stream = Box::new(z::z_stream::default());
        // SAFETY: the stream is valid, without input, output and state, and does not move afterwards, being boxed.
        let code = unsafe {
            z::inflateInit2_(
                &raw mut *stream,
                -WINDOW_BITS,
                z::zlibVersion(),
                size_of::<z::z_stream>() as i32,
            )
        };
        check(code)?;
        Ok(Self { stream })
    }

    /// Begins anew at a bit of a stream whose last bytes before it were `window`; `first_bits` are those `count` bits of
    /// the byte before the next input that belong to it, in their order of value.
    pub(crate) fn begin(
        &mut self,
        count: u32,
        first_bits: u8,
        window: &[u8],
    ) -> Result<(), BadDeflate> {
        // SAFETY: the stream was initialised by `new`; the dictionary is read during the call only.
        let code = unsafe {
            let mut code = z::inflateReset(&raw mut *self.stream);
            if code == z::Z_OK && count > 0 {
                let value = i32::from(first_bits >> (8 - count));
                code = z::inflatePrime(&raw mut *self.stream, count as i32, value);
            }
            if code == z::Z_OK && !window.is_empty() {
                code = z::inflateSetDictionary(
                    &raw mut *self.stream,
                    window.as_ptr(),
                    window.len() as u32,
                );
            }
            code
        };
        check(code)
    }

    /// Decodes some of `input` into `output`.
    ///
    /// # Errors
    ///
    /// When the input is not DEFLATE data.
    pub(crate) fn inflate(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        stop: Stop,
    ) -> Result<Inflated, BadDeflate> {
        let (offered, room) = (clamp(input.len()), clamp(output.len()));
        self.stream.next_in = input.as_ptr().cast_mut();
        self.stream.avail_in = offered;
        self.stream.next_out = output.as_mut_ptr();
        self.stream.avail_out = room;
        let flush = match stop {
            Stop::Full => z::Z_NO_FLUSH,
            Stop::Block => z::Z_BLOCK,
        };
        // SAFETY: input and output are valid for the lengths given and for the duration of the call.
        let code = unsafe { z::inflate(&raw mut *self.stream, flush) };
        if code != z::Z_OK && code != z::Z_STREAM_END && code != z::Z_BUF_ERROR {
            let produced = (room - self.stream.avail_out) as usize;
            return Err(BadDeflate { code, produced });
        }
        let unused_bits = (self.stream.data_type & 7) as u32;
        let is_last = self.stream.data_type & IN_LAST_BLOCK != 0;
        let is_between = self.stream.data_type & AT_BLOCK_END != 0;
        let at = if code == z::Z_STREAM_END || is_between && is_last {
            Place::End { unused_bits }
        } else if is_between {
            Place::Between { unused_bits }
        } else {
            Place::Inside
        };
        Ok(Inflated {
            consumed: (offered - self.stream.avail_in) as usize,
            produced: (room - self.stream.avail_out) as usize,
            at,
        })
    }

    /// The last bytes that were decoded, [`WINDOW_BYTES`] at most: how many there are.
    pub(crate) fn window(&mut self, window: &mut [u8; WINDOW_BYTES]) -> Result<usize, BadDeflate> {
        let mut bytes = 0;
        // SAFETY: the buffer has room for the largest window.
        let code = unsafe {
            z::inflateGetDictionary(&raw mut *self.stream, window.as_mut_ptr(), &raw mut bytes)
        };
        check(code)?;
        Ok(bytes as usize)
    }
}

impl Drop for RawInflate {
    fn drop(&mut self) {
        // SAFETY: the stream was initialised by `new` and is not used afterwards.
        unsafe {
            z::inflateEnd(&raw mut *self.stream);
        }
    }
}

// SAFETY: the stream is used through `&mut` only and points to memory of its own; nothing of it belongs to a thread.
unsafe impl Send for RawInflate {}

impl std::fmt::Debug for RawInflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawInflate").finish_non_exhaustive()
    }
}

/// CRC-32 and length of what went through, as a gzip trailer has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checksum {
    crc: u32,
    bytes: u32,
}

impl Checksum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        // SAFETY: the bytes are valid for the length given.
        let crc = unsafe { z::crc32_z(self.crc.into(), bytes.as_ptr(), bytes.len()) };
        self.crc = crc as u32;
        self.bytes = self.bytes.wrapping_add(bytes.len() as u32);
    }

    pub(crate) const fn crc(&self) -> u32 {
        self.crc
    }

    /// The trailer that belongs to these bytes.
    pub(crate) fn trailer(&self) -> [u8; 8] {
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&self.crc.to_le_bytes());
        trailer[4..].copy_from_slice(&self.bytes.to_le_bytes());
        trailer
    }
}

/// The input is not DEFLATE data, or there is no memory for a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid deflate data (zlib code {code})")]
pub(crate) struct BadDeflate {
    code: i32,
    /// Bytes of the last output that were decoded before.
    pub(crate) produced: usize,
}

const fn check(code: i32) -> Result<(), BadDeflate> {
    if code == z::Z_OK {
        Ok(())
    } else {
        Err(BadDeflate { code, produced: 0 })
    }
}

const fn clamp(length: usize) -> u32 {
    if length > u32::MAX as usize {
        u32::MAX
    } else {
        length as u32
    }
}

/// How far back a DEFLATE copy may reach (RFC 1951, section 2).
pub(crate) const WINDOW_BYTES: usize = 32 << 10;
const WINDOW_BITS: i32 = 15;
/// Bit of `data_type` that says: a block has just ended (zlib.h, `inflate`).
const AT_BLOCK_END: i32 = 128;
/// Bit of `data_type` that says: it was the last one, or it is being read.
const IN_LAST_BLOCK: i32 = 64;
