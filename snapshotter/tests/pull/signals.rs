//! Pulls that are told to stop while they are under way.

use std::num::NonZeroU64;
use std::process::Child;
use std::time::{Duration, Instant};

use parapull_scenario::RegistryProfile;
use parapull_scenario::registry::{FaultKind, FaultTarget, FaultTimes};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{Ended, Pull, names};
use super::images::TestImage;
use super::served::{Served, fault};
use super::strategies::STRATEGIES;

/// The whole image would take half a minute.
fn slow() -> RegistryProfile {
    RegistryProfile {
        total_bytes_per_second: NonZeroU64::new(400_000),
        ..RegistryProfile::default()
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end, which must come soon.
#[track_caller]
fn end(child: Child) -> Ended {
    let started = Instant::now();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}: {ended:#?}",
        started.elapsed()
    );
    ended
}

#[test]
fn a_signal_in_mid_pull_leaves_nothing() {
    let served = Served::new(TestImage::preset("ml-like:30MB"), slow(), Vec::new());
    for (strategy, how) in
        STRATEGIES
            .into_iter()
            .zip([Signal::INT, Signal::TERM, Signal::TERM, Signal::INT])
    {
        for empty in [false, true] {
            let before = served.layer_bytes_sent();
            let pull = Pull::of(&served)
                .with(&["--strategy", strategy])
                .set("concurrent_download_chunk_size=64kb");
            if empty {
                std::fs::create_dir_all(&pull.to).unwrap();
            }
            let child = pull.start();
            wait_until("bytes under way", || {
                served.layer_bytes_sent() - before > 200_000
            });
            signal(&child, how);
            let ended = end(child);
            let error = ended.failure("cancelled");
            assert_eq!(error["image"], served.reference);
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
            if empty {
                assert!(names(&pull.to).is_empty());
            } else {
                pull.assert_untouched();
            }
        }
    }
}

#[test]
fn a_signal_ends_waiting_of_every_kind() {
    let silent = FaultKind::StallAfter {
        bytes: 0,
        stall_ms: None,
    };
    let later = FaultKind::Status {
        code: 503,
        retry_after_seconds: Some(50),
    };
    let cases = [
        (FaultTarget::Manifest, silent),
        (FaultTarget::Config, silent),
        (FaultTarget::Manifest, later),
        (FaultTarget::Layer(1), silent),
        (FaultTarget::Layer(1), later),
        (
            FaultTarget::Layer(1),
            FaultKind::StallAfter {
                bytes: 3_000,
                stall_ms: None,
            },
        ),
    ];
    for (target, kind) in cases {
        let faults = vec![fault(target.clone(), FaultTimes::Always, kind)];
        let served = Served::faulty(TestImage::preset("tiny"), faults);
        let pull = Pull::of(&served);
        let child = pull.start();
        let met = || {
            served
                .journal
                .entries()
                .iter()
                .any(|entry| entry.fault == Some(kind))
        };
        wait_until("the fault", met);
        signal(&child, Signal::TERM);
        end(child).failure("cancelled");
        pull.assert_untouched();
    }
}

#[test]
fn a_time_limit_ends_a_pull_as_a_signal_does() {
    let served = Served::new(TestImage::preset("ml-like:30MB"), slow(), Vec::new());
    let pull = Pull::of(&served).with(&["--timeout", "1s"]);
    let started = Instant::now();
    let error = pull.run().failure("cancelled");
    assert!(
        started.elapsed() >= Duration::from_secs(1) && started.elapsed() < Duration::from_secs(3)
    );
    assert!(error["message"].as_str().unwrap().contains("1s"), "{error}");
    pull.assert_untouched();
}
