//! The stores that we have keep what a store promises.
#![allow(clippy::print_stdout, reason = "the seed, to see a run again")]

use std::io::Read;
use std::path::{Path, PathBuf};

use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::detect::{Detector, finalize};
use rootwatch_core::finding::Finding;
use rootwatch_core::rules::Ruleset;
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{CaughtUp, Decisions as _};
use rootwatch_testkit::conformance::{self, holds_what_correlation_holds};
use rootwatch_testkit::random::Random;
use rootwatch_testkit::sample;

/// A fresh store, and what it lies in.
fn sqlite() -> (SqliteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(&SqliteOptions::at(folder.path().join("store.db")));
    (store.expect("a store"), folder)
}

/// One test for each promise.
macro_rules! promises {
    ($make:ident: $($promise:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let (store, _folder) = $make();
                conformance::$promise(&store).await;
                assert_eq!(store.check().expect("a look"), Vec::<String>::new());
            }
        )*
    };
}

promises!(sqlite:
    a_commit_is_all_or_nothing,
    another_revision_is_a_conflict,
    existing_data_is_not_overwritten,
    the_notified_state_stays,
    two_writers_lose_nothing_and_double_nothing,
    saved_findings_are_known,
    corrected_findings_are_not_lost,
    reclassified_findings_may_be_corrected,
    history_is_returned,
    incidents_are_found_by_their_time,
    a_delivery_is_enqueued_once,
    a_thread_is_delivered_in_order,
    a_long_thread_delays_no_other,
    a_lease_runs_out,
    busy_destinations_are_left_out,
    a_delivery_ends_once,
    the_next_due_time_is_exact,
    each_is_leased_to_one,
    deliveries_are_counted,
    pages_stay_where_they_are,
    a_forged_cursor_is_refused,
    incidents_are_filtered,
    findings_are_filtered,
    deliveries_are_filtered,
    unverified_records_are_listed_apart,
    notes_and_positions_stay,
    operators_resolve_incidents,
    a_digest_lists_once,
    only_ended_items_are_pruned,
);

#[tokio::test]
async fn a_file_is_one_deciders_own() {
    let (store, _folder) = sqlite();
    for since in [None, Some(0), Some(7)] {
        assert_eq!(store.catch_up(since).await.expect("an answer"), CaughtUp::Alone);
    }
}

/// The seed of this run, or the one that the environment gives to see a run again.
fn seed() -> u64 {
    let given = std::env::var("ROOTWATCH_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_nanos() as u64
    })
}

async fn follow(rounds: u64, findings: impl Fn(&mut Random) -> Vec<Finding>) {
    let first = seed();
    println!("ROOTWATCH_SEED={first}");
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        let (store, _folder) = sqlite();
        let findings = findings(&mut Random::of(seed));
        holds_what_correlation_holds(&store, &findings, seed).await;
        assert_eq!(store.check().expect("a look"), Vec::<String>::new(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_sets_at_random_are_held_as_correlation_holds_them() {
    follow(25, |random| {
        let number = 1 + random.below(25);
        sample::findings(random, number)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowds_at_random_are_held_as_correlation_holds_them() {
    follow(6, |random| sample::findings(random, 250)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_is_held_as_correlation_holds_it() {
    let story = story();
    assert!(story.len() > 60, "{}", story.len());
    follow(5, |_| story.clone()).await;
}

/// What is found in the fixture.
fn story() -> Vec<Finding> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/story/AWSLogs");
    let mut files = Vec::new();
    list(&root, &mut files);
    files.sort();
    let rules = Ruleset::built_in();
    let mut detector = Detector::new(&rules);
    let mut detected = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).expect("a log file");
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).expect("gzip");
        decode_log(&text, &Limits::default(), &mut |_, item| {
            if let Item::Event(event) = item {
                detected.extend(detector.detect(&event));
            }
        });
    }
    finalize(detected, &rules).0
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}
