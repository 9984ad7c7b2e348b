//! Settings of log lines and traces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// What the hub says about itself, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// How log lines look. By default `text` on a terminal, `json` otherwise.
    pub log_format: Option<LogFormat>,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives for parts of the
    /// program such as `info,rootwatch_engine=debug`. The environment variable `ROOTWATCH_LOG` goes
    /// before it.
    pub log_level: String,
    /// Where traces are sent, as the base URL of an OTLP/HTTP receiver (`http://127.0.0.1:4318`);
    /// `/v1/traces` is added. By default no traces are made.
    pub otlp_endpoint: Option<String>,
    /// Share of traces that are sent, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub trace_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: None,
            log_level: "info".to_owned(),
            otlp_endpoint: None,
            trace_ratio: 1.0,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Is this something to log by?
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_level(text: &str) -> Result<(), String> {
    filter(text).map(drop)
}

pub(super) fn filter(text: &str) -> Result<EnvFilter, String> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    builder.parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        assert_eq!(check_level("info,rootwatch_engine=debug"), Ok(()));
        assert!(check_level("rootwatch=loud").is_err());
    }
}
