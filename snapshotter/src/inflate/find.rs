//! Finds where a block may begin in the middle of a DEFLATE stream.

use super::bits::Bits;
use super::codes::Codes;

/// The first bit in `from..until` at which a block with codes of its own, not the last one, may begin. `codes` are then
/// that block's.
///
/// Only these blocks are looked for: their header is long and redundant, so what looks like one hardly ever is none.
pub(super) fn find_block(input: &[u8], from: u64, until: u64, codes: &mut Codes) -> Option<u64> {
    (from..until).find(|position| may_begin(input, *position) && reads(input, *position, codes))
}

/// Whether a block with codes of its own, not the last one, stands at bit `position`, as far as three bits tell.
pub(super) fn begins_dynamic(input: &[u8], position: u64) -> bool {
    let mut bits = Bits::at(input, position);
    bits.take(3) == DYNAMIC_NOT_LAST && !bits.is_overrun()
}

fn reads(input: &[u8], position: u64, codes: &mut Codes) -> bool {
    let mut bits = Bits::at(input, position + 3);
    codes.read(&mut bits).is_ok()
}

/// The cheap part: the first bits, the two counts, and whether the third code is complete.
fn may_begin(input: &[u8], position: u64) -> bool {
    let at = (position / 8) as usize;
    let Some(bytes) = input.get(at..at + HEADER_BYTES) else {
        return false;
    };
    let shift = position % 8;
    let low = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) >> shift;
    if low & 7 != DYNAMIC_NOT_LAST {
        return false;
    }
    let (symbols, distances) = (low >> 3 & 31, low >> 8 & 31);
    if symbols > 29 || distances > 29 {
        return false;
    }
    let lengths = (low >> 13 & 15) + 4;
    let mut wide = [0; 16];
    wide[..HEADER_BYTES].copy_from_slice(bytes);
    let code_lengths = (u128::from_le_bytes(wide) >> (shift + 17)) as u64;
    let code_lengths = code_lengths & ((1 << (3 * lengths)) - 1);
    let mut sum = 0;
    for group in 0..5 {
        sum += u32::from(WEIGHTS[(code_lengths >> (12 * group)) as usize & 0xfff]);
    }
    sum == 128
}

const fn weights() -> [u16; 4096] {
    let mut weights = [0; 4096];
    let mut four = 0;
    while four < 4096 {
        let mut place = 0;
        while place < 4 {
            let length = four >> (3 * place) & 7;
            if length > 0 {
                weights[four] += 128 >> length;
            }
            place += 1;
        }
        four += 1;
    }
    weights
}

/// What four code lengths of three bits each use up of 128 places.
static WEIGHTS: [u16; 4096] = weights();
/// What holds the two counts and 19 code lengths, 74 bits, wherever in a byte they begin.
const HEADER_BYTES: usize = 11;
/// `BFINAL` 0, `BTYPE` 10.
const DYNAMIC_NOT_LAST: u32 = 0b100;
