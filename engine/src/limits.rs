//! What may run at once, parsed once and trusted afterwards.

use core::fmt;

/// Limits as they are written down; every number is meant as it stands ("unlimited" and "auto" are resolved by the shell).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct RawLimits {
    /// Fetches at once in total; each is one connection. Costs one descriptor and about 0.5 MiB of socket buffers each.
    pub fetches_max: u32,
    /// Fetches at once for one image.
    pub fetches_per_image_max: u32,
    /// Layers unpacked at once in total. Costs one to `threads_per_lane_max` threads and about 4 MiB of buffers each.
    pub unpacks_max: u32,
    /// Layers unpacked at once for one image.
    pub unpacks_per_image_max: u32,
    /// Largest range asked for at once, in bytes; 0 asks for whole blobs.
    pub chunk_bytes_max: u64,
    /// Credit granted at once to a whole read that goes to the window, in bytes.
    pub slice_bytes: u64,
    /// Fetched bytes held in memory at once, in total. This is what a pull costs in memory.
    pub window_bytes_max: u64,
    /// Fetched bytes held in memory at once for one layer: how far fetching may run ahead of one lane.
    pub layer_window_bytes_max: u64,
    /// Compressed bytes held on disk at once.
    pub spool_bytes_max: u64,
    /// Threads of all lanes together.
    pub threads_max: u32,
    /// Threads of one lane.
    pub threads_per_lane_max: u32,
    /// Cores that lanes run on: one lane is given more threads than others only while all lanes have no more than one
    /// thread above these.
    #[cfg_attr(feature = "serde", serde(default))]
    pub cores: u32,
    /// Threads of a lane that the pull waits for while cores are idle; none is widened at `threads_per_lane_max` or below.
    #[cfg_attr(feature = "serde", serde(default))]
    pub wide_threads_max: u32,
    /// Compressed bytes that a layer must still have before it for its lane to be widened.
    #[cfg_attr(feature = "serde", serde(default))]
    pub wide_bytes_min: u64,
}

/// Limits whose relations hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawLimits", into = "RawLimits"))]
pub struct Limits {
    raw: RawLimits,
}

/// Limits that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsError {
    /// A limit that must be at least 1 is 0; the name is the field's.
    Zero(&'static str),
    /// The window cannot hold one chunk for each lane, so pulls could wait for each other for ever.
    WindowTooSmall {
        /// What it must hold at least, in bytes.
        bytes_min: u64,
    },
    /// The share of one layer is smaller than one chunk.
    LayerWindowTooSmall {
        /// What it must hold at least, in bytes.
        bytes_min: u64,
    },
    /// The limit per image is larger than the limit in total; the name is the field's.
    PerImageAboveTotal(&'static str),
    /// A lane could never start.
    TooFewThreads,
}

impl Limits {
    /// The limits as numbers.
    pub const fn raw(&self) -> &RawLimits {
        &self.raw
    }

    /// The largest piece that is charged to the window at once: a chunk, or a slice of a whole read.
    pub const fn piece_bytes_max(&self) -> u64 {
        if self.raw.chunk_bytes_max == 0 || self.raw.slice_bytes > self.raw.chunk_bytes_max {
            self.raw.slice_bytes
        } else {
            self.raw.chunk_bytes_max
        }
    }

    /// What layers without a lane may hold of the window: the rest always serves one piece for every lane.
    pub const fn laneless_bytes_max(&self) -> u64 {
        self.raw.window_bytes_max - self.raw.unpacks_max as u64 * self.piece_bytes_max()
    }
}

impl TryFrom<RawLimits> for Limits {
    type Error = LimitsError;

    fn try_from(raw: RawLimits) -> Result<Self, LimitsError> {
        for (name, value) in [
            ("fetches_max", u64::from(raw.fetches_max)),
            (
                "fetches_per_image_max",
                u64::from(raw.fetches_per_image_max),
            ),
            ("unpacks_max", u64::from(raw.unpacks_max)),
            (
                "unpacks_per_image_max",
                u64::from(raw.unpacks_per_image_max),
            ),
            ("slice_bytes", raw.slice_bytes),
            ("threads_max", u64::from(raw.threads_max)),
            ("threads_per_lane_max", u64::from(raw.threads_per_lane_max)),
        ] {
            if value == 0 {
                return Err(LimitsError::Zero(name));
            }
        }
        if raw.fetches_per_image_max > raw.fetches_max {
            return Err(LimitsError::PerImageAboveTotal("fetches_per_image_max"));
        }
        if raw.unpacks_per_image_max > raw.unpacks_max {
            return Err(LimitsError::PerImageAboveTotal("unpacks_per_image_max"));
        }
        if raw.threads_max < raw.unpacks_max {
            return Err(LimitsError::TooFewThreads);
        }
        let limits = Self { raw };
        let piece = limits.piece_bytes_max();
        let bytes_min = piece.saturating_mul(u64::from(raw.unpacks_max));
        if raw.window_bytes_max < bytes_min {
            return Err(LimitsError::WindowTooSmall { bytes_min });
        }
        if raw.layer_window_bytes_max < piece {
            return Err(LimitsError::LayerWindowTooSmall { bytes_min: piece });
        }
        Ok(limits)
    }
}

impl From<Limits> for RawLimits {
    fn from(limits: Limits) -> Self {
        limits.raw
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(name) => write!(f, "{name} must be at least 1"),
            Self::WindowTooSmall { bytes_min } => write!(
                f,
                "the window must hold one chunk for every unpack: at least {bytes_min} bytes"
            ),
            Self::LayerWindowTooSmall { bytes_min } => {
                write!(
                    f,
                    "layer_window_bytes_max must hold one chunk: at least {bytes_min} bytes"
                )
            }
            Self::PerImageAboveTotal(name) => write!(f, "{name} is larger than the limit in total"),
            Self::TooFewThreads => {
                f.write_str("threads_max must be at least unpacks_max: every lane needs a thread")
            }
        }
    }
}

impl core::error::Error for LimitsError {}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: RawLimits = RawLimits {
        fetches_max: 8,
        fetches_per_image_max: 4,
        unpacks_max: 2,
        unpacks_per_image_max: 2,
        chunk_bytes_max: 8,
        slice_bytes: 8,
        window_bytes_max: 32,
        layer_window_bytes_max: 16,
        spool_bytes_max: 0,
        threads_max: 2,
        threads_per_lane_max: 2,
        cores: 2,
        wide_threads_max: 0,
        wide_bytes_min: 0,
    };

    #[test]
    fn accepts_a_window_of_one_piece_for_each_lane() {
        let limits = Limits::try_from(RawLimits {
            window_bytes_max: 16,
            ..GOOD
        })
        .unwrap();
        assert_eq!(limits.laneless_bytes_max(), 0);
    }

    #[test]
    fn refuses_limits_that_cannot_work() {
        for (raw, error) in [
            (
                RawLimits {
                    fetches_max: 0,
                    ..GOOD
                },
                LimitsError::Zero("fetches_max"),
            ),
            (
                RawLimits {
                    window_bytes_max: 15,
                    ..GOOD
                },
                LimitsError::WindowTooSmall { bytes_min: 16 },
            ),
            (
                RawLimits {
                    chunk_bytes_max: 0,
                    slice_bytes: 20,
                    ..GOOD
                },
                LimitsError::WindowTooSmall { bytes_min: 40 },
            ),
            (
                RawLimits {
                    fetches_per_image_max: 9,
                    ..GOOD
                },
                LimitsError::PerImageAboveTotal("fetches_per_image_max"),
            ),
            (
                RawLimits {
                    threads_max: 1,
                    ..GOOD
                },
                LimitsError::TooFewThreads,
            ),
            (
                RawLimits {
                    layer_window_bytes_max: 7,
                    ..GOOD
                },
                LimitsError::LayerWindowTooSmall { bytes_min: 8 },
            ),
        ] {
            assert_eq!(Limits::try_from(raw), Err(error));
        }
    }
}
