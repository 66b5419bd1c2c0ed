//! `replay FILE.jsonl`: a trace of a real pull, held against the engine.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use parapull_scenario::ReplayError;
use parapull_sim::FailureKind;

/// Tells a fresh engine what was recorded, and says whether it answers the same.
pub(super) fn replay(path: &Path) -> anyhow::Result<ExitCode> {
    let file = File::open(path).with_context(|| format!("failed to read {}", path.display()))?;
    match parapull_scenario::replay(BufReader::new(file)) {
        Ok(replayed) => {
            println!(
                "every decision was made again: {} pulls, at most {} at once, {} inputs, {} outputs{}",
                replayed.pulls,
                replayed.pulls_at_once,
                replayed.inputs,
                replayed.outputs,
                if replayed.is_idle {
                    ""
                } else {
                    "; the trace ends in mid-pull"
                }
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ ReplayError::Differs { .. }) => {
            println!("the scheduler decides otherwise: {error}");
            Ok(ExitCode::from(FailureKind::Correctness.exit_code()))
        }
        Err(error) => Err(error).with_context(|| format!("{} does not replay", path.display())),
    }
}
