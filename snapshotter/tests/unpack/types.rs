//! Cases 6 to 12: kinds of entries.

use parapull_snapshotter::unpack::Class;

use super::archive::{GNU, MTIME, Member, V7, archive, dir, file, hardlink, symlink};
use super::lane::{is_root, refused, upper};

#[test]
fn case_06_regular_files_by_every_flag() {
    if !is_root("case_06_regular_files_by_every_flag") {
        return;
    }
    for typeflag in [b'0', 0, b'7'] {
        let tree = upper(&archive([Member::new(typeflag, "f").data("data")]))
            .unwrap()
            .tree();
        assert_eq!(
            (tree.at("f").kind, tree.at("f").size),
            ('f', 4),
            "{typeflag}"
        );
    }
    let old = Member::new(0, "f").data("data").magic(V7);
    assert_eq!(upper(&archive([old])).unwrap().tree().at("f").size, 4);
}

#[test]
fn case_06_old_gnu_sparse_files() {
    if !is_root("case_06_old_gnu_sparse_files") {
        return;
    }
    let piece = |offset: u64, bytes: u64| format!("{offset:011o}\0{bytes:011o}\0");
    let member = Member::new(b'S', "s")
        .magic(GNU)
        .data([vec![b'a'; 512], vec![b'b'; 100]].concat())
        .patch(386, piece(1024, 512) + &piece(4096, 100))
        .patch(483, format!("{:011o}\0", 10_000));
    let layer = upper(&archive([member, file("after", "x")])).unwrap();
    let content = std::fs::read(layer.root().join("s")).unwrap();
    let mut expected = vec![0; 10_000];
    expected[1024..1536].fill(b'a');
    expected[4096..4196].fill(b'b');
    assert_eq!(content, expected);
    assert_eq!(layer.tree().at("after").size, 1);
}

#[test]
fn case_06_old_gnu_sparse_files_with_extension_blocks() {
    if !is_root("case_06_old_gnu_sparse_files_with_extension_blocks") {
        return;
    }
    let pieces: Vec<u64> = (0..30).collect();
    let slot = |n: &u64| format!("{:011o}\0{:011o}\0", n * 1000, 10).into_bytes();
    let slots =
        |range: std::ops::Range<usize>| pieces[range].iter().flat_map(slot).collect::<Vec<u8>>();
    let header = Member::new(b'S', "s")
        .magic(GNU)
        .size(300)
        .patch(386, slots(0..4))
        .patch(482, [1])
        .patch(483, format!("{:011o}\0", 30_000));
    let mut tar = header.bytes();
    let mut first = slots(4..25);
    first.push(1);
    first.resize(512, 0);
    let mut second = slots(25..30);
    second.resize(512, 0);
    tar.extend(first);
    tar.extend(second);
    tar.extend([b'x'; 300]);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend(archive([file("after", "x")]));
    let layer = upper(&tar).unwrap();
    let content = std::fs::read(layer.root().join("s")).unwrap();
    assert_eq!(content.len(), 30_000);
    for n in 0..30 {
        assert_eq!(
            content[n * 1000..n * 1000 + 11],
            *b"xxxxxxxxxx\0",
            "piece {n}"
        );
    }
    assert_eq!(layer.tree().at("after").size, 1);
}

#[test]
fn case_06_pax_sparse_files() {
    if !is_root("case_06_pax_sparse_files") {
        return;
    }
    let version = |major: &str, minor: &str| {
        Member::new(b'0', "GNUSparseFile.0/s")
            .pax("GNU.sparse.major", major)
            .pax("GNU.sparse.minor", minor)
            .pax("GNU.sparse.name", "real/s")
    };
    let data = [vec![b'a'; 10], vec![b'b'; 20]].concat();
    let zero_one = version("0", "1")
        .pax("GNU.sparse.size", "5000")
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.map", "100,10,2000,20")
        .data(&data);
    let zero_zero = Member::new(b'0', "real/s")
        .pax("GNU.sparse.size", "5000")
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.offset", "100")
        .pax("GNU.sparse.numbytes", "10")
        .pax("GNU.sparse.offset", "2000")
        .pax("GNU.sparse.numbytes", "20")
        .data(&data);
    let mut map = b"2\n100\n10\n2000\n20\n".to_vec();
    map.resize(512, 0);
    let one_zero = version("1", "0")
        .pax("GNU.sparse.realsize", "5000")
        .data([map.clone(), data.clone()].concat());
    let with_pax_size = one_zero.clone().pax("size", (512 + 30).to_string());
    let mut expected = vec![0; 5000];
    expected[100..110].fill(b'a');
    expected[2000..2020].fill(b'b');
    for (case, member) in [
        ("0.0", zero_zero),
        ("0.1", zero_one),
        ("1.0", one_zero),
        ("1.0 with size", with_pax_size),
    ] {
        let layer = upper(&archive([member, file("after", "x")])).unwrap();
        assert_eq!(
            std::fs::read(layer.root().join("real/s")).unwrap(),
            expected,
            "{case}"
        );
        assert_eq!(layer.tree().at("after").size, 1, "{case}");
    }
}

#[test]
fn case_06_wrong_sparse_maps_are_refused() {
    if !is_root("case_06_wrong_sparse_maps_are_refused") {
        return;
    }
    let sparse = |size: &str, blocks: &str, map: &str, data: usize| {
        Member::new(b'0', "s")
            .pax("GNU.sparse.major", "0")
            .pax("GNU.sparse.minor", "1")
            .pax("GNU.sparse.size", size)
            .pax("GNU.sparse.numblocks", blocks)
            .pax("GNU.sparse.map", map)
            .data(vec![b'x'; data])
    };
    let cases = [
        ("overlap", sparse("100", "2", "0,10,5,10", 20)),
        ("out of the file", sparse("100", "1", "95,10", 10)),
        ("negative", sparse("100", "1", "-5,10", 10)),
        ("count", sparse("100", "2", "0,10", 10)),
        ("odd", sparse("100", "1", "0,10,20", 10)),
        (
            "overflow",
            sparse("100", "1", "9223372036854775807,9223372036854775807", 10),
        ),
        ("less data", sparse("100", "1", "0,50", 10)),
        ("more data", sparse("100", "1", "0,5", 10)),
        ("directory", {
            let mut member = sparse("100", "0", "", 0).pax("GNU.sparse.name", "d");
            member = member.patch(156, b"5");
            member
        }),
    ];
    for (case, member) in cases {
        assert_eq!(refused(&archive([member])), Class::Corrupt, "{case}");
    }
}

#[test]
fn case_07_a_directory_merges_with_a_directory() {
    if !is_root("case_07_a_directory_merges_with_a_directory") {
        return;
    }
    let members = [
        dir("d").mode(0o700).owner(1, 1),
        file("d/f", "x"),
        dir("d").mode(0o750).owner(2, 3).mtime(99),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    let node = tree.at("d");
    assert_eq!(
        (node.mode, node.owner(), node.mtime),
        (0o750, (2, 3), (99, 0))
    );
    assert_eq!(tree.at("d/f").size, 1);
}

#[test]
fn case_07_other_types_replace_each_other() {
    if !is_root("case_07_other_types_replace_each_other") {
        return;
    }
    let kinds = |name: &'static str| {
        [
            ('d', dir(name)),
            ('f', file(name, "new")),
            ('l', symlink(name, "nowhere")),
            ('p', Member::new(b'6', name)),
            ('c', Member::new(b'3', name).device(1, 3)),
            ('f', hardlink(name, "target")),
        ]
    };
    for (_, before) in kinds("x") {
        for (kind, after) in kinds("x") {
            let members = [file("target", "t"), before.clone(), after];
            let tree = upper(&archive(members)).unwrap().tree();
            assert_eq!(tree.at("x").kind, kind);
        }
    }
}

#[test]
fn case_07_replacing_a_directory_removes_what_is_below_it() {
    if !is_root("case_07_replacing_a_directory_removes_what_is_below_it") {
        return;
    }
    let members = [
        dir("d/deep/er"),
        file("d/deep/er/f", "x"),
        file("d", "now a file"),
        file("other", "x"),
    ];
    let layer = upper(&archive(members)).unwrap();
    assert_eq!(layer.tree().paths(), ["d", "other"]);
    assert_eq!(layer.staged.usage.inodes, 3);
    assert!(layer.staged.implied.is_empty());
}

#[test]
fn case_07_the_last_of_duplicate_files_wins_in_a_new_inode() {
    if !is_root("case_07_the_last_of_duplicate_files_wins_in_a_new_inode") {
        return;
    }
    let tree = upper(&archive([
        file("f", "old"),
        hardlink("h", "f"),
        file("f", "newer"),
    ]))
    .unwrap()
    .tree();
    assert_eq!((tree.at("f").size, tree.at("h").size), (5, 3));
}

#[test]
fn case_08_hard_links() {
    if !is_root("case_08_hard_links") {
        return;
    }
    let members = [
        dir("d"),
        file("d/f", "x"),
        symlink("s", "d"),
        symlink("l", "d/f"),
        hardlink("through", "s/f"),
        hardlink("absolute", "/d/f"),
        hardlink("dots", "d/../../d/f"),
        hardlink("to-link", "l"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    for name in ["through", "dots", "d/f"] {
        assert_eq!(tree.at(name).first, b"absolute", "{name}");
    }
    assert_eq!(
        (tree.at("to-link").kind, tree.at("to-link").first.as_slice()),
        ('l', &b"l"[..])
    );
}

#[test]
fn case_08_the_header_of_a_hard_link_is_applied_to_the_inode() {
    if !is_root("case_08_the_header_of_a_hard_link_is_applied_to_the_inode") {
        return;
    }
    let link = hardlink("h", "f")
        .mode(0o4711)
        .owner(8, 9)
        .mtime(77)
        .xattr("user.x", "y");
    let tree = upper(&archive([file("f", "x"), link])).unwrap().tree();
    let node = tree.at("f");
    assert_eq!(
        (node.mode, node.owner(), node.mtime),
        (0o4711, (8, 9), (77, 0))
    );
    assert_eq!(node.xattr("user.x"), Some(&b"y"[..]));
}

#[test]
fn case_08_hard_links_to_what_the_layer_does_not_have_are_refused() {
    if !is_root("case_08_hard_links_to_what_the_layer_does_not_have_are_refused") {
        return;
    }
    let cases = [
        ("missing", vec![hardlink("h", "nowhere")]),
        ("missing parent", vec![hardlink("h", "no/where")]),
        ("later", vec![hardlink("h", "f"), file("f", "x")]),
        ("itself", vec![file("f", "x"), hardlink("f", "f")]),
        ("directory", vec![dir("d"), hardlink("h", "d")]),
        ("root", vec![hardlink("h", "/")]),
        ("dots", vec![dir("d"), hardlink("h", "d/..")]),
        ("empty", vec![hardlink("h", "")]),
    ];
    for (case, members) in cases {
        assert_eq!(refused(&archive(members)), Class::BadImage, "{case}");
    }
}

#[test]
fn case_08_a_hard_link_in_the_place_of_what_leads_to_its_target_is_refused() {
    if !is_root("case_08_a_hard_link_in_the_place_of_what_leads_to_its_target_is_refused") {
        return;
    }
    let cases = [
        vec![
            dir("d"),
            symlink("s", "d"),
            file("s/f", "x"),
            hardlink("s", "s/f"),
        ],
        vec![file("d/f", "x"), hardlink("d", "d/f")],
        vec![file("f", "x"), hardlink("f", "f")],
    ];
    for members in cases {
        assert_eq!(refused(&archive(members)), Class::BadImage);
    }
}

#[test]
fn case_09_symlinks_are_kept_verbatim_with_their_own_owner_and_time() {
    if !is_root("case_09_symlinks_are_kept_verbatim_with_their_own_owner_and_time") {
        return;
    }
    let members = [
        file("f", "x"),
        symlink("l", "/.././/f").owner(4, 5).mtime(66),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    let node = tree.at("l");
    assert_eq!(
        (node.target.as_slice(), node.owner(), node.mtime),
        (&b"/.././/f"[..], (4, 5), (66, 0))
    );
    assert_eq!(
        (tree.at("f").owner(), tree.at("f").mtime.0),
        ((0, 0), MTIME as i64)
    );
}

#[test]
fn case_09_user_xattrs_of_symlinks_and_special_files_are_ignored() {
    if !is_root("case_09_user_xattrs_of_symlinks_and_special_files_are_ignored") {
        return;
    }
    let members = [
        symlink("l", "f").xattr("user.x", "y"),
        Member::new(b'6', "p").xattr("user.x", "y"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert!(tree.at("l").xattrs.is_empty() && tree.at("p").xattrs.is_empty());
}

#[test]
fn case_10_devices_and_fifos() {
    if !is_root("case_10_devices_and_fifos") {
        return;
    }
    let members = [
        Member::new(b'3', "null")
            .device(1, 3)
            .mode(0o666)
            .owner(0, 6),
        Member::new(b'4', "disk").device(259, 70_000).mode(0o660),
        Member::new(b'6', "pipe").mode(0o600),
        Member::new(b'3', "whiteout").device(0, 0),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    let shown = |name: &str| (tree.at(name).kind, tree.at(name).device, tree.at(name).mode);
    assert_eq!(shown("null"), ('c', (1, 3), 0o666));
    assert_eq!(shown("disk"), ('b', (259, 70_000), 0o660));
    assert_eq!(shown("pipe"), ('p', (0, 0), 0o600));
    assert!(tree.at("whiteout").is_whiteout());
    assert_eq!(tree.at("null").owner(), (0, 6));
}

#[test]
fn case_11_a_global_header_is_no_entry_and_changes_none() {
    if !is_root("case_11_a_global_header_is_no_entry_and_changes_none") {
        return;
    }
    let global = |name: &str| Member::new(b'g', name).data("15 path=global\n11 uid=666\n");
    let members = [
        file("f", "kept"),
        global("f"),
        global("new/.wh.f"),
        file("g", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.paths(), ["f", "g"]);
    assert_eq!(tree.at("g").uid, 0);
    assert_eq!(
        refused(&archive([Member::new(b'g', "g").data("nonsense")])),
        Class::Corrupt
    );
}

#[test]
fn case_12_unknown_types_are_refused() {
    if !is_root("case_12_unknown_types_are_refused") {
        return;
    }
    for typeflag in [b'8', b'A', b'D', b'M', b'N', b'V', b'X', b's', 0xff] {
        assert_eq!(
            refused(&archive([Member::new(typeflag, "f").data("x")])),
            Class::BadImage,
            "{typeflag}"
        );
    }
}
