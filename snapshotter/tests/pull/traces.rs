//! The trace of a pull: a fresh engine that is told the same says the same, byte for byte.

use std::path::Path;

use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes, RangeSupport};

use super::command::{Pull, is_root};
use super::images::TestImage;
use super::served::{Served, fault, status};
use super::strategies::STRATEGIES;

fn corrupt(layer: u32, offset: u64) -> Fault {
    fault(
        FaultTarget::Layer(layer),
        FaultTimes::First(1),
        FaultKind::CorruptByte { offset },
    )
}

#[test]
fn a_trace_replays_byte_for_byte() {
    let stall = FaultKind::StallAfter {
        bytes: 90_000,
        stall_ms: None,
    };
    let cases = [
        ("healthy", RangeSupport::Honoured, Vec::new()),
        ("no ranges", RangeSupport::IgnoredWith200, Vec::new()),
        ("odd ranges", RangeSupport::WrongContentRange, Vec::new()),
        (
            "faults",
            RangeSupport::Honoured,
            vec![
                corrupt(3, 2_000),
                fault(FaultTarget::Layer(21), FaultTimes::First(1), stall),
                fault(
                    FaultTarget::AnyLayer,
                    FaultTimes::Every(7),
                    FaultKind::ResetAfter { bytes: 10_000 },
                ),
                fault(FaultTarget::AnyLayer, FaultTimes::Every(11), status(503)),
            ],
        ),
        (
            "missing",
            RangeSupport::Honoured,
            vec![fault(
                FaultTarget::Layer(9),
                FaultTimes::Always,
                status(404),
            )],
        ),
    ];
    let image = TestImage::preset("ml-like:30MB");
    for (name, ranges, faults) in cases {
        for strategy in STRATEGIES {
            let profile = RegistryProfile {
                ranges,
                ..RegistryProfile::default()
            };
            let served = Served::new(image.clone(), profile, faults.clone());
            let pull = Pull::of(&served);
            let trace = pull.beside("trace.jsonl");
            let pull = pull
                .with(&["--strategy", strategy, "--trace", trace.to_str().unwrap()])
                .set("concurrent_download_chunk_size=256kb")
                .set("stall_timeout=1s");
            let ended = pull.run();
            assert_eq!(
                ended.code,
                Some(i32::from(name == "missing")),
                "{name} {strategy}: {ended:#?}"
            );
            replay(&trace, &format!("{name} {strategy}"));
        }
    }
}

/// A node of eight cores, where there are fewer: what is granted is the engine's to decide, and how fast that is is not asked.
#[test]
fn a_layer_that_is_alone_is_given_the_cores_that_are_idle() {
    if !is_root("a_layer_that_is_alone_is_given_the_cores_that_are_idle") {
        return;
    }
    let served = Served::healthy(TestImage::preset("one-giant-layer:64MB"));
    let run = |wide_threads: &str| {
        let pull = Pull::of(&served);
        let trace = pull.beside("trace.jsonl");
        let pull = pull
            .with(&["--trace", trace.to_str().unwrap()])
            .set("cores=8")
            .set(&format!("wide_threads={wide_threads}"))
            .set("wide_min=1MiB")
            .set("concurrent_download_chunk_size=1MiB");
        pull.run().figures();
        let widest = widest(&trace);
        replay(&trace, wide_threads);
        (widest, pull.trees(&served.image))
    };
    let (narrow, expected) = run("1");
    assert_eq!(narrow, 2, "no more than threads_per_lane");
    let (wide, trees) = run("6");
    assert_eq!(wide, 6, "one that is alone gets all that help");
    assert!(trees == expected, "the trees differ");
}

/// The most threads a lane was told to use.
fn widest(trace: &Path) -> u64 {
    let text = std::fs::read_to_string(trace).unwrap();
    let threads = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        find(&line, "ResizeLane")?.get("threads")?.as_u64()
    };
    text.lines().filter_map(threads).max().unwrap_or(0)
}

fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    let fields = value.as_object()?;
    let mut values = fields.values();
    fields
        .get(key)
        .or_else(|| values.find_map(|value| find(value, key)))
}

fn replay(trace: &Path, case: &str) {
    let file = std::io::BufReader::new(std::fs::File::open(trace).unwrap());
    let replayed =
        parapull_scenario::replay(file).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(
        replayed.inputs > 50 && replayed.is_idle && replayed.pulls == 1,
        "{case}: {replayed:?}"
    );
}
