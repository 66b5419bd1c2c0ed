//! The world against arithmetic: where one resource binds, the time follows from a division, within one percent.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU64;

use parapull_engine::Strategy;
use parapull_scenario::{
    Encoding, Host, ImageSource, LimitsSpec, PlannedLayer, RegistryProfile, Scenario, Setting,
};
use parapull_sim::{Bound, Prediction, predict};

const GB: u64 = 1_000_000_000;

fn layer(content: u32, compressed_bytes: u64, uncompressed_bytes: u64) -> PlannedLayer {
    PlannedLayer {
        content,
        compressed_bytes,
        uncompressed_bytes,
        entries: 0,
        encoding: Encoding::Gzip,
        sources: 1,
    }
}

fn scenario(layers: Vec<PlannedLayer>) -> Scenario {
    Scenario::single(
        ImageSource::Layers(layers),
        Host {
            round_trip_us: 0,
            ..Host::named("unlimited").unwrap()
        },
        RegistryProfile::default(),
        Strategy::Streamed,
    )
}

fn assert_close(prediction: &Prediction, seconds: f64, bound: Bound) {
    let error = (prediction.seconds - seconds).abs() / seconds;
    assert!(
        error < 0.01,
        "{} s instead of {seconds} s: {:?}",
        prediction.seconds,
        prediction.phases
    );
    assert_eq!(prediction.bound_by, bound, "{:?}", prediction.phases);
    assert!(
        prediction.seconds >= prediction.lower_bound_seconds * 0.999,
        "faster than the lower bound {}",
        prediction.lower_bound_seconds
    );
}

#[test]
fn a_full_link_takes_bytes_over_bandwidth() {
    for strategy in Strategy::ALL {
        let mut scenario = scenario(vec![layer(0, 10 * GB, 10 * GB)]);
        scenario.strategy = strategy;
        scenario.host.link_bytes_per_second = GB;
        assert_close(&predict(&scenario).unwrap(), 10.0, Bound::Link);
    }
}

#[test]
fn connections_at_their_cap_add_up() {
    // Sixteen connections of 90 MB/s; each 8 MiB chunk also waits 20 ms: 8 MiB / (8 MiB / 90 MB/s + 20 ms) = 74.1 MB/s.
    let mut scenario = scenario(vec![layer(0, 20 * GB, 20 * GB)]);
    scenario.registry.connection_bytes_per_second = NonZeroU64::new(90_000_000);
    scenario.registry.first_byte_ms = 20;
    let chunk = f64::from(8 << 20);
    let rate = chunk / (chunk / 90e6 + 0.020);
    assert_close(
        &predict(&scenario).unwrap(),
        20e9 / (16.0 * rate) + 0.080,
        Bound::Connection,
    );
}

#[test]
fn small_layers_one_after_the_other_cost_their_latency() {
    // One fetch at a time, 200 layers, 50 ms each.
    let mut scenario = scenario(
        (0..200)
            .map(|content| layer(content, 1_000, 2_000))
            .collect(),
    );
    scenario.registry.first_byte_ms = 50;
    scenario.limits = LimitsSpec {
        fetches_per_image: Setting::Is(1),
        ..LimitsSpec::default()
    };
    assert_close(&predict(&scenario).unwrap(), 203.0 * 0.050, Bound::Latency);
}

#[test]
fn busy_cores_share_the_work_of_all_layers() {
    // Eight layers, four cores, one second of work for each gigabyte.
    let layers = (0..8).map(|content| layer(content, GB / 2, GB)).collect();
    let mut scenario = scenario(layers);
    scenario.host.cores = 4;
    scenario.limits.unpacks = Setting::Is(8);
    scenario.limits.unpacks_per_image = Setting::Is(8);
    scenario.host.inflate_bytes_per_second = GB;
    assert_close(&predict(&scenario).unwrap(), 2.0, Bound::Cpu);
}

#[test]
fn one_lane_is_as_fast_as_its_slowest_stage() {
    // Two threads: 1 s of inflating beside 1.25 s of hashing and writing.
    let mut scenario = scenario(vec![layer(0, GB / 10, GB)]);
    scenario.host.inflate_bytes_per_second = GB;
    scenario.host.sha256_bytes_per_second = GB;
    scenario.host.copy_bytes_per_second = 4 * GB;
    scenario.limits.wide_threads = Setting::Is(1);
    assert_close(&predict(&scenario).unwrap(), 1.25, Bound::Lane);
    scenario.limits.threads_per_lane = Setting::Is(1);
    assert_close(&predict(&scenario).unwrap(), 2.35, Bound::Lane);
}

#[test]
fn a_layer_that_is_alone_is_decoded_on_idle_cores() {
    // In order one second for each gigabyte; in pieces two, on four threads.
    let mut scenario = scenario(vec![layer(0, 10 * GB, 40 * GB)]);
    scenario.host.cores = 8;
    scenario.host.inflate_bytes_per_second = GB;
    scenario.host.inflate_pieces_percent = 50;
    scenario.host.sha256_bytes_per_second = 4 * GB;
    assert_close(&predict(&scenario).unwrap(), 20.0, Bound::Lane);
    // The hash is the floor, on however many threads the rest may be.
    scenario.host.sha256_bytes_per_second = 5 * GB / 4;
    scenario.limits.wide_threads = Setting::Is(9);
    assert_close(&predict(&scenario).unwrap(), 32.0, Bound::Lane);
    // On two cores in pieces would be slower, so it is not done.
    scenario.limits = LimitsSpec::default();
    scenario.host.sha256_bytes_per_second = 4 * GB;
    scenario.host.cores = 2;
    assert_close(&predict(&scenario).unwrap(), 42.5, Bound::Lane);
}

#[test]
fn a_slow_disk_takes_what_its_cache_does_not() {
    let mut scenario = scenario((0..5).map(|content| layer(content, GB, 2 * GB)).collect());
    scenario.host.disk_bytes_per_second = 100_000_000;
    scenario.host.disk_dirty_credit_bytes = 4 * GB;
    assert_close(&predict(&scenario).unwrap(), 60.0, Bound::Disk);
    // Stored first, the compressed bytes are written too.
    scenario.strategy = Strategy::StoreThenUnpack;
    assert_close(&predict(&scenario).unwrap(), 110.0, Bound::Disk);
}

#[test]
fn published_shapes_keep_their_order() {
    use parapull_scenario::{Decoder, ImageSpec};
    let seconds = |strategy, decoder| {
        let image = ImageSource::Spec(ImageSpec::preset("ml-like:10GiB").unwrap());
        let host = Host::named("gp3-1000").unwrap().with_decoder(decoder);
        let registry = RegistryProfile::named("s3-like").unwrap();
        predict(&Scenario::single(image, host, registry, strategy))
            .unwrap()
            .seconds
    };
    let sequential = seconds(Strategy::Sequential, Decoder::Unpigz);
    let soci = seconds(Strategy::StoreThenUnpack, Decoder::Unpigz);
    let soci_igzip = seconds(Strategy::StoreThenUnpack, Decoder::Igzip);
    let streamed = seconds(Strategy::Streamed, Decoder::ZlibRs);
    assert!(
        sequential > 1.8 * soci && soci > 1.2 * soci_igzip && soci_igzip > 1.2 * streamed,
        "{sequential} {soci} {soci_igzip} {streamed}"
    );
}

#[test]
fn zeros_do_not_notice_a_slow_registry_and_real_images_do() {
    use parapull_scenario::ImageSpec;
    let seconds = |image: &str, total| {
        let image = ImageSource::Spec(ImageSpec::preset(image).unwrap());
        let mut registry = RegistryProfile::named("loopback").unwrap();
        registry.total_bytes_per_second = NonZeroU64::new(total);
        let host = Host::named("gp3-1000").unwrap();
        predict(&Scenario::single(image, host, registry, Strategy::Streamed))
            .unwrap()
            .seconds
    };
    let slower = |image| seconds(image, 60_000_000) / seconds(image, 600_000_000);
    assert!(slower("zeros-9:6GiB") < 1.03, "{}", slower("zeros-9:6GiB"));
    assert!(slower("ml-like:6GiB") > 2.0, "{}", slower("ml-like:6GiB"));
}
