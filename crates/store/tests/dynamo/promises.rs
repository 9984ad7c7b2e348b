//! What any store has to pass.

use rootwatch_testkit::conformance::{self, holds_what_correlation_holds};
use rootwatch_testkit::random::Random;
use rootwatch_testkit::sample;

use super::{fresh, sound};

/// One test for each promise.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let store = fresh().await;
                conformance::$promise(&store).await;
                sound(&store).await;
            }
        )*
    };
}

promises!(
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
    a_shared_store_says_what_moved,
    a_decision_on_an_earlier_generation_is_refused,
);

/// The seed of this run, or the one that the environment gives to see a run again.
fn seed() -> u64 {
    let given = std::env::var("ROOTWATCH_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("after 1970").as_nanos() as u64
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_at_random_are_held_as_correlation_holds_them() {
    let first = seed();
    println!("ROOTWATCH_SEED={first}");
    for (round, number) in [(0, 8), (1, 25), (2, 60)] {
        let seed = first.wrapping_add(round);
        let store = fresh().await;
        let findings = sample::findings(&mut Random::of(seed), number);
        holds_what_correlation_holds(&store, &findings, seed).await;
        sound(&store).await;
    }
}
