//! Makes a failing scenario small: what can be left out without changing how it fails is left out.
//!
//! A scenario is a value of lists, numbers and options, so it is shrunk as the JSON it is written as: parts of lists are
//! dropped (delta debugging: Zeller, Hildebrandt, 2002), options removed, numbers made 0, halved or lowered. What does not
//! read back as a scenario, or fails in another way, is not taken.

use parapull_scenario::Scenario;
use serde_json::Value;

use crate::swarm::{Failure, try_scenario};

/// A scenario that fails as the one it came from, and what it took.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The small scenario.
    pub scenario: Scenario,
    /// How it fails.
    pub failure: Failure,
    /// Scenarios that were run.
    pub runs: u64,
}

/// Shrinks a failing scenario; `None` when it does not fail.
///
/// # Errors
/// When the scenario cannot be written as JSON.
pub fn shrink(scenario: &Scenario, runs_max: u64) -> Result<Option<Shrunk>, serde_json::Error> {
    let Err(failure) = try_scenario(scenario) else {
        return Ok(None);
    };
    let mut search = Search {
        best: serde_json::to_value(scenario)?,
        scenario: scenario.clone(),
        failure,
        runs: 1,
        runs_max,
    };
    while search.round() {}
    Ok(Some(Shrunk {
        scenario: search.scenario,
        failure: search.failure,
        runs: search.runs,
    }))
}

/// The smallest scenario so far.
struct Search {
    best: Value,
    scenario: Scenario,
    failure: Failure,
    runs: u64,
    runs_max: u64,
}

/// The way from the whole to a part.
type Path = Vec<Step>;

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Search {
    /// Tries every way of making it smaller once; returns whether one did.
    fn round(&mut self) -> bool {
        let before = self.best.clone();
        for path in lists(&self.best) {
            self.thin(&path);
        }
        for path in leaves(&self.best) {
            self.lower(&path);
        }
        self.best != before && self.runs < self.runs_max
    }

    /// Drops halves of a list, then quarters, down to single entries.
    fn thin(&mut self, path: &Path) {
        let length = |value: &Value| {
            at(value, path)
                .and_then(Value::as_array)
                .map_or(0, Vec::len)
        };
        let mut portion = length(&self.best).div_ceil(2);
        while portion > 0 {
            let mut from = 0;
            while from < length(&self.best) {
                let to = (from + portion).min(length(&self.best));
                let dropped = self.try_change(path, |part| {
                    if let Value::Array(list) = part {
                        list.drain(from..to);
                    }
                });
                if !dropped {
                    from = to;
                }
            }
            portion = if portion == 1 { 0 } else { portion.div_ceil(2) };
        }
    }

    /// Removes a part, or makes its number as small as it can be.
    fn lower(&mut self, path: &Path) {
        if self.try_remove(path) {
            return;
        }
        let Some(mut high) = at(&self.best, path).and_then(number) else {
            return;
        };
        if high == 0 || self.try_number(path, 0) {
            return;
        }
        let mut low = 0;
        // The failure need not be monotone in the number; a search that finds any smaller one is enough.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.try_number(path, middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
    }

    fn try_number(&mut self, path: &Path, number: u64) -> bool {
        self.try_change(path, |part| {
            *part = match part {
                Value::String(_) => Value::String(number.to_string()),
                _ => Value::from(number),
            };
        })
    }

    fn try_remove(&mut self, path: &Path) -> bool {
        let Some((Step::Key(key), whole)) = path.split_last() else {
            return false;
        };
        self.try_change(&whole.to_vec(), |part| {
            if let Value::Object(fields) = part {
                fields.remove(key);
            }
        })
    }

    /// Takes a change when the scenario still fails in the same way.
    fn try_change(&mut self, path: &Path, change: impl FnOnce(&mut Value)) -> bool {
        let mut candidate = self.best.clone();
        let Some(part) = at_mut(&mut candidate, path) else {
            return false;
        };
        change(part);
        if candidate == self.best || self.runs >= self.runs_max {
            return false;
        }
        let Ok(scenario) = serde_json::from_value::<Scenario>(candidate.clone()) else {
            return false;
        };
        self.runs += 1;
        match try_scenario(&scenario) {
            Err(failure) if is_same(&failure, &self.failure) => {
                (self.best, self.scenario, self.failure) = (candidate, scenario, failure);
                true
            }
            _ => false,
        }
    }
}

/// Whether two failures are one: of the same class, seen by the same check.
fn is_same(one: &Failure, other: &Failure) -> bool {
    one.kind() == other.kind() && one.check() == other.check()
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Where lists are, the outer ones first.
fn lists(value: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, part| {
        if part.is_array() {
            found.push(path.clone());
        }
    });
    found
}

/// Where fields and numbers are, the outer ones first.
fn leaves(value: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, part| {
        let is_field = matches!(path.last(), Some(Step::Key(_)));
        if is_field || number(part).is_some() {
            found.push(path.clone());
        }
    });
    found
}

fn walk(value: &Value, path: &mut Path, seen: &mut impl FnMut(&Path, &Value)) {
    seen(path, value);
    match value {
        Value::Array(list) => {
            for (index, part) in list.iter().enumerate() {
                path.push(Step::Index(index));
                walk(part, path, seen);
                path.pop();
            }
        }
        Value::Object(fields) => {
            for (key, part) in fields {
                path.push(Step::Key(key.clone()));
                walk(part, path, seen);
                path.pop();
            }
        }
        _ => {}
    }
}

fn at<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |part, step| match step {
        Step::Key(key) => part.get(key),
        Step::Index(index) => part.get(index),
    })
}

fn at_mut<'a>(value: &'a mut Value, path: &[Step]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |part, step| match step {
        Step::Key(key) => part.get_mut(key),
        Step::Index(index) => part.get_mut(index),
    })
}
