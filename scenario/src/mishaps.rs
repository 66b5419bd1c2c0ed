//! What goes wrong around a pull besides wrong answers and a failing disk: connections, pauses, callers, the daemon itself.

use serde::{Deserialize, Serialize};

use crate::registry::FaultTimes;

/// All mishaps of a run; the default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mishaps {
    /// Connections that are not made, or not closed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionFault>,
    /// Times in which some connections carry nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clogs: Vec<Clog>,
    /// Work on the node that takes longer than it should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
    /// How the engine is told of what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Callers that leave and come back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absences: Vec<Absence>,
    /// Indices of pulls each of whose layers two callers wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubled: Vec<usize>,
    /// Ends of the daemon without warning, after so many facts told to it; it starts again with what is on disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub crashes: Vec<u64>,
    /// Times in which the node sleeps: its clock goes on, nothing else does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sleeps: Vec<Sleep>,
    /// A lie of the simulated world that the checks must notice: the harness is tested with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

impl Mishaps {
    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Something about connections, counted over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFault {
    /// Which of the connections.
    pub times: FaultTimes,
    /// What happens to them.
    pub kind: ConnectionFaultKind,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConnectionFaultKind {
    /// It is refused after one round trip.
    Refused,
    /// The host's name is not found, at once.
    NameUnknown,
    /// It counts as open for so long after its end.
    SlowClose {
        /// How long.
        ms: u32,
    },
}

/// A time in which some connections carry nothing. Several that overlap, begin one by one and end in another order are
/// what other harnesses call swizzled clogging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clog {
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// Thousandths of the connections, drawn for each.
    pub permille: u32,
}

/// Work that stands still for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// What stands still.
    pub of: Paused,
    /// How often it happens, to the first that meet it.
    pub times: u32,
    /// For how long.
    pub for_ms: u32,
}

/// What stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Paused {
    /// A decompressor, after so many thousandths of its layer.
    Lane {
        /// Thousandths of the compressed bytes.
        at_permille: u32,
    },
    /// The synchronising to disk with which a layer takes its place.
    Link,
    /// The removal of a tree or of bytes.
    Drop,
}

/// How the engine is told: drawn for each op, so that what is told of one op stays in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Thousandths of the ops whose facts come late, and so after those of others that happened later.
    pub late_permille: u32,
    /// How late at most.
    pub late_us_max: u32,
    /// Thousandths of the ops whose end is told twice.
    pub twice_permille: u32,
}

/// Callers that leave for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// Index of the pull they wait for.
    pub pull: usize,
    /// When they leave.
    pub at_ms: u64,
    /// How long they stay away.
    pub for_ms: u64,
}

/// A time in which the node sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// When it begins.
    pub at_ms: u64,
    /// How far its clock has gone when it wakes.
    pub for_ms: u64,
}

/// A lie of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Canary {
    /// The world panics: a crash.
    Panic,
    /// The end of a fetch is never told: nothing comes to an end.
    LostCompletion,
    /// One thing happens without end at one moment.
    Livelock,
    /// Bytes are counted twice: they are not conserved.
    CountedTwice,
    /// A tree is left behind that the engine knows of.
    LeftTree,
}

impl Canary {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Panic,
        Self::LostCompletion,
        Self::Livelock,
        Self::CountedTwice,
        Self::LeftTree,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_written_as_nothing() {
        let none = serde_json::to_string(&Mishaps::default()).unwrap();
        assert_eq!(none, "{}");
        let read: Mishaps = serde_json::from_str(
            r#"{"crashes": [17], "clogs": [{"at_ms": 5, "for_ms": 9, "permille": 500}]}"#,
        )
        .unwrap();
        assert!(!read.is_none());
        assert_eq!(read.crashes, [17]);
        assert!(serde_json::from_str::<Mishaps>(r#"{"crash": [17]}"#).is_err());
    }
}
