//! Cases 24 to 27: the ends, the compression and the extended headers of a stream.

use std::io::Write as _;

use flate2::{Compression, GzBuilder, write::GzEncoder};
use parapull_snapshotter::unpack::{Bounds, Class, Encoding, LayerSpec, Position, UnpackError};

use super::archive::{GNU, Member, archive, dir, file, open_archive, record, symlink};
use super::lane::{is_root, place, refused, run, spec, upper};
use super::tree::Tree;

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

/// A few hundred kilobytes, part of which does not compress.
pub fn sample() -> Vec<u8> {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    })
    .take(200_000)
    .collect();
    let text = "some text that compresses well\n".repeat(10_000);
    archive([
        dir("d"),
        file("d/noise", noise),
        file("d/text", text),
        symlink("s", "d/text"),
    ])
}

pub fn unpack_with(compressed: &[u8], spec: &LayerSpec) -> Result<Tree, UnpackError> {
    let mut trees = Vec::new();
    for threads in 1..=3 {
        let place = place();
        let dir = place.path().join("layer");
        let outcome = run(
            compressed,
            spec,
            &dir,
            Position::Upper,
            &Bounds::default(),
            threads,
        );
        match outcome {
            Ok(unpacked) => trees.push(Tree::read(&unpacked.staged.root)),
            Err(error) => {
                assert!(!dir.exists());
                return Err(error);
            }
        }
    }
    assert!(
        trees.windows(2).all(|pair| pair[0] == pair[1]),
        "threads make no difference"
    );
    Ok(trees.remove(0))
}

#[test]
fn case_24_the_end_of_an_archive() {
    if !is_root("case_24_the_end_of_an_archive") {
        return;
    }
    let open = open_archive([file("f", "x")]);
    let ends: [(&str, Vec<u8>); 6] = [
        ("two blocks", vec![0; 1024]),
        ("none", Vec::new()),
        ("one block", vec![0; 512]),
        ("record padding", vec![0; 10_240]),
        (
            "garbage behind",
            [vec![0; 1024], b"garbage".to_vec()].concat(),
        ),
        (
            "a second archive behind",
            [vec![0; 1024], archive([file("g", "x")])].concat(),
        ),
    ];
    for (case, end) in ends {
        let tree = upper(&[open.clone(), end].concat()).unwrap().tree();
        assert_eq!(tree.paths(), ["f"], "{case}");
    }
    let no_padding = [open[..512].to_vec(), b"x".to_vec()].concat();
    assert_eq!(upper(&no_padding).unwrap().tree().at("f").size, 1);
    assert!(upper(b"").unwrap().tree().0.is_empty());
}

#[test]
fn case_24_truncation_is_an_error_at_every_block() {
    if !is_root("case_24_truncation_is_an_error_at_every_block") {
        return;
    }
    let tar = archive([
        file("f", "x".repeat(700)),
        file("g", "y").pax("path", "long"),
    ]);
    let whole_entries = [0, 1536, 3584];
    for length in (100..tar.len() - 1024).step_by(100) {
        let ends_in_padding = [1212..1536, 2062..2560, 3073..3584]
            .iter()
            .any(|padding| padding.contains(&length));
        let outcome = upper(&tar[..length]);
        if whole_entries.contains(&length) || ends_in_padding {
            continue;
        }
        assert_eq!(
            outcome.err().map(|error| error.class()),
            Some(Class::Corrupt),
            "{length}"
        );
    }
}

#[test]
fn case_24_checksums() {
    if !is_root("case_24_checksums") {
        return;
    }
    let mut wrong = archive([file("f", "x")]);
    wrong[100] ^= 1;
    assert_eq!(refused(&wrong), Class::Corrupt);
    let mut signed = file(b"\xff\xfe", "x").bytes();
    let sum: i64 = signed[..512]
        .iter()
        .enumerate()
        .map(|(index, byte)| match index {
            148..156 => i64::from(b' '),
            _ => i64::from(byte.cast_signed()),
        })
        .sum();
    signed[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    assert_eq!(upper(&signed).unwrap().tree().0.len(), 1);
}

#[test]
fn case_25_gzip_in_every_dress() {
    if !is_root("case_25_gzip_in_every_dress") {
        return;
    }
    let tar = sample();
    let expected = upper(&tar).unwrap().tree();
    let (front, back) = tar.split_at(100_000);
    let dressed = |bytes: &[u8]| {
        let builder = GzBuilder::new()
            .extra(&b"BC\x02\0xx"[..])
            .filename("name")
            .comment("comment")
            .mtime(5);
        let mut encoder = builder.write(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let cases: [(&str, Vec<u8>); 8] = [
        ("plain member", gzip(&tar)),
        ("extra, name, comment", dressed(&tar)),
        ("two members", [gzip(front), dressed(back)].concat()),
        (
            "empty member between",
            [gzip(front), gzip(b""), gzip(back)].concat(),
        ),
        ("zero padding", [gzip(&tar), vec![0; 1000]].concat()),
        ("garbage", [gzip(&tar), b"garbage".to_vec()].concat()),
        (
            "garbage like a member",
            [gzip(&tar), b"\x1f\x8b\x08\xff garbage".to_vec()].concat(),
        ),
        ("cut magic", [gzip(&tar), b"\x1f".to_vec()].concat()),
    ];
    for (case, compressed) in cases {
        let spec = spec(&compressed, &tar, Encoding::Sniffed);
        assert_eq!(unpack_with(&compressed, &spec).unwrap(), expected, "{case}");
    }
    let members: Vec<u8> = tar.chunks(1000).flat_map(gzip).collect();
    let spec = spec(&members, &tar, Encoding::Sniffed);
    assert_eq!(
        unpack_with(&members, &spec).unwrap(),
        expected,
        "many members"
    );
}

#[test]
fn case_25_the_empty_layer() {
    if !is_root("case_25_the_empty_layer") {
        return;
    }
    let tar = vec![0; 1024];
    let compressed = gzip(&tar);
    let tree = unpack_with(&compressed, &spec(&compressed, &tar, Encoding::Sniffed)).unwrap();
    assert!(tree.0.is_empty());
}

#[test]
fn case_25_broken_gzip_is_corrupt() {
    if !is_root("case_25_broken_gzip_is_corrupt") {
        return;
    }
    let tar = sample();
    let whole = gzip(&tar);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let mut checksum = whole.clone();
    checksum[whole.len() - 6] ^= 1;
    let truncated = whole[..whole.len() - 9].to_vec();
    let no_trailer = whole[..whole.len() - 8].to_vec();
    let second_broken = [whole.clone(), checksum.clone()].concat();
    for (case, compressed) in [
        ("flipped bit", flipped),
        ("wrong checksum", checksum),
        ("truncated", truncated),
        ("no trailer", no_trailer),
        ("second member", second_broken),
    ] {
        let spec = spec(&compressed, &tar, Encoding::Sniffed);
        assert_eq!(
            unpack_with(&compressed, &spec).unwrap_err().class(),
            Class::Corrupt,
            "{case}"
        );
    }
}

#[test]
fn case_26_the_magic_decides_where_the_media_type_lets_it() {
    if !is_root("case_26_the_magic_decides_where_the_media_type_lets_it") {
        return;
    }
    let tar = sample();
    let expected = upper(&tar).unwrap().tree();
    let (front, back) = tar.split_at(99_999);
    let skippable = |tag: u8| [&[tag, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("gzip", gzip(&tar)),
        ("plain", tar.clone()),
        ("zstd", zstd(&tar)),
        ("zstd frames", [zstd(front), zstd(back)].concat()),
        ("skippable first", [skippable(0x50), zstd(&tar)].concat()),
        (
            "skippable between",
            [zstd(front), skippable(0x5f), zstd(back)].concat(),
        ),
        ("skippable last", [zstd(&tar), skippable(0x57)].concat()),
    ];
    for (case, compressed) in cases {
        let spec = spec(&compressed, &tar, Encoding::Sniffed);
        assert_eq!(unpack_with(&compressed, &spec).unwrap(), expected, "{case}");
    }
    for compressed in [gzip(&tar), zstd(&tar)] {
        let spec = spec(&compressed, &tar, Encoding::Plain);
        assert_eq!(
            unpack_with(&compressed, &spec).unwrap_err().class(),
            Class::Corrupt
        );
    }
}

#[test]
fn case_26_broken_zstd_is_corrupt() {
    if !is_root("case_26_broken_zstd_is_corrupt") {
        return;
    }
    let tar = sample();
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&tar).unwrap();
    let whole = encoder.finish().unwrap();
    let mut checksum = whole.clone();
    *checksum.last_mut().unwrap() ^= 1;
    let cases = [
        ("checksum", checksum),
        ("truncated", whole[..whole.len() - 100].to_vec()),
        (
            "garbage behind",
            [whole.clone(), b"garbage!".to_vec()].concat(),
        ),
    ];
    for (case, compressed) in cases {
        let spec = spec(&compressed, &tar, Encoding::Sniffed);
        assert_eq!(
            unpack_with(&compressed, &spec).unwrap_err().class(),
            Class::Corrupt,
            "{case}"
        );
    }
}

#[test]
fn case_26_a_zstd_window_beyond_128_mib_is_refused() {
    if !is_root("case_26_a_zstd_window_beyond_128_mib_is_refused") {
        return;
    }
    let tar = sample();
    // A frame header that asks for a window of 2^28 bytes, and nothing behind it.
    let compressed = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (28 - 10) << 3, 1, 0, 0];
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    assert_eq!(
        unpack_with(&compressed, &spec).unwrap_err().class(),
        Class::Corrupt
    );
}

#[test]
fn case_27_long_names() {
    if !is_root("case_27_long_names") {
        return;
    }
    let gnu = |typeflag: u8, text: &str| {
        Member::new(typeflag, "././@LongLink")
            .magic(GNU)
            .data(format!("{text}\0"))
    };
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let members = [
        gnu(b'L', &long),
        file("cut", "x").magic(GNU),
        gnu(b'K', &long),
        gnu(b'L', "link"),
        symlink("cut", "cut").magic(GNU),
        file("both", "y").pax("path", "pax-name"),
        file("next", "z"),
        file("n", "p").patch(345, "prefix/of/it"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.at(&long).size, 1);
    assert_eq!(tree.at("link").target, long.as_bytes());
    for path in ["pax-name", "next", "prefix/of/it/n"] {
        assert_eq!(tree.at(path).kind, 'f', "{path}");
    }
}

#[test]
fn case_27_gnu_names_win_over_pax_names_as_in_go() {
    if !is_root("case_27_gnu_names_win_over_pax_names_as_in_go") {
        return;
    }
    let long = Member::new(b'L', "././@LongLink").magic(GNU).data("gnu\0");
    let pax = Member::new(b'x', "pax").data(record(b"path", b"pax"));
    for members in [[long.clone(), pax.clone()], [pax, long]] {
        let tree = upper(&archive(members.into_iter().chain([file("header", "x")])))
            .unwrap()
            .tree();
        assert_eq!(tree.paths(), ["gnu"]);
    }
}

#[test]
fn case_27_the_size_of_pax_overrides_and_does_not_leak() {
    if !is_root("case_27_the_size_of_pax_overrides_and_does_not_leak") {
        return;
    }
    let inner = file("inner", "smuggled").bytes();
    let members = [
        file("f", inner).size(0).pax("size", "1024"),
        file("g", "four"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.paths(), ["f", "g"]);
    assert_eq!((tree.at("f").size, tree.at("g").size), (1024, 4));
    let leaking = [
        Member::new(b'x', "pax").data(record(b"size", b"512")),
        Member::new(b'L', "long").magic(GNU).data("name\0"),
        file("cut", "x".repeat(512)).size(0),
        file("after", "y"),
    ];
    let tree = upper(&archive(leaking)).unwrap().tree();
    assert_eq!((tree.at("name").size, tree.at("after").size), (512, 1));
}

#[test]
fn case_27_the_last_of_several_extended_headers_wins() {
    if !is_root("case_27_the_last_of_several_extended_headers_wins") {
        return;
    }
    let pax = |key: &str, value: &str| {
        Member::new(b'x', "pax").data(record(key.as_bytes(), value.as_bytes()))
    };
    let members = [
        pax("path", "first"),
        pax("uid", "5"),
        file("header", "x"),
        pax("path", "a"),
        pax("path", "b"),
        file("c", "x"),
    ];
    let tree = upper(&archive(members)).unwrap().tree();
    assert_eq!(tree.paths(), ["b", "header"]);
    assert_eq!(tree.at("header").uid, 5);
}

#[test]
fn case_27_a_global_header_ends_what_was_pending() {
    if !is_root("case_27_a_global_header_ends_what_was_pending") {
        return;
    }
    let pax = Member::new(b'x', "pax").data(record(b"path", b"lost"));
    let global = Member::new(b'g', "g").data(record(b"comment", b"c"));
    assert_eq!(
        upper(&archive([pax, global, file("f", "x")]))
            .unwrap()
            .tree()
            .paths(),
        ["f"]
    );
}

#[test]
fn case_27_malformed_records_and_endless_headers_are_refused() {
    if !is_root("case_27_malformed_records_and_endless_headers_are_refused") {
        return;
    }
    let pax = |body: &str| Member::new(b'x', "pax").data(body);
    let cases = [
        ("length", vec![pax("99 path=x\n"), file("f", "")]),
        ("no newline", vec![pax("10 path=ab"), file("f", "")]),
        (
            "trailing zeros",
            vec![pax("10 path=a\n\0\0\0"), file("f", "")],
        ),
        ("number", vec![pax("10 uid=abc\n"), file("f", "")]),
        ("negative size", vec![pax("11 size=-1\n"), file("f", "")]),
        ("a thousand headers", vec![pax("10 path=a\n"); 1000]),
    ];
    for (case, members) in cases {
        assert_eq!(refused(&archive(members)), Class::Corrupt, "{case}");
    }
}
