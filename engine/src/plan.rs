//! How a blob is cut into chunks.

/// Size of the chunks of a blob of `size` bytes, none of them larger than `chunk_bytes_max`.
///
/// All chunks but the last are equal and the last is at most one byte per chunk smaller: a tiny last chunk would cost a
/// round trip for nothing. A blob of up to 1¼ times the maximum still makes two chunks, because the maximum is what the
/// window is sized for.
pub(crate) const fn chunk_bytes(size: u64, chunk_bytes_max: u64) -> u64 {
    if size <= chunk_bytes_max {
        return if size == 0 { 1 } else { size };
    }
    size.div_ceil(size.div_ceil(chunk_bytes_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_evenly() {
        for (size, max, expected) in [
            (0, 8, 1),
            (1, 8, 1),
            (8, 8, 8),
            (9, 8, 5),
            (16, 8, 8),
            (17, 8, 6),
            (100, 8, 8),
        ] {
            assert_eq!(chunk_bytes(size, max), expected, "{size} by {max}");
        }
    }

    proptest! {
        #[test]
        fn never_exceeds_the_maximum_nor_the_fewest_chunks(size in 1u64..1 << 40, max in 1u64..1 << 32) {
            let chunk = chunk_bytes(size, max);
            prop_assert!(chunk <= max && chunk >= 1);
            prop_assert_eq!(size.div_ceil(chunk), size.div_ceil(max));
        }
    }
}
