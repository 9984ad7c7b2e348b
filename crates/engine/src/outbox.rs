//! The store as the notifier's outbox. Alerts about failing deliveries also open and close an incident.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::alert::{AlertKind, Clock};
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_notify::{Attempt, Outbox, OutboxError};
use rootwatch_store::{Batch, Store};

use crate::handle::EngineHandle;
use crate::metrics;

/// The store as an outbox.
#[derive(Debug)]
pub struct StoreOutbox {
    store: Arc<dyn Store>,
    engine: EngineHandle,
    clock: Arc<dyn Clock>,
    /// For each delivery that is being sent: when its record was received, if there is one, and when it was
    /// enqueued.
    leased: Mutex<HashMap<DeliveryId, (Option<Timestamp>, Timestamp)>>,
}

/// Deliveries whose times are kept.
const LEASED_MAX: usize = 10_000;

impl StoreOutbox {
    /// An outbox over this store, which reports outages of destinations to this engine.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, engine: EngineHandle, clock: Arc<dyn Clock>) -> Self {
        Self { store, engine, clock, leased: Mutex::default() }
    }

    /// Opens or closes the incident that belongs to an alert about failing deliveries.
    async fn record_outages(&self, deliveries: &[Delivery]) {
        let mut done: Vec<&AlertKind> = Vec::new();
        for kind in deliveries.iter().map(|delivery| &delivery.alert.kind) {
            if done.contains(&kind) {
                continue;
            }
            done.push(kind);
            let note = deliveries.iter().find(|delivery| &delivery.alert.kind == kind);
            let why = note.and_then(|delivery| delivery.alert.note.clone()).unwrap_or_default();
            let noted = match kind {
                AlertKind::DeliveryFailing { destination } => {
                    self.engine.set_outage(destination.clone(), Some(why)).await
                }
                AlertKind::DeliveryRecovered { destination } => {
                    self.engine.set_outage(destination.clone(), None).await
                }
                _ => Ok(()),
            };
            if let Err(error) = noted {
                // The alert itself is enqueued and says the same.
                tracing::warn!(%error, "could not record the delivery-outage incident");
            }
        }
    }
}

#[async_trait]
impl Outbox for StoreOutbox {
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, OutboxError> {
        let leased = self.store.lease(now, until, max, busy).await.map_err(OutboxError::new)?;
        let mut times = self.leased.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() > LEASED_MAX {
            // From leases that expired; only a measurement is lost.
            times.clear();
        }
        let since = |delivery: &Delivery| (delivery.alert.received_at, delivery.created_at);
        times.extend(leased.iter().map(|delivery| (delivery.id.clone(), since(delivery))));
        Ok(leased)
    }

    async fn attempted(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, OutboxError> {
        let begun = self.leased.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let is_delivered = matches!(attempt, Attempt::Delivered { .. });
        if let Attempt::Failed { instead, .. } = &attempt {
            // First: if the process ends in between, the attempt is repeated, and the incident exists
            // already.
            self.record_outages(instead).await;
        }
        let readies =
            self.store.record_attempt(id, attempt, now).await.map_err(OutboxError::new)?;
        if let Some((since, begun)) = begun
            && is_delivered
        {
            metrics::delivered(since, begun, now);
        }
        Ok(readies)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, OutboxError> {
        self.store.next_due().await.map_err(OutboxError::new)
    }

    async fn note(&self, name: &str) -> Result<Option<String>, OutboxError> {
        self.store.note(name).await.map_err(OutboxError::new)
    }

    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, OutboxError> {
        self.store.notes(names).await.map_err(OutboxError::new)
    }

    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), OutboxError> {
        self.store.put_note(name, value).await.map_err(OutboxError::new)
    }

    async fn raise(&self, deliveries: Vec<Delivery>) -> Result<(), OutboxError> {
        let batch = Batch {
            deliveries: deliveries.clone(),
            now: Some(self.clock.now()),
            ..Batch::default()
        };
        self.record_outages(&deliveries).await;
        self.store.commit(batch).await.map_err(OutboxError::new)
    }
}
