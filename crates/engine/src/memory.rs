//! What the engine keeps in memory: incidents that may still grow, what people were notified of, and
//! which spans of time are loaded.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::{Change, CorrelatePolicy, OpenIncidents};
use rootwatch_core::detect::History;
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::{Incident, IncidentId, IncidentKind, IncidentState};
use rootwatch_core::rules::Ruleset;
use rootwatch_store::{CaughtUp, Decisions, LookBack, Store, StoreError, StoredIncident};

use crate::settings::EngineSettings;

/// How far before and after a late finding incidents are loaded: farther than any link reaches.
const NEIGHBORHOOD: SignedDuration = SignedDuration::from_hours(48);
/// Findings of one incident that are remembered as new since its last alert.
const FRESH_MAX: usize = 1_000;
/// Findings loaded for late records after which memory is evicted at once.
const LOADED_FINDINGS_MAX: usize = 100_000;
/// Incidents changed by other writers that are reloaded one by one; beyond it, everything is reloaded.
const CHANGED_MAX: usize = 200;
/// Findings of an incident that is loaded whole.
const WHOLE_FINDINGS_MAX: usize = 1_000_000;
/// Prefix of the positions that keep how many alerts an incident had before it joined another. If an
/// incident with its id opened again, its alerts would otherwise repeat the ids of earlier alerts and
/// be dropped as duplicates. (Stores hold this prefix: it stays as it is.)
const GONE: &str = "told:";

/// What is kept about an incident beside the incident itself.
#[derive(Debug, Default)]
pub(crate) struct IncidentMeta {
    /// The store's revision; 0 for an incident that is not saved yet.
    pub(crate) revision: u64,
    /// What people were notified of.
    pub(crate) told: NotifiedState,
    /// Who acknowledged or resolved it.
    pub(crate) by: Option<String>,
    /// Findings since the last alert. After a restart no finding counts as fresh.
    pub(crate) fresh: HashSet<FindingKey>,
    /// When it was last part of a batch.
    pub(crate) touched_at: Timestamp,
}

/// Whether other engines write to the same store.
#[derive(Debug)]
enum Mode {
    /// This engine is the only writer: it loads the last days once and follows its own changes.
    Alone,
    /// Others write, too: before each batch the engine asks what they committed.
    Shared {
        /// The store's generation that memory agrees with.
        generation: u64,
        /// Whether all incidents that have not ended are loaded. They are loaded when time alone may
        /// change one, so that a new process does not read what its batch does not need.
        has_unended: bool,
        last_step: SharedStep,
    },
}

/// The engine's last step in a shared store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SharedStep {
    /// Memory was just loaded. A newer generation shows when something is committed; asking for it
    /// first would be one request more.
    Loaded,
    /// A batch of this engine was committed: the next generation is its own.
    Committed,
    /// Anything else.
    Other,
}

/// Everything that the engine knows without asking the store.
///
/// Alone, it holds the last days. With a shared store it loads what a batch needs: incidents around the
/// times of its findings, the past of their accounts, and all incidents that have not ended when time
/// may end one.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) open: OpenIncidents,
    pub(crate) history: History,
    pub(crate) meta: HashMap<IncidentId, IncidentMeta>,
    /// Incidents to load although no time span needs them: their ids are taken.
    pub(crate) wanted: HashSet<IncidentId>,
    /// How many alerts incidents had that joined others.
    gone: HashMap<IncidentId, u32>,
    /// All incidents with findings since then are loaded.
    complete_since: Timestamp,
    /// All incidents with findings in these spans are loaded, too.
    loaded: Vec<(Timestamp, Timestamp)>,
    loaded_findings: usize,
    keep: SignedDuration,
    mode: Mode,
    /// Incidents that were changed here by a batch that is not committed yet.
    pub(crate) unsaved: Vec<IncidentId>,
    /// Accounts whose past is in `history`; alone, the past of all accounts is.
    pasts: HashSet<String>,
    /// When the last digest was sent, once that is known.
    pub(crate) digested_at: Option<Timestamp>,
}

impl Memory {
    pub(crate) fn new(settings: &EngineSettings) -> Self {
        let mut policy = CorrelatePolicy::default();
        policy.quiet_after_secs = i64::from(settings.quiet_after_secs);
        Self {
            open: OpenIncidents::new(policy),
            history: History::of_store(),
            meta: HashMap::new(),
            wanted: HashSet::new(),
            gone: HashMap::new(),
            complete_since: Timestamp::MAX,
            loaded: Vec::new(),
            loaded_findings: 0,
            keep: SignedDuration::from_hours(24 * i64::from(settings.memory_days.max(1)))
                + NEIGHBORHOOD,
            mode: Mode::Alone,
            unsaved: Vec::new(),
            pasts: HashSet::new(),
            digested_at: None,
        }
    }

    /// True when other engines write to the same store.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.mode, Mode::Shared { .. })
    }

    /// The generation on which the next commit builds; `None` when this engine is alone.
    pub(crate) fn generation(&self) -> Option<u64> {
        match self.mode {
            Mode::Alone => None,
            Mode::Shared { generation, .. } => Some(generation),
        }
    }

    /// Follows a commit. One that touches no incident need not move the store's generation: if it
    /// counted as ours, the next commit of another engine would be taken for it.
    pub(crate) fn note_commit(&mut self, has_touched: bool) {
        self.unsaved.clear();
        if let Mode::Shared { last_step, .. } = &mut self.mode {
            *last_step = match *last_step {
                _ if has_touched => SharedStep::Committed,
                SharedStep::Loaded => SharedStep::Loaded,
                _ => SharedStep::Other,
            };
        }
    }

    /// The next catch-up has to ask the store, although memory was just loaded.
    pub(crate) fn require_catch_up(&mut self) {
        if let Mode::Shared { last_step, .. } = &mut self.mode {
            *last_step = SharedStep::Other;
        }
    }

    /// Loads what has to be known from the store.
    pub(crate) async fn load(
        &mut self,
        store: &dyn Store,
        rules: &Ruleset,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.mode = match store.catch_up(None).await? {
            CaughtUp::Moved { generation, .. } | CaughtUp::Anew { generation } => {
                Mode::Shared { generation, has_unended: false, last_step: SharedStep::Loaded }
            }
            _ => Mode::Alone,
        };
        let is_shared = self.is_shared();
        let since = if is_shared { Timestamp::MAX } else { earlier(now, self.keep) };
        let incidents = if is_shared {
            Vec::new()
        } else {
            store.incidents_within(since, Timestamp::MAX, true).await?
        };
        let mut whole = Vec::with_capacity(incidents.len());
        for stored in incidents {
            self.meta.insert(stored.incident.id.clone(), meta_of(&stored));
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
                    self.meta.insert(id.clone(), meta_of(&stored));
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

    /// Loads all incidents that have not ended, if they are not loaded yet.
    pub(crate) async fn load_unended(&mut self, store: &dyn Decisions) -> Result<(), StoreError> {
        if !matches!(self.mode, Mode::Shared { has_unended: false, .. }) {
            return Ok(());
        }
        // An empty span: only what has not ended.
        for stored in store.incidents_within(Timestamp::MAX, Timestamp::MAX, true).await? {
            if self.open.get(&stored.incident.id).is_none() {
                self.meta.insert(stored.incident.id.clone(), meta_of(&stored));
                self.open.insert(stored.incident);
            }
        }
        if let Mode::Shared { has_unended, .. } = &mut self.mode {
            *has_unended = true;
        }
        Ok(())
    }

    async fn load_gone(&mut self, store: &dyn Decisions, prefix: &str) -> Result<(), StoreError> {
        for (name, count) in store.positions(prefix).await? {
            let Some(id) = name.strip_prefix(GONE) else { continue };
            match count.parse() {
                Ok(count) => _ = self.gone.insert(IncidentId(id.to_owned()), count),
                Err(_) => tracing::warn!(
                    position = name,
                    "the saved number of alerts is not a number: later alerts of this incident may \
                     repeat ids"
                ),
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

    /// Loads the past of these accounts, if it is not loaded yet.
    pub(crate) async fn load_pasts(
        &mut self,
        store: &dyn Decisions,
        rules: &Ruleset,
        now: Timestamp,
        accounts: impl Iterator<Item = &str>,
    ) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let mut missing: Vec<String> =
            accounts.filter(|one| !self.pasts.contains(*one)).map(str::to_owned).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let since = earlier(now, rules.look_back().max(self.keep));
        let past = store.look_back(since, Some(&missing)).await?;
        self.note_past(&past);
        self.pasts.extend(missing);
        Ok(())
    }

    /// Loads how many alerts earlier incidents with the ids of new ones had, so that alert numbers
    /// continue from there.
    pub(crate) async fn load_alert_counts(
        &mut self,
        store: &dyn Decisions,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        if !self.is_shared() {
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

    /// Fails if others committed since the last catch-up. A commit finds that out by itself; a decision
    /// to save nothing does not.
    pub(crate) async fn ensure_current(&self, store: &dyn Decisions) -> Result<(), StoreError> {
        let Some(generation) = self.generation() else { return Ok(()) };
        match store.catch_up(Some(generation)).await? {
            CaughtUp::Moved { generation: now, .. } if now == generation => Ok(()),
            _ => Err(StoreError::Overtaken),
        }
    }

    /// Reloads what others committed to a shared store, and what a failed batch of this engine changed.
    /// False if that is not possible: then everything has to be loaded again.
    pub(crate) async fn catch_up(&mut self, store: &dyn Decisions) -> Result<bool, StoreError> {
        let Mode::Shared { generation: before, last_step, .. } = &mut self.mode else {
            return Ok(true);
        };
        let before = *before;
        let step = std::mem::replace(last_step, SharedStep::Other);
        if step == SharedStep::Loaded {
            return Ok(true);
        }
        let CaughtUp::Moved { generation: now, incidents } = store.catch_up(Some(before)).await?
        else {
            return Ok(false);
        };
        let is_ours = step == SharedStep::Committed && now == before + 1;
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
            self.reload(store, &changed).await?;
        }
        if let Mode::Shared { generation, .. } = &mut self.mode {
            *generation = now;
        }
        Ok(true)
    }

    async fn reload(
        &mut self,
        store: &dyn Decisions,
        changed: &[IncidentId],
    ) -> Result<(), StoreError> {
        // The past of accounts is loaded again when a rule needs it.
        self.history = History::of_store();
        self.pasts.clear();
        let found = store.incidents_of(changed).await?;
        for id in changed {
            if !found.iter().any(|stored| stored.incident.id == *id) {
                self.open.evict(id);
                self.meta.remove(id);
            }
        }
        for stored in found {
            let id = stored.incident.id.clone();
            let mut meta = meta_of(&stored);
            // If another engine sent an alert, its findings are no longer fresh.
            if let Some(before) = self.meta.remove(&id)
                && before.told.alerts == meta.told.alerts
            {
                meta.fresh = before.fresh;
            }
            self.meta.insert(id, meta);
            self.open.insert(stored.incident);
        }
        Ok(())
    }

    /// Loads all incidents to which findings of these times could belong.
    pub(crate) async fn load_around(
        &mut self,
        store: &dyn Decisions,
        times: impl Iterator<Item = Timestamp>,
    ) -> Result<(), StoreError> {
        for (from, to) in self.missing(times) {
            for stored in store.incidents_within(from, to, false).await? {
                if self.open.get(&stored.incident.id).is_none() {
                    self.loaded_findings += stored.incident.findings.len();
                    self.meta.insert(stored.incident.id.clone(), meta_of(&stored));
                    self.open.insert(stored.incident);
                }
            }
            self.loaded.push((from, to));
        }
        Ok(())
    }

    /// Spans around late times that are not loaded, in whole days, so that the next late record of the
    /// same day needs no further request.
    fn missing(&self, times: impl Iterator<Item = Timestamp>) -> Vec<(Timestamp, Timestamp)> {
        let safe = self.complete_since.saturating_add(NEIGHBORHOOD).unwrap_or(Timestamp::MAX);
        let mut late: Vec<Timestamp> = times.filter(|at| *at < safe).collect();
        late.sort_unstable();
        let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
        for at in late {
            let from = day(earlier(at, NEIGHBORHOOD), 0);
            let to = day(at.saturating_add(NEIGHBORHOOD).unwrap_or(at), 1);
            match spans.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => spans.push((from, to)),
            }
        }
        let is_loaded = |(from, to): &(Timestamp, Timestamp)| {
            self.loaded.iter().any(|(begin, end)| begin <= from && to <= end)
        };
        spans.retain(|span| !is_loaded(span));
        spans
    }

    /// True when so much was loaded for late records that memory should be evicted now.
    pub(crate) fn is_full(&self) -> bool {
        self.loaded_findings > LOADED_FINDINGS_MAX
    }

    /// Evicts incidents that ended before the configured days.
    pub(crate) fn evict(&mut self, rules: &Ruleset, now: Timestamp) {
        // A clock that is set back must not claim that more is in memory.
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
            self.meta.retain(|id, _| open.get(id).is_some());
        }
        self.history.evict_before(earlier(now, rules.look_back().max(self.keep)));
    }

    /// The position that keeps how many alerts an incident had that joined another.
    pub(crate) fn note_gone(&mut self, id: &IncidentId, told: NotifiedState) -> (String, String) {
        self.gone.insert(id.clone(), told.alerts);
        (format!("{GONE}{id}"), told.alerts.to_string())
    }

    /// What is kept about an incident. The alerts of a new one are numbered after those of an earlier
    /// incident with the same id.
    pub(crate) fn meta(&mut self, id: &IncidentId) -> &mut IncidentMeta {
        let alerts = self.gone.get(id).copied().unwrap_or_default();
        self.meta.entry(id.clone()).or_insert_with(|| IncidentMeta {
            told: NotifiedState { alerts, ..NotifiedState::default() },
            ..IncidentMeta::default()
        })
    }

    /// The open incident about failing deliveries to a destination.
    pub(crate) fn delivery_outage(&self, destination: &str) -> Option<&Incident> {
        let title = Incident::telling(destination, Timestamp::UNIX_EPOCH, "").head.title;
        self.open.incidents().find(|incident| {
            incident.kind == IncidentKind::DeliveryOutage
                && incident.state != IncidentState::Quiet
                && incident.state != IncidentState::Resolved
                && incident.title == title
        })
    }

    /// Remembers which findings arrived since the last alert.
    pub(crate) fn note_fresh(&mut self, changes: &[Change]) {
        for change in changes {
            let (id, findings) = match change {
                Change::Opened(incident) => (&incident.id, &incident.findings),
                Change::Grew(growth) => (&growth.id, &growth.added),
                _ => continue,
            };
            let fresh = &mut self.meta(id).fresh;
            for finding in findings {
                if fresh.len() < FRESH_MAX {
                    fresh.insert(finding.key.clone());
                }
            }
        }
    }
}

/// What is kept about a stored incident.
pub(crate) fn meta_of(stored: &StoredIncident) -> IncidentMeta {
    IncidentMeta {
        revision: stored.revision,
        told: stored.notified,
        by: stored.by.as_ref().map(|handled| handled.by.clone()),
        fresh: HashSet::new(),
        touched_at: stored.changed_at,
    }
}

/// Midnight (UTC) of the day of a moment, or some days later.
fn day(at: Timestamp, later: i64) -> Timestamp {
    const DAY_SECS: i64 = 86_400;
    let midnight = (at.as_second().div_euclid(DAY_SECS) + later).saturating_mul(DAY_SECS);
    Timestamp::from_second(midnight).unwrap_or(if later == 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// A moment before another; the first possible moment if there is no earlier one.
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
            meta: HashMap::new(),
            wanted: HashSet::new(),
            gone: HashMap::new(),
            complete_since: at(complete_since),
            loaded: Vec::new(),
            loaded_findings: 0,
            keep: SignedDuration::from_hours(72),
            mode: Mode::Alone,
            unsaved: Vec::new(),
            pasts: HashSet::new(),
            digested_at: None,
        }
    }

    #[test]
    fn days_of_late_records_are_loaded_once() {
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
