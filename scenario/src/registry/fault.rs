//! What goes wrong, as a list that can be replayed: each fault is found by what is asked for, not by when.

use serde::{Deserialize, Serialize};

/// All faults of a run; an empty list is a healthy registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// The faults; of those that fit a request the first one happens.
    pub faults: Vec<Fault>,
}

/// One fault: where, when, what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which object it happens to.
    pub target: FaultTarget,
    /// Only requests whose bytes include this offset of the blob; every request when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Which of the requests that fit. They are counted per fault, so that with an `offset` the order in which other ranges
    /// are asked for makes no difference.
    #[serde(default)]
    pub times: FaultTimes,
    /// What happens.
    pub kind: FaultKind,
}

/// The object a fault happens to.
///
/// Faults of blobs happen to GETs, on whichever origin sends the bytes; those of manifests and the ping to HEADs as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultTarget {
    /// The blob of the layer with that index from 0 at the bottom, in any image served.
    Layer(u32),
    /// Any layer's blob.
    AnyLayer,
    /// The blob or manifest with that digest.
    Digest(String),
    /// Any image's config.
    Config,
    /// Any manifest or index.
    Manifest,
    /// The token endpoint.
    Token,
    /// The ping `/v2/`.
    Ping,
}

/// Which of the requests that fit a fault meet it, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultTimes {
    /// All.
    #[default]
    Always,
    /// The first so many.
    First(u32),
    /// Only this one.
    Nth(u32),
    /// Each so-manieth.
    Every(u32),
    /// So many in a row, from this one on.
    Burst {
        /// The first.
        from: u32,
        /// How many.
        count: u32,
    },
}

impl FaultTimes {
    /// Whether the request with this ordinal, counted from 1, meets the fault.
    #[must_use]
    pub fn includes(self, ordinal: u32) -> bool {
        match self {
            Self::Always => true,
            Self::First(count) => ordinal <= count,
            Self::Nth(number) => ordinal == number,
            Self::Every(period) => period > 0 && ordinal.is_multiple_of(period),
            Self::Burst { from, count } => ordinal.checked_sub(from).is_some_and(|nth| nth < count),
        }
    }
}

/// What goes wrong with an answer. Byte counts are of the answer's body, from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The connection is reset (RST) after so many bytes.
    ResetAfter {
        /// Body bytes before the reset.
        bytes: u64,
    },
    /// The connection is closed (FIN) after so many bytes, although more were promised.
    TruncatedAfter {
        /// Body bytes before the end.
        bytes: u64,
    },
    /// The byte at this offset of the blob arrives inverted, whichever range carries it.
    CorruptByte {
        /// Offset in the blob.
        offset: u64,
    },
    /// This status instead of the answer; 401 carries the profile's challenge.
    Status {
        /// The HTTP status, 400 to 599.
        code: u16,
        /// `Retry-After`; no header when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    /// Nothing more comes after so many bytes, for so long or until the client leaves.
    StallAfter {
        /// Body bytes before the silence.
        bytes: u64,
        /// How long; for ever when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stall_ms: Option<u32>,
    },
    /// The body comes at this rate.
    Trickle {
        /// Body bytes per second, at least 1.
        bytes_per_second: u64,
    },
    /// `Content-Length` says so many bytes more (or fewer) than the object has.
    WrongContentLength {
        /// Added to the true length.
        delta_bytes: i64,
    },
    /// 200 and the whole body for a range request.
    WholeBodyForRange,
    /// 206 for a range request, under a `Content-Range` that names other bytes.
    WrongRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_decide() {
        let met = |times: FaultTimes| {
            (1..=6)
                .filter(|&ordinal| times.includes(ordinal))
                .collect::<Vec<u32>>()
        };
        assert_eq!(met(FaultTimes::Always), [1, 2, 3, 4, 5, 6]);
        assert_eq!(met(FaultTimes::First(2)), [1, 2]);
        assert_eq!(met(FaultTimes::Nth(3)), [3]);
        assert_eq!(met(FaultTimes::Every(2)), [2, 4, 6]);
        assert_eq!(met(FaultTimes::Burst { from: 3, count: 2 }), [3, 4]);
        assert_eq!(met(FaultTimes::Every(0)), [0; 0]);
    }

    #[test]
    fn faults_read_as_people_write_them() {
        let text = r#"{"faults": [
            {"target": {"layer": 3}, "offset": 1000, "times": {"first": 2}, "kind": {"reset-after": {"bytes": 10}}},
            {"target": "any-layer", "kind": {"status": {"code": 429, "retry_after_seconds": 1}}},
            {"target": "manifest", "times": "always", "kind": "whole-body-for-range"}]}"#;
        let faults: Faults = serde_json::from_str(text).unwrap();
        assert_eq!(faults.faults.len(), 3);
        assert_eq!(faults.faults[0].target, FaultTarget::Layer(3));
        let again: Faults = serde_json::from_str(&serde_json::to_string(&faults).unwrap()).unwrap();
        assert_eq!(again, faults);
        assert!(serde_json::from_str::<Faults>(r#"{"faults": [{"target": "config"}]}"#).is_err());
    }
}
