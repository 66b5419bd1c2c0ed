//! Indexes that this node's lanes noted, one file a blob, the longest unused ones going first.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;

use super::ztoc::{Ztoc, ZtocError};

/// A directory of compressed zTOCs, named by the digests of their blobs.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
    bytes_max: u64,
}

/// Why an index could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file could not be read, written or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no index.
    #[error("{}: {source}", path.display())]
    Index {
        /// Which.
        path: PathBuf,
        /// Why.
        source: ZtocError,
    },
}

/// What pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl Cache {
    /// Indexes in `directory`, made when it is needed, of `bytes_max` in total.
    pub const fn new(directory: PathBuf, bytes_max: u64) -> Self {
        Self {
            directory,
            bytes_max,
        }
    }

    /// The index of a blob, if there is one; it counts as used then.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no index.
    pub fn find(&self, blob: &Digest) -> Result<Option<Ztoc>, CacheError> {
        let path = self.path(blob);
        let failed = |source| CacheError::File {
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let decoder = zstd::Decoder::new(&file).map_err(failed)?;
        io::copy(&mut io::Read::take(decoder, INDEX_BYTES_MAX), &mut bytes).map_err(failed)?;
        // A clock that cannot be written to costs an index its place in the order, no more.
        let _ = file.set_modified(SystemTime::now());
        match Ztoc::read(&bytes) {
            Ok(index) => Ok(Some(index)),
            Err(source) => Err(CacheError::Index { path, source }),
        }
    }

    /// Keeps the index of a blob, and lets others go for it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; nothing of it is left then.
    pub fn keep(&self, blob: &Digest, index: &Ztoc) -> Result<(), CacheError> {
        let path = self.path(blob);
        let failed = |source| CacheError::File {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let bytes = zstd::encode_all(&index.write()[..], COMPRESSION_LEVEL).map_err(failed)?;
        let mut file = tempfile::Builder::new()
            .prefix(OsStr::from_bytes(BEGUN))
            .tempfile_in(&self.directory)
            .map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        self.prune(self.bytes_max).map(drop)
    }

    /// The blobs that have an index, with the bytes each takes up.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, CacheError> {
        let mut listed: Vec<_> = self
            .files()?
            .into_iter()
            .map(|file| (file.blob, file.bytes))
            .collect();
        listed.sort_unstable();
        Ok(listed)
    }

    /// Removes what was not used for the longest time, until no more than `bytes_max` are left, and what a process that was
    /// killed left half written.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed.
    pub fn prune(&self, bytes_max: u64) -> Result<Pruned, CacheError> {
        self.remove_abandoned();
        let mut files = self.files()?;
        files.sort_by_key(|file| file.used);
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        let mut pruned = Pruned::default();
        for file in files {
            if total <= bytes_max {
                break;
            }
            let path = self.path(&file.blob);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(CacheError::File { path, source });
                }
                _ => {}
            }
            total -= file.bytes;
            pruned.files += 1;
            pruned.bytes += file.bytes;
        }
        Ok(pruned)
    }

    /// What cannot be removed is tried again.
    fn remove_abandoned(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        for entry in entries.flatten().filter(is_abandoned) {
            let _ = fs::remove_file(entry.path());
        }
    }

    fn files(&self) -> Result<Vec<Kept>, CacheError> {
        let failed = |source| CacheError::File {
            path: self.directory.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // Somebody else's file, or one that has just gone.
            let (Some(blob), Ok(about)) = (blob_of(&entry.path()), entry.metadata()) else {
                continue;
            };
            files.push(Kept {
                blob,
                bytes: about.len(),
                used: about.modified().map_err(failed)?,
            });
        }
        Ok(files)
    }

    fn path(&self, blob: &Digest) -> PathBuf {
        self.directory.join(format!("{}{SUFFIX}", blob.hex()))
    }
}

struct Kept {
    blob: Digest,
    bytes: u64,
    used: SystemTime,
}

/// Whether a file was begun so long ago that nobody writes it any more.
fn is_abandoned(entry: &fs::DirEntry) -> bool {
    let is_begun = entry.file_name().as_encoded_bytes().starts_with(BEGUN);
    let modified = entry.metadata().and_then(|about| about.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    is_begun && age.is_some_and(|age| age > WRITTEN_WITHIN)
}

fn blob_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    format!("sha256:{}", name.strip_suffix(SUFFIX)?)
        .parse()
        .ok()
}

const SUFFIX: &str = ".ztoc.zst";
/// How the names of files begin that are being written.
const BEGUN: &[u8] = b".begun-";
/// The largest index takes seconds.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3600);
/// Windows shrink to 0.3 % of the uncompressed bytes at zstd's default level; more effort gains next to nothing.
const COMPRESSION_LEVEL: i32 = 3;
/// 33 KiB for every 4 MiB of a layer: enough for one of 120 GiB.
const INDEX_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflate::Checkpoint;

    fn index(bytes: u64) -> Ztoc {
        let checkpoint = |at: u64| Checkpoint {
            bit: 80 + at * 7_001,
            bytes_before: at * 5_000_000,
            window: (0..32_768_u64.min(at * 5_000_000))
                .map(|byte| (byte.wrapping_mul(at + 2_654_435_761) >> 7) as u8)
                .collect(),
        };
        Ztoc {
            compressed_bytes: bytes,
            uncompressed_bytes: 3 * bytes,
            span_bytes: 4 << 20,
            checkpoints: (0..3).map(checkpoint).collect(),
            ..Ztoc::default()
        }
    }

    #[test]
    fn gives_back_what_it_keeps() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(place.path().join("indexes"), 1 << 20);
        let blob = Digest::of(b"blob");
        assert_eq!(cache.find(&blob).unwrap(), None);
        cache.keep(&blob, &index(7)).unwrap();
        assert_eq!(cache.find(&blob).unwrap(), Some(index(7)));
        assert_eq!(cache.list().unwrap()[0].0, blob);
    }

    #[test]
    fn lets_the_longest_unused_go() {
        let place = tempfile::tempdir().unwrap();
        let blobs = [b"one", b"two", b"six"].map(|blob| Digest::of(blob));
        let roomy = Cache::new(place.path().into(), u64::MAX);
        for blob in &blobs {
            roomy.keep(blob, &index(1)).unwrap();
        }
        for (age, blob) in [(5, blobs[0]), (9, blobs[1]), (1, blobs[2])] {
            let file = File::options().write(true).open(roomy.path(&blob)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age * 60);
            file.set_modified(then).unwrap();
        }
        let one = roomy.list().unwrap()[0].1;
        let pruned = roomy.prune(2 * one).unwrap();
        assert_eq!(
            pruned,
            Pruned {
                files: 1,
                bytes: one
            }
        );
        assert_eq!(roomy.find(&blobs[1]).unwrap(), None, "the oldest went");
        // Finding it made the oldest of the rest the youngest.
        roomy.find(&blobs[0]).unwrap();
        roomy.prune(one).unwrap();
        assert_eq!(roomy.list().unwrap(), [(blobs[0], one)]);
    }

    #[test]
    fn removes_what_a_killed_process_had_begun() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(place.path().into(), 1 << 20);
        let files = ["old", "new"].map(|name| place.path().join(format!(".begun-{name}")));
        let foreign = place.path().join("foreign");
        for path in files.iter().chain([&foreign]) {
            fs::write(path, "x").unwrap();
        }
        for path in [&files[0], &foreign] {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - 2 * WRITTEN_WITHIN)
                .unwrap();
        }
        cache.keep(&Digest::of(b"blob"), &index(7)).unwrap();
        assert!(!files[0].exists() && files[1].exists() && foreign.exists());
    }

    #[test]
    fn says_which_file_is_damaged() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(place.path().into(), 1 << 20);
        let blob = Digest::of(b"blob");
        cache.keep(&blob, &index(7)).unwrap();
        let bytes = zstd::encode_all(&b"no index"[..], 0).unwrap();
        fs::write(cache.path(&blob), bytes).unwrap();
        let error = cache.find(&blob).unwrap_err().to_string();
        assert!(error.contains(&blob.hex()), "{error}");
    }
}
