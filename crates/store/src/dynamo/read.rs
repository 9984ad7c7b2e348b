//! Reads for decisions and for lists.
//!
//! Reads for a decision start after the head without a pending commit. If another commit happens in
//! between, they may mix both; but then the decision, which names the first generation, is refused, and
//! what the second commit touched is read again.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use rootwatch_core::finding::{Finding, FindingKey, Severity};
use rootwatch_core::incident::{Incident, IncidentId, RedundantCount, by_time};

use super::DynamoStore;
use super::item::{Item, Key, LIST_SK, name, sorted, unsorted};
use super::layout::{
    ENTRY_ACCOUNTS_MAX, HeadItem, MATCHES, head_of, incident_pk, is_unended, known_key, past_pk,
};
use super::table::{Ask, BEGIN, END, Range, at_once};
use crate::rows::{self, Cursor, List, NO_TIME, items, micros, page_of, time, time_or_none};
use crate::{
    FindingFilter, IncidentFilter, LookBack, Page, PageRequest, Stats, StoreError, StoredFinding,
    StoredIncident, Unverified,
};

/// Attempts of a read while others commit.
const READ_TRIES_MAX: usize = 8;
/// Entries of a list to read at once if the filter may exclude most.
const LIST_SLICE: usize = 200;

fn stored(head: HeadItem) -> Result<StoredIncident, StoreError> {
    Ok(StoredIncident {
        incident: head.incident,
        revision: head.revision,
        notified: head.notified,
        findings_total: u64::try_from(head.total).unwrap_or_default(),
        by: head.resolution,
        changed_at: time(head.changed)?,
    })
}

/// An entry in the list of all incidents.
struct Entry {
    id: IncidentId,
    last: i64,
    item: Item,
}

impl Entry {
    fn read(key: &Key, item: Item) -> Result<Self, StoreError> {
        let id = IncidentId(item.needs("id")?.to_owned());
        Ok(Self { id, last: unsorted(&key.sk)?, item })
    }

    /// True if the entry matches the filter. An entry of an incident with many accounts does not list
    /// them and matches.
    fn fits(&self, filter: &IncidentFilter) -> bool {
        let text = |name: &str| self.item.text(name).unwrap_or_default();
        let number = |name: &str| self.item.number(name).unwrap_or_default();
        let any = |wanted: &mut dyn Iterator<Item = &'static str>, has: &str| {
            let mut wanted = wanted.peekable();
            wanted.peek().is_none() || wanted.any(|one| one == has)
        };
        let account = |wanted: &String| {
            let accounts = self.item.texts("accounts");
            accounts.is_none_or(|accounts| accounts.contains(wanted))
        };
        any(&mut filter.states.iter().map(|state| rows::state(*state)), text("state"))
            && any(&mut filter.kinds.iter().map(|kind| rows::kind(*kind)), text("kind"))
            && filter.min_severity.is_none_or(|least| number("sev") >= least as i64)
            && filter.account.as_ref().is_none_or(account)
            && filter.since.is_none_or(|since| self.last >= micros(since))
            && filter.until.is_none_or(|until| number("first") < micros(until))
            && (!filter.undigested || (number("sev") == 0 && number("digested") == 0))
    }
}

impl DynamoStore {
    pub(super) async fn known_of(
        &self,
        keys: &[FindingKey],
    ) -> Result<HashSet<FindingKey>, StoreError> {
        let wanted: Vec<Key> = keys.iter().map(known_key).collect();
        let found = self.table.get(&wanted).await?;
        let known = keys.iter().filter(|key| found.contains_key(&known_key(key)));
        Ok(known.cloned().collect())
    }

    pub(super) async fn within(
        &self,
        from: Timestamp,
        to: Timestamp,
        unended: bool,
    ) -> Result<Vec<StoredIncident>, StoreError> {
        let mut wanted: HashSet<IncidentId> = HashSet::new();
        // An empty span needs no read.
        if from < Timestamp::MAX {
            let range = Range { from: sorted(micros(from)), ..Range::all("IT") };
            for (_, item) in self.table.range(range).await? {
                if item.number("first").is_some_and(|first| first <= micros(to)) {
                    wanted.insert(IncidentId(item.needs("id")?.to_owned()));
                }
            }
        }
        if unended {
            for (_, item) in self.table.range(Range::all("U")).await? {
                wanted.insert(IncidentId(item.needs("id")?.to_owned()));
            }
        }
        let wanted: Vec<IncidentId> = wanted.into_iter().collect();
        let mut all = self.load_all(&wanted).await?;
        all.retain(|one| {
            let incident = &one.incident;
            let overlaps = incident.last_at.is_some_and(|last| last >= from)
                && incident.first_at.is_some_and(|first| first <= to);
            overlaps || (unended && is_unended(incident.state))
        });
        all.sort_by(|one, other| one.incident.id.cmp(&other.incident.id));
        Ok(all)
    }

    pub(super) async fn named(
        &self,
        ids: &[IncidentId],
    ) -> Result<Vec<StoredIncident>, StoreError> {
        self.load_all(ids).await
    }

    /// Incidents for correlation: redundant findings are counted, not listed. Deleted incidents are left
    /// out.
    async fn load_all(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError> {
        let mut asks: Vec<Ask<'_, Option<StoredIncident>>> = Vec::new();
        let mut asked = HashSet::new();
        for id in ids.iter().filter(|id| asked.insert(*id)) {
            asks.push(Box::pin(self.load(id)));
        }
        let all = at_once(asks).await?;
        Ok(all.into_iter().flatten().collect())
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<StoredIncident>, StoreError> {
        let pk = incident_pk(id);
        // Redundant findings have the last sort keys.
        let range = Range { to: "W".to_owned(), ..Range::all(&pk) };
        let mut found: Option<StoredIncident> = None;
        let (mut findings, mut superseded) = (Vec::new(), Vec::new());
        let mut echoes = BTreeMap::new();
        for (key, item) in self.table.range(range).await? {
            match key.sk.as_bytes().first() {
                Some(b'E') => {
                    let count = u64::try_from(item.counts("n")?).unwrap_or_default();
                    let last_at = time_or_none(item.counts("last")?);
                    let of = FindingKey(item.needs("k")?.to_owned());
                    echoes.insert(of, RedundantCount { count, last_at });
                }
                Some(b'F') => findings.push(item.body::<Finding>("a finding")?),
                Some(b'O') => superseded.push(item.body::<Finding>("a finding")?),
                _ => found = Some(stored(HeadItem::read(&item)?)?),
            }
        }
        let Some(mut stored) = found else { return Ok(None) };
        findings.sort_by(by_time);
        superseded.sort_by(|one, other| one.key.cmp(&other.key));
        stored.incident.findings = findings;
        stored.incident.superseded = superseded;
        stored.incident.echoes = echoes;
        Ok(Some(stored))
    }

    pub(super) async fn one_incident(
        &self,
        id: &IncidentId,
        findings_max: usize,
    ) -> Result<StoredIncident, StoreError> {
        let mut before = self.committed_head().await?.generation;
        for _ in 0..READ_TRIES_MAX {
            let answer = self.read_incident(id, findings_max).await;
            let after = self.committed_head().await?.generation;
            if after == before {
                return answer;
            }
            // Part of it may belong to another commit.
            before = after;
        }
        Err(self.busy())
    }

    async fn read_incident(
        &self,
        id: &IncidentId,
        findings_max: usize,
    ) -> Result<StoredIncident, StoreError> {
        let missing = || StoreError::NotFound { what: "incident", name: id.0.clone() };
        let item = self.table.get_one(&head_of(id)).await?.ok_or_else(missing)?;
        let mut stored = stored(HeadItem::read(&item)?)?;
        let incident = &mut stored.incident;
        let pk = incident_pk(id);
        // Findings without a time come last.
        let timed = (sorted(NO_TIME + 1), END.to_owned());
        let timeless = (BEGIN.to_owned(), format!("{}{END}", sorted(NO_TIME)));
        for (from, to) in [timed, timeless] {
            let room = findings_max - incident.findings.len();
            if room == 0 {
                break;
            }
            let mut some = self.shown(&pk, &from, &to, false, room).await?;
            some.truncate(room);
            for (_, item) in some {
                incident.findings.push(item.body("a finding")?);
            }
        }
        incident.findings.sort_by(by_time);
        Ok(stored)
    }

    /// What an incident shows between two places in time, echoes included, in order: each with its
    /// place.
    async fn shown(
        &self,
        pk: &str,
        from: &str,
        to: &str,
        newest_first: bool,
        max: usize,
    ) -> Result<Vec<(String, Item)>, StoreError> {
        let mut all: Vec<(String, Item)> = Vec::new();
        for letter in ["F#", "X#"] {
            let range = Range {
                from: format!("{letter}{from}"),
                to: format!("{letter}{to}"),
                before_to: true,
                newest_first,
                ..Range::all(pk).first(max)
            };
            let found = self.table.range(range).await?;
            all.extend(found.into_iter().map(|(key, item)| (key.sk[2..].to_owned(), item)));
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        if newest_first {
            all.reverse();
        }
        all.truncate(max);
        Ok(all)
    }

    pub(super) async fn look_back_of(
        &self,
        matches_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<LookBack, StoreError> {
        let accounts: Vec<String> = match accounts {
            Some(accounts) => {
                accounts.iter().collect::<HashSet<_>>().into_iter().cloned().collect()
            }
            None => {
                let found = self.table.range(Range::all("AA")).await?;
                let names = found.iter().map(|(_, item)| item.needs("v").map(str::to_owned));
                names.collect::<Result<_, _>>()?
            }
        };
        let mut asks: Vec<Ask<'_, (&String, Vec<(Key, Item)>)>> = Vec::new();
        for account in &accounts {
            asks.push(Box::pin(async move {
                let pk = past_pk(account);
                // Matches come first, then addresses and keys.
                let from = format!("{MATCHES}{}", sorted(micros(matches_since)));
                let found = self.table.range(Range { from, ..Range::all(&pk) }).await?;
                Ok((account, found))
            }));
        }
        let mut past = LookBack::default();
        for (account, found) in at_once(asks).await? {
            for (key, item) in found {
                if key.sk.starts_with(MATCHES) {
                    let at = time(item.counts("at")?)?;
                    for rule in item.texts("rules").unwrap_or_default() {
                        past.matches.push((account.clone(), rule.clone(), at));
                    }
                    continue;
                }
                let pair = (account.clone(), item.needs("v")?.to_owned());
                if item.text("of") == Some("key") {
                    past.keys.push(pair);
                } else {
                    past.addresses.push(pair);
                }
            }
        }
        Ok(past)
    }

    pub(super) async fn list_incidents(
        &self,
        filter: &IncidentFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredIncident>, StoreError> {
        let mut to = END.to_owned();
        if let Some(after) = &page.after {
            let cursor = Cursor::read(List::Incidents, after)?;
            to = format!("{}#{}", sorted(cursor.number), name(&cursor.name));
        }
        let from = filter.since.map_or(BEGIN.to_owned(), |since| sorted(micros(since)));
        self.committed_head().await?;
        let items_max = items(page);
        let mut all: Vec<(i64, StoredIncident)> = Vec::new();
        while all.len() <= items_max {
            let range = Range {
                from: from.clone(),
                to: to.clone(),
                before_to: true,
                newest_first: true,
                ..Range::all("IT").first(LIST_SLICE)
            };
            let found = self.table.range(range).await?;
            let Some((last, _)) = found.last() else { break };
            to.clone_from(&last.sk);
            let is_end = found.len() < LIST_SLICE;
            let mut entries = Vec::new();
            for (key, item) in found {
                let entry = Entry::read(&key, item)?;
                if entry.fits(filter) {
                    entries.push(entry);
                }
            }
            let room = items_max + 1 - all.len();
            // Of those that the entry is sure about, no more than are shown.
            if filter.account.is_none() {
                entries.truncate(room);
            }
            let keys: Vec<Key> = entries.iter().map(|entry| head_of(&entry.id)).collect();
            let mut heads = self.table.get(&keys).await?;
            for entry in entries {
                let Some(item) = heads.remove(&head_of(&entry.id)) else { continue };
                let head = HeadItem::read(&item)?;
                let accounts = &head.incident.accounts;
                let concerns = |account: &String| {
                    accounts.len() <= ENTRY_ACCOUNTS_MAX || accounts.contains(account)
                };
                if filter.account.as_ref().is_none_or(concerns) {
                    all.push((entry.last, stored(head)?));
                }
            }
            if is_end {
                break;
            }
        }
        Ok(page_of(List::Incidents, all, items_max, |stored| stored.incident.id.0.clone()))
    }

    pub(super) async fn list_findings(
        &self,
        filter: &FindingFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredFinding>, StoreError> {
        let mut to = END.to_owned();
        if let Some(until) = filter.until {
            to = sorted(micros(until));
        }
        if let Some(after) = &page.after {
            let cursor = Cursor::read(List::Findings, after)?;
            to = to.min(format!("{}#{}", sorted(cursor.number), name(&cursor.name)));
        }
        let from = filter.since.map_or(BEGIN.to_owned(), |since| sorted(micros(since)));
        self.committed_head().await?;
        let items_max = items(page);
        let slice = if is_narrow(filter) { LIST_SLICE } else { items_max + 1 };
        let mut all: Vec<(i64, StoredFinding)> = Vec::new();
        while all.len() <= items_max {
            let (found, next) = self.slice(filter, &from, &to, slice).await?;
            for (place, key, item) in found {
                let finding: Finding = item.body("a finding")?;
                if fits(&finding, filter) {
                    let incident = self.incident_of(&key, &finding.key).await?;
                    let received_at = time(item.counts("r")?)?;
                    let at = unsorted(&place)?;
                    all.push((at, StoredFinding { finding, incident, received_at }));
                }
            }
            match next {
                Some(next) => to = next,
                None => break,
            }
        }
        Ok(page_of(List::Findings, all, items_max, |stored| stored.finding.key.0.clone()))
    }

    /// Findings of an incident, or of all, by their places in time, newest first; and the last place
    /// when there may be more.
    async fn slice(
        &self,
        filter: &FindingFilter,
        from: &str,
        to: &str,
        max: usize,
    ) -> Result<(Vec<(String, Key, Item)>, Option<String>), StoreError> {
        if let Some(id) = &filter.incident {
            let key = Key::new(incident_pk(id), "");
            let found = self.shown(&key.pk, from, to, true, max).await?;
            let next = found.last().filter(|_| found.len() == max).map(|(place, _)| place.clone());
            let all = found.into_iter().map(|(place, item)| (place, key.clone(), item)).collect();
            return Ok((all, next));
        }
        let range = Range {
            from: from.to_owned(),
            to: to.to_owned(),
            before_to: true,
            newest_first: true,
            of_list: true,
            ..Range::all("F").first(max)
        };
        let entries = self.table.range(range).await?;
        let last = entries.last().filter(|_| entries.len() == max);
        let next = last.map(|(_, entry)| entry.needs(LIST_SK).map(str::to_owned)).transpose()?;
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let mut found = self.table.get(&keys).await?;
        let mut all = Vec::new();
        for (key, entry) in entries {
            // A finding that moved meanwhile is in the list again under its new key.
            if let Some(item) = found.remove(&key) {
                all.push((entry.needs(LIST_SK)?.to_owned(), key, item));
            }
        }
        Ok((all, next))
    }

    /// The incident in whose collection a finding is.
    async fn incident_of(&self, key: &Key, of: &FindingKey) -> Result<IncidentId, StoreError> {
        match key.pk.strip_prefix("I#") {
            // A short name is written out.
            Some(id) if !id.contains('#') => Ok(IncidentId(id.to_owned())),
            _ => {
                let known = self.table.get_one(&known_key(of)).await?.unwrap_or_default();
                Ok(IncidentId(known.needs("i")?.to_owned()))
            }
        }
    }

    pub(super) async fn list_unverified(
        &self,
        page: &PageRequest,
    ) -> Result<Page<Unverified>, StoreError> {
        let mut to = END.to_owned();
        if let Some(after) = &page.after {
            let cursor = Cursor::read(List::Unverified, after)?;
            to = format!("{}#{}", sorted(cursor.number), name(&cursor.name));
        }
        self.committed_head().await?;
        let items_max = items(page);
        let range = Range {
            to,
            before_to: true,
            newest_first: true,
            of_list: true,
            ..Range::all("V").first(items_max + 1)
        };
        let entries = self.table.range(range).await?;
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let mut found = self.table.get(&keys).await?;
        let mut all: Vec<(i64, Unverified)> = Vec::new();
        for (key, entry) in entries {
            if let Some(item) = found.remove(&key) {
                let at = unsorted(entry.needs(LIST_SK)?)?;
                all.push((at, item.body("an unverified record")?));
            }
        }
        Ok(page_of(List::Unverified, all, items_max, |one| one.key.0.clone()))
    }

    pub(super) async fn stats_now(&self) -> Result<Stats, StoreError> {
        let head = self.committed_head().await?;
        let mut open_incidents = BTreeMap::new();
        for (_, item) in self.table.range(Range::all("U")).await? {
            let number = item.counts("sev")?;
            let severity = Severity::ALL.into_iter().find(|one| *one as i64 == number);
            *open_incidents.entry(severity.unwrap_or_default()).or_default() += 1;
        }
        Ok(Stats {
            open_incidents,
            deliveries: self.delivery_counts().await?,
            oldest_due: self.oldest_due().await?,
            findings: u64::try_from(head.findings).unwrap_or_default(),
            unverified: u64::try_from(head.unverified).unwrap_or_default(),
        })
    }

    pub(super) async fn positions_of(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, String)>, StoreError> {
        // A long name is cut in its key: what is asked for may be cut away.
        let begin: String = prefix.chars().take(64).collect();
        let mut all = Vec::new();
        for (_, item) in self.table.range(Range::prefix("P", &format!("={begin}"))).await? {
            let name = item.needs("name")?;
            if name.starts_with(prefix) {
                all.push((name.to_owned(), item.needs("mark")?.to_owned()));
            }
        }
        all.sort();
        Ok(all)
    }
}

/// True if the filter may exclude most findings (by account, class, severity or rule).
fn is_narrow(filter: &FindingFilter) -> bool {
    filter.account.is_some()
        || !filter.root_use.is_empty()
        || filter.min_severity.is_some()
        || filter.rule.is_some()
}

fn fits(finding: &Finding, filter: &FindingFilter) -> bool {
    filter.account.as_ref().is_none_or(|account| finding.account_id.as_ref() == Some(account))
        && (filter.root_use.is_empty() || filter.root_use.contains(&finding.root_use))
        && filter.min_severity.is_none_or(|least| finding.severity >= least)
        && filter.rule.as_ref().is_none_or(|rule| finding.rules.contains(rule))
}

/// True if the incident ended and nothing has changed since.
pub(super) fn is_over(incident: &Incident, changed: i64, before: Timestamp) -> bool {
    !is_unended(incident.state)
        && incident.last_at.is_none_or(|last| last < before)
        && changed < micros(before)
}
