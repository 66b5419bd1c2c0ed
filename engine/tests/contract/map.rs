//! Which test holds the engine to which decision. This is where to look a decision up; the last test keeps it true.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

/// Decisions, each with the tests that hold the engine to it, as `file::test`.
const MAP: &[(&str, &[&str])] = &[
    (
        "invariant 1: permits",
        &["invariants::invariant_1_no_more_runs_than_the_limits_allow"],
    ),
    (
        "invariant 2: ranges",
        &["invariants::invariant_2_every_byte_is_asked_for_once"],
    ),
    (
        "invariant 3: progress",
        &["invariants::invariant_3_a_report_that_comes_late_takes_nothing_back"],
    ),
    (
        "invariant 4: ready once",
        &["invariants::invariant_4_a_layer_is_ready_once_and_only_when_its_link_was_made"],
    ),
    (
        "invariant 5: ops",
        &[
            "invariants::invariant_5_an_op_is_asked_for_in_one_action_and_its_id_never_comes_again",
            "invariants::invariant_5_an_op_that_never_was_is_a_programmers_error",
            "limits::facts_about_closed_ops_are_ignored_and_counted",
        ],
    ),
    (
        "invariant 6: window",
        &["window::outstanding_credit_and_unreleased_bytes_never_exceed_the_window"],
    ),
    (
        "invariant 7: terminal",
        &[
            "invariants::invariant_7_what_is_over_is_forgotten",
            "ending::a_cancelled_pull_frees_everything",
        ],
    ),
    (
        "invariant 8: someone owes us",
        &[
            "invariants::invariants_8_and_9_unfinished_work_is_owed_an_event_and_no_wake_has_passed",
            "standstill::a_whole_read_that_waits_for_the_window_gives_back_the_connection_its_bytes_need",
            "standstill::of_two_places_that_each_need_a_tree_of_their_own_the_first_goes_first",
        ],
    ),
    (
        "invariant 9: no busy wake",
        &[
            "invariants::invariants_8_and_9_unfinished_work_is_owed_an_event_and_no_wake_has_passed",
            "hosts::what_is_known_of_hosts_wakes_nobody_when_there_is_no_work",
        ],
    ),
    (
        "invariant 10: work conservation",
        &[
            "invariants::invariant_10_with_a_permit_free_every_blob_that_has_chunks_says_what_holds_it",
            "standstill::smaller_pieces_are_looked_at_as_soon_as_they_are_allowed",
            "standstill::a_whole_read_to_be_repeated_is_asked_for_as_soon_as_its_lane_starts",
        ],
    ),
    (
        "invariant 11: fairness",
        &[
            "sharing::images_share_bytes_by_weight",
            "sharing::lanes_go_to_the_image_that_had_less_of_them",
        ],
    ),
    (
        "invariant 12: retries",
        &[
            "retrying::backoffs_differ_from_range_to_range_and_stay_within_their_bounds",
            "fetching::attempts_end_and_the_pull_fails_with_the_cause",
            "fetching::retry_after_is_obeyed",
        ],
    ),
    (
        "invariant 13: time and trace",
        &[
            "invariants::invariant_13_time_that_runs_backwards_is_a_programmers_error",
            "limits::equal_inputs_give_equal_traces",
        ],
    ),
    (
        "invariant 14: bytes",
        &["invariants::invariant_14_what_was_fetched_is_the_size_and_what_was_fetched_again"],
    ),
    (
        "the law: drain before the next input",
        &["limits::an_input_before_the_drain_is_a_programmers_error"],
    ),
    (
        "chunks",
        &["order::a_blob_is_asked_for_in_equal_chunks_of_at_most_the_limit"],
    ),
    (
        "order",
        &[
            "order::running_lanes_are_fed_before_layers_without_one",
            "order::of_layers_without_a_lane_the_one_somebody_waits_for_comes_first_and_then_the_longest",
            "order::what_failed_is_asked_for_again_before_anything_new",
        ],
    ),
    (
        "strategies",
        &[
            "order::each_strategy_fetches_and_unpacks_in_its_own_order",
            "limits::a_pull_ends_ready_under_every_strategy_and_leaves_nothing",
        ],
    ),
    (
        "limits as budgets",
        &[
            "invariants::invariant_1_no_more_runs_than_the_limits_allow",
            "limits::spare_threads_go_to_a_lane_and_come_back_for_another_layer",
        ],
    ),
    (
        "spool",
        &["limits::a_blob_larger_than_the_spool_fails_its_pull_at_once"],
    ),
    (
        "window: (a) credit and unreleased bytes",
        &["window::outstanding_credit_and_unreleased_bytes_never_exceed_the_window"],
    ),
    (
        "window: (b) a contiguous prefix",
        &["window::the_bytes_issued_for_a_blob_are_a_contiguous_prefix"],
    ),
    (
        "window: (c) a piece for every lane",
        &[
            "window::layers_without_a_lane_leave_a_piece_for_every_lane_there_may_be",
            "limits::the_smallest_window_is_enough",
        ],
    ),
    (
        "window: a layer's share",
        &["window::a_layer_holds_its_own_share_of_the_window_and_no_more"],
    ),
    (
        "window: blobs read as streams",
        &[
            "window::a_whole_read_is_granted_credit_as_its_lane_lets_go_of_bytes",
            "window::a_whole_read_without_a_lane_is_credited_completely_or_not_opened",
            "progress::a_fetch_without_credit_does_not_stall",
        ],
    ),
    (
        "window: refused ranges",
        &["window::a_refused_range_gives_its_credit_back_and_is_granted_new_credit_for_the_stream"],
    ),
    (
        "window: retries",
        &["window::a_chunk_keeps_its_credit_across_retries"],
    ),
    (
        "window: cancelled pulls",
        &[
            "window::the_bytes_of_a_cancelled_pull_come_back_to_the_window",
            "sharing::shared_work_goes_on_for_the_other_image_even_past_its_limit",
        ],
    ),
    (
        "window: wrong digests after consumption",
        &["window::wrong_bytes_give_back_all_they_were_charged_for_though_a_lane_had_read_them"],
    ),
    (
        "window: lowered and raised in mid-pull",
        &[
            "changing::a_lowered_window_takes_force_as_soon_as_what_is_held_fits_it_and_not_before",
            "changing::until_a_lowered_window_takes_force_only_running_lanes_get_more",
            "changing::a_raised_window_takes_force_at_once",
            "changing::lowered_again_before_it_took_force_the_last_word_counts",
            "changing::a_window_lowered_while_chunks_wait_out_their_backoff_lets_them_be_fetched",
        ],
    ),
    (
        "window: too small is refused at start",
        &["window::a_window_that_cannot_hold_a_piece_for_every_lane_is_refused_at_start"],
    ),
    (
        "limits lowered in mid-pull cancel nothing",
        &[
            "changing::fewer_fetches_and_lanes_are_waited_for_and_nothing_is_cancelled",
            "ending::lowered_limits_wait_for_what_is_held_and_never_cancel",
        ],
    ),
    (
        "fairness by deficit round-robin",
        &[
            "fairness::a_small_image_is_not_starved_by_a_large_one",
            "sharing::images_share_bytes_by_weight",
        ],
    ),
    (
        "deduplication of blobs",
        &["linking::two_images_share_one_fetch_and_one_unpack"],
    ),
    (
        "deduplication of diffIDs",
        &["sharing::two_blobs_of_one_tree_are_fetched_and_unpacked_once"],
    ),
    (
        "charges move to a live image",
        &["sharing::shared_work_goes_on_for_the_other_image_even_past_its_limit"],
    ),
    (
        "retries: classes",
        &["retrying::an_error_is_repeated_read_whole_or_final_as_its_class_says"],
    ),
    (
        "retries: jitter",
        &["retrying::backoffs_differ_from_range_to_range_and_stay_within_their_bounds"],
    ),
    (
        "retries: Retry-After",
        &[
            "fetching::retry_after_is_obeyed",
            "retrying::a_wait_longer_than_a_person_would_is_an_error",
            "hosts::a_host_that_asks_to_wait_is_asked_for_nothing_until_then",
        ],
    ),
    (
        "retries: resume",
        &["fetching::a_failed_range_is_asked_for_again_from_the_byte_reached"],
    ),
    (
        "retries: bounds",
        &[
            "fetching::attempts_end_and_the_pull_fails_with_the_cause",
            "progress::a_pull_repeats_only_so_many_requests_in_all",
        ],
    ),
    (
        "retries: stalls",
        &[
            "fetching::a_fetch_without_progress_is_asked_for_again",
            "progress::a_pull_without_any_progress_for_two_minutes_fails",
        ],
    ),
    (
        "retries: trickles",
        &["retrying::a_trickle_below_the_least_rate_is_asked_for_again_from_the_byte_reached"],
    ),
    (
        "mirrors",
        &[
            "retrying::the_next_mirror_goes_on_from_the_byte_reached_and_the_first_is_not_asked_again",
            "retrying::every_mirror_has_failed_before_the_pull_fails",
            "hosts::while_one_host_asks_to_wait_the_next_one_is_asked",
        ],
    ),
    (
        "cool-down",
        &["hosts::a_host_that_keeps_failing_is_avoided_for_a_while_and_then_probed_once"],
    ),
    (
        "range fallback",
        &[
            "fetching::refused_ranges_become_one_stream",
            "hosts::a_host_that_refused_the_ranges_of_two_blobs_is_asked_for_whole_ones_for_a_while",
        ],
    ),
    (
        "cancellation: the last one who waits",
        &["ending::one_cancelled_image_does_not_stop_what_another_wants"],
    ),
    (
        "cancellation: grace",
        &[
            "ending::an_image_nobody_waits_for_ends_after_the_grace_period",
            "ending::a_caller_that_joins_within_the_grace_period_keeps_the_pull_alive",
        ],
    ),
    (
        "cancellation: what is verified is kept",
        &["sharing::what_a_cancelled_pull_has_verified_serves_the_next_one"],
    ),
    (
        "shutdown",
        &[
            "shutdown::a_lane_that_has_all_of_its_bytes_may_finish_and_its_tree_stays",
            "shutdown::a_lane_that_takes_too_long_is_cancelled_after_the_grace",
            "shutdown::staged_layers_stay_for_the_next_start",
            "ending::shutdown_ends_every_pull_and_refuses_new_ones",
        ],
    ),
    (
        "resume through what is here",
        &[
            "sharing::what_is_here_is_not_fetched_again",
            "local::chunks_that_are_here_are_read_and_the_others_fetched",
        ],
    ),
    (
        "threads that cores leave idle",
        &[
            "widening::a_lane_that_its_own_work_holds_up_gets_the_idle_cores",
            "widening::a_lane_that_waits_for_bytes_or_for_the_disk_gets_none",
            "widening::the_awaited_layer_is_widened_before_a_longer_one",
            "widening::a_wide_lane_gives_way_when_another_one_starts",
            "widening::no_other_strategy_and_no_other_limits_widen_a_lane",
        ],
    ),
    (
        "links: from below, chain by chain",
        &[
            "linking::a_link_waits_for_its_parent",
            "sharing::each_chain_is_linked_from_below_whatever_another_image_waits_for",
        ],
    ),
    (
        "links: only what somebody waits for",
        &["linking::nothing_is_linked_that_nobody_waits_for"],
    ),
    (
        "hold reasons",
        &[
            "holds::whatever_waits_says_for_what",
            "holds::every_reason_has_a_moment",
        ],
    ),
];

/// Every test of this folder, as `file::test`.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract");
    let mut tests = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the folder of this test") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a source");
        let file = path.file_stem().and_then(|stem| stem.to_str());
        let mut is_test = false;
        for line in text.lines() {
            let name = line
                .strip_prefix("fn ")
                .and_then(|rest| rest.split('(').next());
            if let (true, Some(name), Some(file)) = (is_test, name, file) {
                tests.insert(format!("{file}::{name}"));
            }
            is_test = line == "#[test]" || is_test && line.starts_with('#');
        }
    }
    tests
}

#[test]
fn every_decision_has_its_tests() {
    let tests = tests();
    let named = MAP
        .iter()
        .flat_map(|(decision, tests)| tests.iter().map(move |test| (decision, test)));
    let gone: Vec<_> = named.filter(|(_, test)| !tests.contains(**test)).collect();
    assert!(
        gone.is_empty(),
        "named in the map, and not there: {gone:#?}"
    );
    let untested: Vec<_> = MAP.iter().filter(|(_, tests)| tests.is_empty()).collect();
    assert!(untested.is_empty(), "without a test: {untested:#?}");
    for number in 1..=14 {
        let heading = format!("invariant {number}: ");
        let times = MAP
            .iter()
            .filter(|(decision, _)| decision.starts_with(&heading));
        assert_eq!(times.count(), 1, "invariant {number}");
    }
}
