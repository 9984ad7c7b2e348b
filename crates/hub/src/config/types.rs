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
    /// The hub itself: where it listens, which accounts are ours, what it keeps in memory.
    pub hub: HubConfig,
    /// Where findings, incidents and deliveries are kept, and for how long.
    pub store: StoreConfig,
    /// Bearer tokens that the HTTP doors accept. Without any, the hub listens on loopback only
    /// and asks for none.
    pub token: Vec<TokenConfig>,
    /// Names of accounts, for people and for routes. An account need not be named to be watched.
    pub account: Vec<AccountConfig>,
    /// Root use that is approved. Alerts say whether they are inside a window, and routes can ask;
    /// nothing is hidden or made less severe by one.
    pub window: Vec<WindowConfig>,
    /// Where records come from.
    pub source: SourceConfig,
    /// Detection rules beside the built-in ones.
    pub rules: RulesConfig,
    /// Who is told of what, and how. Without a destination, alerts go to standard output.
    pub notify: NotifyConfig,
    /// What the hub says about itself.
    pub telemetry: TelemetryConfig,
}

/// The hub itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HubConfig {
    /// Address and port of all HTTP doors; port 0 takes a free one. An address that is not
    /// loopback needs a `[[token]]`. There is no TLS: put a proxy in front of it.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Where people reach the hub, as a URL without a path (`https://rootwatch.example.com`), for
    /// links in messages. By default messages hold no links.
    pub public_url: Option<String>,
    /// Which accounts are ours.
    pub organization: OrganizationConfig,
    /// Bytes of one request's body at most, before and after inflating, 1024 to 1073741824. More
    /// is refused with 413. An inflated body may also not be more than 200 times as large as the
    /// sent one.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub body_bytes_max: usize,
    /// Requests, messages and files that wait for the engine at most, 1 to 65536. Beyond it
    /// senders are asked to come again (429 or 503 with `Retry-After`), and sources slow down.
    #[schemars(range(min = 1, max = 65_536))]
    pub queue_requests_max: usize,
    /// Bytes that wait for the engine at most, 1048576 to 4294967296: the same for large ones. Has
    /// to be at least `body_bytes_max`.
    #[schemars(range(min = 1_048_576, max = 4_294_967_296_u64))]
    pub queue_bytes_max: usize,
    /// Days for which incidents that are over stay in memory, 1 to 90. Older ones are loaded from
    /// the store when a late record needs them.
    #[schemars(range(min = 1, max = 90))]
    pub memory_days: u32,
    /// Seconds without a finding after which an incident is quiet and its closing is told, 60 to
    /// 604800.
    #[schemars(range(min = 60, max = 604_800))]
    pub quiet_after_secs: u32,
    /// Seconds that requests and deliveries under way may take when the hub is asked to end, 0 to
    /// 600. Deliveries that take longer are made again after the next start.
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

/// Which accounts are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrganizationConfig {
    /// Id of the AWS organisation (`o-` and 10 to 32 letters and digits), shown to people. By
    /// default none.
    pub id: Option<String>,
    /// Account ids of 12 digits that records may be of, beside every `[[account]]`. A record of
    /// another account is kept as unverified and raises no incident. By default none: then records
    /// of all accounts count.
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
    /// Its organisational unit, for messages and routes. By default none.
    #[serde(default)]
    pub unit: Option<String>,
}

/// Where records come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// The door `POST /v1/events`, and limits of all HTTP doors.
    pub http: HttpConfig,
    /// The door `POST /v1/sns`, for HTTPS subscriptions of SNS.
    pub sns: SnsConfig,
    /// SQS queues that are polled.
    pub sqs: Vec<SqsConfig>,
    /// Folders that are watched for new log files.
    pub directory: Vec<DirectoryConfig>,
    /// What the hub takes where AWS Lambda runs it.
    pub lambda: LambdaConfig,
}

/// Detection rules beside the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Folders of rules (`*.yaml`), read at start, beside the built-in rules. A relative path
    /// begins at the configuration file's folder. By default none.
    pub dir: Vec<PathBuf>,
}
