//! Which findings belong together: the partition of a set of findings.
//!
//! Everything here is a function of the *set*: findings are sorted by time and key, links are
//! symmetric relations, and an incident is a connected component. Where a finding can join only one
//! of several (a sign-in its session, an account page its session), distance in time within the
//! whole set decides, never the order of arrival. Gaps are found by one sweep over the
//! sorted findings with the last one of each kind in a map, so the cost is O(n log n).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::correlate::change::CorrelatePolicy;
use crate::finding::{Finding, Outcome, RootUse};
use crate::incident::RedundantCount;

/// A session may begin up to this many seconds before its sign-in, by CloudTrail's clock.
pub(super) const SIGN_IN_LAG_SECS: i64 = 60;

const DAY_SECS: i64 = 86_400;

/// A finding with what the links read of it, computed once.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) finding: &'a Finding,
    /// Account of the root user; the recipient if none is named, or empty.
    pub(super) account: &'a str,
    /// Unix seconds.
    pub(super) at: Option<i64>,
    /// The client's address; `None` for service names and `AWS Internal`.
    pub(super) client: Option<&'a str>,
    /// Redundant findings that are not in the set.
    pub(super) echoes: RedundantCount,
}

impl<'a> View<'a> {
    pub(super) fn new(finding: &'a Finding) -> Self {
        let account =
            filled(&finding.account_id).or(filled(&finding.recipient_account_id)).unwrap_or("");
        let client = filled(&finding.source_ip).filter(|text| text.parse::<IpAddr>().is_ok());
        let at = finding.event_time.map(jiff::Timestamp::as_second);
        Self { finding, account, at, client, echoes: RedundantCount::default() }
    }

    pub(super) fn watch_only(&self) -> bool {
        self.finding.root_use == RootUse::No
    }

    /// The `sts:AssumeRoot` call itself. Its caller's session and key are not the root user's.
    pub(super) fn assume_root(&self) -> bool {
        self.finding.root_use == RootUse::Privileged
            && self.finding.event_name.as_deref() == Some("AssumeRoot")
    }

    /// True when the finding's key and session facts are those of a root session.
    fn keyed(&self) -> bool {
        !self.watch_only() && !self.assume_root()
    }

    pub(super) fn failed_sign_in(&self) -> bool {
        self.finding.session.sign_in
            && self.finding.outcome == Outcome::Failure
            && !self.watch_only()
    }

    /// A sign-in that opened a console session. Other sign-in events (`CheckMfa`, a recovery)
    /// succeed without opening one.
    pub(super) fn console_sign_in(&self) -> bool {
        let name = self.finding.event_name.as_deref();
        self.finding.session.sign_in
            && self.finding.outcome == Outcome::Success
            && !self.watch_only()
            && matches!(name, Some("ConsoleLogin" | "ExternalIdPDirectoryLogin"))
    }

    /// A completed password recovery.
    pub(super) fn recovered(&self) -> bool {
        self.finding.session.sign_in
            && self.finding.outcome == Outcome::Success
            && !self.watch_only()
            && self.finding.event_name.as_deref() == Some("PasswordRecoveryCompleted")
    }

    pub(super) fn access_key(&self) -> Option<&'a str> {
        filled(&self.finding.access_key_id).filter(|_| self.keyed())
    }

    pub(super) fn issued_key(&self) -> Option<&'a str> {
        filled(&self.finding.session.issued_key_id).filter(|_| !self.watch_only())
    }

    pub(super) fn sign_in_arn(&self) -> Option<&'a str> {
        filled(&self.finding.session.sign_in_session_arn).filter(|_| self.keyed())
    }

    /// Start of the session, Unix seconds.
    pub(super) fn created(&self) -> Option<i64> {
        self.finding.session.created_at.filter(|_| self.keyed()).map(jiff::Timestamp::as_second)
    }

    /// Whose session it is. An account has one root user, however its ARN is written.
    pub(super) fn principal(&self) -> &'a str {
        if self.root_typed() {
            "root"
        } else {
            filled(&self.finding.session.principal_arn).unwrap_or("")
        }
    }

    /// True when the record names the root user as its identity.
    pub(super) fn root_typed(&self) -> bool {
        let session = &self.finding.session;
        match filled(&session.principal_type) {
            Some(kind) => kind.eq_ignore_ascii_case("Root"),
            None => filled(&session.principal_arn).is_some_and(crate::classify::is_root_arn),
        }
    }

    /// Start of a session of the root user itself, Unix seconds.
    pub(super) fn root_created(&self) -> Option<i64> {
        self.created().filter(|_| self.root_typed() && !self.finding.session.long_term_key)
    }

    /// For a successful `AssumeRoot` call: the account and the second at which its session begins.
    pub(super) fn assumed(&self) -> Option<(&'a str, i64)> {
        let target = filled(&self.finding.session.target_account_id)?;
        (self.assume_root() && self.finding.outcome == Outcome::Success)
            .then_some((target, self.at?))
    }

    /// The event that this record corrects, for `UPDATED_DATA`.
    pub(super) fn corrects(&self) -> Option<&'a str> {
        let addendum = self.finding.addendum.as_ref()?;
        filled(&addendum.original_event_id)
            .filter(|_| addendum.reason.eq_ignore_ascii_case("UPDATED_DATA"))
    }

    /// The service that acted and the UTC day, for grouping what has no known session.
    pub(super) fn on_behalf(&self) -> Option<(&'a str, i64)> {
        let service = filled(&self.finding.session.invoked_by)
            .or(filled(&self.finding.actor))
            .or(filled(&self.finding.source_ip))
            .unwrap_or("");
        (self.finding.root_use == RootUse::OnBehalf)
            .then_some((service, self.at?.div_euclid(DAY_SECS)))
    }

    /// The caller, if that is not the root user.
    pub(super) fn actor(&self) -> &'a str {
        filled(&self.finding.actor)
            .or(filled(&self.finding.session.principal_arn))
            .or(filled(&self.finding.session.invoked_by))
            .unwrap_or("")
    }

    /// True if the record itself states its session or long-term key.
    fn in_session(&self) -> bool {
        self.created().is_some()
            || self.sign_in_arn().is_some()
            || (self.keyed() && self.finding.session.long_term_key)
    }

    /// True for findings that only account, address and time can place: sign-ins, recoveries and
    /// untyped account pages.
    pub(super) fn placed_by_time(&self) -> bool {
        let by_person = matches!(self.finding.root_use, RootUse::Direct | RootUse::Possible);
        by_person && self.at.is_some() && !self.in_session()
    }
}

pub(super) fn filled(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// One address's failed sign-ins in several accounts.
pub(super) struct Spray {
    pub(super) address: String,
    pub(super) accounts: BTreeSet<String>,
    /// Unix seconds.
    pub(super) first: i64,
    /// Unix seconds.
    pub(super) last: i64,
    /// Index of the group that holds it.
    pub(super) group: usize,
}

/// The partition of a set of findings.
pub(super) struct Parts {
    /// Indices of the findings, ascending; groups in the order of their first finding.
    pub(super) groups: Vec<Vec<usize>>,
    pub(super) sprays: Vec<Spray>,
}

/// Divides a set of findings, sorted by time and key, each key once.
pub(super) fn partition(views: &[View<'_>], policy: &CorrelatePolicy) -> Parts {
    let mut sets = Sets::new(views.len());
    let issued = link_by_keys(views, policy, &mut sets);
    let (mut sprays, sprayed) = link_sprays(views, policy, &mut sets);
    let sessions = Sessions::find(views, &issued, &mut sets);
    link_sign_ins(views, policy, &sessions, &mut sets);
    link_pages(views, policy, &sessions, &mut sets);
    link_by_time(views, policy, &sessions, &sprayed, &mut sets);
    link_on_behalf(views, &mut sets);
    link_callers(views, policy, &mut sets);

    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group_of = vec![usize::MAX; views.len()];
    for index in 0..views.len() {
        let root = sets.find(index);
        if root == index {
            group_of[index] = groups.len();
            groups.push(Vec::new());
        }
        group_of[index] = group_of[root];
        groups[group_of[index]].push(index);
    }
    for spray in &mut sprays {
        spray.group = group_of[spray.group];
    }
    Parts { groups, sprays }
}

/// Links that hold whatever the time between: equal sessions, keys, shared and corrected events.
/// Returns which findings used a key or a session that another finding issued.
fn link_by_keys(views: &[View<'_>], policy: &CorrelatePolicy, sets: &mut Sets) -> Vec<bool> {
    #[derive(PartialEq, Eq, Hash)]
    enum Link<'a> {
        SignIn(&'a str, &'a str),
        Session(&'a str, &'a str, i64),
        Key(&'a str, &'a str),
        Shared(&'a str),
    }
    let mut first: HashMap<Link<'_>, usize> = HashMap::new();
    let mut issuer: HashMap<&str, usize> = HashMap::new();
    let mut assumed: HashMap<(&str, i64), usize> = HashMap::new();
    let mut corrected: HashMap<(&str, &str), usize> = HashMap::new();
    let mut last_use: HashMap<(&str, &str), (usize, i64)> = HashMap::new();
    for (index, view) in views.iter().enumerate() {
        let long_term = view.finding.session.long_term_key;
        let links = [
            view.sign_in_arn().map(|arn| Link::SignIn(view.account, arn)),
            view.created().map(|at| Link::Session(view.account, view.principal(), at)),
            view.access_key().filter(|_| !long_term).map(|key| Link::Key(view.account, key)),
            filled(&view.finding.shared_event_id).map(Link::Shared),
        ];
        for link in links.into_iter().flatten() {
            sets.union(index, *first.entry(link).or_insert(index));
        }
        if let Some(key) = view.issued_key() {
            sets.union(index, *issuer.entry(key).or_insert(index));
        }
        if let Some(assumption) = view.assumed() {
            sets.union(index, *assumed.entry(assumption).or_insert(index));
        }
        if let Some(event) = view.corrects() {
            sets.union(index, *corrected.entry((view.account, event)).or_insert(index));
        }
        if let (true, Some(key), Some(at)) = (long_term, view.access_key(), view.at) {
            chain(&mut last_use, (view.account, key), (index, at), policy.key_gap_secs, sets);
        }
    }
    let mut issued = vec![false; views.len()];
    for (index, view) in views.iter().enumerate() {
        let issuers = [
            view.access_key().and_then(|key| issuer.get(key)),
            view.root_created().and_then(|at| assumed.get(&(view.account, at))),
        ];
        for issuer in issuers.into_iter().flatten() {
            sets.union(index, *issuer);
            issued[index] = true;
        }
        let event = filled(&view.finding.event_id);
        if let Some(later) = event.and_then(|event| corrected.get(&(view.account, event))) {
            sets.union(index, *later);
        }
    }
    issued
}

/// Joins a finding with the last one of the same key if the time between them is within the gap.
fn chain<K: std::hash::Hash + Eq>(
    last: &mut HashMap<K, (usize, i64)>,
    key: K,
    (index, at): (usize, i64),
    gap_secs: i64,
    sets: &mut Sets,
) {
    if let Some((before, then)) = last.insert(key, (index, at))
        && at.saturating_sub(then) <= gap_secs
    {
        sets.union(index, before);
    }
}

/// Failed sign-ins from one address into several accounts. A sign-in of a spray does not take part
/// in the links within one account.
fn link_sprays(
    views: &[View<'_>],
    policy: &CorrelatePolicy,
    sets: &mut Sets,
) -> (Vec<Spray>, Vec<bool>) {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut current: HashMap<&str, (usize, i64)> = HashMap::new();
    for (index, view) in views.iter().enumerate() {
        let (true, Some(address), Some(at)) = (view.failed_sign_in(), view.client, view.at) else {
            continue;
        };
        match current.get(address) {
            Some(&(run, then)) if at.saturating_sub(then) <= policy.spray_gap_secs => {
                runs[run].push(index);
                current.insert(address, (run, at));
            }
            _ => {
                current.insert(address, (runs.len(), at));
                runs.push(vec![index]);
            }
        }
    }
    let mut sprays = Vec::new();
    let mut sprayed = vec![false; views.len()];
    for run in runs {
        let accounts: BTreeSet<&str> = run.iter().map(|&index| views[index].account).collect();
        let (Some(&first), Some(&last)) = (run.first(), run.last()) else { continue };
        if accounts.len() < policy.spray_accounts_min.max(2) {
            continue;
        }
        for &index in &run {
            sprayed[index] = true;
            sets.union(first, index);
        }
        sprays.push(Spray {
            address: views[first].client.unwrap_or_default().to_owned(),
            accounts: accounts.into_iter().map(str::to_owned).collect(),
            first: views[first].at.unwrap_or_default(),
            last: views[last].at.unwrap_or_default(),
            group: first,
        });
    }
    (sprays, sprayed)
}

/// Which sets are sessions once the keys are linked, by the root of each set.
struct Sessions {
    /// The set has a finding that states its session or long-term key.
    known: Vec<bool>,
    /// The set has a session that another finding issued.
    issued: Vec<bool>,
    /// The root of each finding's set at that time; later links do not change it.
    root: Vec<usize>,
}

impl Sessions {
    fn find(views: &[View<'_>], issued: &[bool], sets: &mut Sets) -> Self {
        let root: Vec<usize> = (0..views.len()).map(|index| sets.find(index)).collect();
        let mut known = vec![false; views.len()];
        for (index, view) in views.iter().enumerate() {
            known[root[index]] |= view.in_session();
        }
        Self { known, issued: issued.to_vec(), root }
    }

    fn knows(&self, index: usize) -> bool {
        self.known[self.root[index]]
    }
}

/// A console sign-in joins the session that begins nearest to it. A session takes only the nearest
/// sign-in: two sign-ins are two sessions, even if one did nothing.
fn link_sign_ins(
    views: &[View<'_>],
    policy: &CorrelatePolicy,
    sessions: &Sessions,
    sets: &mut Sets,
) {
    let mut starts: HashMap<&str, Vec<(i64, usize)>> = HashMap::new();
    let mut has_start = vec![false; views.len()];
    for (index, view) in views.iter().enumerate() {
        let Some(created) = view.root_created() else { continue };
        has_start[sessions.root[index]] = true;
        if !sessions.issued[index] && !view.finding.session.assumed_root {
            starts.entry(view.account).or_default().push((created, sessions.root[index]));
        }
    }
    for list in starts.values_mut() {
        list.sort_unstable();
        list.dedup();
    }
    // For each session start, the nearest sign-in that chose it: distance, then index.
    let mut chosen: HashMap<(usize, i64), (u64, usize)> = HashMap::new();
    for (index, view) in views.iter().enumerate() {
        let (true, Some(at)) = (view.console_sign_in(), view.at) else { continue };
        if has_start[sessions.root[index]] {
            continue;
        }
        let Some(list) = starts.get(view.account) else { continue };
        let from = list.partition_point(|&(created, _)| created < at);
        let after = list.get(from).filter(|(created, _)| *created - at <= policy.sign_in_lead_secs);
        let before = from
            .checked_sub(1)
            .and_then(|place| list.get(place))
            .filter(|(created, _)| at - created <= SIGN_IN_LAG_SECS);
        // At equal distance, a session that follows wins over one that precedes.
        let nearest =
            after.into_iter().chain(before).min_by_key(|(created, _)| created.abs_diff(at));
        let Some(&(created, session)) = nearest else { continue };
        let claim = (created.abs_diff(at), index);
        let best = chosen.entry((session, created)).or_insert(claim);
        *best = claim.min(*best);
    }
    for ((session, _), (_, sign_in)) in chosen {
        sets.union(session, sign_in);
    }
}

/// An account page that names no session joins the nearest session of the same account and
/// address. Pages that share a key choose together, so that no page links two sessions.
fn link_pages(views: &[View<'_>], policy: &CorrelatePolicy, sessions: &Sessions, sets: &mut Sets) {
    let mut calls: HashMap<(&str, &str), Vec<(i64, usize)>> = HashMap::new();
    for (index, view) in views.iter().enumerate() {
        let a_call = view.finding.root_use == RootUse::Direct && view.in_session();
        if let (true, Some(client), Some(at)) =
            (a_call && !sessions.issued[index], view.client, view.at)
        {
            calls.entry((view.account, client)).or_default().push((at, index));
        }
    }
    let mut nearest: HashMap<usize, (u64, usize)> = HashMap::new();
    for (index, view) in views.iter().enumerate() {
        let a_page =
            view.placed_by_time() && !view.finding.session.sign_in && !sessions.knows(index);
        let (true, Some(client), Some(at)) = (a_page, view.client, view.at) else { continue };
        let Some(list) = calls.get(&(view.account, client)) else { continue };
        let from = list.partition_point(|&(then, _)| then < at);
        for place in [Some(from), from.checked_sub(1)].into_iter().flatten() {
            let Some(&(then, call)) = list.get(place) else { continue };
            let claim = (then.abs_diff(at), call);
            if i64::try_from(claim.0).is_ok_and(|apart| apart <= policy.sign_in_gap_secs) {
                let best = nearest.entry(sessions.root[index]).or_insert(claim);
                *best = claim.min(*best);
            }
        }
    }
    for (pages, (_, call)) in nearest {
        sets.union(pages, call);
    }
}

/// Sign-ins, recoveries and pages near in time: from one address of one account, and failed
/// sign-ins of one account from any address.
///
/// A run that leads to one session belongs to it as a whole. A run with several sessions is divided,
/// so that two sessions stay two: each finding joins the next sign-in, preferably from its own
/// address, or the last one before it if none follows.
fn link_by_time(
    views: &[View<'_>],
    policy: &CorrelatePolicy,
    sessions: &Sessions,
    sprayed: &[bool],
    sets: &mut Sets,
) {
    let gap = policy.sign_in_gap_secs;
    let mut runs = Sets::new(views.len());
    let mut by_address: HashMap<(&str, &str), (usize, i64)> = HashMap::new();
    let mut by_account: HashMap<&str, (usize, i64)> = HashMap::new();
    // Findings that keys linked without a session move together.
    let mut by_set: HashMap<usize, usize> = HashMap::new();
    let mut items = Vec::new();
    for (index, view) in views.iter().enumerate() {
        let (true, Some(at)) = (view.placed_by_time() && !sprayed[index], view.at) else {
            continue;
        };
        items.push(index);
        if let Some(client) = view.client {
            chain(&mut by_address, (view.account, client), (index, at), gap, &mut runs);
        }
        if view.failed_sign_in() {
            chain(&mut by_account, view.account, (index, at), gap, &mut runs);
        }
        if !sessions.knows(index) {
            runs.union(index, *by_set.entry(sessions.root[index]).or_insert(index));
        }
    }
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for &index in &items {
        members.entry(runs.find(index)).or_default().push(index);
    }
    // Targets are read before any union of this step, so that runs do not influence each other.
    let target: Vec<usize> = items.iter().map(|&index| sets.find(index)).collect();
    let mut target_of = vec![usize::MAX; views.len()];
    let mut has_session = vec![false; views.len()];
    for (index, view) in views.iter().enumerate() {
        has_session[sets.find(index)] |= view.in_session() || view.console_sign_in();
    }
    for (&index, &root) in items.iter().zip(&target) {
        target_of[index] = root;
    }
    let mut joins = Vec::new();
    for run in members.values() {
        let anchors: Vec<usize> =
            run.iter().copied().filter(|&index| has_session[target_of[index]]).collect();
        let targets: BTreeSet<usize> = anchors.iter().map(|&index| target_of[index]).collect();
        if targets.len() < 2 {
            joins.extend(run.iter().map(|&index| (run[0], index)));
            continue;
        }
        let mut here: HashMap<&str, Vec<usize>> = HashMap::new();
        for &index in &anchors {
            here.entry(views[index].client.unwrap_or("")).or_default().push(index);
        }
        let mut moved: BTreeSet<usize> = BTreeSet::new();
        for &index in run.iter().filter(|&&index| !has_session[target_of[index]]) {
            if !moved.insert(target_of[index]) {
                continue;
            }
            let own = views[index].client.and_then(|client| here.get(client));
            let among = own.unwrap_or(&anchors);
            // Indices are in the order of time.
            let place = among.partition_point(|&anchor| anchor < index);
            if let Some(&anchor) = among.get(place).or(among.last()) {
                joins.push((anchor, index));
            }
        }
    }
    for (one, other) in joins {
        sets.union(one, other);
    }
}

/// Calls of services on behalf of the root user, without a known session: one group for each
/// account, service and UTC day, so that an auto scaling group does not open thousands.
fn link_on_behalf(views: &[View<'_>], sets: &mut Sets) {
    let mut orphan = vec![true; views.len()];
    for (index, view) in views.iter().enumerate() {
        if view.finding.root_use != RootUse::OnBehalf {
            orphan[sets.find(index)] = false;
        }
    }
    let mut first: HashMap<(&str, &str, i64), usize> = HashMap::new();
    let mut joins = Vec::new();
    for (index, view) in views.iter().enumerate() {
        let Some((service, day)) = view.on_behalf() else { continue };
        if orphan[sets.find(index)] {
            let before = *first.entry((view.account, service, day)).or_insert(index);
            joins.push((before, index));
        }
    }
    for (one, other) in joins {
        sets.union(one, other);
    }
}

/// `AssumeRoot` calls of one caller, and rule matches of one actor in one account.
fn link_callers(views: &[View<'_>], policy: &CorrelatePolicy, sets: &mut Sets) {
    let mut audits: HashMap<&str, (usize, i64)> = HashMap::new();
    let mut watched: HashMap<(&str, &str), (usize, i64)> = HashMap::new();
    for (index, view) in views.iter().enumerate() {
        let Some(at) = view.at else { continue };
        if view.assume_root() {
            chain(&mut audits, view.actor(), (index, at), policy.audit_gap_secs, sets);
        } else if view.watch_only() {
            let key = (view.account, view.actor());
            chain(&mut watched, key, (index, at), policy.sign_in_gap_secs, sets);
        }
    }
}

/// Disjoint sets whose root is always the smallest index: the earliest finding.
pub(super) struct Sets(Vec<usize>);

impl Sets {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn find(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn union(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        self.0[one.max(other)] = one.min(other);
    }
}
