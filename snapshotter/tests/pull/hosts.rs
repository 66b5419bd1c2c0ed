//! What is learned of registries and mirrors in mid-pull.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};

use super::command::Pull;
use super::images::TestImage;
use super::served::{Served, fault, status};

/// A folder that says that `mirror` stands in for `served`.
fn mirrored(served: &Served, mirror: &Served) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let of_registry = folder.path().join(&served.host);
    std::fs::create_dir(&of_registry).unwrap();
    let text = format!("[host.\"http://{}\"]\n", mirror.host);
    std::fs::write(of_registry.join("hosts.toml"), text).unwrap();
    folder
}

#[test]
fn more_downloads_than_connections_do_not_wait_for_time_outs() {
    let profile = RegistryProfile {
        connections_max: NonZeroU32::new(1),
        ..RegistryProfile::default()
    };
    let served = Served::new(TestImage::preset("tiny"), profile, Vec::new());
    let pull = Pull::of(&served)
        .set("concurrent_download_chunk_size=64kb")
        .set("max_concurrent_downloads_per_image=16");
    let started = Instant::now();
    pull.run().figures();
    pull.trees(&served.image);
    // The first byte alone is waited for 30 s, a stall for 20.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_mirror_that_keeps_failing_is_left_alone() {
    let image = TestImage::preset("ml-like:30MB");
    let always = |kind: FaultKind| vec![fault(FaultTarget::AnyLayer, FaultTimes::Always, kind)];
    let mirror = Served::faulty(image.clone(), always(status(500)));
    let served = Served::healthy(image);
    let folder = mirrored(&served, &mirror);
    let pull = Pull::of(&served)
        .with(&["--hosts-dir", &folder.path().display().to_string()])
        .set("concurrent_download_chunk_size=256kb")
        .set("max_concurrent_downloads_per_image=4");
    pull.run().figures();
    pull.trees(&served.image);
    // Five failures in a row, and whatever was on its way to it by then.
    let asked = mirror.layer_requests();
    assert!((5..=8).contains(&asked), "{asked} requests");
}

#[test]
fn a_mirror_that_asks_to_slow_down_is_relieved_by_the_registry() {
    let image = TestImage::preset("ml-like:30MB");
    let busy = FaultKind::Status {
        code: 429,
        retry_after_seconds: Some(60),
    };
    let faults = vec![fault(FaultTarget::AnyLayer, FaultTimes::Always, busy)];
    let mirror = Served::faulty(image.clone(), faults);
    let served = Served::healthy(image);
    let folder = mirrored(&served, &mirror);
    let pull = Pull::of(&served)
        .with(&["--hosts-dir", &folder.path().display().to_string()])
        .set("max_concurrent_downloads_per_image=4");
    let started = Instant::now();
    pull.run().figures();
    pull.trees(&served.image);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    let asked = mirror.layer_requests();
    assert!((1..=4).contains(&asked), "{asked} requests");
}
