//! Alerts: our decision to tell someone of a change to an incident, and the deliveries that it
//! owes.
//!
//! An alert carries all that a message needs, bounded, as it was when it was decided: a delivery
//! that is retried tomorrow says what was known then, and needs no look at the store.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, FindingKey, NeedsRoot, Severity};
use crate::incident::{Incident, IncidentHead, IncidentId, IncidentState};
use crate::narrative::{self, IncidentFacts, do_first};
use crate::rules::Ruleset;
use crate::window::{Approval, Window, approval};

/// Findings that an alert quotes at most: the worst and the latest of them.
pub const ALERT_FINDINGS_MAX: usize = 40;
/// Incidents that a digest lists at most; it counts the others.
pub const DIGEST_INCIDENTS_MAX: usize = 50;
/// Accounts that a [`IncidentSummary`] names at most. The title of an incident that concerns more counts them.
pub const BRIEF_ACCOUNTS_MAX: usize = 1_000;
/// Addresses, and related incidents, that a [`IncidentSummary`] names at most: the first.
pub const BRIEF_LISTED_MAX: usize = 100;

pub use crate::narrative::{AccountName, DO_FIRST_MAX};

/// Gives the time. `core` reads no clock; who needs one is handed one.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Why people are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AlertKind {
    /// An incident is there that was not told before.
    Opened,
    /// It was quiet or resolved, and goes on.
    #[serde(alias = "reopened")]
    Continued,
    /// It became worse.
    #[serde(alias = "rose")]
    Escalated {
        /// The severity that was told last.
        from: Severity,
    },
    /// It was inside an approved window, and goes on outside it.
    #[serde(alias = "left_window")]
    OutsideWindow {
        /// The window's name.
        window: String,
    },
    /// Somebody says that they look after it.
    Acknowledged {
        /// Who.
        by: String,
    },
    /// It is over.
    Closed {
        /// Why.
        why: CloseReason,
    },
    /// Informational incidents since the last digest.
    Digest,
    /// Somebody asked whether telling works.
    Test,
    /// Deliveries to a destination fail for good.
    #[serde(alias = "telling_broken")]
    DeliveryFailing {
        /// The destination.
        destination: String,
    },
    /// Deliveries to a destination come through again.
    #[serde(alias = "telling_mended")]
    DeliveryRecovered {
        /// The destination.
        destination: String,
    },
}

impl AlertKind {
    /// The name used in output: `opened`, `telling_broken` …
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Continued => "continued",
            Self::Escalated { .. } => "escalated",
            Self::OutsideWindow { .. } => "outside_window",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Closed { .. } => "closed",
            Self::Digest => "digest",
            Self::Test => "test",
            Self::DeliveryFailing { .. } => "delivery_failing",
            Self::DeliveryRecovered { .. } => "delivery_recovered",
        }
    }
}

/// Why an incident is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Nothing more came for a while.
    Quiet,
    /// Somebody says so.
    Resolved,
    /// It turned out to be part of another.
    Joined(IncidentId),
}

/// An incident without its findings, for people. In JSON, the head's fields are the summary's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentSummary {
    /// The incident's head, with the names of its accounts. The summary derefs to it.
    #[serde(flatten)]
    pub head: IncidentHead<AccountName>,
    /// How many findings there are, those that are not quoted included.
    pub findings_total: u64,
    /// Ids of all rules that spoke, the worst first.
    pub rules: Vec<String>,
    /// Whether the worst that was done needs the root user.
    pub needs_root: NeedsRoot,
    /// Who acknowledged or resolved it.
    pub by: Option<String>,
}

impl IncidentSummary {
    /// The facts of the incident as far as an alert carries them. `findings` are those that it quotes.
    #[must_use]
    pub fn facts<'a>(&'a self, findings: &'a [Finding]) -> IncidentFacts<'a> {
        IncidentFacts {
            id: &self.id,
            kind: self.kind,
            severity: self.severity,
            title: &self.title,
            root_use: self.root_use,
            accounts: self.accounts.clone(),
            reasons: &self.reasons,
            first_at: self.first_at,
            last_at: self.last_at,
            addresses: &self.addresses,
            related: &self.related,
            needs_root: self.needs_root,
            findings: findings.iter().collect(),
        }
    }
}

impl Deref for IncidentSummary {
    type Target = IncidentHead<AccountName>;

    fn deref(&self) -> &Self::Target {
        &self.head
    }
}

impl DerefMut for IncidentSummary {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.head
    }
}

/// What somebody is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The incident's id and the number of this alert of it: `7K2-MPX.2`. The same after a crash
    /// and in every retry.
    pub id: String,
    /// Why people are told.
    #[serde(flatten)]
    pub kind: AlertKind,
    /// When that was decided.
    pub decided_at: Timestamp,
    /// When the record that caused it reached the hub; `None` where no record did.
    pub received_at: Option<Timestamp>,
    /// How bad: that of the incident, or the worst of a digest's.
    pub severity: Severity,
    /// The incident; several only in a digest, none in a test or where telling is broken.
    pub incidents: Vec<IncidentSummary>,
    /// Incidents of a digest that are not listed.
    pub incidents_left_out: u64,
    /// The most telling findings, at most [`ALERT_FINDINGS_MAX`], sorted by time.
    pub findings: Vec<Finding>,
    /// Those of `findings` that were not part of an earlier alert of this incident: their keys.
    pub fresh: Vec<FindingKey>,
    /// What to do first, at most [`DO_FIRST_MAX`]: see [`do_first`].
    pub next: Vec<String>,
    /// Whether it was approved.
    #[serde(default)]
    pub approval: Approval,
    /// More words, for what is not an incident: why telling is broken.
    pub note: Option<String>,
}

impl Alert {
    /// The incident that the alert is about; `None` for a digest, a test and telling itself.
    #[must_use]
    pub fn incident(&self) -> Option<&IncidentSummary> {
        match self.kind {
            AlertKind::Digest => None,
            _ => self.incidents.first(),
        }
    }

    /// What ties the messages about one thing together in a channel (a thread, a dedup key): the
    /// incident's id, or a name for what is none. At most 64 ASCII characters, or as long as a
    /// destination's name makes it.
    #[must_use]
    pub fn thread(&self) -> String {
        match (&self.kind, self.incident()) {
            (_, Some(incident)) => incident.id.0.clone(),
            (
                AlertKind::DeliveryFailing { destination }
                | AlertKind::DeliveryRecovered { destination },
                None,
            ) => format!("telling-{destination}"),
            (_, None) => self.id.clone(),
        }
    }
}

/// What was last told of an incident: kept beside it, so that a restart neither repeats nor
/// forgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedState {
    /// How many alerts there were.
    pub alerts: u32,
    /// The severity that was told last; `None` when nothing was told yet.
    pub severity: Option<Severity>,
    /// True when the last alert said that it is over.
    pub closed: bool,
    /// True while all that is known of the incident came by a look into the past (a scan of old log
    /// files): nobody is told of it, and it says so where it is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

/// Decides whether a change to an incident is told. Pure: what was told before, what is now.
///
/// Informational incidents are not told by themselves; a digest lists them. What was never told is
/// not said to be over.
#[must_use]
pub fn decide(told: NotifiedState, incident: &Incident) -> Option<AlertKind> {
    let is_over = matches!(incident.state, IncidentState::Quiet | IncidentState::Resolved);
    match told.severity {
        None if incident.severity > Severity::Informational => Some(AlertKind::Opened),
        None => None,
        Some(_) if is_over && !told.closed => Some(AlertKind::Closed {
            why: if incident.state == IncidentState::Quiet {
                CloseReason::Quiet
            } else {
                CloseReason::Resolved
            },
        }),
        Some(from) if incident.severity > from => Some(AlertKind::Escalated { from }),
        Some(_) if told.closed && !is_over => Some(AlertKind::Continued),
        Some(_) => None,
    }
}

/// Decides whether it is told that somebody looks after an incident: when it was told, is not over,
/// and nobody looked after it before. Only channels that keep a ticket or a page of their own hear of
/// it; people do not have to be woken for it.
#[must_use]
pub fn acknowledging(
    told: NotifiedState,
    before: IncidentState,
    incident: &Incident,
    by: &str,
) -> Option<AlertKind> {
    let is_taken = incident.state == IncidentState::Acknowledged && before != incident.state;
    (is_taken && told.severity.is_some() && !told.closed)
        .then(|| AlertKind::Acknowledged { by: by.to_owned() })
}

/// Decides whether it is told that an incident joined another one: when it was told, and not said
/// to be over. `told` is what was told of the one that is no more.
#[must_use]
pub fn joined_closing(told: NotifiedState, into: &IncidentId) -> Option<AlertKind> {
    let unfinished = told.severity.is_some() && !told.closed;
    unfinished.then(|| AlertKind::Closed { why: CloseReason::Joined(into.clone()) })
}

impl NotifiedState {
    /// What has been told once an alert of this incident, as it is now, was decided.
    #[must_use]
    pub fn after(self, incident: &Incident) -> Self {
        Self {
            alerts: self.alerts.saturating_add(1),
            severity: Some(incident.severity),
            closed: matches!(incident.state, IncidentState::Quiet | IncidentState::Resolved),
            history: false,
        }
    }
}

/// An incident without its findings, for people: with the names of its accounts and the rules that
/// spoke. `findings_total` counts echoes too. [`IncidentSummary::by`] is left empty.
pub fn brief(
    incident: &Incident,
    findings_total: u64,
    names: &dyn Fn(&str) -> AccountName,
    rules: &Ruleset,
) -> IncidentSummary {
    let mut head = incident.head.with_accounts(BRIEF_ACCOUNTS_MAX, names);
    head.addresses.truncate(BRIEF_LISTED_MAX);
    head.related.truncate(BRIEF_LISTED_MAX);
    IncidentSummary {
        head,
        findings_total,
        rules: narrative::rules_by_severity(&incident.findings, &|id| {
            rules.get(id).map(|rule| rule.severity)
        }),
        needs_root: narrative::needs_root(&incident.findings),
        by: None,
    }
}

/// What an alert needs to know beyond the incident.
#[derive(Clone, Copy)]
pub struct AlertContext<'a> {
    /// Now.
    pub decided_at: Timestamp,
    /// When the record that caused the alert reached us; `None` where no record did.
    pub received_at: Option<Timestamp>,
    /// All findings of the incident, echoes included.
    pub findings_total: u64,
    /// True for a finding that was part of an earlier alert of this incident.
    pub seen: &'a dyn Fn(&FindingKey) -> bool,
    /// Who acknowledged or resolved the incident.
    pub by: Option<&'a str>,
    /// The name of an account.
    pub names: &'a dyn Fn(&str) -> AccountName,
    /// For what to do.
    pub rules: &'a Ruleset,
    /// Approved root use.
    pub windows: &'a [Window],
}

/// Words an alert about an incident as it is now. `id` is the incident's with the number of this
/// alert: `7K2-MPX.2`.
#[must_use]
pub fn compose(
    id: String,
    kind: AlertKind,
    incident: &Incident,
    telling: &AlertContext<'_>,
) -> Alert {
    let mut brief = brief(incident, telling.findings_total, telling.names, telling.rules);
    brief.by = telling.by.map(str::to_owned);
    let findings = quoted(incident, telling.seen);
    let fresh = findings.iter().map(|finding| &finding.key).filter(|key| !(telling.seen)(key));
    Alert {
        id,
        kind,
        decided_at: telling.decided_at,
        received_at: telling.received_at,
        severity: incident.severity,
        incidents_left_out: 0,
        fresh: fresh.cloned().collect(),
        findings: findings.into_iter().cloned().collect(),
        next: do_first(incident.kind, incident.root_use, &incident.findings, &|id| {
            telling.rules.get(id).map(Into::into)
        }),
        approval: approval(incident, telling.windows),
        incidents: vec![brief],
        note: None,
    }
}

/// The findings that tell most, sorted by time: one half the worst, what is new and late before
/// what is not, the other half the latest of the others.
fn quoted<'a>(incident: &'a Incident, seen: &dyn Fn(&FindingKey) -> bool) -> Vec<&'a Finding> {
    // In the order of time.
    let mut left: Vec<&Finding> = incident.findings.iter().collect();
    if left.len() <= ALERT_FINDINGS_MAX {
        return left;
    }
    let mut worst: Vec<usize> = (0..left.len()).collect();
    worst.sort_by_cached_key(|&place| {
        (Reverse(left[place].severity), seen(&left[place].key), Reverse(place))
    });
    worst.truncate(ALERT_FINDINGS_MAX / 2);
    let worst: BTreeSet<usize> = worst.into_iter().collect();
    let others = (0..left.len()).rev().filter(|place| !worst.contains(place));
    let latest: BTreeSet<usize> = others.take(ALERT_FINDINGS_MAX - worst.len()).collect();
    let mut place = 0;
    left.retain(|_| {
        place += 1;
        worst.contains(&(place - 1)) || latest.contains(&(place - 1))
    });
    left
}

/// Names one delivery: an alert to a destination. Stable across retries and restarts, so that it
/// serves channels as their idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryId(pub String);

impl DeliveryId {
    /// The delivery of an alert to a destination.
    #[must_use]
    pub fn of(alert_id: &str, destination: &str) -> Self {
        Self(format!("{alert_id}@{destination}"))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a delivery is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be sent when due: new, or to be tried again.
    Due,
    /// The channel took it.
    Delivered,
    /// Given up: refused for good, or too old. Whoever is next was told instead.
    Failed,
}

impl DeliveryState {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Due, Self::Delivered, Self::Failed];

    /// The name used in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// An alert owed to a destination, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Names it.
    pub id: DeliveryId,
    /// Name of the destination, from the configuration.
    pub destination: String,
    /// What to tell.
    pub alert: Alert,
    /// Where it is in its life.
    pub state: DeliveryState,
    /// When it was owed first.
    pub created_at: Timestamp,
    /// Not to be sent before.
    pub due_at: Timestamp,
    /// Somebody is sending it until then; afterwards anybody may.
    pub leased_until: Option<Timestamp>,
    /// Attempts begun.
    pub attempts: u32,
    /// What the last attempt came to, in words without secrets.
    pub last_error: Option<String>,
    /// What the channel answered: an id or `ok`.
    pub receipt: Option<String>,
    /// When it ended, delivered or failed.
    pub ended_at: Option<Timestamp>,
    /// The delivery that failed and for which this one stands in.
    pub stands_in_for: Option<DeliveryId>,
}

impl Delivery {
    /// A delivery that is due at once.
    #[must_use]
    pub fn new(alert: Alert, destination: &str, now: Timestamp) -> Self {
        Self {
            id: DeliveryId::of(&alert.id, destination),
            destination: destination.to_owned(),
            alert,
            state: DeliveryState::Due,
            created_at: now,
            due_at: now,
            leased_until: None,
            attempts: 0,
            last_error: None,
            receipt: None,
            ended_at: None,
            stands_in_for: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::{CorrelatePolicy, correlate_all};
    use crate::sample::{Sample, call, clock};

    const A: &str = "222233334444";

    fn incident(samples: Vec<Sample>) -> Incident {
        let findings = samples.into_iter().map(|sample| sample.0).collect();
        let mut all = correlate_all(findings, &CorrelatePolicy::default());
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn of(severity: Severity, state: IncidentState) -> Incident {
        let mut incident = incident(vec![call(A, "14:00:00", "X").severity(severity)]);
        incident.state = state;
        incident
    }

    fn told(severity: Option<Severity>, closed: bool) -> NotifiedState {
        NotifiedState { alerts: u32::from(severity.is_some()), severity, closed, history: false }
    }

    fn name(id: &str) -> AccountName {
        AccountName { id: id.to_owned(), name: Some("prod".to_owned()), unit: None }
    }

    fn told_of(incident: &Incident, kind: AlertKind, seen: &dyn Fn(&FindingKey) -> bool) -> Alert {
        let rules = Ruleset::built_in();
        let telling = AlertContext {
            decided_at: clock("15:00:00"),
            received_at: Some(clock("14:59:59")),
            findings_total: 4_711,
            seen,
            by: Some("maria"),
            names: &name,
            rules: &rules,
            windows: &[],
        };
        compose(format!("{}.1", incident.id), kind, incident, &telling)
    }

    #[test]
    fn informational_incidents_are_never_told_by_themselves() {
        for state in [IncidentState::Open, IncidentState::Quiet, IncidentState::Resolved] {
            assert_eq!(decide(NotifiedState::default(), &of(Severity::Informational, state)), None);
        }
    }

    #[test]
    fn an_incident_is_opened_once_and_told_again_only_when_it_rises() {
        let low = of(Severity::Low, IncidentState::Open);
        assert_eq!(decide(NotifiedState::default(), &low), Some(AlertKind::Opened));
        let told = NotifiedState::default().after(&low);
        assert_eq!(told, self::told(Some(Severity::Low), false));
        assert_eq!(decide(told, &low), None);
        assert_eq!(decide(told, &of(Severity::Informational, IncidentState::Open)), None);
        let high = of(Severity::High, IncidentState::Acknowledged);
        assert_eq!(decide(told, &high), Some(AlertKind::Escalated { from: Severity::Low }));
        assert_eq!(decide(told.after(&high), &high), None);
    }

    #[test]
    fn an_incident_is_said_to_be_over_once_and_to_go_on_once() {
        let was_told = told(Some(Severity::High), false);
        let quiet = of(Severity::High, IncidentState::Quiet);
        let resolved = of(Severity::High, IncidentState::Resolved);
        let over = |why| Some(AlertKind::Closed { why });
        assert_eq!(decide(was_told, &quiet), over(CloseReason::Quiet));
        assert_eq!(decide(was_told, &resolved), over(CloseReason::Resolved));
        let was_over = was_told.after(&quiet);
        let over = NotifiedState {
            alerts: 2,
            severity: Some(Severity::High),
            closed: true,
            history: false,
        };
        assert_eq!(was_over, over);
        assert_eq!(decide(was_over, &quiet), None);
        assert_eq!(decide(was_over, &resolved), None);
        let open = of(Severity::High, IncidentState::Open);
        assert_eq!(decide(was_over, &open), Some(AlertKind::Continued));
        assert_eq!(decide(was_over.after(&open), &open), None);
    }

    #[test]
    fn what_rose_while_it_was_over_is_told_as_worse() {
        let was_over = told(Some(Severity::Low), true);
        let rose = Some(AlertKind::Escalated { from: Severity::Low });
        assert_eq!(decide(was_over, &of(Severity::High, IncidentState::Open)), rose);
        assert_eq!(decide(was_over, &of(Severity::High, IncidentState::Quiet)), rose);
    }

    #[test]
    fn an_incident_that_was_over_before_it_was_told_is_told_once() {
        let quiet = of(Severity::High, IncidentState::Quiet);
        assert_eq!(decide(NotifiedState::default(), &quiet), Some(AlertKind::Opened));
        assert_eq!(decide(NotifiedState::default().after(&quiet), &quiet), None);
    }

    #[test]
    fn an_incident_that_joined_another_is_over_when_it_was_told_and_not_over() {
        let into = IncidentId("7K2-MPX".to_owned());
        let over = Some(AlertKind::Closed { why: CloseReason::Joined(into.clone()) });
        assert_eq!(joined_closing(told(Some(Severity::Low), false), &into), over);
        assert_eq!(joined_closing(told(Some(Severity::Low), true), &into), None);
        assert_eq!(joined_closing(NotifiedState::default(), &into), None);
    }

    #[test]
    fn an_alert_quotes_the_worst_and_the_latest_in_the_order_of_time() {
        let time = |n: usize| format!("14:{:02}:{:02}", n / 60, n % 60);
        let samples = (0..200).map(|n| {
            let one = call(A, &time(n), "X").since("13:00:00").keyed(&format!("{n:03}"));
            if n == 3 { one.severity(Severity::High) } else { one }
        });
        let incident = incident(samples.collect());
        let alert = told_of(&incident, AlertKind::Opened, &|key| key.0.as_str() < "190");
        assert_eq!(alert.findings.len(), ALERT_FINDINGS_MAX);
        assert_eq!(alert.findings[0].key.0, "003");
        assert_eq!(alert.findings[1].key.0, "161");
        assert!(alert.findings.is_sorted_by_key(|finding| finding.event_time));
        let fresh: Vec<&str> = alert.fresh.iter().map(|key| key.0.as_str()).collect();
        assert_eq!((fresh.len(), fresh[0], fresh[9]), (10, "190", "199"));
        let brief = alert.incident().expect("an incident");
        assert_eq!(brief.findings_total, 4_711);
        assert_eq!(brief.by.as_deref(), Some("maria"));
        assert_eq!(brief.accounts, [name(A)]);
        assert_eq!(
            alert.next,
            ["Phone the account's custodians: was it you? For what, and which ticket?"]
        );
    }

    #[test]
    fn what_is_new_is_quoted_before_what_is_as_bad_and_known() {
        let samples = (0..100).map(|n| {
            call(A, &format!("14:{:02}:{:02}", n / 60, n % 60), "X")
                .since("13:00:00")
                .keyed(&format!("{n:03}"))
        });
        let incident = incident(samples.collect());
        let alert = told_of(&incident, AlertKind::Continued, &|key| key.0 != "000");
        assert_eq!(alert.fresh, [FindingKey("000".to_owned())]);
    }

    #[test]
    fn what_to_do_comes_from_the_worst_rule_first_each_step_once() {
        let by = |time: &str, rule: &str, severity| {
            let mut one = call(A, time, rule).since("13:00:00").severity(severity);
            one.rules = vec![rule.to_owned()];
            one
        };
        let mut worst = by("14:01:00", "root-access-key-first-used", Severity::Critical);
        worst.needs_root = NeedsRoot::No;
        let incident = incident(vec![
            by("14:00:00", "root-console-login-failed", Severity::Low),
            worst,
            by("14:02:00", "gone-rule", Severity::Low),
        ]);
        let alert = told_of(&incident, AlertKind::Opened, &|_| false);
        let brief = &alert.incidents[0];
        assert_eq!(
            brief.rules,
            ["root-access-key-first-used", "root-console-login-failed", "gone-rule"]
        );
        assert_eq!(brief.needs_root, NeedsRoot::No);
        let rules = Ruleset::built_in();
        let triage = |id: &str| rules.get(id).map(|rule| rule.triage.clone()).unwrap_or_default();
        let first = triage("root-access-key-first-used");
        assert!(first.len() > DO_FIRST_MAX);
        assert_eq!(alert.next, first[..DO_FIRST_MAX]);
    }

    #[test]
    fn broken_telling_says_what_to_do_and_where_else_to_look() {
        let telling = Incident::telling("pager", clock("14:00:00"), "the receiver answers 500");
        assert_eq!(decide(NotifiedState::default(), &telling), Some(AlertKind::Opened));
        let alert = told_of(&telling, AlertKind::Opened, &|_| false);
        assert!(
            alert.next.len() == 1 && alert.next[0].starts_with("Check the hub"),
            "{:?}",
            alert.next
        );
        assert!(alert.findings.is_empty() && alert.severity == Severity::High);
    }
}
