//! Reading a directory tree: one thread walks, others hash.
//!
//! Nothing is followed: every name is looked up below an open directory, so neither a symbolic link nor a path longer
//! than the kernel takes at once leads astray.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Entry, Kind, Tree};

/// A tree that cannot be read; reads after "failed to …".
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}", path = path.display())]
pub struct ScanError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl ScanError {
    fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}

/// Reads the tree below `directory`, hashing contents on two threads.
///
/// # Errors
/// [`ScanError`] for the first path that cannot be read, or that vanished meanwhile: a tree that changes while it
/// is read proves nothing.
pub fn scan(directory: &Path) -> Result<Tree, ScanError> {
    let root = openat(CWD, directory, DIRECTORY_FLAGS, Mode::empty())
        .map_err(|error| ScanError::file("open", directory, error))?;
    let (to_hash, files) = sync_channel(QUEUED_FILES_MAX);
    let files = Mutex::new(files);
    thread::scope(|scope| {
        let hashers: Vec<_> = (0..HASHERS)
            .map(|_| scope.spawn(|| hash_all(directory, &files)))
            .collect();
        let mut walk = Walk {
            directory,
            to_hash,
            tree: Tree::default(),
            inodes: HashMap::new(),
        };
        let walked = walk.root(root);
        let Walk {
            to_hash,
            mut tree,
            inodes,
            ..
        } = walk;
        drop(to_hash);
        let mut hashed = Ok(());
        for hasher in hashers {
            let part = hasher
                .join()
                .unwrap_or_else(|_| Err(ScanError::file("hash", directory, Errno::IO)));
            match part {
                Ok(contents) => {
                    for (path, sha256) in contents {
                        if let Some(entry) = tree.entries.get_mut(&path) {
                            entry.content = Some(sha256);
                        }
                    }
                }
                Err(error) => hashed = Err(error),
            }
        }
        // A hasher that failed closes its end, which makes the walk fail too: the hasher knows why.
        hashed?;
        walked?;
        join_hard_links(&mut tree, inodes);
        Ok(tree)
    })
}

/// A file for the hashers: its directory stays open until it is read.
struct ToHash {
    directory: Arc<OwnedFd>,
    name: CString,
    path: Vec<u8>,
}

struct Walk<'a> {
    directory: &'a Path,
    to_hash: SyncSender<ToHash>,
    tree: Tree,
    /// Paths by (device, inode) of files with more than one name.
    inodes: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walk<'_> {
    fn root(&mut self, root: OwnedFd) -> Result<(), ScanError> {
        let stat = statat(&root, "", AtFlags::EMPTY_PATH)
            .map_err(|error| self.failed("look at", b"", error))?;
        let xattrs = xattrs(&format!("/proc/self/fd/{}/.", root.as_raw_fd()).into_bytes())
            .map_err(|error| self.failed("list the attributes of", b"", error))?;
        let entry = describe(&stat, Vec::new(), xattrs);
        self.tree.entries.insert(Vec::new(), entry);
        self.children(root, &[])
    }

    fn children(&mut self, directory: OwnedFd, path: &[u8]) -> Result<(), ScanError> {
        let directory = Arc::new(directory);
        let entries =
            Dir::read_from(directory.as_fd()).map_err(|error| self.failed("list", path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.failed("list", path, error))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut child = path.to_vec();
            if !child.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(name.to_bytes());
            self.child(&directory, name.to_owned(), child)?;
        }
        Ok(())
    }

    fn child(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: CString,
        path: Vec<u8>,
    ) -> Result<(), ScanError> {
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("look at", &path, error))?;
        let kind = kind(&stat);
        let target = if kind == Kind::Symlink {
            let target = readlinkat(directory, &name, Vec::new());
            target
                .map_err(|error| self.failed("read the link", &path, error))?
                .into_bytes()
        } else {
            Vec::new()
        };
        // There is no lgetxattrat: a path through the open directory's link in /proc stays short and exact.
        let mut by_descriptor = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        by_descriptor.extend_from_slice(name.to_bytes());
        let xattrs = xattrs(&by_descriptor)
            .map_err(|error| self.failed("list the attributes of", &path, error))?;
        self.tree
            .entries
            .insert(path.clone(), describe(&stat, target, xattrs));
        if kind == Kind::Directory {
            let below = openat(directory, &name, DIRECTORY_FLAGS, Mode::empty())
                .map_err(|error| self.failed("open", &path, error))?;
            return self.children(below, &path);
        }
        self.file(directory, name, path, kind, &stat)
    }

    fn file(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: CString,
        path: Vec<u8>,
        kind: Kind,
        stat: &Stat,
    ) -> Result<(), ScanError> {
        if stat.st_nlink > 1 {
            let names = self.inodes.entry((stat.st_dev, stat.st_ino)).or_default();
            names.push(path.clone());
            if names.len() > 1 {
                return Ok(());
            }
        }
        if kind == Kind::Regular {
            let file = ToHash {
                directory: Arc::clone(directory),
                name,
                path,
            };
            self.to_hash
                .send(file)
                .map_err(|_| self.failed("hash", b"", Errno::PIPE))?;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, path: &[u8], error: Errno) -> ScanError {
        ScanError::file(action, full_path(self.directory, path), error)
    }
}

/// Gives every member of a hard-link group the group's first path and its content.
fn join_hard_links(tree: &mut Tree, inodes: HashMap<(u64, u64), Vec<Vec<u8>>>) {
    for mut names in inodes.into_values() {
        // A file whose other names lie outside the tree has one name here.
        if names.len() < 2 {
            continue;
        }
        let content = names
            .iter()
            .find_map(|name| tree.entries.get(name).and_then(|entry| entry.content));
        names.sort();
        let first = names.first().cloned();
        for name in &names {
            if let Some(entry) = tree.entries.get_mut(name) {
                entry.hard_link.clone_from(&first);
                entry.content = content;
            }
        }
    }
}

fn describe(stat: &Stat, link_target: Vec<u8>, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
    let kind = kind(stat);
    let device = matches!(kind, Kind::Character | Kind::Block);
    Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_ns: Some(i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec)),
        size: if kind == Kind::Regular {
            u64::try_from(stat.st_size).unwrap_or_default()
        } else {
            0
        },
        rdev: if device {
            (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            )
        } else {
            (0, 0)
        },
        link_target,
        xattrs,
        hard_link: None,
        content: None,
    }
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::Character,
        FileType::BlockDevice => Kind::Block,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => Kind::Unknown,
    }
}

fn xattrs(path: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut attributes = BTreeMap::new();
    let names = match rustix::fs::llistxattr_query(path) {
        // A file system without attributes has none.
        Ok(0) | Err(Errno::NOTSUP) => return Ok(attributes),
        Ok(bytes) => {
            let mut names = vec![0; bytes];
            let read = rustix::fs::llistxattr(path, &mut names)?;
            names.truncate(read);
            names
        }
        Err(error) => return Err(error),
    };
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; rustix::fs::lgetxattr_query(path, name)?];
        let read = if value.is_empty() {
            0
        } else {
            rustix::fs::lgetxattr(path, name, &mut value)?
        };
        value.truncate(read);
        attributes.insert(name.to_vec(), value);
    }
    Ok(attributes)
}

type Contents = Vec<(Vec<u8>, [u8; 32])>;

fn hash_all(directory: &Path, files: &Mutex<Receiver<ToHash>>) -> Result<Contents, ScanError> {
    let mut contents = Contents::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let next = files.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(file) = next else { return Ok(contents) };
        let sha256 = hash(&file, &mut buffer)
            .map_err(|error| ScanError::file("read", full_path(directory, &file.path), error))?;
        contents.push((file.path, sha256));
    }
}

fn hash(file: &ToHash, buffer: &mut [u8]) -> io::Result<[u8; 32]> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut reader = File::from(openat(&file.directory, &file.name, flags, Mode::empty())?);
    let mut hasher = Sha256::new();
    loop {
        let read = reader.read(buffer)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buffer[..read]);
    }
}

fn full_path(directory: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    directory.join(std::ffi::OsStr::from_bytes(path))
}

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// The walk is one thread; two hashers keep two cores busy.
const HASHERS: usize = 2;
/// Bounds the directories held open for files not yet hashed, well below the usual 1,024 descriptors.
const QUEUED_FILES_MAX: usize = 256;
const BUFFER_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn sees_kinds_links_modes_and_contents() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/z"), "hello").unwrap();
        fs::hard_link(root.join("d/z"), root.join("a")).unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        fs::set_permissions(root.join("d/z"), PermissionsExt::from_mode(0o4711)).unwrap();
        let tree = scan(root).unwrap();
        let paths: Vec<&[u8]> = tree.entries.keys().map(Vec::as_slice).collect();
        assert_eq!(paths, [&b""[..], b"a", b"d", b"d/z", b"link"]);
        let file = &tree.entries[&b"d/z"[..]];
        assert_eq!(
            (file.kind, file.mode, file.size),
            (Kind::Regular, 0o4711, 5)
        );
        assert_eq!(file.hard_link.as_deref(), Some(&b"a"[..]));
        assert_eq!(file.content, tree.entries[&b"a"[..]].content);
        assert_eq!(file.content, Some(Sha256::digest(b"hello").into()));
        let link = &tree.entries[&b"link"[..]];
        assert_eq!(
            (link.kind, link.link_target.as_slice(), link.content),
            (Kind::Symlink, &b"/etc/passwd"[..], None)
        );
        assert_eq!(tree.bytes(), 5);
    }

    #[test]
    fn many_files_and_deep_folders_do_not_exhaust_descriptors() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut path = directory.path().to_path_buf();
        for depth in 0..40 {
            path.push(format!("d{depth}"));
            fs::create_dir(&path).unwrap();
            for file in 0..30 {
                fs::write(path.join(format!("f{file}")), [depth; 100]).unwrap();
            }
        }
        let tree = scan(directory.path()).unwrap();
        assert_eq!(tree.files(), 1200);
        assert!(
            tree.entries
                .values()
                .all(|entry| entry.kind != Kind::Regular || entry.content.is_some())
        );
    }

    #[test]
    fn a_missing_tree_is_an_error_with_its_path() {
        let error = scan(Path::new("/nonexistent/tree"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/tree"), "{error}");
    }
}
