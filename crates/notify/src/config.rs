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
    /// Wordings of your own, by name; a destination takes one with `template`.
    pub template: BTreeMap<String, TemplateConfig>,
}

/// `[notify.template.<name>]`: texts in your own words, in the template language of Jinja (`{{ }}`,
/// `{% if %}`, `{% for %}`, filters). What is left out stays as it is.
///
/// A template can name `severity`, `kind`, `title`, `compact`, `lead`, `prose`, `foot`, `link`
/// (texts), `fresh`, `why`, `next`, `timeline`, `listed` (lists of texts), `accounts` (each with
/// `id`, `name`, `unit`), `incident` and `findings` (as the channel `webhook` sends them). It is
/// tried on sample alerts when the configuration is read; if it fails later, the built-in text goes
/// and the log says so. Markup is escaped: a template makes words, not layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateConfig {
    /// The title: one line of at most 140 columns.
    pub title: Option<String>,
    /// The line for a lock screen or a text message: at most 160 columns.
    pub compact: Option<String>,
    /// When, from where, by what way.
    pub lead: Option<String>,
    /// What was done, in sentences.
    pub prose: Option<String>,
    /// What to do first: a step a line.
    pub next: Option<String>,
    /// The last line.
    pub foot: Option<String>,
}

/// `[notify.redact]`: what is masked in messages to people. Each destination says with `redact`
/// whether it applies; where people read (chats, mail, tickets) it does by default, where programs
/// read (`log`, `webhook`, `eventbridge`, `ocsf`, `securityhub`) it does not. Request parameters as
/// such are never part of an alert: it names what was changed, and nothing else of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactConfig {
    /// Access keys become `AKIA…WXYZ`: the kind and the last four characters.
    pub access_keys: bool,
    /// E-mail addresses become `a…@example.com`.
    pub emails: bool,
    /// Tokens and keys become `…`: secret access keys, session tokens, JSON Web Tokens, tokens of
    /// chats and code hosts, private keys, and what follows `password=`, `token=` and the like.
    pub tokens: bool,
    /// Source addresses lose their last part: `203.0.113.x`.
    pub addresses: bool,
    /// Fields of an alert that are left out where the whole alert is sent, by their names, wherever
    /// they stand.
    pub fields: Vec<String>,
}

impl Default for RedactConfig {
    /// User agents and error messages are free texts that a caller chose or that quote request
    /// parameters.
    fn default() -> Self {
        let fields = ["error_message", "user_agent", "updated_fields"].map(str::to_owned).to_vec();
        Self { access_keys: true, emails: true, tokens: true, addresses: false, fields }
    }
}

impl RedactConfig {
    /// Masks nothing.
    pub(crate) const NOTHING: Self = Self {
        access_keys: false,
        emails: false,
        tokens: false,
        addresses: false,
        fields: Vec::new(),
    };
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
    /// Kinds of alerts: `opened`, `continued`, `escalated`, `outside_window`, `acknowledged`,
    /// `closed`, `digest`.
    pub alert: Vec<String>,
    /// True for alerts about what is wholly inside an approved window, false for all others.
    pub approved: Option<bool>,
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
