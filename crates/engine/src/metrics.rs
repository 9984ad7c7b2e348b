//! The metrics of the engine. The hub's recorder describes them.

use std::time::Duration;

use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use rootwatch_core::delivery::DeliveryState;
use rootwatch_core::finding::Severity;
use rootwatch_store::Stats;

use crate::intake::CheckedRecord;
use crate::outcome::{IntakeOutcome, RecordSource};

/// Records were received.
pub(crate) fn received(source: &RecordSource, checked: &[CheckedRecord], received_at: Timestamp) {
    let source = source.kind().to_owned();
    counter!("rootwatch_records_received_total", "source" => source.clone())
        .increment(checked.len() as u64);
    for checked in checked {
        if let CheckedRecord::Done(IntakeOutcome::Skipped { .. }) = checked {
            counter!("rootwatch_records_skipped_total", "source" => source.clone(), "reason" => "undecodable")
                .increment(1);
        }
        let finding = match checked {
            CheckedRecord::Detected(detected) => Some(&detected.finding),
            CheckedRecord::Doubtful { finding, .. } => Some(&**finding),
            CheckedRecord::Done(_) => None,
        };
        if finding.is_some_and(|finding| finding.rules_undecided().is_some()) {
            counter!("rootwatch_rules_undecided_total", "source" => source.clone()).increment(1);
        }
        if let CheckedRecord::Detected(detected) = checked
            && let Some(at) = detected.finding.event_time
        {
            let late = secs(at, received_at);
            histogram!("rootwatch_latency_seconds", "step" => "event_to_received").record(late);
        }
    }
}

/// A request is on disk.
pub(crate) fn saved(
    source: &RecordSource,
    outcomes: &[IntakeOutcome],
    received_at: Timestamp,
    now: Timestamp,
) {
    let source = source.kind().to_owned();
    let count =
        |is: fn(&IntakeOutcome) -> bool| outcomes.iter().filter(|one| is(one)).count() as u64;
    let saved = count(|one| matches!(one, IntakeOutcome::Saved { .. }));
    let known = count(|one| matches!(one, IntakeOutcome::Known));
    let unverified = count(|one| matches!(one, IntakeOutcome::Unverified { .. }));
    counter!("rootwatch_records_saved_total", "source" => source.clone()).increment(saved);
    counter!("rootwatch_records_known_total", "source" => source.clone()).increment(known);
    counter!("rootwatch_records_unverified_total", "source" => source).increment(unverified);
    histogram!("rootwatch_latency_seconds", "step" => "received_to_saved")
        .record(secs(received_at, now));
}

/// A transaction is on disk.
pub(crate) fn committed(took: Duration, findings: usize) {
    histogram!("rootwatch_commit_seconds").record(took.as_secs_f64());
    histogram!("rootwatch_commit_findings").record(findings as f64);
}

/// A transaction failed.
pub(crate) fn store_failed() {
    counter!("rootwatch_store_failures_total").increment(1);
}

/// A delivery that was enqueued at `enqueued_at`, because of a record of `received_at`, was sent.
pub(crate) fn delivered(received_at: Option<Timestamp>, enqueued_at: Timestamp, now: Timestamp) {
    let record = |step: &'static str, since| {
        histogram!("rootwatch_latency_seconds", "step" => step).record(secs(since, now));
    };
    record("saved_to_delivered", enqueued_at);
    if let Some(received_at) = received_at {
        record("received_to_delivered", received_at);
    }
}

/// Seconds between two moments; 0 if the clock was set back.
fn secs(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// Sets the gauges of open incidents and deliveries, as the store counts them.
pub fn stats(stats: &Stats, now: Timestamp) {
    for severity in Severity::ALL {
        let count = stats.open_incidents.get(&severity).copied().unwrap_or_default();
        gauge!("rootwatch_incidents_open", "severity" => severity.name()).set(count as f64);
    }
    let destinations: std::collections::BTreeSet<&String> =
        stats.deliveries.keys().map(|(destination, _)| destination).collect();
    for destination in destinations {
        for state in DeliveryState::ALL {
            let key = (destination.clone(), state);
            let count = stats.deliveries.get(&key).copied().unwrap_or_default();
            gauge!("rootwatch_deliveries", "destination" => destination.clone(), "state" => state.name())
                .set(count as f64);
        }
    }
    let age = stats.oldest_due.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
    gauge!("rootwatch_deliveries_oldest_due_age_seconds").set(age);
}
