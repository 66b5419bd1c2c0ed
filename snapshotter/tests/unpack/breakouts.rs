//! The families of containerd's `TestBreakouts`: archives that try to leave the layer, or a name that it made.
//!
//! Where containerd's test begins with files that an earlier step made, they are members of the archive here: a layer
//! begins empty.

use parapull_snapshotter::unpack::Position;

use super::archive::{Member, archive, dir, file, hardlink, symlink};
use super::lane::{at, is_root, run, spec};
use super::tree::Tree;
use super::whiteouts::whiteout;

/// What must hold of the tree.
enum Expected {
    /// The file has this content.
    Content(&'static str, &'static str),
    /// Both are one inode.
    Same(&'static str, &'static str),
    NotSame(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    Absent(&'static str),
    Refused,
}

use Expected::{Absent, Content, NotSame, Refused, Same, Symlink};

fn passwd() -> [Member; 2] {
    [dir("etc").mode(0o770), file("/etc/passwd", "inside")]
}

fn with_passwd(members: impl IntoIterator<Item = Member>) -> Vec<Member> {
    passwd().into_iter().chain(members).collect()
}

type Case = (&'static str, Vec<Member>, Vec<Expected>);

fn symlink_cases() -> Vec<Case> {
    let etc = || [dir("etc"), dir("dummy")];
    let unbroken = |name: &str| file(name, "unbroken");
    let held = || vec![Content("etc/unbroken", "unbroken")];
    let with_etc = |members: Vec<Member>| etc().into_iter().chain(members).collect::<Vec<_>>();
    vec![
        (
            "SymlinkAbsolute",
            with_etc(vec![
                symlink("localetc", "/etc"),
                unbroken("/localetc/unbroken"),
            ]),
            held(),
        ),
        (
            "SymlinkUpAndOut",
            with_etc(vec![
                symlink("localetc", "/dummy/../etc"),
                unbroken("/localetc/unbroken"),
            ]),
            held(),
        ),
        (
            "SymlinkMultipleAbsolute",
            with_etc(vec![
                symlink("/dummy/etc", "/etc"),
                symlink("localetc", "/dummy/etc"),
                unbroken("/dummy/etc/unbroken"),
            ]),
            held(),
        ),
        (
            "SymlinkMultipleRelative",
            with_etc(vec![
                symlink("/dummy/etc", "/etc"),
                symlink("localetc", "./dummy/etc"),
                unbroken("/dummy/etc/unbroken"),
            ]),
            held(),
        ),
        (
            "SymlinkEmptyFile",
            vec![
                dir("etc"),
                file("etc/emptied", "notempty"),
                symlink("localetc", "/etc"),
                file("/localetc/emptied", ""),
            ],
            vec![Content("etc/emptied", "")],
        ),
        (
            "SymlinkParentDirectory",
            with_passwd([
                symlink("..", "/etc/"),
                hardlink("localpasswd", "/etc/passwd"),
            ]),
            vec![Same("localpasswd", "etc/passwd")],
        ),
        (
            "SymlinkEmptyFilename",
            with_passwd([symlink("", "/etc/"), hardlink("localpasswd", "/etc/passwd")]),
            vec![Same("localpasswd", "etc/passwd")],
        ),
        (
            "SymlinkParentRelative",
            with_passwd([
                symlink("localetc/sub/..", "/etc/"),
                hardlink("/localetc/localpasswd", "/etc/passwd"),
            ]),
            vec![
                Symlink("localetc", "/etc/"),
                Same("etc/localpasswd", "etc/passwd"),
            ],
        ),
        (
            "SymlinkSlashEnded",
            with_passwd([
                dir("localetc/"),
                hardlink("/localetc/localpasswd", "/etc/passwd"),
            ]),
            vec![Same("localetc/localpasswd", "etc/passwd")],
        ),
        (
            "SymlinkOverrideDirectory",
            with_passwd([
                dir("localetc"),
                symlink("localetc", "/etc"),
                hardlink("/localetc/localpasswd", "/etc/passwd"),
            ]),
            vec![Same("etc/localpasswd", "etc/passwd")],
        ),
        (
            "SymlinkOverrideDirectoryRelative",
            with_passwd([
                dir("localetc"),
                symlink("localetc", "../../etc"),
                hardlink("/localetc/localpasswd", "/etc/passwd"),
            ]),
            vec![Same("etc/localpasswd", "etc/passwd")],
        ),
        (
            "SymlinkOverridePath",
            with_passwd([dir("a/b"), symlink("a", "/etc"), file("a/b/f", "x")]),
            vec![Content("etc/b/f", "x"), Symlink("a", "/etc")],
        ),
        (
            "DirectoryOverrideSymlink",
            with_passwd([
                symlink("localetc", "/etc"),
                dir("/localetc/"),
                hardlink("/localetc/localpasswd", "/etc/passwd"),
            ]),
            vec![
                Same("localetc/localpasswd", "etc/passwd"),
                Absent("etc/localpasswd"),
            ],
        ),
        (
            "DirectoryOverrideSymlinkAndHardlink",
            with_passwd([
                symlink("localetc", "etc"),
                hardlink("/localetc/localpasswd", "/etc/passwd"),
                dir("/localetc/"),
                file("/localetc/localpasswd", "different"),
            ]),
            vec![
                NotSame("localetc/localpasswd", "etc/passwd"),
                Content("etc/localpasswd", "inside"),
            ],
        ),
    ]
}

fn hardlink_cases() -> Vec<Case> {
    let same = || vec![Same("localpasswd", "etc/passwd")];
    vec![
        (
            "HardlinkRelative",
            with_passwd([
                dir("breakouts"),
                symlink("breakouts/d1", "../../etc"),
                hardlink("breakouts/mypasswd", "/breakouts/d1/passwd"),
            ]),
            vec![Same("breakouts/mypasswd", "etc/passwd")],
        ),
        (
            "HardlinkDownAndOut",
            with_passwd([
                dir("breakouts"),
                dir("downandout"),
                symlink("breakouts/d1", "../downandout/../../etc"),
                hardlink("breakouts/mypasswd", "/breakouts/d1/passwd"),
            ]),
            vec![Same("breakouts/mypasswd", "etc/passwd")],
        ),
        (
            "HardlinkAbsolute",
            with_passwd([
                symlink("localetc", "/etc"),
                hardlink("localpasswd", "/localetc/passwd"),
            ]),
            same(),
        ),
        (
            "HardlinkRelativeLong",
            with_passwd([
                symlink("localetc", "../../../../../../../etc"),
                hardlink("localpasswd", "/localetc/passwd"),
            ]),
            same(),
        ),
        (
            "HardlinkRelativeUpAndOut",
            with_passwd([
                symlink("localetc", "upandout/../../../etc"),
                hardlink("localpasswd", "/localetc/passwd"),
            ]),
            same(),
        ),
        (
            "HardlinkDirectRelative",
            with_passwd([hardlink("localpasswd", "../../../../../etc/passwd")]),
            same(),
        ),
        (
            "HardlinkDirectAbsolute",
            with_passwd([hardlink("localpasswd", "/etc/passwd")]),
            same(),
        ),
        (
            "HardlinkSymlinkBeforeCreateTarget",
            vec![
                dir("etc"),
                symlink("localpasswd", "/etc/passwd"),
                hardlink("localpasswd-dup", "localpasswd"),
                file("/etc/passwd", "after"),
            ],
            vec![
                Symlink("localpasswd-dup", "/etc/passwd"),
                Content("etc/passwd", "after"),
            ],
        ),
        (
            "HardlinkSymlinkRelative",
            with_passwd([
                symlink("passwdlink", "../../../../../etc/passwd"),
                hardlink("localpasswd", "/passwdlink"),
            ]),
            vec![
                Symlink("localpasswd", "../../../../../etc/passwd"),
                Same("localpasswd", "passwdlink"),
            ],
        ),
        (
            "HardlinkSymlinkAbsolute",
            with_passwd([
                symlink("passwdlink", "/etc/passwd"),
                hardlink("localpasswd", "/passwdlink"),
            ]),
            vec![
                Symlink("localpasswd", "/etc/passwd"),
                Same("localpasswd", "passwdlink"),
            ],
        ),
    ]
}

fn whiteout_cases() -> Vec<Case> {
    let kept = || Content("etc/passwd", "inside");
    vec![
        (
            "WhiteoutRootParent",
            with_passwd([whiteout(".wh...")]),
            vec![Refused],
        ),
        (
            "WhiteoutParent",
            with_passwd([whiteout("etc/.wh...")]),
            vec![Refused],
        ),
        (
            "WhiteoutRoot",
            with_passwd([whiteout(".wh..")]),
            vec![Refused],
        ),
        (
            "WhiteoutCurrentDirectory",
            with_passwd([whiteout("etc/.wh..")]),
            vec![Refused],
        ),
        (
            "WhiteoutSymlink",
            with_passwd([symlink("localetc", "/etc"), whiteout(".wh.localetc")]),
            vec![kept(), Absent("localetc")],
        ),
        (
            "WhiteoutSymlinkPath",
            with_passwd([
                file("etc/whitedout", "x"),
                symlink("localetc", "/etc"),
                whiteout("localetc/.wh.whitedout"),
            ]),
            vec![kept(), Absent("etc/whitedout")],
        ),
        (
            "WhiteoutDirectoryName",
            with_passwd([
                symlink("localetc", "/etc"),
                file(".wh.etc/somefile", "non-empty"),
            ]),
            vec![kept(), Content(".wh.etc/somefile", "non-empty")],
        ),
        (
            "WhiteoutDeadSymlinkParent",
            with_passwd([symlink("localetc", "/dne"), whiteout("localetc/.wh.etc")]),
            vec![kept()],
        ),
        (
            "WhiteoutRelativePath",
            with_passwd([whiteout("dne/../.wh.etc")]),
            vec![Absent("etc")],
        ),
    ]
}

/// All families but [`CHMOD`], which needs a file outside.
fn cases() -> Vec<Case> {
    [symlink_cases(), hardlink_cases(), whiteout_cases()].concat_all()
}

/// The archives of all families, by name.
pub fn archives() -> Vec<(&'static str, Vec<Member>)> {
    let cases = cases().into_iter();
    cases.map(|(name, members, _)| (name, members)).collect()
}

#[test]
fn all_34_families_are_here() {
    let mut families: Vec<&str> = cases().iter().map(|(name, ..)| *name).collect();
    families.push(CHMOD);
    assert_eq!(families.len(), 34);
    let Ok(source) = std::fs::read_to_string(CONTAINERD_TESTS) else {
        eprintln!(
            "SKIPPED all_34_families_are_here: needs golang-github-containerd-containerd-dev"
        );
        assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
        return;
    };
    let function = source.split("func TestBreakouts").nth(1).unwrap();
    let function = function.split("\nfunc ").next().unwrap();
    let names = function.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("name:")?;
        Some(name.trim().trim_matches(&['"', ','][..]))
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() >= 33, "{names:?}");
    for name in names {
        assert!(families.contains(&name), "{name} is missing");
    }
}

#[test]
fn breakouts_stay_inside() {
    if !is_root("breakouts_stay_inside") {
        return;
    }
    for (name, members, expected) in cases() {
        let outcome = at(&archive(members), Position::Bottom);
        for expected in expected {
            match (&outcome, expected) {
                (Err(_), Refused) => {}
                (Ok(layer), expected) => check(name, &layer.tree(), &layer.root(), &expected),
                (Err(error), _) => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn hardlink_symlink_chmod_leaves_files_outside_alone() {
    if !is_root("hardlink_symlink_chmod_leaves_files_outside_alone") {
        return;
    }
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let place = super::lane::place();
    let outside = place.path().join("outside");
    std::fs::write(&outside, "x").unwrap();
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o400)).unwrap();
    let target = outside.to_str().unwrap();
    let members = [
        symlink("link", target),
        hardlink("sketchy", "link")
            .mode(0o777)
            .owner(5, 5)
            .mtime(1)
            .xattr("user.x", "y"),
        hardlink("direct", target),
    ];
    let tar = archive(members[..2].to_vec());
    let dir = place.path().join("layer");
    let spec = spec(&tar, &tar, parapull_snapshotter::unpack::Encoding::Plain);
    run(
        &tar[..],
        &spec,
        &dir,
        Position::Upper,
        &Default::default(),
        1,
    )
    .unwrap();
    assert!(
        at(&archive(members), Position::Upper).is_err(),
        "a file outside is not there to be linked"
    );
    let metadata = std::fs::metadata(&outside).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.nlink()),
        (0o400, 0, 1)
    );
    assert!(metadata.mtime() > 1);
}

fn check(name: &str, tree: &Tree, root: &std::path::Path, expected: &Expected) {
    match expected {
        Content(path, content) => {
            assert_eq!(
                std::fs::read_to_string(root.join(path)).unwrap(),
                *content,
                "{name}: {path}"
            );
        }
        Same(one, other) => assert_eq!(tree.at(one).first, tree.at(other).first, "{name}"),
        NotSame(one, other) => assert_ne!(tree.at(one).first, tree.at(other).first, "{name}"),
        Symlink(path, target) => {
            assert_eq!(tree.at(path).target, target.as_bytes(), "{name}: {path}");
        }
        Absent(path) => assert!(tree.find(path).is_none(), "{name}: {path}"),
        Refused => panic!("{name}: accepted"),
    }
}

trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

/// The family that changes the mode of a file outside, in a test of its own.
const CHMOD: &str = "HardlinkSymlinkChmod";
/// containerd's test, where Debian's package has it.
const CONTAINERD_TESTS: &str =
    "/usr/share/gocode/src/github.com/containerd/containerd/archive/tar_test.go";
