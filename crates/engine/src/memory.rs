//! What the engine keeps in memory: the incidents that may still grow, and what was told of them.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents};
use rootwatch_core::detect::History;
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::{Incident, IncidentId, IncidentKind, IncidentState};
use rootwatch_core::rules::Ruleset;
use rootwatch_store::{CaughtUp, Decisions, LookBack, Store, StoreError, StoredIncident};

use crate::settings::Settings;

/// How far before and after a late finding incidents are loaded: farther than any link reaches.
const NEIGHBOURHOOD: SignedDuration = SignedDuration::from_hours(48);
/// Findings of one incident that are remembered as not told yet.
const FRESH_MAX: usize = 1_000;
/// Findings that were loaded for late records, after which memory is tidied at once.
const LOADED_FINDINGS_MAX: usize = 100_000;
/// Incidents that others changed and that are read again one by one; beyond them, memory is read
/// anew.
const CHANGED_MAX: usize = 200;
/// Findings of an incident that is loaded whole.
const WHOLE_FINDINGS_MAX: usize = 1_000_000;
/// Begins the names of positions that hold how many alerts there were of an incident that joined
/// another: were one of its name to open again, its alerts would otherwise have the names of
/// earlier ones, and be taken for repeats.
const GONE: &str = "told:";

/// What is kept beside an incident.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The store's revision.
    pub(crate) revision: u64,
    /// What was told.
    pub(crate) told: NotifiedState,
    /// Who acknowledged or resolved it.
    pub(crate) by: Option<String>,
    /// Findings since the last alert. After a restart nothing counts as fresh.
    pub(crate) fresh: HashSet<FindingKey>,
    /// When it was last part of a batch.
    pub(crate) touched_at: Timestamp,
}

/// Everything that the engine knows without asking the store.
///
/// An engine that has its store for itself loads the last days once and follows its own changes. One
/// that shares it with others loads what a batch needs: incidents around the times of its findings,
/// the past of their accounts, and, when time asks for it, whatever has not ended. Before each batch
/// it asks what the others committed, and reads that again.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) open: OpenIncidents,
    pub(crate) history: History,
    pub(crate) beside: HashMap<IncidentId, Beside>,
    /// Incidents to load although nothing else asks for them: their names are taken.
    pub(crate) wanted: HashSet<IncidentId>,
    /// How many alerts there were of incidents that joined others.
    pub(crate) gone: HashMap<IncidentId, u32>,
    /// Incidents with findings since then are all here.
    complete_since: Timestamp,
    /// So are those with findings of these spans.
    loaded: Vec<(Timestamp, Timestamp)>,
    loaded_findings: usize,
    keep: SignedDuration,
    /// The generation of a store that others decide over, too; `None` when this engine is alone.
    pub(crate) generation: Option<u64>,
    /// Whether all that has not ended is here. Of a shared store it is loaded when time asks for it,
    /// so that a process that has just begun need not read what does not concern it.
    has_unended: bool,
    /// True when nothing was decided since this was loaded: what came after its generation is found out
    /// when something is saved, and need not be asked for before.
    pub(crate) is_new: bool,
    /// True when a batch of our own was saved on that generation: the next commit is ours.
    pub(crate) has_committed: bool,
    /// Incidents that a batch which is not saved yet has changed here.
    pub(crate) unsaved: Vec<IncidentId>,
    /// Accounts whose past is in `history`; of a store that is not shared, all are.
    pasts: HashSet<String>,
    /// When the last digest was told, once that is known.
    pub(crate) digested_at: Option<Timestamp>,
}

impl Memory {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut policy = CorrelatePolicy::default();
        policy.quiet_after_secs = i64::from(settings.quiet_after_secs);
        Self {
            open: OpenIncidents::new(policy),
            history: History::of_store(),
            beside: HashMap::new(),
            wanted: HashSet::new(),
            gone: HashMap::new(),
            complete_since: Timestamp::MAX,
            loaded: Vec::new(),
            loaded_findings: 0,
            keep: SignedDuration::from_hours(24 * i64::from(settings.memory_days.max(1)))
                + NEIGHBOURHOOD,
            generation: None,
            has_unended: false,
            is_new: false,
            has_committed: false,
            unsaved: Vec::new(),
            pasts: HashSet::new(),
            digested_at: None,
        }
    }

    /// Reads what has to be known from the store.
    pub(crate) async fn load(
        &mut self,
        store: &dyn Store,
        rules: &Ruleset,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.generation = match store.catch_up(None).await? {
            CaughtUp::Moved { generation, .. } | CaughtUp::Anew { generation } => Some(generation),
            _ => None,
        };
        let is_shared = self.generation.is_some();
        self.has_unended = !is_shared;
        self.is_new = is_shared;
        let since = if is_shared { Timestamp::MAX } else { earlier(now, self.keep) };
        let incidents = if is_shared {
            Vec::new()
        } else {
            store.incidents_within(since, Timestamp::MAX, true).await?
        };
        let mut whole = Vec::with_capacity(incidents.len());
        for stored in incidents {
            self.beside.insert(stored.incident.id.clone(), beside(&stored));
            whole.push(stored.incident);
        }
        self.open = OpenIncidents::from_incidents(self.open.policy().clone(), whole);
        self.complete_since = since;
        self.loaded.clear();
        self.loaded_findings = 0;
        for id in &self.wanted {
            if self.open.get(id).is_some() {
                continue;
            }
            match store.incident(id, WHOLE_FINDINGS_MAX).await {
                Ok(stored) => {
                    self.beside.insert(id.clone(), beside(&stored));
                    self.open.insert(stored.incident);
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if is_shared {
            return Ok(());
        }
        self.load_gone(store, GONE).await?;
        let past = store.look_back(earlier(now, rules.look_back().max(self.keep)), None).await?;
        self.note_past(&past);
        Ok(())
    }

    /// Sees to it that all that has not ended is in memory.
    pub(crate) async fn load_unended(&mut self, store: &dyn Decisions) -> Result<(), StoreError> {
        if self.has_unended {
            return Ok(());
        }
        // A span in which nothing is.
        for stored in store.incidents_within(Timestamp::MAX, Timestamp::MAX, true).await? {
            if self.open.get(&stored.incident.id).is_none() {
                self.beside.insert(stored.incident.id.clone(), beside(&stored));
                self.open.insert(stored.incident);
            }
        }
        self.has_unended = true;
        Ok(())
    }

    async fn load_gone(&mut self, store: &dyn Decisions, prefix: &str) -> Result<(), StoreError> {
        for (name, count) in store.positions(prefix).await? {
            if let (Some(id), Ok(count)) = (name.strip_prefix(GONE), count.parse()) {
                self.gone.insert(IncidentId(id.to_owned()), count);
            }
        }
        Ok(())
    }

    fn note_past(&mut self, past: &LookBack) {
        for (account, key) in &past.keys {
            self.history.note_key(account, key);
        }
        for (account, address) in &past.addresses {
            self.history.note_address(account, address);
        }
        for (account, rule, at) in &past.matches {
            self.history.note_match(account, rule, *at);
        }
    }

    /// Sees to it that the past of these accounts is known.
    pub(crate) async fn look_back(
        &mut self,
        store: &dyn Decisions,
        rules: &Ruleset,
        now: Timestamp,
        accounts: impl Iterator<Item = &str>,
    ) -> Result<(), StoreError> {
        if self.generation.is_none() {
            return Ok(());
        }
        let mut fresh: Vec<String> =
            accounts.filter(|one| !self.pasts.contains(*one)).map(str::to_owned).collect();
        fresh.sort_unstable();
        fresh.dedup();
        if fresh.is_empty() {
            return Ok(());
        }
        let since = earlier(now, rules.look_back().max(self.keep));
        let past = store.look_back(since, Some(&fresh)).await?;
        self.note_past(&past);
        self.pasts.extend(fresh);
        Ok(())
    }

    /// Sees to it that the numbers of alerts go on where incidents of these names ended.
    pub(crate) async fn recall_names(
        &mut self,
        store: &dyn Decisions,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        if self.generation.is_none() {
            return Ok(());
        }
        for change in changes {
            let Change::Opened(incident) = change else { continue };
            if !self.gone.contains_key(&incident.id) {
                self.load_gone(store, &format!("{GONE}{}", incident.id)).await?;
            }
        }
        Ok(())
    }

    /// Fails when others that share the store committed since memory was brought in step: a commit
    /// finds that out by itself, a decision to save nothing does not.
    pub(crate) async fn is_last(&self, store: &dyn Decisions) -> Result<(), StoreError> {
        let Some(generation) = self.generation else { return Ok(()) };
        match store.catch_up(Some(generation)).await? {
            CaughtUp::Moved { generation: now, .. } if now == generation => Ok(()),
            _ => Err(StoreError::Overtaken),
        }
    }

    /// Brings memory in step with a shared store after others committed, or after a batch of our own
    /// was not taken. Says whether that was possible; if not, all is to be loaded anew.
    pub(crate) async fn catch_up(&mut self, store: &dyn Decisions) -> Result<bool, StoreError> {
        let Some(before) = self.generation else { return Ok(true) };
        if std::mem::take(&mut self.is_new) {
            return Ok(true);
        }
        let CaughtUp::Moved { generation, incidents } = store.catch_up(Some(before)).await? else {
            return Ok(false);
        };
        let is_ours = std::mem::take(&mut self.has_committed) && generation == before + 1;
        let mut changed: Vec<IncidentId> = std::mem::take(&mut self.unsaved);
        if !is_ours {
            changed.extend(incidents);
        }
        changed.sort();
        changed.dedup();
        if changed.len() > CHANGED_MAX {
            return Ok(false);
        }
        if !changed.is_empty() {
            // What rules look back at is read again when it is asked for.
            self.history = History::of_store();
            self.pasts.clear();
            let found = store.incidents_of(&changed).await?;
            for id in &changed {
                if !found.iter().any(|stored| stored.incident.id == *id) {
                    self.open.evict(id);
                    self.beside.remove(id);
                }
            }
            for stored in found {
                let id = stored.incident.id.clone();
                let mut aside = beside(&stored);
                // What another told of is no longer news.
                if let Some(before) = self.beside.remove(&id)
                    && before.told.alerts == aside.told.alerts
                {
                    aside.fresh = before.fresh;
                }
                self.beside.insert(id, aside);
                self.open.insert(stored.incident);
            }
        }
        self.generation = Some(generation);
        Ok(true)
    }

    /// Sees to it that whatever findings of these moments could belong to is in memory.
    pub(crate) async fn reach_back(
        &mut self,
        store: &dyn Decisions,
        times: impl Iterator<Item = Timestamp>,
    ) -> Result<(), StoreError> {
        for (from, to) in self.missing(times) {
            for stored in store.incidents_within(from, to, false).await? {
                if self.open.get(&stored.incident.id).is_none() {
                    self.loaded_findings += stored.incident.findings.len();
                    self.beside.insert(stored.incident.id.clone(), beside(&stored));
                    self.open.insert(stored.incident);
                }
            }
            self.loaded.push((from, to));
        }
        Ok(())
    }

    /// Spans around late moments that were not loaded, in whole days, so that the next late record
    /// of the same time needs no other.
    fn missing(&self, times: impl Iterator<Item = Timestamp>) -> Vec<(Timestamp, Timestamp)> {
        let safe = self.complete_since.saturating_add(NEIGHBOURHOOD).unwrap_or(Timestamp::MAX);
        let mut late: Vec<Timestamp> = times.filter(|at| *at < safe).collect();
        late.sort_unstable();
        let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
        for at in late {
            let from = day(earlier(at, NEIGHBOURHOOD), 0);
            let to = day(at.saturating_add(NEIGHBOURHOOD).unwrap_or(at), 1);
            match spans.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => spans.push((from, to)),
            }
        }
        let is_here = |(from, to): &(Timestamp, Timestamp)| {
            self.loaded.iter().any(|(begin, end)| begin <= from && to <= end)
        };
        spans.retain(|span| !is_here(span));
        spans
    }

    /// True when so much was loaded for late records that memory should be tidied.
    pub(crate) fn is_full(&self) -> bool {
        self.loaded_findings > LOADED_FINDINGS_MAX
    }

    /// Lets go of what is over and older than the configured days.
    pub(crate) fn evict(&mut self, rules: &Ruleset, now: Timestamp) {
        // A clock that was set back brings nothing back into memory.
        let since = self.complete_since.max(earlier(now, self.keep));
        self.complete_since = since;
        self.loaded.clear();
        self.loaded_findings = 0;
        self.wanted.clear();
        let is_over = |incident: &Incident| {
            matches!(incident.state, IncidentState::Quiet | IncidentState::Resolved)
                && incident.last_at.is_none_or(|last| last < since)
        };
        if self.open.incidents().any(is_over) {
            self.open.retain(|incident| !is_over(incident));
            let open = &self.open;
            self.beside.retain(|id, _| open.get(id).is_some());
        }
        self.history.evict_before(earlier(now, rules.look_back().max(self.keep)));
    }

    /// The position that keeps how many alerts there were of an incident that is no more.
    pub(crate) fn note_gone(&mut self, id: &IncidentId, told: NotifiedState) -> (String, String) {
        self.gone.insert(id.clone(), told.alerts);
        (format!("{GONE}{id}"), told.alerts.to_string())
    }

    /// What is kept beside an incident; a new one goes on counting where one of its name ended.
    pub(crate) fn beside(&mut self, id: &IncidentId) -> &mut Beside {
        let alerts = self.gone.get(id).copied().unwrap_or_default();
        self.beside.entry(id.clone()).or_insert_with(|| Beside {
            told: NotifiedState { alerts, ..NotifiedState::default() },
            ..Beside::default()
        })
    }

    /// The open incident that says that a destination cannot be reached.
    pub(crate) fn telling(&self, destination: &str) -> Option<&Incident> {
        let title = Incident::telling(destination, Timestamp::UNIX_EPOCH, "").head.title;
        self.open.incidents().find(|incident| {
            incident.kind == IncidentKind::DeliveryOutage
                && incident.state != IncidentState::Quiet
                && incident.state != IncidentState::Resolved
                && incident.title == title
        })
    }

    /// Remembers which findings came since the last alert.
    pub(crate) fn note_fresh(&mut self, changes: &[Change]) {
        for change in changes {
            let (id, findings) = match change {
                Change::Opened(incident) => (&incident.id, &incident.findings),
                Change::Grew(growth) => (&growth.id, &growth.added),
                _ => continue,
            };
            let fresh = &mut self.beside(id).fresh;
            for finding in findings {
                if fresh.len() < FRESH_MAX {
                    fresh.insert(finding.key.clone());
                }
            }
        }
    }
}

pub(crate) fn beside(stored: &StoredIncident) -> Beside {
    Beside {
        revision: stored.revision,
        told: stored.notified,
        by: stored.by.as_ref().map(|handled| handled.by.clone()),
        fresh: HashSet::new(),
        touched_at: stored.changed_at,
    }
}

/// Midnight (UTC) of a moment's day, or of as many days later.
fn day(at: Timestamp, later: i64) -> Timestamp {
    const DAY_SECS: i64 = 86_400;
    let midnight = (at.as_second().div_euclid(DAY_SECS) + later).saturating_mul(DAY_SECS);
    Timestamp::from_second(midnight).unwrap_or(if later == 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// A moment before another, at most as early as time goes.
fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    fn memory(complete_since: &str) -> Memory {
        Memory {
            open: OpenIncidents::default(),
            history: History::of_store(),
            beside: HashMap::new(),
            wanted: HashSet::new(),
            gone: HashMap::new(),
            complete_since: at(complete_since),
            loaded: Vec::new(),
            loaded_findings: 0,
            keep: SignedDuration::from_hours(72),
            generation: None,
            has_unended: true,
            is_new: false,
            has_committed: false,
            unsaved: Vec::new(),
            pasts: HashSet::new(),
            digested_at: None,
        }
    }

    #[test]
    fn late_records_ask_for_their_days_once_and_others_for_nothing() {
        let mut memory = memory("2026-05-01T00:00:00Z");
        let recent = [at("2026-05-03T00:00:00Z"), at("2026-05-09T00:00:00Z")];
        assert_eq!(memory.missing(recent.into_iter()), []);
        // Near the end of what is in memory, an older incident may be within reach.
        let near = [at("2026-05-02T12:00:00Z")];
        let span = (at("2026-04-30T00:00:00Z"), at("2026-05-05T00:00:00Z"));
        assert_eq!(memory.missing(near.into_iter()), [span]);
        memory.loaded.push(span);
        assert_eq!(memory.missing(near.into_iter()), []);
        let far = [at("2024-01-05T12:00:00Z"), at("2026-05-02T13:00:00Z")];
        let long_ago = (at("2024-01-03T00:00:00Z"), at("2024-01-08T00:00:00Z"));
        assert_eq!(memory.missing(far.into_iter()), [long_ago]);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_pretend_that_more_is_in_memory() {
        let mut memory = memory("2026-05-01T00:00:00Z");
        let rules = Ruleset::empty();
        memory.evict(&rules, at("2026-05-10T00:00:00Z"));
        assert_eq!(memory.complete_since, at("2026-05-07T00:00:00Z"));
        memory.evict(&rules, at("2026-05-02T00:00:00Z"));
        assert_eq!(memory.complete_since, at("2026-05-07T00:00:00Z"));
    }
}
