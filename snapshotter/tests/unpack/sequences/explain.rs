//! Explaining what differs from containerd by the list of differences; what it does not explain is a defect.

use std::collections::BTreeSet;
use std::path::Path;

use parapull_snapshotter::unpack::{Difference, LayerPath, UnpackError};

use super::super::archive::Member;
use super::super::tree::{Node, Tree};
use super::generate::Plan;
use super::paths::starts;

/// What a comparison met.
pub type Met = BTreeSet<Difference>;

/// One inode's times of modification, ours and theirs.
pub type Times = ((i64, i64), (i64, i64));

/// Judges one layer's tree against containerd's. `started_s` is when the comparison began: no entry has such a time.
/// `below` are the times, ours and theirs, that differ in the layers below; this layer's are added.
pub fn trees(
    plan: &Plan,
    ours: &Tree,
    theirs: &Tree,
    started_s: i64,
    below: &mut BTreeSet<Times>,
) -> Result<Met, String> {
    let mut met = Met::new();
    let mut differing = BTreeSet::new();
    let paths: BTreeSet<&Vec<u8>> = ours.0.keys().chain(theirs.0.keys()).collect();
    for path in paths {
        let shown = String::from_utf8_lossy(path);
        let (Some(our), Some(their)) = (ours.0.get(path), theirs.0.get(path)) else {
            let (our, their) = (ours.0.get(path), theirs.0.get(path));
            return Err(format!("{shown:?}: ours {our:?}, containerd's {their:?}"));
        };
        if our == their {
            continue;
        }
        let explained = nodes(plan, ours, path, (our, their), (started_s, below), &mut met);
        if our.mtime != their.mtime {
            differing.insert((our.mtime, their.mtime));
        }
        if !explained {
            return Err(format!(
                "{shown:?}:\n  ours         {our:?}\n  containerd's {their:?}"
            ));
        }
    }
    below.extend(differing);
    Ok(met)
}

fn nodes(
    plan: &Plan,
    ours: &Tree,
    path: &[u8],
    (our, their): (&Node, &Node),
    (started_s, below): (i64, &BTreeSet<Times>),
    met: &mut Met,
) -> bool {
    let mut our = our.clone();
    if our.is_opaque() && !their.is_opaque() && our.kind == 'd' && has_whiteout_named(plan, path) {
        our.xattrs.remove(&b"trusted.overlay.opaque"[..]);
        met.insert(Difference::DirectoryOverItsWhiteout);
    }
    if our.mtime != their.mtime {
        let is_recent = their.mtime.0 >= started_s;
        let difference = match our.kind {
            'c' if our.is_whiteout() && is_recent => Difference::WhiteoutTime,
            'd' if is_recent && !is_listed(plan, path) => Difference::ImpliedDirectoryTime,
            // What it takes from below may differ there already.
            'd' if !is_listed(plan, path) && below.contains(&(our.mtime, their.mtime)) => {
                Difference::ImpliedDirectoryTime
            }
            _ if replaces_directories(plan, ours) && has_directory_time(plan, their.mtime) => {
                Difference::ReplacedDirectoryTime
            }
            // A directory that is implied again after it was replaced.
            'd' if is_recent && replaces_directories(plan, ours) => {
                Difference::ImpliedDirectoryTime
            }
            _ => return false,
        };
        met.insert(difference);
        our.mtime = their.mtime;
    }
    our == *their
}

/// Why containerd, unpacking into `root`, may refuse a layer that is accepted here.
pub fn their_refusal(
    plan: &Plan,
    ours: &Tree,
    (root, is_bottom): (&Path, bool),
    refusal: &str,
) -> Option<Difference> {
    let has = |test: fn(&Member) -> bool| plan.members().any(test);
    let has_whiteout = has(Member::is_whiteout);
    if refusal.contains("convert whiteout") && refusal.contains("file exists") && has_whiteout {
        return Some(Difference::WhiteoutBesideTarget);
    }
    let is_in_the_way = ["not a directory", "too many l", "file name too long"]
        .iter()
        .any(|way| refusal.contains(way));
    let is_own = refusal.contains(&format!("{}/", root.display()));
    let makes_parents = refusal.starts_with("mkparent ") || refusal.contains("get root path");
    if is_in_the_way && makes_parents && is_own && has_whiteout {
        return Some(Difference::DirectoryOverItsWhiteout);
    }
    // Times are set in the end, by name; what was a directory then may not even have a parent.
    let sets_times = is_own && refusal.starts_with("lstat ")
        || refusal.contains("UtimesNanoAt")
        || refusal == "too many links";
    let is_gone = is_in_the_way || refusal.contains("no such file or directory");
    if sets_times && is_gone && replaces_directories(plan, ours) {
        return Some(Difference::ReplacedDirectoryTime);
    }
    if is_in_the_way && !is_bottom {
        return Some(Difference::LowerFileInTheWay);
    }
    let is_old = |member: &Member| matches!(member.typeflag(), b'S' | b'7');
    if refusal.contains("unhandled tar header type") && has(is_old) {
        return Some(Difference::OldFileType);
    }
    None
}

/// Why a layer that containerd accepts may be refused here.
pub fn our_refusal(error: &UnpackError) -> Option<Difference> {
    let text = error.to_string();
    if text.contains("owner or group") || text.contains("cannot be made") {
        return Some(Difference::CutNumber);
    }
    if text.contains("a symlink with a slash behind it") {
        return Some(Difference::HardLinkTargetSlash);
    }
    None
}

/// Whether the layer has a whiteout whose name ends as the path does; symlinks may lead to it.
fn has_whiteout_named(plan: &Plan, path: &[u8]) -> bool {
    let leaf = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let marker = [b".wh.", leaf].concat();
    plan.members().any(|member| {
        member.data_or_name_contains(&marker) || (member.is_device() && member.typeflag() == b'3')
    })
}

/// Whether an entry of the layer describes a directory by this very path.
fn is_listed(plan: &Plan, path: &[u8]) -> bool {
    directories(plan).any(|listed| listed == path)
}

fn directories(plan: &Plan) -> impl Iterator<Item = Vec<u8>> {
    plan.entries.iter().filter_map(|entry| {
        let last = entry.last()?;
        last.directory_name()?;
        let name = Member::effective_name(entry);
        LayerPath::clean(&name).map(|path| path.as_bytes().to_vec())
    })
}

/// Whether a path that a directory entry names is, or was meanwhile, no directory: its time may be anywhere.
fn replaces_directories(plan: &Plan, ours: &Tree) -> bool {
    let is_replaced = |directory: &[u8]| {
        plan.entries.iter().any(|entry| {
            let is_other = entry
                .last()
                .is_some_and(|last| last.directory_name().is_none());
            let name = Member::effective_name(entry);
            let path = LayerPath::clean(&name).filter(|_| is_other);
            path.is_some_and(|path| starts(directory, path.as_bytes()))
        })
    };
    let is_gone = |path: &[u8]| ours.0.get(path).is_none_or(|node| node.kind != 'd');
    plan.members().any(Member::is_whiteout)
        || directories(plan).any(|path| is_gone(&path) || is_replaced(&path))
}

fn has_directory_time(plan: &Plan, mtime: (i64, i64)) -> bool {
    plan.entries.iter().any(|entry| {
        entry
            .last()
            .is_some_and(|last| last.directory_name().is_some() && last.may_have_time(mtime))
    })
}
