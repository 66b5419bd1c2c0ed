//! What a snapshot is to the outside: its kind, its description, its mounts and its size.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Labels of a snapshot: arbitrary pairs, limited to 4096 bytes each by containerd.
pub type Labels = BTreeMap<String, String>;

/// What may be done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Read-only and temporary: can neither be committed nor be a parent.
    View,
    /// Writable: what `prepare` makes and `commit` ends.
    Active,
    /// Finished and immutable: the only kind that can be a parent.
    Committed,
}

impl Kind {
    /// The name by which containerd's filters know the kind.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// How a snapshot's content lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A directory tree in the form that overlayfs takes as a lower layer.
    #[default]
    Overlay,
}

/// The description of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The key of an active snapshot or view, the name of a committed one.
    pub name: String,
    /// The name of the parent; empty at the bottom of a chain.
    pub parent: String,
    /// What may be done with it.
    pub kind: Kind,
    /// When it was created or committed, in nanoseconds since 1970.
    pub created_ns: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub updated_ns: u64,
    /// Its labels.
    pub labels: Labels,
}

/// A mount that containerd is to make, in the terms of mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `bind` or `overlay`.
    pub kind: &'static str,
    /// The directory to bind, or `overlay`.
    pub source: String,
    /// The options in the order containerd's overlayfs snapshotter gives them.
    pub options: Vec<String>,
}

/// What a snapshot occupies by itself, without its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Distinct inodes, the root directory included.
    pub inodes: u64,
}

/// Which fields of an [`Info`] an update changes; only labels can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The whole map.
    Labels,
    /// The label of this name; an empty value removes it.
    Label(String),
    /// A field that cannot be changed.
    Immutable(String),
}

impl Field {
    /// Reads one path of a field mask.
    pub fn from_path(path: &str) -> Self {
        match path.strip_prefix("labels.") {
            Some(name) => Self::Label(name.to_owned()),
            None if path == "labels" => Self::Labels,
            None => Self::Immutable(path.to_owned()),
        }
    }
}

/// The wall clock in nanoseconds since 1970, or 0 before that.
pub(super) fn now_ns() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
