//! Two trees told apart in words a person can act on.

use std::fmt;

use parapull_snapshotter::digest::Digest;

use super::{Entry, Kind, Tree};

/// One way in which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path, absolute within the tree.
    pub path: String,
    /// What differs, left ≠ right.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Lists every difference in byte order of paths; empty when the trees are equal.
pub fn diff(left: &Tree, right: &Tree) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (path, entry) in &left.entries {
        match right.entries.get(path) {
            Some(other) => compare(path, entry, other, &mut differences),
            None => differences.push(difference(
                path,
                format!("{} only on the left", entry.kind.name()),
            )),
        }
    }
    for (path, entry) in &right.entries {
        if !left.entries.contains_key(path) {
            differences.push(difference(
                path,
                format!("{} only on the right", entry.kind.name()),
            ));
        }
    }
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    differences
}

fn compare(path: &[u8], left: &Entry, right: &Entry, differences: &mut Vec<Difference>) {
    if left.kind != right.kind {
        let what = format!("{} ≠ {}", left.kind.name(), right.kind.name());
        differences.push(difference(path, what));
        return;
    }
    let mut say = |what: String| differences.push(difference(path, what));
    // A symbolic link's mode is 0777 everywhere; some kernels show another, which nobody can set.
    if left.kind != Kind::Symlink && left.mode != right.mode {
        say(format!("mode {:04o} ≠ {:04o}", left.mode, right.mode));
    }
    for (name, left, right) in [("uid", left.uid, right.uid), ("gid", left.gid, right.gid)] {
        if left != right {
            say(format!("{name} {left} ≠ {right}"));
        }
    }
    if left.mtime_ns != right.mtime_ns {
        say(format!(
            "mtime {} ≠ {}",
            time(left.mtime_ns),
            time(right.mtime_ns)
        ));
    }
    if left.size != right.size {
        say(format!("size {} ≠ {}", left.size, right.size));
    } else if left.content != right.content {
        say(format!("content {} ≠ {}", content(left), content(right)));
    }
    if left.rdev != right.rdev {
        say(format!(
            "device {}:{} ≠ {}:{}",
            left.rdev.0, left.rdev.1, right.rdev.0, right.rdev.1
        ));
    }
    if left.link_target != right.link_target {
        say(format!(
            "target {} ≠ {}",
            text(&left.link_target),
            text(&right.link_target)
        ));
    }
    if left.hard_link != right.hard_link {
        say(format!("hard link {} ≠ {}", group(left), group(right)));
    }
    compare_xattrs(left, right, &mut say);
}

fn compare_xattrs(left: &Entry, right: &Entry, say: &mut dyn FnMut(String)) {
    for (name, value) in &left.xattrs {
        match right.xattrs.get(name) {
            None => say(format!("xattr {} only on the left", text(name))),
            Some(other) if other != value => {
                say(format!(
                    "xattr {} {} ≠ {}",
                    text(name),
                    text(value),
                    text(other)
                ));
            }
            Some(_) => {}
        }
    }
    for name in right.xattrs.keys() {
        if !left.xattrs.contains_key(name) {
            say(format!("xattr {} only on the right", text(name)));
        }
    }
}

fn difference(path: &[u8], what: String) -> Difference {
    Difference {
        path: format!("/{}", text(path)),
        what,
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn time(ns: Option<i128>) -> String {
    ns.map_or_else(
        || "not counted".into(),
        |ns| {
            format!(
                "{}.{:09}",
                ns.div_euclid(1_000_000_000),
                ns.rem_euclid(1_000_000_000)
            )
        },
    )
}

fn content(entry: &Entry) -> String {
    entry.content.as_ref().map_or_else(|| "none".into(), short)
}

/// The first twelve hex digits, as digests are shown everywhere.
fn short(sha256: &[u8; 32]) -> String {
    Digest::from_bytes(*sha256).short()
}

fn group(entry: &Entry) -> String {
    entry
        .hard_link
        .as_ref()
        .map_or_else(|| "none".into(), |first| format!("/{}", text(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            kind: Kind::Regular,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime_ns: Some(1),
            size: 0,
            rdev: (0, 0),
            link_target: Vec::new(),
            xattrs: [].into(),
            hard_link: None,
            content: None,
        }
    }

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let entries = entries.iter();
        Tree {
            entries: entries
                .map(|(path, entry)| (path.as_bytes().to_vec(), entry.clone()))
                .collect(),
        }
    }

    #[test]
    fn names_the_path_and_both_sides() {
        let base = entry();
        let changed = Entry {
            mode: 0o4755,
            mtime_ns: Some(1_500_000_000),
            content: Some([0xab; 32]),
            xattrs: [(b"user.a".to_vec(), b"1".to_vec())].into(),
            ..base.clone()
        };
        let left = tree(&[
            ("usr/bin/x", base.clone()),
            ("only", base.clone()),
            ("same", base.clone()),
        ]);
        let right = tree(&[("usr/bin/x", changed), ("same", base)]);
        let lines: Vec<String> = diff(&left, &right)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "/only: file only on the left",
                "/usr/bin/x: mode 0755 ≠ 4755",
                "/usr/bin/x: mtime 0.000000001 ≠ 1.500000000",
                "/usr/bin/x: content none ≠ abababababab",
                "/usr/bin/x: xattr user.a only on the right",
            ]
        );
        assert!(diff(&left, &left).is_empty());
    }
}
