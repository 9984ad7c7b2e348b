//! `[notify.redact]` and `[notify.template.<name>]`: what changes the built-in wording.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[notify.template.<name>]`: your own texts, in the template language Jinja (`{{ }}`,
/// `{% if %}`, `{% for %}`, filters). Texts without a template keep the built-in wording.
///
/// A template can use `severity`, `kind`, `title`, `compact`, `lead`, `prose`, `foot`, `link`
/// (texts), `fresh`, `why`, `next`, `timeline`, `listed` (lists of texts), `accounts` (each with
/// `id`, `name`, `unit`), `incident` and `findings` (as the channel `webhook` sends them). `rootwatch
/// config check` renders it with the sample alerts. If it fails later, the message has the built-in
/// text and the log names the fault. Markup in the result is escaped: a template changes words, not
/// layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateConfig {
    /// The title: one line of at most 140 columns.
    pub title: Option<String>,
    /// One line of at most 160 columns, for lock screens and SMS.
    pub compact: Option<String>,
    /// Time, source address and kind of access.
    pub lead: Option<String>,
    /// The actions, in sentences.
    pub prose: Option<String>,
    /// The first steps of the response, one on each line.
    pub next: Option<String>,
    /// The last line.
    pub foot: Option<String>,
}

/// `[notify.redact]`: what is masked in messages. Each destination can switch masking on or off with
/// `redact`. Default: on where people read (`email`, `pagerduty`, `servicenow`, `slack`, `sms`, `teams`
/// and `zendesk`), off where programs read (all other channels). Alerts never contain request
/// parameters, only the names of the changed resources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactConfig {
    /// Mask access key ids: `AKIA…WXYZ`, the prefix and the last four characters.
    pub access_keys: bool,
    /// Mask email addresses: `a…@example.com`.
    pub emails: bool,
    /// Replace tokens and keys by `…`: secret access keys, session tokens, JSON Web Tokens, tokens of
    /// chats and code hosts, private keys, and any value after `password=`, `token=` and the like.
    pub tokens: bool,
    /// Mask the last part of source addresses: `203.0.113.x`.
    pub addresses: bool,
    /// Names of fields to remove, at any depth, where a channel sends the whole alert as JSON.
    pub fields: Vec<String>,
}

impl Default for RedactConfig {
    /// User agents and error messages are free text: the caller chose it, or it quotes request
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
