//! What a lane runs: the compressed bytes of one layer, in order, become a verified tree in overlay form.
//!
//! [`unpack`] pulls bytes from a reader, decompresses and hashes them twice, parses the tar stream as Go's
//! `archive/tar` does and applies its entries, as OCI operations, to a [`Sink`]. [`OverlaySink`] is the sink that
//! makes a directory which overlayfs can use as a lower layer, entry for entry as containerd's applier makes it.
//!
//! It does not decide anything about scheduling (how many threads, when to try again, in which order), does not
//! fetch, and does not know about snapshots: a finished layer is a [`Staged`] directory that somebody else renames.
//!
//! # Where the tree differs from containerd's on purpose
//!
//! containerd 1.6 to 2.3 agree with each other; random layers are compared with its own applier in the tests.
//!
//! - A whiteout beside its target in one upper layer is accepted and hides only lower layers (containerd: `EEXIST`).
//! - A directory over its own whiteout is opaque, listed or implied (containerd shows the lower children, or refuses).
//! - A lower file, whiteout or circle of symlinks in the way of an implied directory ends the search for its
//!   attributes (containerd refuses the layer unless it is the last component).
//! - An implied directory has the lower layer's time, else that of the layer's newest entry (containerd: the time of
//!   the unpacking); a whiteout has its header's.
//! - Directory times belong to the entry that is finally there (containerd sets them late, by name).
//! - A global extended header is never an entry (containerd replaces a file of its name).
//! - Owners and device numbers that the kernel would cut are refused.
//! - An opaque marker in the root of an upper layer is reported, see [`Staged::opaque_root`] (containerd: no effect).
//! - aufs records (`.wh..wh.plnk`) are skipped; old GNU sparse files and type `7` are accepted.
//! - `..` in a symlink's target is taken back really, as the kernel does, and 40 symlinks are followed (containerd:
//!   lexically where two symlinks or a relative target meet, and 255).
//! - A hard link whose target ends in a slash behind a symlink is refused (containerd follows that symlink).
//! - Bytes behind the last gzip member are ignored, whichever program containerd would have asked.

mod apply;
mod bounds;
mod decoder;
mod decompress;
mod error;
mod lane;
mod overlay;
mod path;
#[doc(hidden)]
pub mod probe;
mod progress;
mod sink;
mod spec;
mod stream;
mod tar;

pub use bounds::Bounds;
pub use error::{Cancelled, Class, SinkError, UnpackError};
pub use lane::{Controls, Unpacked, unpack};
pub use overlay::{FixError, OverlaySink, Position};
pub use path::LayerPath;
pub use progress::{Progress, ThreadPermit, Waiting};
pub use sink::{Attributes, Format, Implied, Inherited, Node, Sink, Staged, Time, Usage};
pub use spec::{Encoding, LayerSpec};
