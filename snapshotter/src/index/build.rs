//! Makes the zTOC of a layer that lies in a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::ztoc::{Entry, Ztoc};
use crate::digest::Digest;
use crate::unpack::{Encoding, LayerSpec, Member, UnpackError, survey};

/// A layer's index, and what the layer turned out to be.
#[derive(Debug)]
pub struct Built {
    /// The index.
    pub ztoc: Ztoc,
    /// Digest of the compressed file.
    pub blob: Digest,
    /// Digest of the archive.
    pub diff_id: Digest,
}

/// Why no index could be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It is no layer.
    #[error(transparent)]
    Layer(#[from] UnpackError),
    /// It is one that cannot be entered anywhere.
    #[error("it is not compressed by gzip: zstd and plain layers need no index")]
    NotGzip,
}

/// Reads the compressed layer at `path` twice and indexes it, with a checkpoint about every `span_bytes` of its archive.
///
/// # Errors
///
/// When the file cannot be read, or is no gzip layer.
pub fn build(path: &Path, span_bytes: u64) -> Result<Built, BuildError> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let compressed_bytes = copy_to_hash(&mut file, u64::MAX, &mut hasher)?;
    let blob = Digest::from_bytes(hasher.finalize().into());
    file.rewind()?;
    let spec = LayerSpec {
        encoding: Encoding::Sniffed,
        digest: blob,
        size: compressed_bytes,
        diff_id: blob,
    };
    let (surveyed, diff_id) = survey(&file, &spec, span_bytes)?;
    if surveyed.checkpoints.is_empty() {
        return Err(BuildError::NotGzip);
    }
    file.rewind()?;
    let mut ztoc = Ztoc {
        compressed_bytes,
        uncompressed_bytes: surveyed.uncompressed_bytes,
        entries: surveyed.members.iter().map(entry).collect(),
        span_bytes,
        checkpoints: surveyed.checkpoints,
        span_digests: Vec::new(),
    };
    ztoc.span_digests = span_digests(&mut file, &ztoc)?;
    Ok(Built {
        ztoc,
        blob,
        diff_id,
    })
}

/// What SOCI verifies a span by: the bytes from the one its checkpoint stands in to the one before the next checkpoint's.
fn span_digests(file: &mut File, ztoc: &Ztoc) -> io::Result<Vec<Digest>> {
    let starts = ztoc.checkpoints.iter().map(|checkpoint| checkpoint.bit / 8);
    let starts: Vec<_> = starts.chain([ztoc.compressed_bytes]).collect();
    let mut digests = Vec::with_capacity(ztoc.checkpoints.len());
    for span in starts.windows(2) {
        file.seek(io::SeekFrom::Start(span[0]))?;
        // A checkpoint in the middle of a byte shares it with the span before.
        let is_shared = ztoc
            .checkpoints
            .get(digests.len() + 1)
            .is_some_and(|next| next.bit % 8 > 0);
        let mut hasher = Sha256::new();
        copy_to_hash(file, span[1] + u64::from(is_shared) - span[0], &mut hasher)?;
        digests.push(Digest::from_bytes(hasher.finalize().into()));
    }
    Ok(digests)
}

fn copy_to_hash(file: &mut File, bytes_max: u64, hasher: &mut Sha256) -> io::Result<u64> {
    let mut room = vec![0; 256 << 10];
    let mut limited = file.take(bytes_max);
    let mut bytes = 0;
    loop {
        match limited.read(&mut room)? {
            0 => return Ok(bytes),
            read => {
                hasher.update(&room[..read]);
                bytes += read as u64;
            }
        }
    }
}

fn entry(member: &Member) -> Entry {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kind = match member.typeflag {
        b'1' => "hardlink",
        b'2' => "symlink",
        b'3' => "char",
        b'4' => "block",
        b'5' => "dir",
        b'6' => "fifo",
        _ => "reg",
    };
    let record =
        |(name, value): &(Vec<u8>, Vec<u8>)| (format!("SCHILY.xattr.{}", text(name)), text(value));
    let modified = u64::try_from(member.modified_seconds).unwrap_or(0);
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(modified);
    Entry {
        name: text(&member.name),
        kind: kind.into(),
        offset: member.offset,
        bytes: member.bytes,
        link: text(&member.link),
        mode: member.mode,
        uid: member.owner.0,
        gid: member.owner.1,
        modified: humantime::format_rfc3339_seconds(modified).to_string(),
        device: member.device,
        records: member.xattrs.iter().map(record).collect(),
    }
}
