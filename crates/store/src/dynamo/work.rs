//! One batch becomes items. What each change means is what it means in [`crate::sqlite`].

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::alert::Told;
use rootwatch_core::correlate::{Change, Growth};
use rootwatch_core::detect::is_client_address;
use rootwatch_core::finding::{Finding, FindingKey, Outcome, RootUse};
use rootwatch_core::incident::{Incident, IncidentId, IncidentState};

use super::DynamoStore;
use super::head::Plan;
use super::item::{Item, Key, LIST_PK, LIST_SK, name, sorted};
use super::overlay::{Overlay, moved};
use crate::rows::{self, NO_TIME, from_json, head, json, micros, micros_or_none};
use crate::{Batch, Handled, NOTE_BYTES_MAX, StoreError};

/// Accounts that the entry of an incident in time names; of one with more the incident is asked.
pub(super) const ENTRY_ACCOUNTS_MAX: usize = 20;

/// The collection of an incident: `E` counts of echoes, `F` findings, `H` the incident itself, `O`
/// findings as they stood by themselves, `X` echoes.
pub(super) fn incident_pk(id: &IncidentId) -> String {
    format!("I#{}", name(&id.0))
}

pub(super) fn head_of(id: &IncidentId) -> Key {
    Key::new(incident_pk(id), "H")
}

/// Names the incident of a finding.
pub(super) fn known_key(key: &FindingKey) -> Key {
    Key::new(format!("K#{}", name(&key.0)), "K")
}

pub(super) fn past_pk(account: &str) -> String {
    format!("A#{}", name(account))
}

/// The place in the list of all incidents, by their last moment.
pub(super) fn entry_key(last: i64, id: &IncidentId) -> Key {
    Key::new("IT", format!("{}#{}", sorted(last), name(&id.0)))
}

pub(super) fn unended_key(id: &IncidentId) -> Key {
    Key::new("U", format!("={}", name(&id.0)))
}

fn account_key(account: &str) -> Key {
    Key::new("AA", format!("={}", name(account)))
}

pub(super) fn position_key(position: &str) -> Key {
    Key::new("P", format!("={}", name(position)))
}

pub(super) fn unverified_key(key: &FindingKey) -> Key {
    Key::new(format!("V#{}", name(&key.0)), "V")
}

fn echoes_key(id: &IncidentId, echoed: &str) -> Key {
    Key::new(incident_pk(id), format!("E#{}", name(echoed)))
}

fn original_key(id: &IncidentId, key: &str) -> Key {
    Key::new(incident_pk(id), format!("O#{}", name(key)))
}

/// Where a finding is shown: `F`, or `X` for an echo.
fn shown_key(id: &IncidentId, letter: &str, at: i64, key: &str) -> Key {
    Key::new(incident_pk(id), format!("{letter}#{}#{}", sorted(at), name(key)))
}

pub(super) fn is_unended(state: IncidentState) -> bool {
    matches!(state, IncidentState::Open | IncidentState::Acknowledged)
}

/// The head item of an incident, opened up.
#[derive(Debug, Clone)]
pub(super) struct HeadItem {
    /// Without findings.
    pub(super) incident: Incident,
    pub(super) revision: u64,
    pub(super) told: Told,
    pub(super) handled: Option<Handled>,
    pub(super) total: i64,
    /// Findings as they stood by themselves that are kept.
    originals: i64,
    digested: bool,
    pub(super) changed: i64,
}

impl HeadItem {
    pub(super) fn read(item: &Item) -> Result<Self, StoreError> {
        let handled = item.text("handled");
        Ok(Self {
            incident: item.body("an incident")?,
            revision: item.counts("rev")? as u64,
            told: from_json("what was told", item.needs("told")?)?,
            handled: handled.map(|text| from_json("who handled it", text)).transpose()?,
            total: item.counts("total")?,
            originals: item.counts("originals")?,
            digested: item.counts("digested")? == 1,
            changed: item.counts("changed")?,
        })
    }

    fn item(&self) -> Result<Item, StoreError> {
        let mut item = Item::default()
            .with("rev", self.revision as i64)
            .with("told", json(&self.told)?)
            .with("total", self.total)
            .with("originals", self.originals)
            .with("digested", i64::from(self.digested))
            .with("changed", self.changed)
            .with_body(&self.incident)?;
        if let Some(handled) = &self.handled {
            item.set("handled", json(handled)?);
        }
        Ok(item)
    }

    /// What the list of all incidents says of it.
    fn entry(&self) -> Item {
        let incident = &self.incident;
        let mut item = Item::default()
            .with("id", incident.id.0.as_str())
            .with("first", micros_or_none(incident.first_at))
            .with("state", rows::state(incident.state))
            .with("kind", rows::kind(incident.kind))
            .with("sev", incident.severity as i64)
            .with("digested", i64::from(self.digested));
        if incident.accounts.len() <= ENTRY_ACCOUNTS_MAX {
            item.set("accounts", incident.accounts.clone());
        }
        item
    }

    /// What the list of those that have not ended says of it.
    fn unended(&self) -> Option<Item> {
        let item = Item::default()
            .with("id", self.incident.id.0.as_str())
            .with("sev", self.incident.severity as i64);
        is_unended(self.incident.state).then_some(item)
    }

    fn last(&self) -> i64 {
        micros_or_none(self.incident.last_at)
    }

    fn listed(&self) -> Listed {
        Listed { last: self.last(), entry: self.entry(), unended: self.unended() }
    }
}

/// An incident in a batch.
#[derive(Debug)]
struct Held {
    head: HeadItem,
    /// What the lists say of it; `None` for an incident that opens.
    before: Option<Listed>,
}

/// What the lists of incidents say of one.
#[derive(Debug)]
struct Listed {
    last: i64,
    entry: Item,
    unended: Option<Item>,
}

/// What is kept of a finding beside its content.
#[derive(Debug, Clone)]
struct Known {
    incident: IncidentId,
    at: i64,
    /// `F`, `X`, or `O` where a later record corrected it.
    letter: String,
    echo_of: Option<String>,
    has_original: bool,
    received: i64,
    /// The account under which rules that look back find it.
    spoken: Option<String>,
}

impl Known {
    fn read(item: &Item) -> Result<Self, StoreError> {
        Ok(Self {
            incident: IncidentId(item.needs("i")?.to_owned()),
            at: item.counts("at")?,
            letter: item.needs("l")?.to_owned(),
            echo_of: item.text("e").map(str::to_owned),
            has_original: item.number("o") == Some(1),
            received: item.counts("r")?,
            spoken: item.text("s").map(str::to_owned),
        })
    }

    fn item(&self) -> Item {
        let mut item = Item::default()
            .with("i", self.incident.0.as_str())
            .with("at", self.at)
            .with("l", self.letter.as_str())
            .with("r", self.received);
        if let Some(echoed) = &self.echo_of {
            item.set("e", echoed.as_str());
        }
        if self.has_original {
            item.set("o", 1);
        }
        if let Some(account) = &self.spoken {
            item.set("s", account.as_str());
        }
        item
    }

    fn is_shown(&self) -> bool {
        self.letter != "O"
    }

    fn shown_key(&self, key: &str) -> Key {
        shown_key(&self.incident, &self.letter, self.at, key)
    }
}

/// A batch on its way to a plan.
#[derive(Debug)]
pub(super) struct Work<'a> {
    store: &'a DynamoStore,
    overlay: Overlay<'a>,
    held: BTreeMap<IncidentId, Held>,
    received: &'a BTreeMap<FindingKey, Timestamp>,
    now: Timestamp,
    /// Incidents that the batch knows of: none other loses a finding to it.
    named: HashSet<IncidentId>,
    plan: Plan,
}

fn missing(id: &IncidentId) -> StoreError {
    StoreError::NotFound { what: "incident", name: id.0.clone() }
}

impl<'a> Work<'a> {
    pub(super) fn new(
        store: &'a DynamoStore,
        received: &'a BTreeMap<FindingKey, Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            store,
            overlay: Overlay::new(&store.table),
            held: BTreeMap::new(),
            received,
            now,
            named: HashSet::new(),
            plan: Plan::default(),
        }
    }

    /// What a batch comes to, on what the table is now.
    pub(super) async fn of_batch(
        store: &'a DynamoStore,
        batch: &'a Batch,
        now: Timestamp,
    ) -> Result<Plan, StoreError> {
        let mut work = Self::new(store, &batch.received, now);
        work.named = batch.changes.iter().filter_map(named).cloned().collect();
        work.prefetch(batch).await?;
        for (id, revision) in &batch.expected {
            let found = work.overlay.get(&head_of(id)).await?;
            let found = found.map(|item| item.counts("rev")).transpose()?;
            if found != Some(*revision as i64) {
                return Err(StoreError::Conflict { id: id.clone() });
            }
        }
        for change in &batch.changes {
            work.change(change).await.map_err(|error| match error {
                // Another writer let it join another, or pruned it.
                StoreError::NotFound { name, .. } => StoreError::Conflict { id: IncidentId(name) },
                error => error,
            })?;
        }
        for (id, told) in &batch.told {
            work.tell(id, *told).await?;
        }
        for one in &batch.unverified {
            let key = unverified_key(&one.key);
            if work.overlay.get(&key).await?.is_none() {
                let place = format!("{}#{}", sorted(micros(one.received_at)), name(&one.key.0));
                let item = Item::default()
                    .with("ttl", store.expiry(one.received_at))
                    .with(LIST_PK, "V")
                    .with(LIST_SK, place)
                    .with_body(one)?;
                work.overlay.put(key, item);
                work.plan.unverified += 1;
            }
        }
        for (name, mark) in &batch.positions {
            let item = Item::default().with("name", name.as_str()).with("mark", mark.as_str());
            work.overlay.put(position_key(name), item);
        }
        work.finish(batch.deliveries.clone())
    }

    /// Reads what the batch speaks of, at once.
    async fn prefetch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut keys: Vec<Key> = Vec::new();
        keys.extend(batch.expected.iter().map(|(id, _)| head_of(id)));
        keys.extend(batch.told.iter().map(|(id, _)| head_of(id)));
        keys.extend(batch.unverified.iter().map(|one| unverified_key(&one.key)));
        keys.extend(batch.positions.iter().map(|(name, _)| position_key(name)));
        for change in &batch.changes {
            let findings: Vec<&Finding> = match change {
                Change::Opened(incident) => {
                    keys.push(head_of(&incident.id));
                    incident.findings.iter().chain(&incident.superseded).collect()
                }
                Change::Grew(growth) => {
                    keys.push(head_of(&growth.id));
                    keys.extend(growth.echo_of.iter().map(|key| echoes_key(&growth.id, &key.0)));
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
            Change::Grew(growth) => match (&growth.echo_of, &growth.added[..]) {
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

    async fn load(&mut self, id: &IncidentId) -> Result<&mut Held, StoreError> {
        if !self.held.contains_key(id) {
            let Some(item) = self.overlay.get(&head_of(id)).await? else {
                return Err(missing(id));
            };
            let head = HeadItem::read(&item)?;
            let before = Some(head.listed());
            self.held.insert(id.clone(), Held { head, before });
        }
        self.held.get_mut(id).ok_or_else(|| missing(id))
    }

    async fn open(&mut self, incident: &Incident) -> Result<(), StoreError> {
        let id = &incident.id;
        if self.held.contains_key(id) || self.overlay.get(&head_of(id)).await?.is_some() {
            // Another writer opened it, or an old one that the hub does not remember has the
            // same short name.
            return Err(StoreError::Conflict { id: id.clone() });
        }
        let opened = HeadItem {
            incident: head(incident),
            revision: 0,
            told: Told::default(),
            handled: None,
            total: 0,
            originals: 0,
            digested: false,
            changed: 0,
        };
        self.held.insert(id.clone(), Held { head: opened, before: None });
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

    async fn grow(&mut self, growth: &Growth) -> Result<(), StoreError> {
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
        // Of what the incident judges otherwise from now on, or no more, only the difference.
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
            // Judged as it stood by itself again, unless it has gone elsewhere by now.
            if !written.contains(key)
                && !growth.removed.contains(key)
                && let Some(known) = self.known(key).await?
            {
                self.put_original(known, key, None).await?;
            }
        }
        let incident = &mut self.load(id).await?.head.incident;
        incident.kind = growth.kind;
        incident.state = growth.state;
        incident.severity = growth.severity;
        incident.title.clone_from(&growth.title);
        incident.accounts.clone_from(&growth.accounts);
        incident.root_use = growth.root_use;
        incident.reasons.clone_from(&growth.reasons);
        incident.first_at = growth.first_at;
        incident.last_at = growth.last_at;
        incident.addresses.clone_from(&growth.addresses);
        incident.related.clone_from(&growth.related);
        Ok(())
    }

    async fn echo(
        &mut self,
        growth: &Growth,
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
        if let Some(held) = self.held.remove(id)
            && let Some(before) = held.before
        {
            self.overlay.delete(head_of(id));
            self.overlay.delete(entry_key(before.last, id));
            if before.unended.is_some() {
                self.overlay.delete(unended_key(id));
            }
            self.plan.touched.push(id.clone());
        }
    }

    async fn known(&mut self, key: &FindingKey) -> Result<Option<Known>, StoreError> {
        let item = self.overlay.get(&known_key(key)).await?;
        item.map(|item| Known::read(&item)).transpose()
    }

    /// Writes a finding; one that comes from another incident brings its echoes.
    async fn put(
        &mut self,
        id: &IncidentId,
        finding: &Finding,
        shown: Option<&Finding>,
        original: Option<&Finding>,
        echo_of: Option<&FindingKey>,
    ) -> Result<(), StoreError> {
        let key = &finding.key;
        let before = self.known(key).await?;
        if let Some(known) = &before
            && known.incident != *id
            && !self.named.contains(&known.incident)
        {
            // Another writer saved this finding since.
            return Err(StoreError::Conflict { id: known.incident.clone() });
        }
        let received = self.received.get(key).copied().unwrap_or(self.now);
        let letter = match (shown, echo_of) {
            (None, _) => "O",
            (Some(_), None) => "F",
            (Some(_), Some(_)) => "X",
        };
        let account = finding.account_id.clone().unwrap_or_default();
        let at = micros_or_none(finding.event_time);
        let speaks = !finding.rules.is_empty() && at != NO_TIME;
        let after = Known {
            incident: id.clone(),
            at,
            letter: letter.to_owned(),
            echo_of: echo_of.map(|key| key.0.clone()),
            has_original: original.is_some(),
            received: before.as_ref().map_or(micros(received), |known| known.received),
            spoken: speaks.then(|| account.clone()),
        };
        if let Some(known) = &before {
            self.take(known, &key.0);
        }
        if let Some(shown) = shown {
            let item = Item::default()
                .with("k", key.0.as_str())
                .with("r", after.received)
                .with(LIST_PK, "F")
                .with(LIST_SK, format!("{}#{}", sorted(at), name(&key.0)))
                .with_body(shown)?;
            let item = match echo_of {
                Some(echoed) => item.with("e", echoed.0.as_str()),
                None => item,
            };
            self.overlay.put(after.shown_key(&key.0), item);
        }
        if let Some(original) = original {
            let item = Item::default().with("k", key.0.as_str()).with_body(original)?;
            self.overlay.put(original_key(id, &key.0), item);
        }
        if speaks {
            let item = Item::default().with("at", at).with("rules", finding.rules.clone());
            self.overlay.put(spoken_key(&account, at, &key.0), item);
        }
        self.overlay.put(known_key(key), after.item());
        self.remember(finding);

        let is_shown = i64::from(shown.is_some());
        let is_original = i64::from(original.is_some());
        match before {
            None => {
                self.plan.findings += 1;
                let head = &mut self.load(id).await?.head;
                head.total += is_shown;
                head.originals += is_original;
                match echo_of {
                    Some(echoed) => self.count_echo(id, &echoed.0, at).await,
                    None => Ok(()),
                }
            }
            Some(known) => {
                let was_shown = i64::from(known.is_shown());
                let was_original = i64::from(known.has_original);
                let is_moved = known.incident != *id;
                if known.echo_of != after.echo_of || is_moved {
                    for echoed in known.echo_of.iter().chain(&after.echo_of) {
                        self.recount_echoes(&known.incident, echoed).await?;
                        self.recount_echoes(id, echoed).await?;
                    }
                }
                if known.incident == *id {
                    let head = &mut self.load(id).await?.head;
                    head.total += is_shown - was_shown;
                    head.originals += is_original - was_original;
                    return Ok(());
                }
                let echoes = self.carry_echoes(&known.incident, id, &key.0).await?;
                let head = &mut self.load(id).await?.head;
                head.total += is_shown + echoes;
                head.originals += is_original;
                // The other one may be gone already.
                match self.load(&known.incident).await {
                    Ok(other) => {
                        other.head.total -= was_shown + echoes;
                        other.head.originals -= was_original;
                        Ok(())
                    }
                    Err(StoreError::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Takes the items of a finding away, but for what says that it is known.
    fn take(&mut self, known: &Known, key: &str) {
        if known.is_shown() {
            self.overlay.delete(known.shown_key(key));
        }
        if known.has_original {
            self.overlay.delete(original_key(&known.incident, key));
        }
        if let Some(account) = &known.spoken {
            self.overlay.delete(spoken_key(account, known.at, key));
        }
    }

    /// Counts one more echo; these come by the thousand.
    async fn count_echo(
        &mut self,
        id: &IncidentId,
        echoed: &str,
        at: i64,
    ) -> Result<(), StoreError> {
        let key = echoes_key(id, echoed);
        let before = self.overlay.get(&key).await?.unwrap_or_default();
        let count = before.number("n").unwrap_or_default() + 1;
        let last = before.number("last").unwrap_or(NO_TIME).max(at);
        let item = Item::default().with("k", echoed).with("n", count).with("last", last);
        self.overlay.put(key, item);
        Ok(())
    }

    /// Counts the echoes of a finding from what there is.
    async fn recount_echoes(&mut self, id: &IncidentId, echoed: &str) -> Result<(), StoreError> {
        let echoes = self.overlay.collection(&incident_pk(id), "X#").await?;
        let mut of = echoes.iter().filter(|(_, item)| item.text("e") == Some(echoed)).peekable();
        if of.peek().is_none() {
            self.overlay.delete(echoes_key(id, echoed));
            return Ok(());
        }
        let (mut count, mut last) = (0, NO_TIME);
        for (key, _) in of {
            count += 1;
            last = last.max(super::item::unsorted(&key.sk[2..])?);
        }
        let item = Item::default().with("k", echoed).with("n", count).with("last", last);
        self.overlay.put(echoes_key(id, echoed), item);
        Ok(())
    }

    /// Lets the echoes of a finding follow it; says how many there are.
    async fn carry_echoes(
        &mut self,
        from: &IncidentId,
        to: &IncidentId,
        echoed: &str,
    ) -> Result<i64, StoreError> {
        // Mostly all findings of an incident go on at once.
        self.overlay.load(&incident_pk(from), "E#").await?;
        let counted = echoes_key(from, echoed);
        let Some(counts) = self.overlay.get(&counted).await? else { return Ok(0) };
        let echoes = self.overlay.collection(&incident_pk(from), "X#").await?;
        let of = echoes.iter().filter(|(_, item)| item.text("e") == Some(echoed));
        let keys: Vec<Key> = of
            .filter_map(|(_, item)| item.text("k"))
            .map(|key| known_key(&FindingKey(key.to_owned())))
            .collect();
        self.overlay.fetch(keys).await?;
        let mut carried = 0;
        for (key, item) in echoes {
            if item.text("e") != Some(echoed) {
                continue;
            }
            let known = known_key(&FindingKey(item.needs("k")?.to_owned()));
            if let Some(of) = self.overlay.get(&known).await? {
                self.overlay.put(known, of.with("i", to.0.as_str()));
            }
            self.overlay.put(Key::new(incident_pk(to), key.sk.clone()), moved(item));
            self.overlay.delete(key);
            carried += 1;
        }
        self.overlay.put(echoes_key(to, echoed), counts);
        self.overlay.delete(counted);
        Ok(carried)
    }

    /// What is not shown keeps its original, whatever the batch says: nothing else is left of it.
    async fn put_original(
        &mut self,
        mut known: Known,
        key: &FindingKey,
        original: Option<&Finding>,
    ) -> Result<(), StoreError> {
        if original.is_none() && !known.is_shown() {
            return Ok(());
        }
        let place = original_key(&known.incident, &key.0);
        match original {
            Some(original) => {
                let item = Item::default().with("k", key.0.as_str()).with_body(original)?;
                self.overlay.put(place, item);
            }
            None => self.overlay.delete(place),
        }
        let by = i64::from(original.is_some()) - i64::from(known.has_original);
        known.has_original = original.is_some();
        self.overlay.put(known_key(key), known.item());
        match self.load(&known.incident).await {
            Ok(held) => held.head.originals += by,
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Findings of an incident that it judges otherwise than they stood by themselves.
    async fn with_original(&mut self, id: &IncidentId) -> Result<HashSet<FindingKey>, StoreError> {
        if self.load(id).await?.head.originals == 0 {
            return Ok(HashSet::new());
        }
        let found = self.overlay.collection(&incident_pk(id), "O#").await?;
        found.iter().map(|(_, item)| Ok(FindingKey(item.needs("k")?.to_owned()))).collect()
    }

    /// Where later records find what they are judged by: see [`crate::Past`].
    fn past_keys(&self, finding: &Finding) -> Vec<Key> {
        let account = finding.account_id.as_deref().unwrap_or_default();
        let pk = past_pk(account);
        let mut keys = Vec::new();
        if let Some(key) = &finding.access_key_id {
            keys.push(Key::new(&pk, format!("K#{}", name(key))));
        }
        if let Some(address) = came_through(finding) {
            keys.push(Key::new(&pk, format!("I#{}", name(address))));
        }
        if !keys.is_empty() || !finding.rules.is_empty() {
            keys.push(account_key(account));
        }
        keys.retain(|key| !self.store.knows(key));
        keys
    }

    fn remember(&mut self, finding: &Finding) {
        let account = finding.account_id.as_deref().unwrap_or_default();
        for key in self.past_keys(finding) {
            let (of, value) = match key.sk.as_bytes().first() {
                Some(b'K') => ("key", finding.access_key_id.as_deref()),
                Some(b'I') => ("address", finding.source_ip.as_deref()),
                _ => ("account", Some(account)),
            };
            let item = Item::default().with("of", of).with("v", value.unwrap_or_default());
            self.overlay.put(key.clone(), item);
            self.plan.learned.push(key);
        }
    }

    async fn tell(&mut self, id: &IncidentId, told: Told) -> Result<(), StoreError> {
        if let Some(held) = self.held.get_mut(id) {
            held.head.told = told;
        } else if let Some(item) = self.overlay.get(&head_of(id)).await? {
            self.overlay.put(head_of(id), moved(item).with("told", json(&told)?));
            self.plan.touched.push(id.clone());
        }
        Ok(())
    }

    /// Gives an incident a state by hand.
    pub(super) async fn handle(
        &mut self,
        id: &IncidentId,
        handled: &Handled,
        told: Option<Told>,
    ) -> Result<(), StoreError> {
        let mut handled = handled.clone();
        if let Some(note) = &mut handled.note {
            let end = note.floor_char_boundary(NOTE_BYTES_MAX);
            note.truncate(end);
        }
        let head = &mut self.load(id).await?.head;
        head.incident.state = handled.state;
        head.handled = Some(handled);
        if let Some(told) = told {
            head.told = told;
        }
        Ok(())
    }

    /// Notes that a digest listed these incidents; what is not there any more is no trouble.
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
                && let Some(account) = &known.spoken
            {
                self.overlay.delete(spoken_key(account, known.at, key));
            }
            self.overlay.delete(known_key(&of));
        }
        self.plan.findings -= findings.len() as i64;
        self.remove_head(id);
        Ok(findings.len() as u64)
    }

    /// Writes each incident that was touched, once, and gives the plan.
    pub(super) fn finish(
        mut self,
        deliveries: Vec<rootwatch_core::alert::Delivery>,
    ) -> Result<Plan, StoreError> {
        let changed = micros(self.now);
        for (id, Held { mut head, before }) in std::mem::take(&mut self.held) {
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

/// The address from which the root user came through.
fn came_through(finding: &Finding) -> Option<&str> {
    let came = finding.root_use == RootUse::Direct && finding.outcome == Outcome::Success;
    finding.source_ip.as_deref().filter(|ip| came && is_client_address(ip))
}

fn spoken_key(account: &str, at: i64, key: &str) -> Key {
    Key::new(past_pk(account), format!("S#{}#{}", sorted(at), name(key)))
}
