//! Keyed randomness of the world: a draw depends on what it is for, never on how many came before.

/// What a draw is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Time to the first byte; the parts are blob, first byte, and how often it was asked for.
    FirstByte = 101,
    /// Whether wrong bytes show where they are or at the end; the parts are blob and offset.
    CorruptShows = 102,
    /// Whether a clog holds a connection; the parts are clog and op.
    Clogged = 103,
    /// Whether what is told of an op comes late, and how late; the part is the op.
    Late = 104,
    /// Whether the end of an op is told twice; the part is the op.
    Twice = 105,
}

/// A uniformly distributed number that depends on `seed`, `purpose` and `parts` alone.
pub(crate) fn keyed(seed: u64, purpose: Purpose, parts: [u64; 3]) -> u64 {
    let mut state = mix(seed ^ GOLDEN_GAMMA.wrapping_mul(purpose as u64));
    for part in parts {
        state = mix(state.wrapping_add(GOLDEN_GAMMA) ^ part);
    }
    state
}

/// A stream of draws for generators, whose product is a value that is kept.
#[derive(Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    /// From `low` to `high`, both included.
    pub(crate) const fn within(&mut self, low: u64, high: u64) -> u64 {
        low + ((self.next() as u128 * (high - low + 1) as u128) >> 64) as u64
    }

    pub(crate) fn within_u32(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.within(low.into(), high.into())).unwrap_or(high)
    }

    /// True in `percent` of the draws.
    pub(crate) const fn chance(&mut self, percent: u64) -> bool {
        self.within(1, 100) <= percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let last = from.len() as u64 - 1;
        &from[usize::try_from(self.within(0, last)).unwrap_or(0)]
    }
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`'s finaliser (Steele, Lea, Flood, 2014).
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
