//! Findings and incidents as events of the Open Cybersecurity Schema Framework, for SIEMs.
//!
//! The attributes are those of OCSF 1.4.0 with the `cloud` profile: a finding is a Detection Finding
//! (class 2004, <https://schema.ocsf.io/1.4.0/classes/detection_finding>), an incident an Incident
//! Finding (class 2005, <https://schema.ocsf.io/1.4.0/classes/incident_finding>). A finding's
//! `metadata.correlation_uid` is the incident's id, and an incident's `finding_info_list` has the
//! `uid` of each finding.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::alert::IncidentSummary;
use crate::finding::{Finding, Mfa, NeedsRoot, Outcome, RootUse, Severity};
use crate::incident::{IncidentId, IncidentState};
use crate::rules::Rule;
use crate::text;

/// The version of the schema.
pub const OCSF_VERSION: &str = "1.4.0";
/// Characters of a title in the list of an incident's findings.
const LISTED_CHARS_MAX: usize = 500;

/// The texts of a rule in an event.
#[derive(Debug, Clone, Copy)]
pub struct RuleText<'a> {
    /// The rule's title; may be empty.
    pub title: &'a str,
    /// What to do first, in order.
    pub triage: &'a [String],
    /// MITRE ATT&CK techniques, such as `T1078.004`.
    pub attack: &'a [String],
}

impl<'a> RuleText<'a> {
    /// The texts of this rule.
    #[must_use]
    pub fn of(rule: &'a Rule) -> Self {
        Self { title: &rule.title, triage: &rule.triage, attack: &rule.attack }
    }
}

/// What events need beyond the findings.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The texts of a rule, by its id.
    pub rule_of: &'a dyn Fn(&str) -> Option<RuleText<'a>>,
    /// The name of an account, if it has one.
    pub name_of: &'a dyn Fn(&str) -> Option<String>,
    /// When the input was read.
    pub at: Option<Timestamp>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What happened to an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It is new.
    Create,
    /// It changed.
    Update,
    /// It is over.
    Close,
}

impl Activity {
    fn named(self) -> (u32, &'static str) {
        match self {
            Self::Create => (1, "Create"),
            Self::Update => (2, "Update"),
            Self::Close => (3, "Close"),
        }
    }
}

/// A message that is not about an account's incident: a test, a delivery outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice<'a> {
    /// Its id.
    pub uid: &'a str,
    /// One line.
    pub title: &'a str,
    /// Its severity.
    pub severity: Severity,
    /// Its time.
    pub at: Timestamp,
    /// True if it ends with this message.
    pub is_over: bool,
}

/// An incident as an Incident Finding. `findings` are those that it lists; `at` is the time of the
/// change.
#[must_use]
pub fn incident(
    context: &Context<'_>,
    brief: &IncidentSummary,
    findings: &[Finding],
    activity: Activity,
    at: Timestamp,
) -> Value {
    let (status_id, status) = match brief.state {
        IncidentState::Quiet => (5, "Closed"),
        state => status(Some(state)),
    };
    let listed: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let seen = finding.event_time.map(millis);
            json!({
                "uid": finding.key.0,
                "title": text::cap(&finding.title, LISTED_CHARS_MAX),
                "types": ["AWS root user", finding.root_use.name()],
                "first_seen_time": seen,
                "last_seen_time": seen,
            })
        })
        .collect();
    let reasons: Vec<&str> = brief.reasons.iter().map(|reason| reason.text.as_ref()).collect();
    let region = findings.iter().find_map(|finding| finding.region.as_deref());
    let partition = findings.iter().find_map(partition);
    let account = match &brief.accounts[..] {
        [one] => account(context, Some(&one.id)),
        _ => Value::Null,
    };
    let accounts: Vec<&str> = brief.accounts.iter().map(|account| account.id.as_str()).collect();
    let mut event = incident_base(&brief.id.0, brief.severity, activity, at);
    event.extend(object(json!({
        "status_id": status_id,
        "status": status,
        "message": brief.title,
        "desc": (!reasons.is_empty()).then(|| reasons.join("; ")),
        "start_time": brief.first_at.map(millis),
        "end_time": brief.last_at.map(millis),
        "finding_info_list": if listed.is_empty() {
            json!([{ "uid": brief.id.0, "title": text::cap(&brief.title, LISTED_CHARS_MAX) }])
        } else {
            json!(listed)
        },
        "cloud": {
            "provider": "AWS",
            "region": region,
            "cloud_partition": partition,
            "account": account,
        },
        "assignee": brief.by.as_ref().map(|by| json!({ "name": by })),
        "assignee_group": brief.by.is_none().then(unassigned),
        "unmapped": {
            "root_use": brief.root_use.name(),
            "accounts": accounts,
            "addresses": brief.addresses,
            "findings_total": brief.findings_total,
            "related_incidents": brief.related.iter().map(|id| &id.0).collect::<Vec<_>>(),
            "rules": brief.rules,
            "reason_codes": brief.reasons.iter().map(|it| it.code.as_ref()).collect::<Vec<_>>(),
            "needs_root": needs_root(brief.needs_root),
        },
    })));
    pruned(Value::Object(event))
}

/// A notice as an Incident Finding.
#[must_use]
pub fn notice(notice: &Notice<'_>) -> Value {
    let activity = if notice.is_over { Activity::Close } else { Activity::Create };
    let (status_id, status) = if notice.is_over { (5, "Closed") } else { (1, "New") };
    let mut event = incident_base(notice.uid, notice.severity, activity, notice.at);
    event.extend(object(json!({
        "status_id": status_id,
        "status": status,
        "message": notice.title,
        "finding_info_list": [{
            "uid": notice.uid,
            "title": text::cap(notice.title, LISTED_CHARS_MAX),
        }],
        "assignee_group": unassigned(),
        "cloud": { "provider": "AWS" },
    })));
    pruned(Value::Object(event))
}

fn incident_base(
    uid: &str,
    how_bad: Severity,
    activity: Activity,
    at: Timestamp,
) -> Map<String, Value> {
    let (activity_id, activity_name) = activity.named();
    let (severity_id, severity) = severity(how_bad);
    object(json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2005,
        "class_name": "Incident Finding",
        "type_uid": 200_500 + activity_id,
        "type_name": format!("Incident Finding: {activity_name}"),
        "severity_id": severity_id,
        "severity": severity,
        "time": millis(at),
        "timezone_offset": 0,
        "metadata": {
            "version": OCSF_VERSION,
            "profiles": ["cloud"],
            "product": product(),
            "uid": format!("{uid}/{}", millis(at)),
            "correlation_uid": uid,
            "log_name": "Rootwatch",
        },
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The schema requires an assignee.
fn unassigned() -> Value {
    json!({ "name": "Unassigned" })
}

fn product() -> Value {
    json!({
        "name": "Rootwatch",
        "vendor_name": "Rootwatch",
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn needs_root(needs: NeedsRoot) -> Option<bool> {
    match needs {
        NeedsRoot::Yes => Some(true),
        NeedsRoot::No => Some(false),
        NeedsRoot::Unknown => None,
    }
}

/// A finding as a Detection Finding. `file` is the log file that it was read from.
#[must_use]
pub fn detection(
    context: &Context<'_>,
    finding: &Finding,
    incident: &IncidentId,
    state: Option<IncidentState>,
    file: Option<&str>,
) -> Value {
    let (status_id, status) = status(state);
    let (severity_id, severity) = severity(finding.severity);
    let (confidence_id, confidence) = confidence(finding.root_use);
    let at = finding.event_time.map(millis);
    let rule = finding.rules.first().and_then(|id| (context.rule_of)(id));
    pruned(json!({
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
        // The schema requires a time even if the record has none: the time of reading, or else the
        // beginning of the epoch, which is clearly not a fact.
        "time": at.or_else(|| context.at.map(millis)).unwrap_or(0),
        "start_time": at,
        "end_time": at,
        "timezone_offset": 0,
        "message": finding.title,
        "metadata": metadata(context, finding, incident),
        "finding_info": finding_info(context, finding),
        "cloud": {
            "provider": "AWS",
            "region": finding.region,
            "cloud_partition": partition(finding),
            "account": account(context, finding.account_id.as_deref()),
        },
        "resources": resources(context, finding),
        "evidences": evidences(context, finding),
        "remediation": { "desc": rule.map(|rule| steps(rule.triage)) },
        "unmapped": {
            "root_use": finding.root_use.name(),
            "rules": finding.rules,
            "reason_codes": finding.reasons.iter().map(|it| it.code.as_ref()).collect::<Vec<_>>(),
            "outcome": finding.outcome.name(),
            "mfa": finding.mfa.name(),
            "needs_root": needs_root(finding.needs_root),
            "read_only": finding.read_only,
            "recipient_account_id": finding.recipient_account_id,
            "shared_event_id": finding.shared_event_id,
            "file": file,
        },
    }))
}

fn metadata(context: &Context<'_>, finding: &Finding, incident: &IncidentId) -> Value {
    json!({
        "version": OCSF_VERSION,
        "profiles": ["cloud"],
        "product": product(),
        "uid": finding.key.0,
        "correlation_uid": incident.0,
        "event_code": finding.event_name,
        "log_name": "AWS CloudTrail",
        "log_provider": "AWS CloudTrail",
        "original_time": finding.event_time.map(|at| at.to_string()),
        "processed_time": context.at.map(millis),
    })
}

fn finding_info(context: &Context<'_>, finding: &Finding) -> Value {
    let at = finding.event_time.map(millis);
    let reasons: Vec<&str> = finding.reasons.iter().map(|reason| reason.text.as_ref()).collect();
    let rule = |id: &String| {
        let title = (context.rule_of)(id).map(|rule| rule.title);
        json!({
            "uid": id,
            "name": title.filter(|title| !title.is_empty()).unwrap_or(id),
            "type": "Rule",
            "type_id": 1,
        })
    };
    // Root use is a finding even if no rule knows the call.
    let floor = json!({
        "uid": "root-use",
        "name": "Root use is always a finding",
        "type": "Rule",
        "type_id": 1,
    });
    let attacks: Vec<Value> = finding
        .rules
        .iter()
        .filter_map(|id| (context.rule_of)(id))
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
        "created_time": context.at.map(millis),
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

/// A sub-technique is listed beside its technique.
fn attack(id: &str) -> Value {
    match id.split_once('.') {
        Some((technique, _)) => json!({
            "technique": { "uid": technique },
            "sub_technique": { "uid": id },
        }),
        None => json!({ "technique": { "uid": id } }),
    }
}

fn account(context: &Context<'_>, id: Option<&str>) -> Value {
    id.map_or(Value::Null, |id| {
        json!({
            "uid": id,
            "name": (context.name_of)(id),
            "type": "AWS Account",
            "type_id": 10,
        })
    })
}

fn resources(context: &Context<'_>, finding: &Finding) -> Value {
    let account = finding.account_id.as_ref().map(|id| {
        json!({
            "uid": id,
            "name": (context.name_of)(id),
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

fn evidences(context: &Context<'_>, finding: &Finding) -> Value {
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
        "actor": actor(context, finding),
        "src_endpoint": finding.source_ip.as_deref().map(endpoint),
        "http_request": { "user_agent": finding.user_agent },
    });
    // The schema requires at least one of the first three.
    let stated = |key: &str| !is_empty(&pruned(evidence[key].clone()));
    if ["api", "actor", "src_endpoint"].into_iter().any(stated) {
        Value::Array(vec![evidence])
    } else {
        Value::Null
    }
}

fn actor(context: &Context<'_>, finding: &Finding) -> Value {
    let session = &finding.session;
    let user = match finding.root_use {
        RootUse::Direct | RootUse::OnBehalf => json!({
            "name": "root",
            "type": "Admin",
            "type_id": 2,
            "uid": session.principal_arn,
            "account": account(context, finding.account_id.as_deref()),
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

/// The confidence that it was the root user: the record says so, or usually only the root user can.
fn confidence(root_use: RootUse) -> (u8, &'static str) {
    match root_use {
        RootUse::Possible => (2, "Medium"),
        _ => (3, "High"),
    }
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The value without nulls, and without objects and lists that become empty: attributes that a
/// record does not have are left out.
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
