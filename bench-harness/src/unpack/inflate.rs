//! What inflating alone costs, in order and ahead: processor time, which tells how it would scale on cores there are not.

use std::fs;
use std::time::{Duration, Instant};

use parapull_snapshotter::inflate::{Checkpoint, probe};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{TestLayer, UnpackBenchError};

/// One way to inflate a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InflateCost {
    /// The layer.
    pub layer: String,
    /// How: `in order`, `noting` checkpoints, `guessing` or `indexed`.
    pub way: String,
    /// Threads that inflate ahead; 0 in order.
    pub guessers: usize,
    /// Processor seconds for 10^9 uncompressed bytes, of all threads.
    pub cpu_seconds_per_gb: f64,
    /// The same of the thread that puts pieces in order, which cannot be shared out.
    pub serial_seconds_per_gb: f64,
    /// Uncompressed bytes a second on this machine's cores.
    pub bytes_per_second: f64,
    /// Speed of one core, to that of inflating in order.
    pub per_core: f64,
}

impl InflateCost {
    /// What so many threads would do on as many free cores, if they did not hold each other up: bytes a second.
    pub fn reach_bytes_per_second(&self) -> f64 {
        let beside = (self.cpu_seconds_per_gb - self.serial_seconds_per_gb).max(1e-9);
        let shared = self.guessers.max(1) as f64 / beside;
        1e9 * shared.min(1.0 / self.serial_seconds_per_gb.max(1e-9))
    }
}

/// Inflates `layer` in memory in every way, best of `reps` in turn.
///
/// # Errors
/// [`UnpackBenchError`] when the layer cannot be read or is inflated to another size.
pub fn inflating(layer: &TestLayer, reps: usize) -> Result<Vec<InflateCost>, UnpackBenchError> {
    let stream = fs::read(&layer.blob).map_err(UnpackBenchError::file("read", &layer.blob))?;
    let wrong = |why: String| UnpackBenchError::Wrong {
        who: format!("inflating {}", layer.name),
        why,
    };
    let checkpoints = probe::in_order(&stream, Some(SPAN_BYTES), |_| {}).map_err(wrong)?;
    let mut best: Vec<Option<Cost>> = vec![None; WAYS.len()];
    for _ in 0..reps {
        for ((way, guessers), best) in WAYS.iter().zip(&mut best) {
            let cost = Cost::of(&stream, way, *guessers, &checkpoints).map_err(wrong)?;
            if cost.bytes != layer.uncompressed_bytes {
                return Err(wrong(format!("{way} gives {} bytes", cost.bytes)));
            }
            *best = Some(best.map_or(cost, |before| before.better(cost)));
        }
    }
    let gigabytes = layer.uncompressed_bytes as f64 / 1e9;
    let in_order = best[0].map_or(0.0, |cost| cost.all.as_secs_f64());
    let lines = WAYS.iter().zip(best).filter_map(|((way, guessers), cost)| {
        let cost = cost?;
        Some(InflateCost {
            layer: layer.name.clone(),
            way: (*way).into(),
            guessers: *guessers,
            cpu_seconds_per_gb: cost.all.as_secs_f64() / gigabytes,
            serial_seconds_per_gb: cost.serial.as_secs_f64() / gigabytes,
            bytes_per_second: layer.uncompressed_bytes as f64 / cost.wall.as_secs_f64(),
            per_core: in_order / cost.all.as_secs_f64(),
        })
    });
    Ok(lines.collect())
}

#[derive(Clone, Copy)]
struct Cost {
    all: Duration,
    serial: Duration,
    wall: Duration,
    bytes: u64,
}

impl Cost {
    fn of(
        stream: &[u8],
        way: &str,
        guessers: usize,
        checkpoints: &[Checkpoint],
    ) -> Result<Self, String> {
        let mut bytes = 0;
        let take = |piece: &[u8]| bytes += piece.len() as u64;
        let (all, serial, start) = (
            spent(ClockId::ProcessCPUTime),
            spent(ClockId::ThreadCPUTime),
            Instant::now(),
        );
        match way {
            IN_ORDER => drop(probe::in_order(stream, None, take)?),
            NOTING => drop(probe::in_order(stream, Some(SPAN_BYTES), take)?),
            GUESSING => probe::ahead(stream, guessers, STRETCH_BYTES, &[], take)?,
            _ => probe::ahead(stream, guessers, STRETCH_BYTES, checkpoints, take)?,
        }
        Ok(Self {
            all: spent(ClockId::ProcessCPUTime) - all,
            serial: spent(ClockId::ThreadCPUTime) - serial,
            wall: start.elapsed(),
            bytes,
        })
    }

    fn better(self, other: Self) -> Self {
        Self {
            all: self.all.min(other.all),
            serial: self.serial.min(other.serial),
            wall: self.wall.min(other.wall),
            bytes: self.bytes,
        }
    }
}

fn spent(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

const IN_ORDER: &str = "in order";
const NOTING: &str = "noting";
const GUESSING: &str = "guessing";
const INDEXED: &str = "indexed";

/// In order comes first: the others are compared with it.
const WAYS: [(&str, usize); 8] = [
    (IN_ORDER, 0),
    (NOTING, 0),
    (GUESSING, 1),
    (GUESSING, 2),
    (GUESSING, 4),
    (GUESSING, 8),
    (INDEXED, 2),
    (INDEXED, 4),
];
/// What SOCI's indexes have.
const SPAN_BYTES: u64 = 4 << 20;
/// As a lane's.
const STRETCH_BYTES: usize = 2 << 20;
