//! Many scenarios, each run and checked; what fails is kept as a value.

use std::panic::{self, AssertUnwindSafe};

use parapull_scenario::Scenario;
use serde::{Deserialize, Serialize};

use crate::check::check;
use crate::generate::generate;
use crate::report::Run;
use crate::world::{Observer, RunError, Violation};

/// How a scenario failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The engine or the world panicked; with the message.
    Crash(String),
    /// Something that must happen did not.
    Liveness(String),
    /// Something happened that must not.
    Correctness(String),
}

impl Failure {
    /// Its class.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::Crash(_) => FailureKind::Crash,
            Self::Liveness(_) => FailureKind::Liveness,
            Self::Correctness(_) => FailureKind::Correctness,
        }
    }

    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    /// Which check saw it: its message without numbers and values.
    #[must_use]
    pub fn check(&self) -> String {
        let message = self.message();
        if let Some((_, invariant)) = message.split_once("invariant ") {
            let end = invariant.find(')').map_or(invariant.len(), |at| at + 1);
            return format!("invariant {}", &invariant[..end]);
        }
        let (mut words, mut depth) = (String::new(), 0_u32);
        for letter in message.chars() {
            match letter {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                '0'..='9' => {}
                _ if depth == 0 && words.len() < CHECK_BYTES_MAX => words.push(letter),
                _ => {}
            }
        }
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What failed, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Crash(message) | Self::Liveness(message) | Self::Correctness(message) => message,
        }
    }
}

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The engine or the world panicked.
    Crash,
    /// Something that must happen did not.
    Liveness,
    /// Something happened that must not.
    Correctness,
}

impl FailureKind {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Crash => 10,
            Self::Liveness => 11,
            Self::Correctness => 12,
        }
    }
}

/// Runs a scenario and checks it against the oracle; every twentieth seed runs twice and must do the same again.
///
/// # Errors
/// How it failed. A scenario that cannot be run counts as a crash: generators make none.
pub fn try_scenario(scenario: &Scenario) -> Result<Run, Failure> {
    let attempt = || -> Result<Run, Failure> {
        let run = Run::of(scenario).map_err(failure)?;
        check(&run).map_err(|violation| failure(violation.into()))?;
        if scenario.seed.is_multiple_of(SEEDS_PER_REPEAT) {
            let again = Run::of(scenario).map_err(failure)?;
            if again.trace_hash() != run.trace_hash() {
                return Err(Failure::Correctness(
                    "invariant 13 (trace): the same scenario went another way".to_owned(),
                ));
            }
        }
        Ok(run)
    };
    caught(attempt)
}

/// Runs a scenario once, checks it, and tells `observer` every input and output with its time.
///
/// # Errors
/// As [`try_scenario`].
pub fn try_observed<'a>(scenario: &'a Scenario, observer: Observer<'a>) -> Result<Run, Failure> {
    caught(|| {
        let run = Run::observed(scenario, observer).map_err(failure)?;
        check(&run).map_err(|violation| failure(violation.into()))?;
        Ok(run)
    })
}

fn caught(attempt: impl FnOnce() -> Result<Run, Failure>) -> Result<Run, Failure> {
    match panic::catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(result) => result,
        Err(payload) => Err(Failure::Crash(said(payload.as_ref()))),
    }
}

/// Runs the scenarios of `seeds`; calls `seen` with each result and stops when it says so.
pub fn swarm(
    seeds: impl Iterator<Item = u64>,
    mut seen: impl FnMut(&Scenario, &Result<Run, Failure>) -> bool,
) {
    for seed in seeds {
        let scenario = generate(seed);
        let result = try_scenario(&scenario);
        if !seen(&scenario, &result) {
            return;
        }
    }
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::Scenario(error) => Failure::Crash(error.to_string()),
        RunError::Violation(Violation::Liveness(message)) => Failure::Liveness(message),
        RunError::Violation(Violation::Correctness(message)) => Failure::Correctness(message),
    }
}

fn said(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
        })
        .unwrap_or_else(|| "panicked without a message".to_owned())
}

/// Enough to tell one check from another.
const CHECK_BYTES_MAX: usize = 100;
const SEEDS_PER_REPEAT: u64 = 20;
