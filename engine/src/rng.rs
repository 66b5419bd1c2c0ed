//! Keyed randomness: each draw depends on the seed and on what it is for, never on how many draws came before.
//!
//! So removing one failure from a run leaves every other jitter as it was, which is what makes shrinking work.

/// What a draw is for; part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Backoff of a failed range; the parts are blob, first byte, attempt.
    RangeBackoff = 1,
    /// Backoff of a manifest, config or token request; the parts are the caller's.
    RequestBackoff = 2,
    /// How long a host is left alone that did not say for how long; the parts are host and time.
    HostHold = 3,
}

/// A uniformly distributed `u64` that depends on `seed`, `purpose` and `parts` alone.
///
/// SplitMix64's finaliser (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) is folded over
/// the parts; it passes BigCrush and has no state to carry.
pub(crate) fn keyed(seed: u64, purpose: Purpose, parts: [u64; 3]) -> u64 {
    let mut state = mix(seed ^ GOLDEN_GAMMA.wrapping_mul(purpose as u64));
    for part in parts {
        state = mix(state.wrapping_add(GOLDEN_GAMMA) ^ part);
    }
    state
}

/// Scales a draw to `[0, bound]` without bias worth mentioning (the multiply-shift of Lemire, 2019).
pub(crate) const fn up_to(draw: u64, bound: u64) -> u64 {
    ((draw as u128 * (bound as u128 + 1)) >> 64) as u64
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_every_part_of_its_key() {
        let base = keyed(1, Purpose::RangeBackoff, [2, 3, 4]);
        assert_eq!(base, keyed(1, Purpose::RangeBackoff, [2, 3, 4]));
        assert_ne!(base, keyed(2, Purpose::RangeBackoff, [2, 3, 4]));
        assert_ne!(base, keyed(1, Purpose::RequestBackoff, [2, 3, 4]));
        for parts in [[9, 3, 4], [2, 9, 4], [2, 3, 9]] {
            assert_ne!(base, keyed(1, Purpose::RangeBackoff, parts));
        }
    }

    #[test]
    fn scales_to_both_ends_of_the_bound() {
        assert_eq!(up_to(0, 10), 0);
        assert_eq!(up_to(u64::MAX, 10), 10);
        assert_eq!(up_to(u64::MAX, 0), 0);
    }
}
