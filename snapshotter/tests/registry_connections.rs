//! Connections: when they are used again, when they are closed, and who stops when the reader stops.

mod registry_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parapull_snapshotter::registry::{Cause, Class, Opened, Options, Read, Registry};
use registry_support::{Network, Reply, app, blob_reply, descriptor, pattern, read, reply};

#[tokio::test]
async fn connections_are_used_again_after_a_body_was_read() {
    let (network, client, blob) = honest(1000);
    for _ in 0..5 {
        let opened = client
            .open(&app(), 0, &descriptor(&blob), Read::Ranged(0..10))
            .await
            .unwrap();
        read(opened).await.unwrap();
    }
    assert_eq!(network.dials("r.example", 80), 1);
}

#[tokio::test]
async fn connections_are_used_again_after_an_error_answer() {
    let network = Network::default();
    network.host("r.example", 80, |_| Reply::Send(reply(404, &[], b"{}")));
    let client = network.client();
    for _ in 0..3 {
        client
            .open(&app(), 0, &descriptor(b"x"), Read::Whole)
            .await
            .unwrap_err();
    }
    assert_eq!(network.dials("r.example", 80), 1);
}

#[tokio::test]
async fn simultaneous_requests_have_a_connection_each() {
    let (network, client, blob) = honest(1000);
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(
            client
                .open(&app(), 0, &descriptor(&blob), Read::Ranged(0..10))
                .await
                .unwrap(),
        );
    }
    assert_eq!(network.dials("r.example", 80), 4);
    for opened in opened {
        read(opened).await.unwrap();
    }
    assert_eq!(network.open(), 4);
}

#[tokio::test]
async fn at_most_so_many_idle_connections_are_kept() {
    let network = Network::default();
    let blob = pattern(10);
    let served = blob.clone();
    network.host("r.example", 80, move |seen| blob_reply(seen, &served));
    let client = Registry::new(Options {
        idle_connections_per_origin_max: 2,
        ..network.options()
    })
    .unwrap();
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(
            client
                .open(&app(), 0, &descriptor(&blob), Read::Whole)
                .await
                .unwrap(),
        );
    }
    for opened in opened {
        read(opened).await.unwrap();
    }
    network.settle().await;
    assert_eq!(network.open(), 2);
}

#[tokio::test]
async fn dropping_a_body_closes_its_connection() {
    let (network, client, blob) = honest(1 << 20);
    let opened = client
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();
    let Opened::Whole(mut body) = opened else {
        panic!("not whole");
    };
    body.next().await.unwrap();
    assert_eq!(network.open(), 1);
    drop(body);
    network.settle().await;
    assert_eq!(network.open(), 0);

    let opened = client
        .open(&app(), 0, &descriptor(&blob), Read::Ranged(5..9))
        .await
        .unwrap();
    assert_eq!(read(opened).await.unwrap(), (true, blob[5..9].to_vec()));
    assert_eq!(network.dials("r.example", 80), 2);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_server() {
    let blob = pattern(8 << 20);
    let poured = Arc::new(AtomicUsize::new(0));
    let network = Network::default();
    let (answer, counter) = (reply(200, &[], &blob), Arc::clone(&poured));
    network.host("r.example", 80, move |_| {
        Reply::Pour(answer.clone(), Arc::clone(&counter))
    });
    let opened = network
        .client()
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap();
    let Opened::Whole(mut body) = opened else {
        panic!("not whole");
    };
    body.next().await.unwrap();

    network.settle().await;
    let held = poured.load(Ordering::SeqCst);
    network.settle().await;

    assert_eq!(
        poured.load(Ordering::SeqCst),
        held,
        "the server goes on without a reader"
    );
    assert!(
        held < 1 << 20,
        "{held} bytes are held for a reader that does not read"
    );
    read(Opened::Whole(body)).await.unwrap();
    assert!(poured.load(Ordering::SeqCst) >= blob.len());
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    let blob = pattern(10);
    let network = Network::default();
    let served = blob.clone();
    // Each connection serves one request and closes on the second.
    let seen_before = Arc::new(AtomicUsize::new(0));
    let last_connection = Arc::clone(&seen_before);
    network.host("r.example", 80, move |seen| {
        if last_connection.swap(seen.connection, Ordering::SeqCst) == seen.connection {
            return Reply::Close;
        }
        blob_reply(seen, &served)
    });
    let client = network.client();
    for _ in 0..3 {
        let opened = client
            .open(&app(), 0, &descriptor(&blob), Read::Whole)
            .await
            .unwrap();
        assert_eq!(read(opened).await.unwrap().1, blob);
    }
    assert_eq!(network.dials("r.example", 80), 3);

    network.host("r.example", 80, |_| Reply::Close);
    let before = network.requests().len();
    let error = client
        .open(&app(), 0, &descriptor(&blob), Read::Whole)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    assert_eq!(
        network.requests().len() - before,
        2,
        "one on the kept connection, one on a fresh one"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let network = Network::default();
    network.host("r.example", 80, |_| Reply::Silence);
    let started = tokio::time::Instant::now();
    let error = network
        .client()
        .open(&app(), 0, &descriptor(b"x"), Read::Whole)
        .await
        .unwrap_err();
    assert!(
        matches!(error.cause(), Cause::FirstByteTimedOut(_)),
        "{error}"
    );
    assert_eq!((error.class(), error.kind()), (Class::Retry, "network"));
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_grow_too_old() {
    let (network, client, blob) = honest(10);
    for _ in 0..2 {
        let opened = client
            .open(&app(), 0, &descriptor(&blob), Read::Whole)
            .await
            .unwrap();
        read(opened).await.unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
    }
    assert_eq!(network.dials("r.example", 80), 2);
}

#[tokio::test]
async fn a_refused_connection_is_worth_another_try() {
    let error = Network::default()
        .client()
        .open(&app(), 0, &descriptor(b"x"), Read::Whole)
        .await
        .unwrap_err();
    assert_eq!(
        (error.class(), error.kind(), error.host()),
        (Class::Retry, "network", "r.example")
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "nobody listens at r.example:80");
}

/// A host that serves one blob as it should.
fn honest(length: usize) -> (Network, Registry, Vec<u8>) {
    let blob = pattern(length);
    let network = Network::default();
    let served = blob.clone();
    network.host("r.example", 80, move |seen| blob_reply(seen, &served));
    let client = network.client();
    (network, client, blob)
}
