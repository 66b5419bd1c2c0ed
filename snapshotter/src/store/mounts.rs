//! The mounts of a snapshot, option for option as containerd's overlayfs snapshotter gives them.
//!
//! Nothing is mounted here: containerd or its client does that.

use std::path::Path;

use super::catalog::Opened;
use super::error::{Result, StoreError};
use super::layout::{Layout, Owner};
use super::snapshot::{Kind, Labels, Mount};

/// What all overlay mounts of a store have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountRules {
    /// Options after `lowerdir`: the configured ones, then `userxattr`, then `index=off`.
    overlay_options: Vec<String>,
    /// Whether the id-mapping labels become mount options.
    remap_ids: bool,
}

impl MountRules {
    /// The rules for this kernel and user namespace.
    pub(super) fn detect(root: &Path, configured: &[String], remap_ids: bool) -> Self {
        // As containerd decides it: a tmpfs may lack user.* attributes.
        let userxattr = in_user_namespace() && !on_tmpfs(root);
        Self::new(
            configured,
            remap_ids,
            userxattr,
            Path::new(INDEX_PARAMETER).exists(),
        )
    }

    pub(super) fn new(
        configured: &[String],
        remap_ids: bool,
        userxattr: bool,
        index_known: bool,
    ) -> Self {
        let mut overlay_options = configured.to_vec();
        if userxattr && !has_option(configured, "userxattr") {
            overlay_options.push("userxattr".to_owned());
        }
        if index_known && !has_option(configured, "index") {
            overlay_options.push("index=off".to_owned());
        }
        Self {
            overlay_options,
            remap_ids,
        }
    }

    /// The mounts of `opened`: a bind when one directory is all there is, else one overlay.
    pub(super) fn mounts(&self, layout: &Layout, opened: &Opened) -> Vec<Mount> {
        let mapping = self.mapping_options(&opened.labels);
        let read_only = opened.kind == Kind::View;
        let mount = match (opened.parent_ids.as_slice(), read_only) {
            ([], _) => bind(&layout.upper(opened.id), read_only, mapping),
            ([parent], true) => bind(&layout.upper(*parent), true, mapping),
            (parents, _) => {
                let lowers: Vec<String> =
                    parents.iter().map(|&id| text(&layout.upper(id))).collect();
                self.overlay(layout, opened, &lowers.join(":"), mapping)
            }
        };
        vec![mount]
    }

    /// An overlay even where [`Self::mounts`] would answer a bind: an active snapshot without parent gets an empty lower layer.
    ///
    /// Into a bind containerd applies a layer's whiteouts as removals; only with an upper directory it keeps them as whiteouts.
    pub(super) fn mounts_with_upper(&self, layout: &Layout, opened: &Opened) -> Vec<Mount> {
        if opened.kind == Kind::Active && opened.parent_ids.is_empty() {
            let mapping = self.mapping_options(&opened.labels);
            return vec![self.overlay(layout, opened, &text(&layout.empty()), mapping)];
        }
        self.mounts(layout, opened)
    }

    fn overlay(
        &self,
        layout: &Layout,
        opened: &Opened,
        lowers: &str,
        mut options: Vec<String>,
    ) -> Mount {
        if opened.kind == Kind::Active {
            options.push(format!("workdir={}", text(&layout.work(opened.id))));
            options.push(format!("upperdir={}", text(&layout.upper(opened.id))));
        }
        options.push(format!("lowerdir={lowers}"));
        options.extend(self.overlay_options.iter().cloned());
        Mount {
            kind: "overlay",
            source: "overlay".to_owned(),
            options,
        }
    }

    fn mapping_options(&self, labels: &Labels) -> Vec<String> {
        if !self.remap_ids {
            return Vec::new();
        }
        let option =
            |name: &str, label: &str| labels.get(label).map(|value| format!("{name}={value}"));
        [
            option("uidmap", UID_MAPPING_LABEL),
            option("gidmap", GID_MAPPING_LABEL),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The host's user and group to which the id-mapping labels map the container's root; none without both labels.
///
/// A label is a comma list of `container:host:length`.
///
/// # Errors
/// `InvalidArgument` if a label cannot be read or maps no root.
pub(super) fn mapped_root(labels: &Labels) -> Result<Option<Owner>> {
    let mapping = |label: &str| labels.get(label).filter(|value| !value.is_empty());
    let (Some(uids), Some(gids)) = (mapping(UID_MAPPING_LABEL), mapping(GID_MAPPING_LABEL)) else {
        return Ok(None);
    };
    Ok(Some(Owner {
        uid: host_of_root(uids)?,
        gid: host_of_root(gids)?,
    }))
}

fn host_of_root(mapping: &str) -> Result<u32> {
    let invalid =
        |reason: &str| StoreError::InvalidArgument(format!("id mapping {mapping:?} {reason}"));
    let mut root = None;
    for range in mapping.split(',') {
        let numbers: Option<Vec<u32>> =
            range.split(':').map(|number| number.parse().ok()).collect();
        let Some(&[container, host, length]) = numbers.as_deref() else {
            return Err(invalid("is not a list of container:host:length"));
        };
        if container == 0 && length > 0 {
            root.get_or_insert(host);
        }
    }
    root.ok_or_else(|| invalid("maps no root"))
}

fn bind(source: &Path, read_only: bool, mut options: Vec<String>) -> Mount {
    options.push(if read_only { "ro" } else { "rw" }.to_owned());
    options.push("rbind".to_owned());
    Mount {
        kind: "bind",
        source: text(source),
        options,
    }
}

fn has_option(options: &[String], name: &str) -> bool {
    let is_named = |option: &String| {
        option
            .split_once('=')
            .map_or(option.as_str(), |(key, _)| key)
            == name
    };
    options.iter().any(is_named)
}

/// A full map of ids is what only the initial namespace has.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    !map.is_empty() && numbers != ["0", "0", "4294967295"]
}

fn on_tmpfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|statistics| statistics.f_type == TMPFS_MAGIC)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
const INDEX_PARAMETER: &str = "/sys/module/overlay/parameters/index";
const UID_MAPPING_LABEL: &str = "containerd.io/snapshot/uidmapping";
const GID_MAPPING_LABEL: &str = "containerd.io/snapshot/gidmapping";
