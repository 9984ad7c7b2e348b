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

mod gather;
mod links;
mod open;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::finding::{Finding, FindingKey, Outcome, Reason, RootUse, Severity};
use crate::incident::{Incident, IncidentId, IncidentKind, IncidentState, by_time};
use gather::{Draft, drafts};
use links::View;
pub use open::OpenIncidents;

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
    Grew(Box<Growth>),
    /// Follows the [`Change::Grew`] that carries the new severity.
    Rose {
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
pub struct Growth {
    /// The incident.
    pub id: IncidentId,
    /// See [`Incident::kind`], as all the fields up to `superseded`: the value from now on.
    pub kind: IncidentKind,
    /// The state from now on.
    pub state: IncidentState,
    /// True when the incident was quiet or resolved and is open again.
    pub reopened: bool,
    /// The severity from now on.
    pub severity: Severity,
    /// The title from now on.
    pub title: String,
    /// The accounts from now on.
    pub accounts: Vec<String>,
    /// The root use from now on.
    pub root_use: RootUse,
    /// The reasons from now on.
    pub reasons: Vec<Reason>,
    /// The first moment from now on.
    pub first_at: Option<Timestamp>,
    /// The last moment from now on.
    pub last_at: Option<Timestamp>,
    /// The addresses from now on.
    pub addresses: Vec<String>,
    /// The related incidents from now on.
    pub related: Vec<IncidentId>,
    /// See [`Incident::superseded`]: the whole list from now on.
    pub superseded: Vec<Finding>,
    /// Findings new to the timeline.
    pub added: Vec<Finding>,
    /// Findings of the timeline that are judged otherwise from now on.
    pub changed: Vec<Finding>,
    /// Findings that leave the timeline: corrected by a later record, or part of another incident.
    pub removed: Vec<FindingKey>,
}

impl Growth {
    fn differs_from(&self, before: &Incident) -> bool {
        !(self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty())
            || self.state != before.state
            || self.kind != before.kind
            || self.severity != before.severity
            || self.title != before.title
            || self.root_use != before.root_use
            || self.reasons != before.reasons
            || self.accounts != before.accounts
            || self.addresses != before.addresses
            || self.related != before.related
            || (self.first_at, self.last_at) != (before.first_at, before.last_at)
            || self.superseded != before.superseded
    }

    /// Makes the incident what it is from now on.
    pub fn apply_to(self, incident: &mut Incident) {
        let Self { kind, state, severity, title, accounts, root_use, reasons, .. } = self;
        if !self.removed.is_empty() {
            let gone: HashSet<&FindingKey> = self.removed.iter().collect();
            incident.findings.retain(|finding| !gone.contains(&finding.key));
        }
        for finding in self.changed.into_iter().chain(self.added) {
            match incident.findings.binary_search_by(|other| by_time(other, &finding)) {
                Ok(place) => incident.findings[place] = finding,
                Err(place) => incident.findings.insert(place, finding),
            }
        }
        incident.kind = kind;
        incident.state = state;
        incident.severity = severity;
        incident.title = title;
        incident.accounts = accounts;
        incident.root_use = root_use;
        incident.reasons = reasons;
        incident.first_at = self.first_at;
        incident.last_at = self.last_at;
        incident.addresses = self.addresses;
        incident.related = self.related;
        incident.superseded = self.superseded;
    }
}

/// What a new finding changes.
///
/// Costs time in proportion to the findings of the incidents that any link could reach from it;
/// almost none where the finding only says again what the incident's last ones said.
#[must_use]
pub fn correlate(open: &OpenIncidents, finding: &Finding) -> Vec<Change> {
    if let Some(id) = open.holder(&finding.key) {
        return vec![Change::Repeated { id: id.clone(), key: finding.key.clone() }];
    }
    let before = open.reach(finding);
    if let [incident] = before[..]
        && let Some(growth) = echo(open, incident, finding)
    {
        return vec![Change::Grew(Box::new(growth))];
    }
    let mut owned: Vec<(&Finding, Option<usize>)> = vec![(finding, None)];
    for (place, incident) in before.iter().enumerate() {
        owned.extend(incident.originals().map(|original| (original, Some(place))));
    }
    owned.sort_unstable_by(|(one, _), (other, _)| by_time(one, other));
    let views: Vec<View<'_>> = owned.iter().map(|(finding, _)| View::new(finding)).collect();
    let owners: Vec<Option<usize>> = owned.into_iter().map(|(_, owner)| owner).collect();
    let drafts = drafts(&views, open.policy());
    let heirs = heirs(&drafts, &owners, &before);
    let ids = names(&drafts, &heirs, &before, &views, |id| open.get(id).is_some());

    let mut changes = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        let related = related(draft, &ids);
        let Some(&heir) = heirs[place].first() else {
            let shown = draft.shown.iter().map(|one| one.finding(&views).clone()).collect();
            let incident = whole(draft, ids[place].clone(), related, shown, &views);
            changes.push(Change::Opened(Box::new(incident)));
            continue;
        };
        let parents: Vec<&Incident> = heirs[place].iter().map(|&old| before[old]).collect();
        let Some(growth) = growth(draft, heir, &parents, related, &owners, &views) else {
            continue;
        };
        let from = parents.iter().map(|parent| parent.severity).max().unwrap_or_default();
        let (id, to) = (growth.id.clone(), growth.severity);
        changes.push(Change::Grew(Box::new(growth)));
        if to > from {
            changes.push(Change::Rose { id: id.clone(), from, to });
        }
        for parent in &parents[1..] {
            changes.push(Change::Joined { into: id.clone(), from: parent.id.clone() });
        }
    }
    changes
}

/// How many of an incident's last findings are looked at for one that a new finding echoes. One
/// console session uses a dozen keys in turn.
const ECHO_FINDINGS_MAX: usize = 64;

/// The growth of an incident without neighbours by a finding that adds nothing but itself: it
/// follows all the others, and an earlier finding has the same part in every link, is no milder
/// and gives the same reasons. Then the partition and all attributes but the last moment are what
/// they were. Without this a root key in daily use, or a busy auto scaling group, would cost the
/// square of its calls.
fn echo(open: &OpenIncidents, incident: &Incident, finding: &Finding) -> Option<Growth> {
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
    let last = incident.findings.iter().rev().take(ECHO_FINDINGS_MAX);
    let echoes = last.filter(|one| plain(one)).any(|one| {
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
    let (state, reopened) = state(&[incident], true);
    echoes.then(|| Growth {
        id: incident.id.clone(),
        kind: incident.kind,
        state,
        reopened,
        severity: incident.severity,
        title: incident.title.clone(),
        accounts: incident.accounts.clone(),
        root_use: incident.root_use,
        reasons: incident.reasons.clone(),
        first_at: incident.first_at,
        last_at: finding.event_time,
        addresses: incident.addresses.clone(),
        related: incident.related.clone(),
        superseded: incident.superseded.clone(),
        added: vec![finding.clone()],
        changed: Vec::new(),
        removed: Vec::new(),
    })
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
        let shown = draft.shown.into_iter();
        let findings = shown
            .filter_map(|one| one.revised.map_or_else(|| take(one.index), |finding| Some(*finding)))
            .collect();
        incidents.push(Incident {
            id,
            kind: draft.kind,
            state: IncidentState::Open,
            severity: draft.severity,
            title: draft.title,
            accounts: draft.accounts,
            root_use: draft.root_use,
            reasons: draft.reasons,
            first_at: draft.first_at,
            last_at: draft.last_at,
            addresses: draft.addresses,
            related,
            findings,
            superseded: draft.superseded.into_iter().filter_map(&mut take).collect(),
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
/// a time is closed at once, since nothing says that it goes on.
#[must_use]
pub fn close_quiet(open: &OpenIncidents, now: Timestamp) -> Vec<Change> {
    let quiet_secs = open.policy().quiet_after_secs;
    let over = |incident: &&Incident| {
        let last = incident.last_at;
        incident.state == IncidentState::Open
            && last.is_none_or(|last| now.as_second() - last.as_second() >= quiet_secs)
    };
    let closed = open.incidents().filter(over);
    closed.map(|incident| Change::Closed { id: incident.id.clone(), at: now }).collect()
}

/// For each draft the incidents that live on in it, the eldest first: it keeps its name.
///
/// An incident lives on where most of its findings are, among equals where the earliest is.
fn heirs(drafts: &[Draft], owners: &[Option<usize>], before: &[&Incident]) -> Vec<Vec<usize>> {
    // For each incident of before: how many findings the best draft holds, and which it is.
    let mut best: Vec<Option<(usize, usize)>> = vec![None; before.len()];
    for (place, draft) in drafts.iter().enumerate() {
        let mut shares: HashMap<usize, usize> = HashMap::new();
        for owner in draft.members.iter().filter_map(|&index| owners[index]) {
            *shares.entry(owner).or_default() += 1;
        }
        for (owner, share) in shares {
            if best[owner].is_none_or(|(most, _)| share > most) {
                best[owner] = Some((share, place));
            }
        }
    }
    let mut heirs = vec![Vec::new(); drafts.len()];
    for (owner, heir) in best.into_iter().enumerate() {
        if let Some((_, place)) = heir {
            heirs[place].push(owner);
        }
    }
    for owners in &mut heirs {
        owners.sort_by_key(|&owner: &usize| {
            let incident = before[owner];
            (incident.first_at.is_none(), incident.first_at, &incident.id)
        });
    }
    heirs
}

/// The name of each draft: the one that it inherits, or a new one from its opening finding.
fn names(
    drafts: &[Draft],
    heirs: &[Vec<usize>],
    before: &[&Incident],
    views: &[View<'_>],
    taken: impl Fn(&IncidentId) -> bool,
) -> Vec<IncidentId> {
    let mut used: HashSet<IncidentId> = HashSet::new();
    let mut ids = Vec::with_capacity(drafts.len());
    for (draft, heirs) in drafts.iter().zip(heirs) {
        let id = match heirs.first() {
            Some(&heir) => before[heir].id.clone(),
            None => {
                let opening = draft.members.first().map(|&index| &views[index].finding.key.0);
                let opening = opening.map_or("", String::as_str);
                (0..)
                    .map(|attempt| IncidentId::derived(opening, attempt))
                    .find(|id| !used.contains(id) && !taken(id))
                    .unwrap_or_else(|| IncidentId::derived(opening, 0))
            }
        };
        used.insert(id.clone());
        ids.push(id);
    }
    ids
}

fn related(draft: &Draft, ids: &[IncidentId]) -> Vec<IncidentId> {
    let mut related: Vec<IncidentId> =
        draft.related.iter().map(|&other| ids[other].clone()).collect();
    related.sort();
    related
}

fn whole(
    draft: &Draft,
    id: IncidentId,
    related: Vec<IncidentId>,
    findings: Vec<Finding>,
    views: &[View<'_>],
) -> Incident {
    Incident {
        id,
        kind: draft.kind,
        state: IncidentState::Open,
        severity: draft.severity,
        title: draft.title.clone(),
        accounts: draft.accounts.clone(),
        root_use: draft.root_use,
        reasons: draft.reasons.clone(),
        first_at: draft.first_at,
        last_at: draft.last_at,
        addresses: draft.addresses.clone(),
        related,
        findings,
        superseded: originals(draft, views),
    }
}

fn originals(draft: &Draft, views: &[View<'_>]) -> Vec<Finding> {
    draft.superseded.iter().map(|&index| views[index].finding.clone()).collect()
}

/// What became of the eldest of `parents`; `None` when it is what it was.
fn growth(
    draft: &Draft,
    heir: usize,
    parents: &[&Incident],
    related: Vec<IncidentId>,
    owners: &[Option<usize>],
    views: &[View<'_>],
) -> Option<Growth> {
    let eldest = *parents.first()?;
    let gained = draft.members.iter().any(|&index| owners[index] != Some(heir));
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for one in &draft.shown {
        let original = views[one.index].finding;
        let was_revised = eldest.original(&original.key).is_some();
        if owners[one.index] != Some(heir) {
            added.push(one.finding(views).clone());
        } else if was_revised || one.revised.is_some() {
            match eldest.shown(original) {
                None => added.push(one.finding(views).clone()),
                Some(shown) if shown != one.finding(views) => {
                    changed.push(one.finding(views).clone());
                }
                Some(_) => {}
            }
        }
    }
    let stay = draft.shown.len() - added.len();
    let mut removed = Vec::new();
    if stay != eldest.findings.len() {
        let shown: HashSet<&FindingKey> =
            draft.shown.iter().map(|one| &views[one.index].finding.key).collect();
        let gone = eldest.findings.iter().filter(|finding| !shown.contains(&finding.key));
        removed.extend(gone.map(|finding| finding.key.clone()));
    }
    let (state, reopened) = state(parents, gained);
    let growth = Growth {
        id: eldest.id.clone(),
        kind: draft.kind,
        state,
        reopened,
        severity: draft.severity,
        title: draft.title.clone(),
        accounts: draft.accounts.clone(),
        root_use: draft.root_use,
        reasons: draft.reasons.clone(),
        first_at: draft.first_at,
        last_at: draft.last_at,
        addresses: draft.addresses.clone(),
        related,
        superseded: originals(draft, views),
        added,
        changed,
        removed,
    };
    (gained || growth.differs_from(eldest)).then_some(growth)
}

/// The state of an incident made of `parents`, the eldest first.
///
/// The worst of them decides, so that nobody's acknowledgement of something small silences a
/// break-in that it turns out to belong to; among equals an acknowledgement counts.
fn state(parents: &[&Incident], gained: bool) -> (IncidentState, bool) {
    let worst = parents.iter().map(|parent| parent.severity).max();
    let mut states = parents.iter().filter(|one| Some(one.severity) == worst).map(|one| one.state);
    let first = states.clone().next().unwrap_or_default();
    let state = if states.any(|state| state == IncidentState::Acknowledged) {
        IncidentState::Acknowledged
    } else {
        first
    };
    match state {
        IncidentState::Quiet | IncidentState::Resolved if gained => (IncidentState::Open, true),
        _ => (state, false),
    }
}
