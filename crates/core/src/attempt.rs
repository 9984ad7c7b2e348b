//! The outcome of one attempt to send a delivery: what a worker reports and a store records.

use jiff::Timestamp;

use crate::delivery::Delivery;

/// The outcome of one attempt to send a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// The channel accepted the message.
    Delivered {
        /// The channel's answer.
        receipt: String,
    },
    /// Retry later.
    Again {
        /// Not before this time.
        at: Timestamp,
        /// What went wrong, without secrets.
        error: String,
        /// True if nothing was sent (rate limit, open circuit breaker, shutdown): the attempt does
        /// not count.
        not_begun: bool,
    },
    /// Failed permanently.
    Failed {
        /// What went wrong, without secrets.
        error: String,
        /// Enqueued instead, in the same transaction: deliveries to the destination's `escalate_to`
        /// and the alert about the outage. One that exists already stays unchanged.
        instead: Vec<Delivery>,
    },
}
