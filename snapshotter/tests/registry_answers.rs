//! What the client makes of every kind of answer to a request for a blob.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod registry_support;

use std::time::Duration;

use parapull_snapshotter::registry::{Cause, Class, FetchError, Opened, Read};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use registry_support::{Network, Reply, app, blob_reply, descriptor, pattern, read, reply};

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ranged,
    Whole,
    Fails(Class),
    FailsInBody(Class),
}

use Outcome::{Fails, FailsInBody, Ranged, Whole};

#[tokio::test]
async fn answers_to_a_range() {
    let blob = pattern(100);
    let part = &blob[10..20];
    let chunked = |bytes: &[u8]| {
        [
            format!("{:x}\r\n", bytes.len()).as_bytes(),
            bytes,
            b"\r\n0\r\n\r\n",
        ]
        .concat()
    };
    let range = ("Content-Range", "bytes 10-19/100");
    let in_chunks = ("Transfer-Encoding", "chunked");
    let until_closed = |head: &str, body: &[u8]| [head.as_bytes(), body].concat();
    let table: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("exact range", reply(206, &[range], part), Ranged),
        (
            "exact range, ranges denied",
            reply(206, &[range, ("Accept-Ranges", "none")], part),
            Ranged,
        ),
        (
            "exact range in chunks",
            reply(206, &[range, in_chunks], &chunked(part)),
            Ranged,
        ),
        (
            "exact range until close",
            until_closed(
                "HTTP/1.1 206 P\r\nContent-Range: bytes 10-19/100\r\n\r\n",
                part,
            ),
            Ranged,
        ),
        (
            "exact range by HTTP/1.0",
            until_closed(
                "HTTP/1.0 206 P\r\nContent-Range: bytes 10-19/100\r\n\r\n",
                part,
            ),
            Ranged,
        ),
        (
            "identity encoding",
            reply(206, &[range, ("Content-Encoding", "identity")], part),
            Ranged,
        ),
        ("whole", reply(200, &[], &blob), Whole),
        (
            "whole in chunks",
            reply(200, &[in_chunks], &chunked(&blob)),
            Whole,
        ),
        (
            "whole until close",
            until_closed("HTTP/1.1 200 OK\r\n\r\n", &blob),
            Whole,
        ),
        (
            "another range",
            reply(206, &[("Content-Range", "bytes 0-9/100")], part),
            Fails(Class::Degrade),
        ),
        (
            "a shorter range",
            reply(206, &[("Content-Range", "bytes 10-14/100")], &part[..5]),
            Fails(Class::Degrade),
        ),
        (
            "another total",
            reply(206, &[("Content-Range", "bytes 10-19/101")], part),
            Fails(Class::Degrade),
        ),
        (
            "unknown total",
            reply(206, &[("Content-Range", "bytes 10-19/*")], part),
            Fails(Class::Degrade),
        ),
        (
            "no content range",
            reply(206, &[], part),
            Fails(Class::Degrade),
        ),
        (
            "multipart",
            reply(
                206,
                &[("Content-Type", "multipart/byteranges; boundary=x")],
                part,
            ),
            Fails(Class::Degrade),
        ),
        (
            "length against range",
            reply(206, &[range], &blob[10..30]),
            Fails(Class::Degrade),
        ),
        (
            "compressed range",
            reply(206, &[range, ("Content-Encoding", "gzip")], part),
            Fails(Class::Fatal),
        ),
        (
            "compressed whole",
            reply(200, &[("Content-Encoding", "gzip")], &blob),
            Fails(Class::Fatal),
        ),
        (
            "whole of another length",
            reply(200, &[], &blob[..99]),
            Fails(Class::Corrupt),
        ),
        (
            "complete without its last chunk",
            reply(
                206,
                &[range, in_chunks],
                &[b"a\r\n", part, b"\r\n"].concat(),
            ),
            Ranged,
        ),
        (
            "ended early",
            reply(206, &[range, ("Content-Length", "10")], &part[..4]),
            FailsInBody(Class::Retry),
        ),
        (
            "ended early in chunks",
            reply(206, &[range, in_chunks], &chunked(&part[..4])),
            FailsInBody(Class::Retry),
        ),
        (
            "broken chunk",
            reply(206, &[range, in_chunks], b"zz\r\n"),
            FailsInBody(Class::Retry),
        ),
        (
            "whole ended early",
            reply(200, &[in_chunks], &chunked(&blob[..99])),
            FailsInBody(Class::Retry),
        ),
        (
            "surplus in chunks",
            reply(206, &[range, in_chunks], &chunked(&blob[10..21])),
            FailsInBody(Class::Corrupt),
        ),
        (
            "whole surplus",
            reply(200, &[in_chunks], &chunked(&pattern(101))),
            FailsInBody(Class::Corrupt),
        ),
        ("400", reply(400, &[], b""), Fails(Class::Degrade)),
        (
            "416",
            reply(416, &[("Content-Range", "bytes */100")], b""),
            Fails(Class::Degrade),
        ),
        ("501", reply(501, &[], b""), Fails(Class::Degrade)),
        (
            "401 without a challenge",
            reply(401, &[], b""),
            Fails(Class::Auth),
        ),
        ("403", reply(403, &[], b""), Fails(Class::Auth)),
        ("404", reply(404, &[], b""), Fails(Class::NotFound)),
        ("410", reply(410, &[], b""), Fails(Class::NotFound)),
        ("408", reply(408, &[], b""), Fails(Class::Retry)),
        ("425", reply(425, &[], b""), Fails(Class::Retry)),
        ("429", reply(429, &[], b""), Fails(Class::RateLimited)),
        ("500", reply(500, &[], b""), Fails(Class::Retry)),
        ("502", reply(502, &[], b""), Fails(Class::Retry)),
        ("503", reply(503, &[], b""), Fails(Class::Retry)),
        ("505", reply(505, &[], b""), Fails(Class::Fatal)),
        ("204", reply(204, &[], b""), Fails(Class::Fatal)),
        ("304", reply(304, &[], b""), Fails(Class::Fatal)),
        ("418", reply(418, &[], b""), Fails(Class::Fatal)),
        (
            "no HTTP",
            b"SSH-2.0-x\r\n\r\n".to_vec(),
            Fails(Class::Fatal),
        ),
        ("nothing", Vec::new(), Fails(Class::Retry)),
        (
            "half a head",
            b"HTTP/1.1 206 P\r\nContent-".to_vec(),
            Fails(Class::Retry),
        ),
        (
            "endless head",
            [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 300 << 10]].concat(),
            Fails(Class::Fatal),
        ),
        (
            "large head",
            reply(200, &[("X", &"x".repeat(65 << 10))], &blob),
            Fails(Class::Fatal),
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 99\r\n\r\n".to_vec(),
            Fails(Class::Fatal),
        ),
    ];
    for (what, bytes, expected) in table {
        assert_eq!(
            outcome(bytes, &blob, Read::Ranged(10..20)).await,
            expected,
            "{what}"
        );
    }
}

#[tokio::test]
async fn answers_to_a_whole_read() {
    let blob = pattern(100);
    let table: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("whole", reply(200, &[], &blob), Whole),
        (
            "all as a range",
            reply(206, &[("Content-Range", "bytes 0-99/100")], &blob),
            Whole,
        ),
        (
            "a part",
            reply(206, &[("Content-Range", "bytes 0-9/100")], &blob[..10]),
            Fails(Class::Fatal),
        ),
        ("416", reply(416, &[], b""), Fails(Class::Fatal)),
        ("400", reply(400, &[], b""), Fails(Class::Fatal)),
        ("501", reply(501, &[], b""), Fails(Class::Fatal)),
        (
            "longer",
            reply(200, &[], &pattern(101)),
            Fails(Class::Corrupt),
        ),
    ];
    for (what, bytes, expected) in table {
        assert_eq!(outcome(bytes, &blob, Read::Whole).await, expected, "{what}");
    }
}

#[tokio::test]
async fn asks_for_identity_and_for_exactly_the_range() {
    let blob = pattern(100);
    let network = Network::default();
    let served = blob.clone();
    network.host("r.example", 80, move |seen| blob_reply(seen, &served));
    let client = network.client();

    client
        .open(&app(), 0, &descriptor(&blob), Read::Ranged(10..20))
        .await
        .unwrap();
    client
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();

    let requests = network.requests();
    assert_eq!(
        requests[0].target,
        format!("/v2/team/app/blobs/{}", descriptor(&blob).digest)
    );
    assert_eq!(requests[0].headers["range"], "bytes=10-19");
    assert_eq!(requests[0].headers["accept-encoding"], "identity");
    assert_eq!(requests[0].headers["host"], "r.example");
    assert!(requests[0].headers["user-agent"].starts_with("parapull/"));
    assert!(!requests[1].headers.contains_key("range"));
}

#[tokio::test]
async fn refuses_senseless_requests_without_asking() {
    let blob = pattern(100);
    let network = Network::default();
    let client = network.client();
    for range in [10..10, 90..101, 100..101] {
        let error = client
            .open(&app(), 0, &descriptor(&blob), Read::Ranged(range))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
    }
    let error = client
        .open(&app(), 1, &descriptor(&blob), Read::Whole)
        .await
        .unwrap_err();
    assert_eq!((error.class(), error.kind()), (Class::Fatal, "config"));
    assert_eq!(network.dials("r.example", 80), 0);
}

#[tokio::test]
async fn reports_what_the_registry_says() {
    let document = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    let error = failure(reply(429, &[("Retry-After", "7")], document)).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(
        error.to_string(),
        "r.example: the server answers 429: TOOMANYREQUESTS: slow down"
    );
    assert_eq!(error.kind(), "rate_limited");

    let error = failure(reply(
        503,
        &[("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")],
        b"<html>",
    ))
    .await;
    assert_eq!(error.retry_after(), Some(Duration::ZERO));
    assert_eq!(error.to_string(), "r.example: the server answers 503");
}

#[tokio::test]
async fn an_error_of_a_body_stays() {
    let blob = pattern(100);
    let network = Network::default();
    network.host("r.example", 80, |_| {
        Reply::SendAndClose(reply(200, &[("Content-Length", "100")], &pattern(40)))
    });
    let opened = network
        .client()
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();
    let Opened::Whole(mut body) = opened else {
        panic!("not whole");
    };
    while body.next().await.is_ok() {}
    let error = body.next().await.unwrap_err();
    assert!(
        matches!(
            error.cause(),
            Cause::BodyTooShort {
                received: 40,
                expected: 100,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(body.received(), 40);
}

/// Whatever a server sends, the client neither panics nor hangs nor takes for the blob what is longer or shorter.
#[test]
fn damaged_answers_do_no_harm() {
    let blob = pattern(100);
    let range = ("Content-Range", "bytes 10-19/100");
    let chunks = [b"a\r\n", &blob[10..20], b"\r\n0\r\n\r\n"].concat();
    let healthy = [
        reply(206, &[range], &blob[10..20]),
        reply(206, &[range, ("Transfer-Encoding", "chunked")], &chunks),
        reply(200, &[], &blob),
    ];
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let strategy = (0..healthy.len(), damage, any::<prop::sample::Index>());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let network = Network::default();
    let client = network.client();

    let outcome = TestRunner::default().run(&strategy, |(choice, damage, cut)| {
        let mut bytes = healthy[choice].clone();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len() * 2).max(1));
        network.host("r.example", 80, move |_| Reply::SendAndClose(bytes.clone()));
        runtime.block_on(async {
            let Ok(opened) = client
                .open(&app(), 0, &descriptor(&blob), Read::Ranged(10..20))
                .await
            else {
                return Ok(());
            };
            if let Ok((ranged, bytes)) = read(opened).await {
                prop_assert_eq!(bytes.len(), if ranged { 10 } else { 100 });
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

async fn outcome(bytes: Vec<u8>, blob: &[u8], wanted: Read) -> Outcome {
    let network = Network::default();
    network.host("r.example", 80, move |_| Reply::SendAndClose(bytes.clone()));
    let opened = match network
        .client()
        .open(&app(), 0, &descriptor(blob), wanted)
        .await
    {
        Ok(opened) => opened,
        Err(error) => return Fails(error.class()),
    };
    match read(opened).await {
        Ok((true, bytes)) => {
            assert_eq!(bytes, blob[10..20]);
            Ranged
        }
        Ok((false, bytes)) => {
            assert_eq!(bytes, blob);
            Whole
        }
        Err(error) => FailsInBody(error.class()),
    }
}

async fn failure(bytes: Vec<u8>) -> FetchError {
    let network = Network::default();
    network.host("r.example", 80, move |_| Reply::Send(bytes.clone()));
    network
        .client()
        .open(&app(), 0, &descriptor(b"x"), Read::Whole)
        .await
        .unwrap_err()
}
