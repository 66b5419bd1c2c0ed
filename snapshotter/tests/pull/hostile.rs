//! Images made to harm whoever pulls them.

use super::archive::{Member, archive, dir, file, hardlink, symlink};
use super::command::{Pull, is_root};
use super::images::{TestImage, gzip};
use super::served::Served;
use super::strategies::STRATEGIES;

#[test]
fn nothing_is_written_outside_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let escapes: Vec<(&str, Vec<Member>)> = vec![
        (
            "dots",
            vec![file("../../../../../../../../tmp/parapull-escaped", "x")],
        ),
        (
            "dots inside",
            vec![dir("a/"), file("a/../../../escaped", "x")],
        ),
        (
            "link",
            vec![symlink("way", &target), file("way/escaped", "x")],
        ),
        (
            "link below",
            vec![
                dir("a/"),
                symlink("a/way", "../../../../.."),
                file("a/way/escaped", "x"),
            ],
        ),
        (
            "hard link",
            vec![hardlink("stolen", "../../../../../../etc/hostname")],
        ),
        ("whiteout", vec![file("../.wh.manifest.json", "")]),
        ("opaque", vec![file("../../.wh..wh..opq", "")]),
    ];
    for (name, members) in escapes {
        let served = Served::healthy(TestImage::of_members(vec![
            vec![file("base", "b")],
            members,
        ]));
        let pull = Pull::of(&served);
        let ended = pull.run();
        // Whether a path is refused or read below the layer's root is the unpacker's choice; outside is nobody's.
        assert!(matches!(ended.code, Some(0 | 1)), "{name}: {ended:#?}");
        if ended.code == Some(1) {
            ended.failure("bad_image");
            pull.assert_untouched();
        } else {
            pull.trees(&served.image);
        }
        assert_eq!(
            std::fs::read_dir(outside.path()).unwrap().count(),
            0,
            "{name}"
        );
        assert!(
            !std::path::Path::new("/tmp/parapull-escaped").exists(),
            "{name}"
        );
    }
}

#[test]
fn a_layer_that_unpacks_to_too_much_is_stopped() {
    let bomb = archive([file("zeros", vec![0; 40 << 20])]);
    let served = Served::healthy(TestImage::of_archives(vec![bomb]));
    for (strategy, asked) in STRATEGIES.into_iter().zip(1..) {
        let pull = Pull::of(&served)
            .with(&["--strategy", strategy])
            .set("max_uncompressed=8mb");
        let ended = pull.run();
        let error = ended.failure("bad_image");
        assert!(
            error["message"].as_str().unwrap().contains("more than"),
            "{error}"
        );
        // Other bytes would not make it smaller.
        assert_eq!(
            served.requests(&served.image.layers[0].digest),
            asked,
            "{strategy}"
        );
        pull.assert_untouched();
    }
    let pull = Pull::of(&served).set("max_uncompressed=64mb");
    pull.run().figures();
}

#[test]
fn nonsense_behind_the_gzip_header_is_corrupt() {
    for (name, bytes) in [
        ("no gzip", b"not a gzip stream at all".to_vec()),
        ("no tar", gzip(&[7; 5000])),
        (
            "half a tar",
            gzip(&archive([file("a", vec![1; 9000])])[..5000]),
        ),
        ("half a gzip", {
            let whole = gzip(&archive([file("a", vec![1; 9000])]));
            whole[..whole.len() / 2].to_vec()
        }),
    ] {
        let diff_id = format!("sha256:{}", "0".repeat(64));
        let served = Served::healthy(TestImage::of_blobs(vec![(bytes, diff_id)]));
        let pull = Pull::of(&served);
        let ended = pull.run();
        let error = ended.failure("corrupt");
        assert_eq!(error["host"], served.host, "{name}");
        pull.assert_untouched();
    }
}

#[test]
fn a_directory_replaced_by_a_link_between_layers_stays_inside() {
    if !is_root("a_directory_replaced_by_a_link_between_layers_stays_inside") {
        return;
    }
    let layers = vec![
        vec![dir("etc/"), file("etc/passwd", "ours")],
        vec![symlink("etc", "/"), symlink("var", "..")],
        vec![file("etc/cron.d/evil", "x"), file("var/evil", "x")],
    ];
    let served = Served::healthy(TestImage::of_members(layers));
    let pull = Pull::of(&served);
    let ended = pull.run();
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:#?}");
    assert!(!std::path::Path::new("/etc/cron.d/evil").exists());
}
