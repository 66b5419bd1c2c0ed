//! Cases 13 to 18: owner, mode, times and extended attributes.

use parapull_snapshotter::unpack::Class;

use super::archive::{GNU, MTIME, Member, archive, dir, file, hardlink, symlink};
use super::lane::{is_root, refused, upper};
use super::linking::acl;

/// A version 2 file capability: `cap_net_raw+ep`.
const CAPABILITY: &[u8] = &[
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn case_13_setuid_and_capabilities_survive_the_owner() {
    if !is_root("case_13_setuid_and_capabilities_survive_the_owner") {
        return;
    }
    let members = [
        file("ping", "x")
            .mode(0o6755)
            .owner(10, 20)
            .xattr("security.capability", CAPABILITY),
        hardlink("link", "ping")
            .mode(0o6755)
            .owner(11, 21)
            .xattr("security.capability", CAPABILITY),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    let node = tree.at("ping");
    assert_eq!((node.mode, node.owner()), (0o6755, (11, 21)));
    assert_eq!(node.xattr("security.capability"), Some(CAPABILITY));
}

#[test]
fn case_14_xattrs() {
    if !is_root("case_14_xattrs") {
        return;
    }
    let members = [
        file("f", "x")
            .xattr("user.a.b", b"bin\0ary=\n")
            .xattr("user.twice", "1")
            .xattr("user.twice", "2")
            .xattr("user.empty", "")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("unknown.namespace", "x")
            .pax("LIBARCHIVE.xattr.user.other", "eA=="),
        dir("d")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("user.d", "d"),
        symlink("l", "f").xattr("security.test", "s"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    let node = tree.at("f");
    assert_eq!(node.xattr("user.a.b"), Some(&b"bin\0ary=\n"[..]));
    assert_eq!(node.xattr("user.twice"), Some(&b"2"[..]));
    assert_eq!(node.xattr("user.empty"), Some(&b""[..]));
    assert_eq!(node.xattrs.len(), 3, "{node:?}");
    assert_eq!(tree.at("d").xattrs.len(), 1);
    assert_eq!(tree.at("l").xattr("security.test"), Some(&b"s"[..]));
}

#[test]
fn case_14_an_xattr_that_cannot_be_is_refused() {
    if !is_root("case_14_an_xattr_that_cannot_be_is_refused") {
        return;
    }
    let long_name = format!("user.{}", "n".repeat(300));
    let cases = [
        file("f", "").xattr("security.capability", "nonsense"),
        file("f", "").xattr(&long_name, "x"),
        file("f", "").xattr("system.posix_acl_default", acl()),
    ];
    for member in cases {
        assert_eq!(refused(&archive([member])), Class::BadImage);
    }
}

#[test]
fn case_15_owners_in_every_notation() {
    if !is_root("case_15_owners_in_every_notation") {
        return;
    }
    let members = [
        file("octal", "").owner(1000, 1001),
        file("binary", "").owner(3_000_000_000, 4_294_967_294),
        file("pax", "")
            .owner(1, 1)
            .pax("uid", "3000000001")
            .pax("gid", "5"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.at("octal").owner(), (1000, 1001));
    assert_eq!(tree.at("binary").owner(), (3_000_000_000, 4_294_967_294));
    assert_eq!(tree.at("pax").owner(), (3_000_000_001, 5));
}

#[test]
fn case_15_owners_that_would_be_cut_are_refused() {
    if !is_root("case_15_owners_that_would_be_cut_are_refused") {
        return;
    }
    let mut negative = [0xff_u8; 8];
    negative[7] = 0xfe;
    let cases = [
        file("f", "").owner(u64::from(u32::MAX), 0),
        file("f", "").owner(0, (1 << 32) + 5),
        file("f", "").pax("uid", "4294967301"),
        file("f", "").pax("gid", "-1"),
        file("f", "").patch(108, negative),
        Member::new(b'0', ".wh.x").owner(1 << 32, 0),
    ];
    for member in cases {
        assert_eq!(refused(&archive([member])), Class::BadImage);
    }
}

#[test]
fn case_16_times() {
    if !is_root("case_16_times") {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let mut minus_one = [0xff_u8; 12];
    minus_one[11] = 0xff;
    let cases = [
        ("header", file("f", "").mtime(5), (5, 0), (5, 0)),
        (
            "fraction",
            file("f", "").pax("mtime", "5.25"),
            (5, 250_000_000),
            (5, 250_000_000),
        ),
        (
            "ten digits",
            file("f", "").pax("mtime", "5.0123456789"),
            (5, 12_345_678),
            (5, 12_345_678),
        ),
        (
            "before 1970",
            file("f", "").pax("mtime", "-5.5"),
            (0, 0),
            (0, 0),
        ),
        (
            "binary before 1970",
            file("f", "").patch(136, minus_one),
            (0, 0),
            (0, 0),
        ),
        (
            "after 2262",
            file("f", "").pax("mtime", "9223372037"),
            (0, 0),
            (0, 0),
        ),
        (
            "last second",
            file("f", "").pax("mtime", "9223372036"),
            (9_223_372_036, 0),
            (9_223_372_036, 0),
        ),
        (
            "later access",
            file("f", "").mtime(5).pax("atime", "7.5"),
            (5, 0),
            (7, 500_000_000),
        ),
        (
            "earlier access",
            file("f", "").mtime(5).pax("atime", "3"),
            (5, 0),
            (5, 0),
        ),
        (
            "access after 2262",
            file("f", "").mtime(5).pax("atime", "9223372037"),
            (5, 0),
            (0, 0),
        ),
        (
            "GNU access",
            file("f", "")
                .mtime(5)
                .magic(GNU)
                .patch(345, "00000000011\0"),
            (5, 0),
            (9, 0),
        ),
    ];
    for (case, member, modified, accessed) in cases {
        let layer = upper(&archive([member])).unwrap();
        let metadata = std::fs::metadata(layer.root().join("f")).unwrap();
        assert_eq!(
            (metadata.mtime(), metadata.mtime_nsec()),
            modified,
            "{case}"
        );
        assert_eq!(
            (metadata.atime(), metadata.atime_nsec()),
            accessed,
            "{case}"
        );
    }
}

#[test]
fn case_17_every_mode_bit_is_set_whatever_the_umask() {
    if !is_root("case_17_every_mode_bit_is_set_whatever_the_umask") {
        return;
    }
    // The umask belongs to the whole process; a strict one set for good can only make other tests harder.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    for mode in [0o0, 0o777, 0o666, 0o4755, 0o2755, 0o1777, 0o7777] {
        let members = [
            dir("d").mode(mode),
            file("d/f", "x").mode(mode),
            Member::new(b'6', "d/p").mode(mode),
            file("implied/f", "x"),
        ];
        let tree = upper(&archive(members)).unwrap().tree();
        for path in ["d", "d/f", "d/p"] {
            assert_eq!(tree.at(path).mode, mode as u32, "{path}");
        }
        assert_eq!(tree.at("implied").mode, 0o755);
    }
}

#[test]
fn case_17_file_type_bits_in_the_mode_do_not_count() {
    if !is_root("case_17_file_type_bits_in_the_mode_do_not_count") {
        return;
    }
    let tree = upper(&archive([file("f", "").mode(0o100_640)]))
        .unwrap()
        .tree();
    assert_eq!((tree.at("f").kind, tree.at("f").mode), ('f', 0o640));
}

#[test]
fn case_18_directory_times_come_last() {
    if !is_root("case_18_directory_times_come_last") {
        return;
    }
    let members = [
        dir("a").mtime(11),
        dir("a/b").mtime(22),
        file("a/b/f", "x"),
        file("a/g", "x"),
        symlink("s", "a"),
        file("s/h", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(
        (tree.at("a").mtime, tree.at("a/b").mtime),
        ((11, 0), (22, 0))
    );
    assert_eq!(tree.at("a/b/f").mtime.0, MTIME as i64);
}
