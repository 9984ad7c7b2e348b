//! Counts refused requests.

use metrics::counter;

/// A request was refused.
pub(crate) fn refused(door: &'static str, reason: &'static str) {
    counter!("rootwatch_requests_refused_total", "door" => door, "reason" => reason).increment(1);
}
