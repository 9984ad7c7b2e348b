//! Counts refused requests.

use metrics::counter;

/// A request was refused.
pub(crate) fn refused(endpoint: &'static str, reason: &'static str) {
    // `door` is the label's former name, kept for one release.
    counter!("rootwatch_requests_refused_total", "endpoint" => endpoint, "reason" => reason, "door" => endpoint)
        .increment(1);
}
