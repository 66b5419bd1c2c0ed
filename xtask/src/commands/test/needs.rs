//! What groups of tests need of the machine.

use crate::packages::{is_root, missing};

/// Everything the tests use, as Debian calls it.
pub(super) const PACKAGES: &[&str] = &[
    "acl",
    "attr",
    "busybox-static",
    "containerd",
    "docker-registry",
    "e2fsprogs",
    "golang-github-containerd-containerd-dev",
    "golang-go",
    "isal",
    "librsvg2-bin",
    "pigz",
    "python3",
    "runc",
    "skopeo",
    "strace",
    "umoci",
    "zstd",
];

/// A group of tests that cannot run here.
#[derive(Debug)]
pub(super) struct Need {
    /// What the tests prove.
    pub(super) group: &'static str,
    missing: Vec<&'static str>,
    is_without_root: bool,
}

impl Need {
    /// Why it cannot run, in words.
    pub(super) fn why(&self) -> String {
        let mut reasons = Vec::new();
        if self.is_without_root {
            reasons.push("needs root".to_owned());
        }
        if !self.missing.is_empty() {
            reasons.push(format!("not installed: {}", self.missing.join(", ")));
        }
        reasons.join("; ")
    }
}

/// The groups that cannot run here.
pub(super) fn unmet() -> Vec<Need> {
    let is_root = is_root();
    GROUPS
        .iter()
        .map(|group| Need {
            group: group.name,
            missing: missing(group.packages),
            is_without_root: group.needs_root && !is_root,
        })
        .filter(|need| need.is_without_root || !need.missing.is_empty())
        .collect()
}

struct Group {
    name: &'static str,
    needs_root: bool,
    packages: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        name: "owners, devices, trusted attributes and mounts",
        needs_root: true,
        packages: &["attr", "acl", "strace", "umoci", "zstd"],
    },
    Group {
        name: "pulls and containers with a real containerd",
        needs_root: true,
        packages: &["containerd", "runc", "busybox-static", "pigz", "isal"],
    },
    Group {
        name: "a real registry",
        needs_root: false,
        packages: &["docker-registry", "skopeo", "umoci"],
    },
    Group {
        name: "containerd's own conformance suite and layer application",
        needs_root: true,
        packages: &["golang-github-containerd-containerd-dev", "golang-go"],
    },
    Group {
        name: "inflating what Go and zlib's strategies compress, unpacking onto file systems made for it",
        needs_root: true,
        packages: &["golang-go", "python3", "e2fsprogs", "isal", "pigz"],
    },
    Group {
        name: "indexes of layers, read by another reader",
        needs_root: false,
        packages: &["python3"],
    },
    Group {
        name: "pictures as PNG",
        needs_root: false,
        packages: &["librsvg2-bin"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_needs_is_installed() {
        for group in GROUPS {
            for package in group.packages {
                assert!(PACKAGES.contains(package), "{package}");
            }
        }
        for package in PACKAGES {
            assert!(
                GROUPS.iter().any(|group| group.packages.contains(package)),
                "{package}"
            );
        }
    }

    #[test]
    fn a_reason_names_root_and_packages() {
        let need = Need {
            group: "a",
            missing: vec!["runc", "containerd"],
            is_without_root: true,
        };
        assert_eq!(need.why(), "needs root; not installed: runc, containerd");
    }
}
