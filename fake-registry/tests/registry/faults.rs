//! Every fault, as a client sees it.

use std::time::Duration;

use crate::support::{Client, bottom_layer, get, get_range, layer_fault, layer_path, start};
use parapull_scenario::registry::{Auth, Fault, FaultKind, FaultTarget, FaultTimes};
use parapull_scenario::{Faults, RegistryProfile};

async fn start_faulty(kind: FaultKind, times: FaultTimes) -> fake_registry::Running {
    start(RegistryProfile::default(), layer_fault(kind, times)).await
}

#[tokio::test]
async fn a_reset_is_a_reset_and_the_next_request_is_well() {
    let running = start_faulty(FaultKind::ResetAfter { bytes: 1_000 }, FaultTimes::First(1)).await;
    let reply = get(&running, &layer_path()).await;
    let error = reply.error.unwrap();
    assert!(error.contains("reset"), "{error}");
    assert!(reply.body.len() <= 1_000);
    assert_eq!(get(&running, &layer_path()).await.body, bottom_layer().1);
    let requests = running.journal.blob_requests(bottom_layer().0);
    assert_eq!(
        requests[0].fault,
        Some(FaultKind::ResetAfter { bytes: 1_000 })
    );
    assert!(!requests[0].complete && requests[1].complete);
    running.stop().await;
}

#[tokio::test]
async fn a_truncated_body_ends_after_exactly_so_many_bytes() {
    let running = start_faulty(
        FaultKind::TruncatedAfter { bytes: 100_000 },
        FaultTimes::Always,
    )
    .await;
    let reply = get(&running, &layer_path()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, bottom_layer().1[..100_000]);
    let error = reply.error.unwrap();
    assert!(!error.contains("reset"), "{error}");
    running.stop().await;
}

#[tokio::test]
async fn a_corrupt_byte_is_in_whichever_range_carries_it() {
    let running = start_faulty(FaultKind::CorruptByte { offset: 150 }, FaultTimes::Always).await;
    let (_, blob) = bottom_layer();
    assert_eq!(
        get_range(&running, &layer_path(), "bytes=0-149").await.body,
        blob[..150]
    );
    let mut spoiled = blob[100..200].to_vec();
    spoiled[50] = !spoiled[50];
    assert_eq!(
        get_range(&running, &layer_path(), "bytes=100-199")
            .await
            .body,
        spoiled
    );
    running.stop().await;
}

#[tokio::test]
async fn statuses_replace_answers() {
    for (code, retry_after_seconds) in [
        (500, None),
        (503, Some(3)),
        (429, Some(0)),
        (404, None),
        (416, None),
    ] {
        let kind = FaultKind::Status {
            code,
            retry_after_seconds,
        };
        let running = start_faulty(kind, FaultTimes::First(1)).await;
        let reply = get_range(&running, &layer_path(), "bytes=0-9").await;
        assert_eq!(reply.status, code);
        let retry_after = retry_after_seconds.map(|seconds| seconds.to_string());
        assert_eq!(
            reply.header("retry-after").map(str::to_owned),
            retry_after,
            "{code}"
        );
        assert_eq!(
            get_range(&running, &layer_path(), "bytes=0-9").await.status,
            206
        );
        running.stop().await;
    }
}

#[tokio::test]
async fn a_401_in_mid_pull_carries_the_challenge() {
    let kind = FaultKind::Status {
        code: 401,
        retry_after_seconds: None,
    };
    let profile = RegistryProfile {
        auth: Auth::Token {
            username: None,
            password: None,
            expires_seconds: 60,
        },
        ..RegistryProfile::default()
    };
    let running = start(profile, layer_fault(kind, FaultTimes::Nth(2))).await;
    let mut client = Client::connect(&running.authority()).await;
    let granted = client.get("/token?scope=repository:demo/tiny:pull").await;
    let granted: serde_json::Value = serde_json::from_slice(&granted.body).unwrap();
    let header = format!("Bearer {}", granted["token"].as_str().unwrap());
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let reply = client
            .send("GET", &layer_path(), &[("authorization", &header)])
            .await;
        if reply.status == 401 {
            assert!(
                reply
                    .header("www-authenticate")
                    .unwrap()
                    .starts_with("Bearer ")
            );
        }
        statuses.push(reply.status);
    }
    assert_eq!(statuses, [200, 401, 200]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_lasts_as_long_as_it_says() {
    let kind = FaultKind::StallAfter {
        bytes: 1_000,
        stall_ms: Some(5_000),
    };
    let running = start_faulty(kind, FaultTimes::Always).await;
    let started = tokio::time::Instant::now();
    let reply = get(&running, &layer_path()).await;
    assert_eq!(reply.body, bottom_layer().1);
    let taken = started.elapsed();
    assert!((5_000..5_100).contains(&taken.as_millis()), "{taken:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_stall_ends_when_the_client_leaves() {
    let kind = FaultKind::StallAfter {
        bytes: 1_000,
        stall_ms: None,
    };
    let running = start_faulty(kind, FaultTimes::Always).await;
    let path = layer_path();
    let pull = get(&running, &path);
    assert!(
        tokio::time::timeout(Duration::from_secs(3_600), pull)
            .await
            .is_err()
    );
    let requests = running.journal.blob_requests(bottom_layer().0);
    assert_eq!(
        (requests[0].body_bytes, requests[0].complete),
        (1_000, false)
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_trickle_takes_its_time() {
    let running = start_faulty(
        FaultKind::Trickle {
            bytes_per_second: 10,
        },
        FaultTimes::Always,
    )
    .await;
    let started = tokio::time::Instant::now();
    let reply = get_range(&running, &layer_path(), "bytes=0-99").await;
    assert_eq!(reply.body.len(), 100);
    let taken = started.elapsed();
    assert!((9_900..10_100).contains(&taken.as_millis()), "{taken:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_content_length_is_told() {
    let (_, blob) = bottom_layer();
    let told = |delta_bytes: i64| {
        blob.len()
            .checked_add_signed(isize::try_from(delta_bytes).unwrap())
            .unwrap()
    };
    for delta_bytes in [10, -10] {
        let running = start_faulty(
            FaultKind::WrongContentLength { delta_bytes },
            FaultTimes::Always,
        )
        .await;
        let reply = get(&running, &layer_path()).await;
        assert_eq!(
            reply.header("content-length"),
            Some(told(delta_bytes).to_string().as_str())
        );
        assert_eq!(reply.error.is_some(), delta_bytes > 0, "{reply:?}");
        let came = blob.len().min(told(delta_bytes));
        assert_eq!(reply.body, blob[..came]);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_range_may_be_answered_with_everything() {
    let running = start_faulty(FaultKind::WholeBodyForRange, FaultTimes::Nth(2)).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let reply = get_range(&running, &layer_path(), "bytes=10-19").await;
        statuses.push((
            reply.status,
            reply.body.len(),
            reply.header("content-range").is_some(),
        ));
    }
    let whole = bottom_layer().1.len();
    assert_eq!(
        statuses,
        [(206, 10, true), (200, whole, false), (206, 10, true)]
    );
    running.stop().await;
}

#[tokio::test]
async fn manifests_tokens_and_the_ping_fail_too() {
    let status = |target| Fault {
        target,
        offset: None,
        times: FaultTimes::First(1),
        kind: FaultKind::Status {
            code: 502,
            retry_after_seconds: None,
        },
    };
    let faults = Faults {
        faults: vec![
            status(FaultTarget::Ping),
            status(FaultTarget::Manifest),
            status(FaultTarget::Config),
        ],
    };
    let running = start(RegistryProfile::default(), faults).await;
    let manifest = "/v2/demo/tiny/manifests/latest";
    assert_eq!(get(&running, "/v2/").await.status, 502);
    assert_eq!(get(&running, manifest).await.status, 502);
    let manifest: serde_json::Value =
        serde_json::from_slice(&get(&running, manifest).await.body).unwrap();
    let config = format!(
        "/v2/demo/tiny/blobs/{}",
        manifest["config"]["digest"].as_str().unwrap()
    );
    assert_eq!(get(&running, &config).await.status, 502);
    assert_eq!(get(&running, &config).await.status, 200);
    running.stop().await;
}
