//! Incidents that may still grow, and how far a link could reach between them.
//!
//! Every finding leaves link keys (equal whatever the time: a session, an access key) and points in
//! time (a sign-in of an account at 14:03). Findings with an equal link key, or with points that are
//! near enough, are in one neighborhood, and so are their incidents. A new finding is correlated
//! with its neighborhood only:
//!
//! ```text
//!   findings       a ─ key ASIA… ─ b       c ─ signed in, 14:03 ┐
//!                  └───────┬───────┘       d ─ called, 14:05 ───┴─ within the gap
//!   neighborhoods          1                          2
//!   incidents              7K2-MPX                    9QF-3LT, 4XE-8TN
//! ```
//!
//! A link may not hold within a neighborhood (9QF-3LT and 4XE-8TN stay two); none reaches beyond.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::correlate::assess::{FAILURES_BACK_SECS, RECOVERY_BACK_SECS};
use crate::correlate::change::{Change, CorrelatePolicy};
use crate::correlate::likeness;
use crate::correlate::links::{SIGN_IN_LAG_SECS, View, filled};
use crate::finding::{Finding, FindingKey, RootUse};
use crate::incident::{Incident, IncidentId, IncidentState};

/// Incidents that may still grow.
///
/// Keeps track of which are neighbors: within reach of a link, whether or not the link holds. Reach
/// is coarser than the links themselves and never shrinks, so a change in one neighborhood never
/// changes another.
#[derive(Debug, Clone, Default)]
pub struct OpenIncidents {
    policy: CorrelatePolicy,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Every finding, corrected ones too: its incident and its neighborhood.
    known: HashMap<FindingKey, (IncidentId, usize)>,
    /// Neighborhood by a link key that findings share whatever the time.
    link_keys: HashMap<LinkKey, usize>,
    /// Times, in Unix seconds, and neighborhoods, by the kind and text of a point.
    points: HashMap<LinkKey, BTreeSet<(i64, usize)>>,
    /// Neighborhoods are disjoint sets: each points to the one that it joined, or to itself.
    joined_to: Vec<usize>,
    /// Incidents of a neighborhood. May contain some that moved or ended.
    members: Vec<HashSet<IncidentId>>,
    /// Neighborhoods of findings that have no incident yet.
    expected: HashMap<FindingKey, usize>,
    /// Findings that are alike, sorted by time: see [`likeness::keys`].
    alike: HashMap<u64, Vec<TimeKey>>,
    /// Findings evicted since this was built: their link keys and points are still here.
    evicted: usize,
}

/// Orders findings by time, then key; those without a time are last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeKey {
    pub(super) at: Option<Timestamp>,
    pub(super) key: FindingKey,
}

impl TimeKey {
    pub(super) fn of(finding: &Finding) -> Self {
        Self { at: finding.event_time, key: finding.key.clone() }
    }
}

impl Ord for TimeKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let of = |place: &Self| (place.at.is_none(), place.at);
        of(self).cmp(&of(other)).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for TimeKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Evicted findings whose link keys and points are kept at least, before everything is rebuilt.
const EVICTED_MIN: usize = 1_024;

type LinkKey = (&'static str, String);

/// A failed sign-in from an address.
const FAILED: &str = "failed from";
/// Anything else from an address.
const USED: &str = "used from";
/// A sign-in or page of an account that only its time can place.
const PLACED: &str = "placed";
/// The begin or a use of an account's session.
const CALLED: &str = "called";
/// A sign-in into an account.
const SIGNED_IN: &str = "signed in";
/// A password recovery of an account.
const RECOVERED: &str = "recovered";
/// A rule match without root use.
const WATCHED: &str = "watched";
/// An `AssumeRoot` call.
const AUDITED: &str = "audited";

/// True if points of this kind are neighbors of each other when they are near: then the nearest one
/// on each side represents all others.
fn is_chain(kind: &str) -> bool {
    !matches!(kind, USED | CALLED | SIGNED_IN | RECOVERED)
}

/// A moment at which other findings may reach this one, and which of theirs it can reach.
struct Point {
    kind: &'static str,
    /// An account, an address or an actor.
    text: String,
    /// Unix seconds.
    at: i64,
    /// Kinds whose points of the same text are neighbors.
    meets: &'static [&'static str],
    /// If they are at most this many seconds away.
    gap_secs: i64,
}

impl OpenIncidents {
    /// No incidents yet.
    #[must_use]
    pub fn new(policy: CorrelatePolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The incidents of a store.
    #[must_use]
    pub fn from_incidents(
        policy: CorrelatePolicy,
        incidents: impl IntoIterator<Item = Incident>,
    ) -> Self {
        let mut open = Self::new(policy);
        incidents.into_iter().for_each(|incident| open.insert(incident));
        open
    }

    /// How near in time findings must be to belong together.
    #[must_use]
    pub fn policy(&self) -> &CorrelatePolicy {
        &self.policy
    }

    /// The incidents, by id.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// The incident with this id.
    #[must_use]
    pub fn get(&self, id: &IncidentId) -> Option<&Incident> {
        self.incidents.get(id)
    }

    /// The incident that holds this finding, a corrected one too.
    #[must_use]
    pub fn holder(&self, key: &FindingKey) -> Option<&IncidentId> {
        self.known.get(key).map(|(id, _)| id)
    }

    /// Applies changes, in their order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Opened(incident) => {
                    self.place(&incident.id, incident.originals());
                    self.incidents.insert(incident.id.clone(), (**incident).clone());
                }
                Change::Grew(growth) if growth.redundant_to.is_some() => {
                    if let Some(incident) = self.incidents.get_mut(&growth.id) {
                        growth.counts_redundant_in(incident);
                    }
                }
                Change::Grew(growth) => {
                    // A corrected record is new but not shown; the original of a revised finding
                    // differs from the shown one.
                    let is_unrevised = |one: &&Finding| {
                        growth.superseded.binary_search_by(|old| old.key.cmp(&one.key)).is_err()
                    };
                    let fresh = growth.added.iter().filter(is_unrevised).chain(&growth.superseded);
                    self.place(&growth.id, fresh);
                    if let Some(incident) = self.incidents.get_mut(&growth.id) {
                        (**growth).clone().apply_to(incident);
                    }
                }
                Change::Joined { from, .. } => _ = self.incidents.remove(from),
                Change::Closed { id, .. } => self.set_state(id, IncidentState::Quiet),
                Change::Escalated { .. } | Change::Repeated { .. } => {}
            }
        }
    }

    /// Inserts an incident from a store; replaces one with the same id.
    pub fn insert(&mut self, incident: Incident) {
        if let Some(before) = self.incidents.remove(&incident.id) {
            self.remove_findings_of(&before);
        }
        self.place(&incident.id, incident.originals());
        self.incidents.insert(incident.id.clone(), incident);
    }

    /// Evicts an incident and its findings, which are new if they arrive again.
    pub fn evict(&mut self, id: &IncidentId) {
        if let Some(incident) = self.incidents.remove(id) {
            self.remove_findings_of(&incident);
            self.rebuild_if_sparse();
        }
    }

    /// Evicts the incidents for which `keep` is false, as [`OpenIncidents::evict`].
    pub fn retain(&mut self, mut keep: impl FnMut(&Incident) -> bool) {
        let gone: Vec<IncidentId> =
            self.incidents().filter(|one| !keep(one)).map(|one| one.id.clone()).collect();
        for incident in gone.iter().filter_map(|id| self.incidents.remove(id)).collect::<Vec<_>>() {
            self.remove_findings_of(&incident);
        }
        self.rebuild_if_sparse();
    }

    fn remove_findings_of(&mut self, incident: &Incident) {
        for finding in incident.originals() {
            let ours = self.known.get(&finding.key).is_some_and(|(id, _)| *id == incident.id);
            if !ours {
                continue;
            }
            self.known.remove(&finding.key);
            self.evicted += 1;
            for key in likeness::keys(finding).into_iter().flatten() {
                if let Some(alike) = self.alike.get_mut(&key) {
                    if let Ok(place) = alike.binary_search(&TimeKey::of(finding)) {
                        alike.remove(place);
                    }
                    if alike.is_empty() {
                        self.alike.remove(&key);
                    }
                }
            }
        }
    }

    /// Rebuilds everything once most link keys are of evicted findings.
    fn rebuild_if_sparse(&mut self) {
        if self.evicted > self.known.len().max(EVICTED_MIN) {
            let incidents = std::mem::take(&mut self.incidents).into_values();
            *self = Self::from_incidents(self.policy.clone(), incidents);
        }
    }

    /// How many findings are in memory, counting the link keys of evicted ones.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        self.joined_to.len()
    }

    /// Sets what a person decided: acknowledged, resolved, or open again.
    pub fn set_state(&mut self, id: &IncidentId, state: IncidentState) {
        if let Some(incident) = self.incidents.get_mut(id) {
            incident.state = state;
        }
    }

    /// The incidents that any link could reach from a finding, and their neighbors.
    pub(super) fn reach(&self, finding: &Finding) -> Vec<&Incident> {
        let mut near: Vec<usize> = Vec::new();
        self.for_each_neighbor(&View::new(finding), |area| near.push(self.area(area)));
        near.sort_unstable();
        near.dedup();
        self.incidents_in(near)
    }

    /// An incident and its neighbors.
    pub(super) fn neighbors_of(&self, id: &IncidentId) -> Vec<&Incident> {
        let finding = self.incidents.get(id).and_then(|incident| incident.originals().next());
        let known = finding.and_then(|finding| self.known.get(&finding.key));
        self.incidents_in(known.map(|&(_, area)| self.area(area)))
    }

    /// The incidents of these neighborhoods, by id.
    pub(super) fn incidents_in(&self, areas: impl IntoIterator<Item = usize>) -> Vec<&Incident> {
        let ids: HashSet<&IncidentId> =
            areas.into_iter().flat_map(|area| &self.members[area]).collect();
        let mut incidents: Vec<&Incident> =
            ids.into_iter().filter_map(|id| self.incidents.get(id)).collect();
        incidents.sort_by(|one, other| one.id.cmp(&other.id));
        incidents
    }

    /// Assigns new findings to neighborhoods and returns them by neighborhood, together with the
    /// neighborhoods of the known findings in `others`.
    pub(super) fn expect<'f>(
        &mut self,
        fresh: &'f [Finding],
        others: &[FindingKey],
    ) -> BTreeMap<usize, Vec<&'f Finding>> {
        for finding in fresh {
            let area = self.area_of(finding);
            self.expected.insert(finding.key.clone(), area);
        }
        let mut groups: BTreeMap<usize, Vec<&Finding>> = BTreeMap::new();
        for finding in fresh {
            if let Some(&area) = self.expected.get(&finding.key) {
                groups.entry(self.area(area)).or_default().push(finding);
            }
        }
        for (_, area) in others.iter().filter_map(|key| self.known.get(key)) {
            groups.entry(self.area(*area)).or_default();
        }
        groups
    }

    /// The findings with this likeness key, sorted.
    pub(super) fn alike(&self, key: u64) -> &[TimeKey] {
        self.alike.get(&key).map_or(&[], Vec::as_slice)
    }

    /// True when a correction of this event, or the event itself, is known.
    pub(super) fn knows_event(&self, event_id: &str) -> bool {
        self.link_keys.contains_key(&("event", event_id.to_owned()))
    }

    fn area(&self, mut area: usize) -> usize {
        while self.joined_to[area] != area {
            area = self.joined_to[area];
        }
        area
    }

    fn for_each_neighbor(&self, view: &View<'_>, mut meet: impl FnMut(usize)) {
        let (link_keys, points) = reach_of(view, &self.policy);
        for key in &link_keys {
            self.link_keys.get(key).copied().into_iter().for_each(&mut meet);
        }
        for Point { text, at, meets, gap_secs, .. } in points {
            let (from, to) = (at.saturating_sub(gap_secs), at.saturating_add(gap_secs));
            for &kind in meets {
                let Some(line) = self.points.get(&(kind, text.clone())) else { continue };
                if is_chain(kind) {
                    let before = line.range((from, 0)..=(at, usize::MAX)).next_back();
                    let after = line.range((at, 0)..=(to, usize::MAX)).next();
                    before.into_iter().chain(after).for_each(|&(_, area)| meet(area));
                } else {
                    let near = line.range((from, 0)..=(to, usize::MAX));
                    near.for_each(|&(_, area)| meet(area));
                }
            }
        }
    }

    /// Assigns an incident's findings, as they arrived, to the incident and its neighborhood.
    fn place<'a>(&mut self, id: &IncidentId, originals: impl Iterator<Item = &'a Finding>) {
        let mut home: Option<usize> = None;
        for finding in originals {
            let mut area = match self.known.get_mut(&finding.key) {
                Some((holder, area)) => {
                    holder.clone_from(id);
                    *area
                }
                None => {
                    let expected = self.expected.remove(&finding.key);
                    let area = expected.unwrap_or_else(|| self.area_of(finding));
                    self.known.insert(finding.key.clone(), (id.clone(), area));
                    self.list_alike(finding);
                    area
                }
            };
            // The findings of one incident are within reach of each other, unless the incident was
            // built with another policy.
            if let Some(home) = home {
                area = self.join(home, area);
            }
            home = Some(area);
        }
        if let Some(home) = home.map(|area| self.area(area)) {
            self.members[home].insert(id.clone());
        }
    }

    fn list_alike(&mut self, finding: &Finding) {
        for key in likeness::keys(finding).into_iter().flatten() {
            let (alike, own) = (self.alike.entry(key).or_default(), TimeKey::of(finding));
            if let Err(gap) = alike.binary_search(&own) {
                alike.insert(gap, own);
            }
        }
    }

    /// The neighborhood of a new finding: a new one, joined with all that it can reach.
    fn area_of(&mut self, finding: &Finding) -> usize {
        let view = View::new(finding);
        let mut near = Vec::new();
        self.for_each_neighbor(&view, |other| near.push(other));
        let mut area = self.joined_to.len();
        self.joined_to.push(area);
        self.members.push(HashSet::new());
        for other in near {
            area = self.join(area, other);
        }
        let (link_keys, points) = reach_of(&view, &self.policy);
        for key in link_keys {
            self.link_keys.insert(key, area);
        }
        for Point { kind, text, at, .. } in points {
            self.points.entry((kind, text)).or_default().insert((at, area));
        }
        area
    }

    fn join(&mut self, one: usize, other: usize) -> usize {
        let (one, other) = (self.area(one), self.area(other));
        if one == other {
            return one;
        }
        // The older one stays, so that new findings point directly to their neighborhood.
        let (into, from) = (one.min(other), one.max(other));
        self.joined_to[from] = into;
        let mut moved = std::mem::take(&mut self.members[from]);
        if moved.len() > self.members[into].len() {
            std::mem::swap(&mut moved, &mut self.members[into]);
        }
        self.members[into].extend(moved);
        into
    }
}

/// Everything through which a link could reach this finding, a superset of the links themselves:
/// link keys that hold whatever the time, and points in time.
///
/// Two sessions, or two uses of an address, are not neighbors because they are near in time: only a
/// finding that its time has to place can link them. So an account with many sessions at once has
/// many neighborhoods, and a new finding takes the time that its own session takes.
fn reach_of(view: &View<'_>, policy: &CorrelatePolicy) -> (Vec<LinkKey>, Vec<Point>) {
    let pair = |one: &str, other: &dyn std::fmt::Display| format!("{one} {other}");
    let mut keys: Vec<LinkKey> = Vec::new();
    let mut points: Vec<Point> = Vec::new();
    let mut key = |kind, text: Option<String>| keys.extend(text.map(|text| (kind, text)));
    let mut point = |kind, text: &str, at: Option<i64>, meets, gap_secs| {
        let text = text.to_owned();
        points.extend(at.map(|at| Point { kind, text, at, meets, gap_secs }));
    };
    let finding = view.finding;
    key("shared", filled(&finding.shared_event_id).map(str::to_owned));
    key("event", filled(&finding.event_id).map(str::to_owned));
    key("event", view.corrects().map(str::to_owned));
    if view.watch_only() {
        let who = pair(view.account, &view.actor());
        point(WATCHED, &who, view.at, &[WATCHED], policy.sign_in_gap_secs);
        return (keys, points);
    }
    key("sign-in", view.sign_in_arn().map(str::to_owned));
    key("key", view.access_key().map(str::to_owned));
    key("key", view.issued_key().map(str::to_owned));
    let session = |at| format!("{} {} {at}", view.account, view.principal());
    key("session", view.created().map(session));
    key("assumed", view.assumed().map(|(account, at)| pair(account, &at)));
    key("assumed", view.root_created().map(|at| pair(view.account, &at)));
    key("service", view.on_behalf().map(|(name, day)| format!("{} {day} {name}", view.account)));

    if let Some(client) = view.client {
        // An organization may share one address: only a failed sign-in makes its users neighbors.
        let gap_secs = policy.spray_gap_secs.max(policy.spray_related_secs);
        if view.failed_sign_in() {
            point(FAILED, client, view.at, &[FAILED, USED], gap_secs);
        } else {
            point(USED, client, view.at, &[FAILED], gap_secs);
        }
    }
    if view.assume_root() {
        point(AUDITED, view.actor(), view.at, &[AUDITED], policy.audit_gap_secs);
        return (keys, points);
    }
    // Not a link, but the severity of a sign-in depends on the recovery before it.
    if view.recovered() {
        point(RECOVERED, view.account, view.at, &[SIGNED_IN], RECOVERY_BACK_SECS);
    } else if view.console_sign_in() {
        point(SIGNED_IN, view.account, view.at, &[RECOVERED], RECOVERY_BACK_SECS);
    }
    // A session is near a sign-in by when it began, and near an account page by when it was used.
    let gap_secs = policy.sign_in_gap_secs.max(policy.sign_in_lead_secs).max(SIGN_IN_LAG_SECS);
    let gap_secs = gap_secs.max(FAILURES_BACK_SECS);
    let used = view.at.filter(|_| finding.root_use != RootUse::OnBehalf);
    for at in [used, view.root_created()] {
        if finding.session.sign_in || view.placed_by_time() {
            point(PLACED, view.account, at, &[PLACED, CALLED], gap_secs);
        } else {
            point(CALLED, view.account, at, &[PLACED], gap_secs);
        }
    }
    (keys, points)
}
