//! `--format ocsf`: one Detection Finding of the Open Cybersecurity Schema Framework a line.
//!
//! The attributes are those of OCSF 1.4.0, class 2004 with the `cloud` profile. The tests hold every
//! line against `tests/schemas/ocsf-2004.schema.json`, which is written from the published schema
//! (<https://schema.ocsf.io/1.4.0/classes/detection_finding>).

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;

use jiff::Timestamp;
use rootwatch_core::finding::{Finding, Mfa, NeedsRoot, Outcome, RootUse, Severity};
use rootwatch_core::incident::{IncidentId, IncidentState};
use serde_json::{Map, Value, json};

use super::{Report, Shown, json as json_line, words};

/// The version of the schema to which the lines conform.
const OCSF_VERSION: &str = "1.4.0";

/// Writes one Detection Finding (class 2004) a line.
///
/// # Errors
///
/// When `out` cannot be written to.
pub(crate) fn ocsf(out: &mut dyn Write, report: &Report<'_>) -> io::Result<()> {
    let states: HashMap<&IncidentId, IncidentState> =
        report.incidents.iter().map(|incident| (&incident.id, incident.state)).collect();
    for shown in &report.findings {
        let state = states.get(shown.incident_id).copied();
        json_line::line(out, &pruned(event(report, shown, state)))?;
    }
    Ok(())
}

fn event(report: &Report<'_>, shown: &Shown<'_>, state: Option<IncidentState>) -> Value {
    let finding = shown.finding;
    let (status_id, status) = status(state);
    let (severity_id, severity) = severity(finding.severity);
    let (confidence_id, confidence) = confidence(finding.root_use);
    let at = finding.event_time.map(millis);
    let rule = finding.rules.first().and_then(|id| report.rules.get(id));
    json!({
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200_401,
        "type_name": "Detection Finding: Create",
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "confidence_id": confidence_id,
        "confidence": confidence,
        "is_alert": finding.severity > Severity::Informational,
        // When the record states no time, the schema still asks for one: when we looked, else the
        // beginning of time, which no one takes for a fact.
        "time": at.or_else(|| report.generated_at.map(millis)).unwrap_or(0),
        "start_time": at,
        "end_time": at,
        "timezone_offset": 0,
        "message": finding.title,
        "metadata": metadata(report, shown),
        "finding_info": finding_info(report, finding),
        "cloud": {
            "provider": "AWS",
            "region": finding.region,
            "cloud_partition": partition(finding),
            "account": account(report, finding.account_id.as_deref()),
        },
        "resources": resources(report, finding),
        "evidences": evidences(report, finding),
        "remediation": { "desc": rule.map(|rule| steps(&rule.triage)) },
        "unmapped": {
            "root_use": finding.root_use.name(),
            "rules": finding.rules,
            "reason_codes": finding.reasons.iter().map(|it| it.code.as_ref()).collect::<Vec<_>>(),
            "outcome": finding.outcome.name(),
            "mfa": finding.mfa.name(),
            "needs_root": match finding.needs_root {
                NeedsRoot::Yes => Some(true),
                NeedsRoot::No => Some(false),
                NeedsRoot::Unknown => None,
            },
            "read_only": finding.read_only,
            "recipient_account_id": finding.recipient_account_id,
            "shared_event_id": finding.shared_event_id,
            "file": shown.file,
        },
    })
}

fn metadata(report: &Report<'_>, shown: &Shown<'_>) -> Value {
    let finding = shown.finding;
    json!({
        "version": OCSF_VERSION,
        "profiles": ["cloud"],
        "product": {
            "name": "Rootwatch",
            "vendor_name": "Rootwatch",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "uid": finding.key.0,
        "correlation_uid": shown.incident_id.0,
        "event_code": finding.event_name,
        "log_name": "AWS CloudTrail",
        "log_provider": "AWS CloudTrail",
        "original_time": finding.event_time.map(words::rfc3339),
        "processed_time": report.generated_at.map(millis),
    })
}

fn finding_info(report: &Report<'_>, finding: &Finding) -> Value {
    let at = finding.event_time.map(millis);
    let reasons: Vec<&str> = finding.reasons.iter().map(|reason| reason.text.as_ref()).collect();
    let rule = |id: &String| {
        let title = report.rules.get(id).map(|rule| rule.title.as_str());
        json!({
            "uid": id,
            "name": title.filter(|title| !title.is_empty()).unwrap_or(id),
            "type": "Rule",
            "type_id": 1,
        })
    };
    // The floor: root use is a finding even when no rule knows the call.
    let floor = json!({
        "uid": "root-use",
        "name": "Root use is always a finding",
        "type": "Rule",
        "type_id": 1,
    });
    let attacks: Vec<Value> = finding
        .rules
        .iter()
        .filter_map(|id| report.rules.get(id))
        .flat_map(|rule| rule.attack.iter())
        .fold(Vec::<&String>::new(), |mut seen, id| {
            if !seen.contains(&id) {
                seen.push(id);
            }
            seen
        })
        .into_iter()
        .map(|id| attack(id))
        .collect();
    json!({
        "uid": finding.key.0,
        "title": finding.title,
        "desc": (!reasons.is_empty()).then(|| reasons.join("; ")),
        "types": ["AWS root user", finding.root_use.name()],
        "data_sources": ["AWS CloudTrail"],
        "created_time": report.generated_at.map(millis),
        "first_seen_time": at,
        "last_seen_time": at,
        "analytic": finding.rules.first().map_or(floor, rule),
        "related_analytics": finding.rules.iter().skip(1).map(rule).collect::<Vec<_>>(),
        "attacks": attacks,
        "related_events": finding.event_id.as_ref().map(|id| json!([{
            "uid": id,
            "type": "AWS CloudTrail record",
        }])),
        "related_events_count": finding.event_id.as_ref().map(|_| 1),
    })
}

/// A sub-technique stands beside its technique.
fn attack(id: &str) -> Value {
    match id.split_once('.') {
        Some((technique, _)) => json!({
            "technique": { "uid": technique },
            "sub_technique": { "uid": id },
        }),
        None => json!({ "technique": { "uid": id } }),
    }
}

fn account(report: &Report<'_>, id: Option<&str>) -> Value {
    id.map_or(Value::Null, |id| {
        json!({
            "uid": id,
            "name": report.account_names.get(id),
            "type": "AWS Account",
            "type_id": 10,
        })
    })
}

fn resources(report: &Report<'_>, finding: &Finding) -> Value {
    let account = finding.account_id.as_ref().map(|id| {
        json!({
            "uid": id,
            "name": report.account_names.get(id),
            "type": "AWS account",
            "cloud_partition": partition(finding),
        })
    });
    let target = finding.target.as_ref().filter(|target| !target.is_empty()).map(|target| {
        json!({
            "name": target,
            "region": finding.region,
            "cloud_partition": partition(finding),
        })
    });
    Value::Array(account.into_iter().chain(target).collect())
}

fn evidences(report: &Report<'_>, finding: &Finding) -> Value {
    let failed = finding.outcome == Outcome::Failure;
    let api = finding.event_name.as_ref().map(|name| {
        json!({
            "operation": name,
            "service": { "name": finding.event_source },
            "response": {
                "error": finding.error_code,
                "error_message": finding.error_message,
                "message": if failed { "Failure" } else { "Success" },
            },
        })
    });
    let evidence = json!({
        "api": api,
        "actor": actor(report, finding),
        "src_endpoint": finding.source_ip.as_deref().map(endpoint),
        "http_request": { "user_agent": finding.user_agent },
    });
    // The schema asks for at least one of the first three.
    let stated = |key: &str| !is_empty(&pruned(evidence[key].clone()));
    if ["api", "actor", "src_endpoint"].into_iter().any(stated) {
        Value::Array(vec![evidence])
    } else {
        Value::Null
    }
}

fn actor(report: &Report<'_>, finding: &Finding) -> Value {
    let session = &finding.session;
    let user = match finding.root_use {
        RootUse::Direct | RootUse::OnBehalf => json!({
            "name": "root",
            "type": "Admin",
            "type_id": 2,
            "uid": session.principal_arn,
            "account": account(report, finding.account_id.as_deref()),
        }),
        RootUse::Privileged | RootUse::Derived | RootUse::Possible | RootUse::No => {
            let uid = finding.actor.as_ref().or(session.principal_arn.as_ref());
            uid.map_or(Value::Null, |uid| {
                let kind = session.principal_type.as_deref().filter(|kind| !kind.is_empty());
                json!({
                    "uid": uid,
                    "type": kind.unwrap_or("Unknown"),
                    "type_id": if kind.is_some() { 99 } else { 0 },
                })
            })
        }
    };
    json!({
        "user": user,
        "app_name": session.invoked_by,
        "session": {
            "uid": session.sign_in_session_arn,
            "created_time": session.created_at.map(millis),
            "credential_uid": finding.access_key_id,
            "is_mfa": match finding.mfa {
                Mfa::Used => Some(true),
                Mfa::NotUsed => Some(false),
                Mfa::NotStated => None,
            },
        },
    })
}

/// `sourceIPAddress` is an address, the name of a service, or `AWS Internal`.
fn endpoint(source: &str) -> Value {
    if source.is_empty() {
        Value::Null
    } else if source.parse::<IpAddr>().is_ok() {
        json!({ "ip": source })
    } else {
        json!({ "svc_name": source })
    }
}

/// The partition that the principal's ARN names.
fn partition(finding: &Finding) -> Option<&str> {
    let arn = finding.session.principal_arn.as_deref()?;
    let partition = arn.strip_prefix("arn:")?.split(':').next()?;
    partition.starts_with("aws").then_some(partition)
}

fn steps(triage: &[String]) -> Option<String> {
    let numbered = triage.iter().enumerate().map(|(index, step)| format!("{}. {step}", index + 1));
    let text = numbered.collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then_some(text)
}

fn severity(severity: Severity) -> (u8, &'static str) {
    match severity {
        Severity::Informational => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

fn status(state: Option<IncidentState>) -> (u8, &'static str) {
    match state {
        None | Some(IncidentState::Open | IncidentState::Quiet) => (1, "New"),
        Some(IncidentState::Acknowledged) => (2, "In Progress"),
        Some(IncidentState::Resolved) => (4, "Resolved"),
    }
}

/// How sure we are that it was the root user: the record says so, or only the root user usually can.
fn confidence(root_use: RootUse) -> (u8, &'static str) {
    match root_use {
        RootUse::Possible => (2, "Medium"),
        _ => (3, "High"),
    }
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The value without nulls, and without objects and lists that are empty then: an attribute that a
/// record does not state is left out.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, pruned(value)))
                .filter(|(_, value)| !is_empty(value))
                .collect::<Map<_, _>>(),
        ),
        Value::Array(items) => {
            Value::Array(items.into_iter().map(pruned).filter(|item| !is_empty(item)).collect())
        }
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
