//! What is inflated ahead of its reader is, bit for bit, what was compressed: by Go's gzip at its levels, and by zlib's
//! strategies, which make streams of nothing but stored, fixed or Huffman-only blocks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use parapull_snapshotter::inflate::probe;

#[test]
fn go_s_streams_are_inflated_exactly() {
    let Some(program) = go_compressor() else {
        return skipped("Go's gzip", "needs go");
    };
    for (what, bytes) in corpora() {
        for level in ["-2", "0", "1", "6", "9"] {
            let stream = output(Command::new(&program).arg(level), &bytes);
            agrees(
                &format!("{what}, Go's gzip at level {level}"),
                &stream,
                &bytes,
            );
        }
    }
    std::fs::remove_file(program).unwrap();
}

#[test]
fn streams_of_one_kind_of_block_are_inflated_exactly() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("zlib's strategies", "needs python3");
    }
    for (what, bytes) in corpora() {
        for (blocks, level, strategy) in [
            ("stored", "0", "Z_DEFAULT_STRATEGY"),
            ("fixed", "6", "Z_FIXED"),
            ("Huffman-only", "6", "Z_HUFFMAN_ONLY"),
            ("run-length", "6", "Z_RLE"),
        ] {
            let mut python = Command::new("python3");
            python.args(["-c", BY_STRATEGY, level, strategy]);
            let stream = output(&mut python, &bytes);
            agrees(&format!("{what}, {blocks} blocks"), &stream, &bytes);
        }
    }
}

/// In order; by guesses in stretches short and long; and from the checkpoints noted on the way.
fn agrees(what: &str, stream: &[u8], bytes: &[u8]) {
    let mut inflated = Vec::new();
    let checkpoints = probe::in_order(stream, Some(SPAN_BYTES), |piece| {
        inflated.extend_from_slice(piece);
    });
    let checkpoints = checkpoints.unwrap();
    assert!(inflated == bytes, "{what}, in order");
    for (guessers, stretch_bytes, known) in [
        (2, 60_000, &[][..]),
        (3, 150_000, &[]),
        (2, 100_000, &checkpoints),
    ] {
        inflated.clear();
        let take = |piece: &[u8]| inflated.extend_from_slice(piece);
        probe::ahead(stream, guessers, stretch_bytes, known, take).unwrap();
        let entries = known.len();
        assert!(
            inflated == bytes,
            "{what}, {guessers} guessers, stretches of {stretch_bytes}, {entries} checkpoints"
        );
    }
}

/// A program, text, what does not compress, and what compresses as far as it can.
fn corpora() -> [(&'static str, Vec<u8>); 4] {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let middle = program.len() / 2;
    let binary = program[middle..].iter().copied().take(CORPUS_BYTES);
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state >> 33
    };
    let mut text = Vec::new();
    while text.len() < CORPUS_BYTES {
        let (name, value) = (next() % 700, next() % 50_000);
        text.extend_from_slice(format!("let item_{name} = {value:#x};\n").as_bytes());
    }
    let noise = (0..CORPUS_BYTES / 2).map(|_| next() as u8).collect();
    [
        ("a program", binary.collect()),
        ("text", text),
        ("noise", noise),
        ("zeros", vec![0; 4 * CORPUS_BYTES]),
    ]
}

/// Go's compressor, built with the test's own artefacts; none where there is no Go.
fn go_compressor() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inflate/compress.go");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = place.join(format!("compress-{}", std::process::id()));
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&program, &source])
        .env("GO111MODULE", "off")
        .env("GOCACHE", place.join("go-cache"))
        .status();
    built
        .is_ok_and(|status| status.success())
        .then_some(program)
}

/// What `command` writes when it reads `input`.
fn output(command: &mut Command, input: &[u8]) -> Vec<u8> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || to.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

fn skipped(what: &str, why: &str) {
    eprintln!("SKIPPED exactness of {what}: {why}");
    assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
}

/// Several stretches of each size after compression.
const CORPUS_BYTES: usize = 700_000;
const SPAN_BYTES: u64 = 70_000;
const BY_STRATEGY: &str = "\
import sys, zlib
compressor = zlib.compressobj(int(sys.argv[1]), zlib.DEFLATED, 31, 8, getattr(zlib, sys.argv[2]))
sys.stdout.buffer.write(compressor.compress(sys.stdin.buffer.read()) + compressor.flush())
";
