//! Layers unpacked several times in a private directory beside things they must not touch.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{
    Bounds, Class, Controls, Encoding, FixError, LayerSpec, OverlaySink, Position, Progress,
    Staged, ThreadPermit, UnpackError, unpack,
};
use tempfile::TempDir;

use super::archive::{archive, dir, file, symlink};
use super::tree::{Node, Tree};

/// How a layer is unpacked.
#[derive(Clone, Copy)]
pub struct How {
    is_bottom: bool,
    /// In the second run.
    threads: u32,
}

impl How {
    pub const fn of(byte: u8) -> Self {
        Self {
            is_bottom: byte & 1 == 1,
            // Starting threads takes longer than most layers: one input in eight.
            threads: if byte & 0b1110 == 0b1110 { 3 } else { 1 },
        }
    }
}

/// Unpacks the archive twice, and an upper layer a third time over its parents: the outcome is the same each time,
/// is within its bounds, and nothing outside the layer is touched. Says whether it was accepted.
pub fn check(tar: &[u8], how: How) -> bool {
    with(|laboratory| laboratory.check(tar, how))
}

/// This thread's directory.
pub fn with<T>(work: impl FnOnce(&Laboratory) -> T) -> T {
    thread_local! {
        static LABORATORY: Laboratory = Laboratory::new();
    }
    LABORATORY.with(work)
}

pub struct Laboratory {
    place: TempDir,
    /// Topmost first.
    lowers: Vec<PathBuf>,
    /// How everything outside the layers looks.
    untouched: BTreeMap<PathBuf, Traces>,
}

/// What changes if a file is written, removed, linked to or given other attributes.
type Traces = (u64, u32, u64, u64, (i64, i64), (i64, i64));

impl Laboratory {
    fn new() -> Self {
        let place = if std::env::var_os("TMPDIR").is_some() || !Path::new("/dev/shm").is_dir() {
            tempfile::tempdir()
        } else {
            tempfile::tempdir_in("/dev/shm")
        };
        let place = place.unwrap();
        let outside = place.path().join("outside");
        std::fs::create_dir_all(outside.join("etc")).unwrap();
        std::fs::write(outside.join("etc/passwd"), "outside").unwrap();
        std::fs::write(outside.join("a"), "outside").unwrap();
        std::os::unix::fs::symlink("etc", outside.join("b")).unwrap();
        let mut laboratory = Self {
            place,
            lowers: Vec::new(),
            untouched: BTreeMap::new(),
        };
        laboratory.unpack_lowers();
        laboratory.untouched = laboratory.traces();
        laboratory
    }

    /// A directory that no layer may touch, with `a`, `b`, `etc` and `etc/passwd`.
    pub fn outside(&self) -> PathBuf {
        self.place.path().join("outside")
    }

    fn check(&self, tar: &[u8], how: How) -> bool {
        let position = if how.is_bottom {
            Position::Bottom
        } else {
            Position::Upper
        };
        let first = self.unpack("first", tar, position.clone(), 1);
        let second = self.unpack("second", tar, position, how.threads);
        assert_eq!(first.described(), second.described(), "two runs differ");
        if !how.is_bottom {
            self.check_over(tar, &first);
        }
        assert_eq!(
            self.traces(),
            self.untouched,
            "something outside was touched"
        );
        for name in LAYERS {
            let layer = self.place.path().join(name);
            if layer.exists() {
                std::fs::remove_dir_all(layer).unwrap();
            }
        }
        let open = self.open_descriptors();
        assert!(open.is_empty(), "left open: {open:?}");
        first.0.is_ok()
    }

    /// Fixed at link time, a layer is as if it had been unpacked over its parents.
    fn check_over(&self, tar: &[u8], upper: &Outcome) {
        let over = self.unpack("over", tar, Position::Over(self.lowers.clone()), 1);
        let Ok(staged) = &upper.0 else {
            assert!(
                over.0.is_err(),
                "refused only without its parents: {upper:?}"
            );
            return;
        };
        match staged.fix_implied(&self.lowers) {
            Ok(()) => assert_eq!(
                upper.tree(),
                over.tree(),
                "linked and unpacked over parents"
            ),
            Err(FixError::NeedsParents { .. }) => {}
            Err(error @ FixError::Disk { .. }) => panic!("{error}"),
        }
    }

    fn unpack(&self, name: &str, tar: &[u8], position: Position, threads: u32) -> Outcome {
        let layer = self.place.path().join(name);
        let spec = LayerSpec {
            encoding: Encoding::Plain,
            digest: Digest::of(tar),
            size: tar.len() as u64,
            diff_id: Digest::of(tar),
        };
        let source = Sliced {
            rest: tar,
            bytes_max: if name == "second" { 1000 } else { usize::MAX },
        };
        let controls = Controls {
            threads: &ThreadPermit::new(threads),
            progress: &Progress::new(),
            stop_source: &|| {},
        };
        let sink = OverlaySink::new(&layer, position).unwrap();
        let unpacked = unpack(source, &spec, Box::new(sink), &bounds(), controls);
        let outcome = Outcome(unpacked.map(|unpacked| unpacked.staged));
        match &outcome.0 {
            Ok(staged) => judge(staged, &outcome.tree()),
            Err(error) => {
                assert!(!layer.exists(), "a refused layer left something behind");
                assert!(is_the_layers_fault(error), "{:?}: {error}", error.class());
            }
        }
        outcome
    }

    /// Two layers with attributes, links and whiteouts for implied directories to meet.
    fn unpack_lowers(&mut self) {
        let owned = |name: &str| dir(name).mode(0o1750).owner(10, 20).mtime(30);
        let bottom = archive([
            owned("a").xattr("user.a", "below"),
            owned("a/b").mode(0o2775),
            owned("b").mode(0o700),
            owned("b/c").xattr("user.c", "below"),
            owned("b/d"),
            symlink("c", "a"),
            file("d", "below"),
        ]);
        let top = archive([
            owned("a").mtime(40).xattr("user.a", "above"),
            file("a/.wh.b", ""),
            file("b/.wh.d", ""),
            owned("e"),
            file("e/.wh..wh..opq", ""),
            symlink("e/a", "../b"),
        ]);
        let bottom = self.unpack("lower-0", &bottom, Position::Bottom, 1);
        let top = self.unpack("lower-1", &top, Position::Upper, 1);
        let [top, bottom] = [top, bottom].map(|layer| layer.0.unwrap());
        self.lowers = vec![bottom.root];
        top.fix_implied(&self.lowers).unwrap();
        self.lowers.insert(0, top.root);
    }

    /// What this process has open inside the place.
    fn open_descriptors(&self) -> Vec<PathBuf> {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        descriptors
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|path| path.starts_with(self.place.path()))
            .collect()
    }

    fn traces(&self) -> BTreeMap<PathBuf, Traces> {
        let mut traces = BTreeMap::new();
        let mut folders = vec![self.place.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if LAYERS.iter().any(|name| path.ends_with(name)) {
                    continue;
                }
                let found = std::fs::symlink_metadata(&path).unwrap();
                if found.is_dir() {
                    folders.push(path.clone());
                }
                let modified = (found.mtime(), found.mtime_nsec());
                let changed = (found.ctime(), found.ctime_nsec());
                let links = found.nlink();
                let traces_of = (
                    found.ino(),
                    found.mode(),
                    links,
                    found.size(),
                    modified,
                    changed,
                );
                traces.insert(path, traces_of);
            }
        }
        traces
    }
}

/// A layer or why there is none.
#[derive(Debug)]
struct Outcome(Result<Staged, UnpackError>);

impl Outcome {
    fn tree(&self) -> Tree {
        self.0
            .as_ref()
            .map_or_else(|_| Tree(BTreeMap::new()), |staged| Tree::read(&staged.root))
    }

    /// All of it but where it is.
    fn described(&self) -> Result<(Staged, Tree, Option<i64>), String> {
        match &self.0 {
            Ok(staged) => {
                let root = std::fs::metadata(&staged.root).unwrap();
                let staged = Staged {
                    root: PathBuf::new(),
                    ..staged.clone()
                };
                Ok((staged, self.tree(), Some(root.mtime())))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whatever the archive is, the machine is well: the disk is never to blame, nor this program.
fn is_the_layers_fault(error: &UnpackError) -> bool {
    matches!(error.class(), Class::Corrupt | Class::BadImage)
}

/// What must hold of every layer that was accepted.
fn judge(staged: &Staged, tree: &Tree) {
    let bounds = bounds();
    let mut inodes = 1;
    let mut bytes = BLOCK_BYTES;
    for (path, node) in &tree.0 {
        assert!(
            path.len() as u64 <= bounds.path_bytes_max,
            "a path is too long"
        );
        assert!(
            node.size <= bounds.uncompressed_bytes_max,
            "a file is too large"
        );
        let is_first = node.first == *path;
        inodes += u64::from(is_first);
        bytes += if is_first { disk_bytes(node) } else { 0 };
        let is_overlays =
            |name: &Vec<u8>| name.starts_with(b"trusted.") && name != b"trusted.overlay.opaque";
        assert!(
            !node.xattrs.keys().any(is_overlays),
            "a trusted attribute got in"
        );
    }
    assert_eq!(
        (staged.usage.inodes, staged.usage.bytes),
        (inodes, bytes),
        "usage"
    );
    assert!(staged.entries <= bounds.entries_max, "entries");
    for implied in &staged.implied {
        let directory = tree.find(&implied.path.to_string_lossy());
        let is_text = implied.path.to_str().is_some();
        assert!(
            !is_text || directory.is_some_and(|node| node.kind == 'd'),
            "{implied:?}"
        );
    }
    let bytes = |index: usize| staged.implied[index].path.as_os_str().as_encoded_bytes();
    assert!(
        (1..staged.implied.len()).all(|index| bytes(index - 1) < bytes(index)),
        "parents come first"
    );
}

fn disk_bytes(node: &Node) -> u64 {
    match node.kind {
        'd' => BLOCK_BYTES,
        'f' => node.size.next_multiple_of(BLOCK_BYTES),
        _ => 0,
    }
}

/// Gives at most so many bytes at a time.
struct Sliced<'a> {
    rest: &'a [u8],
    bytes_max: usize,
}

impl Read for Sliced<'_> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let bytes = target.len().min(self.bytes_max);
        self.rest.read(&mut target[..bytes])
    }
}

/// Small, so that they are met and that every tree can be read whole.
fn bounds() -> Bounds {
    Bounds {
        entries_max: 256,
        path_bytes_max: 1024,
        uncompressed_bytes_max: 256 << 10,
        ..Bounds::default()
    }
}

/// Directories of the place that come and go.
const LAYERS: [&str; 3] = ["first", "second", "over"];
const BLOCK_BYTES: u64 = 4096;
