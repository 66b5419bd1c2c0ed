//! The daemon is told to stop while it pulls: what still finishes, what ends at once, and what is left.
//!
//! Method: bodies that wait for the test, and a layer of so many files that its lane runs on long after its last byte came.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tonic::Code;

use crate::caller::Caller;
use crate::daemon::{Daemon, wait_until};
use crate::images::TestImage;
use crate::registry::{Gate, Registry};
use crate::served::{self, temporary_directory};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_mid_pull_ends_every_call_and_leaves_nothing_half_made() {
    let test = "a_stop_in_mid_pull_ends_every_call_and_leaves_nothing_half_made";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let image = of_layers("stopped", &[(100_000, 4), (300_000, 4), (150_000, 4)]);
    let other = of_layers("unheard-of", &[(1_000, 1)]);
    let gates = [
        Gate::before(&image.layers[1].digest, 10_000),
        Gate::before(&other.manifest_digest, 0),
    ];
    let images = [("team/app:1", &image), ("team/other:1", &other)];
    let registry = Registry::start(&images, Vec::new(), &gates).await;
    let mut caller = Caller::new(&image, registry.reference("team/app:1"));
    let folder = temporary_directory();
    let daemon = Daemon::start(folder.path(), &[]);
    let mut client = daemon.client().await;
    caller.link(&mut client, 0).await;
    let waiting = [
        caller.request(1),
        Caller::new(&other, registry.reference("team/other:1")).request(0),
    ]
    .map(|request| {
        let mut client = client.clone();
        tokio::spawn(async move { client.prepare(request).await })
    });
    for gate in &gates {
        gate.reached().await;
    }
    wait_until("a staged layer", || daemon.staged() == (2, 1));

    let told = Instant::now();
    daemon.signal(Signal::TERM);
    for call in waiting {
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("is stopping"), "{status}");
    }
    let (staged, spool) = (daemon.staging(), daemon.root().join("spool"));
    let status = daemon.ended();
    assert!(status.success(), "{status}");
    // Of the grace nothing is used: no lane has all of its bytes.
    assert!(
        told.elapsed() < Duration::from_secs(8),
        "{:?}",
        told.elapsed()
    );
    assert_eq!(staged.counts(), (1, 1), "what was half made is gone");
    assert_eq!(std::fs::read_dir(spool).unwrap().count(), 0);

    for gate in &gates {
        gate.open();
    }
    let daemon = Daemon::start(folder.path(), &[]);
    let mut client = daemon.client().await;
    for index in 1..3 {
        caller.link(&mut client, index).await;
    }
    let requests = |index: usize| registry.journal.blob_requests(&image.layers[index].digest);
    assert_eq!([0, 1, 2].map(|index| requests(index).len()), [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_all_here_are_unpacked_within_the_grace_unless_told_again() {
    let test = "bytes_that_are_all_here_are_unpacked_within_the_grace_unless_told_again";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let image = of_layers("long", &[(FILES * 16, FILES)]);
    let images = [("team/long:1", &image)];
    // The grace, whether it is told twice, its exit code, layers staged at its end.
    let cases = [
        ("10m", false, 0, 1),
        ("0s", false, 0, 0),
        ("10m", true, 1, 0),
    ];
    for (grace, twice, code, noted) in cases {
        let registry = Registry::start(&images, Vec::new(), &[]).await;
        let mut caller = Caller::new(&image, registry.reference("team/long:1"));
        let folder = temporary_directory();
        let grace = format!("shutdown_grace={grace}");
        let daemon = Daemon::start(folder.path(), &[&grace]);
        let (mut client, request) = (daemon.client().await, caller.request(0));
        let call = tokio::spawn(async move { client.prepare(request).await });
        wait_until("all bytes, and work left", || is_unpacking(&daemon));
        daemon.signal(Signal::TERM);
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{grace}: {status}");
        if twice {
            daemon.signal(Signal::TERM);
        }
        let staged = daemon.staging();
        assert_eq!(daemon.ended().code(), Some(code), "{grace} {twice}");
        assert_eq!(staged.counts().1, noted, "{grace} {twice}");

        let daemon = Daemon::start(folder.path(), &[]);
        assert_eq!(daemon.staged(), (noted, noted), "{grace} {twice}");
        let mut client = daemon.client().await;
        caller.link(&mut client, 0).await;
        let requests = registry.journal.blob_requests(&image.layers[0].digest);
        assert_eq!(requests.len(), 2 - noted, "{grace} {twice}");
    }
}

/// Whether all bytes of the only layer are here and its lane is not done.
fn is_unpacking(daemon: &Daemon) -> bool {
    let status = daemon.status();
    let layer = &status["pulls"][0]["layers"][0];
    let bytes = |name: &str| layer[name].as_u64().unwrap_or_default();
    bytes("compressed_bytes") > 0 && bytes("bytes_fetched") == bytes("compressed_bytes")
}

/// An image of layers with so many bytes in so many files.
pub(crate) fn of_layers(name: &str, layers: &[(u32, u32)]) -> TestImage {
    let layers: Vec<String> = layers
        .iter()
        .map(|(bytes, files)| {
            format!(r#"{{"uncompressed_bytes": {bytes}, "files": {files}, "directories": 2}}"#)
        })
        .collect();
    let layers = layers.join(",");
    TestImage::of_yaml(&format!(
        r#"{{"name": "{name}", "seed": 5, "layers": [{layers}]}}"#
    ))
}

/// Seconds of work for one lane.
const FILES: u32 = 40_000;
