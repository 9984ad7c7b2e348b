//! Settings of the HTTP service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A bearer token of the HTTP API. `rootwatch token new` creates one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Name of its user, shown in logs, metrics and acknowledgements: 1 to 64 letters, digits, `-`, `_` and
    /// `.`.
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
    /// Acknowledge and resolve incidents, and request a test alert.
    Write,
}

/// The endpoint `POST /v1/events`, and limits of all endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Requests per second and token, 1 to 1000000, with bursts of ten times as many. More are refused
    /// with 429 and `Retry-After`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second_max: u32,
    /// Concurrent connections, 1 to 65536. More wait to be accepted.
    #[schemars(range(min = 1, max = 65_536))]
    pub connections_max: usize,
    /// Seconds in which the head of a request must arrive, and for which a connection may be idle, 1 to
    /// 300.
    #[schemars(range(min = 1, max = 300))]
    pub head_timeout_secs: u32,
    /// Seconds for the body of a request to arrive and for the response, 1 to 900.
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

/// The endpoint `POST /v1/sns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnsConfig {
    /// ARNs of the topics whose messages and subscriptions are accepted. Without any, the endpoint is
    /// disabled.
    pub topics: Vec<String>,
}
