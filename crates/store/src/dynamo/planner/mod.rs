//! Plans the items of a batch. Each change means the same as in [`crate::sqlite`].
//!
//! This file plans incidents; [`findings`] plans single findings.

mod findings;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::{Change, IncidentUpdate};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::{Finding, FindingKey};
use rootwatch_core::incident::{Incident, IncidentId, IncidentState};

use super::DynamoStore;
use super::head::Plan;
use super::item::{Item, Key, LIST_PK, LIST_SK, name, sorted};
use super::layout::{
    HeadItem, Listed, echoes_key, entry_key, head_of, incident_pk, known_key, match_key,
    position_key, unended_key, unverified_key,
};
use super::outbox::keys_of;
use super::overlay::{Overlay, moved};
use crate::rows::{head, json, micros};
use crate::{Batch, NOTE_BYTES_MAX, Resolution, StoreError};

/// An incident in a batch.
#[derive(Debug)]
struct LoadedIncident {
    head: HeadItem,
    /// Its list entries; `None` for an incident that opens.
    before: Option<Listed>,
}

/// Turns a batch into a plan.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    store: &'a DynamoStore,
    overlay: Overlay<'a>,
    loaded: BTreeMap<IncidentId, LoadedIncident>,
    received: &'a BTreeMap<FindingKey, Timestamp>,
    now: Timestamp,
    /// Incidents that the batch names: it takes findings from no other.
    named: HashSet<IncidentId>,
    plan: Plan,
}

fn missing(id: &IncidentId) -> StoreError {
    StoreError::NotFound { what: "incident", name: id.0.clone() }
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        store: &'a DynamoStore,
        received: &'a BTreeMap<FindingKey, Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            store,
            overlay: Overlay::new(&store.table),
            loaded: BTreeMap::new(),
            received,
            now,
            named: HashSet::new(),
            plan: Plan::default(),
        }
    }

    /// The plan of a batch, from the current items of the table.
    pub(super) async fn of_batch(
        store: &'a DynamoStore,
        batch: &'a Batch,
        now: Timestamp,
    ) -> Result<Plan, StoreError> {
        let mut planner = Self::new(store, &batch.received, now);
        planner.named = batch.changes.iter().filter_map(named).cloned().collect();
        planner.prefetch(batch).await?;
        for (id, revision) in &batch.expected {
            let found = planner.overlay.get(&head_of(id)).await?;
            let found = found.map(|item| item.counts("rev")).transpose()?;
            if found != Some(*revision as i64) {
                return Err(StoreError::Conflict { id: id.clone() });
            }
        }
        for change in &batch.changes {
            planner.change(change).await.map_err(|error| match error {
                // Another writer let it join another, or pruned it.
                StoreError::NotFound { name, .. } => StoreError::Conflict { id: IncidentId(name) },
                error => error,
            })?;
        }
        for (id, told) in &batch.notified {
            planner.tell(id, *told).await?;
        }
        for one in &batch.unverified {
            let key = unverified_key(&one.key);
            if planner.overlay.get(&key).await?.is_none() {
                let place = format!("{}#{}", sorted(micros(one.received_at)), name(&one.key.0));
                let item = Item::default()
                    .with("ttl", store.expiry(one.received_at))
                    .with(LIST_PK, "V")
                    .with(LIST_SK, place)
                    .with_body(one)?;
                planner.overlay.put(key, item);
                planner.plan.unverified += 1;
            }
        }
        for (name, mark) in &batch.positions {
            let item = Item::default().with("name", name.as_str()).with("mark", mark.as_str());
            planner.overlay.put(position_key(name), item);
        }
        planner.finish(batch.deliveries.clone())
    }

    /// Reads all items that the batch needs in one request.
    async fn prefetch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut keys: Vec<Key> = Vec::new();
        keys.extend(batch.expected.iter().map(|(id, _)| head_of(id)));
        keys.extend(batch.notified.iter().map(|(id, _)| head_of(id)));
        keys.extend(batch.unverified.iter().map(|one| unverified_key(&one.key)));
        keys.extend(batch.positions.iter().map(|(name, _)| position_key(name)));
        keys.extend(keys_of(&batch.deliveries));
        for change in &batch.changes {
            let findings: Vec<&Finding> = match change {
                Change::Opened(incident) => {
                    keys.push(head_of(&incident.id));
                    incident.findings.iter().chain(&incident.superseded).collect()
                }
                Change::Grew(growth) => {
                    keys.push(head_of(&growth.id));
                    keys.extend(
                        growth.redundant_to.iter().map(|key| echoes_key(&growth.id, &key.0)),
                    );
                    let all = growth.added.iter().chain(&growth.changed);
                    all.chain(&growth.superseded).collect()
                }
                Change::Joined { into, from } => {
                    keys.extend([head_of(into), head_of(from)]);
                    Vec::new()
                }
                Change::Closed { id, .. } => {
                    keys.push(head_of(id));
                    Vec::new()
                }
                _ => Vec::new(),
            };
            for finding in findings {
                keys.push(known_key(&finding.key));
                keys.extend(self.past_keys(finding));
            }
        }
        self.overlay.fetch(keys).await
    }

    async fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Opened(incident) => self.open(incident).await,
            Change::Grew(growth) => match (&growth.redundant_to, &growth.added[..]) {
                (Some(echoed), [echo]) => self.echo(growth, echoed, echo).await,
                _ => self.grow(growth).await,
            },
            Change::Joined { into, from } => self.join(into, from).await,
            Change::Closed { id, .. } => {
                self.load(id).await?.head.incident.state = IncidentState::Quiet;
                Ok(())
            }
            // What they say is in the growth that came before, or changes nothing.
            _ => Ok(()),
        }
    }

    async fn load(&mut self, id: &IncidentId) -> Result<&mut LoadedIncident, StoreError> {
        if !self.loaded.contains_key(id) {
            let Some(item) = self.overlay.get(&head_of(id)).await? else {
                return Err(missing(id));
            };
            let head = HeadItem::read(&item)?;
            let before = Some(head.listed());
            self.loaded.insert(id.clone(), LoadedIncident { head, before });
        }
        self.loaded.get_mut(id).ok_or_else(|| missing(id))
    }

    async fn open(&mut self, incident: &Incident) -> Result<(), StoreError> {
        let id = &incident.id;
        if self.loaded.contains_key(id) || self.overlay.get(&head_of(id)).await?.is_some() {
            // Another writer opened it, or an old one that the hub does not remember has the
            // same short name.
            return Err(StoreError::Conflict { id: id.clone() });
        }
        let opened = HeadItem {
            incident: head(incident),
            revision: 0,
            notified: NotifiedState::default(),
            resolution: None,
            total: 0,
            originals: 0,
            digested: false,
            changed: 0,
        };
        self.loaded.insert(id.clone(), LoadedIncident { head: opened, before: None });
        let originals: HashMap<&FindingKey, &Finding> =
            incident.superseded.iter().map(|one| (&one.key, one)).collect();
        let mut shown = HashSet::new();
        for finding in &incident.findings {
            shown.insert(&finding.key);
            let original = originals.get(&finding.key).copied();
            self.put(id, finding, Some(finding), original, None).await?;
        }
        for original in incident.superseded.iter().filter(|one| !shown.contains(&one.key)) {
            self.put(id, original, None, Some(original), None).await?;
        }
        Ok(())
    }

    async fn grow(&mut self, growth: &IncidentUpdate) -> Result<(), StoreError> {
        let id = &growth.id;
        self.load(id).await?;
        let originals: HashMap<&FindingKey, &Finding> =
            growth.superseded.iter().map(|one| (&one.key, one)).collect();
        let mut written = HashSet::new();
        for finding in growth.added.iter().chain(&growth.changed) {
            written.insert(&finding.key);
            let original = originals.get(&finding.key).copied();
            self.put(id, finding, Some(finding), original, None).await?;
        }
        // Only the difference: findings whose classification within the incident changed.
        let before = self.with_original(id).await?;
        for original in &growth.superseded {
            if written.contains(&original.key) {
                continue;
            }
            let is_hidden = growth.removed.contains(&original.key);
            if before.contains(&original.key) && !is_hidden {
                continue;
            }
            let known = self.known(&original.key).await?;
            match known.filter(|known| known.incident == *id && known.is_shown()) {
                Some(known) if !is_hidden => {
                    self.put_original(known, &original.key, Some(original)).await?;
                }
                _ => self.put(id, original, None, Some(original), None).await?,
            }
        }
        for key in before.iter().filter(|key| !originals.contains_key(key)) {
            // Classified as on its own again, unless it has moved to another incident.
            if !written.contains(key)
                && !growth.removed.contains(key)
                && let Some(known) = self.known(key).await?
            {
                self.put_original(known, key, None).await?;
            }
        }
        self.load(id).await?.head.incident.head.clone_from(&growth.head);
        Ok(())
    }

    async fn echo(
        &mut self,
        growth: &IncidentUpdate,
        echoed: &FindingKey,
        echo: &Finding,
    ) -> Result<(), StoreError> {
        let incident = &mut self.load(&growth.id).await?.head.incident;
        incident.last_at = growth.last_at;
        incident.state = growth.state;
        self.put(&growth.id, echo, Some(echo), None, Some(echoed)).await
    }

    async fn join(&mut self, into: &IncidentId, from: &IncidentId) -> Result<(), StoreError> {
        let gone = &self.load(from).await?.head;
        let (total, originals) = (gone.total, gone.originals);
        let heir = &mut self.load(into).await?.head;
        heir.total += total;
        heir.originals += originals;
        let items = self.overlay.collection(&incident_pk(from), "").await?;
        let mut keys: Vec<Key> = Vec::new();
        for (key, item) in items {
            if key.sk == "H" {
                continue;
            }
            if let Some(of) = item.text("k") {
                keys.push(known_key(&FindingKey(of.to_owned())));
            }
            self.overlay.put(Key::new(incident_pk(into), key.sk.clone()), moved(item));
            self.overlay.delete(key);
        }
        keys.sort_unstable();
        keys.dedup();
        self.overlay.fetch(keys.iter().cloned()).await?;
        for key in keys {
            if let Some(item) = self.overlay.get(&key).await? {
                self.overlay.put(key, item.with("i", into.0.as_str()));
            }
        }
        self.remove_head(from);
        Ok(())
    }

    /// Takes an incident away, but for its findings.
    fn remove_head(&mut self, id: &IncidentId) {
        if let Some(loaded) = self.loaded.remove(id)
            && let Some(before) = loaded.before
        {
            self.overlay.delete(head_of(id));
            self.overlay.delete(entry_key(before.last, id));
            if before.unended.is_some() {
                self.overlay.delete(unended_key(id));
            }
            self.plan.touched.push(id.clone());
        }
    }

    async fn tell(&mut self, id: &IncidentId, told: NotifiedState) -> Result<(), StoreError> {
        if let Some(loaded) = self.loaded.get_mut(id) {
            loaded.head.notified = told;
        } else if let Some(item) = self.overlay.get(&head_of(id)).await? {
            self.overlay.put(head_of(id), moved(item).with("told", json(&told)?));
            self.plan.touched.push(id.clone());
        }
        Ok(())
    }

    /// Gives an incident a state by hand.
    pub(super) async fn resolve(
        &mut self,
        id: &IncidentId,
        resolution: &Resolution,
        told: Option<NotifiedState>,
    ) -> Result<(), StoreError> {
        let mut resolution = resolution.clone();
        if let Some(note) = &mut resolution.note {
            let end = note.floor_char_boundary(NOTE_BYTES_MAX);
            note.truncate(end);
        }
        let head = &mut self.load(id).await?.head;
        head.incident.state = resolution.state;
        head.resolution = Some(resolution);
        if let Some(told) = told {
            head.notified = told;
        }
        Ok(())
    }

    /// Marks these incidents as listed in a digest; deleted ones are ignored.
    pub(super) async fn digest(&mut self, ids: &[IncidentId]) -> Result<(), StoreError> {
        self.overlay.fetch(ids.iter().map(head_of)).await?;
        for id in ids {
            let Some(item) = self.overlay.get(&head_of(id)).await? else { continue };
            let mut head = HeadItem::read(&item)?;
            head.digested = true;
            self.overlay.put(head_of(id), moved(item).with("digested", 1));
            self.overlay.put(entry_key(head.last(), id), head.entry());
        }
        Ok(())
    }

    /// Takes an incident away with its findings; says how many there were.
    pub(super) async fn remove(&mut self, id: &IncidentId) -> Result<u64, StoreError> {
        self.load(id).await?;
        let items = self.overlay.collection(&incident_pk(id), "").await?;
        let mut findings: HashSet<String> = HashSet::new();
        for (key, item) in items {
            if key.sk == "H" {
                continue;
            }
            if !key.sk.starts_with("E#") {
                findings.insert(item.needs("k")?.to_owned());
            }
            self.overlay.delete(key);
        }
        let keys = findings.iter().map(|key| known_key(&FindingKey(key.clone())));
        self.overlay.fetch(keys).await?;
        for key in &findings {
            let of = FindingKey(key.clone());
            if let Some(known) = self.known(&of).await?
                && let Some(account) = &known.matched_account
            {
                self.overlay.delete(match_key(account, known.at, key));
            }
            self.overlay.delete(known_key(&of));
        }
        self.plan.findings -= findings.len() as i64;
        self.remove_head(id);
        Ok(findings.len() as u64)
    }

    /// Writes each incident that was touched, once, and gives the plan.
    pub(super) fn finish(mut self, deliveries: Vec<Delivery>) -> Result<Plan, StoreError> {
        let changed = micros(self.now);
        for (id, LoadedIncident { mut head, before }) in std::mem::take(&mut self.loaded) {
            head.revision += 1;
            head.changed = changed;
            let after = head.listed();
            match &before {
                Some(before) if before.last == after.last && before.entry == after.entry => {}
                _ => self.overlay.put(entry_key(after.last, &id), after.entry),
            }
            if let Some(before) = before.as_ref().filter(|before| before.last != after.last) {
                self.overlay.delete(entry_key(before.last, &id));
            }
            match (before.and_then(|before| before.unended), after.unended) {
                (before, Some(after)) if before.as_ref() != Some(&after) => {
                    self.overlay.put(unended_key(&id), after);
                }
                (Some(_), None) => self.overlay.delete(unended_key(&id)),
                _ => {}
            }
            self.overlay.put(head_of(&id), head.item()?);
            self.plan.touched.push(id);
        }
        self.plan.touched.sort();
        self.plan.touched.dedup();
        self.plan.read = self.overlay.read_of(keys_of(&deliveries));
        self.plan.ops = self.overlay.ops();
        self.plan.moves = !self.plan.ops.is_empty();
        self.plan.deliveries = deliveries;
        Ok(self.plan)
    }
}

/// The incident that a change takes from or gives to.
fn named(change: &Change) -> Option<&IncidentId> {
    match change {
        Change::Opened(incident) => Some(&incident.id),
        Change::Grew(growth) => Some(&growth.id),
        Change::Joined { from, .. } => Some(from),
        _ => None,
    }
}
