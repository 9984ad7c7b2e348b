//! Incidents that may still grow, and how far a link could reach between them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::correlate::links::{SIGN_IN_LAG_SECS, View, filled};
use crate::correlate::{Change, CorrelatePolicy};
use crate::finding::{Finding, FindingKey};
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
    /// Neighbourhood by a mark and the time, in Unix seconds.
    times: HashMap<Mark, BTreeMap<i64, usize>>,
    /// Neighbourhoods are disjoint sets; each points at one that it became part of, or at itself.
    joined_to: Vec<usize>,
    /// Incidents of a neighbourhood. May name some that have moved on or are no more.
    residents: Vec<Vec<IncidentId>>,
}

type Mark = (&'static str, String);

/// Marks a failed sign-in from an address.
const FAILED: &str = "failed from";
/// Marks anything else from an address.
const USED: &str = "used from";

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
        for incident in incidents {
            open.place(&incident.id, incident.originals());
            open.incidents.insert(incident.id.clone(), incident);
        }
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
                Change::Rose { .. } | Change::Repeated { .. } => {}
            }
        }
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
        let ids: HashSet<&IncidentId> =
            near.into_iter().flat_map(|area| &self.residents[area]).collect();
        let mut incidents: Vec<&Incident> =
            ids.into_iter().filter_map(|id| self.incidents.get(id)).collect();
        incidents.sort_by(|one, other| one.id.cmp(&other.id));
        incidents
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
        let (marks, times) = marks(view, &self.policy);
        for mark in &marks {
            self.marks.get(mark).copied().into_iter().for_each(&mut meet);
        }
        for (mark, at, gap_secs) in &times {
            let Some(line) = self.times.get(mark) else { continue };
            // What lies farther on the same line is a neighbour of what is found here.
            let before = line.range(at.saturating_sub(*gap_secs)..=*at).next_back();
            let after = line.range(*at..=at.saturating_add(*gap_secs)).next();
            before.into_iter().chain(after).for_each(|(_, &area)| meet(area));
        }
        // An address alone makes neighbours only of a failed sign-in and what else it did: an
        // organisation may share one address. Those points are not neighbours of one another.
        let (Some(client), Some(at)) = (view.client, view.at) else { return };
        let gap_secs = self.policy.spray_gap_secs.max(self.policy.spray_related_secs);
        let other = if view.failed_sign_in() { USED } else { FAILED };
        let Some(line) = self.times.get(&(other, client.to_owned())) else { return };
        let near = line.range(at.saturating_sub(gap_secs)..=at.saturating_add(gap_secs));
        near.for_each(|(_, &area)| meet(area));
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
                    let area = self.survey(finding);
                    self.known.insert(finding.key.clone(), (id.clone(), area));
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
        if let Some(home) = home.map(|area| self.area(area))
            && !self.residents[home].contains(id)
        {
            self.residents[home].push(id.clone());
        }
    }

    /// The neighbourhood of a new finding: a new one, joined with all that it can reach.
    fn survey(&mut self, finding: &Finding) -> usize {
        let view = View::new(finding);
        let mut near = Vec::new();
        self.neighbours(&view, |other| near.push(other));
        let mut area = self.joined_to.len();
        self.joined_to.push(area);
        self.residents.push(Vec::new());
        for other in near {
            area = self.join(area, other);
        }
        let (marks, times) = marks(&view, &self.policy);
        for mark in marks {
            self.marks.insert(mark, area);
        }
        for (mark, at, _) in times {
            self.times.entry(mark).or_default().insert(at, area);
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
/// marks that hold whatever the time, and marks that hold within a gap, in seconds.
fn marks(view: &View<'_>, policy: &CorrelatePolicy) -> (Vec<Mark>, Vec<(Mark, i64, i64)>) {
    let pair = |one: &str, other: &dyn std::fmt::Display| format!("{one} {other}");
    let mut marks: Vec<Mark> = Vec::new();
    let mut times = Vec::new();
    let mut mark = |kind, text: Option<String>| marks.extend(text.map(|text| (kind, text)));
    let finding = view.finding;
    mark("shared", filled(&finding.shared_event_id).map(str::to_owned));
    mark("event", filled(&finding.event_id).map(str::to_owned));
    mark("event", view.corrects().map(str::to_owned));
    if view.watch_only() {
        let gap_secs = policy.sign_in_gap_secs;
        times
            .extend(view.at.map(|at| (("watch", pair(view.account, &view.actor())), at, gap_secs)));
        return (marks, times);
    }
    mark("sign-in", view.sign_in_arn().map(str::to_owned));
    mark("key", view.access_key().map(str::to_owned));
    mark("key", view.issued_key().map(str::to_owned));
    let session = |at| format!("{} {} {at}", view.account, view.principal());
    mark("session", view.created().map(session));
    mark("assumed", view.assumed().map(|(account, at)| pair(account, &at)));
    mark("assumed", view.root_created().map(|at| pair(view.account, &at)));
    mark("service", view.on_behalf().map(|(name, day)| format!("{} {day} {name}", view.account)));

    let address_gap_secs = policy.spray_gap_secs.max(policy.spray_related_secs);
    if let (Some(client), Some(at)) = (view.client, view.at) {
        // Another's use of the address at the same second is kept by joining the two.
        let (kind, gap_secs) =
            if view.failed_sign_in() { (FAILED, address_gap_secs) } else { (USED, 0) };
        times.push(((kind, client.to_owned()), at, gap_secs));
    }
    if view.assume_root() {
        let gap_secs = policy.audit_gap_secs;
        times.extend(view.at.map(|at| (("audit", view.actor().to_owned()), at, gap_secs)));
        return (marks, times);
    }
    // A session is near a sign-in by when it began, and near an account page by when it was used.
    let account_gap_secs =
        policy.sign_in_gap_secs.max(policy.sign_in_lead_secs).max(SIGN_IN_LAG_SECS);
    let used = view.at.filter(|_| finding.root_use != crate::finding::RootUse::OnBehalf);
    for at in used.into_iter().chain(view.root_created()) {
        times.push((("account", view.account.to_owned()), at, account_gap_secs));
    }
    (marks, times)
}
