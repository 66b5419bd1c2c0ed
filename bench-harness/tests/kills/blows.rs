//! What is killed, and when.

use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::machine::{Ending, Machine};
use crate::support::node::wait_until;

/// One kill.
#[derive(Debug, Clone)]
pub(crate) struct Blow {
    /// Layers and an image are there before the pull.
    pub(crate) is_reused: bool,
    when: When,
}

#[derive(Debug, Clone)]
enum When {
    /// The snapshotter at its n-th point, which had this name when nothing disturbed it.
    AtPoint(u64, String),
    /// The snapshotter, so long after the pull began.
    After(Duration),
    /// containerd, so long after the pull began.
    Containerd(Duration),
}

impl Blow {
    /// Whether containerd is what it hits.
    pub(crate) fn hits_containerd(&self) -> bool {
        matches!(self.when, When::Containerd(_))
    }

    /// Pulls, kills, and starts what was killed; says where it was and how the pull ended.
    pub(crate) fn strike(&self, machine: &mut Machine, reference: &str) -> String {
        let (at, told) = match self.when {
            When::AtPoint(point, _) => at_point(machine, reference, point),
            When::After(delay) => after(machine, reference, delay),
            When::Containerd(delay) => containerd_after(machine, reference, delay),
        };
        let told = match told {
            Ok(()) => "went well",
            Err(_) => "failed",
        };
        format!("{at}; the pull {told}")
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.is_reused {
            " over shared layers"
        } else {
            ""
        };
        match &self.when {
            When::AtPoint(point, name) => write!(f, "point {point}{over} ({name})"),
            When::After(delay) => write!(f, "after {delay:?}{over}"),
            When::Containerd(delay) => write!(f, "containerd after {delay:?}{over}"),
        }
    }
}

fn at_point(machine: &mut Machine, reference: &str, point: u64) -> (String, Result<(), String>) {
    machine.boot(Some(point));
    let ending = machine.begin_pull(reference);
    let mut told = None;
    wait_until("the snapshotter's or the pull's end", || {
        told = told.take().or_else(|| ending.try_recv().ok());
        told.is_some() || !machine.is_alive()
    });
    // What it does when the pull is over may hold the point as well.
    machine.kill();
    let points = machine.points();
    machine.boot(None);
    let at = match points.len() as u64 {
        passed if passed == point => format!("died {}", points[points.len() - 1]),
        passed => format!("lived through {passed} points"),
    };
    (at, told.unwrap_or_else(|| ended(&ending)))
}

fn after(machine: &mut Machine, reference: &str, delay: Duration) -> (String, Result<(), String>) {
    machine.boot(Some(0));
    let ending = machine.begin_pull(reference);
    let early = wait(&ending, delay);
    machine.kill();
    let at = format!("died behind {}", last_point(machine));
    machine.boot(None);
    (at, early.unwrap_or_else(|| ended(&ending)))
}

fn containerd_after(
    machine: &mut Machine,
    reference: &str,
    delay: Duration,
) -> (String, Result<(), String>) {
    machine.boot(Some(0));
    let ending = machine.begin_pull(reference);
    let early = wait(&ending, delay);
    let at = format!("containerd died behind {}", last_point(machine));
    machine.crash_containerd();
    (at, early.unwrap_or_else(|| ended(&ending)))
}

fn last_point(machine: &Machine) -> String {
    machine.points().pop().unwrap_or_else(|| "nothing".into())
}

/// Waits for the end of the pull, but not longer than `delay`.
fn wait(ending: &Ending, delay: Duration) -> Option<Result<(), String>> {
    match ending.recv_timeout(delay) {
        Ok(told) => Some(told),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => panic!("the pull's thread has ended without a word"),
    }
}

/// The end of a pull whose daemon is back.
fn ended(ending: &Ending) -> Result<(), String> {
    wait(ending, Duration::from_secs(60)).unwrap_or_else(|| panic!("the caller was told nothing"))
}

/// All points and many instants, or some of each. The points are those of a pull of everything, and of one that finds the
/// lower layers there.
pub(crate) fn choose(
    points: [&[String]; 2],
    took: Duration,
    seed: Seed,
    is_all: bool,
) -> Vec<Blow> {
    let (at_points, at_random, of_containerd) = if is_all {
        (usize::MAX, 40, 12)
    } else {
        (5, 4, 2)
    };
    let mut random = seed;
    let mut blows = Vec::new();
    for (is_reused, points) in [(false, points[0]), (true, points[1])] {
        for at in spread(points.len(), at_points, &mut random) {
            let when = When::AtPoint(at as u64 + 1, points[at].clone());
            blows.push(Blow { is_reused, when });
        }
    }
    for index in 0..at_random + of_containerd {
        let delay = took.mul_f64(random.below(1200) as f64 / 1000.0);
        let when = if index < at_random {
            When::After(delay)
        } else {
            When::Containerd(delay)
        };
        let is_reused = index % 3 == 2;
        blows.push(Blow { is_reused, when });
    }
    blows
}

/// One of each `count` equal parts of `0..length`, or all.
fn spread(length: usize, count: usize, random: &mut Seed) -> Vec<usize> {
    if count >= length {
        return (0..length).collect();
    }
    let parts = (0..count).map(|part| part * length / count..(part + 1) * length / count);
    parts
        .map(|part| part.start + random.below(part.len() as u64) as usize)
        .collect()
}

/// Where random instants come from: printed, and given again in `PARAPULL_SEED`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn of_run() -> Self {
        let given = std::env::var("PARAPULL_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let of_clock = || {
            let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
            since.map_or(1, |since| u64::from(since.subsec_nanos()))
        };
        Self(given.unwrap_or_else(of_clock))
    }

    /// The next number, smaller than `bound`; 0 if that is 0.
    fn below(&mut self, bound: u64) -> u64 {
        // Steele, Lea and Flood, "Fast splittable pseudorandom number generators": SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PARAPULL_SEED={}", self.0)
    }
}
