//! The oracle: whether a run kept its promises. Which ends a scenario allows stands in [`crate::allowed`].

use parapull_engine::Outcome;
use parapull_scenario::Scenario;

use crate::allowed::Allowed;
use crate::bound;
use crate::plan::Plan;
use crate::record::{PullRecord, Record};
use crate::report::Run;
use crate::world::Violation;

/// Checks a run that came to its end.
///
/// # Errors
/// Names the first promise that was broken.
pub fn check(run: &Run) -> Result<(), Violation> {
    let (scenario, plan) = (&run.scenario, &run.finished.plan);
    let record = &run.finished.record;
    let mut all_ready = true;
    for (pull, seen) in record.pulls.iter().enumerate() {
        let allowed = Allowed::of(scenario, plan, pull);
        let Some((_, outcome, _)) = seen.finished else {
            return Err(Violation::Liveness(format!("pull {pull} never ended")));
        };
        all_ready &= outcome == Outcome::Ready;
        if !allowed.includes(outcome) {
            return Err(Violation::Correctness(format!(
                "pull {pull} ended as {outcome:?}, but the scenario allows {allowed:?}"
            )));
        }
        check_layers(pull, scenario.pulls[pull].linked, seen, outcome)?;
    }
    if record.crashes == 0 {
        check_counted(record)?;
        check_hedged(plan, record)?;
        check_bytes(record, all_ready)?;
    }
    if record.threads_peak > record.allowed.threads {
        return Err(Violation::Correctness(format!(
            "{} threads, but only {} are allowed",
            record.threads_peak, record.allowed.threads
        )));
    }
    check_time(scenario, plan, record)
}

/// Every layer was answered for, in order, and as the pull ended.
fn check_layers(
    pull: usize,
    linked: u32,
    seen: &PullRecord,
    outcome: Outcome,
) -> Result<(), Violation> {
    let mut before = 0;
    for (index, ready) in seen.ready.iter().enumerate().skip(linked as usize) {
        let failed = seen.failed[index].is_some();
        let fine = match (ready, outcome) {
            (Some(at), _) => {
                let in_order = *at >= before;
                before = *at;
                in_order && !failed
            }
            (None, Outcome::Ready) => false,
            (None, Outcome::Failed { .. } | Outcome::Cancelled) => {
                before = u64::MAX;
                failed
            }
        };
        if !fine {
            return Err(Violation::Correctness(format!(
                "layer {index} of pull {pull}, which ended as {outcome:?}, is ready at {ready:?} and failed: {failed}"
            )));
        }
    }
    Ok(())
}

/// Every byte that was kept was counted, for some pull.
fn check_counted(record: &Record) -> Result<(), Violation> {
    let stats = record.pulls.iter().filter_map(|pull| pull.finished);
    let counted: u64 = stats
        .map(|(_, _, stats)| stats.bytes_fetched + stats.bytes_local)
        .sum();
    let kept = record.kept_bytes;
    if counted != kept {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {kept} bytes were kept, {counted} were counted"
        )));
    }
    Ok(())
}

/// Every byte that came twice was counted, and there are no more of them than allowed.
fn check_hedged(plan: &Plan, record: &Record) -> Result<(), Violation> {
    let rules = plan.config.hedging;
    let stats = record.pulls.iter().filter_map(|pull| pull.finished);
    let (bytes, hedges) = stats.fold((0, 0), |(bytes, hedges), (_, _, stats)| {
        (bytes + stats.bytes_hedged, hedges + stats.hedges)
    });
    let seen = (record.hedged_bytes, record.hedges);
    if (bytes, hedges) != seen {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {seen:?} bytes came twice by hedges, {:?} were counted",
            (bytes, hedges)
        )));
    }
    let allowed = rules.burst_bytes + record.kept_bytes * u64::from(rules.bytes_permille) / 1_000;
    if bytes > allowed {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {bytes} bytes came twice, {allowed} are allowed"
        )));
    }
    Ok(())
}

/// Each byte that was kept was unpacked or counted as fetched again; where some pull is not ready, it may also have been
/// dropped with it.
fn check_bytes(record: &Record, all_ready: bool) -> Result<(), Violation> {
    let stats = record.pulls.iter().filter_map(|pull| pull.finished);
    let retried: u64 = stats.map(|(_, _, stats)| stats.bytes_retried).sum();
    let (kept, unpacked) = (record.kept_bytes, record.unpacked_bytes);
    let accounted = unpacked + retried;
    if kept < accounted || all_ready && kept != accounted {
        return Err(Violation::Correctness(format!(
            "invariant 14 (bytes): {kept} bytes were kept, {unpacked} unpacked, {retried} counted as fetched again"
        )));
    }
    Ok(())
}

/// No end comes later than everything done one after the other, with every fault at its worst, would take.
fn check_time(scenario: &Scenario, plan: &Plan, record: &Record) -> Result<(), Violation> {
    let deadline = bound::deadline_nanos(scenario, plan);
    for (pull, seen) in record.pulls.iter().enumerate() {
        if let Some((at, ..)) = seen.finished
            && at > deadline
        {
            return Err(Violation::Liveness(format!(
                "pull {pull} ended at {at} ns, later than everything one by one ({deadline} ns)"
            )));
        }
    }
    Ok(())
}
