//! Findings of one root session become one incident.
//!
//! Pure, and indifferent to the order and the number of arrivals: how a *set* of findings falls
//! into incidents ([`links`]) and what each incident means ([`gather`]) are functions of that set
//! alone. [`correlate_all`] applies them to everything at once. [`correlate`] applies them to the
//! neighbourhood of one new finding, all that any link could reach from it, and reports the
//! difference as [`Change`]s. Neighbourhoods do not interact, so both come to the same incidents;
//! `tests/order.rs` holds them to it. Only ids and states have a history.
//!
//! A finding may move: failed sign-ins leave their account's incident when they turn out to be
//! part of a spray, a sign-in leaves the session that it seemed to open when the nearer one
//! arrives. Most correlators decide at arrival and never look back, which makes the incidents
//! depend on the luck of delivery; CloudTrail delivers minutes late and in no order.

mod echo;
mod gather;
mod links;
mod open;
mod regroup;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;

use jiff::Timestamp;

use crate::finding::{Finding, FindingKey, Severity};
use crate::incident::{
    Incident, IncidentHead, IncidentId, IncidentKind, IncidentState, RedundantCount, by_time,
};
pub use echo::INCIDENT_FINDINGS_KEPT_MAX;
use gather::drafts;
use links::View;
pub use open::OpenIncidents;
use regroup::{names, regroup, related};

/// How near in time a finding must be to one that it echoes, for memory to do without it.
pub const ECHO_SECS: i64 = 60;

/// How near findings must be to belong together. Gaps are inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CorrelatePolicy {
    /// Sign-ins, recoveries and account pages of one account and address, failed sign-ins of one
    /// account, and watched acts of one actor: seconds between one and the next. Default 3,600.
    pub sign_in_gap_secs: i64,
    /// Failed sign-ins from one address: seconds between one and the next. Default 300.
    pub spray_gap_secs: i64,
    /// Accounts that make such failed sign-ins a spray. Default 2, and never less.
    pub spray_accounts_min: usize,
    /// A spray is related to what its address does up to this many seconds after. Default 3,600.
    pub spray_related_secs: i64,
    /// Uses of one long-term root key: seconds between one and the next. Default 86,400.
    pub key_gap_secs: i64,
    /// A sign-in belongs to a session that begins up to this many seconds after it. Default 300.
    pub sign_in_lead_secs: i64,
    /// `AssumeRoot` calls of one caller: seconds between one and the next. Default 900.
    pub audit_gap_secs: i64,
    /// An incident is quiet when its last finding is this many seconds old. Default 3,600.
    pub quiet_after_secs: i64,
    /// A finding that says again what one nearer than this many seconds says is counted and not
    /// remembered: gaps are measured with this precision then. 0 remembers all. Default
    /// [`ECHO_SECS`].
    pub redundant_secs: i64,
}

impl Default for CorrelatePolicy {
    fn default() -> Self {
        Self {
            sign_in_gap_secs: 3_600,
            spray_gap_secs: 300,
            spray_accounts_min: 2,
            spray_related_secs: 3_600,
            key_gap_secs: 86_400,
            sign_in_lead_secs: 300,
            audit_gap_secs: 900,
            quiet_after_secs: 3_600,
            redundant_secs: ECHO_SECS,
        }
    }
}

/// One step in the life of an incident, with what a store needs to follow it.
///
/// The changes of one call belong together: save all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A new incident.
    Opened(Box<Incident>),
    /// An incident gained findings, gave some away, or means something else than before.
    Grew(Box<IncidentUpdate>),
    /// Follows the [`Change::Grew`] that carries the new severity.
    Escalated {
        /// The incident.
        id: IncidentId,
        /// The worst severity before, of this incident and of those that joined it.
        from: Severity,
        /// The severity now.
        to: Severity,
    },
    /// An incident is no more: its findings are in others, most of them in `into`.
    Joined {
        /// The incident that lives on; its [`Change::Grew`] came before.
        into: IncidentId,
        /// The incident that is no more. A later split may open an incident of this name again.
        from: IncidentId,
    },
    /// Nothing more has come for a while: the incident is [`IncidentState::Quiet`].
    Closed {
        /// The incident.
        id: IncidentId,
        /// When that was decided.
        at: Timestamp,
    },
    /// The finding was known already; nothing changes.
    Repeated {
        /// The incident that holds it.
        id: IncidentId,
        /// The finding.
        key: FindingKey,
    },
}

/// What became of an incident that was there before: its rows to write, not all of it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncidentUpdate {
    /// What the incident is from now on. The update derefs to it.
    pub head: IncidentHead,
    /// True when the incident was quiet or resolved and is open again.
    pub reopened: bool,
    /// See [`Incident::superseded`]: the whole list from now on.
    pub superseded: Vec<Finding>,
    /// Findings new to the timeline.
    pub added: Vec<Finding>,
    /// Findings of the timeline that are judged otherwise from now on.
    pub changed: Vec<Finding>,
    /// Findings that leave the timeline: corrected by a later record, or part of another incident.
    pub removed: Vec<FindingKey>,
    /// Set when the single finding of `added` says again what this one says, near it in time. Then
    /// it changes nothing but counts and the last moment, and memory does without it.
    ///
    /// A store keeps it, with this key beside it. An echo is in the incident of the finding that it
    /// echoes for good: whenever that one is in `added` or `superseded` (or in the incident of a
    /// [`Change::Opened`]), its echoes come with it. An echo stays judged as it was when it came,
    /// even when the finding that it echoes is judged otherwise later.
    pub redundant_to: Option<FindingKey>,
    /// What echoes the findings that the incident gains: see [`Incident::echoes`].
    pub echoes: BTreeMap<FindingKey, RedundantCount>,
}

impl Deref for IncidentUpdate {
    type Target = IncidentHead;

    fn deref(&self) -> &IncidentHead {
        &self.head
    }
}

impl IncidentUpdate {
    fn differs_from(&self, before: &Incident) -> bool {
        !(self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty())
            || self.head != before.head
            || self.superseded != before.superseded
    }

    /// Counts an echo in the incident; false when this is the growth of another kind.
    fn counts_echo_in(&self, incident: &mut Incident) -> bool {
        let (Some(echoed), [echo]) = (&self.redundant_to, &self.added[..]) else { return false };
        incident.echoes.entry(echoed.clone()).or_default().add(echo.event_time);
        incident.head.last_at = self.head.last_at;
        incident.head.state = self.head.state;
        true
    }

    /// Makes the incident what it is from now on. An echo is counted, not listed.
    pub fn apply_to(self, incident: &mut Incident) {
        if self.counts_echo_in(incident) {
            return;
        }
        if !self.removed.is_empty() {
            let gone: HashSet<&FindingKey> = self.removed.iter().collect();
            incident.findings.retain(|finding| !gone.contains(&finding.key));
        }
        for finding in self.changed {
            match incident.findings.binary_search_by(|one| by_time(one, &finding)) {
                Ok(place) => incident.findings[place] = finding,
                Err(place) => incident.findings.insert(place, finding),
            }
        }
        // Many at once are not inserted one by one: findings are large.
        incident.findings.extend(self.added);
        incident.findings.sort_by(by_time);
        incident.findings.dedup_by(|later, one| later.key == one.key);
        incident.head = self.head;
        incident.superseded = self.superseded;
        incident.echoes.extend(self.echoes);
        let gone = self.removed.iter().filter(|key| incident.original(key).is_none());
        let gone: Vec<&FindingKey> = gone.collect();
        for key in gone {
            incident.echoes.remove(key);
        }
    }
}

/// What a new finding changes.
///
/// Costs time in proportion to the findings of the incidents that any link could reach from it;
/// almost none where the finding only says again what an earlier one said. A finding that merely
/// echoed another is not remembered ([`IncidentUpdate::redundant_to`]): whether it came already is for the
/// caller to know.
#[must_use]
pub fn correlate(open: &OpenIncidents, finding: &Finding) -> Vec<Change> {
    if let Some(id) = open.holder(&finding.key) {
        return vec![Change::Repeated { id: id.clone(), key: finding.key.clone() }];
    }
    if let Some((incident, growth)) = echo::near(open, finding) {
        if !counts(finding) {
            return vec![Change::Grew(Box::new(growth))];
        }
        // The number of failed sign-ins is part of what the incident says.
        let mut more = incident.clone();
        growth.counts_echo_in(&mut more);
        let mut before = open.neighbours_of(&incident.id);
        before.iter_mut().filter(|one| one.id == more.id).for_each(|one| *one = &more);
        let further = regroup(open, &before, &[]);
        return std::iter::once(Change::Grew(Box::new(growth))).chain(further).collect();
    }
    let before = open.reach(finding);
    if let [incident] = before[..]
        && let Some(growth) = echo::far(open, incident, finding)
    {
        return vec![Change::Grew(Box::new(growth))];
    }
    regroup(open, &before, &[finding])
}

/// What a batch of new findings changes, done and reported.
///
/// Comes to the same incidents as one finding after the other, at the cost of two regroupings at
/// most for each neighbourhood that the batch touches. Save all of the changes or none.
pub fn correlate_batch(open: &mut OpenIncidents, mut findings: Vec<Finding>) -> Vec<Change> {
    findings.sort_by(by_time);
    let mut all = Vec::new();
    let mut seen: HashSet<FindingKey> = HashSet::with_capacity(findings.len());
    let mut repeated: Vec<FindingKey> = Vec::new();
    findings.retain(|finding| {
        let fresh = open.holder(&finding.key).is_none() && seen.insert(finding.key.clone());
        if !fresh {
            repeated.push(finding.key.clone());
        }
        fresh
    });
    let mut echoed: HashMap<FindingKey, IncidentId> = HashMap::new();
    // What may echo another finding of this batch waits until that one has an incident.
    let mut waiting: Option<Vec<Finding>> = None;
    loop {
        let is_last = waiting.is_some();
        let mut fresh: Vec<Finding> = Vec::new();
        let mut later: Vec<Finding> = Vec::new();
        let mut recount: Vec<FindingKey> = Vec::new();
        let mut pending = echo::Pending::default();
        for finding in waiting.take().unwrap_or_else(|| std::mem::take(&mut findings)) {
            if let Some((incident, growth)) = echo::near(open, &finding) {
                echoed.insert(finding.key.clone(), incident.id.clone());
                recount.extend(growth.redundant_to.clone().filter(|_| counts(&finding)));
                let change = [Change::Grew(Box::new(growth))];
                open.apply(&change);
                all.extend(change);
            } else if !is_last && pending.may_be_said_again(&finding, open.policy()) {
                later.push(finding);
            } else {
                pending.add(&finding);
                fresh.push(finding);
            }
        }
        for (area, fresh) in open.expect(&fresh, &recount) {
            let changes = regroup(open, &open.residents([area]), &fresh);
            open.apply(&changes);
            all.extend(changes);
        }
        if later.is_empty() {
            break;
        }
        waiting = Some(later);
    }
    for key in repeated {
        if let Some(id) = open.holder(&key).or_else(|| echoed.get(&key)) {
            all.push(Change::Repeated { id: id.clone(), key });
        }
    }
    all
}

/// True for what is counted in words, one by one.
fn counts(finding: &Finding) -> bool {
    View::new(finding).failed_sign_in()
}

/// Everything at once: the worst first, then the earliest. The first of equal keys is kept.
#[must_use]
pub fn correlate_all(findings: Vec<Finding>, policy: &CorrelatePolicy) -> Vec<Incident> {
    let mut seen = HashSet::with_capacity(findings.len());
    let mut order: Vec<usize> =
        (0..findings.len()).filter(|&place| seen.insert(&findings[place].key)).collect();
    drop(seen);
    // Findings are large: their places are sorted, not they.
    order.sort_unstable_by(|&one, &other| by_time(&findings[one], &findings[other]));
    let views: Vec<View<'_>> = order.iter().map(|&place| View::new(&findings[place])).collect();
    let drafts = drafts(&views, policy);
    let heirs = vec![Vec::new(); drafts.len()];
    let ids = names(&drafts, &heirs, &[], &views, |_| false);
    drop(views);
    let related: Vec<Vec<IncidentId>> = drafts.iter().map(|draft| related(draft, &ids)).collect();

    // Findings move into their incidents: an archive's worth should not be held twice.
    let mut stock: Vec<Option<Finding>> = findings.into_iter().map(Some).collect();
    let mut take = |index: usize| stock.get_mut(order[index]).and_then(Option::take);
    let mut incidents: Vec<Incident> = Vec::with_capacity(drafts.len());
    for ((draft, id), related) in drafts.into_iter().zip(ids).zip(related) {
        let head = draft.head(id, IncidentState::Open, related);
        let shown = draft.shown.into_iter();
        let findings = shown
            .filter_map(|one| one.revised.map_or_else(|| take(one.index), |finding| Some(*finding)))
            .collect();
        incidents.push(Incident {
            head,
            findings,
            superseded: draft.superseded.into_iter().filter_map(&mut take).collect(),
            echoes: BTreeMap::new(),
        });
    }
    incidents.sort_by(|one, other| {
        let at = |incident: &Incident| (incident.first_at.is_none(), incident.first_at);
        (other.severity.cmp(&one.severity))
            .then_with(|| at(one).cmp(&at(other)))
            .then_with(|| one.id.cmp(&other.id))
    });
    incidents
}

/// Closes the open incidents of which nothing was heard for [`CorrelatePolicy::quiet_after_secs`].
///
/// Acknowledged incidents stay so: a person took them over. An incident of which no finding states
/// a time is closed at once, since nothing says that it goes on. That alerts cannot be delivered does
/// not end by silence.
#[must_use]
pub fn close_quiet(open: &OpenIncidents, now: Timestamp) -> Vec<Change> {
    let quiet_secs = open.policy().quiet_after_secs;
    let over = |incident: &&Incident| {
        let last = incident.last_at;
        incident.state == IncidentState::Open
            && incident.kind != IncidentKind::DeliveryOutage
            && last.is_none_or(|last| now.as_second() - last.as_second() >= quiet_secs)
    };
    let closed = open.incidents().filter(over);
    closed.map(|incident| Change::Closed { id: incident.id.clone(), at: now }).collect()
}
