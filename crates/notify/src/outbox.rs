//! The outbox: the storage of pending deliveries that [`crate::Worker`] needs.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
pub use rootwatch_core::attempt::Attempt;
use rootwatch_core::delivery::{Delivery, DeliveryId};

/// Why an operation of an outbox failed, as text for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("outbox unavailable: {reason}")]
pub struct OutboxError {
    /// The cause.
    pub reason: String,
}

impl OutboxError {
    /// An error with this cause.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// Stores pending deliveries. All operations are idempotent.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync {
    /// Leases up to `max` deliveries until `until`, the oldest first: those that are due by `now` or
    /// whose lease ran out. Of each thread and destination, only the oldest unfinished one; none of the
    /// destinations in `busy`.
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, OutboxError>;

    /// Saves the outcome of an attempt and ends the lease, durably. True if another delivery may have
    /// become ready to be leased.
    async fn attempted(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, OutboxError>;

    /// When the next unfinished delivery is due or its lease runs out, including those of busy
    /// destinations.
    async fn next_due(&self) -> Result<Option<Timestamp>, OutboxError>;

    /// The value of a note.
    async fn note(&self, name: &str) -> Result<Option<String>, OutboxError>;

    /// The values of the notes that exist, by name.
    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, OutboxError>;

    /// Stores a small value that survives restarts; `None` deletes it.
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), OutboxError>;

    /// Enqueues deliveries, durably. A delivery that exists already stays as it is.
    async fn raise(&self, deliveries: Vec<Delivery>) -> Result<(), OutboxError>;
}
