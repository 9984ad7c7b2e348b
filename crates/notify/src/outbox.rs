//! Where deliveries wait: what [`crate::Worker`] needs of whoever keeps them.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::delivery::{Delivery, DeliveryId};

/// Why an outbox could not do what it was asked; in words, for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the outbox cannot be used now: {reason}")]
pub struct OutboxError {
    /// What it said.
    pub reason: String,
}

impl OutboxError {
    /// An outbox that says this.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// What an attempt came to, as the outbox has to keep it.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// The channel took it.
    Delivered {
        /// What it answered.
        receipt: String,
    },
    /// To be tried again.
    Again {
        /// Not before.
        at: Timestamp,
        /// What went wrong, without secrets.
        error: String,
        /// True when nothing was sent (the rate limit, an open breaker, shutting down): the attempt
        /// does not count.
        not_begun: bool,
    },
    /// Given up, and what is owed instead: a stand-in, and the alert that telling is broken.
    Failed {
        /// What went wrong, without secrets.
        error: String,
        /// Owed from now on, in the same transaction. One that is there already stays as it is.
        instead: Vec<Delivery>,
    },
}

/// Keeps the deliveries that are owed. All operations are safe to repeat.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync {
    /// Takes up to `max` deliveries that are due by `now` (or whose lease ran out), the oldest
    /// first, and leases them until `until`. Of one thread and destination only the oldest that has
    /// not ended. Nothing for the destinations named in `busy`.
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, OutboxError>;

    /// Notes what an attempt came to and ends the lease, durably. True when that may have made another
    /// one ready to be leased.
    async fn attempted(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, OutboxError>;

    /// When the next delivery that has not ended is due (or its lease runs out), destinations that
    /// are busy included.
    async fn next_due(&self) -> Result<Option<Timestamp>, OutboxError>;

    /// The value of a note.
    async fn note(&self, name: &str) -> Result<Option<String>, OutboxError>;

    /// Those of these notes that are there, by name.
    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, OutboxError>;

    /// Keeps a small value that survives restarts; `None` clears it.
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), OutboxError>;

    /// Deliveries that are owed from now on, durably. One that is there already stays as it is.
    async fn raise(&self, deliveries: Vec<Delivery>) -> Result<(), OutboxError>;
}
