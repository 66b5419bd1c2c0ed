//! Cases 19 to 22: what a layer hides below it.

use parapull_snapshotter::unpack::Class;

use super::archive::{Member, archive, dir, file, hardlink};
use super::lane::{is_root, refused, upper};

pub fn whiteout(name: &str) -> Member {
    Member::new(b'0', name)
}

#[test]
fn case_19_whiteouts_are_devices_with_their_headers_owner() {
    if !is_root("case_19_whiteouts_are_devices_with_their_headers_owner") {
        return;
    }
    let tree = upper(&archive([whiteout("d/.wh.gone").owner(3, 4)]))
        .unwrap()
        .tree();
    assert_eq!(tree.paths(), ["d", "d/gone"]);
    let node = tree.at("d/gone");
    assert!(node.is_whiteout());
    assert_eq!((node.owner(), node.mode), ((3, 4), 0));
}

#[test]
fn case_19_an_opaque_marker_before_between_and_after_the_children() {
    if !is_root("case_19_an_opaque_marker_before_between_and_after_the_children") {
        return;
    }
    let marker = || whiteout("d/.wh..wh..opq");
    let orders = [
        vec![marker(), dir("d"), file("d/f", "x")],
        vec![dir("d"), marker(), file("d/f", "x")],
        vec![dir("d"), file("d/f", "x"), marker()],
        vec![file("d/f", "x"), marker()],
        vec![marker(), file("d/f", "x")],
    ];
    for members in orders {
        let tree = upper(&archive(members)).unwrap().tree();
        assert!(tree.at("d").is_opaque());
        assert_eq!(tree.paths(), ["d", "d/f"]);
    }
}

#[test]
fn case_19_the_type_of_a_marker_does_not_matter() {
    if !is_root("case_19_the_type_of_a_marker_does_not_matter") {
        return;
    }
    let members = [
        file("f", "x"),
        hardlink(".wh.a", "nowhere"),
        dir(".wh.b/"),
        Member::new(b'2', ".wh.c").link("f"),
        Member::new(b'0', ".wh.d").data("data that is skipped"),
        hardlink("o/.wh..wh..opq", "../.wh..wh.aufs"),
        file("after", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    for name in ["a", "b", "c", "d"] {
        assert!(tree.at(name).is_whiteout(), "{name}");
    }
    assert!(tree.at("o").is_opaque());
    assert_eq!(tree.at("after").size, 1);
}

#[test]
fn case_20_whiteouts_of_nothing_are_refused() {
    if !is_root("case_20_whiteouts_of_nothing_are_refused") {
        return;
    }
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        assert_eq!(
            refused(&archive([whiteout(name)])),
            Class::BadImage,
            "{name}"
        );
    }
}

#[test]
fn case_20_aufs_records_are_skipped() {
    if !is_root("case_20_aufs_records_are_skipped") {
        return;
    }
    let members = [
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "x"),
        file(".wh..wh.aufs", "x"),
        dir("d/.wh..wh.orph/"),
        file("d/.wh..wh..opq/x", "x"),
        file("kept", "x"),
    ];
    assert_eq!(upper(&archive(members)).unwrap().tree().paths(), ["kept"]);
}

#[test]
fn case_21_a_whiteout_after_its_target_hides_only_what_is_below() {
    if !is_root("case_21_a_whiteout_after_its_target_hides_only_what_is_below") {
        return;
    }
    let members = [
        file("f", "kept"),
        whiteout(".wh.f"),
        dir("d"),
        file("d/g", "x"),
        whiteout(".wh.d"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!((tree.at("f").kind, tree.at("f").size), ('f', 4));
    assert!(tree.at("d").is_opaque());
    assert_eq!(tree.at("d/g").size, 1);
}

#[test]
fn case_21_a_whiteout_before_its_target_is_replaced() {
    if !is_root("case_21_a_whiteout_before_its_target_is_replaced") {
        return;
    }
    let members = [
        whiteout(".wh.f"),
        file("f", "new"),
        whiteout("foo/.wh.bar"),
        dir("foo/bar/"),
        file("foo/bar/x", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.at("f").size, 3);
    assert!(tree.at("foo/bar").is_opaque());
    assert!(!tree.at("foo").is_opaque());
}

#[test]
fn case_21_a_directory_is_opaque_even_with_a_file_in_between() {
    if !is_root("case_21_a_directory_is_opaque_even_with_a_file_in_between") {
        return;
    }
    let tree = upper(&archive([whiteout(".wh.d"), file("d", "x"), dir("d")]))
        .unwrap()
        .tree();
    assert!(tree.at("d").is_opaque());
}

#[test]
fn case_21_a_whiteout_that_went_with_its_directory_is_forgotten() {
    if !is_root("case_21_a_whiteout_that_went_with_its_directory_is_forgotten") {
        return;
    }
    let members = [whiteout("p/.wh.d"), file("p", "x"), dir("p"), dir("p/d")];
    let tree = upper(&archive(members)).unwrap().tree();
    assert!(!tree.at("p/d").is_opaque());
}

#[test]
fn case_22_a_whiteout_of_a_missing_path_is_made_all_the_same() {
    if !is_root("case_22_a_whiteout_of_a_missing_path_is_made_all_the_same") {
        return;
    }
    let tree = upper(&archive([whiteout("never/.wh.was")])).unwrap().tree();
    assert!(tree.at("never/was").is_whiteout());
}
