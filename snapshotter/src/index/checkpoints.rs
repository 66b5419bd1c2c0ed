//! The blob of checkpoints inside a zTOC (`ztoc/compression/gzip_zinfo.c` of soci-snapshotter), little-endian:
//! `i32` count, `i64` span size, then for each `i64` compressed offset, `i64` uncompressed offset, `u8` bits of the byte
//! before, and a window of 32 KiB.

use crate::inflate::{Checkpoint, WINDOW_BYTES};

use super::ztoc::ZtocError;

/// Uncompressed bytes between two checkpoints: what `soci create` takes by default.
pub const SPAN_BYTES: u64 = 4 << 20;

/// Checkpoints as SOCI writes them.
pub(super) fn encode(checkpoints: &[Checkpoint], span_bytes: u64) -> Vec<u8> {
    let mut blob = Vec::with_capacity(HEADER_BYTES + checkpoints.len() * CHECKPOINT_BYTES);
    blob.extend((checkpoints.len() as i32).to_le_bytes());
    blob.extend(span_bytes.to_le_bytes());
    for checkpoint in checkpoints {
        blob.extend(checkpoint.bit.div_ceil(8).to_le_bytes());
        blob.extend(checkpoint.bytes_before.to_le_bytes());
        blob.push(((8 - checkpoint.bit % 8) % 8) as u8);
        let window = &checkpoint.window[..];
        blob.resize(blob.len() + WINDOW_BYTES - window.len(), 0);
        blob.extend(window);
    }
    blob
}

/// The checkpoints of a blob that SOCI wrote, and their distance.
pub(super) fn decode(blob: &[u8]) -> Result<(Vec<Checkpoint>, u64), ZtocError> {
    let bad = |reason| ZtocError::Checkpoints { reason };
    let (header, mut rest) = blob
        .split_at_checked(HEADER_BYTES)
        .ok_or(bad("they end before their count"))?;
    let count = u32::from_le_bytes(array(&header[..4])) as usize;
    let span_bytes = u64::from_le_bytes(array(&header[4..]));
    let mut checkpoints = Vec::new();
    // The first version leaves out the one at the stream's beginning.
    let is_first_left_out = rest.len() == count.saturating_sub(1) * CHECKPOINT_BYTES && count > 0;
    if !is_first_left_out && rest.len() != count.saturating_mul(CHECKPOINT_BYTES) {
        return Err(bad("their length is not what their count says"));
    }
    while let Some((one, behind)) = rest.split_at_checked(CHECKPOINT_BYTES) {
        rest = behind;
        let bytes_in = u64::from_le_bytes(array(&one[..8]));
        let bytes_before = u64::from_le_bytes(array(&one[8..16]));
        let bits = u64::from(one[16]);
        if bits > 7 || bytes_in == 0 || bytes_in > BYTES_MAX || bytes_before > BYTES_MAX {
            return Err(bad("an offset is out of range"));
        }
        let known =
            usize::try_from(bytes_before).map_or(WINDOW_BYTES, |known| known.min(WINDOW_BYTES));
        checkpoints.push(Checkpoint {
            bit: bytes_in * 8 - bits,
            bytes_before,
            window: one[CHECKPOINT_BYTES - known..].into(),
        });
    }
    if !checkpoints
        .is_sorted_by(|one, next| one.bit < next.bit && one.bytes_before < next.bytes_before)
    {
        return Err(bad("they are not in order"));
    }
    Ok((checkpoints, span_bytes))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

const HEADER_BYTES: usize = 4 + 8;
const CHECKPOINT_BYTES: usize = 8 + 8 + 1 + WINDOW_BYTES;
/// No offset of a layer is near it, and eight times as much is still a number.
const BYTES_MAX: u64 = 1 << 50;
