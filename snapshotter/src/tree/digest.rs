//! `tree_sha256`: one digest for a tree, and one for an image's layers with their merged view.

use sha2::{Digest as _, Sha256};

use super::{Entry, Tree};

impl Tree {
    /// The digest of the tree.
    ///
    /// Every entry, in byte order of paths, is one record of fields; a field is its length as a little-endian u64, then
    /// its bytes. Numbers are decimal text. Fields: path, kind letter, mode (octal), uid, gid, mtime in ns (empty where
    /// it does not count), size of a regular file, rdev as `major:minor`, link target, number of xattrs followed by each
    /// name and value, first path of the hard-link group (empty for a single name), sha256 of the content (32 bytes,
    /// empty for all but regular files).
    pub fn sha256(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for (path, entry) in &self.entries {
            field(&mut hasher, path);
            record(&mut hasher, entry);
        }
        hasher.finalize().into()
    }
}

/// The digest of an image: the text lines `layer <hex>` bottom first and `merged <hex>`, hashed.
pub fn image_sha256(layers: &[Tree], merged: &Tree) -> String {
    let mut hasher = Sha256::new();
    for layer in layers {
        hasher.update(format!("layer {}\n", hex(&layer.sha256())));
    }
    hasher.update(format!("merged {}\n", hex(&merged.sha256())));
    hex(&hasher.finalize())
}

/// Lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn record(hasher: &mut Sha256, entry: &Entry) {
    let Entry {
        kind,
        mode,
        uid,
        gid,
        mtime_ns,
        size,
        rdev: (major, minor),
        link_target,
        xattrs,
        hard_link,
        content,
    } = entry;
    field(hasher, kind.letter().to_string().as_bytes());
    field(hasher, format!("{mode:o}").as_bytes());
    field(hasher, uid.to_string().as_bytes());
    field(hasher, gid.to_string().as_bytes());
    field(
        hasher,
        mtime_ns
            .map(|time| time.to_string())
            .unwrap_or_default()
            .as_bytes(),
    );
    field(hasher, size.to_string().as_bytes());
    field(hasher, format!("{major}:{minor}").as_bytes());
    field(hasher, link_target);
    field(hasher, xattrs.len().to_string().as_bytes());
    for (name, value) in xattrs {
        field(hasher, name);
        field(hasher, value);
    }
    field(hasher, hard_link.as_deref().unwrap_or_default());
    field(
        hasher,
        content
            .as_ref()
            .map(<[u8; 32]>::as_slice)
            .unwrap_or_default(),
    );
}

fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::entry::tests::{entry, tree};
    use super::*;

    #[test]
    fn every_field_counts() {
        let base = entry(Kind::Regular);
        let mut seen = vec![tree(&[("f", base.clone())]).sha256()];
        let changes: [fn(&mut Entry); 11] = [
            |entry| entry.kind = Kind::Fifo,
            |entry| entry.mode = 0o4755,
            |entry| entry.uid = 1,
            |entry| entry.gid = 1,
            |entry| entry.mtime_ns = Some(2),
            |entry| entry.size = 1,
            |entry| entry.rdev = (0, 1),
            |entry| entry.link_target = b"t".to_vec(),
            |entry| drop(entry.xattrs.insert(b"user.a".to_vec(), b"1".to_vec())),
            |entry| entry.hard_link = Some(b"f".to_vec()),
            |entry| entry.content = Some([0; 32]),
        ];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            let digest = tree(&[("f", changed)]).sha256();
            assert!(!seen.contains(&digest));
            seen.push(digest);
        }
        assert!(!seen.contains(&tree(&[("g", base)]).sha256()));
    }

    #[test]
    fn an_image_is_its_layers_in_order_and_their_merge() {
        let a = tree(&[("a", entry(Kind::Regular))]);
        let b = tree(&[("b", entry(Kind::Regular))]);
        let both = image_sha256(&[a.clone(), b.clone()], &a);
        assert_ne!(both, image_sha256(&[b.clone(), a.clone()], &a));
        assert_ne!(both, image_sha256(&[a.clone(), b.clone()], &b));
        assert_eq!(both.len(), 64);
    }
}
