//! The door to the metadata: what a record holds and which transactions a metadata store offers.
//!
//! Nothing here knows what a snapshot operation means; that is [`super::catalog`]'s. A store maps names to records and keeps, for every
//! parent, the list of its children.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};
use super::snapshot::{Format, Info, Kind, Labels, Usage};
use crate::digest::Digest;

/// The schema written by this version.
pub(super) const SCHEMA: u64 = 1;

/// The parent id of a snapshot without parent; real ids start at 1.
pub(super) const NO_PARENT: u64 = 0;

/// What is stored of one snapshot under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Names the directory; kept from creation through commit, never used twice.
    pub(super) id: u64,
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) parent: String,
    /// The parent's id, or [`NO_PARENT`].
    #[serde(default)]
    pub(super) parent_id: u64,
    pub(super) created_ns: u64,
    pub(super) updated_ns: u64,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub(super) labels: Labels,
    #[serde(default)]
    pub(super) usage: Usage,
    #[serde(default)]
    pub(super) format: Format,
}

impl Record {
    /// The description that callers see.
    pub(super) fn into_info(self, name: String) -> Info {
        Info {
            name,
            parent: self.parent,
            kind: self.kind,
            created_ns: self.created_ns,
            updated_ns: self.updated_ns,
            labels: self.labels,
        }
    }

    /// The bytes of the record.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        encode(self)
    }

    /// Reads what [`Self::encode`] wrote under `name`.
    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        decode(name, bytes)
    }
}

/// A finished, verified and durable tree in the staging area, which a restart keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedLayer {
    /// The job whose directory it lies in.
    pub job: String,
    /// The layer's directory within the job's.
    pub layer: String,
    /// The digest of the uncompressed layer that was verified.
    pub diff_id: Digest,
    /// Whether it was unpacked as the bottom layer of an image.
    pub bottom: bool,
    /// How the tree lies on the disk.
    pub format: Format,
    /// What the tree occupies.
    pub usage: Usage,
}

impl StagedLayer {
    /// The name of its record.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.job, self.layer)
    }
}

/// The bytes of a stored value: a version byte, then JSON.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![RECORD_VERSION];
    serde_json::to_writer(&mut bytes, value).map_err(StoreError::metadata("encode"))?;
    Ok(bytes)
}

/// Reads what [`encode`] wrote under `name`.
pub(super) fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |reason: String| StoreError::Damaged {
        name: name.to_owned(),
        reason,
    };
    match bytes.split_first() {
        Some((&RECORD_VERSION, json)) => {
            serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))
        }
        Some((version, _)) => Err(damaged(format!("unknown record version {version}"))),
        None => Err(damaged("empty record".to_owned())),
    }
}

/// Where metadata is kept.
///
/// Readers see the last committed state and never wait for a writer; writers wait for each other.
pub(super) trait MetaStore: fmt::Debug + Send + Sync + 'static {
    /// Opens a view of the last committed state.
    fn read(&self) -> Result<Box<dyn MetaRead>>;
    /// Opens the only write transaction; dropped without commit it changes nothing.
    fn write(&self) -> Result<Box<dyn MetaWrite + '_>>;
}

/// A consistent view of the metadata.
pub(super) trait MetaRead {
    /// The record of `name`.
    fn record(&self, name: &str) -> Result<Option<Record>>;
    /// Visits all records in the order of their names.
    fn visit(&self, visitor: &mut dyn FnMut(String, Record) -> Result<()>) -> Result<()>;
    /// The names of the snapshots whose parent has this id; [`NO_PARENT`] for those without parent.
    fn children(&self, parent_id: u64) -> Result<Vec<String>>;
    /// The staged layers that are kept across a restart.
    fn staged(&self) -> Result<Vec<StagedLayer>>;
}

/// A write transaction.
pub(super) trait MetaWrite: MetaRead {
    /// Draws the next id; an aborted transaction gives it back.
    fn next_id(&mut self) -> Result<u64>;
    /// Stores `record` under `name` and among the children of its parent.
    fn put(&mut self, name: &str, record: &Record) -> Result<()>;
    /// Removes the record of `name` and its entry among the children of its parent.
    fn delete(&mut self, name: &str, record: &Record) -> Result<()>;
    /// Stores a staged layer under its key.
    fn put_staged(&mut self, layer: &StagedLayer) -> Result<()>;
    /// Removes the staged layer with this key, if there is one.
    fn delete_staged(&mut self, key: &str) -> Result<()>;
    /// Makes everything durable at once.
    fn commit(self: Box<Self>) -> Result<()>;
}

const RECORD_VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_refuses_the_rest() {
        let record = Record {
            id: 7,
            kind: Kind::Committed,
            parent: "base".to_owned(),
            parent_id: 3,
            created_ns: 1,
            updated_ns: 2,
            labels: Labels::from([("a".to_owned(), "b".to_owned())]),
            usage: Usage {
                bytes: 4096,
                inodes: 2,
            },
            format: Format::Overlay,
        };
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode("x", &bytes).unwrap(), record);
        for wrong in [&b""[..], b"\x02{}", b"\x01{", &bytes[..bytes.len() - 1]] {
            assert!(
                matches!(Record::decode("x", wrong), Err(StoreError::Damaged { .. })),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_record_without_format_is_an_overlay() {
        let bytes = b"\x01{\"id\":1,\"kind\":\"active\",\"created_ns\":1,\"updated_ns\":1}";
        let record = Record::decode("x", bytes).unwrap();
        assert_eq!(
            (record.format, record.parent_id),
            (Format::Overlay, NO_PARENT)
        );
    }
}
