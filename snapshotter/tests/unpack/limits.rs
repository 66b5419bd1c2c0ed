//! Case 28: a layer may have what a limit says and not one more, and is told which limit it was.

use parapull_snapshotter::unpack::{Bounds, Class, Encoding, Position, UnpackError};

use super::archive::{GNU, Member, archive, dir, file, record, symlink};
use super::lane::{bounded, is_root, place, run, spec};
use super::streams::gzip;

/// A limit that a layer just keeps.
struct Case {
    key: &'static str,
    members: Vec<Member>,
    /// What the layer has of it.
    has: u64,
    set: fn(&mut Bounds, u64),
    /// The entry that the message names.
    path: &'static str,
}

fn sparse(form: &str, name: &str) -> Member {
    let member = Member::new(b'0', "decoy").pax("GNU.sparse.name", name);
    let data = |bytes: u64| "x".repeat(bytes as usize);
    match form {
        "0.1" => member
            .pax("GNU.sparse.size", "1000")
            .pax("GNU.sparse.numblocks", "3")
            .pax("GNU.sparse.map", "0,1,100,1,200,1")
            .data(data(3)),
        _ => member
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.realsize", "1000")
            .data([&b"3\n0\n1\n100\n1\n200\n1\n"[..], &[0; 494], b"xxx"].concat()),
    }
}

fn old_sparse(name: &str) -> Member {
    let slots: String = [0, 100, 200]
        .map(|offset| format!("{offset:011o}\0{:011o}\0", 1))
        .concat();
    let member = Member::new(b'S', name).magic(GNU).data("xxx");
    member
        .patch(386, slots)
        .patch(483, format!("{:011o}\0", 1000))
}

fn entry_cases() -> Vec<Case> {
    let named = |typeflag: u8, text: String| {
        Member::new(typeflag, "././@LongLink")
            .magic(GNU)
            .data(text + "\0")
    };
    vec![
        Case {
            key: "max_path",
            members: vec![file("d/0123456789", "x")],
            has: 12,
            set: |bounds, limit| bounds.path_bytes_max = limit,
            path: "d/0123456789",
        },
        Case {
            key: "max_path",
            members: vec![symlink("s", "01234567890123456789")],
            has: 20,
            set: |bounds, limit| bounds.path_bytes_max = limit,
            path: "s",
        },
        Case {
            key: "max_xattrs",
            members: vec![file("f", "").xattr("user.a", "1234").xattr("user.b", "12")],
            has: 18,
            set: |bounds, limit| bounds.xattr_bytes_max = limit,
            path: "f",
        },
        Case {
            key: "max_metadata",
            members: vec![
                dir("before"),
                Member::new(b'x', "pax").data(record(b"comment", &[b'c'; 986])),
                file("f", ""),
            ],
            has: 999,
            set: |bounds, limit| bounds.metadata_bytes_max = limit,
            path: "before",
        },
        Case {
            key: "max_metadata",
            members: vec![named(b'L', "l".repeat(199)), file("cut", "")],
            has: 200,
            set: |bounds, limit| bounds.metadata_bytes_max = limit,
            path: "",
        },
        Case {
            key: "max_metadata",
            members: vec![named(b'K', "k".repeat(299)), symlink("s", "cut").magic(GNU)],
            has: 300,
            set: |bounds, limit| bounds.metadata_bytes_max = limit,
            path: "",
        },
        Case {
            key: "max_metadata",
            members: vec![Member::new(b'g', "g").data(record(b"comment", &[b'c'; 986]))],
            has: 999,
            set: |bounds, limit| bounds.metadata_bytes_max = limit,
            path: "",
        },
    ]
}

fn layer_cases() -> Vec<Case> {
    let pieces: fn(&mut Bounds, u64) = |bounds, limit| bounds.sparse_pieces_max = limit;
    let pieces_of = |member: Member| Case {
        key: "max_sparse_pieces",
        members: vec![dir("before"), member],
        has: 3,
        set: pieces,
        path: "before",
    };
    vec![
        pieces_of(sparse("0.1", "s")),
        pieces_of(sparse("1.0", "s")),
        pieces_of(old_sparse("s")),
        Case {
            key: "max_entries",
            members: (0..11).map(|n| file(format!("f{n:02}"), "")).collect(),
            has: 11,
            set: |bounds, limit| bounds.entries_max = limit,
            path: "f10",
        },
        Case {
            key: "max_uncompressed",
            members: vec![file("f", vec![b'x'; 5120])],
            has: 512 + 5120 + 1024,
            set: |bounds, limit| bounds.uncompressed_bytes_max = limit,
            path: "",
        },
    ]
}

fn refusal(members: &[Member], bounds: &Bounds) -> Option<UnpackError> {
    bounded(&archive(members.to_vec()), Position::Upper, bounds).err()
}

#[test]
fn case_28_each_limit_is_kept_to_the_last_one() {
    if !is_root("case_28_each_limit_is_kept_to_the_last_one") {
        return;
    }
    for case in entry_cases().into_iter().chain(layer_cases()) {
        let Case { key, has, path, .. } = case;
        let mut bounds = Bounds::default();
        (case.set)(&mut bounds, has);
        let error = refusal(&case.members, &bounds);
        assert!(error.is_none(), "{key} {has}: {error:?}");
        (case.set)(&mut bounds, has - 1);
        let error = refusal(&case.members, &bounds).unwrap();
        assert_eq!(error.class(), Class::BadImage, "{key}: {error}");
        let message = error.to_string();
        let expected = [
            format!("unpack {path:?}: more than {} ", has - 1),
            format!("raise {key} "),
        ];
        for expected in expected {
            assert!(message.contains(&expected), "{key}: {message}");
        }
    }
}

#[test]
fn case_28_the_holes_of_sparse_files_count() {
    if !is_root("case_28_the_holes_of_sparse_files_count") {
        return;
    }
    let huge = Member::new(b'0', "s")
        .pax("GNU.sparse.major", "0")
        .pax("GNU.sparse.minor", "1")
        .pax("GNU.sparse.realsize", "100000")
        .pax("GNU.sparse.numblocks", "0")
        .pax("GNU.sparse.map", "");
    let mut bounds = Bounds {
        uncompressed_bytes_max: 100_000,
        ..Bounds::default()
    };
    assert!(refusal(std::slice::from_ref(&huge), &bounds).is_none());
    bounds.uncompressed_bytes_max -= 1;
    let error = refusal(&[huge], &bounds).unwrap().to_string();
    assert!(
        error.contains("\"s\"") && error.contains("holes counted"),
        "{error}"
    );
}

#[test]
fn case_28_a_bomb_stops_at_the_ratio() {
    if !is_root("case_28_a_bomb_stops_at_the_ratio") {
        return;
    }
    let tar = archive([file("zeros", vec![0; 4 << 20])]);
    let compressed = gzip(&tar);
    let ratio = (tar.len() / compressed.len()) as u64;
    let place = place();
    let spec = spec(&compressed, &tar, Encoding::Sniffed);
    for (limit, is_refused) in [(ratio + 1, false), (10, true)] {
        let bounds = Bounds {
            expansion_ratio_max: limit,
            expansion_free_bytes: 1 << 20,
            ..Bounds::default()
        };
        for threads in 1..=3 {
            let dir = place.path().join(format!("{limit}-{threads}"));
            let outcome = run(
                &compressed[..],
                &spec,
                &dir,
                Position::Upper,
                &bounds,
                threads,
            );
            assert_eq!(outcome.is_err(), is_refused, "{limit}");
            if let Err(error) = outcome {
                assert_eq!(error.class(), Class::BadImage, "{error}");
                assert!(error.to_string().contains("max_expansion"), "{error}");
                assert!(!dir.exists());
            }
        }
    }
}
