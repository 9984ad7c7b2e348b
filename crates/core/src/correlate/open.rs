//! Incidents that may still grow, and how far a link could reach between them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::correlate::echo::shelves;
use crate::correlate::gather::{FAILURES_BACK_SECS, RECOVERY_BACK_SECS};
use crate::correlate::links::{SIGN_IN_LAG_SECS, View, filled};
use crate::correlate::{Change, CorrelatePolicy};
use crate::finding::{Finding, FindingKey, RootUse};
use crate::incident::{Incident, IncidentId, IncidentState};

/// Incidents that may still grow.
///
/// Remembers which of them are neighbours: within reach of a link, whether or not the link holds.
/// Reach is coarser than the links themselves and only ever grows, so what happens to one
/// neighbourhood never changes another.
#[derive(Debug, Clone, Default)]
pub struct OpenIncidents {
    policy: CorrelatePolicy,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Every finding ever held, corrected ones too: its incident and its neighbourhood.
    known: HashMap<FindingKey, (IncidentId, usize)>,
    /// Neighbourhood by a mark that findings share whatever the time.
    marks: HashMap<Mark, usize>,
    /// Time, in Unix seconds, and neighbourhood, by a mark.
    times: HashMap<Mark, BTreeSet<(i64, usize)>>,
    /// Neighbourhoods are disjoint sets; each points at one that it became part of, or at itself.
    joined_to: Vec<usize>,
    /// Incidents of a neighbourhood. May name some that have moved on or are no more.
    residents: Vec<HashSet<IncidentId>>,
    /// Neighbourhoods of findings that have no incident yet.
    expected: HashMap<FindingKey, usize>,
    /// Findings that others may echo, sorted: see [`shelves`].
    shelves: HashMap<u64, Vec<Place>>,
    /// Findings that were let go of since all this was made: their marks are still here.
    forgotten: usize,
}

/// Where a finding is in time: what comes without one is last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Option<Timestamp>,
    pub(super) key: FindingKey,
}

impl Place {
    pub(super) fn of(finding: &Finding) -> Self {
        Self { at: finding.event_time, key: finding.key.clone() }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let of = |place: &Self| (place.at.is_none(), place.at);
        of(self).cmp(&of(other)).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Forgotten findings whose marks are put up with at least, before all is made anew.
const FORGOTTEN_MIN: usize = 1_024;

type Mark = (&'static str, String);

/// Marks a failed sign-in from an address.
const FAILED: &str = "failed from";
/// Marks anything else from an address.
const USED: &str = "used from";
/// Marks what an account's sign-ins and pages have to be placed by: the time alone.
const PLACED: &str = "placed";
/// Marks when an account's sessions began and were used.
const CALLED: &str = "called";
/// Marks a sign-in into an account.
const SIGNED_IN: &str = "signed in";
/// Marks a password recovery of an account.
const RECOVERED: &str = "recovered";
/// Marks a watched act.
const WATCHED: &str = "watched";
/// Marks an `AssumeRoot` call.
const AUDITED: &str = "audited";

/// True where points that are as near to one another as to those who ask are neighbours anyway:
/// then the nearest on each side stand for all.
fn is_chain(kind: &str) -> bool {
    !matches!(kind, USED | CALLED | SIGNED_IN | RECOVERED)
}

/// A moment at which a finding may be found by others, and where it looks for them.
struct Point {
    kind: &'static str,
    /// An account, an address or an actor.
    text: String,
    /// Unix seconds.
    at: i64,
    /// Kinds whose points of the same text are neighbours.
    meets: &'static [&'static str],
    /// When they are at most this many seconds away.
    gap_secs: i64,
}

impl OpenIncidents {
    /// None yet.
    #[must_use]
    pub fn new(policy: CorrelatePolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Those that a store kept.
    #[must_use]
    pub fn from_incidents(
        policy: CorrelatePolicy,
        incidents: impl IntoIterator<Item = Incident>,
    ) -> Self {
        let mut open = Self::new(policy);
        incidents.into_iter().for_each(|incident| open.insert(incident));
        open
    }

    /// How near findings must be to belong together.
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

    /// Follows changes, in their order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Opened(incident) => {
                    self.place(&incident.id, incident.originals());
                    self.incidents.insert(incident.id.clone(), (**incident).clone());
                }
                Change::Grew(growth) if growth.redundant_to.is_some() => {
                    if let Some(incident) = self.incidents.get_mut(&growth.id) {
                        growth.counts_echo_in(incident);
                    }
                }
                Change::Grew(growth) => {
                    // A corrected record is new without being shown; the originals of what was
                    // revised differ from what is shown.
                    let as_it_came = |one: &&Finding| {
                        growth.superseded.binary_search_by(|old| old.key.cmp(&one.key)).is_err()
                    };
                    let fresh = growth.added.iter().filter(as_it_came).chain(&growth.superseded);
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

    /// Takes in an incident that a store kept; one of the same id is replaced.
    pub fn insert(&mut self, incident: Incident) {
        if let Some(before) = self.incidents.remove(&incident.id) {
            self.let_go(&before);
        }
        self.place(&incident.id, incident.originals());
        self.incidents.insert(incident.id.clone(), incident);
    }

    /// Lets go of an incident and of its findings, which are new if they come again.
    pub fn forget(&mut self, id: &IncidentId) {
        if let Some(incident) = self.incidents.remove(id) {
            self.let_go(&incident);
            self.tidy();
        }
    }

    /// Lets go of the incidents for which `keep` is false, as [`OpenIncidents::forget`].
    pub fn retain(&mut self, mut keep: impl FnMut(&Incident) -> bool) {
        let gone: Vec<IncidentId> =
            self.incidents().filter(|one| !keep(one)).map(|one| one.id.clone()).collect();
        for incident in gone.iter().filter_map(|id| self.incidents.remove(id)).collect::<Vec<_>>() {
            self.let_go(&incident);
        }
        self.tidy();
    }

    fn let_go(&mut self, incident: &Incident) {
        for finding in incident.originals() {
            let ours = self.known.get(&finding.key).is_some_and(|(id, _)| *id == incident.id);
            if !ours {
                continue;
            }
            self.known.remove(&finding.key);
            self.forgotten += 1;
            for shelf in shelves(finding).into_iter().flatten() {
                if let Some(places) = self.shelves.get_mut(&shelf) {
                    if let Ok(place) = places.binary_search(&Place::of(finding)) {
                        places.remove(place);
                    }
                    if places.is_empty() {
                        self.shelves.remove(&shelf);
                    }
                }
            }
        }
    }

    /// Makes everything anew once most of the marks are of findings that are gone.
    fn tidy(&mut self) {
        if self.forgotten > self.known.len().max(FORGOTTEN_MIN) {
            let incidents = std::mem::take(&mut self.incidents).into_values();
            *self = Self::from_incidents(self.policy.clone(), incidents);
        }
    }

    /// How many findings are held, marks of forgotten ones included.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        self.joined_to.len()
    }

    /// What a person decides: acknowledged, resolved, or open again.
    pub fn set_state(&mut self, id: &IncidentId, state: IncidentState) {
        if let Some(incident) = self.incidents.get_mut(id) {
            incident.state = state;
        }
    }

    /// The incidents that any link could reach from a finding, and their neighbours.
    pub(super) fn reach(&self, finding: &Finding) -> Vec<&Incident> {
        let mut near: Vec<usize> = Vec::new();
        self.neighbours(&View::new(finding), |area| near.push(self.area(area)));
        near.sort_unstable();
        near.dedup();
        self.residents(near)
    }

    /// The neighbours of an incident, and it.
    pub(super) fn neighbours_of(&self, id: &IncidentId) -> Vec<&Incident> {
        let finding = self.incidents.get(id).and_then(|incident| incident.originals().next());
        let known = finding.and_then(|finding| self.known.get(&finding.key));
        self.residents(known.map(|&(_, area)| self.area(area)))
    }

    /// The incidents of these neighbourhoods, by id.
    pub(super) fn residents(&self, areas: impl IntoIterator<Item = usize>) -> Vec<&Incident> {
        let ids: HashSet<&IncidentId> =
            areas.into_iter().flat_map(|area| &self.residents[area]).collect();
        let mut incidents: Vec<&Incident> =
            ids.into_iter().filter_map(|id| self.incidents.get(id)).collect();
        incidents.sort_by(|one, other| one.id.cmp(&other.id));
        incidents
    }

    /// Notes where new findings are going to be, and gives them by neighbourhood, with the
    /// neighbourhoods of the known findings in `others`.
    pub(super) fn expect<'f>(
        &mut self,
        fresh: &'f [Finding],
        others: &[FindingKey],
    ) -> BTreeMap<usize, Vec<&'f Finding>> {
        for finding in fresh {
            let area = self.survey(finding);
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

    /// The places of findings on a shelf, sorted.
    pub(super) fn shelf(&self, shelf: u64) -> &[Place] {
        self.shelves.get(&shelf).map_or(&[], Vec::as_slice)
    }

    /// True when a correction of this event, or the event itself, is known.
    pub(super) fn knows_event(&self, event_id: &str) -> bool {
        self.marks.contains_key(&("event", event_id.to_owned()))
    }

    fn area(&self, mut area: usize) -> usize {
        while self.joined_to[area] != area {
            area = self.joined_to[area];
        }
        area
    }

    fn neighbours(&self, view: &View<'_>, mut meet: impl FnMut(usize)) {
        let (marks, points) = marks(view, &self.policy);
        for mark in &marks {
            self.marks.get(mark).copied().into_iter().for_each(&mut meet);
        }
        for Point { text, at, meets, gap_secs, .. } in points {
            let (from, to) = (at.saturating_sub(gap_secs), at.saturating_add(gap_secs));
            for &kind in meets {
                let Some(line) = self.times.get(&(kind, text.clone())) else { continue };
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

    /// Notes where the findings of an incident are, as they came in.
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
                    let area = expected.unwrap_or_else(|| self.survey(finding));
                    self.known.insert(finding.key.clone(), (id.clone(), area));
                    self.put_on_shelf(finding);
                    area
                }
            };
            // The findings of one incident are within reach of one another, unless the incident
            // was made under another policy.
            if let Some(home) = home {
                area = self.join(home, area);
            }
            home = Some(area);
        }
        if let Some(home) = home.map(|area| self.area(area)) {
            self.residents[home].insert(id.clone());
        }
    }

    fn put_on_shelf(&mut self, finding: &Finding) {
        for shelf in shelves(finding).into_iter().flatten() {
            let (places, place) = (self.shelves.entry(shelf).or_default(), Place::of(finding));
            if let Err(gap) = places.binary_search(&place) {
                places.insert(gap, place);
            }
        }
    }

    /// The neighbourhood of a new finding: a new one, joined with all that it can reach.
    fn survey(&mut self, finding: &Finding) -> usize {
        let view = View::new(finding);
        let mut near = Vec::new();
        self.neighbours(&view, |other| near.push(other));
        let mut area = self.joined_to.len();
        self.joined_to.push(area);
        self.residents.push(HashSet::new());
        for other in near {
            area = self.join(area, other);
        }
        let (marks, points) = marks(&view, &self.policy);
        for mark in marks {
            self.marks.insert(mark, area);
        }
        for Point { kind, text, at, .. } in points {
            self.times.entry((kind, text)).or_default().insert((at, area));
        }
        area
    }

    fn join(&mut self, one: usize, other: usize) -> usize {
        let (one, other) = (self.area(one), self.area(other));
        if one == other {
            return one;
        }
        // The older one stays: new findings then point straight at their neighbourhood.
        let (into, from) = (one.min(other), one.max(other));
        self.joined_to[from] = into;
        let mut moved = std::mem::take(&mut self.residents[from]);
        if moved.len() > self.residents[into].len() {
            std::mem::swap(&mut moved, &mut self.residents[into]);
        }
        self.residents[into].extend(moved);
        into
    }
}

/// Everything through which a link could reach this finding, a superset of what the links ask:
/// marks that hold whatever the time, and points in time.
///
/// Neither two sessions nor two uses of an address are neighbours for being near: only what has to
/// be placed by time can tie them. So an account in which many sessions go on at once is many
/// neighbourhoods, and a new finding costs what its own session costs.
fn marks(view: &View<'_>, policy: &CorrelatePolicy) -> (Vec<Mark>, Vec<Point>) {
    let pair = |one: &str, other: &dyn std::fmt::Display| format!("{one} {other}");
    let mut marks: Vec<Mark> = Vec::new();
    let mut points: Vec<Point> = Vec::new();
    let mut mark = |kind, text: Option<String>| marks.extend(text.map(|text| (kind, text)));
    let mut point = |kind, text: &str, at: Option<i64>, meets, gap_secs| {
        let text = text.to_owned();
        points.extend(at.map(|at| Point { kind, text, at, meets, gap_secs }));
    };
    let finding = view.finding;
    mark("shared", filled(&finding.shared_event_id).map(str::to_owned));
    mark("event", filled(&finding.event_id).map(str::to_owned));
    mark("event", view.corrects().map(str::to_owned));
    if view.watch_only() {
        let who = pair(view.account, &view.actor());
        point(WATCHED, &who, view.at, &[WATCHED], policy.sign_in_gap_secs);
        return (marks, points);
    }
    mark("sign-in", view.sign_in_arn().map(str::to_owned));
    mark("key", view.access_key().map(str::to_owned));
    mark("key", view.issued_key().map(str::to_owned));
    let session = |at| format!("{} {} {at}", view.account, view.principal());
    mark("session", view.created().map(session));
    mark("assumed", view.assumed().map(|(account, at)| pair(account, &at)));
    mark("assumed", view.root_created().map(|at| pair(view.account, &at)));
    mark("service", view.on_behalf().map(|(name, day)| format!("{} {day} {name}", view.account)));

    if let Some(client) = view.client {
        // An organisation may share one address: only a failed sign-in makes neighbours of it.
        let gap_secs = policy.spray_gap_secs.max(policy.spray_related_secs);
        if view.failed_sign_in() {
            point(FAILED, client, view.at, &[FAILED, USED], gap_secs);
        } else {
            point(USED, client, view.at, &[FAILED], gap_secs);
        }
    }
    if view.assume_root() {
        point(AUDITED, view.actor(), view.at, &[AUDITED], policy.audit_gap_secs);
        return (marks, points);
    }
    // No link: what a sign-in means depends on the recovery before it.
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
    (marks, points)
}
