//! Writes one layer: the generated tree, hashed on both sides of the compressor.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parapull_scenario::image::{ContentKind, FileSizes};
use parapull_scenario::{ImageSpec, LayerSpec, MediaType};
use tar::{EntryType, Header};

use super::compress::Compressor;
use super::content::{ContentReader, Mix, StreamKey, keyed_number};
use super::digest::DigestWriter;
use super::hello::hello_elf;
use super::{CraftError, CraftedLayer, calibrate, metadata};

/// The time of every generated entry: 2024-01-01.
pub(super) const MTIME_SECONDS: u64 = 1_704_067_200;

const BLOCK_BYTES: u64 = 512;

/// What a tar header of a generated entry costs after compression; measured with gzip and zstd on `many-files`.
const COMPRESSED_HEADER_BYTES: u64 = 60;

/// Size weights are powers of two up to this one.
const WEIGHT_EXPONENTS: u64 = 13;

/// Crafts layer `index` of `spec` into `blobs` under its digest.
pub(super) fn write(
    spec: &ImageSpec,
    index: usize,
    blobs: &Path,
    progress: &AtomicU64,
) -> Result<CraftedLayer, CraftError> {
    let partial = blobs.join(format!(".partial-{index}"));
    let layer = write_partial(spec, index, &partial, progress).map_err(CraftError::io(&partial))?;
    let hex = layer.digest.trim_start_matches("sha256:");
    fs::rename(&partial, blobs.join(hex)).map_err(CraftError::io(&partial))?;
    Ok(layer)
}

fn write_partial(
    spec: &ImageSpec,
    index: usize,
    partial: &Path,
    progress: &AtomicU64,
) -> io::Result<CraftedLayer> {
    let layer = &spec.layers[index];
    let blob = DigestWriter::new(BufWriter::with_capacity(256 << 10, File::create(partial)?));
    let compressor = Compressor::new(layer.media_type, layer.tar_bytes(index == 0), blob)?;
    let mut builder = tar::Builder::new(DigestWriter::new(Progress {
        inner: compressor,
        bytes: progress,
    }));
    builder.mode(tar::HeaderMode::Deterministic);
    let counts = match layer.odd_entries {
        Some(odd_entries) => metadata::append(&mut builder, odd_entries)?,
        None => append_generated(&mut builder, spec, index)?,
    };
    let (compressor, diff_id, uncompressed_bytes) = builder.into_inner()?.finish();
    let (mut file, digest, compressed_bytes) = compressor.inner.finish()?.finish();
    file.flush()?;
    Ok(CraftedLayer {
        digest,
        diff_id,
        compressed_bytes,
        uncompressed_bytes,
        files: counts.files,
        directories: counts.directories,
    })
}

/// How many entries of the counted kinds a layer got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryCounts {
    pub(super) files: u32,
    pub(super) directories: u32,
}

fn append_generated<W: Write>(
    builder: &mut tar::Builder<W>,
    spec: &ImageSpec,
    index: usize,
) -> io::Result<EntryCounts> {
    let layer = &spec.layers[index];
    let mut counts = EntryCounts {
        files: layer.files,
        directories: layer.directories,
    };
    if index == 0 {
        append_hello(builder)?;
        counts.files += 1;
        counts.directories += 1;
    }
    append_whiteouts(builder, spec, index)?;
    let tree = Tree {
        layer: index,
        spec: layer,
    };
    let mix = mix_of(layer, index == 0)?;
    let mut sizes = Sizes::new(layer, spec.seed, index);
    for directory in 0..layer.directories {
        append_directory(builder, &tree.directory_path(directory))?;
        for file in tree.files_of(directory) {
            append_file(builder, &tree, spec.seed, mix, file, sizes.next_bytes())?;
        }
    }
    if layer.directories == 0 {
        for file in 0..layer.files {
            append_file(builder, &tree, spec.seed, mix, file, sizes.next_bytes())?;
        }
    }
    Ok(counts)
}

/// `/bin/hello`, the entry point of every image.
fn append_hello<W: Write>(builder: &mut tar::Builder<W>) -> io::Result<()> {
    append_directory(builder, "bin")?;
    let elf = hello_elf();
    let mut header = entry_header(EntryType::Regular, 0o755, elf.len() as u64);
    builder.append_data(&mut header, "bin/hello", elf.as_slice())
}

fn append_whiteouts<W: Write>(
    builder: &mut tar::Builder<W>,
    spec: &ImageSpec,
    index: usize,
) -> io::Result<()> {
    let Some(lower) = spec.whiteout_target(index) else {
        return Ok(());
    };
    let tree = Tree {
        layer: lower,
        spec: &spec.layers[lower],
    };
    for file in 0..spec.layers[index].whiteouts {
        let path = tree.file_path(file);
        let whiteout = match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        let mut header = entry_header(EntryType::Regular, 0o644, 0);
        builder.append_data(&mut header, whiteout, io::empty())?;
    }
    Ok(())
}

fn append_directory<W: Write>(builder: &mut tar::Builder<W>, path: &str) -> io::Result<()> {
    let mut header = entry_header(EntryType::Directory, 0o755, 0);
    builder.append_data(&mut header, format!("{path}/"), io::empty())
}

fn append_file<W: Write>(
    builder: &mut tar::Builder<W>,
    tree: &Tree<'_>,
    seed: u64,
    mix: Mix,
    file: u32,
    bytes: u64,
) -> io::Result<()> {
    let key = StreamKey {
        seed,
        layer: tree.layer as u64,
        file: u64::from(file),
    };
    let reader = ContentReader::new(key, tree.spec.content, mix, bytes);
    let mut header = entry_header(EntryType::Regular, 0o644, bytes);
    builder.append_data(&mut header, tree.file_path(file), reader)
}

pub(super) fn entry_header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME_SECONDS);
    header.set_size(bytes);
    header
}

/// The mix that makes the whole layer meet its ratio, headers included.
fn mix_of(layer: &LayerSpec, bottom: bool) -> io::Result<Mix> {
    if layer.content != ContentKind::Text || layer.media_type == MediaType::Uncompressed {
        return Ok(Mix(0));
    }
    let tar_bytes = layer.tar_bytes(bottom);
    let overhead_bytes = layer.overhead_bytes(bottom);
    let content_bytes = tar_bytes - overhead_bytes;
    let wanted_bytes = tar_bytes * 1_000 / u64::from(layer.ratio_permille.max(1));
    let headers_bytes = overhead_bytes / BLOCK_BYTES * COMPRESSED_HEADER_BYTES;
    let content_wanted_bytes = wanted_bytes
        .saturating_sub(headers_bytes)
        .max(content_bytes / 50)
        .max(1);
    calibrate::mix_for(
        layer.media_type,
        content_bytes * 1_000 / content_wanted_bytes,
    )
}

/// Where the files of a generated layer are.
struct Tree<'a> {
    layer: usize,
    spec: &'a LayerSpec,
}

impl Tree<'_> {
    fn directory_path(&self, directory: u32) -> String {
        let layer = self.layer;
        match directory {
            0 => format!("l{layer:03}"),
            _ => format!("l{layer:03}/d{directory:05}"),
        }
    }

    fn file_path(&self, file: u32) -> String {
        if self.spec.directories == 0 {
            return format!("l{:03}-f{file:07}", self.layer);
        }
        format!(
            "{}/f{file:07}",
            self.directory_path(self.directory_of(file))
        )
    }

    fn directory_of(&self, file: u32) -> u32 {
        let directory =
            u64::from(file) * u64::from(self.spec.directories) / u64::from(self.spec.files.max(1));
        u32::try_from(directory).unwrap_or(0)
    }

    /// The files whose `directory_of` is `directory`: consecutive ones.
    fn files_of(&self, directory: u32) -> std::ops::Range<u32> {
        let first = |directory: u32| {
            let file = (u64::from(directory) * u64::from(self.spec.files))
                .div_ceil(u64::from(self.spec.directories));
            u32::try_from(file).unwrap_or(u32::MAX)
        };
        first(directory)..first(directory + 1)
    }
}

/// Spreads the blocks of a layer over its files by weight, so that they sum up exactly.
struct Sizes {
    key: StreamKey,
    file_sizes: FileSizes,
    blocks: u64,
    weights_sum: u64,
    weights_seen: u64,
}

impl Sizes {
    fn new(layer: &LayerSpec, seed: u64, index: usize) -> Self {
        let bottom = index == 0;
        let mut sizes = Self {
            key: StreamKey {
                seed,
                layer: index as u64,
                file: 0,
            },
            file_sizes: layer.file_sizes,
            blocks: (layer.tar_bytes(bottom) - layer.overhead_bytes(bottom)) / BLOCK_BYTES,
            weights_sum: 0,
            weights_seen: 0,
        };
        sizes.weights_sum = (0..u64::from(layer.files))
            .map(|file| sizes.weight(file))
            .sum();
        sizes
    }

    fn weight(&self, file: u64) -> u64 {
        match self.file_sizes {
            FileSizes::Even => 1,
            FileSizes::Skewed => {
                1 << (keyed_number(StreamKey { file, ..self.key }) % WEIGHT_EXPONENTS)
            }
        }
    }

    fn next_bytes(&mut self) -> u64 {
        let share = |weights: u64| {
            let blocks =
                u128::from(self.blocks) * u128::from(weights) / u128::from(self.weights_sum.max(1));
            u64::try_from(blocks).unwrap_or(u64::MAX)
        };
        let before = share(self.weights_seen);
        let file = self.key.file;
        let weights_seen = self.weights_seen + self.weight(file);
        let blocks = share(weights_seen) - before;
        self.weights_seen = weights_seen;
        self.key.file += 1;
        match self.file_sizes {
            FileSizes::Even => blocks * BLOCK_BYTES,
            // Real sizes are no multiples of the block; the padding keeps the tar's length.
            FileSizes::Skewed if blocks > 0 => {
                blocks * BLOCK_BYTES
                    - keyed_number(StreamKey {
                        file: !file,
                        ..self.key
                    }) % BLOCK_BYTES
            }
            FileSizes::Skewed => 0,
        }
    }
}

/// Counts bytes for whoever shows progress.
pub(super) struct Progress<'a, W> {
    inner: W,
    bytes: &'a AtomicU64,
}

impl<W: Write> Write for Progress<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
