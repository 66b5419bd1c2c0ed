//! Header checksums, so that mutated archives are not all refused at their first block.

/// The archive with the checksum of every header made right: of those that follow one another, and of every block
/// that looks like one.
pub fn with_checksums(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let mut next_header = 0;
    let mut at = 0;
    for block in tar.chunks_exact_mut(BLOCK_BYTES) {
        let is_next = at == next_header;
        if (is_next || &block[MAGIC] == b"ustar") && block.iter().any(|byte| *byte != 0) {
            write_checksum(block);
        }
        if is_next {
            next_header += BLOCK_BYTES + data_bytes(block);
        }
        at += BLOCK_BYTES;
    }
    tar
}

fn write_checksum(block: &mut [u8]) {
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// What follows the header, padding included; 0 if its size is not in plain octal digits.
fn data_bytes(block: &[u8]) -> usize {
    if matches!(block[TYPEFLAG], b'1'..=b'6') {
        return 0;
    }
    let digits: Vec<u8> = block[SIZE]
        .iter()
        .copied()
        .filter(u8::is_ascii_digit)
        .collect();
    let size = std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| usize::from_str_radix(digits, 8).ok())
        .filter(|size| *size < 1 << 30);
    size.unwrap_or(0).next_multiple_of(BLOCK_BYTES)
}

const BLOCK_BYTES: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPEFLAG: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..262;
