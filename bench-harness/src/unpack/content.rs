//! What the test layers hold: files of this machine's `/usr`, and noise like a model's weights.
//!
//! The same machine gives the same layers; another one has other files, so figures of two machines compare by ratios only.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use parapull_snapshotter::digest::Digest;
use tar::{Builder, EntryType, Header};

use super::UnpackBenchError;

/// A kind of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Files and links of all sizes, drawn from `/usr`.
    Mixed,
    /// Files of 4 MiB and more from `/usr`: programs and libraries.
    Big,
    /// Files of 4 KiB, cut from what `Mixed` holds.
    Small,
    /// Noise like bf16 weights.
    Weights,
}

/// How large layers are made.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Bytes of files in all kinds but `Small`.
    pub bytes: u64,
    /// Files in `Small`.
    pub small_files: u64,
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) entries: u64,
    pub(super) files: u64,
}

impl LayerKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Mixed, Self::Big, Self::Small, Self::Weights];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Big => "big",
            Self::Small => "small",
            Self::Weights => "weights",
        }
    }

    /// Writes a layer of this kind as an archive to `to`.
    pub(super) fn write(self, sizes: Sizes, to: &Path) -> Result<Held, UnpackBenchError> {
        let failed = || UnpackBenchError::file("write", to);
        let file = File::create(to).map_err(failed())?;
        let mut archive = Archive {
            builder: Builder::new(io::BufWriter::with_capacity(1 << 20, file)),
            folders: BTreeSet::new(),
            held: Held::default(),
        };
        let written = match self {
            Self::Mixed => archive.sample(sizes.bytes, 0),
            Self::Big => archive.sample(sizes.bytes, BIG_BYTES_MIN),
            Self::Small => archive.small(sizes.small_files),
            Self::Weights => archive.weights(sizes.bytes),
        };
        written
            .and_then(|()| archive.builder.into_inner()?.flush())
            .map_err(failed())?;
        Ok(archive.held)
    }
}

impl FromStr for LayerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("{text:?} is no layer: write mixed, big, small or weights"))
    }
}

struct Archive {
    builder: Builder<io::BufWriter<File>>,
    folders: BTreeSet<PathBuf>,
    held: Held,
}

impl Archive {
    /// Files of at least `bytes_min` from `/usr`, until there are `bytes` of them; the last one is cut.
    fn sample(&mut self, bytes: u64, bytes_min: u64) -> io::Result<()> {
        let mut left = bytes;
        let mut chosen = Vec::new();
        for (path, file_bytes) in drawn(Path::new("/usr"), bytes_min) {
            if left == 0 {
                break;
            }
            chosen.push((path, file_bytes.min(left)));
            left = left.saturating_sub(file_bytes);
        }
        // In the order of an archiver: folder by folder.
        chosen.sort();
        for (path, file_bytes) in chosen {
            let name = path.strip_prefix("/").unwrap_or(&path).to_path_buf();
            self.parents(&name)?;
            if path.is_symlink() {
                let mut header = header(EntryType::Symlink, 0, 0o777);
                self.builder
                    .append_link(&mut header, &name, fs::read_link(&path)?)?;
                self.held.entries += 1;
                continue;
            }
            let content = File::open(&path)?.take(file_bytes);
            self.file(&name, file_bytes, content)?;
        }
        Ok(())
    }

    fn small(&mut self, files: u64) -> io::Result<()> {
        let mut names = drawn(Path::new("/usr"), SMALL_BYTES).into_iter();
        let mut number = 0;
        while number < files {
            let Some((path, bytes)) = names.next() else {
                return Err(io::Error::other("/usr has too few files"));
            };
            let mut from = File::open(path)?;
            // Not all of a large one: it would be of one kind.
            for _ in 0..(bytes / SMALL_BYTES).min(PIECES_OF_A_FILE_MAX) {
                let name = PathBuf::from(format!("small/d{}/f{number}", number / 500));
                self.parents(&name)?;
                self.file(&name, SMALL_BYTES, (&mut from).take(SMALL_BYTES))?;
                number += 1;
                if number == files {
                    break;
                }
            }
        }
        Ok(())
    }

    fn weights(&mut self, bytes: u64) -> io::Result<()> {
        for (number, seed) in [(1, 0x9e37_79b9), (2, 0x7f4a_7c15)] {
            let name = PathBuf::from(format!("weights/model-{number}-of-2.safetensors"));
            self.parents(&name)?;
            self.file(&name, bytes / 2, Weights(seed).take(bytes / 2))?;
        }
        Ok(())
    }

    fn file(&mut self, name: &Path, bytes: u64, content: impl Read) -> io::Result<()> {
        let mut header = header(EntryType::Regular, bytes, 0o644);
        // A file that shrank meanwhile must not spoil the archive.
        let content = content.chain(io::repeat(0)).take(bytes);
        self.builder.append_data(&mut header, name, content)?;
        self.held.entries += 1;
        self.held.files += 1;
        Ok(())
    }

    fn parents(&mut self, name: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = name.ancestors().skip(1).collect();
        missing.retain(|folder| !folder.as_os_str().is_empty());
        for folder in missing.into_iter().rev() {
            if self.folders.insert(folder.to_path_buf()) {
                let mut header = header(EntryType::Directory, 0, 0o755);
                self.builder.append_data(&mut header, folder, io::empty())?;
                self.held.entries += 1;
            }
        }
        Ok(())
    }
}

fn header(kind: EntryType, bytes: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(mode);
    // Left alone they are empty, which not every reader takes for 0.
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header
}

/// Files below `root` in an order that depends on their names only, and their sizes; links too if every size will do.
fn drawn(root: &Path, bytes_min: u64) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (Ok(kind), Ok(metadata)) = (entry.file_type(), entry.metadata()) else {
                continue;
            };
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && bytes_min == 0 {
                found.push((path, 0));
            } else if kind.is_file() && (bytes_min.max(1)..BYTES_MAX).contains(&metadata.len()) {
                found.push((path, metadata.len()));
            }
        }
    }
    found.sort_by_cached_key(|(path, _)| {
        Digest::of(path.as_os_str().as_encoded_bytes()).to_string()
    });
    found
}

/// Little-endian bf16: a mantissa byte of noise, then sign and one of few exponents.
struct Weights(u64);

impl Read for Weights {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let bytes = room.len() & !1;
        for pair in room[..bytes].chunks_exact_mut(2) {
            self.0 = self
                .0
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let draw = self.0 >> 40;
            let magnitude = (draw >> 9 | 0x40).trailing_zeros() as u8;
            pair[0] = draw as u8;
            pair[1] = ((draw >> 8) as u8 & 1) << 7 | (0x3c - magnitude);
        }
        // A room of one byte is the end of an odd size.
        if bytes == 0 {
            room.fill(0);
            return Ok(room.len());
        }
        Ok(bytes)
    }
}

const BIG_BYTES_MIN: u64 = 4 << 20;
/// One file must not be the whole layer.
const BYTES_MAX: u64 = 128 << 20;
const SMALL_BYTES: u64 = 4096;
const PIECES_OF_A_FILE_MAX: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_what_it_promises_and_is_the_same_again() {
        let place = tempfile::tempdir().unwrap();
        let sizes = Sizes {
            bytes: 6 << 20,
            small_files: 700,
        };
        for kind in LayerKind::ALL {
            let (once, again) = (place.path().join("once"), place.path().join("again"));
            let held = kind.write(sizes, &once).unwrap();
            assert_eq!(kind.write(sizes, &again).unwrap(), held);
            let bytes = fs::read(&once).unwrap();
            assert!(bytes == fs::read(&again).unwrap(), "{}", kind.name());
            let mut archive = tar::Archive::new(&bytes[..]);
            let entries = archive.entries().unwrap().map(Result::unwrap);
            let sizes_of = entries.map(|entry| entry.size()).collect::<Vec<_>>();
            assert_eq!(sizes_of.len() as u64, held.entries);
            let total: u64 = sizes_of.iter().sum();
            let expected = if kind == LayerKind::Small {
                700 * 4096
            } else {
                6 << 20
            };
            assert_eq!(total, expected, "{}", kind.name());
        }
    }
}
