//! Bytes that are not what the manifest promised.

use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};

use super::command::Pull;
use super::images::{TestImage, gzip};
use super::served::{Served, fault};
use super::strategies::STRATEGIES;

#[test]
fn bytes_that_are_always_wrong_are_fetched_twice_and_then_told() {
    let image = TestImage::preset("ml-like:30MB");
    let (index, layer) = image.largest();
    let (index, layer) = (index, layer.clone());
    let kind = FaultKind::CorruptByte {
        offset: layer.compressed_bytes / 2,
    };
    let target = FaultTarget::Digest(layer.digest.clone());
    let served = Served::faulty(image, vec![fault(target, FaultTimes::Always, kind)]);
    for (strategy, chunk) in STRATEGIES
        .into_iter()
        .flat_map(|strategy| [(strategy, "0"), (strategy, "512kb")])
    {
        for empty in [false, true] {
            let before = sent(&served, &layer.digest);
            let requests = served.requests(&layer.digest);
            let pull = Pull::of(&served)
                .with(&["--strategy", strategy])
                .set(&format!("concurrent_download_chunk_size={chunk}"));
            if empty {
                std::fs::create_dir_all(&pull.to).unwrap();
            }
            let ended = pull.run();
            let error = ended.failure("corrupt");
            let line = ended.stderr.trim_end();
            let start = format!(
                "error: {}: layer {index} {} from {}: ",
                served.reference,
                layer.short(),
                served.host
            );
            assert!(
                line.starts_with(&start) && line.lines().count() == 1,
                "{strategy}: {line}"
            );
            assert_eq!(error["image"], served.reference);
            assert_eq!(
                (&error["host"], &error["digest"]),
                (&served.host.as_str().into(), &layer.digest.as_str().into())
            );
            let fetched = sent(&served, &layer.digest) - before;
            assert!(
                fetched <= 2 * layer.compressed_bytes,
                "{strategy} {chunk}: {fetched} of {}",
                layer.compressed_bytes
            );
            if chunk == "0" {
                assert_eq!(served.requests(&layer.digest) - requests, 2, "{strategy}");
            }
            // A decoder may notice before the end; whoever stores first has all of both lives.
            if strategy != "streamed" {
                assert_eq!(fetched, 2 * layer.compressed_bytes, "{strategy} {chunk}");
            }
            if empty {
                assert_eq!(
                    std::fs::read_dir(&pull.to).unwrap().count(),
                    0,
                    "{strategy}"
                );
            } else {
                pull.assert_untouched();
            }
        }
    }
}

#[test]
fn bytes_that_are_wrong_once_cost_one_more_life() {
    let image = TestImage::preset("ml-like:30MB");
    let (_, layer) = image.largest();
    let layer = layer.clone();
    for strategy in STRATEGIES {
        let kind = FaultKind::CorruptByte {
            offset: layer.compressed_bytes - 9,
        };
        let target = FaultTarget::Digest(layer.digest.clone());
        let served = Served::faulty(
            image.clone(),
            vec![fault(target, FaultTimes::First(1), kind)],
        );
        let pull = Pull::of(&served)
            .with(&["--strategy", strategy])
            .set("concurrent_download_chunk_size=512kb");
        let figures = pull.run().figures();
        let retried = figures["bytes_retried"].as_u64().unwrap();
        assert!(
            retried > 0 && retried <= layer.compressed_bytes,
            "{strategy}: {retried}"
        );
        assert_eq!(
            figures["bytes_fetched"].as_u64().unwrap(),
            served.layer_bytes_sent(),
            "{strategy}"
        );
        pull.trees(&served.image);
    }
}

#[test]
fn a_wrong_diff_id_is_told_with_both_digests() {
    let members = || vec![super::archive::file("a", b"text")];
    let archive = super::archive::archive(members());
    let lie = format!("sha256:{}", "1".repeat(64));
    let served = Served::healthy(TestImage::of_blobs(vec![(gzip(&archive), lie.clone())]));
    let pull = Pull::of(&served);
    let ended = pull.run();
    let error = ended.failure("corrupt");
    assert!(error["message"].as_str().unwrap().contains(&lie), "{error}");
    assert_eq!(served.requests(&served.image.layers[0].digest), 2);
    pull.assert_untouched();
}

#[test]
fn a_blob_shorter_or_longer_than_its_descriptor_fails() {
    for delta_bytes in [-7, 7] {
        let image = TestImage::preset("tiny");
        let kind = FaultKind::WrongContentLength { delta_bytes };
        let served = Served::faulty(
            image,
            vec![fault(FaultTarget::Layer(0), FaultTimes::Always, kind)],
        );
        for strategy in STRATEGIES {
            let pull = Pull::of(&served)
                .with(&["--strategy", strategy])
                .set("attempts_max=2")
                .set("backoff_max=1s")
                .set("concurrent_download_chunk_size=0");
            let ended = pull.run();
            assert_eq!(ended.code, Some(1), "{strategy} {delta_bytes}: {ended:#?}");
            let start = format!(
                "error: {}: layer 0 {}",
                served.reference,
                served.image.layers[0].short()
            );
            assert!(ended.stderr.starts_with(&start), "{}", ended.stderr);
            pull.assert_untouched();
        }
    }
}

fn sent(served: &Served, digest: &str) -> u64 {
    served
        .journal
        .blob_requests(digest)
        .iter()
        .map(|entry| entry.body_bytes)
        .sum()
}
