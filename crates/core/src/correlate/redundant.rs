//! Redundant findings: those that add nothing to an earlier one.
//!
//! A root key in daily use, an open console, a busy auto scaling group or somebody who guesses
//! passwords causes thousands of similar findings. Near in time to one that is kept, such a finding
//! is counted and not kept in memory ([`near`]); farther away it is kept, but causes no regrouping
//! if nothing else is in reach ([`far`]).
//!
//! What this approximates: gaps lose as much precision as [`CorrelatePolicy::redundant_secs`]
//! allows; a redundant finding keeps its own classification when the one that it repeats is
//! reclassified; and a later correction (`UPDATED_DATA`) of a redundant finding is shown beside it,
//! not in its place.

use std::collections::{BTreeMap, HashMap};

use crate::correlate::assess::FAILURES_HIGH;
use crate::correlate::change::{CorrelatePolicy, IncidentUpdate};
use crate::correlate::likeness::{fingerprint, keys, session_link};
use crate::correlate::links::View;
use crate::correlate::open::{OpenIncidents, TimeKey};
use crate::correlate::regroup::state;
use crate::finding::{Finding, Outcome, RootUse};
use crate::incident::{Incident, IncidentHead};

/// Earlier findings with the same fingerprint that are compared with a new one.
const COMPARED_MAX: usize = 64;

/// Findings of an incident above which it keeps only what it needs.
///
/// From then on, a finding that is linked to it by the start of its session, or as a failed sign-in
/// into its account, near in time and no worse, counts as redundant even if its key or address
/// differs. Keys and addresses of such findings link nothing to the incident, and it does not list
/// them; a store has them.
pub const INCIDENT_FINDINGS_KEPT_MAX: usize = 1_000;

/// True if a finding adds nothing to another: no more severe, no other reason, no other rule.
fn adds_nothing(finding: &Finding, than: &Finding) -> bool {
    finding.severity <= than.severity
        && finding.reasons.iter().all(|reason| than.reasons.contains(reason))
        && finding.rules.iter().all(|rule| than.rules.contains(rule))
}

/// The update of an incident by a finding that does not have to be kept in memory.
///
/// That is decided by two kept findings with the same fingerprint, which are in one incident with it
/// whatever else arrives. One is near in time, so that every gap that reaches the new finding
/// reaches it too, within [`CorrelatePolicy::redundant_secs`]. One is earlier and no milder, so that
/// severity, reasons, title and first moment stay. They may be the same.
///
/// Example: an access key calls `ListBuckets` at 14:00:00 and at 14:00:20; the call at 14:00:30 is
/// redundant to the one at 14:00:20.
pub(super) fn near<'o>(
    open: &'o OpenIncidents,
    finding: &Finding,
) -> Option<(&'o Incident, IncidentUpdate)> {
    let view = View::new(finding);
    if open.policy().redundant_secs <= 0
        || finding.event_id.as_deref().is_some_and(|event| open.knows_event(event))
    {
        return None;
    }
    let [by_fingerprint, by_link] = keys(finding);
    let own = fingerprint(&view)?;
    let same = |other: &View<'_>| fingerprint(other).is_some_and(|print| print == own);
    let enough = if view.failed_sign_in() { FAILURES_HIGH } else { 1 };
    // An incident of several findings has another title than one of one.
    let kept = kept_near(open, &view, by_fingerprint?, enough, &same)
        .filter(|(incident, _)| incident.findings.len() > 1);
    let (incident, kept) = kept.or_else(|| {
        let own = session_link(&view)?;
        let same = |other: &View<'_>| session_link(other).is_some_and(|link| link == own);
        kept_near(open, &view, by_link?, enough, &same)
            .filter(|(incident, _)| incident.findings.len() >= INCIDENT_FINDINGS_KEPT_MAX)
    })?;
    let mut growth = unchanged(incident, finding);
    growth.redundant_to = Some(kept.key.clone());
    Some((incident, growth))
}

/// The kept finding that a new one is redundant to, and its incident: see [`near`]. At least
/// `enough` findings of the incident must precede it.
fn kept_near<'o>(
    open: &'o OpenIncidents,
    view: &View<'_>,
    key: u64,
    enough: u64,
    same: &dyn Fn(&View<'_>) -> bool,
) -> Option<(&'o Incident, &'o Finding)> {
    let alike = open.alike(key);
    let here = TimeKey::of(view.finding);
    let (earlier, later) = alike.split_at(alike.partition_point(|other| *other < here));
    let held = |place: &TimeKey| {
        let incident = open.holder(&place.key).and_then(|id| open.get(id))?;
        let kept = incident.at_place(place.at, &place.key)?;
        let is_unrevised = incident.original(&kept.key).is_none();
        (is_unrevised && same(&View::new(kept))).then_some((incident, kept))
    };
    let second = |place: &TimeKey| place.at.map(jiff::Timestamp::as_second);
    let is_near = |place: &&TimeKey| match (view.at, second(place)) {
        (Some(at), Some(then)) => at.abs_diff(then) < open.policy().redundant_secs.unsigned_abs(),
        (None, None) => true,
        _ => false,
    };
    // Within one second, links choose by the order of keys: then only an earlier finding can replace
    // the new one.
    let is_later = |place: &&TimeKey| view.at.is_some() && second(place) > view.at;
    let beside = earlier.last().filter(is_near).and_then(held);
    let (incident, repeated) =
        beside.or_else(|| later.first().filter(is_near).filter(is_later).and_then(held))?;
    let before = || {
        let before = earlier.iter().rev().take(COMPARED_MAX).filter_map(held);
        before.filter(|(other, _)| other.id == incident.id)
    };
    // While their number can still raise the severity, each is kept and shown.
    let counted = before().take(usize::try_from(enough).unwrap_or(usize::MAX)).count() as u64;
    (counted >= enough && before().any(|(_, kept)| adds_nothing(view.finding, kept)))
        .then_some((incident, repeated))
}

/// Findings of a batch that have no incident yet, by fingerprint: their times.
#[derive(Default)]
pub(super) struct Unassigned(HashMap<u64, Vec<Option<i64>>>);

impl Unassigned {
    /// Adds a finding that will be kept.
    pub(super) fn add(&mut self, finding: &Finding) {
        if let [Some(key), _] = keys(finding) {
            self.0.entry(key).or_default().push(View::new(finding).at);
        }
    }

    /// True if a finding, no earlier than these, may be redundant to one of them.
    pub(super) fn may_be_repeated(&self, finding: &Finding, policy: &CorrelatePolicy) -> bool {
        let alike = keys(finding)[0].and_then(|key| self.0.get(&key));
        let Some((last, before)) = alike.and_then(|alike| alike.split_last()) else {
            return false;
        };
        let view = View::new(finding);
        let near = match (last, view.at) {
            (Some(then), Some(at)) => at.abs_diff(*then) < policy.redundant_secs.unsigned_abs(),
            (None, None) => true,
            _ => false,
        };
        near && policy.redundant_secs > 0
            && (!view.failed_sign_in() || before.len() as u64 + 1 >= FAILURES_HIGH)
    }
}

/// The update of an incident by a finding that changes only its last moment.
fn unchanged(incident: &Incident, finding: &Finding) -> IncidentUpdate {
    let (state, reopened) = state(&[incident], true);
    let last_at = incident.last_at.max(finding.event_time);
    IncidentUpdate {
        head: IncidentHead { state, last_at, ..incident.head.clone() },
        reopened,
        superseded: incident.superseded.clone(),
        added: vec![finding.clone()],
        changed: Vec::new(),
        removed: Vec::new(),
        redundant_to: None,
        echoes: BTreeMap::new(),
    }
}

/// Last findings of an incident that are compared with a new one. One console session uses a dozen
/// keys in turn.
const LAST_COMPARED_MAX: usize = 64;

/// The update of an incident without neighbors by a finding that adds only itself: it is later than
/// all others, and an earlier finding has the same links, is no milder and has the same reasons.
/// Then the partition and all attributes except the last moment stay. Without this, a root key in
/// daily use, or a busy auto scaling group, would take time in the square of its calls.
pub(super) fn far(
    open: &OpenIncidents,
    incident: &Incident,
    finding: &Finding,
) -> Option<IncidentUpdate> {
    let view = View::new(finding);
    let at = view.at?;
    let plain = |one: &Finding| {
        one.outcome == Outcome::Success
            && one.error_code.is_none()
            && one.shared_event_id.is_none()
            && one.addendum.is_none()
            && one.session.issued_key_id.is_none()
            && !one.session.sign_in
            && !matches!(one.root_use, RootUse::Possible | RootUse::No)
    };
    let follows = incident.last_at.is_some_and(|last| finding.event_time > Some(last));
    let corrected = finding.event_id.as_deref().is_some_and(|event| open.knows_event(event));
    if !follows || corrected || view.assume_root() || !plain(finding) || incident.findings.len() < 2
    {
        return None;
    }
    let last = incident.findings.iter().rev().take(LAST_COMPARED_MAX);
    let is_repeat = last.filter(|one| plain(one)).any(|one| {
        let other = View::new(one);
        let key = view.access_key();
        let near = other.at.is_some_and(|then| at - then <= open.policy().key_gap_secs);
        let tied = view.created().is_some()
            || view.sign_in_arn().is_some()
            || key.is_some_and(|_| !finding.session.long_term_key || near)
            || (incident.root_use == RootUse::OnBehalf && view.on_behalf() == other.on_behalf());
        (tied && other.at.is_some())
            && one.session == finding.session
            && one.root_use == finding.root_use
            && one.access_key_id == finding.access_key_id
            && one.source_ip == finding.source_ip
            && one.actor == finding.actor
            && one.account_id == finding.account_id
            && one.recipient_account_id == finding.recipient_account_id
            && finding.severity <= one.severity
            && finding.reasons.iter().all(|reason| one.reasons.contains(reason))
            && incident.original(&one.key).is_none()
    });
    is_repeat.then(|| unchanged(incident, finding))
}
