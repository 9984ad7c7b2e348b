//! What comes from elsewhere than from records: a person's decision, trouble with telling, alerts
//! that somebody asks for.

use rootwatch_core::alert::{ALERT_FINDINGS_MAX, Alert, NotifiedState, acknowledging, decide};
use rootwatch_core::correlate::Change;
use rootwatch_core::incident::{Incident, IncidentId};
use rootwatch_store::{Batch, Resolution, StoreError, StoredIncident};

use crate::batch::News;
use crate::engine::Engine;
use crate::memory::beside;

impl Engine {
    /// Gives an incident a state by hand, and tells that it is over, or that somebody looks after it.
    pub(crate) async fn handle(
        &mut self,
        id: &IncidentId,
        handled: &Resolution,
    ) -> Result<StoredIncident, StoreError> {
        self.step().await?;
        let now = self.parts.clock.now();
        // As the store has it: an incident of last year need not be in memory for this.
        let mut stored = self.parts.store.incident(id, ALERT_FINDINGS_MAX).await?;
        let before = std::mem::replace(&mut stored.incident.state, handled.state);
        let mut aside = beside(&stored);
        aside.by = Some(handled.by.clone());
        if let Some(known) = self.memory.beside.get_mut(id) {
            aside.fresh = std::mem::take(&mut known.fresh);
        }
        let whole = self.memory.open.get(id).map(|incident| {
            let mut incident = incident.clone();
            incident.state = handled.state;
            incident
        });
        let incident = whole.as_ref().unwrap_or(&stored.incident);
        let mut told = None;
        let mut deliveries = Vec::new();
        // What is new stays new to those who are not told of this.
        let mut keeps_fresh = true;
        // Nobody was told of what is history, so nobody is told that it is over.
        let kind = if aside.told.history { None } else { decide(aside.told, incident) };
        if let Some(kind) = kind {
            let alert = self.alert(incident, &aside, kind, None, now);
            deliveries = self.deliveries(&alert, now);
            told = Some(aside.told.after(incident));
            keeps_fresh = false;
        } else if let Some(kind) = acknowledging(aside.told, before, incident, &handled.by) {
            let alert = self.alert(incident, &aside, kind, None, now);
            deliveries = self.deliveries(&alert, now);
            // Counted, for the alert's id; what people were told stays what it was.
            let alerts = aside.told.after(incident).alerts;
            told = (!deliveries.is_empty()).then_some(NotifiedState { alerts, ..aside.told });
        }
        let owes = !deliveries.is_empty();
        let done = self.parts.store.resolve(id, handled, told, deliveries).await;
        // Were the store to fail, memory would be read again.
        let stored = done?;
        self.works();
        self.memory.open.set_state(id, handled.state);
        if let Some(known) = self.memory.beside.get_mut(id) {
            known.revision = stored.revision;
            known.by = aside.by;
            known.touched_at = now;
            if let Some(told) = told {
                known.told = told;
            }
            if keeps_fresh {
                known.fresh = aside.fresh;
            }
        }
        if owes {
            self.parts.wake.notify_one();
        }
        Ok(stored)
    }

    /// Opens or closes the incident that says that a destination cannot be reached.
    pub(crate) async fn telling(
        &mut self,
        destination: &str,
        broken: Option<&str>,
    ) -> Result<(), StoreError> {
        self.step().await?;
        self.memory.load_unended(&*self.parts.store).await?;
        let now = self.parts.clock.now();
        let change = match (self.memory.telling(destination), broken) {
            (None, Some(why)) => Change::Opened(Box::new(Incident::telling(destination, now, why))),
            (Some(incident), None) => Change::Closed { id: incident.id.clone(), at: now },
            _ => return Ok(()),
        };
        let changes = vec![change];
        self.memory.open.apply(&changes);
        let batch = self.batch(changes, &News::default(), now).await?;
        self.save(batch).await.map(drop)
    }

    /// Owes an alert that is about no incident; returns whom.
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
