//! What this machine can do at best with one image, each part alone: fetch, hash, inflate, write, create files.
//!
//! Measured beside the pulls it bounds; from it comes the time no puller can beat. Nothing is pulled here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use parapull_scenario::Encoding;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::layout::{Layout, LayoutLayer};
use crate::processes::{find_program, http_get};
use crate::report::{ImageSize, seconds_text};

/// Why a limit could not be measured; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
#[error("measure {what} at {path}: {source}", path = path.display())]
pub struct LimitsError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The rates of the parts of a pull, each measured alone, best of three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Usable hardware threads.
    pub cores: usize,
    /// Connections used for fetching.
    pub fetch_connections: usize,
    /// Compressed bytes/s of all blobs over those connections; `None` when the registry asks for credentials.
    pub fetch_bytes_per_second: Option<f64>,
    /// SHA-256 bytes/s on one thread.
    pub sha256_bytes_per_second: f64,
    /// Uncompressed bytes/s when inflating this image's own layers on one thread.
    pub inflate_bytes_per_second: f64,
    /// Uncompressed bytes/s of the programs containerd inflates with, through a pipe, by their names; those installed.
    #[serde(default)]
    pub program_inflate_bytes_per_second: BTreeMap<String, f64>,
    /// Bytes/s into one big file on the target file system.
    pub write_bytes_per_second: f64,
    /// Small files created, written and closed per second on the target file system, one thread.
    pub files_per_second: f64,
    /// The time no pull of this image can beat (see [`Limits::bound`]), in seconds.
    pub lower_bound_seconds: Option<f64>,
    /// Which part gives that time.
    pub binding: Option<String>,
}

impl Limits {
    /// Measures all parts for `layout`, writing below `work`; `blob_urls` are the addresses of its layers' blobs.
    ///
    /// # Errors
    /// When the layers cannot be read or `work` cannot be written.
    pub fn measure(
        layout: &Layout,
        image: &ImageSize,
        blob_urls: &[String],
        work: &Path,
    ) -> Result<Self, LimitsError> {
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| LimitsError { what, path, source }
        };
        let fetch = best(|| fetch_rate(layout, blob_urls));
        let limits = Self {
            cores,
            fetch_connections: FETCH_CONNECTIONS,
            fetch_bytes_per_second: fetch
                .map_err(|error| tracing::warn!(%error, "fetch rate unknown"))
                .ok(),
            sha256_bytes_per_second: best(sha256_rate).map_err(failed("hashing", work))?,
            inflate_bytes_per_second: best(|| inflate_rate(&layout.layers))
                .map_err(failed("inflating", work))?,
            program_inflate_bytes_per_second: program_rates(&layout.layers),
            write_bytes_per_second: best(|| write_rate(work)).map_err(failed("writing", work))?,
            files_per_second: best(|| file_rate(work)).map_err(failed("file creation", work))?,
            lower_bound_seconds: None,
            binding: None,
        };
        Ok(limits.bound(image))
    }

    /// Fills in the lower bound for `image`: the largest of
    /// - fetch: compressed bytes over the fetch rate,
    /// - inflate and hash: uncompressed bytes inflated and both streams hashed, over all cores,
    /// - write: uncompressed bytes over the write rate (one writer),
    /// - files: entries over the creation rate of all cores.
    #[must_use]
    pub fn bound(mut self, image: &ImageSize) -> Self {
        let cores = self.cores.max(1) as f64;
        let compressed = image.compressed_bytes as f64;
        let uncompressed = image.uncompressed_bytes as f64;
        let hash = (compressed + uncompressed) / self.sha256_bytes_per_second;
        let parts = [
            (
                "fetch",
                self.fetch_bytes_per_second
                    .map_or(0.0, |rate| compressed / rate),
            ),
            (
                "inflate and hash",
                (uncompressed / self.inflate_bytes_per_second + hash) / cores,
            ),
            ("write", uncompressed / self.write_bytes_per_second),
            ("files", image.files as f64 / self.files_per_second / cores),
        ];
        let largest = parts
            .into_iter()
            .filter(|(_, seconds)| seconds.is_finite())
            .max_by(|a, b| a.1.total_cmp(&b.1));
        self.lower_bound_seconds = largest.map(|(_, seconds)| seconds);
        self.binding = largest.map(|(name, _)| name.to_owned());
        self
    }

    /// The limits as a Markdown list.
    pub fn markdown(&self) -> String {
        let rate = |value: f64| format!("{:.0} MB/s", value / 1e6);
        let mut text = String::new();
        let fetch = self
            .fetch_bytes_per_second
            .map_or_else(|| "not measured".into(), rate);
        let _ = writeln!(
            text,
            "- fetch, {} connections: {fetch}",
            self.fetch_connections
        );
        let _ = writeln!(
            text,
            "- SHA-256, one thread: {}",
            rate(self.sha256_bytes_per_second)
        );
        let _ = writeln!(
            text,
            "- inflate of these layers, one thread: {} out",
            rate(self.inflate_bytes_per_second)
        );
        for (name, bytes_per_second) in &self.program_inflate_bytes_per_second {
            let _ = writeln!(
                text,
                "- the same by `{name}`: {} out",
                rate(*bytes_per_second)
            );
        }
        let _ = writeln!(
            text,
            "- write, one file: {}",
            rate(self.write_bytes_per_second)
        );
        let _ = writeln!(
            text,
            "- small files, one thread: {:.0} per second",
            self.files_per_second
        );
        if let (Some(seconds), Some(binding)) = (self.lower_bound_seconds, &self.binding) {
            let _ = writeln!(
                text,
                "- **no pull can beat {} s** on {} threads ({binding})",
                seconds_text(seconds),
                self.cores
            );
        }
        text
    }
}

/// The best of three: what the hardware can do, not what it happened to do.
fn best(mut rate: impl FnMut() -> io::Result<f64>) -> io::Result<f64> {
    let mut best = 0.0_f64;
    for _ in 0..REPEATS {
        best = best.max(rate()?);
    }
    Ok(best)
}

fn per_second(amount: u64, start: Instant) -> f64 {
    amount as f64 / start.elapsed().as_secs_f64().max(1e-9)
}

/// Gets all blobs in ranges, from one queue over all connections.
fn fetch_rate(layout: &Layout, blob_urls: &[String]) -> io::Result<f64> {
    let mut ranges = Vec::new();
    for (layer, url) in layout.layers.iter().zip(blob_urls) {
        let mut first = 0;
        while first < layer.compressed_bytes {
            let end = (first + RANGE_BYTES).min(layer.compressed_bytes);
            ranges.push((url.as_str(), (first, end - 1)));
            first = end;
        }
    }
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let fetched = thread::scope(|scope| {
        let threads: Vec<_> = (0..FETCH_CONNECTIONS)
            .map(|_| scope.spawn(|| fetch_from(&ranges, &next)))
            .collect();
        let fetched = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a fetching thread failed")))
        });
        fetched.sum::<io::Result<u64>>()
    })?;
    Ok(per_second(fetched, start))
}

/// One connection's share of the queue, in bytes.
fn fetch_from(ranges: &[(&str, (u64, u64))], next: &AtomicUsize) -> io::Result<u64> {
    let mut fetched = 0;
    while let Some((url, range)) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
        let response = http_get(url, Some(*range), |piece| {
            black_box(piece.len());
        });
        let response = response.map_err(io::Error::other)?;
        if !(200..300).contains(&response.status) {
            return Err(io::Error::other(format!("status {}", response.status)));
        }
        fetched += response.bytes;
    }
    Ok(fetched)
}

fn sha256_rate() -> io::Result<f64> {
    let data = vec![0x5a; BUFFER_BYTES];
    let start = Instant::now();
    let mut hasher = Sha256::new();
    for _ in 0..HASH_BUFFERS {
        hasher.update(black_box(&data));
    }
    black_box(hasher.finalize());
    Ok(per_second((BUFFER_BYTES * HASH_BUFFERS) as u64, start))
}

fn inflate_rate(layers: &[LayoutLayer]) -> io::Result<f64> {
    let start = Instant::now();
    let mut inflated = 0;
    for layer in layers {
        inflated += io::copy(&mut layer.open()?, &mut io::sink())?;
    }
    Ok(per_second(inflated, start))
}

/// The rates of containerd's decompression programs on the gzip layers; a program that fails here has none.
fn program_rates(layers: &[LayoutLayer]) -> BTreeMap<String, f64> {
    let mut rates = BTreeMap::new();
    for name in ["unpigz", "igzip"] {
        let Ok(program) = find_program(name, "") else {
            continue;
        };
        match best(|| program_rate(&program, layers)) {
            Ok(rate) if rate > 0.0 => drop(rates.insert(name.to_owned(), rate)),
            Ok(_) => {}
            Err(error) => tracing::warn!(name, %error, "its rate is unknown"),
        }
    }
    rates
}

fn program_rate(program: &Path, layers: &[LayoutLayer]) -> io::Result<f64> {
    let start = Instant::now();
    let mut inflated = 0;
    for layer in layers {
        if layer.encoding()? != Encoding::Gzip {
            continue;
        }
        let mut child = Command::new(program)
            .args(["-d", "-c"])
            .stdin(File::open(&layer.blob)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut output) = child.stdout.take() {
            inflated += io::copy(&mut output, &mut io::sink())?;
        }
        if !child.wait()?.success() {
            return Err(io::Error::other(format!("it fails on {}", layer.digest)));
        }
    }
    Ok(per_second(inflated, start))
}

fn write_rate(work: &Path) -> io::Result<f64> {
    let path = work.join("limits-write");
    let data = vec![0x5a; BUFFER_BYTES];
    let start = Instant::now();
    let mut file = File::create(&path)?;
    for _ in 0..WRITE_BUFFERS {
        file.write_all(&data)?;
    }
    drop(file);
    let rate = per_second((BUFFER_BYTES * WRITE_BUFFERS) as u64, start);
    fs::remove_file(&path)?;
    Ok(rate)
}

fn file_rate(work: &Path) -> io::Result<f64> {
    let folder = work.join("limits-files");
    fs::create_dir_all(&folder)?;
    let start = Instant::now();
    for number in 0..FILES {
        File::create(folder.join(number.to_string()))?.write_all(&[0x5a; SMALL_FILE_BYTES])?;
    }
    let rate = per_second(FILES, start);
    fs::remove_dir_all(&folder)?;
    Ok(rate)
}

const REPEATS: usize = 3;
/// More than the ranges a puller keeps open to one registry gain nothing on loopback.
const FETCH_CONNECTIONS: usize = 8;
/// Large enough that a request costs nothing, small enough to share one big layer out.
const RANGE_BYTES: u64 = 8 << 20;
const BUFFER_BYTES: usize = 1 << 20;
const HASH_BUFFERS: usize = 128;
const WRITE_BUFFERS: usize = 256;
const FILES: u64 = 2000;
/// The median file of a Linux system tree is of this order.
const SMALL_FILE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_slowest_part() {
        let limits = Limits {
            cores: 2,
            fetch_bytes_per_second: Some(100.0),
            sha256_bytes_per_second: 1e12,
            inflate_bytes_per_second: 400.0,
            write_bytes_per_second: 1000.0,
            files_per_second: 1000.0,
            ..Limits::default()
        };
        let image = |compressed_bytes, uncompressed_bytes, files| ImageSize {
            compressed_bytes,
            uncompressed_bytes,
            files,
            ..ImageSize::default()
        };
        for (image, binding, seconds) in [
            (image(1000, 2000, 10), "fetch", 10.0),
            (image(100, 8000, 10), "inflate and hash", 10.0),
            (image(100, 200, 20_000), "files", 10.0),
        ] {
            let bound = limits.clone().bound(&image);
            assert_eq!(bound.binding.as_deref(), Some(binding));
            assert!(
                (bound.lower_bound_seconds.unwrap() - seconds).abs() < 1e-3,
                "{bound:?}"
            );
        }
        let unknown = Limits::default().bound(&image(1, 1, 1));
        assert_eq!(unknown.fetch_bytes_per_second, None);
    }
}
