//! What a lane runs: the compressed bytes of one layer, in order, become a verified tree in overlay form.
//!
//! [`unpack`] pulls bytes from a reader, decompresses and hashes them twice, parses the tar stream as Go's
//! `archive/tar` does and applies its entries, as OCI operations, to a [`Sink`]. [`OverlaySink`] is the sink that
//! makes a directory which overlayfs can use as a lower layer, entry for entry as containerd's applier makes it.
//!
//! It does not decide anything about scheduling (how many threads, when to try again, in which order), does not
//! fetch, and does not know about snapshots: a finished layer is a [`Staged`] directory that somebody else renames.
//!
//! Where the tree differs from containerd's on purpose: [`Difference`], the one list.

mod apply;
mod bounds;
mod decoder;
mod decompress;
mod differences;
mod error;
mod indexing;
mod lane;
mod overlay;
mod path;
#[doc(hidden)]
pub mod probe;
mod progress;
mod room;
mod sharing;
mod sink;
mod spec;
mod stream;
mod survey;
mod tar;

pub use bounds::Bounds;
pub use differences::Difference;
pub use error::{Cancelled, Class, SinkError, UnpackError};
pub use indexing::Indexing;
pub use lane::{Controls, Unpacked, unpack, unpack_indexed};
pub use overlay::{FixError, OverlaySink, Position};
pub use path::LayerPath;
pub use progress::{Held, Progress, ThreadPermit, Waiting};
pub use room::Room;
pub use sink::{Attributes, Format, Implied, Inherited, Node, Sink, Staged, Time, Usage};
pub use spec::{Encoding, LayerSpec};
pub use survey::{Member, Survey, survey};
