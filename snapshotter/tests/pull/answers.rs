//! Registries that answer oddly, refuse, drop connections, or fall silent.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{
    Auth, Fault, FaultKind, FaultTarget, FaultTimes, RangeSupport, Redirect,
};
use serde_json::Value;

use super::command::Pull;
use super::images::TestImage;
use super::served::{Served, fault, status};
use super::strategies::STRATEGIES;

/// Whether every byte beyond the image's own is in the books.
#[track_caller]
fn assert_accounted(served: &Served, figures: &Value) {
    let fetched = figures["bytes_fetched"].as_u64().unwrap();
    assert!(fetched >= served.image.compressed_bytes(), "{figures}");
    assert!(fetched <= served.layer_bytes_sent(), "{figures}");
}

fn pull_in_chunks(served: &Served, strategy: &str) -> Pull {
    Pull::of(served)
        .with(&["--strategy", strategy])
        .set("concurrent_download_chunk_size=512kb")
}

#[test]
fn resets_cost_what_was_under_way_and_nothing_else() {
    let image = TestImage::preset("ml-like:30MB");
    for strategy in STRATEGIES {
        let reset = FaultKind::ResetAfter { bytes: 100_000 };
        let faults = vec![fault(FaultTarget::AnyLayer, FaultTimes::Every(20), reset)];
        let served = Served::faulty(image.clone(), faults);
        let pull = pull_in_chunks(&served, strategy);
        let figures = pull.run().figures();
        pull.trees(&served.image);
        assert_accounted(&served, &figures);
        assert!(figures["retries"].as_u64().unwrap() > 0);
        // What arrived before a reset is kept: only the tail of a range is asked for again.
        let sent = served.layer_bytes_sent();
        let allowed = served.image.compressed_bytes() * 102 / 100;
        assert!(
            sent <= allowed,
            "{strategy}: {sent} sent, {allowed} allowed"
        );
    }
}

#[test]
fn every_first_request_may_be_reset() {
    let image = TestImage::preset("ml-like:30MB");
    for strategy in STRATEGIES {
        let faults = (0..image.layers.len()).map(|index| {
            let target = FaultTarget::Layer(u32::try_from(index).unwrap());
            fault(
                target,
                FaultTimes::First(1),
                FaultKind::ResetAfter { bytes: 5_000 },
            )
        });
        let served = Served::faulty(image.clone(), faults.collect());
        let pull = pull_in_chunks(&served, strategy);
        let figures = pull.run().figures();
        pull.trees(&served.image);
        assert_accounted(&served, &figures);
        let reset = served
            .image
            .layers
            .iter()
            .filter(|layer| layer.compressed_bytes > 5_000);
        assert!(figures["retries"].as_u64().unwrap() >= reset.count() as u64);
        let allowed = served.image.compressed_bytes() * 102 / 100;
        assert!(served.layer_bytes_sent() <= allowed, "{strategy}");
    }
}

#[test]
fn truncated_bodies_are_completed() {
    let image = TestImage::preset("ml-like:30MB");
    for strategy in STRATEGIES {
        for chunk in ["0", "512kb"] {
            let cut = FaultKind::TruncatedAfter { bytes: 70_000 };
            let served = Served::faulty(
                image.clone(),
                vec![fault(FaultTarget::AnyLayer, FaultTimes::First(5), cut)],
            );
            let pull = Pull::of(&served)
                .with(&["--strategy", strategy])
                .set(&format!("concurrent_download_chunk_size={chunk}"));
            let figures = pull.run().figures();
            pull.trees(&served.image);
            assert_accounted(&served, &figures);
        }
    }
}

#[test]
fn a_blob_that_is_always_cut_short_fails_in_the_end() {
    let cut = FaultKind::TruncatedAfter { bytes: 0 };
    let image = TestImage::preset("tiny");
    let served = Served::faulty(
        image,
        vec![fault(FaultTarget::Layer(1), FaultTimes::Always, cut)],
    );
    let pull = Pull::of(&served)
        .set("attempts_max=3")
        .set("backoff_max=1s");
    let ended = pull.run();
    let error = ended.failure("network");
    assert_eq!(error["digest"], served.image.layers[1].digest);
    assert_eq!(served.requests(&served.image.layers[1].digest), 3);
    pull.assert_untouched();
}

#[test]
fn the_time_a_registry_asks_for_is_given() {
    let limit = FaultKind::Status {
        code: 429,
        retry_after_seconds: Some(1),
    };
    for code in [429, 503] {
        let kind = FaultKind::Status {
            code,
            retry_after_seconds: Some(1),
        };
        let served = Served::faulty(
            TestImage::preset("tiny"),
            vec![fault(FaultTarget::Layer(1), FaultTimes::First(1), kind)],
        );
        let pull = Pull::of(&served);
        let figures = pull.run().figures();
        assert_eq!(figures["retries"], 1, "{figures}");
        let asked = served.journal.blob_requests(&served.image.layers[1].digest);
        assert_eq!(asked.len(), 2);
        let waited = asked[1].asked_at - asked[0].asked_at;
        assert!(
            waited >= Duration::from_secs(1) && waited < Duration::from_secs(3),
            "{code}: {waited:?}"
        );
    }
    let served = Served::faulty(
        TestImage::preset("tiny"),
        vec![fault(FaultTarget::Manifest, FaultTimes::First(1), limit)],
    );
    Pull::of(&served).run().figures();
}

#[test]
fn a_registry_that_asks_for_too_much_time_is_not_waited_for() {
    let kind = FaultKind::Status {
        code: 429,
        retry_after_seconds: Some(3_600),
    };
    let served = Served::faulty(
        TestImage::preset("tiny"),
        vec![fault(FaultTarget::Layer(0), FaultTimes::Always, kind)],
    );
    let started = Instant::now();
    let pull = Pull::of(&served);
    let error = pull.run().failure("rate_limited");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(
        error["message"].as_str().unwrap().contains("429"),
        "{error}"
    );
    pull.assert_untouched();
}

#[test]
fn errors_of_the_server_are_waited_out() {
    for code in [500, 502, 503, 504] {
        let faults = vec![fault(
            FaultTarget::AnyLayer,
            FaultTimes::First(2),
            status(code),
        )];
        let served = Served::faulty(TestImage::preset("tiny"), faults);
        let figures = Pull::of(&served).run().figures();
        assert_eq!(figures["retries"], 2, "{code}");
    }
}

#[test]
fn a_missing_blob_is_told_at_once() {
    let image = TestImage::preset("ml-like:30MB");
    let (index, layer) = image.largest();
    let layer = layer.clone();
    for strategy in STRATEGIES {
        let target = FaultTarget::Digest(layer.digest.clone());
        let served = Served::faulty(
            image.clone(),
            vec![fault(target, FaultTimes::Always, status(404))],
        );
        let pull = pull_in_chunks(&served, strategy);
        let ended = pull.run();
        let error = ended.failure("not_found");
        assert_eq!(error["digest"], layer.digest);
        let start = format!(
            "error: {}: layer {index} {} from {}: ",
            served.reference,
            layer.short(),
            served.host
        );
        assert!(ended.stderr.starts_with(&start), "{}", ended.stderr);
        assert!(ended.stderr.contains("404"), "{}", ended.stderr);
        pull.assert_untouched();
    }
}

#[test]
fn a_missing_image_names_itself() {
    let served = Served::healthy(TestImage::preset("tiny"));
    let pull = Pull::of_reference(&format!("{}/team/other:2", served.host));
    let ended = pull.run();
    ended.failure("not_found");
    assert!(
        ended
            .stderr
            .starts_with(&format!("error: {}/team/other:2: ", served.host)),
        "{}",
        ended.stderr
    );
    pull.assert_untouched();
}

#[test]
fn nobody_listening_is_a_network_error() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let pull = Pull::of_reference(&format!("127.0.0.1:{port}/team/app:1"))
        .set("attempts_max=2")
        .set("backoff_max=1s");
    let ended = pull.run();
    let error = ended.failure("network");
    assert_eq!(error["host"], format!("127.0.0.1:{port}"), "{error}");
    pull.assert_untouched();
}

#[test]
fn a_forbidden_blob_is_an_error_of_authorization() {
    for code in [401, 403] {
        let served = Served::faulty(
            TestImage::preset("tiny"),
            vec![fault(
                FaultTarget::Layer(0),
                FaultTimes::Always,
                status(code),
            )],
        );
        let pull = Pull::of(&served);
        let error = pull.run().failure("auth");
        assert_eq!(error["digest"], served.image.layers[0].digest);
        pull.assert_untouched();
    }
}

#[test]
fn a_token_that_is_refused_in_mid_pull_is_renewed() {
    let profile = RegistryProfile {
        auth: Auth::Token {
            username: None,
            password: None,
            expires_seconds: 300,
        },
        ..RegistryProfile::default()
    };
    let image = TestImage::preset("ml-like:30MB");
    let (_, layer) = image.largest();
    let target = FaultTarget::Digest(layer.digest.clone());
    let refusal = Fault {
        target,
        offset: Some(1_000_000),
        times: FaultTimes::First(1),
        kind: status(401),
    };
    let served = Served::new(image, profile, vec![refusal]);
    let pull = pull_in_chunks(&served, "streamed");
    let figures = pull.run().figures();
    assert_eq!(figures["bytes_fetched"], served.image.compressed_bytes());
    pull.trees(&served.image);
    let tokens = served
        .journal
        .select(|entry| entry.kind == fake_registry::RequestKind::Token);
    assert!((2..=3).contains(&tokens.len()), "{} tokens", tokens.len());
}

#[test]
fn passwords_are_used_and_never_told() {
    let profile = RegistryProfile {
        auth: Auth::Basic {
            username: "ann".into(),
            password: "open-sesame".into(),
        },
        ..RegistryProfile::default()
    };
    let served = Served::new(TestImage::preset("tiny"), profile, Vec::new());
    let given = |password: &str| {
        let pull = Pull::of(&served).with(&["--username", "ann", "--password-stdin"]);
        let trace = pull.beside("trace");
        let mut command = pull.command();
        command.arg("--trace").arg(&trace);
        let output = assert_cmd::Command::from_std(command)
            .write_stdin(password)
            .output()
            .unwrap();
        let told = std::fs::read_to_string(&trace).unwrap_or_default();
        (super::command::Ended::from(output), told)
    };
    let (right, trace) = given("open-sesame\n");
    right.figures();
    assert!(!trace.is_empty() && !trace.contains("sesame"));
    let (wrong, _) = given("closed-sesame");
    wrong.failure("auth");
    assert!(
        !wrong.stderr.contains("sesame") && !wrong.stdout.contains("sesame"),
        "{wrong:?}"
    );
}

#[test]
fn registries_that_cannot_do_ranges_are_read_whole() {
    let image = TestImage::preset("ml-like:30MB");
    let odd = [
        RangeSupport::IgnoredWith200,
        RangeSupport::NoAcceptRangesHeader,
        RangeSupport::WrongContentRange,
        RangeSupport::NoContentRange,
        RangeSupport::Refused416,
        RangeSupport::ShortenedTo {
            bytes: NonZeroU64::new(100_000).unwrap(),
        },
    ];
    for ranges in odd {
        for strategy in STRATEGIES {
            let profile = RegistryProfile {
                ranges,
                ..RegistryProfile::default()
            };
            let served = Served::new(image.clone(), profile, Vec::new());
            let pull = pull_in_chunks(&served, strategy);
            let ended = pull.run();
            assert_eq!(ended.code, Some(0), "{ranges:?} {strategy}: {ended:#?}");
            let figures = ended.figures();
            pull.trees(&served.image);
            assert_eq!(
                figures["bytes_fetched"],
                served.image.compressed_bytes(),
                "{ranges:?} {strategy}"
            );
        }
    }
}

#[test]
fn ranges_refused_for_some_requests_only() {
    let image = TestImage::preset("ml-like:30MB");
    for (kind, times) in [
        (FaultKind::WholeBodyForRange, FaultTimes::Always),
        (FaultKind::WholeBodyForRange, FaultTimes::Nth(3)),
        (status(416), FaultTimes::Nth(3)),
        (status(400), FaultTimes::Nth(3)),
    ] {
        for strategy in STRATEGIES {
            let faults = [1, 4, 9, 17].map(|index| fault(FaultTarget::Layer(index), times, kind));
            let served = Served::faulty(image.clone(), faults.into());
            let pull = pull_in_chunks(&served, strategy);
            let ended = pull.run();
            assert_eq!(
                ended.code,
                Some(0),
                "{kind:?} {times:?} {strategy}: {ended:#?}"
            );
            pull.trees(&served.image);
            assert_accounted(&served, &ended.figures());
        }
    }
}

#[test]
fn a_window_of_two_chunks_is_enough_without_ranges() {
    let profile = RegistryProfile {
        ranges: RangeSupport::IgnoredWith200,
        ..RegistryProfile::default()
    };
    let served = Served::new(TestImage::preset("ml-like:30MB"), profile, Vec::new());
    let pull = Pull::of(&served)
        .set("concurrent_download_chunk_size=512kb")
        .set("max_concurrent_unpacks=2")
        .set("window=2mb");
    pull.run().figures();
    pull.trees(&served.image);
}

#[test]
fn a_silent_connection_is_given_up_and_the_rest_asked_for_again() {
    let image = TestImage::preset("ml-like:30MB");
    let (_, layer) = image.largest();
    for strategy in STRATEGIES {
        let target = FaultTarget::Digest(layer.digest.clone());
        let kind = FaultKind::StallAfter {
            bytes: 200_000,
            stall_ms: None,
        };
        let served = Served::faulty(
            image.clone(),
            vec![fault(target, FaultTimes::First(1), kind)],
        );
        let pull = pull_in_chunks(&served, strategy).set("stall_timeout=1s");
        let started = Instant::now();
        let figures = pull.run().figures();
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{strategy}: {:?}",
            started.elapsed()
        );
        pull.trees(&served.image);
        assert!(
            figures["retries"].as_u64().unwrap() >= 1,
            "{strategy}: {figures}"
        );
        assert_eq!(
            figures["bytes_fetched"],
            served.image.compressed_bytes(),
            "{strategy}"
        );
    }
}

#[test]
fn a_registry_that_never_answers_a_blob_fails_the_pull() {
    let kind = FaultKind::StallAfter {
        bytes: 0,
        stall_ms: None,
    };
    let served = Served::faulty(
        TestImage::preset("tiny"),
        vec![fault(FaultTarget::Layer(2), FaultTimes::Always, kind)],
    );
    let pull = Pull::of(&served)
        .set("stall_timeout=1s")
        .set("attempts_max=2")
        .set("backoff_max=1s");
    let ended = pull.run();
    let error = ended.failure("network");
    assert_eq!(error["digest"], served.image.layers[2].digest, "{error}");
    assert_eq!(error["host"], served.host, "{error}");
    pull.assert_untouched();
}

#[test]
fn redirects_tokens_and_limits_together() {
    let profile = RegistryProfile {
        auth: Auth::Token {
            username: None,
            password: None,
            expires_seconds: 300,
        },
        redirect: Redirect::SecondOrigin {
            expires_seconds: 600,
        },
        requests_per_second_max: NonZeroU32::new(200),
        retry_after_seconds: Some(1),
        first_byte_ms: 5,
        ..RegistryProfile::default()
    };
    for strategy in STRATEGIES {
        let served = Served::new(
            TestImage::preset("ml-like:30MB"),
            profile.clone(),
            Vec::new(),
        );
        let pull = pull_in_chunks(&served, strategy);
        let figures = pull.run().figures();
        pull.trees(&served.image);
        assert_eq!(figures["bytes_fetched"], served.image.compressed_bytes());
        let leaked = served.journal.select(|entry| {
            entry.origin == fake_registry::Origin::Storage && entry.authorization_scheme.is_some()
        });
        assert!(leaked.is_empty(), "{leaked:?}");
    }
}

#[test]
fn a_signed_address_that_expires_is_asked_for_again() {
    let profile = RegistryProfile {
        redirect: Redirect::SecondOrigin { expires_seconds: 1 },
        connection_bytes_per_second: NonZeroU64::new(1_500_000),
        ..RegistryProfile::default()
    };
    let served = Served::new(TestImage::preset("ml-like:30MB"), profile, Vec::new());
    let pull = Pull::of(&served)
        .set("concurrent_download_chunk_size=256kb")
        .set("max_concurrent_downloads_per_image=4");
    let figures = pull.run().figures();
    pull.trees(&served.image);
    assert_eq!(figures["bytes_fetched"], served.image.compressed_bytes());
}

#[test]
fn as_many_connections_as_downloads_are_enough() {
    for downloads in [1, 3] {
        let profile = RegistryProfile {
            connections_max: NonZeroU32::new(downloads),
            ..RegistryProfile::default()
        };
        let served = Served::new(TestImage::preset("tiny"), profile, Vec::new());
        let pull = Pull::of(&served)
            .set("concurrent_download_chunk_size=64kb")
            .set(&format!("max_concurrent_downloads_per_image={downloads}"));
        let started = Instant::now();
        pull.run().figures();
        pull.trees(&served.image);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
    }
}
