//! Findings that only say again what an earlier one said.
//!
//! A root key in daily use, a console left open, a busy auto scaling group or somebody who guesses
//! passwords makes thousands of findings that are all alike. Near in time to one that is kept, such
//! a finding is counted and not remembered ([`near`]); farther away it is kept, but regroups
//! nothing where nothing else is in reach ([`far`]).
//!
//! What is approximated by not remembering: gaps lose as much precision as
//! [`CorrelatePolicy::redundant_secs`] allows; an echo keeps the judgement with which it came when the
//! finding that it echoes is judged otherwise later; and a later correction (`UPDATED_DATA`) of an
//! echo is shown beside it instead of in its place.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::correlate::gather::{FAILURES_HIGH, read_only_without_rule};
use crate::correlate::links::{View, filled};
use crate::correlate::open::{OpenIncidents, Place};
use crate::correlate::regroup::state;
use crate::correlate::{CorrelatePolicy, IncidentUpdate};
use crate::finding::{Finding, Mfa, Outcome, RootUse, SessionFacts};
use crate::incident::{Incident, IncidentHead};

/// How many earlier findings of the same part are looked at for one that says as much.
const ECHO_LOOK_MAX: usize = 64;

/// Findings of an incident from which it remembers no more than it needs.
///
/// What is tied to it by the start of its session, or as a failed sign-in into its account, near in
/// time and says nothing worse, is then counted like an echo, though it has another key or address.
/// Keys and addresses that only such findings name tie nothing to the incident, and it does not
/// list them; a store has them.
pub const INCIDENT_FINDINGS_KEPT_MAX: usize = 1_000;

/// All that links and judgements ask of a finding that can be echoed, but its time, severity,
/// reasons and rules.
#[derive(PartialEq, Hash)]
struct Part<'a> {
    session: &'a SessionFacts,
    root_use: RootUse,
    account: Option<&'a str>,
    recipient: Option<&'a str>,
    key: Option<&'a str>,
    source_ip: Option<&'a str>,
    actor: Option<&'a str>,
    error_code: Option<&'a str>,
    outcome: Outcome,
    mfa: Mfa,
    /// See `join_assume_root` in [`crate::correlate::gather`].
    by_the_floor: bool,
    /// Of a sign-in, and of an `AssumeRoot` call.
    name: Option<&'a str>,
    /// UTC day of what a service did: it has no other link.
    day: Option<i64>,
}

/// What is the same of a finding and of all that may echo it; `None` where nothing may: it has
/// links of its own, or none that surely holds between the two.
fn part<'a>(view: &View<'a>) -> Option<Part<'a>> {
    let finding = view.finding;
    let session = &finding.session;
    let unlinked = finding.shared_event_id.is_none()
        && finding.addendum.is_none()
        && session.issued_key_id.is_none()
        && finding.root_use != RootUse::Possible
        && (finding.outcome == Outcome::Failure || !(session.sign_in || view.assume_root()));
    let whatever_the_time = view.created().is_some()
        || view.sign_in_arn().is_some()
        || (view.access_key().is_some() && !session.long_term_key);
    let by_gap = view.at.is_some()
        && (view.access_key().is_some()
            || view.on_behalf().is_some()
            || view.failed_sign_in()
            || view.watch_only()
            || view.assume_root());
    if !unlinked || !(whatever_the_time || by_gap) {
        return None;
    }
    let named = session.sign_in || view.assume_root();
    Some(Part {
        session,
        root_use: finding.root_use,
        account: filled(&finding.account_id),
        recipient: filled(&finding.recipient_account_id),
        key: filled(&finding.access_key_id),
        source_ip: filled(&finding.source_ip),
        actor: filled(&finding.actor),
        error_code: filled(&finding.error_code),
        outcome: finding.outcome,
        mfa: finding.mfa,
        by_the_floor: read_only_without_rule(finding),
        name: finding.event_name.as_deref().filter(|_| named),
        day: view.on_behalf().map(|(_, day)| day),
    })
}

/// The one link that surely holds between findings of a crowd, whatever else they say.
#[derive(PartialEq, Hash)]
enum Tie<'a> {
    Session { account: &'a str, principal: &'a str, created: i64, root_use: RootUse },
    FailedSignIn { account: &'a str, root_use: RootUse },
}

fn tie<'a>(view: &View<'a>) -> Option<Tie<'a>> {
    part(view)?;
    let (account, root_use) = (view.account, view.finding.root_use);
    match view.created() {
        _ if view.failed_sign_in() && view.at.is_some() => {
            Some(Tie::FailedSignIn { account, root_use })
        }
        Some(created) => {
            Some(Tie::Session { account, principal: view.principal(), created, root_use })
        }
        None => None,
    }
}

/// Where findings are kept that this one may echo, and those that may echo it: those of the same
/// part, then those of the same tie.
pub(super) fn shelves(finding: &Finding) -> [Option<u64>; 2] {
    let view = View::new(finding);
    let hash = |value: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        value(&mut hasher);
        hasher.finish()
    };
    [
        part(&view).map(|part| hash(&|hasher| part.hash(hasher))),
        tie(&view).map(|tie| hash(&|hasher| tie.hash(hasher))),
    ]
}

/// True when a finding says no more than another one: no worse, for no other reason, by no other
/// rule.
fn says_no_more(finding: &Finding, than: &Finding) -> bool {
    finding.severity <= than.severity
        && finding.reasons.iter().all(|reason| than.reasons.contains(reason))
        && finding.rules.iter().all(|rule| than.rules.contains(rule))
}

/// The growth of an incident by a finding that need not be remembered.
///
/// Two findings that are kept vouch for it, both of the same part, so that they are in one
/// incident with it whatever else comes. One is near in time: what any gap reaches from the echo
/// it reaches from there, within [`CorrelatePolicy::redundant_secs`]. One is earlier and says as much:
/// so severity, reasons, title and first moment are what they were. They may be the same.
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
    let [of_part, of_tie] = shelves(finding);
    let own = part(&view)?;
    let same = |other: &View<'_>| part(other).is_some_and(|part| part == own);
    let enough = if view.failed_sign_in() { FAILURES_HIGH } else { 1 };
    // Several findings are titled otherwise than one.
    let echoed = vouched(open, &view, of_part?, enough, &same)
        .filter(|(incident, _)| incident.findings.len() > 1);
    let (incident, echoed) = echoed.or_else(|| {
        let own = tie(&view)?;
        let same = |other: &View<'_>| tie(other).is_some_and(|tie| tie == own);
        vouched(open, &view, of_tie?, enough, &same)
            .filter(|(incident, _)| incident.findings.len() >= INCIDENT_FINDINGS_KEPT_MAX)
    })?;
    let mut growth = unchanged(incident, finding);
    growth.redundant_to = Some(echoed.key.clone());
    Some((incident, growth))
}

/// The finding on a shelf that stands for this one, and its incident: see [`near`]. `enough`
/// findings of the incident have to come before.
fn vouched<'o>(
    open: &'o OpenIncidents,
    view: &View<'_>,
    shelf: u64,
    enough: u64,
    same: &dyn Fn(&View<'_>) -> bool,
) -> Option<(&'o Incident, &'o Finding)> {
    let shelf = open.shelf(shelf);
    let here = Place::of(view.finding);
    let (earlier, later) = shelf.split_at(shelf.partition_point(|place| *place < here));
    let held = |place: &Place| {
        let incident = open.holder(&place.key).and_then(|id| open.get(id))?;
        let kept = incident.at_place(place.at, &place.key)?;
        let as_it_came = incident.original(&kept.key).is_none();
        (as_it_came && same(&View::new(kept))).then_some((incident, kept))
    };
    let second = |place: &Place| place.at.map(jiff::Timestamp::as_second);
    let is_near = |place: &&Place| match (view.at, second(place)) {
        (Some(at), Some(then)) => at.abs_diff(then) < open.policy().redundant_secs.unsigned_abs(),
        (None, None) => true,
        _ => false,
    };
    // Among findings of one second, links choose by the order of keys: then only what comes before
    // can stand for the echo.
    let is_later = |place: &&Place| view.at.is_some() && second(place) > view.at;
    let beside = earlier.last().filter(is_near).and_then(held);
    let (incident, echoed) =
        beside.or_else(|| later.first().filter(is_near).filter(is_later).and_then(held))?;
    let before = || {
        let before = earlier.iter().rev().take(ECHO_LOOK_MAX).filter_map(held);
        before.filter(|(other, _)| other.id == incident.id)
    };
    // As long as their number can make the incident worse, each is kept to be shown.
    let counted = before().take(usize::try_from(enough).unwrap_or(usize::MAX)).count() as u64;
    (counted >= enough && before().any(|(_, kept)| says_no_more(view.finding, kept)))
        .then_some((incident, echoed))
}

/// Findings of a batch that have no incident yet.
#[derive(Default)]
pub(super) struct Pending(HashMap<u64, Vec<Option<i64>>>);

impl Pending {
    /// One that will be kept.
    pub(super) fn add(&mut self, finding: &Finding) {
        if let [Some(shelf), _] = shelves(finding) {
            self.0.entry(shelf).or_default().push(View::new(finding).at);
        }
    }

    /// True when a finding, no earlier than these, may say again what one of them says.
    pub(super) fn may_be_said_again(&self, finding: &Finding, policy: &CorrelatePolicy) -> bool {
        let pending = shelves(finding)[0].and_then(|shelf| self.0.get(&shelf));
        let Some((last, before)) = pending.and_then(|pending| pending.split_last()) else {
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

/// The growth of an incident by a finding that leaves it what it was, but for its last moment.
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

/// How many of an incident's last findings are looked at for one that a new finding echoes. One
/// console session uses a dozen keys in turn.
const ECHO_FINDINGS_MAX: usize = 64;

/// The growth of an incident without neighbours by a finding that adds nothing but itself: it
/// follows all the others, and an earlier finding has the same part in every link, is no milder
/// and gives the same reasons. Then the partition and all attributes but the last moment are what
/// they were. Without this a root key in daily use, or a busy auto scaling group, would cost the
/// square of its calls.
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
    echoes.then(|| unchanged(incident, finding))
}
