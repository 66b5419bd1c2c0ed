//! One connection crawls: without hedges the pull waits for it, with them it does not.

use std::time::{Duration, Instant};

use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};

use super::command::Pull;
use super::images::TestImage;
use super::served::{Served, fault};
use super::tree::Tree;

/// 256 KiB at 30 kB/s: longer than everything else together, and no stall.
const CRAWL: Duration = Duration::from_millis(8_500);

/// Pulls an image of which the twentieth answer crawls; how long it took, what came twice, and the trees.
fn pull(hedged: bool) -> (Duration, Option<u64>, Vec<Tree>) {
    let crawl = FaultKind::Trickle {
        bytes_per_second: 30_000,
    };
    let faults = vec![fault(FaultTarget::AnyLayer, FaultTimes::Nth(20), crawl)];
    let served = Served::faulty(TestImage::preset("ml-like:30MB"), faults);
    let pull = Pull::of(&served);
    let pull = if hedged { pull.hedged() } else { pull };
    let trace = pull.beside("trace.jsonl");
    let pull = pull
        .with(&["--trace", trace.to_str().unwrap()])
        .set("concurrent_download_chunk_size=256kb")
        .set("max_concurrent_downloads_per_image=8");
    let started = Instant::now();
    let figures = pull.run().figures();
    let took = started.elapsed();
    assert_eq!(figures["bytes_fetched"], served.image.compressed_bytes());
    assert_eq!(figures["bytes_retried"], 0);
    let file = std::io::BufReader::new(std::fs::File::open(&trace).unwrap());
    let replayed = parapull_scenario::replay(file).unwrap();
    assert!(replayed.is_idle, "{replayed:?}");
    let trees = pull.trees(&served.image);
    (took, figures["bytes_hedged"].as_u64(), trees)
}

#[test]
fn a_connection_that_crawls_holds_up_no_pull() {
    let (without, none, expected) = pull(false);
    assert!(without >= CRAWL && none.is_none(), "{without:?} {none:?}");
    let (with, twice, trees) = pull(true);
    println!("{without:?}, hedged {with:?}, {twice:?} bytes twice");
    assert!(twice.is_some_and(|bytes| bytes < 2 << 20), "{twice:?}");
    assert!(
        with + Duration::from_secs(2) < without,
        "{with:?} of {without:?}"
    );
    assert_eq!(trees, expected);
}
