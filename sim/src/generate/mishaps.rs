//! Mishaps from seeds: each kind in fewer than half of the runs, from a stream of draws of its own.

use parapull_scenario::registry::FaultTimes;
use parapull_scenario::{
    Absence, Clog, ConnectionFault, ConnectionFaultKind, Delivery, Mishaps, Pause, Paused, Sleep,
};

use crate::draw::Draws;

/// The mishaps of a seed, for so many pulls.
pub(super) fn mishaps(seed: u64, pulls: usize) -> Mishaps {
    let mut draws = Draws::new(seed ^ STREAM);
    let draws = &mut draws;
    Mishaps {
        connections: some(draws, 25, 2, connection),
        clogs: some(draws, 20, 4, clog),
        pauses: some(draws, 25, 3, pause),
        delivery: draws.chance(30).then(|| Delivery {
            late_permille: draws.within_u32(0, 500),
            late_us_max: draws.within_u32(0, 100_000),
            twice_permille: draws.within_u32(0, 500),
        }),
        absences: some(draws, 25, 2, |draws| Absence {
            pull: usize::try_from(draws.within(0, pulls as u64 - 1)).unwrap_or(0),
            at_ms: draws.within(0, 3_000),
            for_ms: draws.within(0, 3_000),
        }),
        doubled: (0..pulls).filter(|_| draws.chance(10)).collect(),
        crashes: some(draws, 20, 2, |draws| draws.within(1, 150)),
        sleeps: some(draws, 10, 2, |draws| Sleep {
            at_ms: draws.within(0, 3_000),
            for_ms: draws.within(1, 60_000),
        }),
        canary: None,
    }
}

/// In `percent` of the runs, one to `count_max` of a kind.
fn some<T>(
    draws: &mut Draws,
    percent: u64,
    count_max: u64,
    mut one: impl FnMut(&mut Draws) -> T,
) -> Vec<T> {
    if !draws.chance(percent) {
        return Vec::new();
    }
    let count = draws.within(1, count_max);
    (0..count).map(|_| one(draws)).collect()
}

fn connection(draws: &mut Draws) -> ConnectionFault {
    let times = match draws.within(0, 3) {
        0 => FaultTimes::Every(draws.within_u32(2, 8)),
        1 => FaultTimes::First(draws.within_u32(1, 4)),
        2 => FaultTimes::Nth(draws.within_u32(1, 10)),
        _ => FaultTimes::Burst {
            from: draws.within_u32(1, 10),
            count: draws.within_u32(1, 4),
        },
    };
    let kind = match draws.within(0, 2) {
        0 => ConnectionFaultKind::Refused,
        1 => ConnectionFaultKind::NameUnknown,
        _ => ConnectionFaultKind::SlowClose {
            ms: draws.within_u32(1, 2_000),
        },
    };
    ConnectionFault { times, kind }
}

/// Half of them end again before anyone can take a fetch for stalled.
fn clog(draws: &mut Draws) -> Clog {
    let for_ms_max = *draws.pick(&[2_000, 30_000]);
    Clog {
        at_ms: draws.within(0, 2_000),
        for_ms: draws.within(1, for_ms_max),
        permille: draws.within_u32(100, 1_000),
    }
}

fn pause(draws: &mut Draws) -> Pause {
    let of = match draws.within(0, 3) {
        0 | 1 => Paused::Lane {
            at_permille: draws.within_u32(0, 1_000),
        },
        2 => Paused::Link,
        _ => Paused::Drop,
    };
    let for_ms_max = *draws.pick(&[100, 5_000, 60_000]);
    Pause {
        of,
        times: draws.within_u32(1, 3),
        for_ms: draws.within_u32(1, for_ms_max),
    }
}

/// Keeps these draws apart from those of everything else.
const STREAM: u64 = 0x6d69_7368_6170_7300;
