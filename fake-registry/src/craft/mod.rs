//! Crafts images: the same spec and seed give the same bytes, whatever the machine and the number of threads.
//!
//! Everything streams: a layer goes from generator through tar, hash, compressor and hash to its file, so memory does not
//! grow with the image. What a layer holds is decided in [`layer`] and [`metadata`], what fills its files in [`content`].

mod calibrate;
mod compress;
mod config;
mod content;
mod digest;
mod hello;
mod layer;
mod metadata;

pub(crate) use digest::of_bytes as digest_of_bytes;
pub use hello::{HELLO_OUTPUT, hello_elf};

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use parapull_scenario::ImageSpec;
use parapull_scenario::image::ImageSpecError;

use crate::layout::{LayoutError, OciLayout};

/// Part of every cache key: raised whenever the same spec would give other bytes.
const CRAFT_REVISION: u32 = 1;

/// An image that could not be crafted.
#[derive(Debug, thiserror::Error)]
pub enum CraftError {
    /// The spec contradicts itself.
    #[error(transparent)]
    Spec(#[from] ImageSpecError),
    /// The file system said no.
    #[error("write {path}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A document could not be written as JSON.
    #[error("encode a document of the image")]
    Json(#[from] serde_json::Error),
    /// The finished layout cannot be read.
    #[error("open the crafted layout")]
    Layout(#[from] LayoutError),
    /// The output folder has something in it.
    #[error("craft into {path}: the folder is not empty; name a new one", path = path.display())]
    OutputNotEmpty {
        /// The folder.
        path: PathBuf,
    },
}

impl CraftError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct CraftedImage {
    /// The OCI layout with exactly this image.
    pub layout: OciLayout,
    /// The manifest's digest.
    pub manifest_digest: String,
    /// The layers, bottom first.
    pub layers: Vec<CraftedLayer>,
}

/// A finished layer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CraftedLayer {
    /// Digest of the blob.
    pub digest: String,
    /// Digest of the tar.
    pub diff_id: String,
    /// Bytes of the blob.
    pub compressed_bytes: u64,
    /// Bytes of the tar.
    pub uncompressed_bytes: u64,
    /// Regular files.
    pub files: u32,
    /// Directories with an entry of their own.
    pub directories: u32,
}

/// Crafts images into a cache folder, or wherever asked.
#[derive(Clone, Debug)]
pub struct Crafter {
    cache_dir: PathBuf,
    threads: usize,
    progress: Arc<AtomicU64>,
}

/// Crafts `spec` into `cache_dir`, or finds it there.
///
/// # Errors
/// When the spec contradicts itself or the file system refuses.
pub fn craft(spec: &ImageSpec, cache_dir: &Path) -> Result<CraftedImage, CraftError> {
    Crafter::new(cache_dir).craft(spec)
}

/// The default cache: `$XDG_CACHE_HOME/parapull/images`, else `~/.cache/parapull/images`, else below the temporary folder.
#[must_use]
pub fn cache_dir_default() -> PathBuf {
    let from_env = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = from_env("XDG_CACHE_HOME")
        .or_else(|| from_env("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    base.join("parapull").join("images")
}

impl Crafter {
    /// A crafter with that cache and one thread per processor.
    #[must_use]
    pub fn new(cache_dir: &Path) -> Self {
        Self {
            cache_dir: cache_dir.to_owned(),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            progress: Arc::default(),
        }
    }

    /// The same crafter with that many threads, at least one; layers are the unit of parallelism.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            ..self
        }
    }

    /// Uncompressed bytes crafted so far; whoever shows progress reads it from another thread.
    #[must_use]
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.progress)
    }

    /// Crafts `spec` into the cache, or finds it there. Two crafters of one spec do not disturb each other.
    ///
    /// # Errors
    /// When the spec contradicts itself or the file system refuses.
    pub fn craft(&self, spec: &ImageSpec) -> Result<CraftedImage, CraftError> {
        spec.check()?;
        let target = self.cache_path(spec)?;
        if target.join("index.json").exists() {
            return config::read_crafted(&target);
        }
        fs::create_dir_all(&self.cache_dir).map_err(CraftError::io(&self.cache_dir))?;
        let staging = tempfile::Builder::new()
            .prefix(".crafting-")
            .tempdir_in(&self.cache_dir)
            .map_err(CraftError::io(&self.cache_dir))?;
        self.write_layout(spec, staging.path())?;
        match fs::rename(staging.path(), &target) {
            // The folder moved away from under its guard, which must not remove it.
            Ok(()) => drop(staging.keep()),
            Err(_) if target.join("index.json").exists() => {}
            Err(source) => {
                return Err(CraftError::Io {
                    path: target,
                    source,
                });
            }
        }
        config::read_crafted(&target)
    }

    /// Crafts `spec` into `directory`, which must be absent or empty, without the cache.
    ///
    /// # Errors
    /// When the spec contradicts itself, the folder has something in it, or the file system refuses.
    pub fn craft_into(
        &self,
        spec: &ImageSpec,
        directory: &Path,
    ) -> Result<CraftedImage, CraftError> {
        spec.check()?;
        fs::create_dir_all(directory).map_err(CraftError::io(directory))?;
        let mut entries = fs::read_dir(directory).map_err(CraftError::io(directory))?;
        if entries.next().is_some() {
            return Err(CraftError::OutputNotEmpty {
                path: directory.to_owned(),
            });
        }
        self.write_layout(spec, directory)?;
        config::read_crafted(directory)
    }

    fn cache_path(&self, spec: &ImageSpec) -> Result<PathBuf, CraftError> {
        let key = format!("{CRAFT_REVISION} {}", serde_json::to_string(spec)?);
        let digest = digest::of_bytes(key.as_bytes());
        let hex: String = digest
            .trim_start_matches("sha256:")
            .chars()
            .take(24)
            .collect();
        let name: String = spec
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(40)
            .collect();
        Ok(self.cache_dir.join(format!("{name}-{hex}")))
    }

    fn write_layout(&self, spec: &ImageSpec, directory: &Path) -> Result<(), CraftError> {
        let blobs = directory.join("blobs").join("sha256");
        fs::create_dir_all(&blobs).map_err(CraftError::io(&blobs))?;
        let layers = self.write_layers(spec, &blobs)?;
        config::write_documents(spec, &layers, directory)
    }

    /// Crafts the distinct layers on all threads, the largest first, and puts duplicates in their places.
    fn write_layers(
        &self,
        spec: &ImageSpec,
        blobs: &Path,
    ) -> Result<Vec<CraftedLayer>, CraftError> {
        let mut order: Vec<usize> = (0..spec.layers.len())
            .filter(|&index| spec.layers[index].duplicate_of.is_none())
            .collect();
        order.sort_by_key(|&index| std::cmp::Reverse(spec.layers[index].uncompressed_bytes));
        let next = AtomicUsize::new(0);
        let done: Mutex<BTreeMap<usize, Result<CraftedLayer, CraftError>>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(order.len()) {
                scope.spawn(|| {
                    while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let layer = layer::write(spec, index, blobs, &self.progress);
                        let failed = layer.is_err();
                        done.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(index, layer);
                        if failed {
                            next.store(usize::MAX / 2, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut crafted: BTreeMap<usize, CraftedLayer> = BTreeMap::new();
        for (index, layer) in done {
            crafted.insert(index, layer?);
        }
        let place = |index: usize| {
            let original = spec.layers[index]
                .duplicate_of
                .map_or(index, |earlier| earlier as usize);
            crafted.get(&original).cloned()
        };
        Ok((0..spec.layers.len()).filter_map(place).collect())
    }
}
