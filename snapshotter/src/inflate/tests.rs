//! Whatever is guessed, the bytes are those that zlib-rs gives in order.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};
use proptest::prelude::*;

use super::{Checkpoint, Gzip, ParallelGzip, Stop};

/// Short, so that small samples have many checkpoints.
const SPAN_BYTES: u64 = 100_000;

/// Bytes, or that there are none to be had.
type Outcome = Result<Vec<u8>, ()>;

fn in_order(stream: &[u8], stop: Stop) -> Outcome {
    noted(stream, stop).map(|(bytes, _)| bytes)
}

fn noted(stream: &[u8], stop: Stop) -> Result<(Vec<u8>, Vec<Checkpoint>), ()> {
    let mut gzip = Gzip::new().unwrap();
    gzip.record(SPAN_BYTES);
    let mut room = vec![0; 70_000];
    let (mut at, mut bytes, mut idle) = (0, Vec::new(), 0);
    while idle < 3 {
        let step = gzip.step(&stream[at..], &mut room, stop).map_err(|_| ())?;
        at += step.consumed;
        bytes.extend_from_slice(&room[..step.produced]);
        idle = if step.consumed + step.produced == 0 {
            idle + 1
        } else {
            0
        };
    }
    gzip.end().map_err(|_| ())?;
    Ok((bytes, gzip.take_checkpoints()))
}

fn in_parallel(stream: &[u8], guessers: usize, stretch_bytes: usize) -> Outcome {
    entered(stream, guessers, stretch_bytes, &[]).map(|(bytes, _)| bytes)
}

/// The bytes, and the checkpoints noted on the way.
fn entered(
    stream: &[u8],
    guessers: usize,
    stretch_bytes: usize,
    checkpoints: &[Checkpoint],
) -> Result<(Vec<u8>, Vec<Checkpoint>), ()> {
    thread::scope(|scope| {
        let mut rest = stream;
        let read = move |room: &mut [u8]| {
            let bytes = room.len().min(rest.len()).min(50_000);
            room[..bytes].copy_from_slice(&rest[..bytes]);
            rest = &rest[bytes..];
            Ok::<_, ()>(bytes)
        };
        let mut gzip = Gzip::new().unwrap();
        gzip.record(SPAN_BYTES);
        let parallel = ParallelGzip::start(scope, gzip, guessers, stretch_bytes, checkpoints, read);
        let mut parallel = parallel.unwrap();
        let (mut bytes, mut room) = (Vec::new(), vec![0; 70_000]);
        let outcome = loop {
            match parallel.fill(&mut room) {
                Ok(0) => break Ok(()),
                Ok(filled) => bytes.extend_from_slice(&room[..filled]),
                Err(_) => break Err(()),
            }
        };
        let (mut gzip, read) = parallel.finish();
        outcome?;
        read?;
        gzip.end().map_err(|_| ())?;
        assert_eq!(gzip.taken(), stream.len() as u64);
        Ok((bytes, gzip.take_checkpoints()))
    })
}

/// Text with repetitions near and far, and stretches that do not compress.
fn sample(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut sample = Vec::with_capacity(bytes + 4096);
    while sample.len() < bytes {
        match next() % 8 {
            0 => (0..next() % 900).for_each(|_| sample.push(next() as u8)),
            1 => sample.extend(std::iter::repeat_n(next() as u8, (next() % 2000) as usize)),
            2 | 3 if sample.len() > 40_000 => {
                let from = sample.len() - 1 - (next() as usize % 33_000);
                let length = (next() as usize % 700).min(sample.len() - from);
                sample.extend_from_within(from..from + length);
            }
            _ => {
                let word = next();
                sample.extend(format!("fn item_{} = {:x};\n", word % 300, word % 5000).bytes());
            }
        }
    }
    sample.truncate(bytes);
    sample
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzBuilder::new()
        .filename("layer.tar")
        .extra(vec![7; 300])
        .write(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What a program makes of `bytes`; none if it is not installed.
fn by_program(program: &str, arguments: &[&str], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

fn agrees(what: &str, stream: &[u8], bytes: &[u8]) {
    for stop in [Stop::Full, Stop::Block] {
        assert!(
            in_order(stream, stop).as_deref() == Ok(bytes),
            "{what}, in order, {stop:?}"
        );
    }
    for (guessers, stretch_bytes) in [(1, 400_000), (3, 64 << 10), (2, 5_000)] {
        let parallel = in_parallel(stream, guessers, stretch_bytes);
        assert!(
            parallel.as_deref() == Ok(bytes),
            "{what}, {guessers} guessers, stretches of {stretch_bytes}"
        );
    }
}

#[test]
fn is_exact_on_every_compressor() {
    let bytes = sample(2 << 20, 1);
    for level in [0, 1, 6, 9] {
        agrees(&format!("zlib-rs -{level}"), &gzip(&bytes, level), &bytes);
    }
    for (program, arguments) in [
        ("gzip", &["-1"][..]),
        ("gzip", &["-6"]),
        ("gzip", &["-9"]),
        ("pigz", &["-6", "-p2", "-b128"]),
        ("igzip", &["-1"]),
    ] {
        let what = format!("{program} {}", arguments.join(" "));
        match by_program(program, arguments, &bytes) {
            Some(stream) => agrees(&what, &stream, &bytes),
            None => skipped(&what),
        }
    }
}

fn skipped(what: &str) {
    assert!(
        std::env::var_os("PARAPULL_REQUIRE_ALL").is_none(),
        "{what} is not installed"
    );
    eprintln!("SKIPPED {what}: not installed");
}

#[test]
fn is_exact_from_checkpoints_right_and_wrong() {
    let bytes = sample(3 << 20, 4);
    let stream = [gzip(&bytes[..2 << 20], 6), gzip(&bytes[2 << 20..], 1)].concat();
    let (_, checkpoints) = noted(&stream, Stop::Full).unwrap();
    assert!(checkpoints.len() > 10);
    assert_eq!(noted(&stream, Stop::Block).unwrap().1, checkpoints);
    for pair in checkpoints.windows(2) {
        assert!(pair[1].bytes_before > pair[0].bytes_before + SPAN_BYTES);
        let known = &bytes[..pair[1].bytes_before as usize];
        assert!(
            known.ends_with(&pair[1].window),
            "a window is what stands before"
        );
    }
    let (same, again) = entered(&stream, 2, 400_000, &checkpoints).unwrap();
    assert!(same == bytes);
    assert_eq!(again, checkpoints, "noted where they were entered");
    for (what, spoil) in SPOILERS {
        let mut wrong = checkpoints.clone();
        spoil(&mut wrong);
        let (same, _) = entered(&stream, 2, 400_000, &wrong).unwrap();
        assert!(same == bytes, "{what}");
    }
}

type Spoiler = fn(&mut Vec<Checkpoint>);

const SPOILERS: [(&str, Spoiler); 6] = [
    ("bits between blocks", |wrong| {
        each(wrong, |one| one.bit += 1);
    }),
    ("another window", |wrong| {
        each(wrong, |one| one.window.reverse());
    }),
    ("no window", |wrong| {
        each(wrong, |one| one.window = Box::default());
    }),
    ("reversed", |wrong| wrong.reverse()),
    ("bits behind the end", |wrong| {
        each(wrong, |one| one.bit += 1 << 40);
    }),
    ("every other one", |wrong| {
        wrong.retain(|one| one.bit % 2 == 0);
    }),
];

fn each(checkpoints: &mut [Checkpoint], change: impl Fn(&mut Checkpoint)) {
    checkpoints.iter_mut().for_each(change);
}

#[test]
fn is_exact_on_members_in_a_row_and_on_what_follows_them() {
    let bytes = sample(3 << 20, 2);
    let mut stream = Vec::new();
    for part in bytes.chunks(400_000) {
        stream.extend(gzip(part, 6));
    }
    agrees("eight members", &stream, &bytes);
    let padded = [&stream[..], &[0; 70_000]].concat();
    agrees("padding", &padded, &bytes);
    let with_garbage = [&stream[..], b"garbage behind the last member"].concat();
    agrees("garbage", &with_garbage, &bytes);
    let many: Vec<u8> = bytes[..400_000]
        .chunks(900)
        .flat_map(|part| gzip(part, 6))
        .collect();
    agrees("a member for every file", &many, &bytes[..400_000]);
}

#[test]
fn is_exact_where_nothing_can_be_guessed() {
    let noise: Vec<u8> = (0..2_000_000_u64)
        .map(|place| (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8)
        .collect();
    agrees("stored blocks", &gzip(&noise, 0), &noise);
    agrees("noise", &gzip(&noise, 6), &noise);
    let zeros = vec![0; 40 << 20];
    agrees("zeros", &gzip(&zeros, 9), &zeros);
    agrees("nothing", &gzip(&[], 6), &[]);
}

#[test]
fn a_stream_cut_off_anywhere_is_an_error() {
    let bytes = sample(700_000, 3);
    let stream = gzip(&bytes, 6);
    for cut in (0..stream.len()).step_by(stream.len() / 97) {
        assert_eq!(
            in_order(&stream[..cut], Stop::Full),
            Err(()),
            "in order, at {cut}"
        );
        assert_eq!(in_parallel(&stream[..cut], 2, 40_000), Err(()), "at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn wrong_bytes_end_as_they_do_in_order(
        seed in 1_u32..1000,
        level in 1_u32..=9,
        changes in prop::collection::vec((0.0_f64..1.0, any::<u8>()), 0..4),
        stretch_bytes in 3_000_usize..80_000,
    ) {
        let mut stream = gzip(&sample(400_000, seed), level);
        for (place, value) in changes {
            let at = (place * stream.len() as f64) as usize;
            stream[at] = value;
        }
        let mut reference = Vec::new();
        let read = MultiGzDecoder::new(&stream[..]).read_to_end(&mut reference);
        let ordered = in_order(&stream, Stop::Full);
        prop_assert!(in_parallel(&stream, 2, stretch_bytes) == ordered);
        // flate2 refuses what stands behind the last member; whatever it accepts is what we give.
        if read.is_ok() {
            prop_assert!(ordered == Ok(reference));
        }
    }
}
