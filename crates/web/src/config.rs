//! Settings of the HTTP service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A bearer token of the HTTP doors. `rootwatch token new` makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Names who uses it, in logs, metrics and on what they acknowledge: 1 to 64 letters, digits,
    /// `-`, `_` and `.`.
    pub name: String,
    /// SHA-256 of the token, 64 hexadecimal digits: the file holds no token.
    pub sha256: String,
    /// What its holder may do.
    pub scopes: Vec<Scope>,
}

/// What the holder of a token may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Send records.
    Ingest,
    /// Read incidents, findings and deliveries.
    Read,
    /// Acknowledge and resolve incidents, and ask for a test alert.
    Write,
}

/// The door `POST /v1/events`, and limits of all HTTP doors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Requests of one token in a second at most, 1 to 1000000; ten times as many may come at
    /// once. More are refused with 429 and `Retry-After`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second_max: u32,
    /// Connections at one time at most, 1 to 65536. More wait to be accepted.
    #[schemars(range(min = 1, max = 65_536))]
    pub connections_max: usize,
    /// Seconds for a request's head to arrive, 1 to 300, and for a connection to be idle.
    #[schemars(range(min = 1, max = 300))]
    pub head_timeout_secs: u32,
    /// Seconds for a request's body to arrive and to be answered, 1 to 900.
    #[schemars(range(min = 1, max = 900))]
    pub request_timeout_secs: u32,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            requests_per_second_max: 200,
            connections_max: 1024,
            head_timeout_secs: 10,
            request_timeout_secs: 30,
        }
    }
}

/// The door `POST /v1/sns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnsConfig {
    /// ARNs of the topics that are listened to. Messages of others are refused, and subscriptions
    /// of others are not confirmed. By default none: then the door is shut.
    pub topics: Vec<String>,
}
