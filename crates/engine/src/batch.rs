//! One batch: the records of many requests, decided together and saved in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::alert::{
    ALERT_FINDINGS_MAX, AccountName, Alert, AlertContext, AlertKind, compose, decide,
    joined_closing,
};
use rootwatch_core::correlate::{Change, correlate_batch};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::{Finding, FindingKey};
use rootwatch_core::incident::{Incident, IncidentId, IncidentKind};
use rootwatch_core::window::left;
use rootwatch_store::{Batch, StoreError, Unverified};
use tracing::Instrument as _;

use crate::command::IngestRequest;
use crate::engine::{Engine, keys};
use crate::intake::CheckedRecord;
use crate::memory::IncidentMeta;
use crate::metrics;
use crate::outcome::IntakeOutcome;

/// The findings that a batch adds.
#[derive(Debug, Default)]
pub(crate) struct BatchContext {
    /// When each new finding reached the hub.
    received: BTreeMap<FindingKey, Timestamp>,
    /// Those that come from a scan of old log files.
    history: HashSet<FindingKey>,
}

/// The incidents that a batch changes.
#[derive(Default)]
struct Touched {
    /// Changed, ordered by id.
    order: Vec<IncidentId>,
    /// Joined into another: from, into.
    gone: Vec<(IncidentId, IncidentId)>,
}

impl Engine {
    /// Decides about the records of some requests and saves the result; returns the outcomes of each
    /// request.
    pub(crate) async fn decide(
        &mut self,
        requests: &mut [IngestRequest],
    ) -> Result<Vec<Vec<IntakeOutcome>>, StoreError> {
        self.sync_memory().await?;
        let now = self.parts.clock.now();
        let mut known = self.parts.store.known(&keys(requests)).await?;
        let accounts = accounts(requests);
        self.memory
            .load_pasts(&*self.parts.store, &self.parts.rules, now, accounts.into_iter())
            .await?;

        // In the order of time, so that rules that look back see as much as possible.
        let mut order: Vec<(usize, usize)> = Vec::new();
        for (number, request) in requests.iter().enumerate() {
            let detected = request.checked.iter().enumerate();
            order.extend(
                detected
                    .filter(|(_, checked)| matches!(checked, CheckedRecord::Detected(_)))
                    .map(|(place, _)| (number, place)),
            );
        }
        order.sort_by_key(|&(request, place)| match &requests[request].checked[place] {
            CheckedRecord::Detected(detected) => {
                let at = detected.finding.event_time;
                (at.is_none(), at)
            }
            _ => (true, None),
        });

        let mut outcomes: Vec<Vec<Option<IntakeOutcome>>> =
            requests.iter().map(|request| vec![None; request.checked.len()]).collect();
        let mut waiting: Vec<(usize, usize, FindingKey)> = Vec::new();
        let mut context = BatchContext::default();
        let mut findings = Vec::new();
        for (request, place) in order {
            let CheckedRecord::Detected(detected) = &requests[request].checked[place] else {
                continue;
            };
            let key = detected.finding.key.clone();
            if !known.insert(key.clone()) {
                outcomes[request][place] = Some(IntakeOutcome::Known);
                continue;
            }
            match self.memory.history.finalize((**detected).clone(), &self.parts.rules) {
                None => outcomes[request][place] = Some(IntakeOutcome::NoFinding),
                Some(finding) => {
                    context.received.insert(key.clone(), requests[request].received_at);
                    if requests[request].source.history {
                        context.history.insert(key.clone());
                    }
                    waiting.push((request, place, key));
                    findings.push(finding);
                }
            }
        }

        // Otherwise nothing depends on what was loaded.
        let is_decided = !findings.is_empty()
            || outcomes.iter().flatten().any(|outcome| *outcome == Some(IntakeOutcome::NoFinding));
        let times = findings.iter().filter_map(|finding| finding.event_time);
        self.memory.load_around(&*self.parts.store, times).await?;
        let changes = correlate_batch(&mut self.memory.open, findings);
        let homes = homes(&changes);

        let mut batch = self.batch(changes, &context, now).await?;
        batch.received = context.received;
        for (request, outcomes) in requests.iter_mut().zip(&mut outcomes) {
            batch.positions.extend(request.position.clone());
            for (checked, outcome) in request.checked.iter().zip(outcomes) {
                match checked {
                    CheckedRecord::Detected(_) => {}
                    CheckedRecord::Done(done) => *outcome = Some(done.clone()),
                    CheckedRecord::Doubtful { finding, reason } => {
                        batch.unverified.push(Unverified {
                            key: finding.key.clone(),
                            received_at: request.received_at,
                            source: request.source.source.clone(),
                            reason: reason.clone(),
                            finding: (**finding).clone(),
                        });
                        *outcome = Some(IntakeOutcome::Unverified { reason: reason.clone() });
                    }
                }
            }
        }
        for (request, place, key) in waiting {
            let incident = self.memory.open.holder(&key).or_else(|| homes.get(&key)).cloned();
            // Correlation assigns every finding to an incident. If it did not, the finding would not be
            // saved, and the outcome has to say so.
            outcomes[request][place] = Some(match incident {
                Some(incident) => IntakeOutcome::Saved { incident },
                None => IntakeOutcome::NoFinding,
            });
        }
        if !self.save(batch).await? && is_decided {
            self.memory.ensure_current(&*self.parts.store).await?;
        }
        let whole = |outcomes: Vec<Option<IntakeOutcome>>| outcomes.into_iter().flatten().collect();
        Ok(outcomes.into_iter().map(whole).collect())
    }

    /// Turns changes into a batch: the revisions that they build on, and the alerts.
    pub(crate) async fn batch(
        &mut self,
        changes: Vec<Change>,
        context: &BatchContext,
        now: Timestamp,
    ) -> Result<Batch, StoreError> {
        let touched = touched(&changes);
        self.memory.unsaved.extend(touched.order.iter().cloned());
        self.memory.unsaved.extend(touched.gone.iter().map(|(from, _)| from.clone()));
        self.memory.load_alert_counts(&*self.parts.store, &changes).await?;
        let generation = self.memory.generation();
        let mut batch = Batch { now: Some(now), generation, ..Batch::default() };
        // An incident without a revision is new in this batch.
        for id in touched.order.iter().chain(touched.gone.iter().map(|(from, _)| from)) {
            let revision = self.memory.meta.get(id).map(|meta| meta.revision);
            if let Some(revision) = revision.filter(|revision| *revision > 0) {
                batch.expected.push((id.clone(), revision));
            }
        }
        let was_history =
            |id: &IncidentId| self.memory.meta.get(id).is_some_and(|meta| meta.told.history);
        let mut live = live(&changes, context, &was_history);
        for (from, into) in &touched.gone {
            let is_live = |meta: &IncidentMeta| meta.revision > 0 && !meta.told.history;
            if live.contains(from) || self.memory.meta.get(from).is_some_and(is_live) {
                live.insert(into.clone());
            }
            self.alert_joined(&mut batch, from, into, now).await?;
        }
        self.memory.note_fresh(&changes);
        let earliest = earliest(&changes, &context.received);
        for id in &touched.order {
            if self.is_history(&mut batch, id, live.contains(id)) {
                self.memory.meta(id).touched_at = now;
            } else {
                self.alert_if_due(&mut batch, id, earliest.get(id).copied(), now);
            }
        }
        batch.changes = changes;
        Ok(batch)
    }

    /// True for an incident whose findings all come from old log files. It raises no alert until it
    /// gets a live finding.
    fn is_history(&mut self, batch: &mut Batch, id: &IncidentId, is_live: bool) -> bool {
        let meta = self.memory.meta(id);
        let was = meta.told.history;
        let is = !is_live && (was || meta.revision == 0);
        if was != is {
            meta.told.history = is;
            batch.notified.push((id.clone(), meta.told));
        }
        is
    }

    /// Adds an alert for an incident to the batch if its change is worth one.
    fn alert_if_due(
        &mut self,
        batch: &mut Batch,
        id: &IncidentId,
        received_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.memory.meta(id).touched_at = now;
        let (Some(incident), Some(meta)) = (self.memory.open.get(id), self.memory.meta.get(id))
        else {
            return;
        };
        // The notifier has already sent its own alert about the outage.
        if incident.kind == IncidentKind::DeliveryOutage {
            return;
        }
        let Some(kind) = decide(meta.told, incident).or_else(|| self.left(incident, meta)) else {
            return;
        };
        let told = meta.told.after(incident);
        let alert = self.alert(incident, meta, kind, received_at, now);
        batch.deliveries.extend(self.deliveries(&alert, now));
        batch.notified.push((id.clone(), told));
        let meta = self.memory.meta(id);
        meta.told = told;
        meta.fresh.clear();
    }

    /// Adds an alert that an incident joined another, if people were notified of it.
    async fn alert_joined(
        &mut self,
        batch: &mut Batch,
        from: &IncidentId,
        into: &IncidentId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(meta) = self.memory.meta.remove(from) else { return Ok(()) };
        if meta.told.alerts == 0 {
            return Ok(());
        }
        let mut told = meta.told;
        if let Some(kind) = joined_closing(told, into) {
            // Memory no longer holds the incident; the store still does.
            let mut gone = self.parts.store.incident(from, ALERT_FINDINGS_MAX).await?;
            gone.incident.related = vec![into.clone()];
            let alert = self.alert(&gone.incident, &meta, kind, None, now);
            batch.deliveries.extend(self.deliveries(&alert, now));
            told.alerts = told.alerts.saturating_add(1);
        }
        batch.positions.push(self.memory.note_gone(from, told));
        Ok(())
    }

    pub(crate) fn alert(
        &self,
        incident: &Incident,
        meta: &IncidentMeta,
        kind: AlertKind,
        received_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Alert {
        let seen = |key: &FindingKey| meta.told.severity.is_some() && !meta.fresh.contains(key);
        let context = AlertContext {
            decided_at: now,
            received_at,
            findings_total: incident.findings_total(),
            seen: &seen,
            by: meta.by.as_deref(),
            names: &|id| self.name(id),
            rules: &self.parts.rules,
            windows: &self.inner.settings.windows,
        };
        let number = meta.told.alerts.saturating_add(1);
        let alert = compose(format!("{}.{number}", incident.id), kind, incident, &context);
        tracing::info!(
            alert = alert.id,
            kind = alert.kind.name(),
            severity = alert.severity.name(),
            "alert decided"
        );
        alert
    }

    /// The alert for an incident that exceeds the window that approved it.
    fn left(&self, incident: &Incident, meta: &IncidentMeta) -> Option<AlertKind> {
        let is_told = meta.told.severity.is_some() && !meta.told.closed;
        let seen = |key: &FindingKey| !meta.fresh.contains(key);
        let window = is_told.then(|| left(incident, &self.inner.settings.windows, &seen))?;
        window.map(|window| AlertKind::OutsideWindow { window })
    }

    pub(crate) fn name(&self, id: &str) -> AccountName {
        let named = self.inner.settings.accounts.get(id).cloned();
        named.unwrap_or_else(|| AccountName { id: id.to_owned(), name: None, unit: None })
    }

    pub(crate) fn deliveries(&self, alert: &Alert, now: Timestamp) -> Vec<Delivery> {
        let to = self.parts.notifier.route(alert);
        // Few channels show acknowledgements, so one without a destination is usual.
        if to.is_empty() && !matches!(alert.kind, AlertKind::Acknowledged { .. }) {
            tracing::warn!(
                alert = alert.id,
                kind = alert.kind.name(),
                "no route matched: the alert is not sent to any destination"
            );
        }
        to.iter().map(|destination| Delivery::new(alert.clone(), destination, now)).collect()
    }

    /// Commits a batch and updates memory. False if there was nothing to commit.
    pub(crate) async fn save(&mut self, batch: Batch) -> Result<bool, StoreError> {
        let is_nothing = batch.unverified.is_empty()
            && batch.positions.is_empty()
            && batch.deliveries.is_empty()
            && batch.changes.iter().all(|change| matches!(change, Change::Repeated { .. }));
        if is_nothing {
            self.memory.unsaved.clear();
            return Ok(false);
        }
        let touched = touched(&batch.changes);
        let has_deliveries = !batch.deliveries.is_empty();
        let findings = batch.received.len();
        let begin = std::time::Instant::now();
        let span = tracing::info_span!("commit", findings, incidents = touched.order.len());
        self.parts.store.commit(batch).instrument(span).await?;
        self.store_recovered();
        self.memory.note_commit(!touched.order.is_empty() || !touched.gone.is_empty());
        metrics::committed(begin.elapsed(), findings);
        for id in &touched.order {
            self.memory.meta(id).revision += 1;
        }
        if has_deliveries {
            self.parts.wake.notify_one();
        }
        Ok(true)
    }
}

/// Accounts of the findings of requests.
fn accounts(requests: &[IngestRequest]) -> Vec<&str> {
    let checked = requests.iter().flat_map(|request| &request.checked);
    checked
        .filter_map(|checked| match checked {
            CheckedRecord::Detected(detected) => detected.finding.account_id.as_deref(),
            _ => None,
        })
        .collect()
}

/// The incidents that changes touch, each once, and those that joined others.
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

/// The incident of each finding after the changes.
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
        // Each step leads to an incident that joined later, so a chain is at most as long as the batch.
        for _ in 0..heirs.len() {
            match heirs.get(home) {
                Some(heir) => home.clone_from(heir),
                None => break,
            }
        }
    }
    homes
}

/// The incidents to which changes add live findings. A finding that was there before and is only scored
/// differently does not count; one that moves between incidents is as live as its first incident.
fn live(
    changes: &[Change],
    context: &BatchContext,
    was_history: &dyn Fn(&IncidentId) -> bool,
) -> HashSet<IncidentId> {
    let mut left: HashMap<&FindingKey, bool> = HashMap::new();
    for change in changes {
        if let Change::Grew(growth) = change {
            left.extend(growth.removed.iter().map(|key| (key, !was_history(&growth.id))));
        }
    }
    // `None` if the finding already existed and no change says where it was.
    let is_live = |finding: &Finding| {
        let key = &finding.key;
        let is_new = context.received.contains_key(key).then(|| !context.history.contains(key));
        is_new.or_else(|| left.get(key).copied())
    };
    let live = changes.iter().filter_map(|change| match change {
        // An incident without findings is about the hub itself. One alert too many is better than none.
        Change::Opened(incident) => (incident.findings.is_empty()
            || incident.findings.iter().any(|one| is_live(one).unwrap_or(true)))
        .then(|| incident.id.clone()),
        Change::Grew(growth) => {
            growth.added.iter().any(|one| is_live(one).unwrap_or(false)).then(|| growth.id.clone())
        }
        _ => None,
    });
    live.collect()
}

/// When the first new finding of each incident reached the hub.
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

#[cfg(test)]
mod tests {
    use rootwatch_core::correlate::{CorrelatePolicy, OpenIncidents};
    use rootwatch_core::finding::Outcome;
    use rootwatch_testkit::sample::{PROD, at, in_session, sign_in};

    use super::*;

    /// A sign-in moves to a nearer session, in a batch of old log files only. Its former incident becomes
    /// an incident of its own. Returns whether that one is live.
    fn rest_is_live(was_history: bool) -> bool {
        let mut open = OpenIncidents::new(CorrelatePolicy::default());
        let first = sign_in(PROD, at(100), "198.51.100.7", Outcome::Success);
        let far = in_session(PROD, at(200), "ListUsers", at(130));
        correlate_batch(&mut open, vec![first.clone(), far.clone()]);
        let before = open.holder(&first.key).cloned().expect("an incident");
        let near = in_session(PROD, at(210), "ListRoles", at(101));
        let context = BatchContext {
            received: BTreeMap::from([(near.key.clone(), at(500))]),
            history: HashSet::from([near.key.clone()]),
        };
        let changes = correlate_batch(&mut open, vec![near]);
        let after = open.holder(&far.key).cloned().expect("an incident");
        assert_ne!(before, after, "the nearer session takes the sign-in");
        live(&changes, &context, &|id| was_history && *id == before).contains(&after)
    }

    #[test]
    fn a_live_finding_stays_live_when_it_becomes_an_incident_of_its_own() {
        assert!(rest_is_live(false));
        assert!(!rest_is_live(true));
    }
}
