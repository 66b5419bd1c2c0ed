//! The operations of a layer, carried out in a directory.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::super::error::SinkError;
use super::super::path::{LayerPath, join, split};
use super::super::sink::{Attributes, Format, Implied, Inherited, Node, Sink, Staged};
use super::attributes::{set_leaf, set_new, set_open, set_times, timestamps};
use super::content;
use super::implied;
use super::resolve::{Missing, open_beneath, refused};
use super::tree::{BLOCK_BYTES, Directory, Known, set_opaque, stat_leaf};
use super::writers::{Job, key};
use super::{OpenFile, OverlaySink, Position, ROOT};

impl Sink for OverlaySink {
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError> {
        let parent = self.begin(path, attributes)?;
        let (leaf, bytes) = (path.split().1, path.as_bytes());
        let error = |errno| refused("make the directory", bytes, errno);
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        let made = match rustix::fs::mkdirat(&parent.fd, leaf, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let stat = stat_leaf(parent.fd.as_fd(), leaf).map_err(error)?;
                let is_directory = stat.is_some_and(|stat| {
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                });
                if !is_directory {
                    self.tree.remove(&parent, leaf)?;
                    rustix::fs::mkdirat(&parent.fd, leaf, mode).map_err(error)?;
                }
                !is_directory
            }
            Err(errno) => return Err(error(errno)),
        };
        let fd = open_beneath(parent.fd.as_fd(), leaf).map_err(error)?;
        let real = join(&parent.path, leaf);
        if made {
            self.tree.count(BLOCK_BYTES);
            if self.tree.is_whited_out(&real) {
                set_opaque(fd.as_fd(), bytes)?;
            }
        }
        if made {
            set_new(fd.as_fd(), bytes, attributes, false)?;
        } else {
            set_open(fd.as_fd(), bytes, attributes, false)?;
        }
        let earlier = self
            .tree
            .directories
            .get(&real)
            .filter(|_| !made)
            .cloned()
            .unwrap_or_default();
        let mut known = Known {
            times: Some((attributes.accessed, attributes.modified)),
            implied: earlier.implied.map(|_| Inherited::Xattrs),
            ..earlier
        };
        let is_own = |name: &Vec<u8>| attributes.xattrs.iter().any(|(own, _)| own == name);
        known.copied.xattrs.retain(|name| !is_own(name));
        self.tree.made_directory(&parent, leaf, fd, known);
        Ok(())
    }

    fn file(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
    ) -> Result<(), SinkError> {
        let parent = self.begin(path, attributes)?;
        let leaf = path.split().1;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        let fd = self.replacing(&parent, leaf, path, "make the file", || {
            rustix::fs::openat(&parent.fd, leaf, flags, mode)
        })?;
        let is_handed_over = self.tree.writers.begin(size);
        self.file = Some(OpenFile {
            job: Job {
                fd,
                path: path.as_bytes().to_vec(),
                attributes: attributes.clone(),
                size,
            },
            end: 0,
            key: is_handed_over.then(|| key(&parent.path, leaf)),
        });
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError> {
        let Some(file) = &mut self.file else {
            return Err(SinkError::bad(b"", "data without a file"));
        };
        let (fd, path) = (file.job.fd.as_fd(), &file.job.path);
        let is_hole = offset != mem::replace(&mut file.end, offset + bytes.len() as u64);
        self.data_bytes += bytes.len() as u64;
        if is_hole && file.key.take().is_some() {
            content::write(fd, path, 0, &self.tree.writers.take_back())?;
        }
        if file.key.is_some() {
            self.tree.writers.put(bytes);
            return Ok(());
        }
        content::write(fd, path, offset, bytes)
    }

    fn file_end(&mut self) -> Result<(), SinkError> {
        let Some(OpenFile { job, end, key }) = self.file.take() else {
            return Err(SinkError::bad(b"", "the end of no file"));
        };
        self.tree.count(job.size);
        if let Some(key) = key {
            return self.tree.writers.end(job, key);
        }
        content::complete(job.fd.as_fd(), &job.path, &job.attributes, job.size, end)
    }

    fn symlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), SinkError> {
        let parent = self.begin(path, attributes)?;
        let leaf = path.split().1;
        self.replacing(&parent, leaf, path, "make the symlink", || {
            match rustix::fs::symlinkat(target, &parent.fd, leaf) {
                // The kernel's word for an empty target.
                Err(Errno::NOENT) => Err(Errno::INVAL),
                made => made,
            }
        })?;
        self.tree.count(0);
        set_leaf(
            parent.fd.as_fd(),
            leaf,
            path.as_bytes(),
            attributes,
            FileType::Symlink,
        )
    }

    fn hardlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), SinkError> {
        let parent = self.begin(path, attributes)?;
        let leaf = path.split().1;
        let bad = |reason| bad_link(path, target, reason);
        let (target_parent, target_leaf) = self.link_target(path, target)?;
        self.wait_for(&target_parent, target_leaf)?;
        let flags = AtFlags::empty();
        let linked =
            match rustix::fs::linkat(&target_parent.fd, target_leaf, &parent.fd, leaf, flags) {
                Err(Errno::EXIST) => {
                    self.tree.remove(&parent, leaf)?;
                    // What is replaced may have been a symlink that led to the target: without it the layer has no such file.
                    let (target_parent, target_leaf) = self.link_target(path, target)?;
                    self.wait_for(&target_parent, target_leaf)?;
                    rustix::fs::linkat(&target_parent.fd, target_leaf, &parent.fd, leaf, flags)
                }
                linked => linked,
            };
        linked.map_err(|errno| match errno {
            Errno::NOENT => bad("the layer does not have it"),
            Errno::PERM => bad("it is a directory"),
            errno => refused("make the hard link", path.as_bytes(), errno),
        })?;
        let stat = stat_leaf(parent.fd.as_fd(), leaf)
            .and_then(|stat| stat.ok_or(Errno::NOENT))
            .map_err(|errno| SinkError::disk("look at", path.as_bytes(), errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        set_leaf(parent.fd.as_fd(), leaf, path.as_bytes(), attributes, kind)
    }

    fn node(
        &mut self,
        path: &LayerPath,
        node: Node,
        attributes: &Attributes,
    ) -> Result<(), SinkError> {
        let parent = self.begin(path, attributes)?;
        let leaf = path.split().1;
        let (kind, device) = match node {
            Node::Character { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
            Node::Block { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
            Node::Fifo => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        self.replacing(&parent, leaf, path, "make the special file", || {
            rustix::fs::mknodat(&parent.fd, leaf, kind, mode, device)
        })?;
        self.tree.count(0);
        set_leaf(parent.fd.as_fd(), leaf, path.as_bytes(), attributes, kind)
    }

    fn whiteout(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError> {
        let parent = self.parent(path)?;
        self.entries += 1;
        let (leaf, bytes) = (path.split().1, path.as_bytes());
        if self.is_bottom() {
            return self.tree.remove(&parent, leaf);
        }
        let real = join(&parent.path, leaf);
        self.tree.newest = self.tree.newest.max(attributes.modified);
        match rustix::fs::mknodat(
            &parent.fd,
            leaf,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        ) {
            Ok(()) => {
                self.tree.count(0);
                let attributes = Attributes {
                    mode: 0,
                    xattrs: Vec::new(),
                    ..attributes.clone()
                };
                set_leaf(
                    parent.fd.as_fd(),
                    leaf,
                    bytes,
                    &attributes,
                    FileType::CharacterDevice,
                )?;
            }
            // containerd refuses a whiteout of what the layer itself has. It hides lower layers only, which a file
            // does by itself and a directory when it is opaque.
            Err(Errno::EXIST) => self.hide_below(&parent, leaf, &real)?,
            Err(errno) => return Err(refused("make the whiteout", bytes, errno)),
        }
        self.tree.note_whiteout(real);
        Ok(())
    }

    fn opaque(&mut self, directory: Option<&LayerPath>) -> Result<(), SinkError> {
        let path = directory.map_or(&b""[..], LayerPath::as_bytes);
        let directory = self.tree.resolve(path, Missing::Make)?;
        self.entries += 1;
        if self.is_bottom() {
            return self.remove_implied(&directory.path);
        }
        self.opaque_root |= directory.path.is_empty();
        set_opaque(directory.fd.as_fd(), path)
    }

    fn share(&mut self, threads: u32) -> u32 {
        if self.has_fixed_writers {
            return 0;
        }
        self.tree.writers.resize(threads as usize) as u32
    }

    fn settle(&mut self) -> Result<(), SinkError> {
        self.tree.writers.settle()
    }

    fn finish(mut self: Box<Self>) -> Result<Staged, SinkError> {
        self.settle()?;
        let directories = mem::take(&mut self.tree.directories);
        let newest = self.tree.newest;
        let mut implied = Vec::new();
        for (path, known) in directories {
            let fd = open_beneath(self.tree.root(), &path)
                .map_err(|errno| SinkError::disk("open the directory", &path, errno))?;
            let (accessed, modified) = known
                .times
                .or(known.copied.times)
                .unwrap_or((newest, newest));
            set_times(fd.as_fd(), &path, accessed, modified)?;
            if let Some(inherited) = known.implied.filter(|_| self.position == Position::Upper) {
                implied.push(Implied {
                    path: path_buf(path),
                    inherited,
                    in_implied: known.in_implied,
                });
            }
        }
        let root = self.tree.root();
        let error = |errno| SinkError::disk("finish", b"/", errno);
        rustix::fs::futimens(root, &timestamps(newest, newest)).map_err(error)?;
        rustix::fs::fchmod(root, Mode::from_raw_mode(ROOT_MODE)).map_err(error)?;
        self.finished = true;
        Ok(Staged {
            root: self.dir.join(ROOT),
            usage: self.tree.usage,
            entries: self.entries,
            data_bytes: self.data_bytes,
            implied,
            format: Format::Overlay,
            opaque_root: self.opaque_root,
            newest,
        })
    }
}

impl OverlaySink {
    /// The open parent of an entry that is about to be made.
    fn begin(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
    ) -> Result<Arc<Directory>, SinkError> {
        let parent = self.parent(path)?;
        self.entries += 1;
        self.tree.newest = self.tree.newest.max(attributes.modified);
        Ok(parent)
    }

    fn parent(&mut self, path: &LayerPath) -> Result<Arc<Directory>, SinkError> {
        self.tree.resolve(path.split().0, Missing::Make)
    }

    /// Where the target of a hard link is: an open directory and a name in it, which is not followed.
    fn link_target<'a>(
        &mut self,
        path: &LayerPath,
        target: &'a [u8],
    ) -> Result<(Arc<Directory>, &'a [u8]), SinkError> {
        let named = trim_end(target);
        let (parent, leaf) = split(named);
        if matches!(leaf, b"" | b"..") {
            return Err(bad_link(path, target, "it is a directory"));
        }
        let parent = self
            .tree
            .resolve(trim_root(parent), Missing::Refuse)
            .map_err(|error| match error {
                SinkError::BadEntry { reason, .. } => bad_link(path, target, &reason),
                disk @ SinkError::Disk { .. } => disk,
            })?;
        // containerd would follow a symlink here and nowhere else.
        let is_symlink = || {
            let stat = stat_leaf(parent.fd.as_fd(), leaf).ok().flatten();
            stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
        };
        if named.len() < target.len() && is_symlink() {
            return Err(bad_link(
                path,
                target,
                "it is a symlink with a slash behind it",
            ));
        }
        Ok((parent, leaf))
    }

    /// Waits for what another thread does to the file `leaf` of `parent`.
    fn wait_for(&mut self, parent: &Directory, leaf: &[u8]) -> Result<(), SinkError> {
        self.tree.writers.wait_for(key(&parent.path, leaf))
    }

    /// Makes `leaf`, in the place of whatever the layer had there.
    fn replacing<T>(
        &mut self,
        parent: &Directory,
        leaf: &[u8],
        path: &LayerPath,
        operation: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, SinkError> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.tree.remove(parent, leaf)?;
                make()
            }
            made => made,
        };
        made.map_err(|errno| refused(operation, path.as_bytes(), errno))
    }

    /// A whiteout of something that this layer has at the real path `real`.
    fn hide_below(
        &mut self,
        parent: &Directory,
        leaf: &[u8],
        real: &[u8],
    ) -> Result<(), SinkError> {
        let error = |errno| refused("hide what is below", real, errno);
        let stat = stat_leaf(parent.fd.as_fd(), leaf).map_err(error)?;
        if stat.is_none_or(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory) {
            return Ok(());
        }
        let fd: OwnedFd = open_beneath(parent.fd.as_fd(), leaf).map_err(error)?;
        set_opaque(fd.as_fd(), real)?;
        // What was only implied here has nothing to inherit: it is hidden.
        let mut hidden = self
            .tree
            .directories_below(real, |known| known.implied.is_some());
        hidden.push(real.to_vec());
        for path in hidden {
            let Some(known) = self.tree.directories.get_mut(&path) else {
                continue;
            };
            let (copied, is_implied) = (mem::take(&mut known.copied), known.is_implied());
            known.is_fresh |= is_implied;
            known.implied = None;
            if !self.tree.lowers.is_empty() {
                let fd = open_beneath(self.tree.root(), &path).map_err(error)?;
                implied::disinherit(fd.as_fd(), &copied, is_implied).map_err(error)?;
            }
        }
        Ok(())
    }

    /// An opaque marker in a bottom layer: containerd deletes what no entry has made, which is implied directories.
    fn remove_implied(&mut self, path: &[u8]) -> Result<(), SinkError> {
        for implied in self.tree.directories_below(path, Known::is_implied) {
            if self.tree.is_unpacked(&implied) || !self.tree.directories.contains_key(&implied) {
                continue;
            }
            let (above, leaf) = split(&implied);
            let above = self.tree.resolve(above, Missing::Refuse)?;
            self.tree.remove(&above, leaf)?;
        }
        Ok(())
    }
}

fn bad_link(path: &LayerPath, target: &[u8], reason: &str) -> SinkError {
    let target = super::display(target);
    SinkError::bad(
        path.as_bytes(),
        format!("a hard link to {target:?}: {reason}"),
    )
}

/// Takes slashes and `.` components off the end.
fn trim_end(mut path: &[u8]) -> &[u8] {
    while let Some(shorter) = path.strip_suffix(b"/").or_else(|| path.strip_suffix(b"/.")) {
        path = shorter;
    }
    if path == b"." { b"" } else { path }
}

/// A hard link's target may be written as an absolute path.
fn trim_root(path: &[u8]) -> &[u8] {
    let start = path
        .iter()
        .position(|byte| *byte != b'/')
        .unwrap_or(path.len());
    &path[start..]
}

fn path_buf(bytes: Vec<u8>) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(bytes).into()
}

/// What containerd's overlayfs gives a snapshot's `fs`.
const ROOT_MODE: u32 = 0o755;
