//! Findings of one root session become one incident.
//!
//! Pure, and independent of the order and number of arrivals: how a *set* of findings is divided
//! into incidents ([`links`]) and what each incident means ([`assess`]) are functions of that set
//! alone. [`correlate_all`] applies them to everything at once. [`correlate`] applies them to the
//! neighborhood of one new finding, all that any link could reach from it, and reports the
//! difference as [`Change`]s. Neighborhoods do not interact, so both give the same incidents;
//! `tests/order.rs` checks it. Only ids and states depend on the past.
//!
//! - *Links* are symmetric: an equal sign-in session, start of session, short-term key, issued key or
//!   `sharedEventID`; a corrected event; uses of one long-term key with gaps up to a day; sign-ins
//!   near in time; `AssumeRoot` calls of one caller within 15 minutes of each other. An incident is a
//!   connected component, so the order of arrival cannot matter.
//! - *The access key alone is not enough*: one console session uses a dozen keys; the start of the
//!   session links them.
//! - *Spray*: failed sign-ins from one address into two accounts or more, with gaps up to five
//!   minutes, are one incident over all accounts.
//! - *Reclassification*: a `direct` record in a session that an `AssumeRoot` call opened becomes
//!   `privileged`; a `possible` one becomes `direct` if the root user acted in the same incident. The
//!   original stays in `superseded`, so that later records are correlated with it.
//! - *Ids* such as `7K2-MPX` are a hash of the key of the opening finding: the same input gives the
//!   same ids.
//!
//! A finding may move: failed sign-ins leave their account's incident when they turn out to be
//! part of a spray; a sign-in leaves the session that it seemed to open when a nearer one arrives.
//! Most correlators decide at arrival and never revise, so their incidents depend on the order of
//! delivery; CloudTrail delivers minutes late and in no order.

mod assess;
mod change;
mod likeness;
mod links;
mod open;
mod redundant;
mod regroup;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use crate::finding::{Finding, FindingKey};
use crate::incident::{Incident, IncidentId, IncidentKind, IncidentState, by_time};
use assess::drafts;
pub use change::{Change, CorrelatePolicy, IncidentUpdate, REDUNDANT_SECS};
use links::View;
pub use open::OpenIncidents;
pub use redundant::INCIDENT_FINDINGS_KEPT_MAX;
use regroup::{names, regroup, related};

/// The changes that a new finding causes.
///
/// Takes time in proportion to the findings of the incidents that any link could reach from it;
/// almost none if the finding is redundant. Redundant findings are not kept in memory
/// ([`IncidentUpdate::redundant_to`]), so the caller has to detect that one arrives twice.
#[must_use]
pub fn correlate(open: &OpenIncidents, finding: &Finding) -> Vec<Change> {
    if let Some(id) = open.holder(&finding.key) {
        return vec![Change::Repeated { id: id.clone(), key: finding.key.clone() }];
    }
    if let Some((incident, growth)) = redundant::near(open, finding) {
        if !counts(finding) {
            return vec![Change::Grew(Box::new(growth))];
        }
        // The incident's texts state the number of failed sign-ins.
        let mut more = incident.clone();
        growth.counts_redundant_in(&mut more);
        let mut before = open.neighbors_of(&incident.id);
        before.iter_mut().filter(|one| one.id == more.id).for_each(|one| *one = &more);
        let further = regroup(open, &before, &[]);
        return std::iter::once(Change::Grew(Box::new(growth))).chain(further).collect();
    }
    let before = open.reach(finding);
    if let [incident] = before[..]
        && let Some(growth) = redundant::far(open, incident, finding)
    {
        return vec![Change::Grew(Box::new(growth))];
    }
    regroup(open, &before, &[finding])
}

/// Applies a batch of new findings and returns the changes.
///
/// Gives the same incidents as one finding after the other, with at most two regroupings for each
/// neighborhood that the batch touches. Save all of the changes or none.
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
    let mut counted: HashMap<FindingKey, IncidentId> = HashMap::new();
    // A finding that may be redundant to another of this batch waits until that one has an incident.
    let mut waiting: Option<Vec<Finding>> = None;
    loop {
        let is_last = waiting.is_some();
        let mut fresh: Vec<Finding> = Vec::new();
        let mut later: Vec<Finding> = Vec::new();
        let mut recount: Vec<FindingKey> = Vec::new();
        let mut pending = redundant::Unassigned::default();
        for finding in waiting.take().unwrap_or_else(|| std::mem::take(&mut findings)) {
            if let Some((incident, growth)) = redundant::near(open, &finding) {
                counted.insert(finding.key.clone(), incident.id.clone());
                recount.extend(growth.redundant_to.clone().filter(|_| counts(&finding)));
                let change = [Change::Grew(Box::new(growth))];
                open.apply(&change);
                all.extend(change);
            } else if !is_last && pending.may_be_repeated(&finding, open.policy()) {
                later.push(finding);
            } else {
                pending.add(&finding);
                fresh.push(finding);
            }
        }
        for (area, fresh) in open.expect(&fresh, &recount) {
            let changes = regroup(open, &open.incidents_in([area]), &fresh);
            open.apply(&changes);
            all.extend(changes);
        }
        if later.is_empty() {
            break;
        }
        waiting = Some(later);
    }
    for key in repeated {
        if let Some(id) = open.holder(&key).or_else(|| counted.get(&key)) {
            all.push(Change::Repeated { id: id.clone(), key });
        }
    }
    all
}

/// True for findings that the incident's texts count one by one.
fn counts(finding: &Finding) -> bool {
    View::new(finding).failed_sign_in()
}

/// Correlates a whole set: the most severe incident first, then the earliest. The first of equal
/// keys is kept.
#[must_use]
pub fn correlate_all(findings: Vec<Finding>, policy: &CorrelatePolicy) -> Vec<Incident> {
    let mut seen = HashSet::with_capacity(findings.len());
    let mut order: Vec<usize> =
        (0..findings.len()).filter(|&place| seen.insert(&findings[place].key)).collect();
    drop(seen);
    // Findings are large: sort their indexes, not the findings.
    order.sort_unstable_by(|&one, &other| by_time(&findings[one], &findings[other]));
    let views: Vec<View<'_>> = order.iter().map(|&place| View::new(&findings[place])).collect();
    let drafts = drafts(&views, policy);
    let heirs = vec![Vec::new(); drafts.len()];
    let ids = names(&drafts, &heirs, &[], &views, |_| false);
    drop(views);
    let related: Vec<Vec<IncidentId>> = drafts.iter().map(|draft| related(draft, &ids)).collect();

    // Findings move into their incidents, so that an archive's findings are not in memory twice.
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

/// Closes the open incidents without a finding for [`CorrelatePolicy::quiet_after_secs`].
///
/// Acknowledged incidents stay so: a person handles them. An incident without any time is closed at
/// once. A delivery outage does not end by silence.
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
