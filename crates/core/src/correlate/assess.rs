//! Assesses the findings of one incident together: reclassification, severity, reasons, title.
//!
//! Like the partition, every attribute is a function of the set of findings.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::classify::{lacks_mfa, was_denied};
use crate::correlate::change::CorrelatePolicy;
use crate::correlate::links::{Spray, View, filled, partition};
use crate::finding::{Finding, Outcome, Reason, RootUse, Severity};
use crate::incident::{IncidentHead, IncidentId, IncidentKind, IncidentState};

/// Failed sign-ins into one account from which an incident is at least medium.
const FAILURES_MEDIUM: u64 = 5;
/// Failed sign-ins into one account from which an incident is at least high.
pub(super) const FAILURES_HIGH: u64 = 20;
/// Failed sign-ins after which a success is critical.
const FAILURES_BEFORE_SUCCESS: u64 = 3;
/// Failed sign-ins count for the rule on a sign-in if they precede it by at most this many seconds.
pub(super) const FAILURES_BACK_SECS: i64 = 3_600;
/// A password recovery counts for the rule on a sign-in if it precedes it by at most this many
/// seconds.
pub(super) const RECOVERY_BACK_SECS: i64 = 86_400;
/// Corrections of corrections that are followed; beyond that, all are shown.
const CORRECTIONS_MAX: usize = 16;

/// Reasons that only say that a rule matched.
const RULE_REASONS: [&str; 2] = ["rule", "follows"];

/// Codes that give a finding's class, not why it is bad: the title says the same. `late` is among
/// them: it is true, but makes nothing worse.
const CLASS_REASONS: [&str; 13] = [
    "late",
    "root_identity",
    "root_arn",
    "root_by_console_proxy",
    "assume_root",
    "assumed_root",
    "service_event",
    "invoked_by_service",
    "issued_by_root",
    "root_only_sign_in_action",
    "account_console_action",
    "joined_assume_root",
    "proved_by_session",
];

/// An incident before it has an id: indexes into the set of findings, and what follows from them.
pub(super) struct Draft {
    pub(super) kind: IncidentKind,
    pub(super) severity: Severity,
    pub(super) title: String,
    pub(super) accounts: Vec<String>,
    pub(super) root_use: RootUse,
    pub(super) reasons: Vec<Reason>,
    pub(super) first_at: Option<Timestamp>,
    pub(super) last_at: Option<Timestamp>,
    pub(super) addresses: Vec<String>,
    /// Indexes of other drafts.
    pub(super) related: BTreeSet<usize>,
    /// Every finding of the incident, ascending.
    pub(super) members: Vec<usize>,
    /// The findings that the timeline shows, ascending.
    pub(super) shown: Vec<Shown>,
    /// Revised or corrected findings, by key.
    pub(super) superseded: Vec<usize>,
}

impl Draft {
    /// The head of the incident that the draft becomes.
    pub(super) fn head(
        &self,
        id: IncidentId,
        state: IncidentState,
        related: Vec<IncidentId>,
    ) -> IncidentHead {
        IncidentHead {
            id,
            kind: self.kind,
            state,
            severity: self.severity,
            title: self.title.clone(),
            accounts: self.accounts.clone(),
            root_use: self.root_use,
            reasons: self.reasons.clone(),
            first_at: self.first_at,
            last_at: self.last_at,
            addresses: self.addresses.clone(),
            related,
        }
    }
}

/// One finding of a timeline.
pub(super) struct Shown {
    pub(super) index: usize,
    /// Set when the incident changes the finding's class or severity.
    pub(super) revised: Option<Box<Finding>>,
}

impl Shown {
    pub(super) fn finding<'a>(&'a self, views: &[View<'a>]) -> &'a Finding {
        self.revised.as_deref().unwrap_or(views[self.index].finding)
    }
}

/// Divides a set of findings, sorted by time and key, into incidents and assesses each.
pub(super) fn drafts(views: &[View<'_>], policy: &CorrelatePolicy) -> Vec<Draft> {
    let parts = partition(views, policy);
    let mut drafts: Vec<Draft> =
        parts.groups.into_iter().map(|members| draft(members, views)).collect();
    tie_to_sprays(&parts.sprays, &mut drafts, views, policy);
    apply_earlier_sign_ins(&mut drafts, views);
    drafts
}

/// Scores a sign-in as its `follows` rules would have, if the earlier records had arrived first.
///
/// `root-console-login-after-failures` and `root-console-login-after-password-recovery` look at an
/// account whatever the address, and farther back than any link; a hub that receives the sign-in
/// first did not match them. If they matched, the finding is critical and nothing is added.
fn apply_earlier_sign_ins(drafts: &mut [Draft], views: &[View<'_>]) {
    let is = |view: &View<'_>, name| view.finding.event_name.as_deref() == Some(name);
    // By account, in the order of time: Unix seconds, and how many.
    let mut failures: HashMap<&str, Vec<(i64, u64)>> = HashMap::new();
    let mut recoveries: HashMap<&str, Vec<(i64, u64)>> = HashMap::new();
    for view in views {
        let Some(at) = view.at else { continue };
        if view.failed_sign_in() && is(view, "ConsoleLogin") {
            failures.entry(view.account).or_default().push((at, 1 + view.echoes.count));
        } else if view.recovered() {
            recoveries.entry(view.account).or_default().push((at, 1));
        }
    }
    if failures.is_empty() && recoveries.is_empty() {
        return;
    }
    let before = |list: Option<&Vec<(i64, u64)>>, at: i64, secs: i64| -> u64 {
        let Some(list) = list else { return 0 };
        let from = list.partition_point(|&(then, _)| then < at.saturating_sub(secs));
        let to = list.partition_point(|&(then, _)| then <= at);
        list[from..to].iter().map(|(_, number)| number).sum()
    };
    for draft in drafts {
        let (mut failed, mut recovered) = (0, false);
        for one in &draft.shown {
            let view = &views[one.index];
            let (true, Some(at)) = (view.console_sign_in() && is(view, "ConsoleLogin"), view.at)
            else {
                continue;
            };
            let finding = one.finding(views);
            let by_root = finding.root_use == RootUse::Direct && view.root_typed();
            if !by_root || finding.severity == Severity::Critical {
                continue;
            }
            failed = failed.max(before(failures.get(view.account), at, FAILURES_BACK_SECS));
            recovered |= before(recoveries.get(view.account), at, RECOVERY_BACK_SECS) > 0;
        }
        let mut add = |code: &'static str, text: String| {
            if draft.reasons.iter().all(|reason| reason.code != code) {
                draft.reasons.insert(0, Reason::new(code, text));
            }
            draft.severity = Severity::Critical;
        };
        if recovered {
            add("success_after_recovery", "signed in after a password recovery".to_owned());
        }
        if failed >= FAILURES_BEFORE_SUCCESS {
            add("success_after_failures", format!("signed in after {failed} failed attempts"));
        }
    }
}

fn draft(members: Vec<usize>, views: &[View<'_>]) -> Draft {
    let corrected = corrected(&members, views);
    let kept = members.iter().copied().filter(|index| !corrected.contains(index));
    let mut shown: Vec<Shown> = kept.map(|index| Shown { index, revised: None }).collect();
    join_assume_root(&mut shown, &members, views);
    prove_by_session(&mut shown, views);
    let mut superseded: Vec<usize> = corrected.into_iter().collect();
    superseded.extend(shown.iter().filter(|one| one.revised.is_some()).map(|one| one.index));
    superseded.sort_unstable_by_key(|&index| &views[index].finding.key);

    let kind = kind(&shown, views);
    let signs = signs(kind, &shown, views);
    let worst = shown.iter().map(|one| one.finding(views).severity).max().unwrap_or_default();
    let severity = signs.iter().map(|sign| sign.severity).max().unwrap_or_default().max(worst);
    let accounts = accounts(&shown, views);
    let times = || shown.iter().filter_map(|one| views[one.index].finding.event_time);
    let echoed = members.iter().filter_map(|&index| views[index].echoes.last_at).max();
    Draft {
        kind,
        severity,
        title: title(kind, &accounts, worst, &shown, views),
        accounts,
        root_use: root_use(&shown, views),
        reasons: reasons(signs, &shown, views),
        first_at: times().next(),
        last_at: times().next_back().max(echoed),
        addresses: addresses(&shown, views),
        related: BTreeSet::new(),
        members,
        shown,
        superseded,
    }
}

/// The records that CloudTrail corrected later (`UPDATED_DATA`). One of a record and its
/// corrections is shown; records with another name that reuse the event id stay.
fn corrected(members: &[usize], views: &[View<'_>]) -> BTreeSet<usize> {
    let mut later: HashMap<(&str, &str, Option<&str>), usize> = HashMap::new();
    for &index in members {
        let view = &views[index];
        if let Some(event) = view.corrects() {
            // Ascending: the last one remains.
            later.insert((view.account, event, view.finding.event_name.as_deref()), index);
        }
    }
    let mut by: HashMap<usize, usize> = HashMap::new();
    if later.is_empty() {
        return BTreeSet::new();
    }
    for &index in members {
        let view = &views[index];
        let name = view.finding.event_name.as_deref();
        for event in [filled(&view.finding.event_id), view.corrects()].into_iter().flatten() {
            match later.get(&(view.account, event, name)) {
                Some(&winner) if winner != index => _ = by.insert(index, winner),
                _ => {}
            }
        }
    }
    // Corrections that correct each other in a ring would leave nothing to show.
    let ends = |mut index: usize| {
        (0..CORRECTIONS_MAX).any(|_| match by.get(&index) {
            Some(&next) => {
                index = next;
                false
            }
            None => true,
        })
    };
    by.keys().copied().filter(|&index| ends(index)).collect()
}

/// A root session that an `AssumeRoot` call in the incident opened is privileged, even if its
/// records do not say so.
fn join_assume_root(shown: &mut [Shown], members: &[usize], views: &[View<'_>]) {
    let calls = || members.iter().map(|&index| &views[index]).filter(|view| view.assume_root());
    let keys: HashSet<&str> = calls().filter_map(View::issued_key).collect();
    let starts: HashSet<(&str, i64)> = calls().filter_map(View::assumed).collect();
    for one in shown {
        let view = &views[one.index];
        let by_key = view.access_key().is_some_and(|key| keys.contains(key));
        let by_start = view.root_created().is_some_and(|at| starts.contains(&(view.account, at)));
        if view.finding.root_use != RootUse::Direct || !(by_key || by_start) {
            continue;
        }
        let mut finding = view.finding.clone();
        let text = format!(
            "session issued by sts:AssumeRoot; {}, {} without that context",
            finding.root_use, finding.severity
        );
        finding.root_use = RootUse::Privileged;
        if !lacks_mfa(&finding) {
            finding.reasons.retain(|reason| reason.code != "no_mfa");
        }
        if read_only_without_rule(&finding) && !was_denied(&finding) {
            finding.severity = Severity::Informational;
        }
        finding.reasons.push(Reason::new("joined_assume_root", text));
        one.revised = Some(Box::new(finding));
    }
}

/// True for a call that reads only, when every rule was decided and none matched: nothing but the
/// class of root use makes it a finding.
pub(super) fn read_only_without_rule(finding: &Finding) -> bool {
    finding.rules.is_empty()
        && finding.read_only == Some(true)
        && finding.rules_undecided().is_none()
}

/// A record without an identity is the root user's if the root user acted in the same incident and
/// account. A failed sign-in proves nothing: that may be a stranger.
fn prove_by_session(shown: &mut [Shown], views: &[View<'_>]) {
    let mut proved: HashSet<&str> = HashSet::new();
    for one in shown.iter() {
        if one.finding(views).root_use == RootUse::Direct && !views[one.index].failed_sign_in() {
            proved.insert(views[one.index].account);
        }
    }
    for one in shown {
        let view = &views[one.index];
        if view.finding.root_use != RootUse::Possible || !proved.contains(view.account) {
            continue;
        }
        let mut finding = view.finding.clone();
        finding.root_use = RootUse::Direct;
        finding.reasons.push(Reason::new(
            "proved_by_session",
            "the root user acted in the same session; possible without that context",
        ));
        one.revised = Some(Box::new(finding));
    }
}

/// How strong a root use is: calls by the root user outweigh calls on its behalf.
fn strength(root_use: RootUse) -> u8 {
    match root_use {
        RootUse::Direct => 5,
        RootUse::Derived => 4,
        RootUse::Privileged => 3,
        RootUse::Possible => 2,
        RootUse::OnBehalf => 1,
        RootUse::No => 0,
    }
}

fn root_use(shown: &[Shown], views: &[View<'_>]) -> RootUse {
    let uses = shown.iter().map(|one| one.finding(views).root_use);
    uses.max_by_key(|&root_use| strength(root_use)).unwrap_or(RootUse::No)
}

fn kind(shown: &[Shown], views: &[View<'_>]) -> IncidentKind {
    let failed: BTreeSet<&str> = shown
        .iter()
        .filter(|one| views[one.index].failed_sign_in())
        .map(|one| views[one.index].account)
        .collect();
    if failed.len() > 1 && shown.iter().all(|one| views[one.index].failed_sign_in()) {
        return IncidentKind::Spray;
    }
    match root_use(shown, views) {
        RootUse::No => IncidentKind::RuleMatch,
        RootUse::Privileged => IncidentKind::Privileged,
        _ => {
            // An unproved page does not turn an audit into a session of the root user.
            let privileged = shown.iter().any(|one| views[one.index].assume_root());
            let acted = shown.iter().any(|one| {
                matches!(one.finding(views).root_use, RootUse::Direct | RootUse::Derived)
            });
            if privileged && !acted { IncidentKind::Privileged } else { IncidentKind::Session }
        }
    }
}

/// A reason of the incident itself, and the severity that it gives.
struct Sign {
    severity: Severity,
    reason: Reason,
}

impl Sign {
    fn new(
        severity: Severity,
        code: &'static str,
        text: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        Self { severity, reason: Reason::new(code, text) }
    }
}

fn signs(kind: IncidentKind, shown: &[Shown], views: &[View<'_>]) -> Vec<Sign> {
    if matches!(kind, IncidentKind::RuleMatch | IncidentKind::Privileged) {
        return Vec::new();
    }
    let mut signs = Vec::new();
    sign_in_signs(shown, views, &mut signs);
    if let Some(sign) = key_elsewhere(shown, views) {
        signs.push(sign);
    }
    let holds_root_key = shown.iter().any(|one| {
        let view = &views[one.index];
        let direct = one.finding(views).root_use == RootUse::Direct;
        let created = view.finding.event_name.as_deref() == Some("CreateAccessKey");
        let for_root = view.issued_key().is_some_and(|issued| {
            shown.iter().any(|user| views[user.index].access_key() == Some(issued))
        });
        direct && (view.finding.session.long_term_key || (created && for_root))
    });
    if holds_root_key && shown.iter().any(|one| was_denied(views[one.index].finding)) {
        signs.push(Sign::new(
            Severity::High,
            "denied_with_root_key",
            "a call was denied, and a long-term root key is in use",
        ));
    }
    let grave = signs.iter().filter(|sign| sign.severity >= Severity::High).count();
    if grave > 1 && signs.iter().all(|sign| sign.severity < Severity::Critical) {
        let text = "several signs of a takeover at once";
        signs.push(Sign::new(Severity::Critical, "several_signs", text));
    }
    signs
}

fn sign_in_signs(shown: &[Shown], views: &[View<'_>], signs: &mut Vec<Sign>) {
    // Sorted by time, findings without a time last: those prove no order.
    let mut failures: HashMap<&str, u64> = HashMap::new();
    let mut recovered: HashSet<&str> = HashSet::new();
    let (mut before_success, mut after_recovery) = (0, false);
    for one in shown {
        let view = &views[one.index];
        if view.failed_sign_in() {
            *failures.entry(view.account).or_default() += 1 + view.echoes.count;
        } else if view.console_sign_in() && view.at.is_some() {
            before_success =
                before_success.max(failures.get(view.account).copied().unwrap_or_default());
            after_recovery |= recovered.contains(view.account);
        } else if view.finding.session.sign_in
            && view.finding.outcome == Outcome::Success
            && matches!(
                view.finding.event_name.as_deref(),
                Some("PasswordRecoveryRequested" | "PasswordRecoveryCompleted")
            )
        {
            recovered.insert(view.account);
        }
    }
    if before_success >= FAILURES_BEFORE_SUCCESS {
        let text = format!("signed in after {before_success} failed attempts");
        signs.push(Sign::new(Severity::Critical, "success_after_failures", text));
    }
    if after_recovery {
        let text = "signed in after a password recovery";
        signs.push(Sign::new(Severity::Critical, "success_after_recovery", text));
    }
    // Two attempts in each of three accounts are not six guesses of one password.
    let most = failures.values().copied().max().unwrap_or_default();
    let severity = match most {
        0 => return,
        1..FAILURES_MEDIUM => Severity::Low,
        FAILURES_MEDIUM..FAILURES_HIGH => Severity::Medium,
        _ => Severity::High,
    };
    let all: u64 = failures.values().sum();
    let plural = if all == 1 { "" } else { "s" };
    let text = if failures.len() > 1 {
        format!("{all} failed sign-in{plural} in {} accounts", failures.len())
    } else {
        format!("{all} failed sign-in{plural}")
    };
    signs.push(Sign::new(severity, "failed_sign_ins", text));
}

/// A long-term root key used from another address than the console of the same incident.
fn key_elsewhere(shown: &[Shown], views: &[View<'_>]) -> Option<Sign> {
    let direct = || {
        shown.iter().filter(|one| one.finding(views).root_use == RootUse::Direct).filter_map(
            |one| {
                let view = &views[one.index];
                let key = view.finding.session.long_term_key;
                view.client.filter(|_| !view.failed_sign_in()).map(|client| (key, client))
            },
        )
    };
    let console: HashSet<&str> =
        direct().filter(|(key, _)| !key).map(|(_, client)| client).collect();
    let (_, elsewhere) = direct().find(|(key, client)| *key && !console.contains(client))?;
    let text =
        format!("a long-term root key was used from {elsewhere}, not from the console's address");
    (!console.is_empty()).then(|| Sign::new(Severity::High, "key_used_elsewhere", text))
}

fn accounts(shown: &[Shown], views: &[View<'_>]) -> Vec<String> {
    let mut accounts = BTreeSet::new();
    for one in shown {
        let view = &views[one.index];
        // The caller's account made the call; the target's root user is concerned.
        let target = filled(&view.finding.session.target_account_id).filter(|_| view.assume_root());
        accounts.insert(target.unwrap_or(view.account));
    }
    accounts.into_iter().filter(|account| !account.is_empty()).map(str::to_owned).collect()
}

fn addresses(shown: &[Shown], views: &[View<'_>]) -> Vec<String> {
    let mut seen = HashSet::new();
    let clients = shown.iter().filter_map(|one| views[one.index].client);
    clients.filter(|client| seen.insert(*client)).map(str::to_owned).collect()
}

/// The incident's own reasons and those of its findings: the strongest first, each code once, with
/// the text of its strongest use.
fn reasons(signs: Vec<Sign>, shown: &[Shown], views: &[View<'_>]) -> Vec<Reason> {
    let mut best: HashMap<&str, (Severity, usize, &Reason)> = HashMap::new();
    let own = signs.iter().map(|sign| (sign.severity, &sign.reason));
    let theirs = shown.iter().flat_map(|one| {
        let finding = one.finding(views);
        finding.reasons.iter().map(|reason| (finding.severity, reason))
    });
    for (place, (severity, reason)) in own.chain(theirs).enumerate() {
        if CLASS_REASONS.contains(&reason.code.as_ref()) {
            continue;
        }
        let entry = best.entry(reason.code.as_ref()).or_insert((severity, place, reason));
        if severity > entry.0 {
            *entry = (severity, place, reason);
        }
    }
    // That a rule matched says the least; any other reason says why.
    if best.keys().any(|code| !RULE_REASONS.contains(code)) {
        best.retain(|code, _| !RULE_REASONS.contains(code));
    }
    let mut listed: Vec<_> = best.into_values().collect();
    listed.sort_unstable_by_key(|(severity, place, _)| (std::cmp::Reverse(*severity), *place));
    listed.into_iter().map(|(_, _, reason)| reason.clone()).collect()
}

fn title(
    kind: IncidentKind,
    accounts: &[String],
    worst: Severity,
    shown: &[Shown],
    views: &[View<'_>],
) -> String {
    let first_worst = shown.iter().find(|one| one.finding(views).severity == worst);
    let several = shown.len() > 1 || shown.iter().any(|one| views[one.index].echoes.count > 0);
    if kind == IncidentKind::Spray {
        return format!("Root sign-in failures in {} accounts", accounts.len());
    }
    if several && shown.iter().all(|one| views[one.index].failed_sign_in()) {
        return "Root sign-in failures".to_owned();
    }
    if kind == IncidentKind::Privileged && several && worst <= Severity::Low {
        let audit = shown
            .iter()
            .filter(|one| views[one.index].assume_root())
            .map(|one| filled(&views[one.index].finding.session.task_policy))
            .all(|policy| policy == Some("IAMAuditRootUserCredentials"));
        let asked = shown.iter().any(|one| views[one.index].assume_root());
        let what =
            if audit && asked { "Root credentials audited" } else { "Privileged root sessions" };
        // The accounts stand beside the title in every output.
        return what.to_owned();
    }
    if several && shown.iter().all(|one| one.finding(views).root_use == RootUse::OnBehalf) {
        let mut services: BTreeMap<&str, ()> = BTreeMap::new();
        services.extend(
            shown.iter().filter_map(|one| views[one.index].on_behalf()).map(|(name, _)| (name, ())),
        );
        let named: Vec<&str> = services.into_keys().filter(|name| !name.is_empty()).collect();
        return match named.as_slice() {
            [service] => format!("{service} acted on behalf of the root user"),
            _ => "AWS services acted on behalf of the root user".to_owned(),
        };
    }
    first_worst.map(|one| one.finding(views).title.clone()).unwrap_or_default()
}

/// Relates sprays to incidents whose addresses took part in them shortly before, and raises a spray
/// during which a sign-in succeeded.
fn tie_to_sprays(
    sprays: &[Spray],
    drafts: &mut [Draft],
    views: &[View<'_>],
    policy: &CorrelatePolicy,
) {
    let mut by_address: HashMap<&str, Vec<&Spray>> = HashMap::new();
    for spray in sprays {
        // Sorted by their first sign-in; the sprays of one address do not overlap.
        by_address.entry(&spray.address).or_default().push(spray);
    }
    if by_address.is_empty() {
        return;
    }
    let mut ties = BTreeSet::new();
    let mut through: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
    for (place, draft) in drafts.iter().enumerate() {
        if draft.kind == IncidentKind::RuleMatch {
            continue;
        }
        for &index in &draft.members {
            let view = &views[index];
            let (false, Some(at), Some(client)) = (view.watch_only(), view.at, view.client) else {
                continue;
            };
            let Some(list) = by_address.get(client) else { continue };
            let started = list.partition_point(|spray| spray.first <= at);
            let near = list[..started].iter().rev();
            let reach = policy.spray_related_secs.max(policy.spray_gap_secs);
            for spray in near.take_while(|spray| at - spray.last <= reach) {
                if spray.group != place && at - spray.last <= policy.spray_related_secs {
                    ties.insert((spray.group, place));
                }
                let inside = at - spray.last <= policy.spray_gap_secs;
                if view.console_sign_in() && inside && spray.accounts.contains(view.account) {
                    let entry = through.entry(spray.group).or_insert((index, view.account));
                    *entry = (index, view.account).min(*entry);
                }
            }
        }
    }
    for (one, other) in ties {
        drafts[one].related.insert(other);
        drafts[other].related.insert(one);
    }
    for (group, (_, account)) in through {
        let draft = &mut drafts[group];
        let reason = Reason::new(
            "spray_succeeded",
            format!("a sign-in from the same address succeeded in account {account}"),
        );
        let place = if draft.severity > Severity::High { draft.reasons.len() } else { 0 };
        draft.reasons.insert(place, reason);
        draft.severity = draft.severity.max(Severity::High);
    }
}
