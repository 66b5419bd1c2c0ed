//! What a running process has used, from `/proc`.

use std::{fs, io};

/// Memory, processor time and writes of one process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessUsage {
    /// Largest resident set since [`ProcessUsage::reset_peak`] or the start, in bytes (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// Processor time of it and of its reaped children, in seconds.
    pub cpu_seconds: f64,
    /// Bytes it dirtied on file systems with a backing device, less those deleted before being written (`write_bytes −
    /// cancelled_write_bytes`); 0 on a tmpfs, which has none.
    pub written_bytes: u64,
}

impl ProcessUsage {
    /// Reads the usage of process `id`; `None` when it is gone or not ours to read.
    pub fn of(id: u32) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).ok();
        let status = read("status")?;
        let writes = read("io")?;
        let written = number(&writes, "write_bytes:")
            .saturating_sub(number(&writes, "cancelled_write_bytes:"));
        Some(Self {
            peak_rss_bytes: number(&status, "VmHWM:") * 1024,
            cpu_seconds: cpu_seconds(&read("stat")?),
            written_bytes: written,
        })
    }

    /// Starts a new peak for process `id` (proc(5), `clear_refs` 5).
    ///
    /// # Errors
    /// When the process is gone or not ours.
    pub fn reset_peak(id: u32) -> io::Result<()> {
        fs::write(format!("/proc/{id}/clear_refs"), "5")
    }
}

fn number(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

/// Fields 14 to 17 of proc_pid_stat(5), counted behind the name, which may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> f64 {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// `USER_HZ`: what Linux shows to programs, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_process() {
        let usage = ProcessUsage::of(std::process::id()).unwrap();
        assert!(usage.peak_rss_bytes > 1 << 20);
        assert_eq!(ProcessUsage::of(u32::MAX), None);
    }

    #[test]
    fn counts_the_time_of_reaped_children_behind_odd_names() {
        let stat = "7 (a) (b) S 1 7 7 0 -1 4194560 0 0 0 0 10 20 30 40 20 0 1";
        assert!((cpu_seconds(stat) - 1.0).abs() < 1e-9);
    }
}
