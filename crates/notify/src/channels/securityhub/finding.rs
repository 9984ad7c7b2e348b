//! One finding in ASFF.

use rootwatch_core::alert::{Alert, AlertKind};
use rootwatch_core::finding::{RootUse, Severity};
use rootwatch_core::incident::IncidentState;
use rootwatch_core::text;
use serde_json::{Map, Value, json};

use crate::aws;
use crate::channels::Message;

/// The version of the format.
const SCHEMA_VERSION: &str = "2018-10-08";
/// Bytes of a finding that Security Hub takes; ours have a tenth of it at most, by the limits below.
pub const FINDING_BYTES_MAX: usize = 240_000;
/// Letters of a title.
pub const TITLE_CHARS_MAX: usize = 256;
/// Letters of a description.
pub const DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Letters of what to do.
const REMEDIATION_CHARS_MAX: usize = 512;
/// Letters of an id, and of who generated a finding.
const ID_CHARS_MAX: usize = 512;
/// Letters of the value of a field.
const FIELD_CHARS_MAX: usize = 1_024;

/// Where a finding is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    New,
    Again,
    Taken,
    Over,
    /// Nothing that anybody has to do: a test, a digest.
    Note,
}

impl Status {
    pub(super) fn of(alert: &Alert) -> Self {
        match &alert.kind {
            AlertKind::Acknowledged { .. } => Self::Taken,
            AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. } => Self::Over,
            AlertKind::Continued => Self::Again,
            AlertKind::Digest | AlertKind::Test => Self::Note,
            _ => match alert.incident().map(|brief| brief.state) {
                Some(IncidentState::Acknowledged) => Self::Taken,
                _ => Self::New,
            },
        }
    }

    fn workflow(self) -> &'static str {
        match self {
            Self::New | Self::Again => "NEW",
            Self::Taken => "NOTIFIED",
            Self::Over | Self::Note => "RESOLVED",
        }
    }

    /// What has to be set on a finding that is there already.
    pub(super) fn workflow_change(self) -> Option<&'static str> {
        (!matches!(self, Self::New | Self::Note)).then(|| self.workflow())
    }

    fn record(self) -> &'static str {
        if matches!(self, Self::Over | Self::Note) { "ARCHIVED" } else { "ACTIVE" }
    }
}

/// The finding of `home`'s Security Hub about an account, or about none.
pub(super) fn render(
    region: &str,
    home: &str,
    about: Option<&str>,
    left_out: usize,
    message: &Message<'_>,
) -> Value {
    let (alert, wording) = (message.alert, message.wording);
    let status = Status::of(alert);
    let partition = aws::partition(region);
    let account = about.unwrap_or(home);
    let brief = alert.incident();
    let first = brief.and_then(|brief| brief.first_at).unwrap_or(alert.decided_at);
    let last = brief.and_then(|brief| brief.last_at).unwrap_or(alert.decided_at);
    let is_test = matches!(alert.kind, AlertKind::Test);
    let severity = if status == Status::Note { Severity::Informational } else { alert.severity };
    let severity =
        json!({ "Label": severity.name().to_uppercase(), "Original": alert.severity.name() });
    let types = types(brief.map(|brief| brief.root_use));
    let generator = brief.and_then(|brief| brief.rules.first()).map_or("root-use", String::as_str);
    let generator = if brief.is_some() { generator } else { "telling" };
    let mut finding = json!({
        "SchemaVersion": SCHEMA_VERSION,
        "Id": cut(&format!("rootwatch/{}/{account}", message.thread), ID_CHARS_MAX),
        "ProductArn": format!("arn:{partition}:securityhub:{region}:{home}:product/{home}/default"),
        "CompanyName": "Rootwatch",
        "ProductName": "Rootwatch",
        "GeneratorId": cut(&format!("rootwatch/{generator}"), ID_CHARS_MAX),
        "AwsAccountId": home,
        "Types": types,
        // The same in every alert of an incident, but for records that come late.
        "CreatedAt": millis(first),
        "FirstObservedAt": millis(first),
        "LastObservedAt": millis(last),
        "UpdatedAt": millis(alert.decided_at),
        "Severity": severity,
        "FindingProviderFields": { "Severity": severity, "Types": types },
        "Title": cut(&title(message), TITLE_CHARS_MAX),
        "Description": description(message, left_out),
        "Resources": [{
            "Type": "AwsAccount",
            "Id": format!("AWS::::Account:{account}"),
            "Partition": partition,
            "Region": region,
        }],
        "RecordState": status.record(),
        "Workflow": { "Status": status.workflow() },
        "Sample": is_test,
        "UserDefinedFields": fields(message, account),
    });
    let next: Vec<&str> = wording.next.iter().map(String::as_str).collect();
    if let Value::Object(map) = &mut finding {
        if !next.is_empty() {
            let mut recommendation = json!({ "Text": cut(&next.join(" "), REMEDIATION_CHARS_MAX) });
            if let Some(link) = &wording.link {
                recommendation["Url"] = json!(link);
            }
            map.insert("Remediation".to_owned(), json!({ "Recommendation": recommendation }));
        }
        if let Some(link) = &wording.link {
            map.insert("SourceUrl".to_owned(), json!(link));
        }
    }
    finding
}

/// Account and severity have columns of their own in Security Hub.
fn title(message: &Message<'_>) -> String {
    let wording = message.wording;
    let banner = wording.banner.as_ref().map(|banner| format!("{banner} · ")).unwrap_or_default();
    let title = message.alert.incident().map_or(wording.title.as_str(), |brief| &brief.title);
    format!("{banner}{title}")
}

/// What is new, when and how, what was done, why: whole parts, as far as there is room.
fn description(message: &Message<'_>, left_out: usize) -> String {
    let wording = message.wording;
    let mut parts: Vec<String> =
        wording.fresh.iter().map(|fresh| format!("New: {fresh}.")).collect();
    parts.push(wording.lead.clone());
    parts.extend(wording.prose.clone());
    if !wording.why.is_empty() {
        parts.push(format!("Why {}: {}.", wording.severity, wording.why.join(" · ")));
    }
    parts.extend(wording.listed.iter().cloned());
    if left_out > 0 {
        parts.push(format!("{} more have no finding.", text::count(left_out as u64, "account")));
    }
    parts.push(format!("{}.", wording.foot));
    parts.retain(|part| !part.is_empty());
    let mut text = String::new();
    let mut is_short = false;
    for part in parts {
        let count = text.chars().count() + part.chars().count();
        if count + 24 > DESCRIPTION_CHARS_MAX {
            is_short = true;
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&part);
    }
    if is_short {
        text.push_str(" More in the hub.");
    }
    cut(&text, DESCRIPTION_CHARS_MAX)
}

/// Classes of the format's list.
fn types(root_use: Option<RootUse>) -> Vec<&'static str> {
    match root_use {
        Some(RootUse::Direct | RootUse::Possible) => {
            vec!["Unusual Behaviors/User", "TTPs/Initial Access"]
        }
        Some(RootUse::Privileged | RootUse::Derived | RootUse::OnBehalf) => {
            vec!["Unusual Behaviors/User", "TTPs/Privilege Escalation"]
        }
        Some(RootUse::No) => vec!["Unusual Behaviors/User"],
        None => vec!["Software and Configuration Checks/Rootwatch"],
    }
}

/// For filters and for people.
fn fields(message: &Message<'_>, account: &str) -> Value {
    let alert = message.alert;
    let mut map = Map::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            map.insert(key.to_owned(), cut(&value, FIELD_CHARS_MAX).into());
        }
    };
    put("rootwatch/alert", alert.id.clone());
    put("rootwatch/kind", alert.kind.name().to_owned());
    if let Some(brief) = alert.incident() {
        put("rootwatch/incident", brief.id.0.clone());
        put("rootwatch/root_use", brief.root_use.name().to_owned());
        put("rootwatch/rules", brief.rules.join(" "));
        put("rootwatch/addresses", brief.addresses.join(" "));
        put("rootwatch/calls", brief.findings_total.to_string());
        let named = brief.accounts.iter().find(|one| one.id == account);
        put("rootwatch/account_name", named.and_then(|one| one.name.clone()).unwrap_or_default());
        let also: Vec<&str> = brief
            .accounts
            .iter()
            .map(|one| one.id.as_str())
            .filter(|id| *id != account)
            .take(50)
            .collect();
        put("rootwatch/other_accounts", also.join(" "));
    }
    Value::Object(map)
}

fn millis(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// At most so many letters, in which everything can be seen.
fn cut(text: &str, chars_max: usize) -> String {
    let text = text::cap(text, chars_max);
    text.chars().take(chars_max).collect()
}
