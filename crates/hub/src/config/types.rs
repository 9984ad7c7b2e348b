//! The keys of the configuration, each with unit, default and effect. The doc comments are what users read.

use std::net::SocketAddr;
use std::path::PathBuf;

use rootwatch_notify::NotifyConfig;
use rootwatch_store::StoreConfig;
use rootwatch_web::{HttpConfig, SnsConfig, TokenConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lambda::LambdaConfig;
use super::window::WindowConfig;
use crate::sources::{DirectoryConfig, SqsConfig};
use crate::telemetry::TelemetryConfig;

/// The JSON Schema of [`Config`].
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).into()
}

/// The configuration of a hub.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Rootwatch configuration")]
pub struct Config {
    /// The hub itself: its address, your accounts, queue and memory.
    pub hub: HubConfig,
    /// Where findings, incidents and deliveries are stored, and for how long.
    pub store: StoreConfig,
    /// Bearer tokens for the HTTP API. Without any, the hub listens on loopback only and needs none.
    pub token: Vec<TokenConfig>,
    /// Names of accounts, for messages and routes. Accounts without a name are monitored, too.
    pub account: Vec<AccountConfig>,
    /// Root use that is approved. Alerts say whether they are inside a window, and routes can ask;
    /// nothing is hidden or made less severe by one.
    pub window: Vec<WindowConfig>,
    /// Where records come from.
    pub source: SourceConfig,
    /// Detection rules in addition to the built-in ones.
    pub rules: RulesConfig,
    /// Destinations and routes of alerts. Without a destination, alerts go to standard output.
    pub notify: NotifyConfig,
    /// Log lines and traces of the hub.
    pub telemetry: TelemetryConfig,
}

/// The hub itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// Address and port to listen on; port 0 picks a free one. A non-loopback address requires at least
    /// one `[[token]]`. No TLS: use a reverse proxy.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// URL without a path at which people reach the hub (`https://rootwatch.example.com`), for
    /// links in messages. By default messages hold no links.
    pub public_url: Option<String>,
    /// Which accounts are yours.
    pub organization: OrganizationConfig,
    /// Largest request body in bytes, before and after inflating, 1024 to 1073741824. Larger ones are
    /// refused with 413, and so are bodies that inflate to more than 200 times their size.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub body_bytes_max: usize,
    /// Requests, messages and files that may wait for the engine, 1 to 65536. Beyond it, senders should
    /// retry (429 or 503 with `Retry-After`), and sources slow down.
    #[schemars(range(min = 1, max = 65_536))]
    pub queue_requests_max: usize,
    /// Bytes that may wait for the engine, 1048576 to 4294967296; at least `body_bytes_max`.
    #[schemars(range(min = 1_048_576, max = 4_294_967_296_u64))]
    pub queue_bytes_max: usize,
    /// Days for which ended incidents stay in memory, 1 to 90. Older ones are loaded from the store when a
    /// late record needs them.
    #[schemars(range(min = 1, max = 90))]
    pub memory_days: u32,
    /// Seconds without a finding after which an incident becomes quiet and its closing is notified, 60 to
    /// 604800.
    #[schemars(range(min = 60, max = 604_800))]
    pub quiet_after_secs: u32,
    /// Seconds for open requests and deliveries when the hub shuts down, 0 to 600. Deliveries that take
    /// longer are sent again after the next start.
    #[schemars(range(min = 0, max = 600))]
    pub shutdown_secs: u32,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8321)),
            public_url: None,
            organization: OrganizationConfig::default(),
            body_bytes_max: 16 << 20,
            queue_requests_max: 1024,
            queue_bytes_max: 64 << 20,
            memory_days: 3,
            quiet_after_secs: 3_600,
            shutdown_secs: 20,
        }
    }
}

/// Which accounts are yours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrganizationConfig {
    /// Id of the AWS organization (`o-` and 10 to 32 letters and digits), shown to people. By
    /// default none.
    pub id: Option<String>,
    /// Account ids of 12 digits, in addition to every `[[account]]`. A record of any other account is saved as
    /// unverified and opens no incident. By default none: then all accounts are accepted.
    pub accounts: Vec<String>,
}

/// An account, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Account id of 12 digits.
    pub id: String,
    /// Its name, for messages and lists. By default only the id is shown.
    #[serde(default)]
    pub name: Option<String>,
    /// Its organizational unit, for messages and routes. By default none.
    #[serde(default)]
    pub unit: Option<String>,
}

/// Where records come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// The endpoint `POST /v1/events`, and limits of all endpoints.
    pub http: HttpConfig,
    /// The endpoint `POST /v1/sns`, for HTTPS subscriptions of SNS.
    pub sns: SnsConfig,
    /// SQS queues that are polled.
    pub sqs: Vec<SqsConfig>,
    /// Folders that are watched for new log files.
    pub directory: Vec<DirectoryConfig>,
    /// The hub on AWS Lambda.
    pub lambda: LambdaConfig,
}

/// Detection rules in addition to the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Folders of rules (`*.yaml`), read at start, in addition to the built-in rules. A relative path starts
    /// at the folder of the configuration file. By default none.
    pub dir: Vec<PathBuf>,
}
