//! The trace of a pull: a fresh engine that is told the same says the same, byte for byte.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::path::Path;

use parapull_engine::{Action, Engine, Input, Instant, Output};
use parapull_scenario::registry::{Fault, FaultKind, FaultTarget, FaultTimes, RangeSupport};
use parapull_scenario::{RegistryProfile, TraceLine};

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
    let mut lines = file.lines().map(|line| {
        let line = line.unwrap();
        let parsed: TraceLine =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{case}: {error}: {line}"));
        (parsed, line)
    });
    let Some((TraceLine::Head(head), _)) = lines.next() else {
        panic!("{case}: no head")
    };
    let mut engine = Engine::new(head.config, Instant::ZERO);
    assert_eq!(engine.next_op(), head.next_op, "{case}");
    let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
    let (mut inputs, mut is_drained) = (0, true);
    for (line, text) in lines {
        match line {
            TraceLine::Head(_) => panic!("{case}: a second head"),
            TraceLine::Blob { id, .. } => drop(blobs.insert(id)),
            TraceLine::Layer { id, .. } => drop(layers.insert(id)),
            TraceLine::Input { at, input } => {
                assert!(
                    is_drained,
                    "{case}: an input before the drain's end: {text}"
                );
                if let Input::PullRequested(pull) = &input {
                    for layer in &pull.layers {
                        assert!(
                            blobs.contains(&layer.blob) && layers.contains(&layer.layer),
                            "{case}: {text}"
                        );
                    }
                }
                engine.handle_input(at, input);
                (inputs, is_drained) = (inputs + 1, false);
            }
            TraceLine::Output { output: recorded } => {
                let output = engine.poll_output();
                let again = serde_json::to_string(&TraceLine::Output {
                    output: output.clone(),
                })
                .unwrap();
                assert_eq!(again, text, "{case}: after {inputs} inputs");
                assert_eq!(output, recorded, "{case}");
                if let Output::Action(Action::FetchRange { blob, .. }) = &output {
                    assert!(blobs.contains(blob), "{case}: {text}");
                }
                is_drained = matches!(output, Output::Idle { .. });
                if is_drained {
                    engine.check_invariants();
                }
            }
        }
    }
    assert!(
        is_drained && inputs > 50 && engine.is_idle(),
        "{case}: {inputs} inputs"
    );
}
