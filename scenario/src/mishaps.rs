//! What goes wrong around a pull besides wrong answers and a failing disk.

use serde::{Deserialize, Serialize};

/// All mishaps of a run; the default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mishaps {
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
