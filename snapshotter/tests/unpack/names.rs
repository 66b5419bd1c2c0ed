//! Cases 1 to 5: names and paths.

use parapull_snapshotter::unpack::{Class, Inherited};

use super::archive::{Member, archive, dir, file, hardlink, symlink};
use super::lane::{is_root, refused, upper};

#[test]
fn case_01_names_are_clamped_to_the_root() {
    if !is_root("case_01_names_are_clamped_to_the_root") {
        return;
    }
    let names = [
        "../../a",
        "/b",
        "x/../../c",
        "./d",
        "e//f",
        "g/./h",
        "../i/../j",
    ];
    let tree = upper(&archive(names.map(|name| file(name, name))))
        .unwrap()
        .tree();
    assert_eq!(
        tree.paths(),
        ["a", "b", "c", "d", "e", "e/f", "g", "g/h", "j"]
    );
}

#[test]
fn case_01_parents_resolve_inside_the_root() {
    if !is_root("case_01_parents_resolve_inside_the_root") {
        return;
    }
    let cases: [(&str, &str, &str); 7] = [
        ("relative", "b", "b/f"),
        ("absolute", "/b", "b/f"),
        ("above the root", "../../../../b", "b/f"),
        ("chain", "/c/../b", "b/f"),
        ("dangling", "new/deep", "new/deep/f"),
        ("dangling and absolute", "/new", "new/f"),
        ("to the root", "/", "f"),
    ];
    for (case, target, expected) in cases {
        let members = [dir("b"), dir("c"), symlink("a", target), file("a/f", "x")];
        let tree = upper(&archive(members)).unwrap().tree();
        assert_eq!(tree.at(expected).kind, 'f', "{case}");
        assert_eq!(tree.at("a").kind, 'l', "{case}");
    }
}

#[test]
fn case_01_a_leaf_symlink_is_replaced_and_not_followed() {
    if !is_root("case_01_a_leaf_symlink_is_replaced_and_not_followed") {
        return;
    }
    let tree = upper(&archive([
        file("f", "kept"),
        symlink("l", "f"),
        file("l", "new"),
    ]))
    .unwrap()
    .tree();
    assert_eq!((tree.at("f").size, tree.at("l").size), (4, 3));
    assert_eq!(tree.at("l").kind, 'f');
}

#[test]
fn case_01_a_cached_parent_is_forgotten_when_it_is_replaced() {
    if !is_root("case_01_a_cached_parent_is_forgotten_when_it_is_replaced") {
        return;
    }
    let members = [
        dir("a"),
        file("a/one", "1"),
        dir("b"),
        symlink("a", "b"),
        file("a/two", "2"),
        symlink("s", "a"),
        file("s/three", "3"),
        file("a", "4"),
        dir("a"),
        file("a/five", "5"),
        file("s/six", "6"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(
        tree.paths(),
        ["a", "a/five", "a/six", "b", "b/three", "b/two", "s"]
    );
}

#[test]
fn case_01_symlink_loops_are_refused() {
    if !is_root("case_01_symlink_loops_are_refused") {
        return;
    }
    let circle = [symlink("a", "b"), symlink("b", "a"), file("a/f", "x")];
    assert_eq!(refused(&archive(circle)), Class::BadImage);
    let mut chain: Vec<Member> = (0..41)
        .map(|n| symlink(format!("l{n}"), format!("l{}", n + 1)))
        .collect();
    chain.push(file("l0/f", "x"));
    assert_eq!(refused(&archive(chain)), Class::BadImage);
}

#[test]
fn case_01_forty_symlinks_are_followed() {
    if !is_root("case_01_forty_symlinks_are_followed") {
        return;
    }
    let mut chain: Vec<Member> = (0..40)
        .map(|n| symlink(format!("l{n}"), format!("l{}", n + 1)))
        .collect();
    chain.push(file("l0/f", "x"));
    assert_eq!(upper(&archive(chain)).unwrap().tree().at("l40/f").kind, 'f');
}

#[test]
fn case_02_the_root_keeps_its_attributes() {
    if !is_root("case_02_the_root_keeps_its_attributes") {
        return;
    }
    use std::os::unix::fs::MetadataExt as _;
    let roots = ["./", "/", ".", "..", "a/.."].map(|name| dir(name).mode(0o700).owner(5, 5));
    let layer = upper(&archive(roots)).unwrap();
    let metadata = std::fs::metadata(layer.root()).unwrap();
    assert_eq!(
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
        (0o755, 0, 0)
    );
    assert!(layer.tree().0.is_empty());
}

#[test]
fn case_03_implied_directories_are_made_and_recorded() {
    if !is_root("case_03_implied_directories_are_made_and_recorded") {
        return;
    }
    let members = [
        file("a/b/f", "x").owner(7, 7),
        Member::new(b'0', "c/.wh.gone"),
        Member::new(b'0', "d/.wh..wh..opq"),
        hardlink("e/h", "a/b/f"),
        dir("listed"),
        file("later/f", "x"),
        dir("later").mode(0o700),
    ];
    let layer = upper(&archive(members)).unwrap();
    let implied: Vec<_> = layer
        .staged
        .implied
        .iter()
        .map(|implied| (implied.path.to_str().unwrap(), implied.inherited))
        .collect();
    let expected = [
        ("a", Inherited::Everything),
        ("a/b", Inherited::Everything),
        ("c", Inherited::Everything),
        ("d", Inherited::Everything),
        ("e", Inherited::Everything),
        ("later", Inherited::Xattrs),
    ];
    assert_eq!(implied, expected);
    let tree = layer.tree();
    assert_eq!(
        (tree.at("a/b").mode, tree.at("a/b").owner()),
        (0o755, (0, 0))
    );
    assert_eq!(tree.at("later").mode, 0o700);
}

#[test]
fn case_03_a_file_in_the_way_is_refused() {
    if !is_root("case_03_a_file_in_the_way_is_refused") {
        return;
    }
    assert_eq!(
        refused(&archive([file("a", "x"), file("a/b", "y")])),
        Class::BadImage
    );
    assert_eq!(
        refused(&archive([file("a", "x"), file("a/b/c", "y")])),
        Class::BadImage
    );
    let device = Member::new(b'3', "a").device(0, 0);
    assert_eq!(
        refused(&archive([device, file("a/b", "y")])),
        Class::BadImage
    );
}

#[test]
fn case_04_hard_links_imply_parents() {
    if !is_root("case_04_hard_links_imply_parents") {
        return;
    }
    let layer = upper(&archive([file("f", "x"), hardlink("new/deep/h", "f")])).unwrap();
    assert_eq!(layer.tree().at("new/deep/h").first, b"f");
    assert_eq!(layer.staged.implied.len(), 2);
}

#[test]
fn case_05_spellings_of_one_path_are_one_path() {
    if !is_root("case_05_spellings_of_one_path_are_one_path") {
        return;
    }
    let members = [
        file("d/f", "1"),
        file("./d/f", "22"),
        file("d//f", "333"),
        file("/d/./f", "4444"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.paths(), ["d", "d/f"]);
    assert_eq!(tree.at("d/f").size, 4);
}

#[test]
fn case_05_bytes_of_names_are_kept() {
    if !is_root("case_05_bytes_of_names_are_kept") {
        return;
    }
    let tree = upper(&archive([file(b"caf\xe9", "x"), file("a\nb \\", "y")]))
        .unwrap()
        .tree();
    assert!(tree.0.contains_key(&b"caf\xe9"[..]));
    assert!(tree.0.contains_key(&b"a\nb \\"[..]));
}

#[test]
fn case_05_names_that_no_file_can_have_are_refused() {
    if !is_root("case_05_names_that_no_file_can_have_are_refused") {
        return;
    }
    let long_name = "n".repeat(256);
    let cases = [
        (
            "component of 256 bytes",
            file("x", "").pax("path", &long_name),
            Class::BadImage,
        ),
        (
            "directory of 256 bytes",
            file("x", "").pax("path", format!("{long_name}/f")),
            Class::BadImage,
        ),
        (
            "path of 5,000 bytes",
            file("x", "").pax("path", "d/".repeat(2500) + "f"),
            Class::BadImage,
        ),
        (
            "zero byte",
            file("x", "").pax("path", "a\0b"),
            Class::Corrupt,
        ),
    ];
    for (case, member, class) in cases {
        assert_eq!(refused(&archive([member])), class, "{case}");
    }
}

#[test]
fn case_05_long_paths_work() {
    if !is_root("case_05_long_paths_work") {
        return;
    }
    let path = "d/".repeat(2000) + "f";
    let layer = upper(&archive([file("x", "data").pax("path", &path)])).unwrap();
    assert_eq!(layer.staged.implied.len(), 2000);
    assert_eq!(layer.staged.usage.inodes, 2002);
}

#[test]
fn case_05_real_paths_do_not_grow_through_symlinks() {
    if !is_root("case_05_real_paths_do_not_grow_through_symlinks") {
        return;
    }
    let deep = "d/".repeat(1500);
    let members = [
        dir("x").pax("path", &deep),
        symlink("s", "x").pax("linkpath", &deep),
        dir("x").pax("path", format!("s/{deep}")),
    ];
    assert_eq!(refused(&archive(members)), Class::BadImage);
}
