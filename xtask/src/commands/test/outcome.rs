//! How the groups of tests ended, read from what the test runners print.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The ends of all groups.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    groups: BTreeMap<String, Outcome>,
    /// The runner whose lines are being read.
    current: Option<String>,
}

/// How one group ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Why tests said they could not run.
    reasons: Vec<String>,
    /// A runner started and has not told its result.
    is_open: bool,
}

/// All groups together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// As the runners have it: a test that said SKIPPED is among them.
    pub(super) passed: u64,
    /// Tests that failed, and runners that ended without a word.
    pub(super) failed: u64,
    /// How often a test said SKIPPED, and what a runner ignored.
    pub(super) skipped: u64,
}

impl Outcome {
    /// Counts something that is one test.
    pub(super) fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    fn skipped(&self) -> u64 {
        self.ignored + self.reasons.len() as u64
    }
}

impl Outcomes {
    /// The group of this name.
    pub(super) fn group(&mut self, name: &str) -> &mut Outcome {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// A runner of this group starts; its lines follow.
    pub(super) fn start(&mut self, group: &str) {
        self.close();
        self.current = Some(group.to_owned());
        self.group(group).is_open = true;
    }

    /// Reads one line of the current runner.
    pub(super) fn read(&mut self, line: &str) {
        let Some(name) = self.current.clone() else {
            return;
        };
        let outcome = self.group(&name);
        if let Some(counts) = line.trim_start().strip_prefix("test result: ") {
            let (passed, failed, ignored) = counted(counts);
            outcome.passed += passed;
            outcome.failed += failed;
            outcome.ignored += ignored;
            outcome.is_open = false;
        } else if let Some(reason) = line.trim_start().strip_prefix("SKIPPED ") {
            outcome.reasons.push(reason.to_owned());
        }
    }

    /// No more lines come. A runner that never told its result has crashed: that is a failure.
    pub(super) fn close(&mut self) {
        if let Some(name) = self.current.take() {
            let outcome = self.group(&name);
            if std::mem::take(&mut outcome.is_open) {
                outcome.failed += 1;
            }
            // A test that says SKIPPED passes for its runner. One test may say it for several parts of itself.
            outcome.reasons.dedup();
        }
    }

    /// All groups together.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for outcome in self.groups.values() {
            totals.passed += outcome.passed;
            totals.failed += outcome.failed;
            totals.skipped += outcome.skipped();
        }
        totals
    }

    /// Whether anything ran at all: nothing passed and nothing failed is no success.
    pub(super) fn is_complete(&self) -> bool {
        self.groups.values().any(|outcome| outcome.passed > 0)
    }

    /// A line per group that holds tests, then why things were skipped.
    pub(super) fn table(&self) -> String {
        let width = self
            .groups
            .keys()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .max(5);
        let mut table = format!("{:<width$}  passed  failed  skipped\n", "group");
        for (name, outcome) in &self.groups {
            let skipped = outcome.skipped();
            let (passed, failed) = (outcome.passed, outcome.failed);
            if passed + failed + skipped == 0 {
                continue;
            }
            let _ = writeln!(
                table,
                "{name:<width$}  {passed:>6}  {failed:>6}  {skipped:>7}"
            );
        }
        for (name, outcome) in &self.groups {
            for reason in &outcome.reasons {
                let _ = writeln!(table, "skipped: {name}: {reason}");
            }
        }
        table
    }
}

/// Reads `ok. 3 passed; 1 failed; 0 ignored; …`.
fn counted(counts: &str) -> (u64, u64, u64) {
    let number = |what: &str| {
        counts
            .split([';', '.'])
            .filter_map(|part| part.trim().strip_suffix(what))
            .find_map(|part| part.trim().parse().ok())
            .unwrap_or(0)
    };
    (number("passed"), number("failed"), number("ignored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        outcomes.start("engine");
        for line in lines {
            outcomes.read(line);
        }
        outcomes.close();
        outcomes
    }

    #[test]
    fn results_are_summed_over_runners() {
        let mut outcomes = after(&[
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ]);
        outcomes.start("engine");
        outcomes.read("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.00s");
        outcomes.close();
        let totals = outcomes.totals();
        assert_eq!((totals.passed, totals.failed, totals.skipped), (7, 2, 1));
    }

    #[test]
    fn a_runner_without_a_result_has_failed() {
        assert_eq!(after(&["running 3 tests"]).totals().failed, 1);
    }

    #[test]
    fn a_test_that_says_it_was_skipped_is_told_with_its_reason() {
        let outcomes = after(&[
            "SKIPPED the mount test: it needs root",
            "SKIPPED the mount test: it needs root",
            "test result: ok. 1 passed; 0 failed; 0 ignored",
        ]);
        assert_eq!(outcomes.totals().skipped, 1);
        assert!(
            outcomes
                .table()
                .contains("skipped: engine: the mount test: it needs root")
        );
    }

    #[test]
    fn nothing_at_all_is_no_success() {
        assert!(!Outcomes::default().is_complete());
        assert!(!after(&["test result: ok. 0 passed; 0 failed; 0 ignored"]).is_complete());
    }
}
