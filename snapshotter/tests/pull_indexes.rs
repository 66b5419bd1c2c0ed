//! Whatever a driver knows of the inside of its blobs, the trees are the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![expect(
    unreachable_pub,
    reason = "what helpers offer to all modules of one binary"
)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use parapull_engine::Outcome;
use parapull_snapshotter::config::Config;
use parapull_snapshotter::digest::Digest;
use parapull_snapshotter::driver::{Advice, Driver, PullRequest, Settings};
use parapull_snapshotter::image::Platform;
use parapull_snapshotter::index::{self, Cache, SPAN_BYTES};
use parapull_snapshotter::registry::Registry;
use parapull_snapshotter::store::{Directory, DirectoryPlace};
use tokio::runtime::Runtime;

#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/archive.rs"]
mod archive;
#[expect(dead_code, reason = "shared with the tests of the command")]
#[path = "pull/images.rs"]
mod images;
#[expect(dead_code, reason = "shared with the tests of the command")]
#[path = "pull/served.rs"]
mod served;
#[expect(dead_code, reason = "shared with the tests of unpacking")]
#[path = "unpack/tree.rs"]
mod tree;

use archive::{archive, file};
use images::{TestImage, memory};
use served::Served;
use tree::Tree;

#[test]
fn trees_are_the_same_with_every_index() {
    if !is_root("trees_are_the_same_with_every_index") {
        return;
    }
    let place = tempfile::tempdir_in(memory()).unwrap();
    let blobs = [1, 2].map(|seed| {
        let tar = archive([file("letters", letters(seed)), file("small", "x")]);
        (gzip(&tar), Digest::of(&tar).to_string())
    });
    let [layer, other] = &blobs;
    let blob = Digest::of(&layer.0);
    let served = Served::healthy(TestImage::of_blobs(vec![layer.clone()]));
    let pull = |threads: u32, indexes: Option<&Cache>| {
        let to = tempfile::tempdir_in(&place).unwrap();
        pull(&served, &to.path().join("image"), threads, indexes.cloned())
    };
    let expected = pull(2, None);
    assert_eq!(expected.0.len(), 2);
    let cache = |name: &str| Cache::new(place.path().join(name), 64 << 20);
    for threads in [1, 3, 5] {
        // Noted by the first, used by the second.
        let own = cache(&format!("own-{threads}"));
        assert!(
            pull(threads, Some(&own)) == expected,
            "{threads} threads note"
        );
        let noted = await_index(&own, &blob);
        assert!(noted > 2, "{noted} checkpoints");
        assert!(
            pull(threads, Some(&own)) == expected,
            "{threads} threads know"
        );
        // The command's, of this layer and of another one under its name.
        for (name, bytes) in [("right", &layer.0), ("wrong", &other.0)] {
            let file = place.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            let made = cache(&format!("{name}-{threads}"));
            let built = index::build(&file, SPAN_BYTES).unwrap();
            made.keep(&blob, &built.ztoc).unwrap();
            assert!(
                pull(threads, Some(&made)) == expected,
                "{threads} threads, {name}"
            );
        }
    }
}

#[test]
fn a_damaged_index_is_made_anew_and_a_small_blob_has_none() {
    if !is_root("a_damaged_index_is_made_anew_and_a_small_blob_has_none") {
        return;
    }
    let place = tempfile::tempdir_in(memory()).unwrap();
    let large = archive([file("letters", letters(1))]);
    let small = archive([file("small", "x")]);
    let blobs = [large, small].map(|tar| (gzip(&tar), Digest::of(&tar).to_string()));
    let blob = Digest::of(&blobs[0].0);
    let served = Served::healthy(TestImage::of_blobs(blobs.to_vec()));
    let cache = Cache::new(place.path().join("indexes"), 64 << 20);
    let damaged = place
        .path()
        .join(format!("indexes/{}.ztoc.zst", blob.hex()));
    std::fs::create_dir(place.path().join("indexes")).unwrap();
    std::fs::write(&damaged, "nothing of the kind").unwrap();
    pull(&served, &place.path().join("image"), 3, Some(cache.clone()));
    assert!(await_index(&cache, &blob) > 2);
    let listed: Vec<_> = cache
        .list()
        .unwrap()
        .into_iter()
        .map(|(blob, _)| blob)
        .collect();
    assert_eq!(listed, [blob]);
}

/// Pulls the image's layers and reads the first one's tree.
fn pull(served: &Served, to: &Path, threads: u32, indexes: Option<Cache>) -> Tree {
    let overrides = [
        "staging_ttl=0s".to_owned(),
        format!("threads_per_lane={threads}"),
        format!("threads={}", threads * 4),
    ];
    let config = Config::load_with(None, &overrides).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let registry = Registry::new(config.registry_options()).unwrap();
        let advice = Advice {
            timing: config.timing(),
            seed: 0,
        };
        let reference = served.reference.parse().unwrap();
        let image = registry
            .resolve(&reference, &Platform::host(), &advice)
            .await
            .unwrap();
        let directory = Arc::new(Directory::begin(to).unwrap());
        let (driver, task) = Driver::start(Settings {
            config: config.engine(2, 0).unwrap(),
            placement: Arc::clone(&directory),
            bounds: config.bounds(),
            indexes,
            sockets: tokio::runtime::Handle::current(),
            recorder: None,
        });
        let digests: Vec<_> = image
            .layers
            .iter()
            .map(|layer| layer.descriptor.digest)
            .collect();
        let manifest = image.manifest_bytes.clone();
        let pull = driver
            .pull(PullRequest::new(image, registry, 0).unwrap())
            .await
            .unwrap();
        let id = pull.image;
        for (digest, index) in digests.into_iter().zip(0..) {
            let driver = driver.clone();
            tokio::spawn(async move {
                driver
                    .await_layer(id, index, DirectoryPlace { index, digest })
                    .await
            });
        }
        let report = pull.finished().await;
        driver.shut_down().await;
        task.await.unwrap();
        assert_eq!(report.outcome, Outcome::Ready);
        directory.complete(&manifest).unwrap();
    });
    Tree::read(&to.join(format!("layers/000-{}/fs", served.image.layers[0].short())))
}

/// The checkpoints of a blob's index, which a lane keeps after its layer is ready.
fn await_index(cache: &Cache, blob: &Digest) -> usize {
    let started = Instant::now();
    loop {
        if let Ok(Some(index)) = cache.find(blob) {
            return index.checkpoints.len();
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no index is kept"
        );
        std::thread::yield_now();
    }
}

/// 14 MiB of letters drawn at random: a quarter is saved by shorter codes, so every block has codes of its own.
fn letters(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b'A' + (state >> 59) as u8
    };
    std::iter::repeat_with(draw).take(14 << 20).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn is_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    eprintln!("SKIPPED {test}: needs root for owners");
    assert!(std::env::var_os("PARAPULL_REQUIRE_ALL").is_none_or(|value| value != "1"));
    false
}
