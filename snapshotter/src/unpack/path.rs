//! Names of tar entries, cleaned as Go's `filepath.Clean` does and clamped to the layer's root.

use std::fmt;

/// A path inside a layer: relative, at least one component, none of them empty, `.` or `..`.
///
/// The bytes are kept as they are; they need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Cleans an entry's name: `..` takes back one component, lexically, and stops at the root.
    ///
    /// `None` if the name is the root itself, which containerd ignores.
    pub fn clean(name: &[u8]) -> Option<Self> {
        let mut path: Vec<u8> = Vec::with_capacity(name.len());
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
                _ => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        (!path.is_empty()).then_some(Self(path))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory's path, empty for the root, and the last component.
    pub fn split(&self) -> (&[u8], &[u8]) {
        split(&self.0)
    }

    /// The path of a sibling named `leaf`.
    pub(super) fn sibling(&self, leaf: &[u8]) -> Self {
        Self(join(self.split().0, leaf))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

/// The directory's path, empty for the root, and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `directory/leaf`, or `leaf` in the root.
pub(super) fn join(directory: &[u8], leaf: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + leaf.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(leaf);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_go_does_and_clamps_to_the_root() {
        let cases: [(&[u8], Option<&[u8]>); 16] = [
            (b"a", Some(b"a")),
            (b"./a", Some(b"a")),
            (b"/a", Some(b"a")),
            (b"a//b/", Some(b"a/b")),
            (b"a/./b", Some(b"a/b")),
            (b"a/../b", Some(b"b")),
            (b"../../a", Some(b"a")),
            (b"a/b/../../../c", Some(b"c")),
            (b"a\xff/b", Some(b"a\xff/b")),
            (b"...", Some(b"...")),
            (b"", None),
            (b".", None),
            (b"./", None),
            (b"/", None),
            (b"..", None),
            (b"a/..", None),
        ];
        for (name, expected) in cases {
            let cleaned = LayerPath::clean(name);
            assert_eq!(
                cleaned.as_ref().map(LayerPath::as_bytes),
                expected,
                "{name:?}"
            );
        }
    }

    #[test]
    fn splits_and_joins() {
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a/b", b"c"), b"a/b/c");
    }
}
