//! One batch: what the records of many requests mean, saved in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::alert::{
    ALERT_FINDINGS_MAX, AccountName, Alert, AlertKind, Delivery, Telling, compose, decide,
    joined_closing,
};
use rootwatch_core::correlate::{Change, correlate_batch};
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::{Incident, IncidentId, IncidentKind};
use rootwatch_core::window::left;
use rootwatch_store::{Batch, StoreError, Unverified};
use tracing::Instrument as _;

use super::memory::Beside;
use super::{Engine, Parcel, keys};
use crate::intake::{Judged, Outcome};
use crate::metrics;

/// What is known of an incident's part in a batch.
#[derive(Default)]
struct Touched {
    order: Vec<IncidentId>,
    gone: Vec<(IncidentId, IncidentId)>,
}

impl Engine {
    /// Decides about the records of some requests and saves what comes of it; gives each request's
    /// outcomes.
    pub(super) async fn decide(
        &mut self,
        parcels: &mut [Parcel],
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        self.step().await?;
        let now = self.parts.clock.now();
        let mut known = self.parts.store.known(&keys(parcels)).await?;

        // In the order of time, so that what looks back sees as much as possible.
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (request, parcel) in parcels.iter().enumerate() {
            let detected = parcel.judged.iter().enumerate();
            order.extend(
                detected
                    .filter(|(_, judged)| matches!(judged, Judged::Detected(_)))
                    .map(|(place, _)| (request, place)),
            );
        }
        order.sort_by_key(|&(request, place)| match &parcels[request].judged[place] {
            Judged::Detected(detected) => {
                let at = detected.finding.event_time;
                (at.is_none(), at)
            }
            _ => (true, None),
        });

        let mut outcomes: Vec<Vec<Option<Outcome>>> =
            parcels.iter().map(|parcel| vec![None; parcel.judged.len()]).collect();
        let mut waiting: Vec<(usize, usize, FindingKey)> = Vec::new();
        let mut received: BTreeMap<FindingKey, Timestamp> = BTreeMap::new();
        let mut findings = Vec::new();
        for (request, place) in order {
            let Judged::Detected(detected) = &parcels[request].judged[place] else { continue };
            let key = detected.finding.key.clone();
            if !known.insert(key.clone()) {
                outcomes[request][place] = Some(Outcome::Known);
                continue;
            }
            match self.memory.history.settle((**detected).clone(), &self.parts.rules) {
                None => outcomes[request][place] = Some(Outcome::NoFinding),
                Some(finding) => {
                    received.insert(key.clone(), parcels[request].received_at);
                    waiting.push((request, place, key));
                    findings.push(finding);
                }
            }
        }

        let times = findings.iter().filter_map(|finding| finding.event_time);
        self.memory.reach_back(&*self.parts.store, times).await?;
        let changes = correlate_batch(&mut self.memory.open, findings);
        let homes = homes(&changes);

        let mut batch = self.batch(changes, &received, now).await?;
        batch.received = received;
        for (parcel, outcomes) in parcels.iter_mut().zip(&mut outcomes) {
            batch.positions.extend(parcel.position.clone());
            for (judged, outcome) in parcel.judged.iter().zip(outcomes) {
                match judged {
                    Judged::Detected(_) => {}
                    Judged::Done(done) => *outcome = Some(done.clone()),
                    Judged::Doubtful { finding, reason } => {
                        batch.unverified.push(Unverified {
                            key: finding.key.clone(),
                            received_at: parcel.received_at,
                            source: parcel.origin.source.clone(),
                            reason: reason.clone(),
                            finding: (**finding).clone(),
                        });
                        *outcome = Some(Outcome::Unverified { reason: reason.clone() });
                    }
                }
            }
        }
        for (request, place, key) in waiting {
            let incident = self.memory.open.holder(&key).or_else(|| homes.get(&key)).cloned();
            // Correlation leaves no finding without an incident; were it to, the truth is that the
            // finding cannot be found again.
            outcomes[request][place] = Some(match incident {
                Some(incident) => Outcome::Saved { incident },
                None => Outcome::NoFinding,
            });
        }
        self.save(batch).await?;
        let whole = |outcomes: Vec<Option<Outcome>>| outcomes.into_iter().flatten().collect();
        Ok(outcomes.into_iter().map(whole).collect())
    }

    /// What changes come to: the revisions that they build on, and whom to tell.
    pub(super) async fn batch(
        &mut self,
        changes: Vec<Change>,
        received: &BTreeMap<FindingKey, Timestamp>,
        now: Timestamp,
    ) -> Result<Batch, StoreError> {
        let touched = touched(&changes);
        let mut batch = Batch { now: Some(now), ..Batch::default() };
        // What has no revision is new in this batch.
        for id in touched.order.iter().chain(touched.gone.iter().map(|(from, _)| from)) {
            let revision = self.memory.beside.get(id).map(|beside| beside.revision);
            if let Some(revision) = revision.filter(|revision| *revision > 0) {
                batch.expected.push((id.clone(), revision));
            }
        }
        for (from, into) in &touched.gone {
            self.tell_joined(&mut batch, from, into, now).await?;
        }
        self.memory.note_fresh(&changes);
        let earliest = earliest(&changes, received);
        for id in &touched.order {
            self.tell(&mut batch, id, earliest.get(id).copied(), now);
        }
        batch.changes = changes;
        Ok(batch)
    }

    /// Owes an alert of an incident, if there is something to tell.
    fn tell(
        &mut self,
        batch: &mut Batch,
        id: &IncidentId,
        received_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.memory.beside(id).touched_at = now;
        let (Some(incident), Some(beside)) = (self.memory.open.get(id), self.memory.beside.get(id))
        else {
            return;
        };
        // That telling is broken has an alert of its own.
        if incident.kind == IncidentKind::Telling {
            return;
        }
        let Some(kind) = decide(beside.told, incident).or_else(|| self.left(incident, beside))
        else {
            return;
        };
        let told = beside.told.after(incident);
        let alert = self.alert(incident, beside, kind, received_at, now);
        batch.deliveries.extend(self.deliveries(&alert, now));
        batch.told.push((id.clone(), told));
        let beside = self.memory.beside(id);
        beside.told = told;
        beside.fresh.clear();
    }

    /// Owes an alert that an incident turned out to be part of another, if it was ever told.
    async fn tell_joined(
        &mut self,
        batch: &mut Batch,
        from: &IncidentId,
        into: &IncidentId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(beside) = self.memory.beside.remove(from) else { return Ok(()) };
        if beside.told.alerts == 0 {
            return Ok(());
        }
        let mut told = beside.told;
        if let Some(kind) = joined_closing(told, into) {
            // Memory has moved on; the store still has it as it was.
            let mut gone = self.parts.store.incident(from, ALERT_FINDINGS_MAX).await?;
            gone.incident.related = vec![into.clone()];
            let alert = self.alert(&gone.incident, &beside, kind, None, now);
            batch.deliveries.extend(self.deliveries(&alert, now));
            told.alerts = told.alerts.saturating_add(1);
        }
        batch.positions.push(self.memory.note_gone(from, told));
        Ok(())
    }

    pub(super) fn alert(
        &self,
        incident: &Incident,
        beside: &Beside,
        kind: AlertKind,
        received_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Alert {
        let seen = |key: &FindingKey| beside.told.severity.is_some() && !beside.fresh.contains(key);
        let telling = Telling {
            decided_at: now,
            received_at,
            findings_total: incident.findings_total(),
            seen: &seen,
            by: beside.by.as_deref(),
            names: &|id| self.name(id),
            rules: &self.parts.rules,
            windows: &self.inner.settings.windows,
        };
        let number = beside.told.alerts.saturating_add(1);
        let alert = compose(format!("{}.{number}", incident.id), kind, incident, &telling);
        tracing::info!(
            alert = alert.id,
            kind = alert.kind.name(),
            severity = alert.severity.name(),
            "decided to tell"
        );
        alert
    }

    /// Told when an incident that was approved goes beyond what was.
    fn left(&self, incident: &Incident, beside: &Beside) -> Option<AlertKind> {
        let is_told = beside.told.severity.is_some() && !beside.told.closed;
        let seen = |key: &FindingKey| !beside.fresh.contains(key);
        let window = is_told.then(|| left(incident, &self.inner.settings.windows, &seen))?;
        window.map(|window| AlertKind::LeftWindow { window })
    }

    pub(super) fn name(&self, id: &str) -> AccountName {
        let named = self.inner.settings.accounts.get(id).cloned();
        named.unwrap_or_else(|| AccountName { id: id.to_owned(), name: None, unit: None })
    }

    pub(super) fn deliveries(&self, alert: &Alert, now: Timestamp) -> Vec<Delivery> {
        let to = self.parts.notifier.route(alert);
        if to.is_empty() {
            tracing::info!(alert = alert.id, "no destination is told of this alert");
        }
        to.iter().map(|destination| Delivery::new(alert.clone(), destination, now)).collect()
    }

    /// Commits, and follows in memory what the store has now.
    pub(super) async fn save(&mut self, batch: Batch) -> Result<(), StoreError> {
        let is_nothing = batch.unverified.is_empty()
            && batch.positions.is_empty()
            && batch.deliveries.is_empty()
            && batch.changes.iter().all(|change| matches!(change, Change::Repeated { .. }));
        if is_nothing {
            return Ok(());
        }
        let touched = touched(&batch.changes);
        let owes = !batch.deliveries.is_empty();
        let findings = batch.received.len();
        let begin = std::time::Instant::now();
        let span = tracing::info_span!("commit", findings, incidents = touched.order.len());
        self.parts.store.commit(batch).instrument(span).await?;
        self.works();
        metrics::committed(begin.elapsed(), findings);
        for id in &touched.order {
            self.memory.beside(id).revision += 1;
        }
        if owes {
            self.parts.wake.notify_one();
        }
        Ok(())
    }
}

/// The incidents that changes touch, each once, and those that are no more.
fn touched(changes: &[Change]) -> Touched {
    let mut touched = Touched::default();
    let mut here: HashSet<&IncidentId> = HashSet::new();
    for change in changes {
        match change {
            Change::Opened(incident) => _ = here.insert(&incident.id),
            Change::Grew(growth) => _ = here.insert(&growth.id),
            Change::Closed { id, .. } => _ = here.insert(id),
            Change::Joined { into, from } => {
                here.remove(from);
                touched.gone.push((from.clone(), into.clone()));
            }
            _ => {}
        }
    }
    touched.order = here.into_iter().cloned().collect();
    touched.order.sort();
    touched
}

/// Where changes put findings.
fn homes(changes: &[Change]) -> HashMap<FindingKey, IncidentId> {
    let mut homes: HashMap<FindingKey, IncidentId> = HashMap::new();
    let mut heirs: HashMap<IncidentId, IncidentId> = HashMap::new();
    for change in changes {
        match change {
            Change::Opened(incident) => {
                for finding in incident.originals() {
                    homes.insert(finding.key.clone(), incident.id.clone());
                }
            }
            Change::Grew(growth) => {
                for finding in growth.added.iter().chain(&growth.superseded) {
                    homes.insert(finding.key.clone(), growth.id.clone());
                }
            }
            Change::Joined { into, from } => _ = heirs.insert(from.clone(), into.clone()),
            _ => {}
        }
    }
    for home in homes.values_mut() {
        // Each step leads to an incident that lived longer; a chain is as short as the batch.
        for _ in 0..heirs.len() {
            match heirs.get(home) {
                Some(heir) => home.clone_from(heir),
                None => break,
            }
        }
    }
    homes
}

/// When the first of an incident's new findings reached the hub.
fn earliest(
    changes: &[Change],
    received: &BTreeMap<FindingKey, Timestamp>,
) -> HashMap<IncidentId, Timestamp> {
    let mut earliest: HashMap<IncidentId, Timestamp> = HashMap::new();
    for change in changes {
        let (id, findings) = match change {
            Change::Opened(incident) => (&incident.id, &incident.findings),
            Change::Grew(growth) => (&growth.id, &growth.added),
            _ => continue,
        };
        for at in findings.iter().filter_map(|finding| received.get(&finding.key)) {
            let first = earliest.entry(id.clone()).or_insert(*at);
            *first = (*first).min(*at);
        }
    }
    earliest
}
