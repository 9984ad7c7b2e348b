//! The recorder of metrics, in Prometheus text format.

use std::fmt::Write as _;
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

/// What a metric counts up, or measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts values by size.
    Histogram,
}

impl MetricKind {
    /// Its name in Prometheus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric, as Prometheus and the reference describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
}

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric { name, kind, labels, meaning }
}

/// Everything that `/metrics` serves. The crates that count name metrics as they are named here; a
/// test compares them with what a running hub serves.
pub const METRICS: &[Metric] = &[
    metric(
        "rootwatch_records_received_total",
        MetricKind::Counter,
        &["source"],
        "records received",
    ),
    metric("rootwatch_records_saved_total", MetricKind::Counter, &["source"], "findings saved"),
    metric(
        "rootwatch_records_known_total",
        MetricKind::Counter,
        &["source"],
        "findings that had been saved before",
    ),
    metric(
        "rootwatch_records_skipped_total",
        MetricKind::Counter,
        &["source", "reason"],
        "records that could not be decoded",
    ),
    metric(
        "rootwatch_rules_undecided_total",
        MetricKind::Counter,
        &["source"],
        "records with too many list elements to decide every rule on them",
    ),
    metric(
        "rootwatch_records_unverified_total",
        MetricKind::Counter,
        &["source"],
        "records of accounts that are not listed, or that contradict their event",
    ),
    metric("rootwatch_incidents_open", MetricKind::Gauge, &["severity"], "open incidents"),
    metric("rootwatch_deliveries", MetricKind::Gauge, &["destination", "state"], "deliveries"),
    metric(
        "rootwatch_deliveries_oldest_due_age_seconds",
        MetricKind::Gauge,
        &[],
        "age of the oldest delivery that has not ended",
    ),
    metric(
        "rootwatch_latency_seconds",
        MetricKind::Histogram,
        &["step"],
        "time between two steps of a record: `event_to_received`, `received_to_saved`, \
         `saved_to_delivered`, `received_to_delivered`",
    ),
    metric(
        "rootwatch_requests_refused_total",
        MetricKind::Counter,
        &["endpoint", "reason", "door"],
        "refused requests; `door` is the former name of `endpoint` and will be removed",
    ),
    metric("rootwatch_commit_seconds", MetricKind::Histogram, &[], "duration of a transaction"),
    metric("rootwatch_commit_findings", MetricKind::Histogram, &[], "findings in a transaction"),
    metric("rootwatch_store_failures_total", MetricKind::Counter, &[], "failed transactions"),
];

fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.meaning),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.meaning),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.meaning),
        }
    }
}

/// `docs/reference/metrics.md`.
#[must_use]
pub fn metrics_reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Generated from the program (`cargo xtask docs`); do not edit.\n\n\
         `GET /metrics` of the hub, in Prometheus text format. \
         [Which ones to page on](../how-to/operate.md#which-metrics-to-page-on). The Lambda function \
         writes its numbers to CloudWatch instead, as log lines in the embedded metric format.\n\n\
         | Metric | Type | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, labels, meaning } in METRICS {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{name}` | {} | {labels} | {meaning} |", kind.name());
    }
    text
}
