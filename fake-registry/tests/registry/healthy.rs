//! A healthy registry over real sockets: objects, ranges, who may pull, where blobs come from, how fast.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::support::{Client, NAME, bottom_layer, get, get_range, image, layer_path, start};
use base64::Engine;
use fake_registry::Origin;
use parapull_scenario::registry::{Auth, RangeSupport, Redirect};
use parapull_scenario::{Faults, RegistryProfile};

async fn start_with(profile: RegistryProfile) -> fake_registry::Running {
    start(profile, Faults::default()).await
}

#[tokio::test]
async fn manifests_come_by_tag_and_digest_with_their_headers() {
    let running = start_with(RegistryProfile::default()).await;
    let digest = &image().manifest_digest;
    let mut client = Client::connect(&running.authority()).await;
    for reference in ["latest", digest] {
        let path = format!("/v2/{NAME}/manifests/{reference}");
        let head = client.send("HEAD", &path, &[]).await;
        let full = client.get(&path).await;
        for reply in [&head, &full] {
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(
                reply.header("content-type"),
                Some("application/vnd.oci.image.manifest.v1+json")
            );
            assert_eq!(
                reply.header("content-length"),
                Some(full.body.len().to_string().as_str())
            );
        }
        assert!(head.body.is_empty());
        assert!(full.body.starts_with(b"{"));
    }
    assert_eq!(running.journal.connections_seen(), 1);
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_with_its_code() {
    let running = start_with(RegistryProfile::default()).await;
    let missing = format!("sha256:{}", "0".repeat(64));
    for (path, code) in [
        (format!("/v2/{NAME}/manifests/other"), "MANIFEST_UNKNOWN"),
        ("/v2/nobody/manifests/latest".to_owned(), "NAME_UNKNOWN"),
        (format!("/v2/{NAME}/blobs/{missing}"), "BLOB_UNKNOWN"),
        (
            format!("/v2/{NAME}/blobs/sha256:..%2f..%2fetc"),
            "BLOB_UNKNOWN",
        ),
        (
            format!("/v2/nobody/blobs/{}", bottom_layer().0),
            "NAME_UNKNOWN",
        ),
        ("/nothing".to_owned(), "UNSUPPORTED"),
    ] {
        let reply = get(&running, &path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(
            String::from_utf8_lossy(&reply.body).contains(code),
            "{path}: {reply:?}"
        );
    }
    let pushed = Client::connect(&running.authority())
        .await
        .send("PUT", &layer_path(), &[])
        .await;
    assert_eq!(pushed.status, 405);
    running.stop().await;
}

#[tokio::test]
async fn ranges_are_honoured_one_at_a_time() {
    let running = start_with(RegistryProfile::default()).await;
    let (_, blob) = bottom_layer();
    let length = blob.len();
    let mut client = Client::connect(&running.authority()).await;
    for (header, expected) in [
        ("bytes=0-9".to_owned(), 0..10),
        ("bytes=5-".to_owned(), 5..length),
        ("bytes=-5".to_owned(), length - 5..length),
        (format!("bytes=10-{}", length * 2), 10..length),
    ] {
        let reply = client.get_range(&layer_path(), &header).await;
        assert_eq!(reply.status, 206, "{header}");
        let content_range = format!("bytes {}-{}/{length}", expected.start, expected.end - 1);
        assert_eq!(reply.header("content-range"), Some(content_range.as_str()));
        assert_eq!(reply.header("accept-ranges"), Some("bytes"));
        assert_eq!(reply.body, blob[expected], "{header}");
    }
    let beyond = client
        .get_range(&layer_path(), &format!("bytes={length}-"))
        .await;
    assert_eq!(beyond.status, 416);
    assert_eq!(
        beyond.header("content-range"),
        Some(format!("bytes */{length}").as_str())
    );
    let several = client.get_range(&layer_path(), "bytes=0-1,4-5").await;
    assert_eq!((several.status, several.body.len()), (200, length));
    running.stop().await;
}

#[tokio::test]
async fn each_kind_of_range_support_is_what_it_says() {
    let (_, blob) = bottom_layer();
    let length = blob.len();
    let shortened = RangeSupport::ShortenedTo {
        bytes: NonZeroU64::new(4).unwrap(),
    };
    let right = format!("bytes 10-19/{length}");
    let wrong = format!("bytes 11-20/{length}");
    let short = format!("bytes 10-13/{length}");
    for (ranges, status, content_range, accept_ranges, body_bytes) in [
        (RangeSupport::Honoured, 206, Some(right.as_str()), true, 10),
        (RangeSupport::IgnoredWith200, 200, None, false, length),
        (
            RangeSupport::NoAcceptRangesHeader,
            206,
            Some(right.as_str()),
            false,
            10,
        ),
        (
            RangeSupport::WrongContentRange,
            206,
            Some(wrong.as_str()),
            true,
            10,
        ),
        (RangeSupport::NoContentRange, 206, None, true, 10),
        (shortened, 206, Some(short.as_str()), true, 4),
    ] {
        let running = start_with(RegistryProfile {
            ranges,
            ..RegistryProfile::default()
        })
        .await;
        let reply = get_range(&running, &layer_path(), "bytes=10-19").await;
        assert_eq!(reply.status, status, "{ranges:?}");
        assert_eq!(reply.header("content-range"), content_range, "{ranges:?}");
        assert_eq!(
            reply.header("accept-ranges").is_some(),
            accept_ranges,
            "{ranges:?}"
        );
        assert_eq!(reply.body.len(), body_bytes, "{ranges:?}");
        running.stop().await;
    }
    let running = start_with(RegistryProfile {
        ranges: RangeSupport::Refused416,
        ..RegistryProfile::default()
    })
    .await;
    assert_eq!(
        get_range(&running, &layer_path(), "bytes=10-19")
            .await
            .status,
        416
    );
    assert_eq!(get(&running, &layer_path()).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn basic_credentials_are_wanted_everywhere() {
    let running = start_with(RegistryProfile {
        auth: Auth::Basic {
            username: "user".to_owned(),
            password: "pass".to_owned(),
        },
        ..RegistryProfile::default()
    })
    .await;
    let refused = get(&running, &layer_path()).await;
    assert_eq!(refused.status, 401);
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Basic ")
    );
    let header = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode("user:pass")
    );
    let mut client = Client::connect(&running.authority()).await;
    let reply = client
        .send("GET", &layer_path(), &[("authorization", &header)])
        .await;
    assert_eq!(reply.status, 200);
    let schemes: Vec<_> = running
        .journal
        .entries()
        .into_iter()
        .map(|entry| entry.authorization_scheme)
        .collect();
    assert_eq!(schemes, [None, Some("Basic".to_owned())]);
    running.stop().await;
}

#[tokio::test]
async fn the_token_flow_leads_to_the_blob() {
    let running = start_with(RegistryProfile::named("docker-hub-like").unwrap()).await;
    let mut client = Client::connect(&running.authority()).await;
    let refused = client.get("/v2/").await;
    let challenge = refused.header("www-authenticate").unwrap();
    let realm = format!("Bearer realm=\"http://{}/token\"", running.authority());
    assert!(challenge.starts_with(&realm), "{challenge}");
    let path = format!(
        "/token?service=fake-registry&scope=repository%3A{}%3Apull",
        NAME.replace('/', "%2F")
    );
    let granted: serde_json::Value = serde_json::from_slice(&client.get(&path).await.body).unwrap();
    let header = format!("Bearer {}", granted["token"].as_str().unwrap());
    assert_eq!(granted["expires_in"], 300);
    let redirected = client
        .send("GET", &layer_path(), &[("authorization", &header)])
        .await;
    assert_eq!(redirected.status, 307);
    running.stop().await;
}

#[tokio::test]
async fn redirects_lead_to_a_second_origin_that_wants_its_signature_alone() {
    let running = start_with(RegistryProfile {
        redirect: Redirect::SecondOrigin {
            expires_seconds: 60,
        },
        ..RegistryProfile::default()
    })
    .await;
    let redirected = get(&running, &layer_path()).await;
    assert_eq!(redirected.status, 307);
    let storage = running.storage_address.unwrap().to_string();
    let location = redirected.header("location").unwrap();
    let path = location
        .strip_prefix(&format!("http://{storage}"))
        .unwrap()
        .to_owned();
    let mut client = Client::connect(&storage).await;
    let reply = client.get_range(&path, "bytes=0-99").await;
    assert_eq!((reply.status, reply.body.len()), (206, 100));
    assert_eq!(reply.header("docker-content-digest"), None);
    let leaked = client
        .send("GET", &path, &[("authorization", "Bearer x")])
        .await;
    assert_eq!(leaked.status, 400);
    let forged = client.get(&path.replace("signature=", "signature=0")).await;
    assert_eq!(forged.status, 403);
    let requests = running.journal.blob_requests(bottom_layer().0);
    let origins: Vec<Origin> = requests.iter().map(|entry| entry.origin).collect();
    assert_eq!(
        origins,
        [
            Origin::Registry,
            Origin::Storage,
            Origin::Storage,
            Origin::Storage
        ]
    );
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_its_rate_and_all_together_theirs() {
    let (_, blob) = bottom_layer();
    let bytes = blob.len() as u64;
    let expected = |rate: u64, count: u64| Duration::from_millis(bytes * count * 1_000 / rate);
    let profile = RegistryProfile {
        connection_bytes_per_second: NonZeroU64::new(100_000),
        total_bytes_per_second: NonZeroU64::new(250_000),
        ..RegistryProfile::default()
    };
    for (connections, bound) in [
        (1, expected(100_000, 1)),
        (2, expected(100_000, 1)),
        (5, expected(250_000, 5)),
    ] {
        let running = start_with(profile.clone()).await;
        let started = tokio::time::Instant::now();
        let mut pulls = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let authority = running.authority();
            pulls.spawn(async move {
                Client::connect(&authority)
                    .await
                    .get(&layer_path())
                    .await
                    .body
                    .len()
            });
        }
        while let Some(length) = pulls.join_next().await {
            assert_eq!(length.unwrap() as u64, bytes);
        }
        let taken = started.elapsed();
        let tolerance = bound / 50 + Duration::from_millis(20);
        assert!(
            taken.abs_diff(bound) <= tolerance,
            "{connections}: {taken:?} for {bound:?}"
        );
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_comes_late() {
    let running = start_with(RegistryProfile {
        first_byte_ms: 250,
        ..RegistryProfile::default()
    })
    .await;
    let started = tokio::time::Instant::now();
    assert_eq!(get(&running, "/v2/").await.status, 200);
    let taken = started.elapsed();
    assert!((250..260).contains(&taken.as_millis()), "{taken:?}");
    running.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_when_to_come_back() {
    let running = start_with(RegistryProfile {
        requests_per_second_max: NonZeroU32::new(3),
        retry_after_seconds: Some(7),
        ..RegistryProfile::default()
    })
    .await;
    let mut client = Client::connect(&running.authority()).await;
    let mut limited = None;
    for _ in 0..20 {
        let reply = client.get("/v2/").await;
        if reply.status == 429 {
            limited = Some(reply);
            break;
        }
    }
    assert_eq!(limited.unwrap().header("retry-after"), Some("7"));
    running.stop().await;
}

#[tokio::test]
async fn the_second_origin_does_not_count_requests() {
    let running = start_with(RegistryProfile {
        requests_per_second_max: NonZeroU32::new(1),
        redirect: Redirect::SecondOrigin {
            expires_seconds: 60,
        },
        ..RegistryProfile::default()
    })
    .await;
    let redirected = get(&running, &layer_path()).await;
    let storage = running.storage_address.unwrap().to_string();
    let path = redirected
        .header("location")
        .unwrap()
        .replace(&format!("http://{storage}"), "");
    let mut client = Client::connect(&storage).await;
    for _ in 0..5 {
        assert_eq!(client.get_range(&path, "bytes=0-9").await.status, 206);
    }
    running.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_close() {
    let running = start_with(RegistryProfile {
        connections_max: NonZeroU32::new(1),
        ..RegistryProfile::default()
    })
    .await;
    let mut first = Client::connect(&running.authority()).await;
    assert_eq!(first.get("/v2/").await.status, 200);
    let mut second = Client::connect(&running.authority()).await;
    let waiting = tokio::spawn(async move { second.get("/v2/").await.status });
    assert_eq!(first.get("/v2/").await.status, 200);
    assert_eq!(running.journal.connections_seen(), 1);
    drop(first);
    assert_eq!(waiting.await.unwrap(), 200);
    assert_eq!(running.journal.connections_seen(), 2);
    running.stop().await;
}

#[tokio::test]
async fn the_journal_knows_what_was_sent() {
    let running = start_with(RegistryProfile::default()).await;
    let (digest, blob) = bottom_layer();
    get_range(&running, &layer_path(), "bytes=100-299").await;
    get(&running, &layer_path()).await;
    let journal = running.journal.clone();
    running.stop().await;
    let requests = journal.blob_requests(digest);
    assert_eq!(requests[0].range, Some(100..300));
    assert_eq!((requests[0].status, requests[0].body_bytes), (206, 200));
    assert_eq!(requests[1].range, Some(0..blob.len() as u64));
    assert!(
        requests
            .iter()
            .all(|entry| entry.complete && entry.ended_at.is_some())
    );
    assert_eq!(journal.blob_bytes_sent(), 200 + blob.len() as u64);
    assert_eq!(journal.answers_at_once_max(), 1);
}
