//! What is known of one path of a tree.

use std::collections::{BTreeMap, BTreeSet};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device; number 0:0 is overlayfs' whiteout.
    Character,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// Anything else.
    Unknown,
}

impl Kind {
    /// Its letter, as `ls -l` shows it (`?` when unknown).
    pub const fn letter(self) -> char {
        match self {
            Self::Regular => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::Character => 'c',
            Self::Block => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
            Self::Unknown => '?',
        }
    }

    /// Its name in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "file",
            Self::Directory => "directory",
            Self::Symlink => "symbolic link",
            Self::Character => "character device",
            Self::Block => "block device",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Unknown => "unknown kind",
        }
    }
}

/// One path of a tree with everything two unpackers must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in ns since 1970; `None` where it does not count (see [`Tree::forget_times`]).
    pub mtime_ns: Option<i128>,
    /// Size of a regular file in bytes, 0 for all else.
    pub size: u64,
    /// Device number (major, minor) of a device, (0, 0) for all else.
    pub rdev: (u32, u32),
    /// Target of a symbolic link, empty for all else.
    pub link_target: Vec<u8>,
    /// Extended attributes, `trusted.*` included where the reader may see them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// First path (in byte order) of its hard-link group; `None` for a file with one name.
    pub hard_link: Option<Vec<u8>>,
    /// sha256 of a regular file's content.
    pub content: Option<[u8; 32]>,
}

impl Entry {
    /// Whether it hides what lower layers have in this directory.
    pub fn is_opaque(&self) -> bool {
        let opaque = self.xattrs.get(&b"trusted.overlay.opaque"[..]);
        opaque.is_some_and(|value| value == b"y")
    }

    /// Whether it is overlayfs' whiteout, a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::Character && self.rdev == (0, 0)
    }
}

/// A tree: paths relative to its root (`b""` is the root itself) in byte order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Its entries.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

impl Tree {
    /// Forgets the modification times that do not count: the root's, those of directories that are not in `own`, and
    /// those of whiteouts.
    ///
    /// All three have no time in the archive; containerd leaves them at the moment they were made.
    ///
    /// `own` names directories with an entry of their own in the layer's archive. Its paths are resolved in this tree,
    /// because an archive may name a directory through a symbolic link (`lib/x` with `lib -> usr/lib`).
    pub fn forget_times(&mut self, own: &BTreeSet<Vec<u8>>) {
        let own: BTreeSet<Vec<u8>> = own.iter().map(|path| self.resolve(path)).collect();
        self.forget_times_where(|path| !own.contains(path));
    }

    /// As [`Tree::forget_times`], where the directories without an entry of their own are known: `implied`, as they are
    /// in this tree.
    pub fn forget_implied_times(&mut self, implied: &BTreeSet<Vec<u8>>) {
        self.forget_times_where(|path| implied.contains(path));
    }

    fn forget_times_where(&mut self, is_implied: impl Fn(&[u8]) -> bool) {
        for (path, entry) in &mut self.entries {
            let is_directory = entry.kind == Kind::Directory;
            if entry.is_whiteout() || is_directory && (path.is_empty() || is_implied(path)) {
                entry.mtime_ns = None;
            }
        }
    }

    /// Follows symbolic links in the parent components of `path`, as within a root directory.
    fn resolve(&self, path: &[u8]) -> Vec<u8> {
        let mut resolved: Vec<Vec<u8>> = Vec::new();
        let mut rest: Vec<Vec<u8>> = path
            .split(|&byte| byte == b'/')
            .rev()
            .map(<[u8]>::to_vec)
            .collect();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    resolved.pop();
                    continue;
                }
                _ => resolved.push(part),
            }
            let here = resolved.join(&b'/');
            let target = self
                .entries
                .get(&here)
                .filter(|entry| entry.kind == Kind::Symlink && !rest.is_empty());
            if let Some(entry) = target.filter(|_| links < LINKS_MAX) {
                links += 1;
                if entry.link_target.starts_with(b"/") {
                    resolved.clear();
                } else {
                    resolved.pop();
                }
                rest.extend(
                    entry
                        .link_target
                        .split(|&byte| byte == b'/')
                        .rev()
                        .map(<[u8]>::to_vec),
                );
            }
        }
        resolved.join(&b'/')
    }

    /// Number of regular files, hard-linked names counted once each.
    pub fn files(&self) -> u64 {
        self.entries
            .values()
            .filter(|entry| entry.kind == Kind::Regular)
            .count() as u64
    }

    /// Sum of the regular files' sizes, a hard-link group counted once.
    pub fn bytes(&self) -> u64 {
        let first = |(path, entry): &(&Vec<u8>, &Entry)| {
            entry.hard_link.as_ref().is_none_or(|first| first == *path)
        };
        self.entries
            .iter()
            .filter(first)
            .map(|(_, entry)| entry.size)
            .sum()
    }
}

/// As many as the kernel follows in one path.
const LINKS_MAX: u32 = 40;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::tree) fn entry(kind: Kind) -> Entry {
        Entry {
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime_ns: Some(1),
            size: 0,
            rdev: (0, 0),
            link_target: Vec::new(),
            xattrs: BTreeMap::new(),
            hard_link: None,
            content: None,
        }
    }

    pub(in crate::tree) fn tree(entries: &[(&str, Entry)]) -> Tree {
        Tree {
            entries: entries
                .iter()
                .map(|(path, entry)| (path.as_bytes().to_vec(), entry.clone()))
                .collect(),
        }
    }

    fn link(target: &str) -> Entry {
        Entry {
            link_target: target.into(),
            ..entry(Kind::Symlink)
        }
    }

    #[test]
    fn only_directories_with_an_entry_keep_their_time() {
        let directory = entry(Kind::Directory);
        let mut tree = tree(&[
            ("", directory.clone()),
            ("lib", link("usr/lib")),
            ("usr", directory.clone()),
            ("usr/lib", directory.clone()),
            ("usr/lib/x", directory.clone()),
            ("usr/lib/f", entry(Kind::Regular)),
            ("usr/whiteout", entry(Kind::Character)),
        ]);
        tree.forget_times(&["".into(), "lib/x".into()].into());
        let kept: Vec<&str> = tree
            .entries
            .iter()
            .filter(|(_, entry)| entry.mtime_ns.is_some())
            .map(|(path, _)| std::str::from_utf8(path).unwrap())
            .collect();
        assert_eq!(kept, ["lib", "usr/lib/f", "usr/lib/x"]);
    }

    #[test]
    fn links_resolve_within_the_root_and_loops_end() {
        let directory = entry(Kind::Directory);
        let tree = tree(&[
            ("", directory.clone()),
            ("abs", link("/real")),
            ("out", link("../../real")),
            ("loop", link("loop")),
            ("real", directory),
        ]);
        assert_eq!(tree.resolve(b"abs/x"), b"real/x");
        assert_eq!(tree.resolve(b"out/x"), b"real/x");
        assert_eq!(
            tree.resolve(b"abs"),
            b"abs",
            "the last component is never followed"
        );
        assert_eq!(tree.resolve(b"loop/x"), b"loop/x");
    }
}
