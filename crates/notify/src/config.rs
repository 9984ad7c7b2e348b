//! What the configuration says of telling people: `[notify]`.

use std::collections::BTreeMap;
use std::fmt;

use rootwatch_core::finding::{RootUse, Severity};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::channels::ChannelConfig;

mod check;
mod destination;
mod digest;

pub use self::destination::{Common, DestinationConfig};
pub use self::digest::DigestConfig;

pub(crate) use self::check::check;

/// Destinations at most.
pub const DESTINATIONS_MAX: usize = 100;
/// Routes at most.
pub const ROUTES_MAX: usize = 1000;

/// `[notify]`: whom to tell, of what, by which way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// The destinations by name: letters, digits, `-` and `_`, at most 40 of them.
    pub destination: BTreeMap<String, DestinationConfig>,
    /// Which alerts go where: the first route that fits decides, unless it says `continue = true`.
    /// An alert that fits no route, and every alert where no route is written, goes to all
    /// destinations.
    pub route: Vec<Route>,
    /// The digest of informational incidents.
    pub digest: DigestConfig,
    /// What is masked before a message leaves for a chat.
    pub redact: RedactConfig,
}

/// `[notify.redact]`: what is masked in messages to people. Each destination says with `redact`
/// whether it applies; chats mask by default, `log` and `webhook` do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactConfig {
    /// Access keys become `AKIA…WXYZ`: the kind and the last four characters.
    pub access_keys: bool,
    /// E-mail addresses become `a…@example.com`.
    pub emails: bool,
    /// Source addresses lose their last part: `203.0.113.x`.
    pub addresses: bool,
}

impl Default for RedactConfig {
    fn default() -> Self {
        Self { access_keys: true, emails: true, addresses: false }
    }
}

impl RedactConfig {
    /// Masks nothing.
    pub(crate) const NOTHING: Self = Self { access_keys: false, emails: false, addresses: false };
}

/// `[[notify.route]]`: conditions, which all have to hold, and where the alert goes then. What is
/// left out does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// From this severity on.
    #[schemars(schema_with = "severity_schema")]
    pub min_severity: Option<Severity>,
    /// Accounts, by their twelve digits or by their names (`*` stands for any text).
    pub account: Vec<String>,
    /// Organisational units (`*` stands for any text).
    pub unit: Vec<String>,
    /// Rules that speak, by id (`*` stands for any text).
    pub rule: Vec<String>,
    /// How the root user is involved.
    #[schemars(schema_with = "root_uses_schema")]
    pub root_use: Vec<RootUse>,
    /// Why people are told: `opened`, `reopened`, `rose`, `closed`, `digest`.
    pub alert: Vec<String>,
    /// Only at this time of day, as the alert is decided.
    pub time: Option<TimeOfDay>,
    /// Names of destinations; none says that nobody is told.
    pub to: Vec<String>,
    /// True to look at the routes that follow, too.
    #[serde(rename = "continue")]
    pub go_on: bool,
}

/// A span of the day, on some days of the week, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeOfDay {
    /// The first minute: `"08:00"`.
    pub from: String,
    /// The first minute after it: `"18:00"`. Before `from`, the span goes over midnight; equal to
    /// `from`, it is the whole day.
    pub until: String,
    /// An IANA time zone, such as `Europe/Zurich`.
    #[serde(default = "utc")]
    pub zone: String,
    /// Days on which the span begins: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`. None stands
    /// for all.
    #[serde(default)]
    pub days: Vec<String>,
}

pub(crate) fn utc() -> String {
    "UTC".to_owned()
}

/// A fault in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key: `notify.destination.oncall.escalate_to`.
    pub key: String,
    /// What is wrong, lower case, no full stop.
    pub problem: String,
}

impl ConfigProblem {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl std::error::Error for ConfigProblem {}

pub(crate) fn severity_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = Severity::ALL.iter().map(|one| one.name()).collect();
    json_schema!({ "type": ["string", "null"], "enum": names })
}

fn root_uses_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = RootUse::ALL.iter().map(|one| one.name()).collect();
    json_schema!({ "type": "array", "items": { "type": "string", "enum": names } })
}

pub(crate) fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "description": "`env:NAME`, `file:PATH`, `aws-secret:ID`, `aws-ssm:NAME`, or the secret itself"
    })
}

pub(crate) fn secrets_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": secret_schema(generator) })
}

/// Names of all channels.
#[must_use]
pub fn channel_names() -> &'static [&'static str] {
    ChannelConfig::NAMES
}
