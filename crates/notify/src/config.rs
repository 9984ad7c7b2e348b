//! The configuration of alerts: `[notify]`.
//!
//! The types of single tables are next to the code that they configure; this is the table that holds
//! them, and the check of all of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channels::ChannelConfig;
use crate::digest::DigestConfig;
use crate::route::Route;
use crate::wording::config::{RedactConfig, TemplateConfig};

mod check;
pub(crate) mod destination;
pub(crate) mod problem;
pub(crate) mod schema;

pub use self::destination::{Common, DestinationConfig};
pub use self::problem::ConfigProblem;

pub(crate) use self::check::check;

/// Maximum number of destinations.
pub const DESTINATIONS_MAX: usize = 100;
/// Maximum number of routes.
pub const ROUTES_MAX: usize = 1000;

/// `[notify]`: destinations, routes, digest, redaction and templates for alerts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// Destinations by name: 1 to 40 letters, digits, `-` and `_`.
    pub destination: BTreeMap<String, DestinationConfig>,
    /// Which alerts go where. The first matching route decides, unless it has `continue = true`.
    /// Alerts that match no route go to all destinations.
    pub route: Vec<Route>,
    /// The digest of informational incidents.
    pub digest: DigestConfig,
    /// What is masked in messages.
    pub redact: RedactConfig,
    /// Your own texts, by name. A destination selects them with `template`.
    pub template: BTreeMap<String, TemplateConfig>,
}

/// Names of all channels.
#[must_use]
pub fn channel_names() -> &'static [&'static str] {
    ChannelConfig::NAMES
}
