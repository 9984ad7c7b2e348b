//! Decisions that no record causes: an operator acknowledges or resolves an incident, deliveries to a
//! destination fail or recover, somebody requests a test alert.

use rootwatch_core::alert::{ALERT_FINDINGS_MAX, Alert, NotifiedState, acknowledging, decide};
use rootwatch_core::correlate::Change;
use rootwatch_core::incident::{Incident, IncidentId};
use rootwatch_store::{Batch, Resolution, StoreError, StoredIncident};

use crate::batch::BatchContext;
use crate::engine::Engine;
use crate::memory::meta_of;

impl Engine {
    /// Sets the state of an incident for an operator, and enqueues the alert that it ended or was
    /// acknowledged.
    pub(crate) async fn handle(
        &mut self,
        id: &IncidentId,
        handled: &Resolution,
    ) -> Result<StoredIncident, StoreError> {
        self.sync_memory().await?;
        let now = self.parts.clock.now();
        // From the store: an incident of last year is not in memory.
        let mut stored = self.parts.store.incident(id, ALERT_FINDINGS_MAX).await?;
        let before = std::mem::replace(&mut stored.incident.state, handled.state);
        let mut meta = meta_of(&stored);
        meta.by = Some(handled.by.clone());
        if let Some(known) = self.memory.meta.get_mut(id) {
            meta.fresh = std::mem::take(&mut known.fresh);
        }
        let whole = self.memory.open.get(id).map(|incident| {
            let mut incident = incident.clone();
            incident.state = handled.state;
            incident
        });
        let incident = whole.as_ref().unwrap_or(&stored.incident);
        let mut told = None;
        let mut deliveries = Vec::new();
        // Without an alert, fresh findings stay fresh.
        let mut keeps_fresh = true;
        // Nobody was notified of an incident from old log files, so nobody is notified of its end.
        let kind = if meta.told.history { None } else { decide(meta.told, incident) };
        if let Some(kind) = kind {
            let alert = self.alert(incident, &meta, kind, None, now);
            deliveries = self.deliveries(&alert, now);
            told = Some(meta.told.after(incident));
            keeps_fresh = false;
        } else if let Some(kind) = acknowledging(meta.told, before, incident, &handled.by) {
            let alert = self.alert(incident, &meta, kind, None, now);
            deliveries = self.deliveries(&alert, now);
            // Only the count changes, for the next alert's id; people learn nothing new of the findings.
            let alerts = meta.told.after(incident).alerts;
            told = (!deliveries.is_empty()).then_some(NotifiedState { alerts, ..meta.told });
        }
        let has_deliveries = !deliveries.is_empty();
        let done = self.parts.store.resolve(id, handled, told, deliveries).await;
        // If the store fails, memory is reloaded.
        let stored = done?;
        self.store_recovered();
        self.memory.open.set_state(id, handled.state);
        if let Some(known) = self.memory.meta.get_mut(id) {
            known.revision = stored.revision;
            known.by = meta.by;
            known.touched_at = now;
            if let Some(told) = told {
                known.told = told;
            }
            if keeps_fresh {
                known.fresh = meta.fresh;
            }
        }
        if has_deliveries {
            self.parts.wake.notify_one();
        }
        Ok(stored)
    }

    /// Opens or closes the incident about failing deliveries to a destination.
    pub(crate) async fn set_outage(
        &mut self,
        destination: &str,
        failure: Option<&str>,
    ) -> Result<(), StoreError> {
        self.sync_memory().await?;
        self.memory.load_unended(&*self.parts.store).await?;
        let now = self.parts.clock.now();
        let change = match (self.memory.delivery_outage(destination), failure) {
            (None, Some(why)) => Change::Opened(Box::new(Incident::telling(destination, now, why))),
            (Some(incident), None) => Change::Closed { id: incident.id.clone(), at: now },
            _ => return Ok(()),
        };
        let changes = vec![change];
        self.memory.open.apply(&changes);
        let batch = self.batch(changes, &BatchContext::default(), now).await?;
        self.save(batch).await.map(drop)
    }

    /// Enqueues an alert without an incident; returns its destinations.
    pub(crate) async fn raise(
        &mut self,
        alert: Alert,
        only: Option<&str>,
    ) -> Result<Vec<String>, StoreError> {
        let now = self.parts.clock.now();
        let mut deliveries = self.deliveries(&alert, now);
        deliveries.retain(|delivery| only.is_none_or(|only| delivery.destination == only));
        let to = deliveries.iter().map(|delivery| delivery.destination.clone()).collect();
        self.save(Batch { deliveries, now: Some(now), ..Batch::default() }).await?;
        Ok(to)
    }
}
