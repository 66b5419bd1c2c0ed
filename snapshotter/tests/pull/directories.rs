//! What a directory holds before and after.

use std::num::NonZeroU64;
use std::os::unix::fs::symlink;

use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{FaultTarget, FaultTimes};

use super::command::{Pull, names};
use super::images::TestImage;
use super::served::{Served, fault, status};

#[test]
fn a_directory_in_use_is_refused_untouched() {
    let served = Served::healthy(TestImage::preset("tiny"));
    for (name, content) in [
        ("file", "mine"),
        ("manifest.json", "{}"),
        ("layers", ""),
        (".hidden", ""),
    ] {
        let pull = Pull::of(&served);
        std::fs::create_dir_all(&pull.to).unwrap();
        std::fs::write(pull.to.join(name), content).unwrap();
        let ended = pull.run();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("not empty"), "{}", ended.stderr);
        assert_eq!(names(&pull.to), [name]);
        assert_eq!(
            std::fs::read_to_string(pull.to.join(name)).unwrap(),
            content
        );
    }
    assert_eq!(served.layer_requests(), 0);
}

#[test]
fn a_finished_pull_is_not_repeated() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let pull = Pull::of(&served);
    pull.run().figures();
    let asked = served.layer_requests();
    let trees = pull.trees(&served.image);
    let again = pull.run().figures();
    assert_eq!(served.layer_requests(), asked);
    assert_eq!(
        (&again["bytes_fetched"], &again["requests"]),
        (&0.into(), &0.into())
    );
    assert_eq!(pull.trees(&served.image), trees);

    // Another image does not fit on top of it.
    let other = Served::healthy(TestImage::preset("metadata"));
    let ended = Pull::of(&other).to(&pull.to).run();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(pull.trees(&served.image), trees);
}

#[test]
fn the_manifest_is_kept_byte_for_byte() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let pull = Pull::of(&served);
    pull.run().figures();
    let kept = std::fs::read(pull.to.join("manifest.json")).unwrap();
    let blob = served
        .image
        .layout
        .blob_path(&served.image.manifest_digest)
        .unwrap();
    assert_eq!(kept, std::fs::read(blob).unwrap());
}

#[test]
fn a_digest_in_the_reference_is_held_to() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let right = format!("{}/team/app@{}", served.host, served.image.manifest_digest);
    Pull::of_reference(&right).run().figures();
    let wrong = format!("{}/team/app@sha256:{}", served.host, "0".repeat(64));
    let pull = Pull::of_reference(&wrong);
    pull.run().failure("not_found");
    pull.assert_untouched();
}

#[test]
fn a_file_or_a_broken_path_is_no_directory() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let pull = Pull::of(&served);
    let file = pull.beside("file");
    std::fs::write(&file, "mine").unwrap();
    for to in [file.clone(), file.join("below"), "/proc/no/such".into()] {
        let ended = Pull::of(&served).to(&to).run();
        assert!(matches!(ended.code, Some(1 | 2)), "{ended:#?}");
        assert!(
            ended.stderr.contains(to.to_str().unwrap()),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(served.layer_requests(), 0);
}

#[test]
fn a_link_to_an_empty_directory_stays_a_link() {
    let faults = vec![fault(
        FaultTarget::Layer(2),
        FaultTimes::First(1),
        status(404),
    )];
    let served = Served::faulty(TestImage::preset("tiny"), faults);
    let pull = Pull::of(&served);
    let (link, target) = (pull.beside("link"), pull.beside("target"));
    std::fs::create_dir(&target).unwrap();
    symlink(&target, &link).unwrap();
    let pull = pull.to(&link);
    pull.run().failure("not_found");
    assert!(link.is_symlink() && names(&target).is_empty());
    pull.run().figures();
    assert!(link.is_symlink());
    pull.trees(&served.image);
}

#[test]
fn two_pulls_into_one_directory_leave_one_whole_image() {
    let profile = RegistryProfile {
        connection_bytes_per_second: NonZeroU64::new(300_000),
        ..RegistryProfile::default()
    };
    let served = Served::new(TestImage::preset("tiny"), profile, Vec::new());
    for _ in 0..5 {
        let pull = Pull::of(&served);
        let both = [pull.start(), pull.start()];
        let codes = both.map(|child| child.wait_with_output().unwrap().status.code().unwrap());
        assert!(codes.contains(&0), "{codes:?}");
        pull.trees(&served.image);
    }
}

#[test]
fn a_mounted_pull_shows_the_merged_tree() {
    if !super::command::is_root("a_mounted_pull_shows_the_merged_tree") {
        return;
    }
    for preset in ["tiny", "many-layers"] {
        let served = Served::healthy(TestImage::preset(preset));
        let pull = Pull::of(&served);
        let point = pull.beside("merged");
        std::fs::create_dir(&point).unwrap();
        let pull = pull.with(&["--mount", point.to_str().unwrap()]);
        let ended = pull.run();
        let hello = point.join("bin/hello").is_file();
        let read_only = std::fs::write(point.join("new"), "").is_err();
        let unmounted = std::process::Command::new("umount")
            .arg(&point)
            .status()
            .unwrap();
        ended.figures();
        assert!(
            hello && read_only && unmounted.success(),
            "{preset}: {hello} {read_only} {unmounted}"
        );
    }
}

#[test]
fn a_mount_point_that_is_missing_fails_without_leftovers() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let pull = Pull::of(&served);
    let point = pull.beside("nowhere");
    let pull = pull.with(&["--mount", point.to_str().unwrap()]);
    pull.run().failure("disk");
    pull.assert_untouched();
}
