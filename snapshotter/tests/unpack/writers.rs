//! However many threads write small files, the tree, what is told of it and the error are the same.

use std::io::{self, Read};

use parapull_snapshotter::unpack::{
    Attributes, Bounds, Controls, Encoding, LayerPath, OverlaySink, Position, Progress, Sink as _,
    Staged, ThreadPermit, Unpacked, unpack,
};

use super::archive::{Member, archive, dir, file, hardlink, symlink};
use super::lane::{bottom, is_root, place, spec};
use super::sequences::{Plan, Taste, sequence};
use super::tree::Tree;
use super::whiteouts::whiteout;

/// What can be told of an outcome.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Made(Tree, Box<Staged>),
    Refused(String),
}

fn unpacked(tar: &[u8], position: Position, writers: u32) -> Outcome {
    let place = place();
    let dir = place.path().join("layer");
    let sink = OverlaySink::new(&dir, position)
        .unwrap()
        .with_writers(writers);
    let controls = Controls {
        threads: &ThreadPermit::new(1),
        progress: &Progress::new(),
        stop_source: &|| {},
    };
    let spec = spec(tar, tar, Encoding::Plain);
    match unpack(tar, &spec, Box::new(sink), &Bounds::default(), controls) {
        Ok(Unpacked { staged, .. }) => {
            let tree = Tree::read(&staged.root);
            // Where it is differs, what it is does not.
            let staged = Staged {
                root: "layer".into(),
                ..staged
            };
            Outcome::Made(tree, Box::new(staged))
        }
        Err(error) => {
            assert!(!dir.exists(), "a failed layer left something behind");
            Outcome::Refused(format!("{:?}: {error}", error.class()))
        }
    }
}

/// Unpacks with any number of writers in every position, and says how many outcomes were trees.
fn compare(tar: &[u8], what: &str) -> usize {
    let lower = lower();
    let positions = [
        Position::Bottom,
        Position::Upper,
        Position::Over(vec![lower.root()]),
    ];
    let mut made = 0;
    for position in positions {
        let alone = unpacked(tar, position.clone(), 0);
        made += usize::from(matches!(alone, Outcome::Made(..)));
        for writers in [1, 2, 4] {
            let shared = unpacked(tar, position.clone(), writers);
            assert!(
                alone == shared,
                "{what}, {position:?}, {writers} writers: {shared:#?}\nalone: {alone:#?}"
            );
        }
    }
    made
}

fn lower() -> super::lane::Layer {
    let lower = archive([
        dir("a").mode(0o2770).owner(5, 6),
        dir("b").xattr("system.posix_acl_default", super::linking::acl()),
        file("c", "x"),
    ]);
    bottom(&lower).unwrap()
}

#[test]
fn random_layers_are_the_same_with_any_number_of_writers() {
    if !is_root("random_layers_are_the_same_with_any_number_of_writers") {
        return;
    }
    let (mut made, mut tried) = (0, 0);
    for seed in 0..SEQUENCES {
        for (index, plan) in sequence(seed, Taste::Wild).iter().enumerate() {
            made += compare(&plan.tar(), &format!("seed {seed}, layer {index}"));
            tried += 3;
        }
    }
    assert!(made * 2 > tried && made < tried, "{made} trees of {tried}");
}

#[test]
fn layers_joined_of_many_are_the_same_with_any_number_of_writers() {
    if !is_root("layers_joined_of_many_are_the_same_with_any_number_of_writers") {
        return;
    }
    // Hundreds of entries over few names: what is replaced, linked and removed is often still being written.
    for seed in 0..JOINED {
        let mut joined = Plan {
            entries: Vec::new(),
            end: vec![0; 1024],
        };
        for sequence in (0..20).map(|part| sequence(10_000 + seed * 20 + part, Taste::Wild)) {
            for plan in sequence {
                joined.entries.extend(plan.entries);
            }
        }
        joined.entries.retain(|entry| entry.iter().all(is_harmless));
        compare(&joined.tar(), &format!("joined {seed}"));
    }
}

/// What is refused for itself would end most of the archives early.
fn is_harmless(member: &Member) -> bool {
    matches!(member.typeflag(), b'0' | b'1' | b'2' | b'5' | b'L' | b'K')
}

#[test]
fn what_waits_for_a_file_finds_it_done() {
    if !is_root("what_waits_for_a_file_finds_it_done") {
        return;
    }
    let small = |name: String| file(name, vec![b'x'; 5_000]).owner(7, 8).mode(0o4755);
    let mut members = vec![dir("d"), symlink("s", "d")];
    for n in 0..200 {
        members.push(small(format!("d/{n}")));
        match n % 6 {
            // Other attributes through another name, by a way over a symlink too.
            0 => members.push(hardlink(format!("h{n}"), format!("d/{n}")).mode(0o600)),
            1 => members.push(hardlink(format!("h{n}"), format!("s/{n}")).mode(0o640)),
            // Replaced by the same kind, another one, and what is above it.
            2 => members.push(file(format!("d/{n}"), "again")),
            3 => members.push(symlink(format!("s/{n}"), "elsewhere")),
            4 => members.push(dir(format!("d/{n}"))),
            _ => members.push(whiteout(&format!("d/.wh.{n}"))),
        }
    }
    assert_eq!(compare(&archive(members.clone()), "dense"), 3);
    members.push(file("d", "in place of all"));
    assert_eq!(compare(&archive(members), "removed"), 3);
}

#[test]
fn of_several_failures_the_first_is_told() {
    if !is_root("of_several_failures_the_first_is_told") {
        return;
    }
    let bad = |name: &str| file(name, "x").xattr("security.capability", "y");
    let many = |from: u32| (from..from + 100).map(|n| file(format!("f{n}"), vec![b'x'; 4_000]));
    let cases: Vec<(&str, Vec<Member>, &str)> = vec![
        (
            "two bad files",
            many(0)
                .chain([bad("first")])
                .chain(many(200))
                .chain([bad("second")])
                .collect(),
            "first",
        ),
        (
            "a bad file, then a bad entry",
            many(0)
                .chain([bad("first"), hardlink("second", "nowhere")])
                .collect(),
            "first",
        ),
        (
            "a bad entry, then a bad file",
            many(0)
                .chain([hardlink("first", "nowhere"), bad("second")])
                .collect(),
            "first",
        ),
        (
            "a bad file, then a broken archive",
            many(0)
                .chain([
                    bad("first"),
                    Member::new(b'0', "second").patch(148, "nonsense"),
                ])
                .collect(),
            "first",
        ),
        (
            "a bad file that is last",
            many(0).chain([bad("first")]).collect(),
            "first",
        ),
        (
            "a bad file that is replaced",
            vec![bad("first"), file("first", "better")],
            "first",
        ),
    ];
    for (what, members, named) in cases {
        let tar = archive(members);
        assert_eq!(compare(&tar, what), 0, "{what} is accepted");
        let Outcome::Refused(error) = unpacked(&tar, Position::Upper, 2) else {
            panic!("{what} is accepted");
        };
        assert!(error.contains(named), "{what}: {error}");
    }
}

#[test]
fn a_file_with_holes_keeps_them() {
    if !is_root("a_file_with_holes_keeps_them") {
        return;
    }
    let place = place();
    let sink = OverlaySink::new(&place.path().join("layer"), Position::Upper).unwrap();
    let mut sink = Box::new(sink.with_writers(1));
    let attributes = Attributes {
        mode: 0o644,
        ..Attributes::default()
    };
    for (name, pieces) in [
        ("begins", vec![(0, 100), (40_000, 100)]),
        ("ends", vec![(0, 100)]),
        ("is", vec![]),
    ] {
        let path = LayerPath::clean(name.as_bytes()).unwrap();
        sink.file(&path, &attributes, 60_000).unwrap();
        for (offset, bytes) in pieces {
            sink.data(offset, &vec![b'x'; bytes]).unwrap();
        }
        sink.file_end().unwrap();
    }
    let staged = sink.finish().unwrap();
    for (name, blocks) in [("begins", 16), ("ends", 8), ("is", 0)] {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(staged.root.join(name)).unwrap();
        assert_eq!(
            (metadata.len(), metadata.blocks()),
            (60_000, blocks),
            "{name}"
        );
    }
}

/// A source that changes the permit at every few reads.
struct Wavering<'a> {
    bytes: &'a [u8],
    permit: &'a ThreadPermit,
    reads: u32,
}

impl Read for Wavering<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(10) {
            self.permit
                .grant([3, 6, 1, 4, 2][(self.reads / 10) as usize % 5]);
        }
        let bytes = buffer.len().min(100_000);
        self.bytes.read(&mut buffer[..bytes])
    }
}

#[test]
fn small_files_are_the_same_under_any_permit() {
    if !is_root("small_files_are_the_same_under_any_permit") {
        return;
    }
    // Small, then large, then small again: writers come, go and come.
    let small = |part: usize| {
        (0..1000).map(move |n| file(format!("{part}-{n}"), vec![part as u8; 3_000 + n]))
    };
    let large = (0..8).map(|n| file(format!("large-{n}"), vec![n; 2 << 20]));
    let tar = archive(small(1).chain(large).chain(small(2)));
    let spec = spec(&tar, &tar, Encoding::Plain);
    let Outcome::Made(alone, staged) = unpacked(&tar, Position::Upper, 0) else {
        panic!("refused");
    };
    for threads in [1, 2, 3, 4, 6, 0] {
        let place = place();
        let sink = OverlaySink::new(&place.path().join("layer"), Position::Upper).unwrap();
        let permit = ThreadPermit::new(threads);
        let ignored = ThreadPermit::new(1);
        let progress = Progress::new();
        let controls = Controls {
            threads: &permit,
            progress: &progress,
            stop_source: &|| {},
        };
        // None stands for a permit that changes.
        let source = Wavering {
            bytes: &tar,
            permit: if threads == 0 { &permit } else { &ignored },
            reads: 0,
        };
        let made = unpack(source, &spec, Box::new(sink), &Bounds::default(), controls).unwrap();
        assert!(alone == Tree::read(&made.staged.root), "{threads} threads");
        assert_eq!(made.staged.usage, staged.usage);
        if threads > 0 {
            assert!(
                progress.threads() <= threads,
                "{} of {threads}",
                progress.threads()
            );
        }
    }
}

/// Sequences of layers, and archives joined of many.
const SEQUENCES: u64 = 40;
const JOINED: u64 = 12;
