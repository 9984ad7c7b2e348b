//! The recorder of metrics, in Prometheus text format.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper ends of the buckets of `rootwatch_latency_seconds`, in seconds: from a record that comes
/// at once to one that CloudTrail delivers a day late.
const LATENCY_BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0,
    86_400.0,
];
/// Upper ends of the buckets of `rootwatch_commit_seconds`, in seconds.
const COMMIT_BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
/// Upper ends of the buckets of `rootwatch_commit_findings`.
const FINDINGS_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 4_096.0];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Renders what was counted.
fn render() -> String {
    let Some(Some(handle)) = HANDLE.get() else { return String::new() };
    handle.run_upkeep();
    handle.render()
}

/// Starts counting and returns the function that renders the result. A process counts once, however many
/// hubs it runs. Measuring the processor's clock takes some milliseconds.
pub(crate) fn install() -> Option<fn() -> String> {
    let handle = HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let full = |name: &str| Matcher::Full(name.to_owned());
        let handle = builder
            .set_buckets_for_metric(full("rootwatch_latency_seconds"), &LATENCY_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(full("rootwatch_commit_seconds"), &COMMIT_BUCKETS)
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(full("rootwatch_commit_findings"), &FINDINGS_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder);
        match handle {
            Ok(handle) => {
                describe();
                Some(handle)
            }
            Err(error) => {
                tracing::error!(%error, "metrics disabled: cannot install the recorder");
                None
            }
        }
    });
    handle.is_some().then_some(render)
}

fn describe() {
    describe_counter!("rootwatch_records_received_total", "Records that came, by source");
    describe_counter!("rootwatch_records_saved_total", "Findings that were saved, by source");
    describe_counter!("rootwatch_records_known_total", "Findings that were there already");
    describe_counter!("rootwatch_records_skipped_total", "Records that could not be decoded");
    describe_counter!(
        "rootwatch_rules_undecided_total",
        "Records with too many list elements to decide every rule on them, by source"
    );
    describe_counter!("rootwatch_records_unverified_total", "Records that were not trusted");
    describe_gauge!("rootwatch_incidents_open", "Incidents that are open, by severity");
    describe_gauge!("rootwatch_deliveries", "Deliveries, by destination and state");
    describe_gauge!(
        "rootwatch_deliveries_oldest_due_age_seconds",
        "Age of the oldest delivery that has not ended"
    );
    describe_histogram!("rootwatch_latency_seconds", "Time between two steps in a record's life");
    describe_counter!(
        "rootwatch_requests_refused_total",
        "Refused requests by endpoint and reason"
    );
    describe_histogram!("rootwatch_commit_seconds", "Time that a transaction took");
    describe_histogram!("rootwatch_commit_findings", "Findings of a transaction");
    describe_counter!("rootwatch_store_failures_total", "Transactions that failed");
}
