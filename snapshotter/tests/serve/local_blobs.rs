//! Layers that containerd has already: read from its content store, and fetched when they turn out to be gone or wrong.
//!
//! Method: a private containerd with some blobs of an image in one namespace, some of them damaged behind its back; the registry's
//! journal says what was fetched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::tree::Tree;

use crate::caller::Caller;
use crate::containerd::{Containerd, missing};
use crate::daemon::Daemon;
use crate::images::TestImage;
use crate::registry::Registry;
use crate::served::{self, temporary_directory};
use crate::stopping::of_layers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_that_containerd_has_are_not_fetched_and_wrong_ones_are() {
    let test = "layers_that_containerd_has_are_not_fetched_and_wrong_ones_are";
    if let Some(why) = missing() {
        return served::skip(test, why);
    }
    let image = image();
    let whole = trees(&image, &[], |_, _| {}).await.0;
    for strategy in ["streamed", "multipart", "sequential", "store-then-unpack"] {
        let settings = [
            &format!("strategy={strategy}"),
            "concurrent_download_chunk_size=32kb",
        ];
        let settings = if strategy == "sequential" {
            &settings[..1]
        } else {
            &settings
        };
        let (trees, sent) = trees(&image, settings, damage).await;
        assert!(trees == whole, "{strategy}");
        let sizes: Vec<u64> = image
            .layers
            .iter()
            .map(|layer| layer.compressed_bytes)
            .collect();
        assert_eq!(sent[WHOLE], 0, "{strategy}: it was here");
        for fetched in [WRONG, VANISHED, ELSEWHERE] {
            assert_eq!(sent[fetched], sizes[fetched], "{strategy}: layer {fetched}");
        }
        assert!(
            (1..=sizes[CUT]).contains(&sent[CUT]),
            "{strategy}: {sent:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_s_pull_fetches_only_what_containerd_lacks() {
    let test = "a_client_s_pull_fetches_only_what_containerd_lacks";
    if let Some(why) = missing() {
        return served::skip(test, why);
    }
    let (image, folder) = (image(), temporary_directory());
    let registry = Registry::start(&[(NAME, &image)], Vec::new(), &[]).await;
    let daemon = Daemon::start(folder.path(), &[]);
    let containerd = Containerd::start(folder.path(), daemon.socket());
    let store = ContentStore(&containerd, folder.path().join(BLOBS));
    store.ingest("moby", &image, &image.layers[WHOLE].digest);
    let output = Command::new(env!("CARGO_BIN_EXE_parapull-snapshotter"))
        .args(["pull", &registry.reference(NAME), "--json"])
        .args(["--namespace", "moby", "--containerd"])
        .arg(containerd.socket())
        .output();
    let output = tokio::task::block_in_place(|| output.unwrap());
    assert!(output.status.success(), "{output:?}");
    let requests = |index: usize| registry.journal.blob_requests(&image.layers[index].digest);
    let fetched = [0, 1, 2, 3, 4].map(|index| !requests(index).is_empty());
    assert_eq!(fetched, [false, true, true, true, true]);
}

/// The layers of a pull as a container sees them, and the bytes the registry sent of each; `damage` has the content store
/// first, and nothing is in it unless it says so.
async fn trees(
    image: &TestImage,
    settings: &[&str],
    damage: impl Fn(&ContentStore<'_>, &TestImage),
) -> (Vec<Tree>, Vec<u64>) {
    let folder = temporary_directory();
    let registry = Registry::start(&[(NAME, image)], Vec::new(), &[]).await;
    let daemon = Daemon::start(folder.path(), settings);
    let containerd = Containerd::start(folder.path(), daemon.socket());
    damage(&ContentStore(&containerd, folder.path().join(BLOBS)), image);
    let mut client = daemon.client().await;
    let mut caller = Caller::new(image, registry.reference(NAME));
    for index in 0..image.layers.len() {
        caller.link(&mut client, index).await;
    }
    let sent = image.layers.iter().map(|layer| {
        let requests = registry.journal.blob_requests(&layer.digest);
        requests.iter().map(|entry| entry.body_bytes).sum()
    });
    (caller.trees(&mut client).await, sent.collect())
}

/// Puts the image into containerd and spoils all layers but one.
fn damage(store: &ContentStore<'_>, image: &TestImage) {
    let manifest = fs::read(image.layout.blob_path(&image.manifest_digest).unwrap()).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    for digest in [&image.manifest_digest, config] {
        store.ingest("k8s.io", image, digest);
    }
    for (index, layer) in image.layers.iter().enumerate() {
        let namespace = if index == ELSEWHERE {
            "other"
        } else {
            "k8s.io"
        };
        store.ingest(namespace, image, &layer.digest);
    }
    let file = |index: usize| store.file(&image.layers[index].digest);
    let mut bytes = fs::read(file(WRONG)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(file(WRONG), bytes).unwrap();
    fs::remove_file(file(VANISHED)).unwrap();
    let bytes = fs::read(file(CUT)).unwrap();
    fs::write(file(CUT), &bytes[..bytes.len() / 2]).unwrap();
}

/// containerd's content store and where its blobs lie.
struct ContentStore<'a>(&'a Containerd, PathBuf);

impl ContentStore<'_> {
    fn ingest(&self, namespace: &str, image: &TestImage, digest: &str) {
        let bytes = fs::read(image.layout.blob_path(digest).unwrap()).unwrap();
        let arguments = ["-n", namespace, "content", "ingest", "--expected-digest"];
        let arguments = [&arguments[..], &[digest, digest]].concat();
        self.0.ctr_with(&arguments, &bytes).unwrap();
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.1.join(digest.parse::<Digest>().unwrap().hex())
    }
}

fn image() -> TestImage {
    let layers = [200_000, 150_000, 250_000, 300_000, 100_000].map(|bytes| (bytes, 4));
    of_layers("local", &layers)
}

/// What containerd has of each layer.
const WHOLE: usize = 0;
const WRONG: usize = 1;
const VANISHED: usize = 2;
const CUT: usize = 3;
const ELSEWHERE: usize = 4;

const NAME: &str = "team/app:1";
const BLOBS: &str = "root/io.containerd.content.v1.content/blobs/sha256";
