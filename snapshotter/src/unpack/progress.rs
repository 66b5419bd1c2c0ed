//! What a lane and its owner tell each other while it runs: counters one way, a thread permit the other.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many threads a lane may use; the owner may change it at any time, the lane looks before each buffer.
///
/// 1: everything in the calling thread. 2: decompression in a thread of its own. 3: the hash of the uncompressed
/// bytes too, or, while the layer is one of small files, a writer of files. More inflate, where the stream allows it.
/// 0 is the same as 1. Should the system refuse a thread, the lane sets the permit to 1 itself and goes on.
#[derive(Debug)]
pub struct ThreadPermit {
    granted: AtomicU32,
    /// Of these, what writes files beside the calling thread.
    writers: AtomicU32,
}

impl ThreadPermit {
    /// A permit for `threads`.
    pub const fn new(threads: u32) -> Self {
        Self {
            granted: AtomicU32::new(threads),
            writers: AtomicU32::new(0),
        }
    }

    /// Changes the permit.
    pub fn grant(&self, threads: u32) {
        self.granted.store(threads, Ordering::Relaxed);
    }

    /// Threads that the lane can use for the stream and its calling thread under this permit: 1 to 16, without the
    /// writers of files.
    pub fn threads(&self) -> u32 {
        let writers = self.writers.load(Ordering::Relaxed);
        self.granted().saturating_sub(writers).max(1)
    }

    /// All threads that the lane can make use of: 1 to 16.
    pub(super) fn granted(&self) -> u32 {
        self.granted.load(Ordering::Relaxed).clamp(1, THREADS_MAX)
    }

    /// Takes so many of the threads for writing files.
    pub(super) fn take_writers(&self, writers: u32) {
        self.writers.store(writers, Ordering::Relaxed);
    }
}

/// What a lane is held by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Compressed bytes have not arrived; every byte given was read.
    Input,
    /// Decompressing or hashing.
    Cpu,
    /// Making files.
    Disk,
}

/// What a lane has done so far. Counts are cumulative.
#[derive(Debug)]
pub struct Progress {
    created: Instant,
    /// Nanoseconds after `created` at which what holds the lane changed last.
    since: AtomicU64,
    /// Nanoseconds it was held by each, until then.
    held: [AtomicU64; 3],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    entries: AtomicU64,
    threads: AtomicU32,
    writers: AtomicU32,
    waiting: AtomicU8,
}

/// How long a lane was held by what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// By bytes that had not arrived.
    pub input: Duration,
    /// By decompressing and hashing.
    pub cpu: Duration,
    /// By making files.
    pub disk: Duration,
}

impl Held {
    /// What held it for at least half of the time since `before`: its own work, if nothing else did.
    pub fn longest_since(&self, before: &Self) -> Waiting {
        let [input, cpu, disk] = [
            self.input.saturating_sub(before.input),
            self.cpu.saturating_sub(before.cpu),
            self.disk.saturating_sub(before.disk),
        ];
        if input >= cpu + disk && !input.is_zero() {
            Waiting::Input
        } else if disk >= cpu + input && !disk.is_zero() {
            Waiting::Disk
        } else {
            Waiting::Cpu
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing done yet.
    pub fn new() -> Self {
        Self {
            created: Instant::now(),
            since: AtomicU64::new(0),
            held: Default::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            threads: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            waiting: AtomicU8::new(INPUT),
        }
    }

    /// How long it was held by what since it was created, until this moment.
    pub fn held(&self) -> Held {
        let nanos = |code: u8| {
            let until_change = self.held[usize::from(code)].load(Ordering::Relaxed);
            let is_now = self.waiting.load(Ordering::Relaxed) == code;
            let since = self.since.load(Ordering::Relaxed);
            let more = if is_now {
                self.nanos().saturating_sub(since)
            } else {
                0
            };
            Duration::from_nanos(until_change + more)
        };
        Held {
            input: nanos(INPUT),
            cpu: nanos(CPU),
            disk: nanos(DISK),
        }
    }

    /// Compressed bytes read from the source, which may be released.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Uncompressed bytes produced.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Tar entries applied.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Threads in use, the calling one included; 0 before the first buffer.
    pub fn threads(&self) -> u32 {
        self.threads.load(Ordering::Relaxed) + self.writers.load(Ordering::Relaxed)
    }

    /// What the lane is held by.
    pub fn waiting(&self) -> Waiting {
        match self.waiting.load(Ordering::Relaxed) {
            CPU => Waiting::Cpu,
            DISK => Waiting::Disk,
            _ => Waiting::Input,
        }
    }

    pub(super) fn add_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn use_threads(&self, threads: u32) {
        self.threads.store(threads, Ordering::Relaxed);
    }

    pub(super) fn use_writers(&self, writers: u32) {
        self.writers.store(writers, Ordering::Relaxed);
    }

    pub(super) fn wait_for(&self, waiting: Waiting) {
        let code = match waiting {
            Waiting::Input => INPUT,
            Waiting::Cpu => CPU,
            Waiting::Disk => DISK,
        };
        let now = self.nanos();
        let before = self.waiting.swap(code, Ordering::Relaxed);
        let since = self.since.swap(now, Ordering::Relaxed);
        self.held[usize::from(before)].fetch_add(now.saturating_sub(since), Ordering::Relaxed);
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Beyond it the hash of the uncompressed bytes is the wall, at 1.75 GB/s, long before inflating is.
const THREADS_MAX: u32 = 16;
const INPUT: u8 = 0;
const CPU: u8 = 1;
const DISK: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_held_it_for_half_of_the_time_is_told() {
        let held = |input, cpu, disk| Held {
            input: Duration::from_millis(input),
            cpu: Duration::from_millis(cpu),
            disk: Duration::from_millis(disk),
        };
        for (before, after, told) in [
            ((0, 0, 0), (0, 0, 0), Waiting::Cpu),
            ((0, 0, 0), (5, 5, 0), Waiting::Input),
            ((0, 0, 0), (4, 4, 4), Waiting::Cpu),
            ((90, 0, 0), (94, 5, 0), Waiting::Cpu),
            ((0, 90, 0), (1, 92, 4), Waiting::Disk),
        ] {
            let of = |(input, cpu, disk)| held(input, cpu, disk);
            assert_eq!(of(after).longest_since(&of(before)), told, "{after:?}");
        }
    }

    #[test]
    fn all_time_is_held_by_something() {
        let progress = Progress::new();
        progress.wait_for(Waiting::Cpu);
        progress.wait_for(Waiting::Disk);
        progress.wait_for(Waiting::Cpu);
        let before = progress.created.elapsed();
        let held = progress.held();
        assert!(held.input + held.cpu + held.disk >= before, "{held:?}");
        assert!(!held.input.is_zero() && !held.cpu.is_zero());
    }
}
