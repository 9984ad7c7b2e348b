//! Alerts as they come, made from records by the same code: for the check of templates, for
//! previews, and for the documentation.
//!
//! The records are ours, modelled on the shapes that AWS publishes; accounts and addresses are those
//! kept for documentation.

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{AccountName, Alert, AlertContext, AlertKind, CloseReason, compose};
use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::{Item, Limits, Place, decode_log};
use rootwatch_core::detect::{Detector, finalize};
use rootwatch_core::finding::Severity;
use rootwatch_core::incident::{Incident, IncidentState};
use rootwatch_core::rules::Ruleset;
use rootwatch_core::window::{Approval, Window};

/// The names of the samples.
pub const NAMES: [&str; 10] = [
    "opened",
    "escalated",
    "approved",
    "outside_window",
    "acknowledged",
    "closed",
    "failed",
    "privileged",
    "digest",
    "test",
];

/// The account of the session.
const ACCOUNT: &str = "222233334444";
/// A console session of the root user without MFA, which creates an access key.
const SESSION: &[u8] = include_bytes!("sample/session.json");
/// Sign-ins that fail.
const FAILED: &[u8] = include_bytes!("sample/failed.json");
/// A privileged session into a member account.
const PRIVILEGED: &[u8] = include_bytes!("sample/privileged.json");

/// The sample of this name; `None` if there is none. Accepts the names of version 0.1 too (`rose`,
/// `left_window`).
///
/// # Errors
/// Never for a name of [`NAMES`]: a test makes them all. In words, why records give no alert.
pub fn alert(name: &str) -> Result<Option<Alert>, String> {
    let alert = match name {
        "opened" => of_log(SESSION, &AlertKind::Opened, 1, &[])?,
        "escalated" | "rose" => {
            of_log(SESSION, &AlertKind::Escalated { from: Severity::High }, 2, &[])?
        }
        "approved" => of_log(SESSION, &AlertKind::Opened, 1, &[window()])?,
        "outside_window" | "left_window" => {
            let kind = AlertKind::OutsideWindow { window: "CHG-1042".to_owned() };
            of_log(SESSION, &kind, 2, &[window()])?
        }
        "acknowledged" => {
            of_log(SESSION, &AlertKind::Acknowledged { by: "anna".to_owned() }, 2, &[])?
        }
        "closed" => of_log(SESSION, &AlertKind::Closed { why: CloseReason::Quiet }, 2, &[])?,
        "failed" => of_log(FAILED, &AlertKind::Opened, usize::MAX, &[])?,
        "privileged" => of_log(PRIVILEGED, &AlertKind::Opened, usize::MAX, &[])?,
        "digest" => {
            let mut digest = of_log(PRIVILEGED, &AlertKind::Digest, usize::MAX, &[])?;
            "digest-2026-05-04".clone_into(&mut digest.id);
            digest.severity = Severity::Informational;
            digest.findings.clear();
            digest.fresh.clear();
            digest.next.clear();
            digest.incidents_left_out = 3;
            digest
        }
        "test" => test("rootwatch notify test", Timestamp::UNIX_EPOCH),
        _ => return Ok(None),
    };
    Ok(Some(alert))
}

/// The alert that the worst incident in a log file (or of events, one a line) would open.
///
/// # Errors
/// In words: what cannot be decoded, with its place; or that there is no root use in it.
pub fn of_records(log: &[u8]) -> Result<Alert, String> {
    of_log(log, &AlertKind::Opened, usize::MAX, &[])
}

/// A clearly marked test alert.
#[must_use]
pub fn test(by: &str, now: Timestamp) -> Alert {
    Alert {
        id: format!("test-{}", now.as_millisecond()),
        kind: AlertKind::Test,
        decided_at: now,
        received_at: None,
        severity: Severity::Critical,
        incidents: Vec::new(),
        incidents_left_out: 0,
        findings: Vec::new(),
        fresh: Vec::new(),
        next: Vec::new(),
        approval: Approval::Unknown,
        note: Some(format!("sent by {by}")),
    }
}

/// An alert about the worst incident in a log file, of which the first `records_max` records came.
/// All but the last finding were told before when the kind says that something was.
fn of_log(
    log: &[u8],
    kind: &AlertKind,
    records_max: usize,
    windows: &[Window],
) -> Result<Alert, String> {
    let rules = Ruleset::built_in();
    let mut detector = Detector::new(&rules);
    let mut detected = Vec::new();
    let mut skipped = None;
    let mut records = 0;
    decode_log(log, &Limits::default(), &mut |_, item| match item {
        Item::Event(event) => {
            records += 1;
            if records <= records_max {
                detected.extend(detector.detect(&event));
            }
        }
        Item::PassedOver(_) => {}
        Item::Skipped(fault) => {
            skipped = skipped.take().or_else(|| {
                let Place { record, offset } = fault.place;
                Some(format!("record {record}, at byte {offset}: {}", fault.reason))
            });
        }
    });
    let findings = finalize(detected, &rules).0;
    let incidents = correlate_all(findings, &CorrelatePolicy::default());
    let Some(mut incident) = incidents.into_iter().max_by_key(|incident| incident.severity) else {
        return Err(skipped.unwrap_or_else(|| "there is no root use in it".to_owned()));
    };
    incident.state = match kind {
        AlertKind::Closed { .. } => IncidentState::Quiet,
        AlertKind::Acknowledged { .. } => IncidentState::Acknowledged,
        _ => incident.state,
    };
    Ok(of_incident(&incident, kind.clone(), &rules, windows))
}

fn of_incident(incident: &Incident, kind: AlertKind, rules: &Ruleset, windows: &[Window]) -> Alert {
    let was_told = !matches!(kind, AlertKind::Opened);
    let last = incident.findings.last().map(|finding| &finding.key);
    let decided_at = incident
        .last_at
        .and_then(|at| at.checked_add(SignedDuration::from_secs(20)).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let by = match &kind {
        AlertKind::Acknowledged { by } => Some(by.clone()),
        _ => None,
    };
    let telling = AlertContext {
        decided_at,
        received_at: Some(decided_at),
        findings_total: incident.findings_total(),
        seen: &|key| was_told && last.is_some_and(|last| key != last),
        by: by.as_deref(),
        names: &name,
        rules,
        windows,
    };
    compose(format!("{}.1", incident.id), kind, incident, &telling)
}

/// An hour in which a sign-in is approved, and nothing else.
fn window() -> Window {
    let hour = SignedDuration::from_hours(1);
    // 2026-05-04T14:00:00Z.
    let from = Timestamp::from_second(1_777_903_200).unwrap_or(Timestamp::UNIX_EPOCH);
    Window {
        name: "CHG-1042".to_owned(),
        accounts: [ACCOUNT.to_owned()].into(),
        from,
        until: from.saturating_add(hour).unwrap_or(Timestamp::MAX),
        by: "anna".to_owned(),
        reason: "change the support plan".to_owned(),
        addresses: Vec::new(),
        calls: ["ConsoleLogin".to_owned()].into(),
    }
}

fn name(id: &str) -> AccountName {
    let (name, unit) = match id {
        "111122223333" => (Some("example-management"), None),
        ACCOUNT => (Some("prod-payments"), Some("Production")),
        _ => (None, None),
    };
    AccountName { id: id.to_owned(), name: name.map(str::to_owned), unit: unit.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_can_be_made_and_is_what_its_name_says() {
        for name in NAMES {
            let alert = alert(name).expect("a sample").expect("it is known");
            let kind = match name {
                "failed" | "privileged" | "approved" => "opened",
                name => name,
            };
            assert_eq!(alert.kind.name(), kind);
        }
        assert!(alert("unknown").expect("no fault").is_none());
    }

    #[test]
    fn what_holds_no_root_use_gives_no_alert() {
        let error = of_records(br#"{"Records":[]}"#).expect_err("no alert");
        assert_eq!(error, "there is no root use in it");
        let error = of_records(b"{\"Records\":[{\"eventVersion\":").expect_err("no alert");
        assert_ne!(error, "there is no root use in it");
    }
}
