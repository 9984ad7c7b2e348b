//! Plans the items of one finding: the finding, its redundant findings, and the history that rules refer
//! to.

use std::collections::HashSet;

use rootwatch_core::finding::is_client_address;
use rootwatch_core::finding::{Finding, FindingKey, Outcome, RootUse};
use rootwatch_core::incident::IncidentId;

use super::super::item::{Item, Key, LIST_PK, LIST_SK, name, sorted, unsorted};
use super::super::layout::{
    KnownFinding, account_key, echoes_key, incident_pk, known_key, match_key, original_key, past_pk,
};
use super::super::overlay::moved;
use super::Planner;
use crate::StoreError;
use crate::rows::{NO_TIME, micros, micros_or_none};

impl Planner<'_> {
    pub(super) async fn known(
        &mut self,
        key: &FindingKey,
    ) -> Result<Option<KnownFinding>, StoreError> {
        let item = self.overlay.get(&known_key(key)).await?;
        item.map(|item| KnownFinding::read(&item)).transpose()
    }

    /// Writes a finding. The redundant findings of one that moves from another incident move with it.
    pub(super) async fn put(
        &mut self,
        id: &IncidentId,
        finding: &Finding,
        shown: Option<&Finding>,
        original: Option<&Finding>,
        redundant_to: Option<&FindingKey>,
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
        let letter = match (shown, redundant_to) {
            (None, _) => "O",
            (Some(_), None) => "F",
            (Some(_), Some(_)) => "X",
        };
        let account = finding.account_id.clone().unwrap_or_default();
        let at = micros_or_none(finding.event_time);
        let speaks = !finding.rules.is_empty() && at != NO_TIME;
        let after = KnownFinding {
            incident: id.clone(),
            at,
            letter: letter.to_owned(),
            redundant_to: redundant_to.map(|key| key.0.clone()),
            has_original: original.is_some(),
            received: before.as_ref().map_or(micros(received), |known| known.received),
            matched_account: speaks.then(|| account.clone()),
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
            let item = match redundant_to {
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
            self.overlay.put(match_key(&account, at, &key.0), item);
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
                match redundant_to {
                    Some(echoed) => self.count_echo(id, &echoed.0, at).await,
                    None => Ok(()),
                }
            }
            Some(known) => {
                let was_shown = i64::from(known.is_shown());
                let was_original = i64::from(known.has_original);
                let is_moved = known.incident != *id;
                if known.redundant_to != after.redundant_to || is_moved {
                    for echoed in known.redundant_to.iter().chain(&after.redundant_to) {
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
                // The other incident may have been deleted.
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

    /// Deletes the items of a finding, except the one that marks it as known.
    fn take(&mut self, known: &KnownFinding, key: &str) {
        if known.is_shown() {
            self.overlay.delete(known.shown_key(key));
        }
        if known.has_original {
            self.overlay.delete(original_key(&known.incident, key));
        }
        if let Some(account) = &known.matched_account {
            self.overlay.delete(match_key(account, known.at, key));
        }
    }

    /// Counts one more redundant finding; there may be thousands.
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

    /// Counts the redundant findings of a finding from their items.
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
            last = last.max(unsorted(&key.sk[2..])?);
        }
        let item = Item::default().with("k", echoed).with("n", count).with("last", last);
        self.overlay.put(echoes_key(id, echoed), item);
        Ok(())
    }

    /// Moves the redundant findings of a finding with it; returns how many there are.
    async fn carry_echoes(
        &mut self,
        from: &IncidentId,
        to: &IncidentId,
        echoed: &str,
    ) -> Result<i64, StoreError> {
        // Usually all findings of an incident move together.
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

    /// A hidden finding keeps its original, whatever the batch says: nothing else is left of it.
    pub(super) async fn put_original(
        &mut self,
        mut known: KnownFinding,
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
            Ok(loaded) => loaded.head.originals += by,
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Findings that their incident classifies differently from the finding on its own.
    pub(super) async fn with_original(
        &mut self,
        id: &IncidentId,
    ) -> Result<HashSet<FindingKey>, StoreError> {
        if self.load(id).await?.head.originals == 0 {
            return Ok(HashSet::new());
        }
        let found = self.overlay.collection(&incident_pk(id), "O#").await?;
        found.iter().map(|(_, item)| Ok(FindingKey(item.needs("k")?.to_owned()))).collect()
    }

    /// The keys of the history that rules refer to: see [`crate::LookBack`].
    pub(super) fn past_keys(&self, finding: &Finding) -> Vec<Key> {
        let account = finding.account_id.as_deref().unwrap_or_default();
        let pk = past_pk(account);
        let mut keys = Vec::new();
        if let Some(key) = &finding.access_key_id {
            keys.push(Key::new(&pk, format!("K#{}", name(key))));
        }
        if let Some(address) = successful_address(finding) {
            keys.push(Key::new(&pk, format!("I#{}", name(address))));
        }
        if !keys.is_empty() || !finding.rules.is_empty() {
            keys.push(account_key(account));
        }
        keys.retain(|key| !self.store.knows_key(key));
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
            self.plan.known_keys.push(key);
        }
    }
}

/// The address of a successful call by the root user.
fn successful_address(finding: &Finding) -> Option<&str> {
    let came = finding.root_use == RootUse::Direct && finding.outcome == Outcome::Success;
    finding.source_ip.as_deref().filter(|ip| came && is_client_address(ip))
}
