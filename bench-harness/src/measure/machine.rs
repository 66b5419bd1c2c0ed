//! What the numbers were measured on.

use std::fs;
use std::path::Path;
use std::thread;

use serde::{Deserialize, Serialize};

use super::FileSystem;

/// The machine and the file system a result belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Usable hardware threads.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The file system the trees were written to, such as `tmpfs`.
    pub filesystem: String,
    /// The one-minute load average before the first run: above 1 the machine was not idle.
    pub load: f64,
}

impl Machine {
    /// Describes this machine with `work` as the target of writes.
    pub fn here(work: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or_default();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            cores: thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: memory_kib * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: FileSystem::of(work).map_or_else(|_| "unknown".into(), |found| found.name),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|value| value.parse().ok())
                .unwrap_or_default(),
        }
    }
}
