//! The boundary between reading a layer and writing it down.
//!
//! The tar side hands over OCI operations with cleaned paths; a sink applies them in order and ends with a
//! [`Staged`] layer, or is dropped and leaves nothing behind. It sees neither tar headers nor digests.

use std::path::PathBuf;

use super::error::SinkError;
use super::path::LayerPath;

/// What a lane writes a layer into.
///
/// Operations come in the order of the archive, all from one thread. The sink may carry them out later on threads of its
/// own, as long as nobody can tell by the tree, or by the error that [`settle`](Self::settle) tells. After an error, and
/// when [`finish`](Self::finish) is not called, dropping the sink removes whatever it made.
pub trait Sink: Send {
    /// Makes a directory, or gives an existing one these attributes.
    fn directory(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError>;

    /// Begins a regular file of `size` bytes; [`data`](Self::data) and [`file_end`](Self::file_end) follow.
    fn file(
        &mut self,
        path: &LayerPath,
        attributes: &Attributes,
        size: u64,
    ) -> Result<(), SinkError>;

    /// Puts bytes into the file begun last. Offsets ascend; what is skipped is a hole.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SinkError>;

    /// Ends the file begun last.
    fn file_end(&mut self) -> Result<(), SinkError>;

    /// Makes a symbolic link; the target is kept as it is.
    fn symlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), SinkError>;

    /// Makes a hard link to an earlier entry of the same layer, and gives the common inode these attributes.
    ///
    /// `target` is not cleaned: `..` in it is taken back after symlinks are resolved.
    fn hardlink(
        &mut self,
        path: &LayerPath,
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), SinkError>;

    /// Makes a device or a FIFO.
    fn node(
        &mut self,
        path: &LayerPath,
        node: Node,
        attributes: &Attributes,
    ) -> Result<(), SinkError>;

    /// Hides what lower layers have at `path`.
    fn whiteout(&mut self, path: &LayerPath, attributes: &Attributes) -> Result<(), SinkError>;

    /// Hides what lower layers have in `directory`; `None` is the root.
    fn opaque(&mut self, directory: Option<&LayerPath>) -> Result<(), SinkError>;

    /// Lets the sink use up to `threads` threads beside the calling one from here on, and says how many it will use.
    ///
    /// What it makes does not depend on it.
    fn share(&mut self, threads: u32) -> u32 {
        let _ = threads;
        0
    }

    /// Waits for what other threads still do.
    ///
    /// # Errors
    /// That of the earliest operation that failed after it had been accepted; it is told once.
    fn settle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Ends the layer.
    fn finish(self: Box<Self>) -> Result<Staged, SinkError>;
}

/// Owner, mode, times and extended attributes of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky: at most 07777.
    pub mode: u32,
    /// Owner; never `u32::MAX`, which means "no change" to the kernel.
    pub uid: u32,
    /// Group; never `u32::MAX`.
    pub gid: u32,
    /// Access time, not before `modified`.
    pub accessed: Time,
    /// Modification time.
    pub modified: Time,
    /// Names and values, without duplicates and without `trusted.*`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A moment since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds of the second: 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// A special file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A character device; 0:0 is a whiteout to overlayfs.
    Character {
        /// At most 4,095, as the kernel can hold.
        major: u32,
        /// At most 1,048,575.
        minor: u32,
    },
    /// A block device.
    Block {
        /// At most 4,095.
        major: u32,
        /// At most 1,048,575.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A finished layer that is not yet part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The layer's root directory, to be renamed to a snapshot's `fs`.
    pub root: PathBuf,
    /// What the layer takes on disk.
    pub usage: Usage,
    /// Entries applied, whiteouts included.
    pub entries: u64,
    /// Bytes of file content written.
    pub data_bytes: u64,
    /// Directories that the layer only implied, in order of their paths: parents come first.
    pub implied: Vec<Implied>,
    /// The form of `root`.
    pub format: Format,
    /// The root is opaque: mounts end at this layer, what is below it is hidden.
    pub opaque_root: bool,
    /// Newest modification time of an entry: the time of implied directories that no lower layer has.
    pub newest: Time,
}

/// Space and inodes of a layer, as `du` would count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes, in whole blocks of 4 KiB, each inode once.
    pub bytes: u64,
    /// Inodes, the root included.
    pub inodes: u64,
}

/// A directory that the layer needed but had no entry for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Implied {
    /// Relative to the layer's root, symlinks resolved.
    pub path: PathBuf,
    /// What it takes from the layers below.
    pub inherited: Inherited,
    /// It was made inside another implied directory, whose setgid bit comes from below.
    pub in_implied: bool,
}

/// What an implied directory takes from the first lower layer that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherited {
    /// Owner, mode, times and extended attributes.
    Everything,
    /// Extended attributes only: an entry of its own came later and said the rest.
    Xattrs,
}

/// The form in which a layer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A directory that overlayfs takes as a lower layer.
    Overlay,
}
