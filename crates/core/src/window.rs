//! Windows: approved root use, with who approved it, for what, and until when.
//!
//! A window never hides anything: a finding inside it is classified, kept and alerted like any other.
//! It answers one question of the person on call: was this expected?
//!
//! [`Window::covers`] is the one place that decides whether a window is in force for a finding.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, FindingKey, RootUse};
use crate::incident::Incident;

/// Approved root use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its name: the id of a change or ticket.
    pub name: String,
    /// Ids of the accounts whose root user may be used.
    pub accounts: BTreeSet<String>,
    /// The first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// Who approved it.
    pub by: String,
    /// The purpose.
    pub reason: String,
    /// Source addresses; empty for all.
    pub addresses: Vec<RangeInclusive<IpAddr>>,
    /// Names of calls (`ConsoleLogin`, `PutBucketPolicy`); empty for all.
    pub calls: BTreeSet<String>,
}

/// Whether an incident's root use was approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Approval {
    /// No windows are configured.
    #[default]
    Unknown,
    /// No window covers any finding.
    None,
    /// Windows cover all findings.
    Inside(Approved),
    /// A window covers some findings.
    Partly {
        /// The window.
        #[serde(flatten)]
        window: Approved,
        /// Findings that it does not cover.
        outside: u64,
    },
}

/// A window, as alerts quote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// See [`Window::name`].
    pub window: String,
    /// See [`Window::by`].
    pub by: String,
    /// See [`Window::reason`].
    pub reason: String,
    /// See [`Window::until`].
    pub until: Timestamp,
}

impl Window {
    /// True if the window covers a finding. What a record does not state is not covered.
    #[must_use]
    pub fn covers(&self, finding: &Finding) -> bool {
        let account = finding.account_id.as_ref();
        let is_address = |range: &RangeInclusive<IpAddr>| {
            let address = finding.source_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
            // An IPv4 address that is written as IPv6 is that IPv4 address.
            address.is_some_and(|address| range.contains(&address.to_canonical()))
        };
        account.is_some_and(|id| self.accounts.contains(id))
            && finding.event_time.is_some_and(|at| self.from <= at && at < self.until)
            && (self.addresses.is_empty() || self.addresses.iter().any(is_address))
            && (self.calls.is_empty()
                || finding.event_name.as_ref().is_some_and(|name| self.calls.contains(name)))
    }

    fn approved(&self) -> Approved {
        Approved {
            window: self.name.clone(),
            by: self.by.clone(),
            reason: self.reason.clone(),
            until: self.until,
        }
    }
}

/// Whether an incident's root use was approved.
#[must_use]
pub fn approval(incident: &Incident, windows: &[Window]) -> Approval {
    if windows.is_empty() || incident.root_use == RootUse::No {
        return Approval::Unknown;
    }
    let mut first = None;
    let mut outside = 0;
    for finding in &incident.findings {
        match windows.iter().find(|window| window.covers(finding)) {
            Some(window) => first = first.or(Some(window)),
            None => outside += 1,
        }
    }
    match (first, outside) {
        (None, _) => Approval::None,
        (Some(window), 0) => Approval::Inside(window.approved()),
        (Some(window), outside) => Approval::Partly { window: window.approved(), outside },
    }
}

/// The window that an incident left since its last alert: all findings of earlier alerts were inside
/// it, and a new one is not. `seen` is true for a finding of an earlier alert.
#[must_use]
pub fn left(
    incident: &Incident,
    windows: &[Window],
    seen: &dyn Fn(&FindingKey) -> bool,
) -> Option<String> {
    let window = |finding: &Finding| windows.iter().find(|window| window.covers(finding));
    let mut inside = None;
    let mut is_left = false;
    for finding in &incident.findings {
        match (window(finding), seen(&finding.key)) {
            (Some(window), true) => inside = inside.or(Some(window)),
            (None, true) => return None,
            (None, false) => is_left = true,
            (Some(_), false) => {}
        }
    }
    inside.filter(|_| is_left).map(|window| window.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::{CorrelatePolicy, correlate_all};
    use crate::decode::{Item, Limits, decode_log};
    use crate::detect::{Detector, finalize};
    use crate::rules::Ruleset;

    /// One session of the root user: a call at each of these minutes.
    fn session(calls: &[(u32, &str)]) -> Incident {
        let records: Vec<String> = calls
            .iter()
            .map(|(minute, name)| {
                format!(
                    r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root","accountId":"222233334444",
                    "arn":"arn:aws:iam::222233334444:root","accessKeyId":"ASIASTORYSESSIONEXAM",
                    "sessionContext":{{"attributes":{{"creationDate":"2026-05-04T14:00:00Z"}}}}}},
                    "eventTime":"2026-05-04T14:{minute:02}:00Z","eventSource":"iam.amazonaws.com",
                    "eventName":"{name}","awsRegion":"us-east-1","sourceIPAddress":"203.0.113.77",
                    "eventID":"{minute}","eventType":"AwsApiCall","recipientAccountId":"222233334444"}}"#
                )
            })
            .collect();
        let log = format!("{{\"Records\":[{}]}}", records.join(","));
        let rules = Ruleset::built_in();
        let mut detector = Detector::new(&rules);
        let mut detected = Vec::new();
        decode_log(log.as_bytes(), &Limits::default(), &mut |_, item| match item {
            Item::Event(event) => detected.extend(detector.detect(&event)),
            Item::PassedOver(_) => {}
            Item::Skipped(skipped) => panic!("{skipped:?}"),
        });
        let found = finalize(detected, &rules).0;
        correlate_all(found, &CorrelatePolicy::default()).pop().expect("an incident")
    }

    /// From 14:00 until 14:30.
    fn window() -> Window {
        Window {
            name: "CHG-1042".to_owned(),
            accounts: ["222233334444".to_owned()].into(),
            from: "2026-05-04T14:00:00Z".parse().expect("a moment"),
            until: "2026-05-04T14:30:00Z".parse().expect("a moment"),
            by: "anna".to_owned(),
            reason: "unlock a bucket".to_owned(),
            addresses: Vec::new(),
            calls: BTreeSet::new(),
        }
    }

    #[test]
    fn a_window_covers_its_accounts_times_addresses_and_calls_and_no_other() {
        let inside = session(&[(0, "ListUsers"), (29, "ListUsers")]);
        let is_inside =
            |window: Window| matches!(approval(&inside, &[window]), Approval::Inside(_));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(is_inside(window()));
        let range = address("203.0.113.0")..=address("203.0.113.255");
        assert!(is_inside(Window { addresses: vec![range], ..window() }));
        let range = address("192.0.2.0")..=address("192.0.2.255");
        assert!(!is_inside(Window { addresses: vec![range], ..window() }));
        assert!(is_inside(Window { calls: ["ListUsers".to_owned()].into(), ..window() }));
        assert!(!is_inside(Window { calls: ["CreateUser".to_owned()].into(), ..window() }));
        assert!(!is_inside(Window { accounts: ["111122223333".to_owned()].into(), ..window() }));
        assert!(!is_inside(Window { until: window().from, ..window() }));
        assert_eq!(approval(&inside, &[]), Approval::Unknown);
    }

    #[test]
    fn an_incident_that_continues_after_the_end_is_partly_outside_and_leaves_once() {
        let incident = session(&[(29, "ListUsers"), (30, "ListUsers"), (31, "ListUsers")]);
        let windows = [window()];
        assert!(matches!(approval(&incident, &windows), Approval::Partly { outside: 2, .. }));
        let key = |place: usize| incident.findings[place].key.clone();
        let seen = |keys: Vec<FindingKey>| move |key: &FindingKey| keys.contains(key);
        assert_eq!(left(&incident, &windows, &seen(vec![key(0)])), Some("CHG-1042".to_owned()));
        assert_eq!(left(&incident, &windows, &seen(vec![key(0), key(1)])), None, "it was told");
        assert_eq!(left(&incident, &windows, &seen(Vec::new())), None, "nothing was told");
        let inside = session(&[(1, "ListUsers"), (2, "ListUsers")]);
        let first = inside.findings[0].key.clone();
        assert_eq!(left(&inside, &windows, &seen(vec![first])), None, "all is inside");
    }
}
