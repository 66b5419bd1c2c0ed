//! Cases 24 to 26 once more: streams that are cut, changed, or not what their media type or their digests say.

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::unpack::{Class, Encoding, LayerSpec, UnpackError};

use super::archive::{archive, dir, file, symlink};
use super::lane::{is_root, spec};
use super::streams::{gzip, sample, unpack_with, zstd};

#[test]
fn both_digests_and_the_size_are_checked() {
    if !is_root("both_digests_and_the_size_are_checked") {
        return;
    }
    let tar = sample();
    let compressed = gzip(&tar);
    let good = spec(&compressed, &tar, Encoding::Sniffed);
    let cases = [
        (
            "digest",
            LayerSpec {
                digest: Digest::of(b"other"),
                ..good.clone()
            },
        ),
        (
            "diff id",
            LayerSpec {
                diff_id: Digest::of(b"other"),
                ..good.clone()
            },
        ),
        (
            "fewer bytes",
            LayerSpec {
                size: good.size + 1,
                ..good.clone()
            },
        ),
        (
            "more bytes",
            LayerSpec {
                size: good.size - 1,
                ..good.clone()
            },
        ),
    ];
    for (case, spec) in cases {
        assert_eq!(
            unpack_with(&compressed, &spec).unwrap_err().class(),
            Class::Corrupt,
            "{case}"
        );
    }
}

#[test]
fn bytes_behind_the_archive_belong_to_the_diff_id() {
    if !is_root("bytes_behind_the_archive_belong_to_the_diff_id") {
        return;
    }
    let tar = archive([file("f", "x")]);
    let longer = [tar.clone(), b"behind".to_vec()].concat();
    let compressed = gzip(&longer);
    let good = spec(&compressed, &longer, Encoding::Sniffed);
    assert!(unpack_with(&compressed, &good).is_ok());
    let without = LayerSpec {
        diff_id: Digest::of(&tar),
        ..good
    };
    assert!(matches!(
        unpack_with(&compressed, &without),
        Err(UnpackError::DiffId { .. })
    ));
}

/// Every media type of layers, what it may hold, and what becomes of it.
#[test]
fn case_26_media_types_and_contents() {
    if !is_root("case_26_media_types_and_contents") {
        return;
    }
    let tar = archive([file("f", "x")]);
    let oci = "application/vnd.oci.image.layer.v1.tar";
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let docker = "application/vnd.docker.image.rootfs.diff.tar";
    let sniffed = [
        format!("{oci}+gzip"),
        format!("{oci}+zstd"),
        format!("{foreign}+gzip"),
        format!("{foreign}+zstd"),
        docker.to_owned(),
        format!("{docker}.gzip"),
        format!("{docker}.zstd"),
        "application/vnd.docker.image.rootfs.foreign.diff.tar".to_owned(),
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned(),
    ];
    let plain = [oci.to_owned(), foreign.to_owned()];
    let contents = [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("zstd", zstd(&tar)),
    ];
    for media_type in sniffed.iter().chain(&plain) {
        let encoding = Encoding::of_media_type(media_type).unwrap();
        for (content, compressed) in &contents {
            let outcome = unpack_with(compressed, &spec(compressed, &tar, encoding));
            let is_taken = *content == "plain" || sniffed.contains(media_type);
            match outcome {
                Ok(tree) => {
                    assert!(is_taken, "{media_type} holding {content}");
                    assert_eq!(tree.paths(), ["f"]);
                }
                Err(error) => {
                    assert!(!is_taken, "{media_type} holding {content}: {error}");
                    assert_eq!(error.class(), Class::Corrupt);
                }
            }
        }
    }
    let others = [
        format!("{oci}+gzip+encrypted"),
        format!("{oci}+bzip2"),
        format!("{docker}.xz"),
        "application/vnd.oci.empty.v1+json".to_owned(),
    ];
    for media_type in others {
        assert_eq!(Encoding::of_media_type(&media_type), None, "{media_type}");
    }
}

/// A stream that ends early is an error wherever it ends, by the digests and, where a manifest was made for the cut bytes,
/// by the stream itself.
#[test]
fn case_24_truncation_is_an_error_at_every_byte() {
    if !is_root("case_24_truncation_is_an_error_at_every_byte") {
        return;
    }
    let tar = archive([file("f", "x"), symlink("s", "f").pax("mtime", "5.5")]);
    let frames = [zstd(&tar[..700]), zstd(&tar[700..])].concat();
    let streams = [
        ("gzip", gzip(&tar), true),
        ("zstd", frames.clone(), true),
        ("plain", tar.clone(), false),
    ];
    let border = zstd(&tar[..700]).len();
    for (name, whole, is_framed) in streams {
        for length in 0..whole.len() {
            let cut = &whole[..length];
            let good = spec(&whole, &tar, Encoding::Sniffed);
            let error = unpack_with(cut, &good).unwrap_err();
            assert_eq!(error.class(), Class::Corrupt, "{name} {length}: {error}");
            let is_border = length == 0 || name == "zstd" && length == border;
            if is_framed && !is_border {
                let as_if_whole = spec(cut, &tar, Encoding::Sniffed);
                let error = unpack_with(cut, &as_if_whole).unwrap_err();
                assert_eq!(error.class(), Class::Corrupt, "{name} {length}: {error}");
            }
        }
    }
}

/// Any byte changed on the way is found, at the latest by the digest.
#[test]
fn case_25_a_changed_byte_is_found_wherever_it_is() {
    if !is_root("case_25_a_changed_byte_is_found_wherever_it_is") {
        return;
    }
    let tar = archive([file("f", "some content"), dir("d")]);
    for whole in [gzip(&tar), zstd(&tar)] {
        let good = spec(&whole, &tar, Encoding::Sniffed);
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x41;
            let error = unpack_with(&changed, &good).unwrap_err();
            let class = error.class();
            let is_judged = matches!(class, Class::Corrupt | Class::BadImage);
            assert!(is_judged, "{index}: {error}");
        }
    }
}
