//! One layer, unpacked in this process: by a lane, or by the plain loop that a lane is compared with.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{
    Attributes, Bounds, Controls, Encoding, Format, LayerPath, LayerSpec, Node, OverlaySink,
    Position, Progress, Sink, SinkError, Staged, ThreadPermit, Time, UnpackError, Usage, unpack,
};
use sha2::{Digest as _, Sha256};

use super::UnpackBenchError;

/// A sink for a layer: a directory `to`, which must be absent, or nothing at all, where only what comes before the files
/// is to be counted.
///
/// # Errors
/// [`UnpackBenchError::Unpack`] when the directory cannot be made.
pub fn sink(to: Option<&Path>) -> Result<Box<dyn Sink>, UnpackBenchError> {
    let Some(to) = to else {
        return Ok(Box::new(Discarding));
    };
    let sink = OverlaySink::new(to, Position::Bottom);
    let sink = sink.map_err(|error| UnpackBenchError::Unpack {
        path: to.to_path_buf(),
        source: error.into(),
    })?;
    Ok(Box::new(sink))
}

/// Unpacks the gzip layer at `blob` into `sink` as a daemon's lane with `threads` threads does.
///
/// # Errors
/// [`UnpackBenchError::Unpack`], among others when one of both digests is another.
pub fn by_lane(
    blob: &Path,
    digest: Digest,
    diff_id: Digest,
    threads: u32,
    sink: Box<dyn Sink>,
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
    let controls = Controls {
        threads: &ThreadPermit::new(threads),
        progress: &Progress::new(),
        stop_source: &|| {},
    };
    unpack(file, &spec, sink, &Bounds::default(), controls).map_err(failed)?;
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
    mut sink: Box<dyn Sink>,
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
    let mut archive = tar::Archive::new(&mut stream);
    apply(&mut archive, sink.as_mut())
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
    sink.finish().map_err(|error| failed(error.into()))?;
    Ok(())
}

fn apply<R: Read>(
    archive: &mut tar::Archive<R>,
    sink: &mut dyn Sink,
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
    sink: &mut dyn Sink,
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

/// Makes nothing of anything.
struct Discarding;

impl Sink for Discarding {
    fn directory(&mut self, _: &LayerPath, _: &Attributes) -> Result<(), SinkError> {
        Ok(())
    }

    fn file(&mut self, _: &LayerPath, _: &Attributes, _: u64) -> Result<(), SinkError> {
        Ok(())
    }

    fn data(&mut self, _: u64, _: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn file_end(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn symlink(&mut self, _: &LayerPath, _: &[u8], _: &Attributes) -> Result<(), SinkError> {
        Ok(())
    }

    fn hardlink(&mut self, _: &LayerPath, _: &[u8], _: &Attributes) -> Result<(), SinkError> {
        Ok(())
    }

    fn node(&mut self, _: &LayerPath, _: Node, _: &Attributes) -> Result<(), SinkError> {
        Ok(())
    }

    fn whiteout(&mut self, _: &LayerPath, _: &Attributes) -> Result<(), SinkError> {
        Ok(())
    }

    fn opaque(&mut self, _: Option<&LayerPath>) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Staged, SinkError> {
        Ok(Staged {
            root: PathBuf::new(),
            usage: Usage::default(),
            entries: 0,
            data_bytes: 0,
            implied: Vec::new(),
            format: Format::Overlay,
            opaque_root: false,
            newest: Time::default(),
        })
    }
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

#[cfg(test)]
mod tests {
    use super::super::{Compressor, LayerKind, Sizes, TestLayer};
    use super::*;

    #[test]
    fn lane_and_plain_loop_accept_a_layer_and_refuse_another_digest() {
        let place = tempfile::tempdir().unwrap();
        let sizes = Sizes {
            bytes: 1 << 20,
            small_files: 50,
        };
        let by = [Compressor::Gzip];
        let layer = TestLayer::make(LayerKind::Small, sizes, &by, place.path()).unwrap();
        let (blob, spec) = (&layer[0].blob, &layer[0].spec);
        let nothing = || sink(None).unwrap();
        let wrong = Digest::of(b"another");
        for (digest, diff_id, is_right) in [
            (spec.digest, spec.diff_id, true),
            (wrong, spec.diff_id, false),
            (spec.digest, wrong, false),
        ] {
            let lane = by_lane(blob, digest, diff_id, 2, nothing());
            let plain = by_plain_loop(blob, digest, diff_id, nothing());
            assert_eq!((lane.is_ok(), plain.is_ok()), (is_right, is_right));
        }
    }
}
