//! Counts refused requests.

use metrics::counter;

/// A request was refused.
pub(crate) fn refused(endpoint: &'static str, reason: &'static str) {
    counter!("rootwatch_requests_refused_total", "endpoint" => endpoint, "reason" => reason)
        .increment(1);
}
