//! The trace of a pull: a fresh engine that is told the same says the same, byte for byte.

use std::path::Path;

use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes, RangeSupport};

use super::command::Pull;
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

fn replay(trace: &Path, case: &str) {
    let file = std::io::BufReader::new(std::fs::File::open(trace).unwrap());
    let replayed =
        parapull_scenario::replay(file).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(
        replayed.inputs > 50 && replayed.is_idle && replayed.pulls == 1,
        "{case}: {replayed:?}"
    );
}
