//! Pending deliveries, and small values that survive restarts.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::attempt::Attempt;
use rootwatch_core::delivery::{Delivery, DeliveryId};

use crate::StoreError;

/// Named small values: a circuit breaker's state, the time of the last digest, an SNS message id.
#[async_trait]
pub trait Notes: fmt::Debug + Send + Sync {
    /// Saves a value; `None` deletes it.
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), StoreError>;

    /// The value of a note.
    async fn note(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// The values of those of these notes that exist, by name.
    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, StoreError> {
        let mut notes = BTreeMap::new();
        for name in names {
            if let Some(note) = self.note(name).await? {
                notes.insert(name.clone(), note);
            }
        }
        Ok(notes)
    }
}

/// Leases pending deliveries and records what became of them. All operations are safe to repeat.
#[async_trait]
pub trait Outbox: Notes {
    /// Takes up to `max` deliveries that are due (or whose lease expired), the oldest first, and
    /// leases them until `until`. For each destination and thread
    /// ([`rootwatch_core::alert::Alert::thread`]) only the oldest pending delivery is ever leased,
    /// so that no destination receives the end of an incident before its beginning. Destinations in
    /// `busy` are skipped.
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Records the outcome of an attempt and ends the lease. True if another delivery may have
    /// become ready: the next of the thread, or one that replaces this one.
    async fn record_attempt(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// When the next pending delivery is due (or its lease expires).
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;
}
