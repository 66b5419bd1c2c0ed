//! The daemon's end in mid-pull: layers that were finished are not fetched again by the next one.
//!
//! Goal: what survives a kill or a stop. Method: a registry that holds the answer for one layer, and its journal of requests.

use fake_registry::Journal;
use parapull_snapshotter::tree::Tree;
use rustix::process::Signal;

use crate::caller::Caller;
use crate::daemon::{Daemon, wait_until};
use crate::images::TestImage;
use crate::registry::{Gate, Registry};
use crate::served::{self, temporary_directory};

/// Layers below this one are linked before the daemon ends, those above are only staged.
const SILENT: usize = 2;

fn image() -> TestImage {
    let layer =
        |bytes: u32| format!(r#"{{"uncompressed_bytes": {bytes}, "files": 4, "directories": 2}}"#);
    let layers = [200_000, 150_000, 250_000, 300_000, 100_000].map(layer);
    TestImage::of_yaml(&format!(
        r#"{{"name": "restart", "seed": 5, "layers": [{}]}}"#,
        layers.join(",")
    ))
}

const NAME: &str = "team/app:1";

fn gate(image: &TestImage) -> Gate {
    Gate::before(&image.layers[SILENT].digest, 100)
}

fn requests(journal: &Journal, image: &TestImage) -> Vec<usize> {
    let layers = image.layers.iter();
    layers
        .map(|layer| journal.blob_requests(&layer.digest).len())
        .collect()
}

/// The trees of a pull that nothing disturbed.
async fn trees_of_a_whole_pull(image: &TestImage) -> Vec<Tree> {
    let folder = temporary_directory();
    let registry = Registry::start(&[(NAME, image)], Vec::new(), &[]).await;
    let daemon = Daemon::start(folder.path(), &[]);
    let (mut client, mut caller) = (
        daemon.client().await,
        Caller::new(image, registry.reference(NAME)),
    );
    for index in 0..image.layers.len() {
        caller.link(&mut client, index).await;
    }
    assert_eq!(requests(&registry.journal, image), [1; 5]);
    caller.trees(&mut client).await
}

/// Pulls until the layers below the silent one are linked and those above are staged.
async fn pull_halfway(daemon: &Daemon, caller: &mut Caller) {
    let mut client = daemon.client().await;
    for index in 0..SILENT {
        caller.link(&mut client, index).await;
    }
    let above = caller.image.layers.len() - SILENT - 1;
    wait_until("layers staged", || daemon.staged().1 == above);
    assert_eq!(daemon.images().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_layers_of_an_unfinished_pull_are_not_fetched_again_after_a_restart() {
    let test = "finished_layers_of_an_unfinished_pull_are_not_fetched_again_after_a_restart";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let image = image();
    let whole = trees_of_a_whole_pull(&image).await;
    for signal in [Signal::KILL, Signal::TERM] {
        let gate = gate(&image);
        let folder = temporary_directory();
        let registry =
            Registry::start(&[(NAME, &image)], Vec::new(), std::slice::from_ref(&gate)).await;
        let mut caller = Caller::new(&image, registry.reference(NAME));
        let daemon = Daemon::start(folder.path(), &[]);
        pull_halfway(&daemon, &mut caller).await;
        assert_eq!(requests(&registry.journal, &image), [1; 5]);
        daemon.end(signal);
        gate.open();

        let daemon = Daemon::start(folder.path(), &[]);
        assert_eq!(daemon.staged(), (2, 2), "what was unfinished is gone");
        let mut client = daemon.client().await;
        for index in SILENT..image.layers.len() {
            caller.link(&mut client, index).await;
        }
        assert_eq!(
            requests(&registry.journal, &image),
            [1, 1, 2, 1, 1],
            "{signal:?}: only what was missing is fetched"
        );
        assert!(caller.trees(&mut client).await == whole, "{signal:?}");
        wait_until("an empty staging area", || daemon.staged() == (0, 0));
        daemon.end(Signal::TERM);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asks_for_after_a_restart_is_dropped() {
    let test = "what_nobody_asks_for_after_a_restart_is_dropped";
    if !rustix::process::geteuid().is_root() {
        return served::skip(test, "layers are unpacked as root");
    }
    let (image, folder) = (image(), temporary_directory());
    let gate = gate(&image);
    let registry =
        Registry::start(&[(NAME, &image)], Vec::new(), std::slice::from_ref(&gate)).await;
    let mut caller = Caller::new(&image, registry.reference(NAME));
    let daemon = Daemon::start(folder.path(), &[]);
    pull_halfway(&daemon, &mut caller).await;
    daemon.end(Signal::KILL);
    gate.open();
    let daemon = Daemon::start(folder.path(), &["staging_ttl=1s"]);
    wait_until("an empty staging area", || daemon.staged() == (0, 0));
    // What was linked stays.
    let mut client = daemon.client().await;
    for index in SILENT..image.layers.len() {
        caller.link(&mut client, index).await;
    }
    assert_eq!(requests(&registry.journal, &image), [1, 1, 2, 2, 2]);
}
