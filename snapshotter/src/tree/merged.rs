//! What a container sees of an image's layers, computed from their trees.

use std::collections::BTreeMap;

use super::{Entry, Kind, Tree};

/// Lays `layers` (overlay form, bottom first) over each other, as a read-only overlay mount shows them.
///
/// Whiteouts and opaque directories hide what lies below and are not seen themselves, nor are overlayfs' own
/// attributes. A directory is the topmost layer's. A name whose hard-linked siblings are all hidden stands alone.
/// Layers that the mount leaves out below an opaque root are not to be given: the kernel stacks roots whatever they
/// say. A single layer is not an overlay but a bind mount, and is seen as it is.
pub fn merged(layers: &[Tree]) -> Tree {
    if let [only] = layers {
        return only.clone();
    }
    let mut view = View::default();
    for (number, layer) in layers.iter().enumerate() {
        for (path, entry) in &layer.entries {
            view.put(number, path, entry);
        }
    }
    view.finish()
}

/// The merged tree so far; each entry with the number of the layer it comes from.
#[derive(Default)]
struct View {
    entries: BTreeMap<Vec<u8>, (usize, Entry)>,
}

impl View {
    fn put(&mut self, layer: usize, path: &[u8], entry: &Entry) {
        let is_merged = entry.kind == Kind::Directory
            && (path.is_empty() || !entry.is_opaque())
            && self
                .entries
                .get(path)
                .is_some_and(|(_, below)| below.kind == Kind::Directory);
        if !is_merged {
            self.hide(path);
        }
        if entry.is_whiteout() {
            return;
        }
        let mut seen = entry.clone();
        seen.xattrs
            .retain(|name, _| !name.starts_with(OVERLAY_PREFIX));
        self.entries.insert(path.to_vec(), (layer, seen));
    }

    /// Removes `path` and all below it. Layers are put parents first, so only lower layers have anything there.
    fn hide(&mut self, path: &[u8]) {
        self.entries.remove(path);
        let mut first = path.to_vec();
        if !first.is_empty() {
            first.push(b'/');
        }
        let hidden: Vec<Vec<u8>> = self
            .entries
            .range(first.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&first))
            .cloned()
            .collect();
        for path in hidden {
            self.entries.remove(&path);
        }
    }

    fn finish(self) -> Tree {
        // Names of one inode come from one layer and share the first name it had there.
        let mut groups: BTreeMap<(usize, Vec<u8>), Vec<Vec<u8>>> = BTreeMap::new();
        for (path, (layer, entry)) in &self.entries {
            if let Some(first) = &entry.hard_link {
                let group = groups.entry((*layer, first.clone())).or_default();
                group.push(path.clone());
            }
        }
        let mut tree = Tree {
            entries: self
                .entries
                .into_iter()
                .map(|(path, (_, entry))| (path, entry))
                .collect(),
        };
        for names in groups.into_values() {
            let first = names.first().filter(|_| names.len() > 1).cloned();
            for name in &names {
                if let Some(entry) = tree.entries.get_mut(name) {
                    entry.hard_link.clone_from(&first);
                }
            }
        }
        tree
    }
}

/// Kernel documentation, overlayfs, "whiteouts and opaque directories".
const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{entry, tree};
    use super::*;

    fn paths(tree: &Tree) -> Vec<&str> {
        let names = tree.entries.keys();
        names
            .map(|path| std::str::from_utf8(path).unwrap())
            .collect()
    }

    fn opaque() -> Entry {
        Entry {
            xattrs: [(b"trusted.overlay.opaque".to_vec(), b"y".to_vec())].into(),
            uid: 7,
            ..entry(Kind::Directory)
        }
    }

    #[test]
    fn whiteouts_opaque_directories_and_other_kinds_hide_what_is_below() {
        let (directory, file) = (entry(Kind::Directory), entry(Kind::Regular));
        let bottom = tree(&[
            ("", directory.clone()),
            ("a", directory.clone()),
            ("a-b", file.clone()),
            ("a/x", file.clone()),
            ("d", directory.clone()),
            ("d/e", directory.clone()),
            ("d/e/f", file.clone()),
            ("k", directory.clone()),
            ("k/l", file.clone()),
            ("o", directory.clone()),
            ("o/old", file.clone()),
        ]);
        let top = tree(&[
            ("", opaque()),
            ("a", entry(Kind::Character)),
            (
                "d",
                Entry {
                    uid: 9,
                    ..directory
                },
            ),
            ("d/g", file.clone()),
            ("k", file.clone()),
            ("o", opaque()),
            ("o/new", file),
        ]);
        let merged = merged(&[bottom, top]);
        assert_eq!(
            paths(&merged),
            ["", "a-b", "d", "d/e", "d/e/f", "d/g", "k", "o", "o/new"]
        );
        let opaque = &merged.entries[&b"o"[..]];
        assert!(opaque.xattrs.is_empty() && opaque.uid == 7);
        assert_eq!(merged.entries[&b"d"[..]].uid, 9);
    }

    #[test]
    fn hard_links_are_what_is_left_of_them() {
        let linked = Entry {
            hard_link: Some(b"a".to_vec()),
            ..entry(Kind::Regular)
        };
        let root = entry(Kind::Directory);
        let bottom = tree(&[
            ("", root.clone()),
            ("a", linked.clone()),
            ("b", linked.clone()),
            ("c", linked.clone()),
        ]);
        let without = |names: &[&str]| {
            let mut entries = vec![("", root.clone())];
            entries.extend(names.iter().map(|name| (*name, entry(Kind::Character))));
            merged(&[bottom.clone(), tree(&entries)])
        };
        let two = without(&["a"]);
        assert_eq!(two.entries[&b"c"[..]].hard_link.as_deref(), Some(&b"b"[..]));
        let one = without(&["a", "b"]);
        assert_eq!(one.entries[&b"c"[..]].hard_link, None);
    }

    #[test]
    fn a_single_layer_is_seen_as_it_is() {
        let only = tree(&[("", opaque()), ("w", entry(Kind::Character))]);
        assert_eq!(merged(std::slice::from_ref(&only)), only);
        assert!(merged(&[]).entries.is_empty());
    }
}
