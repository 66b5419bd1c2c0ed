//! Where containerd surprises: one test per row of the decisions, numbered as they are.

use parapull_snapshotter::unpack::Class;

use super::archive::{
    GNU, MTIME, Member, archive, dir, file, hardlink, open_archive, record, symlink,
};
use super::lane::{bottom, is_root, refused, upper};
use super::whiteouts::whiteout;

#[test]
fn row_01_whiteouts_of_a_bottom_layer_delete() {
    if !is_root("row_01_whiteouts_of_a_bottom_layer_delete") {
        return;
    }
    let members = [
        file("f", "x"),
        whiteout(".wh.f"),
        dir("d"),
        file("d/g", "x"),
        whiteout(".wh.d"),
        whiteout(".wh.never"),
        whiteout("p/.wh.x"),
        file("p/x", "new"),
        whiteout(".wh.q"),
        dir("q"),
    ];
    let layer = bottom(&archive(members)).unwrap();
    let tree = layer.tree();
    assert_eq!(tree.paths(), ["p", "p/x", "q"]);
    assert!(!tree.at("q").is_opaque());
    assert!(layer.staged.implied.is_empty());
    assert_eq!(layer.staged.usage.inodes, 4);
}

#[test]
fn row_01_opaque_markers_of_a_bottom_layer_delete_what_is_only_implied() {
    if !is_root("row_01_opaque_markers_of_a_bottom_layer_delete_what_is_only_implied") {
        return;
    }
    let members = [
        dir("d"),
        file("d/kept", "x"),
        file("d/implied/gone", "x"),
        dir("d/listed"),
        file("d/listed/kept", "x"),
        file("d/listed/implied/gone", "x"),
        whiteout("d/.wh..wh..opq"),
        file("d/implied/after", "x"),
        file("outside/kept", "x"),
    ];
    let tree = bottom(&archive(members)).unwrap().tree();
    let expected = [
        "d",
        "d/implied",
        "d/implied/after",
        "d/kept",
        "d/listed",
        "d/listed/kept",
        "outside",
        "outside/kept",
    ];
    assert_eq!(tree.paths(), expected);
    assert!(!tree.at("d").is_opaque());
}

#[test]
fn row_01_what_was_unpacked_once_survives_an_opaque_marker() {
    if !is_root("row_01_what_was_unpacked_once_survives_an_opaque_marker") {
        return;
    }
    let members = [
        dir("d/sub"),
        whiteout("d/.wh.sub"),
        file("d/sub/f", "x"),
        whiteout("d/.wh..wh..opq"),
    ];
    assert_eq!(
        bottom(&archive(members)).unwrap().tree().paths(),
        ["d", "d/sub", "d/sub/f"]
    );
}

#[test]
fn row_02_a_whiteout_beside_its_target_is_accepted() {
    if !is_root("row_02_a_whiteout_beside_its_target_is_accepted") {
        return;
    }
    let members = [
        file("f", "x"),
        whiteout(".wh.f"),
        dir("d"),
        whiteout(".wh.d"),
        whiteout(".wh.g"),
        whiteout(".wh.g"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!((tree.at("f").kind, tree.at("d").kind), ('f', 'd'));
    assert!(tree.at("g").is_whiteout());
}

#[test]
fn row_03_a_directory_over_its_whiteout_is_opaque() {
    if !is_root("row_03_a_directory_over_its_whiteout_is_opaque") {
        return;
    }
    let listed = [whiteout(".wh.d"), dir("d").mode(0o700).owner(1, 2)];
    let tree = upper(&archive(listed)).unwrap().tree();
    assert!(tree.at("d").is_opaque());
    assert_eq!((tree.at("d").mode, tree.at("d").owner()), (0o700, (1, 2)));
    let layer = upper(&archive([whiteout(".wh.d"), file("d/e/new", "x")])).unwrap();
    let tree = layer.tree();
    assert!(tree.at("d").is_opaque());
    assert!(!tree.at("d/e").is_opaque());
    assert_eq!((tree.at("d").mode, tree.at("d").owner()), (0o755, (0, 0)));
    assert!(
        layer.staged.implied.is_empty(),
        "it has nothing to inherit: {:?}",
        layer.staged.implied
    );
}

#[test]
fn row_07_useless_whiteouts_are_made() {
    if !is_root("row_07_useless_whiteouts_are_made") {
        return;
    }
    let layer = upper(&archive([whiteout(".wh.ghost")])).unwrap();
    assert!(layer.tree().at("ghost").is_whiteout());
}

#[test]
fn row_08_an_implied_directory_that_nothing_lower_has_gets_the_newest_time() {
    if !is_root("row_08_an_implied_directory_that_nothing_lower_has_gets_the_newest_time") {
        return;
    }
    let members = [
        file("a/f", "x").mtime(5),
        file("b/f", "x").mtime(500),
        dir("c").mtime(50),
        whiteout("d/.wh.x").mtime(7),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    for path in ["a", "b", "d"] {
        assert_eq!(tree.at(path).mtime, (500, 0), "{path}");
    }
    assert_eq!(tree.at("c").mtime, (50, 0));
}

#[test]
fn row_09_times_belong_to_the_entry_that_is_finally_there() {
    if !is_root("row_09_times_belong_to_the_entry_that_is_finally_there") {
        return;
    }
    let ends = [
        ('f', file("d", "x").mtime(9)),
        ('l', symlink("d", "target").mtime(9)),
        ('l', symlink("d", "nowhere").mtime(9)),
        ('p', Member::new(b'6', "d").mtime(9)),
    ];
    for (kind, end) in ends {
        let tree = upper(&archive([file("target", "x"), dir("d").mtime(5), end]))
            .unwrap()
            .tree();
        assert_eq!((tree.at("d").kind, tree.at("d").mtime), (kind, (9, 0)));
        assert_eq!(tree.at("target").mtime, (MTIME as i64, 0));
    }
}

#[test]
fn row_10_a_global_header_is_never_an_entry() {
    if !is_root("row_10_a_global_header_is_never_an_entry") {
        return;
    }
    let global = |name: &str| Member::new(b'g', name).data(record(b"comment", b"any"));
    let members = [
        file("f", "kept"),
        global("f"),
        global("parent/of/it"),
        global(".wh.hidden"),
        global("d/.wh..wh..opq"),
        dir("d"),
    ];
    for layer in [
        upper(&archive(members.clone())),
        bottom(&archive(members.clone())),
    ] {
        let tree = layer.unwrap().tree();
        assert_eq!(tree.paths(), ["d", "f"]);
        assert_eq!(tree.at("f").size, 4);
        assert!(!tree.at("d").is_opaque());
    }
}

#[test]
fn row_11_numbers_that_would_be_cut_are_refused() {
    if !is_root("row_11_numbers_that_would_be_cut_are_refused") {
        return;
    }
    let cases = [
        Member::new(b'3', "c").device(4096, 0),
        Member::new(b'3', "c").device(0, 1 << 20),
        Member::new(b'4', "b").patch(329, [0x80, 0, 0, 1, 0, 0, 0, 0]),
        Member::new(b'4', "b").patch(337, [0xff; 8]),
    ];
    for member in cases {
        assert_eq!(refused(&archive([member])), Class::BadImage);
    }
}

#[test]
fn row_12_times_before_1970_and_after_2262_are_1970() {
    if !is_root("row_12_times_before_1970_and_after_2262_are_1970") {
        return;
    }
    // 2^63 nanoseconds after 1970 are 9,223,372,036.854775807 s.
    let cases = [
        ("-1", (0, 0)),
        ("-0.5", (0, 0)),
        ("0", (0, 0)),
        ("0.000000001", (0, 1)),
        ("9223372036.854775807", (9_223_372_036, 854_775_807)),
        ("9223372036.854775808", (0, 0)),
        ("9223372037", (0, 0)),
        ("17179869184", (0, 0)),
    ];
    for (time, expected) in cases {
        let members = [
            file("f", "x").pax("mtime", time),
            dir("d").pax("mtime", time),
            symlink("s", "f").pax("mtime", time),
        ];
        let tree = upper(&archive(members)).unwrap().tree();
        for path in ["f", "d", "s"] {
            assert_eq!(tree.at(path).mtime, expected, "{path} at {time}");
        }
    }
}

#[test]
fn row_13_forty_symlinks_are_followed_and_no_more() {
    if !is_root("row_13_forty_symlinks_are_followed_and_no_more") {
        return;
    }
    let chain = |links: usize| {
        let mut members = vec![dir("t0")];
        members.extend((1..=links).map(|n| symlink(format!("t{n}"), format!("t{}", n - 1))));
        members.push(file(format!("t{links}/f"), "x"));
        archive(members)
    };
    assert_eq!(upper(&chain(40)).unwrap().tree().at("t0/f").size, 1);
    assert_eq!(refused(&chain(41)), Class::BadImage);
}

#[test]
fn row_13_a_hard_link_to_a_symlink_with_a_slash_is_refused() {
    if !is_root("row_13_a_hard_link_to_a_symlink_with_a_slash_is_refused") {
        return;
    }
    let link = |target: &str| archive([file("f", "x"), symlink("s", "f"), hardlink("h", target)]);
    assert_eq!(refused(&link("s/")), Class::BadImage);
    assert_eq!(upper(&link("s")).unwrap().tree().at("h").kind, 'l');
}

#[test]
fn row_13_dots_are_lexical_in_names_and_real_behind_symlinks_in_targets() {
    if !is_root("row_13_dots_are_lexical_in_names_and_real_behind_symlinks_in_targets") {
        return;
    }
    let members = [
        dir("deep/er"),
        symlink("s", "deep/er"),
        file("s/../lexical", "x"),
        symlink("t", "/s/../real"),
        file("t/f", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.at("lexical").kind, 'f');
    assert_eq!(tree.at("deep/real/f").kind, 'f');
}

#[test]
fn row_14_trailing_slashes() {
    if !is_root("row_14_trailing_slashes") {
        return;
    }
    let members = [file("zero/", "data"), Member::new(0, "nul/")];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!((tree.at("zero").kind, tree.at("nul").kind), ('f', 'd'));
}

#[test]
fn row_14_data_behind_links_and_directories_is_refused() {
    if !is_root("row_14_data_behind_links_and_directories_is_refused") {
        return;
    }
    let cases = [
        hardlink("h", "f").data("not a header"),
        dir("d").data("not a header"),
        symlink("s", "f").data("not a header"),
    ];
    for member in cases {
        assert_eq!(refused(&archive([file("f", "x"), member])), Class::Corrupt);
    }
}

#[test]
fn row_14_a_single_zero_block_before_entries_is_refused() {
    if !is_root("row_14_a_single_zero_block_before_entries_is_refused") {
        return;
    }
    let mut tar = open_archive([file("f", "x")]);
    tar.extend([0; 512]);
    tar.extend(archive([file("g", "x")]));
    assert_eq!(refused(&tar), Class::Corrupt);
}

#[test]
fn row_15_an_opaque_root_is_told() {
    if !is_root("row_15_an_opaque_root_is_told") {
        return;
    }
    for name in [".wh..wh..opq", "./.wh..wh..opq", "/d/../.wh..wh..opq"] {
        assert!(
            upper(&archive([whiteout(name), file("f", "x")]))
                .unwrap()
                .staged
                .opaque_root,
            "{name}"
        );
    }
    let through_link = [symlink("l", "/"), whiteout("l/.wh..wh..opq")];
    assert!(upper(&archive(through_link)).unwrap().staged.opaque_root);
    assert!(
        !upper(&archive([whiteout("d/.wh..wh..opq")]))
            .unwrap()
            .staged
            .opaque_root
    );
    assert!(
        !bottom(&archive([whiteout(".wh..wh..opq")]))
            .unwrap()
            .staged
            .opaque_root
    );
}

#[test]
fn row_16_a_whiteout_prefix_on_a_parent_is_an_ordinary_name() {
    if !is_root("row_16_a_whiteout_prefix_on_a_parent_is_an_ordinary_name") {
        return;
    }
    let tree = upper(&archive([file(".wh.d/x", "x")])).unwrap().tree();
    assert_eq!(tree.paths(), [".wh.d", ".wh.d/x"]);
}

#[test]
fn row_16_aufs_records_are_skipped() {
    if !is_root("row_16_aufs_records_are_skipped") {
        return;
    }
    let members = [
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/12.34", "x"),
        whiteout("d/.wh..wh.orph"),
        file("f", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.paths(), ["f"]);
}

#[test]
fn row_17_old_sparse_and_contiguous_files_are_files() {
    if !is_root("row_17_old_sparse_and_contiguous_files_are_files") {
        return;
    }
    let sparse = Member::new(b'S', "s")
        .magic(GNU)
        .data("data")
        .patch(386, format!("{:011o}\0{:011o}\0", 10, 4))
        .patch(483, format!("{:011o}\0", 20));
    let tree = upper(&archive([
        sparse,
        Member::new(b'7', "c").data("contiguous"),
    ]))
    .unwrap()
    .tree();
    assert_eq!((tree.at("s").kind, tree.at("s").size), ('f', 20));
    assert_eq!((tree.at("c").kind, tree.at("c").size), ('f', 10));
}

#[test]
fn row_17_a_hard_link_to_a_whiteout_is_a_whiteout() {
    if !is_root("row_17_a_hard_link_to_a_whiteout_is_a_whiteout") {
        return;
    }
    let tree = upper(&archive([
        whiteout(".wh.a"),
        hardlink("b", "a").owner(5, 5),
    ]))
    .unwrap()
    .tree();
    assert!(tree.at("a").is_whiteout() && tree.at("b").is_whiteout());
    assert_eq!(
        (tree.at("b").first.as_slice(), tree.at("a").owner()),
        (&b"a"[..], (5, 5))
    );
}
