//! Trees that lie in place and could be copied from there for an image with other parents.
//!
//! Kept in memory only, for the life of the daemon: whoever finds one gone has the layer fetched.

use std::collections::{BTreeMap, VecDeque};

use super::names::LayerName;
use crate::digest::Digest;
use crate::unpack::Staged;

/// The trees linked by this daemon, newest last.
#[derive(Debug, Default)]
pub(super) struct Placed {
    trees: BTreeMap<(Digest, bool), Staged>,
    order: VecDeque<(Digest, bool)>,
}

impl Placed {
    /// Notes where a layer lies. A tree whose implied directories were given the attributes of its parents would be
    /// wrong over others, so it is not noted.
    pub(super) fn note(&mut self, name: LayerName, tree: Staged) {
        if !tree.implied.is_empty() {
            return;
        }
        let key = (name.diff_id, name.is_bottom);
        if self.trees.insert(key, tree).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > PLACED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.trees.remove(&oldest);
        }
    }

    /// The tree of a layer, unless it is seen to be gone.
    pub(super) fn find(&self, name: LayerName) -> Option<&Staged> {
        let tree = self.trees.get(&(name.diff_id, name.is_bottom))?;
        tree.root.is_dir().then_some(tree)
    }
}

/// Trees remembered at most; each takes about 300 bytes.
const PLACED_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::unpack::{Format, Implied, Inherited, Time, Usage};

    fn name(text: &str) -> LayerName {
        LayerName {
            diff_id: Digest::of(text.as_bytes()),
            is_bottom: false,
        }
    }

    fn tree(root: PathBuf) -> Staged {
        Staged {
            root,
            usage: Usage::default(),
            entries: 0,
            data_bytes: 0,
            implied: Vec::new(),
            format: Format::Overlay,
            opaque_root: false,
            newest: Time::default(),
        }
    }

    #[test]
    fn finds_what_is_there_and_depends_on_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (here, gone) = (folder.path().to_path_buf(), folder.path().join("gone"));
        let implied = Implied {
            path: "etc".into(),
            inherited: Inherited::Everything,
            in_implied: false,
        };
        let mut placed = Placed::default();
        placed.note(name("plain"), tree(here.clone()));
        placed.note(name("gone"), tree(gone));
        let depends = Staged {
            implied: vec![implied],
            ..tree(here.clone())
        };
        placed.note(name("depends"), depends);
        assert_eq!(placed.find(name("plain")).unwrap().root, here);
        assert_eq!(placed.find(name("gone")), None);
        assert_eq!(placed.find(name("depends")), None);
    }

    #[test]
    fn forgets_the_oldest() {
        let here = std::env::temp_dir();
        let mut placed = Placed::default();
        for number in 0..=PLACED_MAX {
            placed.note(name(&number.to_string()), tree(here.clone()));
        }
        assert_eq!(placed.find(name("0")), None);
        assert!(placed.find(name("1")).is_some());
    }
}
