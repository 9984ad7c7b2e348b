//! The JSON of the API, field by field: a change here is a change for users.

use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::Finding;
use rootwatch_core::incident::IncidentState;
use rootwatch_store::{Resolution, StoredFinding, StoredIncident, Unverified};
use serde::Serialize;
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PageOf<T: ToSchema> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Give this as `after` for the next page; `null` at the end.
    pub next: Option<String>,
}

/// A stable code and plain words.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReasonItem {
    /// For programs.
    pub code: String,
    /// For people.
    pub text: String,
}

/// Who acknowledged or resolved an incident.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HandledItem {
    /// `acknowledged` or `resolved`.
    pub state: &'static str,
    /// The token's name.
    pub by: String,
    /// When (RFC 3339).
    pub at: String,
    /// Why, in their words.
    pub note: Option<String>,
}

impl From<&Resolution> for HandledItem {
    fn from(handled: &Resolution) -> Self {
        Self {
            state: incident_state_name(handled.state),
            by: handled.by.clone(),
            at: handled.at.to_string(),
            note: handled.note.clone(),
        }
    }
}

/// An incident.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct IncidentItem {
    /// Such as `7K2-MPX`.
    pub id: String,
    /// `session`, `privileged`, `spray`, `rule_match` or `delivery_outage`.
    pub kind: &'static str,
    /// `open`, `quiet`, `acknowledged` or `resolved`.
    pub state: &'static str,
    /// `informational`, `low`, `medium`, `high` or `critical`.
    pub severity: &'static str,
    /// One line for people.
    pub title: String,
    /// Accounts whose root user is concerned.
    pub accounts: Vec<String>,
    /// The strongest root use among the findings.
    pub root_use: &'static str,
    /// Why the severity is what it is.
    pub reasons: Vec<ReasonItem>,
    /// The first moment of which a finding speaks (RFC 3339).
    pub first_at: Option<String>,
    /// The last one.
    pub last_at: Option<String>,
    /// Addresses from which a client called.
    pub addresses: Vec<String>,
    /// Other incidents of the same story.
    pub related: Vec<String>,
    /// How many findings there are.
    pub findings_total: u64,
    /// How many alerts were decided.
    pub alerts: u32,
    /// True when all of it came by a scan of old log files: nobody was told.
    pub history: bool,
    /// Who acknowledged or resolved it.
    pub handled: Option<HandledItem>,
    /// When it was written last.
    pub changed_at: String,
}

impl From<&StoredIncident> for IncidentItem {
    fn from(stored: &StoredIncident) -> Self {
        let incident = &stored.incident;
        Self {
            id: incident.id.0.clone(),
            kind: incident.kind.name(),
            state: incident_state_name(incident.state),
            severity: incident.severity.name(),
            title: incident.title.clone(),
            accounts: incident.accounts.clone(),
            root_use: incident.root_use.name(),
            reasons: incident
                .reasons
                .iter()
                .map(|reason| ReasonItem {
                    code: reason.code.to_string(),
                    text: reason.text.to_string(),
                })
                .collect(),
            first_at: incident.first_at.map(|at| at.to_string()),
            last_at: incident.last_at.map(|at| at.to_string()),
            addresses: incident.addresses.clone(),
            related: incident.related.iter().map(|id| id.0.clone()).collect(),
            findings_total: stored.findings_total,
            alerts: stored.notified.alerts,
            history: stored.notified.history,
            handled: stored.by.as_ref().map(HandledItem::from),
            changed_at: stored.changed_at.to_string(),
        }
    }
}

/// A finding: the fields of `rootwatch scan --format jsonl`, and when it came.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FindingItem {
    /// The record's event id.
    pub event_id: Option<String>,
    /// When it happened (RFC 3339).
    pub event_time: Option<String>,
    /// Account of the root user.
    pub account_id: Option<String>,
    /// Account to which the record was delivered.
    pub recipient_account_id: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Service that was called.
    pub event_source: Option<String>,
    /// The call.
    pub event_name: Option<String>,
    /// How the root user was involved.
    pub root_use: &'static str,
    /// How bad it is by itself.
    pub severity: &'static str,
    /// Rules that spoke.
    pub rules: Vec<String>,
    /// One line for people.
    pub title: String,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// `success` or `failure`.
    pub outcome: &'static str,
    /// The error's code.
    pub error_code: Option<String>,
    /// `used`, `not_used` or `not_stated`.
    pub mfa: &'static str,
    /// Where it came from. Chosen by who called, as the next two.
    pub source_ip: Option<String>,
    /// The client.
    pub user_agent: Option<String>,
    /// The access key.
    pub access_key_id: Option<String>,
    /// Whether the call only reads.
    pub read_only: Option<bool>,
    /// Its incident.
    pub incident_id: Option<String>,
    /// When it reached the hub (RFC 3339).
    pub received_at: String,
}

impl FindingItem {
    fn of(finding: &Finding, incident_id: Option<String>, received_at: String) -> Self {
        Self {
            event_id: finding.event_id.clone(),
            event_time: finding.event_time.map(|at| at.to_string()),
            account_id: finding.account_id.clone(),
            recipient_account_id: finding.recipient_account_id.clone(),
            region: finding.region.clone(),
            event_source: finding.event_source.clone(),
            event_name: finding.event_name.clone(),
            root_use: finding.root_use.name(),
            severity: finding.severity.name(),
            rules: finding.rules.clone(),
            title: finding.title.clone(),
            reasons: finding.reasons.iter().map(|reason| reason.text.to_string()).collect(),
            outcome: finding.outcome.name(),
            error_code: finding.error_code.clone(),
            mfa: finding.mfa.name(),
            source_ip: finding.source_ip.clone(),
            user_agent: finding.user_agent.clone(),
            access_key_id: finding.access_key_id.clone(),
            read_only: finding.read_only,
            incident_id,
            received_at,
        }
    }
}

impl From<&StoredFinding> for FindingItem {
    fn from(stored: &StoredFinding) -> Self {
        let incident = Some(stored.incident.0.clone());
        Self::of(&stored.finding, incident, stored.received_at.to_string())
    }
}

/// A record that was not trusted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UnverifiedItem {
    /// Who brought it: `http:<token>`, `sqs:<name>` …
    pub source: String,
    /// Why it is not trusted.
    pub reason: String,
    /// What it claims.
    pub finding: FindingItem,
}

impl From<&Unverified> for UnverifiedItem {
    fn from(one: &Unverified) -> Self {
        Self {
            source: one.source.clone(),
            reason: one.reason.clone(),
            finding: FindingItem::of(&one.finding, None, one.received_at.to_string()),
        }
    }
}

/// An alert owed to a destination, and what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeliveryItem {
    /// Names it, and is the channel's idempotency key.
    pub id: String,
    /// The destination.
    pub destination: String,
    /// The alert.
    pub alert_id: String,
    /// Why people are told: `opened`, `escalated`, `closed` …
    pub kind: &'static str,
    /// How bad.
    pub severity: &'static str,
    /// The incident; `null` for what is about none.
    pub incident_id: Option<String>,
    /// `due`, `delivered` or `failed`.
    pub state: &'static str,
    /// Attempts begun.
    pub attempts: u32,
    /// When it was owed first (RFC 3339).
    pub created_at: String,
    /// Not to be sent before.
    pub due_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// What the last attempt came to.
    pub last_error: Option<String>,
    /// What the channel answered.
    pub receipt: Option<String>,
    /// The delivery that failed and for which this one stands in.
    pub stands_in_for: Option<String>,
}

impl From<&Delivery> for DeliveryItem {
    fn from(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id.0.clone(),
            destination: delivery.destination.clone(),
            alert_id: delivery.alert.id.clone(),
            kind: delivery.alert.kind.name(),
            severity: delivery.alert.severity.name(),
            incident_id: delivery.alert.incident().map(|incident| incident.id.0.clone()),
            state: delivery.state.name(),
            attempts: delivery.attempts,
            created_at: delivery.created_at.to_string(),
            due_at: delivery.due_at.to_string(),
            ended_at: delivery.ended_at.map(|at| at.to_string()),
            last_error: delivery.last_error.clone(),
            receipt: delivery.receipt.clone(),
            stands_in_for: delivery.stands_in_for.as_ref().map(|id| id.0.clone()),
        }
    }
}

pub(crate) fn incident_state_name(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Open => "open",
        IncidentState::Quiet => "quiet",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Resolved => "resolved",
    }
}
