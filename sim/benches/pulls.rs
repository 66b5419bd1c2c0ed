//! How many pulls a second the simulator does, against layers and chunk size: `cargo bench -p parapull-sim`.
//!
//! An image of 10 GiB in equal layers on the host and registry of the examples, every invariant checked after every input.
//! With `count` as an argument it only runs one pull of so many layers and so many MiB per chunk and tells its inputs, for a
//! profiler to count instructions.

#![expect(clippy::unwrap_used, reason = "a broken bench should stop")]

use criterion::{BenchmarkId, Criterion, Throughput};
use parapull_engine::Strategy;
use parapull_scenario::{
    ByteSize, Encoding, Host, ImageSource, PlannedLayer, RegistryProfile, Scenario,
};
use parapull_sim::Run;

fn scenario(layers: u32, chunk_mib: u64) -> Scenario {
    let layer = |content| PlannedLayer {
        content,
        compressed_bytes: IMAGE_BYTES / u64::from(layers),
        uncompressed_bytes: 2 * IMAGE_BYTES / u64::from(layers),
        entries: 0,
        encoding: Encoding::Gzip,
        sources: 1,
    };
    let mut scenario = Scenario::single(
        ImageSource::Layers((0..layers).map(layer).collect()),
        Host::named("gp3-1000").unwrap(),
        RegistryProfile::named("s3-like").unwrap(),
        Strategy::Streamed,
    );
    scenario.limits.chunk = ByteSize(chunk_mib << 20).into();
    scenario
}

fn pulls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pulls");
    for layers in [1, 12, 33, 125] {
        for chunk_mib in [1, 8, 32] {
            let scenario = scenario(layers, chunk_mib);
            let inputs = Run::of(&scenario).unwrap().inputs();
            group.throughput(Throughput::Elements(inputs));
            let id = BenchmarkId::new(format!("layers-{layers}"), format!("{chunk_mib}-MiB"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| Run::of(&scenario).unwrap());
            });
        }
    }
    group.finish();
}

fn count(layers: u32, chunk_mib: u64) {
    let run = Run::of(&scenario(layers, chunk_mib)).unwrap();
    println!("{} inputs, {} pull ready", run.inputs(), run.ready());
}

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "count");
    if arguments.next().is_some() {
        let mut number = |usual| arguments.next().map_or(usual, |text| text.parse().unwrap());
        let (layers, chunk_mib) = (number(33), number(8));
        count(u32::try_from(layers).unwrap(), chunk_mib);
        return;
    }
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    pulls(&mut criterion);
    criterion.final_summary();
}

const IMAGE_BYTES: u64 = 10 << 30;
