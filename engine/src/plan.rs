//! How a blob is cut into chunks: the arithmetic, without any state.
//!
//! What it is told of hosts and limits is gathered in [`crate::chunks`].

/// What the size of chunks is chosen from where the engine chooses it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The smallest and the largest chunk there may be.
    pub(crate) bounds: (u64, u64),
    /// Bytes of all blobs together that were never asked for.
    pub(crate) work_bytes: u64,
    /// Fetches these may have at once.
    pub(crate) permits: u64,
    /// What a chunk must have for the time to its first byte to be a small part of it; nothing while that is not known.
    pub(crate) lasting_bytes: Option<u64>,
    /// What a chunk must have for the host to be asked no more often than it bears.
    pub(crate) seldom_bytes: u64,
}

/// Size of the chunks to aim at.
///
/// Long enough that waiting for the first byte is a small part of each; small enough that every fetch there may be has
/// one, so that none is idle while the last ones end; but before all of that so large that the host is not asked too often.
pub(crate) fn chosen_bytes(known: &Known) -> u64 {
    let (least, most) = known.bounds;
    let lasting = known.lasting_bytes.unwrap_or(START_BYTES);
    let share = known.work_bytes.div_ceil(known.permits.max(1));
    let chosen = lasting.min(share).max(known.seldom_bytes);
    chosen.clamp(least.min(most), most)
}

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

/// Size of the chunks of a blob that is to be cut into pieces of about `wanted` bytes: none is smaller unless the maximum
/// demands it, so a blob of less than two of them is one request.
pub(crate) const fn even_bytes(size: u64, wanted: u64, chunk_bytes_max: u64) -> u64 {
    let wanted = if wanted == 0 { 1 } else { wanted };
    let count = if size < wanted { 1 } else { size / wanted };
    let even = if size == 0 { 1 } else { size.div_ceil(count) };
    if even <= chunk_bytes_max {
        even
    } else {
        chunk_bytes(size, chunk_bytes_max)
    }
}

/// What chunks have while nothing is known of a host: large enough that a fast host costs one more first byte for each
/// connection and no more, small enough that a slow one is not held up by it.
pub(crate) const START_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

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

    #[test]
    fn a_blob_of_less_than_two_chunks_is_one_request_if_it_may_be() {
        for (size, wanted, max, expected) in [
            (0, 8, 16, 1),
            (7, 8, 16, 7),
            (15, 8, 16, 15),
            (16, 8, 16, 8),
            (23, 8, 16, 12),
            (15, 8, 8, 8),
            (15, 8, 10, 8),
            (33, 8, 16, 9),
        ] {
            let even = even_bytes(size, wanted, max);
            assert_eq!(even, expected, "{size} by {wanted} up to {max}");
        }
    }

    #[test]
    fn chunks_last_and_leave_none_idle_and_ask_seldom() {
        let known = Known {
            bounds: (MIB, 32 * MIB),
            work_bytes: 1_000 * MIB,
            permits: 10,
            lasting_bytes: Some(8 * MIB),
            seldom_bytes: 0,
        };
        for (known, chosen, why) in [
            (known, 8 * MIB, "the first byte is a small part"),
            (
                Known {
                    lasting_bytes: None,
                    ..known
                },
                START_BYTES,
                "nothing is known yet",
            ),
            (
                Known {
                    work_bytes: 30 * MIB,
                    ..known
                },
                3 * MIB,
                "ten fetches share the little there is",
            ),
            (
                Known {
                    work_bytes: 30 * MIB,
                    seldom_bytes: 16 * MIB,
                    ..known
                },
                16 * MIB,
                "the host is asked seldom before all",
            ),
            (
                Known {
                    lasting_bytes: Some(1),
                    ..known
                },
                MIB,
                "no smaller than the bound",
            ),
            (
                Known {
                    seldom_bytes: u64::MAX,
                    permits: 0,
                    ..known
                },
                32 * MIB,
                "no larger than the bound",
            ),
        ] {
            assert_eq!(chosen_bytes(&known), chosen, "{why}");
        }
    }

    proptest! {
        #[test]
        fn never_exceeds_the_maximum_nor_the_fewest_chunks(size in 1u64..1 << 40, max in 1u64..1 << 32) {
            let chunk = chunk_bytes(size, max);
            prop_assert!(chunk <= max && chunk >= 1);
            prop_assert_eq!(size.div_ceil(chunk), size.div_ceil(max));
        }

        #[test]
        fn no_chunk_is_tiny_nor_larger_than_the_maximum(
            size in 1u64..1 << 40,
            wanted in 1u64..1 << 32,
            more in 0u64..1 << 32,
        ) {
            let max = wanted + more;
            let chunk = even_bytes(size, wanted, max);
            prop_assert!(chunk >= 1 && chunk <= max);
            let count = size.div_ceil(chunk);
            let last = size - (count - 1) * chunk;
            prop_assert!(last > 0 && chunk - last <= count, "{count} of {chunk}, the last of {last}");
            if size >= wanted && more >= wanted {
                prop_assert!(last + count >= wanted, "{count} of {chunk}, the last of {last}");
            }
        }

        #[test]
        fn what_is_chosen_stays_within_its_bounds(
            bounds in (1u64..1 << 30, 1u64..1 << 30),
            work_bytes in 0u64..1 << 50,
            permits in 0u64..1_000,
            lasting_bytes in proptest::option::of(0u64..u64::MAX),
            seldom_bytes: u64,
        ) {
            let known = Known { bounds, work_bytes, permits, lasting_bytes, seldom_bytes };
            let chosen = chosen_bytes(&known);
            prop_assert!(chosen <= bounds.1 && chosen >= bounds.0.min(bounds.1));
        }
    }
}
