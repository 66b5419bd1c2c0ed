//! Random layers against containerd's own applier, built from its Go source where Debian's package has it.
//!
//! What may differ is listed in [`allowed`] and [`normal`]; each item is a row of the decisions.

use std::path::Path;

use parapull_snapshotter::unpack::{FixError, Position, UnpackError};
use proptest::prelude::*;

use super::applier::Applier;
use super::archive::{GNU, Member, V7, archive, dir, file, hardlink, record, symlink};
use super::lane::{Layer, at, is_root, place};
use super::linking::acl;
use super::tree::{Node, Tree};

fn component() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 4 => Just("b"), 3 => Just("c"), 1 => Just(".."), 1 => Just(".")]
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(component(), 1..4).prop_map(|components| components.join("/"))
}

/// Without `..`: containerd takes it back lexically behind two symlinks in a row, the kernel and we do not (row 13).
fn target() -> impl Strategy<Value = String> {
    let names = proptest::collection::vec(component(), 1..4);
    (any::<bool>(), names).prop_map(|(is_absolute, names)| {
        let names: Vec<&str> = names
            .into_iter()
            .map(|name| if name == ".." { "a" } else { name })
            .collect();
        format!("{}{}", if is_absolute { "/" } else { "" }, names.join("/"))
    })
}

fn member() -> impl Strategy<Value = Member> {
    let kind = prop_oneof![
        5 => name().prop_map(dir),
        6 => (name(), 0..3000_usize).prop_map(|(name, bytes)| file(name, vec![b'x'; bytes])),
        3 => (name(), target()).prop_map(|(name, target)| symlink(name, target)),
        2 => (name(), target()).prop_map(|(name, target)| hardlink(name, target)),
        1 => name().prop_map(|name| Member::new(b'6', name)),
        2 => (name(), component()).prop_map(|(name, hidden)| Member::new(b'0', format!("{name}/.wh.{hidden}"))),
        1 => component().prop_map(|hidden| Member::new(b'0', format!(".wh.{hidden}"))),
        2 => name().prop_map(|name| Member::new(b'0', format!("{name}/.wh..wh..opq"))),
    ];
    let attributes = (0..0o10000_u64, 0..5_u64, 0..5_u64, 1..1000_u64, 0..4_u8);
    (kind, attributes).prop_map(|(member, (mode, uid, gid, mtime, xattr))| {
        let member = member.mode(mode).owner(uid, gid).mtime(mtime);
        match xattr {
            0 => member.xattr("user.a", "1"),
            1 => member.xattr("user.b", "2"),
            2 if member.directory_name().is_some() => {
                member.xattr("system.posix_acl_default", acl())
            }
            _ => member,
        }
    })
}

fn layer() -> impl Strategy<Value = Vec<Member>> {
    proptest::collection::vec(member(), 1..14)
}

/// What containerd refuses and we accept: a whiteout beside its target, a directory implied over a whiteout (rows 2
/// to 4), times of a directory that a dangling symlink replaced (row 9), a circle of symlinks in a lower layer.
fn allowed(refusal: &str) -> bool {
    let whiteout_beside_target =
        refusal.contains("convert whiteout") && refusal.contains("file exists");
    let others = [
        "not a directory",
        "UtimesNanoAt",
        "too many links",
        "too many levels",
    ];
    whiteout_beside_target || others.iter().any(|other| refusal.contains(other))
}

/// A tree without what differs on purpose.
fn normal(tree: &Tree, theirs: &Tree, with_times: bool) -> Vec<(Vec<u8>, Node)> {
    let nodes = tree
        .0
        .iter()
        .map(|(path, node)| (path.clone(), node.clone()));
    nodes
        .map(|(path, mut node)| {
            let their = theirs.0.get(&path);
            // Whiteouts and implied directories have the time of the unpacking there (row 8).
            let is_recent = their.is_some_and(|their| their.mtime.0 > 1_000_000_000);
            if is_recent || !with_times {
                node.mtime = (0, 0);
            }
            // A directory over its own whiteout is opaque here (row 3).
            if their.is_some_and(|their| their.kind == 'd' && !their.is_opaque()) {
                node.xattrs.remove(&b"trusted.overlay.opaque"[..]);
            }
            (path, node)
        })
        .collect()
}

/// Whether directory times mean the same on both sides: there they are set by name, in the end (row 9).
fn times_compare(tar_directories: &[Member], tree: &Tree) -> bool {
    tar_directories.iter().all(|member| {
        let Some(name) = member.directory_name() else {
            return true;
        };
        let Some(path) = parapull_snapshotter::unpack::LayerPath::clean(name) else {
            return true;
        };
        tree.0
            .get(path.as_bytes())
            .is_some_and(|node| node.kind == 'd')
    })
}

fn compare(
    case: &str,
    members: &[Member],
    ours: Result<Layer, UnpackError>,
    theirs: (Result<(), String>, &Path),
) -> Result<Option<Layer>, TestCaseError> {
    match (ours, theirs) {
        (Ok(layer), (Ok(()), root)) => {
            let (our_tree, their_tree) = (layer.tree(), Tree::read(root));
            // A whiteout of a bottom layer takes a directory away, whose time would go to one that comes to be implied.
            let deletes = case == "bottom" && members.iter().any(Member::is_whiteout);
            let with_times = !deletes && times_compare(members, &our_tree);
            let ours = normal(&our_tree, &their_tree, with_times);
            prop_assert_eq!(
                ours,
                normal(&their_tree, &their_tree, with_times),
                "{}",
                case
            );
            Ok(Some(layer))
        }
        (Ok(_), (Err(refusal), _)) => {
            prop_assert!(
                allowed(&refusal),
                "{case}: accepted, but containerd says {refusal}"
            );
            Ok(None)
        }
        (Err(error), (Ok(()), root)) => {
            prop_assert!(
                false,
                "{case}: refused with {error}, but containerd makes {:?}",
                Tree::read(root)
            );
            Ok(None)
        }
        (Err(_), (Err(_), _)) => Ok(None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 5000, ..ProptestConfig::default() })]

    #[test]
    fn random_layers_are_as_containerd_unpacks_them(lower in layer(), upper in layer()) {
        if !is_root("random_layers_are_as_containerd_unpacks_them") {
            return Ok(());
        }
        let Some(applier) = Applier::get() else {
            return Ok(());
        };
        let place = place();
        let (lower_root, upper_root) = (place.path().join("lower"), place.path().join("upper"));
        let tar = archive(lower.clone());
        let theirs = applier.apply(&tar, &lower_root, &[]);
        let compared = compare("bottom", &lower, at(&tar, Position::Bottom), (theirs, &lower_root))?;
        let Some(bottom) = compared else {
            return Ok(());
        };
        let tar = archive(upper.clone());
        let lowers = [bottom.root()];
        let theirs = applier.apply(&tar, &upper_root, &lowers);
        let mut needs_parents = false;
        let fixed = at(&tar, Position::Upper).inspect(|layer| match layer.staged.fix_implied(&lowers) {
            Ok(()) => {}
            Err(FixError::NeedsParents { .. }) => needs_parents = true,
            Err(error) => panic!("{error}"),
        });
        if !needs_parents {
            compare("upper", &upper, fixed, (theirs.clone(), &upper_root))?;
        }
        let over = at(&tar, Position::Over(lowers.to_vec()));
        compare("over", &upper, over, (theirs, &upper_root))?;
    }
}

/// Members that use every dialect.
fn varied() -> Vec<Member> {
    let long = |typeflag, text: &str| {
        Member::new(typeflag, "long")
            .magic(GNU)
            .data(format!("{text}\0"))
    };
    let sparse = Member::new(b'0', "GNUSparseFile/s")
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.name", "s")
        .pax("GNU.sparse.realsize", "3000")
        .data([&b"2\n100\n10\n2000\n20\n"[..], &[0; 494], &[b'x'; 30]].concat());
    vec![
        dir("d/").mtime(5),
        file("d/f", "data")
            .mtime(6)
            .pax("mtime", "6.5")
            .pax("uid", "7")
            .xattr("user.a", "b"),
        long(b'L', "d/long-name"),
        file("cut", "more").magic(GNU).patch(345, "00000000011\0"),
        symlink("l", "d/f").magic(V7),
        hardlink("d/h", "d/f").owner(1, 2),
        Member::new(b'g', "global").data(record(b"comment", b"any")),
        sparse,
        Member::new(b'3', "c").device(1, 3),
        file("prefixed", "x").patch(345, "d/p"),
    ]
}

/// Overwrites bytes and makes the checksums of the header blocks right again.
fn mutated(mutations: &[(usize, u8)]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut headers = Vec::new();
    for member in varied() {
        let bytes = member.bytes();
        let (header, data) = member.parts();
        let end = tar.len() + bytes.len() - data;
        headers.push(end - header..end);
        tar.extend(bytes);
    }
    tar.extend([0; 1024]);
    for (offset, byte) in mutations {
        let offset = offset % tar.len();
        tar[offset] = *byte;
    }
    for header in headers {
        let block = &mut tar[header];
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    tar
}

/// What containerd takes and we refuse, or the other way round: numbers that it cuts (row 11) and types that it does
/// not know (row 17).
fn differs_on_purpose(ours: &Result<Layer, UnpackError>, theirs: &Result<(), String>) -> bool {
    match (ours, theirs) {
        (Err(error), Ok(())) => {
            let text = error.to_string();
            text.contains("cannot be set") || text.contains("cannot be made")
        }
        (Ok(_), Err(refusal)) => refusal.contains("unhandled tar header type") || allowed(refusal),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_archives_are_as_containerd_unpacks_them(
        mutations in proptest::collection::vec((any::<usize>(), prop_oneof![Just(0), 48..58_u8, 97..123_u8, any::<u8>()]), 1..4),
    ) {
        if !is_root("mutated_archives_are_as_containerd_unpacks_them") {
            return Ok(());
        }
        let Some(applier) = Applier::get() else {
            return Ok(());
        };
        let tar = mutated(&mutations);
        let place = place();
        let root = place.path().join("theirs");
        let theirs = applier.apply(&tar, &root, &[]);
        let ours = at(&tar, Position::Bottom);
        if !differs_on_purpose(&ours, &theirs) {
            compare("bottom", &[], ours, (theirs, &root))?;
        }
    }
}

/// More with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(40)
}
