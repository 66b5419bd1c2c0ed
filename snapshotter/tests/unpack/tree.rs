//! A tree as a value that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use parapull_snapshotter::digest::Digest;

/// Every file of a tree but its root, by path.
#[derive(PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Vec<u8>, Node>);

#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: char,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub size: u64,
    pub device: (u32, u32),
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// First path of the hard-link group.
    pub first: Vec<u8>,
    pub content: Option<Digest>,
}

impl Tree {
    pub fn read(root: &Path) -> Self {
        let mut tree = Self(BTreeMap::new());
        let mut firsts = HashMap::new();
        tree.read_directory(root, b"", &mut firsts);
        tree
    }

    /// The node at `path`; it must exist.
    pub fn at(&self, path: &str) -> &Node {
        self.find(path)
            .unwrap_or_else(|| panic!("no {path:?} in {self:?}"))
    }

    pub fn find(&self, path: &str) -> Option<&Node> {
        self.0.get(path.as_bytes())
    }

    /// Every path, as text.
    pub fn paths(&self) -> Vec<String> {
        self.0
            .keys()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect()
    }

    fn read_directory(
        &mut self,
        directory: &Path,
        above: &[u8],
        firsts: &mut HashMap<u64, Vec<u8>>,
    ) {
        let mut entries: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let separator = if above.is_empty() { &b""[..] } else { b"/" };
            let path = [above, separator, entry.file_name().as_bytes()].concat();
            // Where nothing lower has the name of a whiteout, overlayfs lists it and does not find it.
            if std::fs::symlink_metadata(entry.path())
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            {
                continue;
            }
            let node = Node::read(&entry.path(), &path, firsts);
            let is_directory = node.kind == 'd';
            self.0.insert(path.clone(), node);
            if is_directory {
                self.read_directory(&entry.path(), &path, firsts);
            }
        }
    }
}

impl Node {
    fn read(file: &Path, path: &[u8], firsts: &mut HashMap<u64, Vec<u8>>) -> Self {
        let metadata = std::fs::symlink_metadata(file).unwrap();
        let kind = match metadata.mode() & 0o170_000 {
            0o040_000 => 'd',
            0o100_000 => 'f',
            0o120_000 => 'l',
            0o020_000 => 'c',
            0o060_000 => 'b',
            0o010_000 => 'p',
            _ => '?',
        };
        let target = if kind == 'l' {
            std::fs::read_link(file)
                .unwrap()
                .into_os_string()
                .into_vec()
        } else {
            Vec::new()
        };
        Self {
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: if kind == 'f' { metadata.size() } else { 0 },
            device: (
                rustix::fs::major(metadata.rdev()),
                rustix::fs::minor(metadata.rdev()),
            ),
            target,
            xattrs: xattrs(file),
            first: firsts
                .entry(metadata.ino())
                .or_insert_with(|| path.to_vec())
                .clone(),
            content: (kind == 'f').then(|| Digest::of(&std::fs::read(file).unwrap())),
        }
    }

    pub fn is_whiteout(&self) -> bool {
        self.kind == 'c' && self.device == (0, 0)
    }

    pub fn is_opaque(&self) -> bool {
        self.xattr("trusted.overlay.opaque") == Some(b"y")
    }

    pub fn xattr(&self, name: &str) -> Option<&[u8]> {
        self.xattrs.get(name.as_bytes()).map(Vec::as_slice)
    }

    pub fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }
}

pub fn xattrs(file: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(file, &mut names[..]).unwrap_or(0);
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(file, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, node) in &self.0 {
            writeln!(f, "{:30} {node:?}", String::from_utf8_lossy(path))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        write!(
            f,
            "{}{:04o} {}:{} {:?} {}b",
            self.kind, self.mode, self.uid, self.gid, self.mtime, self.size
        )?;
        write!(
            f,
            " dev {:?} -> {:?} group {:?}",
            self.device,
            text(&self.target),
            text(&self.first)
        )?;
        let content = self
            .content
            .map(|digest| digest.short())
            .unwrap_or_default();
        let xattrs: Vec<_> = self
            .xattrs
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        write!(f, " {content} {xattrs:?}")
    }
}
