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
            open.settle(incident);
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
                Change::Opened(incident) => self.settle((**incident).clone()),
                Change::Grew(growth) => {
                    if let Some(mut incident) = self.incidents.remove(&growth.id) {
                        growth.clone().apply_to(&mut incident);
                        self.settle(incident);
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
            let before = line.range(at.saturating_sub(*gap_secs)..=*at).next_back();
            let after = line.range(*at..=at.saturating_add(*gap_secs)).next();
            before.into_iter().chain(after).for_each(|(_, &area)| meet(area));
        }
    }

    /// Takes an incident in, with the places of the findings that are new to us.
    fn settle(&mut self, incident: Incident) {
        let mut areas: Vec<usize> = Vec::new();
        for finding in incident.originals() {
            if let Some((id, area)) = self.known.get_mut(&finding.key) {
                if *id != incident.id {
                    *id = incident.id.clone();
                }
                areas.push(*area);
                continue;
            }
            let mut area = self.joined_to.len();
            let view = View::new(finding);
            let mut near = Vec::new();
            self.neighbours(&view, |other| near.push(other));
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
            self.known.insert(finding.key.clone(), (incident.id.clone(), area));
            areas.push(area);
        }
        // The findings of one incident are within reach of one another, unless the incident was
        // made under another policy.
        if let Some(&first) = areas.first() {
            let area = areas.iter().fold(first, |area, &other| self.join(area, other));
            if self.residents[area].last() != Some(&incident.id) {
                self.residents[area].retain(|id| id != &incident.id);
                self.residents[area].push(incident.id.clone());
            }
        }
        self.incidents.insert(incident.id.clone(), incident);
    }

    fn join(&mut self, one: usize, other: usize) -> usize {
        let (one, other) = (self.area(one), self.area(other));
        if one == other {
            return one;
        }
        let smaller = |area: usize| self.residents[area].len();
        let (into, from) = if smaller(one) < smaller(other) { (other, one) } else { (one, other) };
        self.joined_to[from] = into;
        let moved = std::mem::take(&mut self.residents[from]);
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
        times.extend(view.at.map(|at| {
            (("watch", pair(view.account, &view.actor())), at, gap_secs)
        }));
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
        times.push((("address", client.to_owned()), at, address_gap_secs));
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
