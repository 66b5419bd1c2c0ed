//! What is kept of a failure: enough to see it again and to read how it came.

use std::collections::VecDeque;
use std::fmt::Debug;

use parapull_scenario::Scenario;
use serde::{Deserialize, Serialize};

use crate::swarm::{Failure, FailureKind, try_observed};

/// A failing scenario with what is known of its failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// What failed.
    pub scenario: Scenario,
    /// How.
    pub kind: FailureKind,
    /// In one line.
    pub reason: String,
    /// The last inputs and outputs, each with its time in nanoseconds.
    pub trace_tail: Vec<String>,
}

impl Bundle {
    /// Runs a failing scenario again and keeps the end of its trace.
    #[must_use]
    pub fn of(scenario: &Scenario, failure: &Failure) -> Self {
        let mut tail = VecDeque::new();
        let mut tell = |at: u64, what: &dyn Debug| {
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line(at, what));
        };
        // It fails again, or its failure was that it does not always go the same way; the tail tells either.
        let _ = try_observed(scenario, &mut tell);
        Self {
            scenario: scenario.clone(),
            kind: failure.kind(),
            reason: failure.message().to_owned(),
            trace_tail: tail.into(),
        }
    }

    /// Reads a bundle, or a scenario alone.
    ///
    /// # Errors
    /// When the text is neither; the error is that of the scenario.
    pub fn scenario_in(text: &str) -> Result<Scenario, serde_json::Error> {
        serde_json::from_str(text)
            .map(|bundle: Self| bundle.scenario)
            .or_else(|_| serde_json::from_str(text))
    }

    /// A name that follows from the scenario: 16 hexadecimal digits.
    ///
    /// # Errors
    /// When the scenario cannot be written as JSON.
    pub fn name(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(&self.scenario)?;
        let hash = text.bytes().fold(FNV_OFFSET, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
        });
        Ok(format!("{hash:016x}"))
    }
}

/// How a fact or an answer is written.
#[must_use]
pub fn line(at: u64, what: &dyn Debug) -> String {
    format!("{at:>14} {what:?}")
}

const TAIL_LINES: usize = 200;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
