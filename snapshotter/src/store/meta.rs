//! The door to the metadata: what a record holds and which transactions a metadata store offers.
//!
//! Nothing here knows what a snapshot operation means; that is [`super::catalog`]'s. A store maps names to records and keeps, for every
//! parent, the list of its children.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};
use super::snapshot::{Format, Info, Kind, Labels, Usage};

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
    /// The tree hides everything below it: mounts end here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) opaque_root: bool,
    /// Its files were written here and may not have reached the disk; see [`super::durability`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) unsynced: bool,
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

    /// The bytes of the record: a version byte, then JSON.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![RECORD_VERSION];
        serde_json::to_writer(&mut bytes, self).map_err(StoreError::metadata("encode"))?;
        Ok(bytes)
    }

    /// Reads what [`Self::encode`] wrote under `name`.
    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
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
    /// The boot of the kernel in which the store was last opened; none in a new one.
    fn boot(&self) -> Result<Option<String>>;
}

/// A write transaction.
pub(super) trait MetaWrite: MetaRead {
    /// Draws the next id; an aborted transaction gives it back.
    fn next_id(&mut self) -> Result<u64>;
    /// Stores `record` under `name` and among the children of its parent.
    fn put(&mut self, name: &str, record: &Record) -> Result<()>;
    /// Removes the record of `name` and its entry among the children of its parent.
    fn delete(&mut self, name: &str, record: &Record) -> Result<()>;
    /// Stores the boot of the kernel in which the store is opened.
    fn put_boot(&mut self, boot: &str) -> Result<()>;
    /// Makes everything durable at once.
    fn commit(self: Box<Self>) -> Result<()>;
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
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
            opaque_root: true,
            unsynced: true,
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
        assert!(!record.opaque_root && !record.unsynced);
    }
}
