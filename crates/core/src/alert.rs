//! Alerts: the decision that a change to an incident is worth notifying.
//!
//! An alert contains everything that a message needs, bounded, as of the decision: a delivery that is
//! retried tomorrow says what was known then, and does not need the store.

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

/// Most findings in an alert: the most severe and the latest.
pub const ALERT_FINDINGS_MAX: usize = 40;
/// Most incidents listed in a digest; the others are counted.
pub const DIGEST_INCIDENTS_MAX: usize = 50;
/// Most accounts in an [`IncidentSummary`]. The title of an incident with more counts them.
pub const BRIEF_ACCOUNTS_MAX: usize = 1_000;
/// Most addresses, and most related incidents, in an [`IncidentSummary`]: the first.
pub const BRIEF_LISTED_MAX: usize = 100;

pub use crate::narrative::{AccountName, DO_FIRST_MAX};

/// Gives the time. `core` reads no clock; callers pass one.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The reason for an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AlertKind {
    /// A new incident.
    Opened,
    /// It was quiet or resolved, and continues.
    #[serde(alias = "reopened")]
    Continued,
    /// Its severity rose.
    #[serde(alias = "rose")]
    Escalated {
        /// The severity of the last alert.
        from: Severity,
    },
    /// It was inside an approved window, and continues outside it.
    #[serde(alias = "left_window")]
    OutsideWindow {
        /// The window's name.
        window: String,
    },
    /// A person acknowledged it.
    Acknowledged {
        /// Who.
        by: String,
    },
    /// It ended.
    Closed {
        /// Why.
        why: CloseReason,
    },
    /// Informational incidents since the last digest.
    Digest,
    /// A test, requested by a person or a drill.
    Test,
    /// Deliveries to a destination fail permanently.
    #[serde(alias = "telling_broken")]
    DeliveryFailing {
        /// The destination.
        destination: String,
    },
    /// Deliveries to a destination succeed again.
    #[serde(alias = "telling_mended")]
    DeliveryRecovered {
        /// The destination.
        destination: String,
    },
}

impl AlertKind {
    /// The name used in output: `opened`, `delivery_failing` …
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

/// Why an incident ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// No finding arrived for a while.
    Quiet,
    /// A person resolved it.
    Resolved,
    /// It joined another incident.
    Joined(IncidentId),
}

/// An incident without its findings, for people. In JSON, the head's fields are the summary's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentSummary {
    /// The incident's head, with the names of its accounts. The summary derefs to it.
    #[serde(flatten)]
    pub head: IncidentHead<AccountName>,
    /// How many findings there are, including those that are not in the alert.
    pub findings_total: u64,
    /// Ids of all matching rules, the most severe first.
    pub rules: Vec<String>,
    /// Whether the most severe action needs the root user.
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

/// An alert, with everything that its messages need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The incident's id and the number of this alert of it: `7K2-MPX.2`. The same after a crash
    /// and in every retry.
    pub id: String,
    /// The reason for an alert.
    #[serde(flatten)]
    pub kind: AlertKind,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// When the hub received the record that caused it; `None` if no record did.
    pub received_at: Option<Timestamp>,
    /// The severity of the incident, or the highest of a digest.
    pub severity: Severity,
    /// The incident; several only in a digest, none in a test or a delivery outage.
    pub incidents: Vec<IncidentSummary>,
    /// Incidents of a digest that are not listed.
    pub incidents_left_out: u64,
    /// The most important findings, at most [`ALERT_FINDINGS_MAX`], sorted by time.
    pub findings: Vec<Finding>,
    /// Keys of those findings that were not in an earlier alert of this incident.
    pub fresh: Vec<FindingKey>,
    /// What to do first, at most [`DO_FIRST_MAX`]: see [`do_first`].
    pub next: Vec<String>,
    /// Whether the root use was approved.
    #[serde(default)]
    pub approval: Approval,
    /// An additional text, if there is no incident: the reason for a delivery outage.
    pub note: Option<String>,
}

impl Alert {
    /// The incident of the alert; `None` for a digest, a test or a delivery outage.
    #[must_use]
    pub fn incident(&self) -> Option<&IncidentSummary> {
        match self.kind {
            AlertKind::Digest => None,
            _ => self.incidents.first(),
        }
    }

    /// The key that groups messages in a channel (a thread, a deduplication key): the incident's id,
    /// or another name if there is none. At most 64 ASCII characters, unless a destination's name
    /// makes it longer.
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

/// The state of an incident's last alert, stored beside it, so that a restart neither repeats nor
/// omits an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedState {
    /// How many alerts there were.
    pub alerts: u32,
    /// The severity of the last alert; `None` if there was none.
    pub severity: Option<Severity>,
    /// True if the last alert said that it ended.
    pub closed: bool,
    /// True while all findings of the incident are from a backfill (a scan of old log files): it
    /// raises no alert, and outputs mark it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history: bool,
}

/// Decides whether a change to an incident raises an alert, from the last alert and the incident.
///
/// Informational incidents raise none; a digest lists them. An incident without an alert does not
/// raise one when it ends.
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

/// Decides whether an acknowledgement raises an alert: if the incident had one, has not ended and was
/// not acknowledged before. Only channels with tickets or pages of their own get it.
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

/// Decides whether an alert says that an incident joined another: if it had an alert, and none that
/// it ended. `told` is the state of the one that ended.
#[must_use]
pub fn joined_closing(told: NotifiedState, into: &IncidentId) -> Option<AlertKind> {
    let unfinished = told.severity.is_some() && !told.closed;
    unfinished.then(|| AlertKind::Closed { why: CloseReason::Joined(into.clone()) })
}

impl NotifiedState {
    /// The state after an alert about this incident.
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

/// Summarizes an incident: with the names of its accounts and the matching rules. `findings_total`
/// counts redundant findings too. [`IncidentSummary::by`] stays empty.
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

/// What an alert needs beyond the incident.
#[derive(Clone, Copy)]
pub struct AlertContext<'a> {
    /// Now.
    pub decided_at: Timestamp,
    /// When the record that caused the alert was received; `None` if no record did.
    pub received_at: Option<Timestamp>,
    /// How many findings the incident has, redundant ones included.
    pub findings_total: u64,
    /// True for a finding of an earlier alert of this incident.
    pub seen: &'a dyn Fn(&FindingKey) -> bool,
    /// Who acknowledged or resolved the incident.
    pub by: Option<&'a str>,
    /// The name of an account.
    pub names: &'a dyn Fn(&str) -> AccountName,
    /// The rules, for the steps to take.
    pub rules: &'a Ruleset,
    /// Approved root use.
    pub windows: &'a [Window],
}

/// Composes an alert about an incident in its current state. `id` is the incident's with the number
/// of this alert: `7K2-MPX.2`.
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

/// The most important findings, sorted by time: one half the most severe, new and late ones first,
/// the other half the latest of the others.
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
    fn an_informational_incident_raises_no_alert() {
        for state in [IncidentState::Open, IncidentState::Quiet, IncidentState::Resolved] {
            assert_eq!(decide(NotifiedState::default(), &of(Severity::Informational, state)), None);
        }
    }

    #[test]
    fn an_incident_alerts_once_when_it_opens_and_again_only_when_it_escalates() {
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
    fn an_incident_alerts_once_when_it_ends_and_once_when_it_continues() {
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
    fn an_incident_that_escalated_after_its_end_alerts_as_escalated() {
        let was_over = told(Some(Severity::Low), true);
        let rose = Some(AlertKind::Escalated { from: Severity::Low });
        assert_eq!(decide(was_over, &of(Severity::High, IncidentState::Open)), rose);
        assert_eq!(decide(was_over, &of(Severity::High, IncidentState::Quiet)), rose);
    }

    #[test]
    fn an_incident_that_ended_before_its_first_alert_alerts_once() {
        let quiet = of(Severity::High, IncidentState::Quiet);
        assert_eq!(decide(NotifiedState::default(), &quiet), Some(AlertKind::Opened));
        assert_eq!(decide(NotifiedState::default().after(&quiet), &quiet), None);
    }

    #[test]
    fn an_incident_that_joined_another_closes_if_it_had_an_open_alert() {
        let into = IncidentId("7K2-MPX".to_owned());
        let over = Some(AlertKind::Closed { why: CloseReason::Joined(into.clone()) });
        assert_eq!(joined_closing(told(Some(Severity::Low), false), &into), over);
        assert_eq!(joined_closing(told(Some(Severity::Low), true), &into), None);
        assert_eq!(joined_closing(NotifiedState::default(), &into), None);
    }

    #[test]
    fn an_alert_has_the_most_severe_and_the_latest_findings_sorted_by_time() {
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
    fn new_findings_come_before_known_ones_of_the_same_severity() {
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
