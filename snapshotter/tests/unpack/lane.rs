//! Running a lane over bytes in memory.

use std::io::Read;
use std::path::{Path, PathBuf};

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{
    Bounds, Class, Controls, Encoding, LayerSpec, OverlaySink, Position, Progress, Staged,
    ThreadPermit, UnpackError, Unpacked, unpack,
};
use tempfile::TempDir;

use super::tree::Tree;

/// A place for layers on a file system that is quick and has every kind of attribute.
pub fn place() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        tempfile::tempdir_in(shared_memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// False, with a loud word, where a test that needs root cannot run.
pub fn is_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED {test}: needs root for devices, owners and trusted attributes");
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{test} needs root"
    );
    false
}

/// An unpacked layer in a directory of its own.
pub struct Layer {
    /// Removes the layer in the end.
    _place: TempDir,
    pub staged: Staged,
}

impl Layer {
    pub fn tree(&self) -> Tree {
        Tree::read(&self.staged.root)
    }

    pub fn root(&self) -> PathBuf {
        self.staged.root.clone()
    }
}

/// Unpacks an uncompressed archive as an upper layer.
pub fn upper(tar: &[u8]) -> Result<Layer, UnpackError> {
    at(tar, Position::Upper)
}

/// Unpacks an uncompressed archive as the bottom layer.
pub fn bottom(tar: &[u8]) -> Result<Layer, UnpackError> {
    at(tar, Position::Bottom)
}

pub fn at(tar: &[u8], position: Position) -> Result<Layer, UnpackError> {
    bounded(tar, position, &Bounds::default())
}

pub fn bounded(tar: &[u8], position: Position, bounds: &Bounds) -> Result<Layer, UnpackError> {
    let place = place();
    let dir = place.path().join("layer");
    let outcome = run(
        tar,
        &spec(tar, tar, Encoding::Plain),
        &dir,
        position,
        bounds,
        1,
    );
    if outcome.is_err() {
        assert!(!dir.exists(), "a failed layer left something behind");
    }
    outcome.map(|unpacked| Layer {
        _place: place,
        staged: unpacked.staged,
    })
}

/// The class of the failure that the archive must end in as an upper layer.
pub fn refused(tar: &[u8]) -> Class {
    match upper(tar) {
        Ok(layer) => panic!("accepted: {:#?}", layer.tree()),
        Err(error) => error.class(),
    }
}

pub fn spec(compressed: &[u8], tar: &[u8], encoding: Encoding) -> LayerSpec {
    LayerSpec {
        encoding,
        digest: Digest::of(compressed),
        size: compressed.len() as u64,
        diff_id: Digest::of(tar),
    }
}

/// Unpacks with a fixed number of threads, and some number of writers of small files.
pub fn run(
    source: impl Read + Send,
    spec: &LayerSpec,
    dir: &Path,
    position: Position,
    bounds: &Bounds,
    threads: u32,
) -> Result<Unpacked, UnpackError> {
    let sink = OverlaySink::new(dir, position)?.with_writers(writers(spec));
    let controls = Controls {
        threads: &ThreadPermit::new(threads),
        progress: &Progress::new(),
        stop_source: &|| {},
    };
    unpack(source, spec, Box::new(sink), bounds, controls)
}

/// How many threads besides its own every lane is to write small files with, where somebody wants to see all tests so.
pub fn forced_writers() -> Option<u32> {
    let text = std::env::var(FORCED_WRITERS).ok()?;
    let writers = text.parse();
    Some(writers.unwrap_or_else(|_| panic!("{FORCED_WRITERS}={text} is no number")))
}

/// As many as are forced, or as the layer's digest draws: nobody may be able to tell.
fn writers(spec: &LayerSpec) -> u32 {
    let drawn = || spec.diff_id.to_string().bytes().map(u32::from).sum::<u32>() % 3;
    forced_writers().unwrap_or_else(drawn)
}

const FORCED_WRITERS: &str = "PARAPULL_WRITERS";
