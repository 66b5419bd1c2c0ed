//! What is printed: one document or one digest, and nothing else.

use parapull_scenario::registry::{FaultTarget, FaultTimes};
use serde_json::Value;

use super::command::Pull;
use super::images::TestImage;
use super::served::{Served, fault, status};
use super::strategies::STRATEGIES;

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_document_has_what_scripts_rely_on() {
    let served = Served::healthy(TestImage::preset("ml-like:30MB"));
    for strategy in STRATEGIES {
        let pull = Pull::of(&served).with(&["--strategy", strategy]);
        for repeated in [false, true] {
            let figures = pull.run().figures();
            let mut expected = vec![
                "bytes_fetched",
                "bytes_retried",
                "bytes_written",
                "digest",
                "image",
                "layers",
                "peak_rss_bytes",
                "requests",
                "retries",
                "seconds",
                "strategy",
            ];
            // Computed only where somebody compares trees.
            if figures.get("tree_sha256").is_some() {
                expected.push("tree_sha256");
            }
            assert_eq!(keys(&figures), expected);
            assert_eq!(figures["image"], served.reference);
            assert_eq!(figures["digest"], served.image.manifest_digest);
            assert_eq!(figures["strategy"], strategy);
            assert!(figures["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
            if repeated {
                continue;
            }
            assert!(figures["seconds"].as_f64().unwrap() > 0.0);
            let layers = figures["layers"].as_array().unwrap();
            assert_eq!(layers.len(), served.image.layers.len());
            let mut unpacked = 0;
            for (shown, layer) in layers.iter().zip(&served.image.layers) {
                assert_eq!(
                    keys(shown),
                    [
                        "compressed_bytes",
                        "diff_id",
                        "digest",
                        "files",
                        "seconds_fetch",
                        "seconds_unpack",
                        "uncompressed_bytes"
                    ]
                );
                assert_eq!(
                    (&shown["digest"], &shown["diff_id"]),
                    (
                        &layer.digest.as_str().into(),
                        &layer.diff_id.as_str().into()
                    )
                );
                assert_eq!(shown["compressed_bytes"], layer.compressed_bytes);
                assert!(shown["seconds_fetch"].as_f64().unwrap() > 0.0, "{shown}");
                assert!(shown["seconds_unpack"].as_f64().unwrap() > 0.0, "{shown}");
                let is_empty = shown["uncompressed_bytes"] == 1024;
                assert_eq!(shown["files"] == 0, is_empty, "{shown}");
                unpacked += shown["uncompressed_bytes"].as_u64().unwrap();
            }
            let written = figures["bytes_written"].as_u64().unwrap();
            let spooled = if strategy == "streamed" {
                0
            } else {
                served.image.compressed_bytes()
            };
            assert!(
                written > spooled && written <= spooled + unpacked,
                "{strategy}: {written} of {unpacked}"
            );
            let blobs: std::collections::BTreeSet<_> = served
                .image
                .layers
                .iter()
                .map(|layer| &layer.digest)
                .collect();
            assert!(figures["requests"].as_u64().unwrap() >= blobs.len() as u64);
        }
    }
}

#[test]
fn people_see_a_digest_and_a_line() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let ended = Pull::of(&served).plain().run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, format!("{}\n", served.image.manifest_digest));
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
}

#[test]
fn a_failure_is_one_line_and_one_document() {
    let faults = vec![fault(
        FaultTarget::Layer(1),
        FaultTimes::Always,
        status(404),
    )];
    let served = Served::faulty(TestImage::preset("tiny"), faults);
    let pull = Pull::of(&served);
    let ended = pull.run();
    let error = ended.failure("not_found");
    assert_eq!(keys(&error), ["digest", "host", "image", "kind", "message"]);
    let line = format!(
        "error: {}: layer 1 {} from {}: {}\n",
        served.reference,
        served.image.layers[1].short(),
        served.host,
        error["message"].as_str().unwrap()
    );
    assert_eq!(ended.stderr, line);
    let plain = Pull::of(&served).plain().run();
    assert_eq!(
        (plain.stdout.as_str(), plain.stderr.as_str()),
        ("", line.as_str())
    );
}

#[test]
fn misuse_is_told_apart_from_failure() {
    let served = Served::healthy(TestImage::preset("tiny"));
    for arguments in [
        &["--set", "window=1kb"][..],
        &["--set", "windoww=64mb"],
        &["--set", "nonsense"],
        &["--strategy", "fastest"],
        &["--timeout", "soon"],
        &["--platform", "x"],
        &["--username", "ann"],
        &["--config", "/no/such/file"],
    ] {
        let pull = Pull::of(&served).with(arguments);
        let ended = pull.run();
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:#?}");
        pull.assert_untouched();
    }
    for reference in [
        "host/UPPER:1",
        "host/name:tag:tag",
        "",
        "host/name@sha256:12",
    ] {
        let ended = Pull::of_reference(reference).run();
        assert_eq!(ended.code, Some(2), "{reference:?}: {ended:#?}");
    }
    assert_eq!(served.journal.entries().len(), 0);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let pull = Pull::of(&served);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = pull.command().stdout(writer).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    pull.trees(&served.image);
}
