//! One layer, unpacked in this process: by a lane, or by the plain loop that a lane is compared with.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{
    Attributes, Bounds, Controls, Encoding, LayerPath, LayerSpec, OverlaySink, Position, Progress,
    Sink, SinkError, ThreadPermit, Time, UnpackError, unpack,
};
use sha2::{Digest as _, Sha256};

use super::UnpackBenchError;

/// Unpacks the gzip layer at `blob` into `to`, which must be absent, as a daemon's lane with `threads` threads does.
///
/// # Errors
/// [`UnpackBenchError::Unpack`], among others when one of both digests is another.
pub fn by_lane(
    blob: &Path,
    digest: Digest,
    diff_id: Digest,
    threads: u32,
    to: &Path,
) -> Result<(), UnpackBenchError> {
    let file = File::open(blob).map_err(UnpackBenchError::file("open", blob))?;
    let metadata = file.metadata();
    let spec = LayerSpec {
        encoding: Encoding::Sniffed,
        digest,
        size: metadata
            .map_err(UnpackBenchError::file("read", blob))?
            .len(),
        diff_id,
    };
    let failed = |source| UnpackBenchError::Unpack {
        path: blob.to_path_buf(),
        source,
    };
    let sink = OverlaySink::new(to, Position::Bottom).map_err(|error| failed(error.into()))?;
    let controls = Controls {
        threads: &ThreadPermit::new(threads),
        progress: &Progress::new(),
        stop_source: &|| {},
    };
    unpack(file, &spec, Box::new(sink), &Bounds::default(), controls).map_err(failed)?;
    Ok(())
}

/// The same work without a lane: flate2 in a loop, both hashes, the `tar` crate's parser, and the same files made by the
/// same sink. Knows files, directories and symbolic links, which is what test layers hold.
///
/// # Errors
/// [`UnpackBenchError`].
pub fn by_plain_loop(
    blob: &Path,
    digest: Digest,
    diff_id: Digest,
    to: &Path,
) -> Result<(), UnpackBenchError> {
    let failed = |source: UnpackError| UnpackBenchError::Unpack {
        path: blob.to_path_buf(),
        source,
    };
    let file = File::open(blob).map_err(UnpackBenchError::file("open", blob))?;
    let compressed = Hashed::new(file);
    let buffered = io::BufReader::with_capacity(BUFFER_BYTES, compressed);
    let stream = Hashed::new(MultiGzDecoder::new(buffered));
    let mut stream = io::BufReader::with_capacity(BUFFER_BYTES, stream);
    let mut sink = OverlaySink::new(to, Position::Bottom).map_err(|error| failed(error.into()))?;
    let mut archive = tar::Archive::new(&mut stream);
    apply(&mut archive, &mut sink)
        .map_err(|error| failed(UnpackError::Source(io::Error::other(error))))?;
    let read = UnpackBenchError::file("read", blob);
    io::copy(&mut stream, &mut io::sink()).map_err(read)?;
    let stream = stream.into_inner();
    let actual = stream.hasher.finalize();
    let compressed = stream.inner.into_inner().into_inner().hasher.finalize();
    for (expected, actual) in [(diff_id, actual), (digest, compressed)] {
        let actual = Digest::from_bytes(actual.into());
        if actual != expected {
            return Err(failed(UnpackError::DiffId { expected, actual }));
        }
    }
    Box::new(sink)
        .finish()
        .map_err(|error| failed(error.into()))?;
    Ok(())
}

fn apply<R: Read>(
    archive: &mut tar::Archive<R>,
    sink: &mut OverlaySink,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some(path) = LayerPath::clean(&entry.path_bytes()) else {
            continue;
        };
        let attributes = attributes(entry.header())?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            sink.directory(&path, &attributes)?;
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            sink.symlink(&path, &target, &attributes)?;
        } else {
            sink.file(&path, &attributes, entry.size())?;
            copy(&mut entry, sink, &mut buffer)?;
            sink.file_end()?;
        }
    }
    Ok(())
}

fn copy(
    entry: &mut impl Read,
    sink: &mut OverlaySink,
    buffer: &mut [u8],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut offset = 0;
    loop {
        let bytes = entry.read(buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        let written: Result<(), SinkError> = sink.data(offset, &buffer[..bytes]);
        written?;
        offset += bytes as u64;
    }
}

fn attributes(header: &tar::Header) -> io::Result<Attributes> {
    let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
    let time = Time {
        seconds: i64::try_from(header.mtime()?).map_err(io::Error::other)?,
        nanoseconds: 0,
    };
    Ok(Attributes {
        mode: header.mode()?,
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        accessed: time,
        modified: time,
        xattrs: Vec::new(),
    })
}

/// What is read through it is hashed.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(room)?;
        self.hasher.update(&room[..bytes]);
        Ok(bytes)
    }
}

/// As a lane's.
const BUFFER_BYTES: usize = 256 << 10;
