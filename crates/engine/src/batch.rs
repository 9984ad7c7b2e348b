//! One batch: what the records of many requests mean, saved in one transaction.

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

use crate::command::Parcel;
use crate::engine::{Engine, keys};
use crate::intake::Judged;
use crate::memory::Beside;
use crate::metrics;
use crate::outcome::Outcome;

/// What a batch brings.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// When each new finding reached the hub.
    received: BTreeMap<FindingKey, Timestamp>,
    /// Those of them that came by a look into the past.
    history: HashSet<FindingKey>,
}

/// What is known of an incident's part in a batch.
#[derive(Default)]
struct Touched {
    order: Vec<IncidentId>,
    gone: Vec<(IncidentId, IncidentId)>,
}

impl Engine {
    /// Decides about the records of some requests and saves what comes of it; gives each request's
    /// outcomes.
    pub(crate) async fn decide(
        &mut self,
        parcels: &mut [Parcel],
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        self.step().await?;
        let now = self.parts.clock.now();
        let mut known = self.parts.store.known(&keys(parcels)).await?;
        let accounts = accounts(parcels);
        self.memory
            .look_back(&*self.parts.store, &self.parts.rules, now, accounts.into_iter())
            .await?;

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
        let mut news = News::default();
        let mut findings = Vec::new();
        for (request, place) in order {
            let Judged::Detected(detected) = &parcels[request].judged[place] else { continue };
            let key = detected.finding.key.clone();
            if !known.insert(key.clone()) {
                outcomes[request][place] = Some(Outcome::Known);
                continue;
            }
            match self.memory.history.finalize((**detected).clone(), &self.parts.rules) {
                None => outcomes[request][place] = Some(Outcome::NoFinding),
                Some(finding) => {
                    news.received.insert(key.clone(), parcels[request].received_at);
                    if parcels[request].origin.history {
                        news.history.insert(key.clone());
                    }
                    waiting.push((request, place, key));
                    findings.push(finding);
                }
            }
        }

        // Else what was read decided nothing.
        let is_judged = !findings.is_empty()
            || outcomes.iter().flatten().any(|outcome| *outcome == Some(Outcome::NoFinding));
        let times = findings.iter().filter_map(|finding| finding.event_time);
        self.memory.reach_back(&*self.parts.store, times).await?;
        let changes = correlate_batch(&mut self.memory.open, findings);
        let homes = homes(&changes);

        let mut batch = self.batch(changes, &news, now).await?;
        batch.received = news.received;
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
        if !self.save(batch).await? && is_judged {
            self.memory.is_last(&*self.parts.store).await?;
        }
        let whole = |outcomes: Vec<Option<Outcome>>| outcomes.into_iter().flatten().collect();
        Ok(outcomes.into_iter().map(whole).collect())
    }

    /// What changes come to: the revisions that they build on, and whom to tell.
    pub(crate) async fn batch(
        &mut self,
        changes: Vec<Change>,
        news: &News,
        now: Timestamp,
    ) -> Result<Batch, StoreError> {
        let touched = touched(&changes);
        self.memory.unsaved.extend(touched.order.iter().cloned());
        self.memory.unsaved.extend(touched.gone.iter().map(|(from, _)| from.clone()));
        self.memory.recall_names(&*self.parts.store, &changes).await?;
        let generation = self.memory.generation;
        let mut batch = Batch { now: Some(now), generation, ..Batch::default() };
        // What has no revision is new in this batch.
        for id in touched.order.iter().chain(touched.gone.iter().map(|(from, _)| from)) {
            let revision = self.memory.beside.get(id).map(|beside| beside.revision);
            if let Some(revision) = revision.filter(|revision| *revision > 0) {
                batch.expected.push((id.clone(), revision));
            }
        }
        let was_history =
            |id: &IncidentId| self.memory.beside.get(id).is_some_and(|beside| beside.told.history);
        let mut live = live(&changes, news, &was_history);
        for (from, into) in &touched.gone {
            let is_live = |beside: &Beside| beside.revision > 0 && !beside.told.history;
            if live.contains(from) || self.memory.beside.get(from).is_some_and(is_live) {
                live.insert(into.clone());
            }
            self.tell_joined(&mut batch, from, into, now).await?;
        }
        self.memory.note_fresh(&changes);
        let earliest = earliest(&changes, &news.received);
        for id in &touched.order {
            if self.is_history(&mut batch, id, live.contains(id)) {
                self.memory.beside(id).touched_at = now;
            } else {
                self.tell(&mut batch, id, earliest.get(id).copied(), now);
            }
        }
        batch.changes = changes;
        Ok(batch)
    }

    /// True for an incident of which all came by a look into the past: nobody is told. It is history
    /// until something of it happens now.
    fn is_history(&mut self, batch: &mut Batch, id: &IncidentId, is_live: bool) -> bool {
        let beside = self.memory.beside(id);
        let was = beside.told.history;
        let is = !is_live && (was || beside.revision == 0);
        if was != is {
            beside.told.history = is;
            batch.notified.push((id.clone(), beside.told));
        }
        is
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
        if incident.kind == IncidentKind::DeliveryOutage {
            return;
        }
        let Some(kind) = decide(beside.told, incident).or_else(|| self.left(incident, beside))
        else {
            return;
        };
        let told = beside.told.after(incident);
        let alert = self.alert(incident, beside, kind, received_at, now);
        batch.deliveries.extend(self.deliveries(&alert, now));
        batch.notified.push((id.clone(), told));
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

    pub(crate) fn alert(
        &self,
        incident: &Incident,
        beside: &Beside,
        kind: AlertKind,
        received_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Alert {
        let seen = |key: &FindingKey| beside.told.severity.is_some() && !beside.fresh.contains(key);
        let telling = AlertContext {
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

    /// NotifiedState when an incident that was approved goes beyond what was.
    fn left(&self, incident: &Incident, beside: &Beside) -> Option<AlertKind> {
        let is_told = beside.told.severity.is_some() && !beside.told.closed;
        let seen = |key: &FindingKey| !beside.fresh.contains(key);
        let window = is_told.then(|| left(incident, &self.inner.settings.windows, &seen))?;
        window.map(|window| AlertKind::OutsideWindow { window })
    }

    pub(crate) fn name(&self, id: &str) -> AccountName {
        let named = self.inner.settings.accounts.get(id).cloned();
        named.unwrap_or_else(|| AccountName { id: id.to_owned(), name: None, unit: None })
    }

    pub(crate) fn deliveries(&self, alert: &Alert, now: Timestamp) -> Vec<Delivery> {
        let to = self.parts.notifier.route(alert);
        if to.is_empty() {
            tracing::info!(alert = alert.id, "no destination is told of this alert");
        }
        to.iter().map(|destination| Delivery::new(alert.clone(), destination, now)).collect()
    }

    /// Commits, and follows in memory what the store has now. False when there was nothing to commit.
    pub(crate) async fn save(&mut self, batch: Batch) -> Result<bool, StoreError> {
        let is_nothing = batch.unverified.is_empty()
            && batch.positions.is_empty()
            && batch.deliveries.is_empty()
            && batch.changes.iter().all(|change| matches!(change, Change::Repeated { .. }));
        if is_nothing {
            self.memory.unsaved.clear();
            return Ok(false);
        }
        let is_shared = batch.generation.is_some();
        let touched = touched(&batch.changes);
        let owes = !batch.deliveries.is_empty();
        let findings = batch.received.len();
        let begin = std::time::Instant::now();
        let span = tracing::info_span!("commit", findings, incidents = touched.order.len());
        self.parts.store.commit(batch).instrument(span).await?;
        self.works();
        self.memory.unsaved.clear();
        // A commit that touches no incident need not move the store's generation: were it taken for one
        // that did, the next commit of another would be taken for ours.
        let has_touched = !touched.order.is_empty() || !touched.gone.is_empty();
        self.memory.has_committed = is_shared && has_touched;
        metrics::committed(begin.elapsed(), findings);
        for id in &touched.order {
            self.memory.beside(id).revision += 1;
        }
        if owes {
            self.parts.wake.notify_one();
        }
        Ok(true)
    }
}

/// Accounts of the findings that parcels bring.
fn accounts(parcels: &[Parcel]) -> Vec<&str> {
    let judged = parcels.iter().flat_map(|parcel| &parcel.judged);
    judged
        .filter_map(|judged| match judged {
            Judged::Detected(detected) => detected.finding.account_id.as_deref(),
            _ => None,
        })
        .collect()
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

/// The incidents to which changes bring what happens now, or happened when it came. A finding that was
/// there and is judged otherwise does not count; one that leaves an incident for another is what it was
/// in the first.
fn live(
    changes: &[Change],
    news: &News,
    was_history: &dyn Fn(&IncidentId) -> bool,
) -> HashSet<IncidentId> {
    let mut left: HashMap<&FindingKey, bool> = HashMap::new();
    for change in changes {
        if let Change::Grew(growth) = change {
            left.extend(growth.removed.iter().map(|key| (key, !was_history(&growth.id))));
        }
    }
    // `None` for what was there, and nobody says where.
    let is_live = |finding: &Finding| {
        let key = &finding.key;
        let is_new = news.received.contains_key(key).then(|| !news.history.contains(key));
        is_new.or_else(|| left.get(key).copied())
    };
    let live = changes.iter().filter_map(|change| match change {
        // What has no findings is an incident of our own. Better told once too often than never.
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

#[cfg(test)]
mod tests {
    use rootwatch_core::correlate::{CorrelatePolicy, OpenIncidents};
    use rootwatch_core::finding::Outcome;
    use rootwatch_testkit::sample::{PROD, at, in_session, sign_in};

    use super::*;

    /// A sign-in goes to a nearer session, in a batch that brings only what happened long ago: what it
    /// leaves behind is an incident of its own from then on. Says whether that one is live.
    fn rest_is_live(was_history: bool) -> bool {
        let mut open = OpenIncidents::new(CorrelatePolicy::default());
        let first = sign_in(PROD, at(100), "198.51.100.7", Outcome::Success);
        let far = in_session(PROD, at(200), "ListUsers", at(130));
        correlate_batch(&mut open, vec![first.clone(), far.clone()]);
        let before = open.holder(&first.key).cloned().expect("an incident");
        let near = in_session(PROD, at(210), "ListRoles", at(101));
        let news = News {
            received: BTreeMap::from([(near.key.clone(), at(500))]),
            history: HashSet::from([near.key.clone()]),
        };
        let changes = correlate_batch(&mut open, vec![near]);
        let after = open.holder(&far.key).cloned().expect("an incident");
        assert_ne!(before, after, "the nearer session takes the sign-in");
        live(&changes, &news, &|id| was_history && *id == before).contains(&after)
    }

    #[test]
    fn what_was_news_is_no_history_when_it_becomes_an_incident_of_its_own() {
        assert!(rest_is_live(false));
        assert!(!rest_is_live(true));
    }
}
