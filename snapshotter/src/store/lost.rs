//! Which snapshots are gone while containerd may still know their names.
//!
//! containerd keeps names of its own beside the store's. It answers `Prepare` of a name it knows with `AlreadyExists` without
//! asking, and then fails because the store does not have it. So what recovery drops is noted in the same transaction, and the
//! note stays until whoever made containerd forget the name says so.

use serde::{Deserialize, Serialize};

use super::Store;
use super::error::{Result, StoreError};
use super::meta::MetaWrite;
use super::recovery::Dropped;

/// A snapshot that is gone and whose name containerd may still know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The name or key it had here: `<namespace>/<what makes it unique>/<containerd's name or key>`.
    pub name: String,
    /// The image it was pulled for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Lost {
    /// The containerd namespace in which it was made, and what it is called there; none for a name that is not containerd's.
    pub fn in_containerd(&self) -> Option<(&str, &str)> {
        let mut parts = self.name.splitn(3, '/');
        let (namespace, _, key) = (parts.next()?, parts.next()?, parts.next()?);
        Some((namespace, key))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(StoreError::metadata("encode"))
    }

    pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged {
            name: format!("lost snapshot {number}"),
            reason: error.to_string(),
        })
    }
}

impl Store {
    /// What is gone and not known to be forgotten by containerd, by number; each after those that were built on it.
    ///
    /// # Errors
    /// If the metadata cannot be read.
    pub fn lost(&self) -> Result<Vec<(u64, Lost)>> {
        self.inner.meta.read()?.lost()
    }

    /// Ends the notes with these numbers: containerd does not know those names any more, or knows them for something else.
    ///
    /// # Errors
    /// If the metadata cannot be written.
    pub fn forget_lost(&self, numbers: &[u64]) -> Result<()> {
        let mut transaction = self.inner.meta.write()?;
        for number in numbers {
            transaction.delete_lost(*number)?;
        }
        transaction.commit()
    }
}

/// Notes what recovery drops.
pub(super) fn note(transaction: &mut dyn MetaWrite, dropped: &[Dropped]) -> Result<()> {
    let noted = transaction.lost()?;
    let next = noted.last().map_or(0, |(number, _)| number + 1);
    for (number, dropped) in (next..).zip(dropped) {
        let lost = Lost {
            name: dropped.name.clone(),
            image: dropped.image.clone(),
        };
        transaction.put_lost(number, &lost)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerds_own_name_is_what_follows_the_second_slash() {
        let table = [
            (
                "k8s.io/12/extract-1 sha256:a",
                Some(("k8s.io", "extract-1 sha256:a")),
            ),
            ("k8s.io/parapull.0/sha256:a", Some(("k8s.io", "sha256:a"))),
            ("default/7/a/b", Some(("default", "a/b"))),
            ("probe", None),
            ("a/b", None),
        ];
        for (name, expected) in table {
            let lost = Lost {
                name: name.to_owned(),
                image: None,
            };
            assert_eq!(lost.in_containerd(), expected, "{name}");
            assert_eq!(Lost::decode(1, &lost.encode().unwrap()).unwrap(), lost);
        }
        assert!(matches!(
            Lost::decode(1, b"{"),
            Err(StoreError::Damaged { .. })
        ));
    }
}
