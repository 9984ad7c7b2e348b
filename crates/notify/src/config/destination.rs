//! `[notify.destination.<name>]`: the keys of every channel, and those of one channel.

use rootwatch_core::finding::Severity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Deserialize as DeserializeDerive, Serialize};
use serde_json::{Map, Value};

use super::schema::severity_schema;
use crate::channels::ChannelConfig;

/// One destination: the keys of every channel, and the channel with its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DestinationConfig {
    /// The keys of every channel.
    #[serde(flatten)]
    pub common: Common,
    /// The channel, with its own keys.
    #[serde(flatten)]
    pub channel: ChannelConfig,
}

/// Keys of a destination that every channel has.
#[derive(Debug, Clone, PartialEq, Serialize, DeserializeDerive, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// Minimum severity of an alert. Delivery-outage alerts are always sent.
    #[schemars(schema_with = "severity_schema")]
    pub min_severity: Severity,
    /// Destination that receives the alert if this one fails.
    pub escalate_to: Option<String>,
    /// Also send to `escalate_to` if a delivery has not succeeded after this many minutes. 0: only
    /// after it has failed permanently.
    pub escalate_after_mins: u32,
    /// Hours after which an undelivered message is no longer retried, 1 to 720.
    pub age_max_hours: u32,
    /// Seconds that one attempt may take, 1 to 30.
    pub timeout_secs: u32,
    /// Messages sent at the same time, 1 to 32.
    pub concurrency: u32,
    /// Maximum messages per minute; 0 = unlimited. Default: the limit of the channel (see its entry in
    /// `docs/channels.md`).
    pub rate_per_minute: Option<u32>,
    /// Whether `[notify.redact]` applies. Default: true where `[notify.redact]` says so.
    pub redact: Option<bool>,
    /// Name of a `[notify.template.<name>]`. Default: the built-in wording.
    pub template: Option<String>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            min_severity: Severity::Informational,
            escalate_to: None,
            escalate_after_mins: 15,
            age_max_hours: 24,
            timeout_secs: 10,
            concurrency: 4,
            rate_per_minute: None,
            redact: None,
            template: None,
        }
    }
}

impl Common {
    /// The names of the keys.
    const KEYS: [&str; 9] = [
        "min_severity",
        "escalate_to",
        "escalate_after_mins",
        "age_max_hours",
        "timeout_secs",
        "concurrency",
        "rate_per_minute",
        "redact",
        "template",
    ];
}

impl<'de> Deserialize<'de> for DestinationConfig {
    /// In two steps: `flatten` would accept unknown keys.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = Map::<String, Value>::deserialize(deserializer)?;
        let channel = match keys.remove("channel") {
            Some(Value::String(channel)) => channel,
            Some(_) => return Err(de::Error::custom("`channel` must be a string")),
            None => return Err(de::Error::missing_field("channel")),
        };
        let mut common = Map::new();
        for key in Common::KEYS {
            if let Some(value) = keys.remove(key) {
                common.insert(key.to_owned(), value);
            }
        }
        Ok(Self {
            common: serde_json::from_value(common.into()).map_err(de::Error::custom)?,
            channel: ChannelConfig::read(&channel, keys.into()).map_err(de::Error::custom)?,
        })
    }
}

impl JsonSchema for DestinationConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DestinationConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = properties(Common::json_schema(generator));
        let variants: Vec<Value> = ChannelConfig::schemas(generator)
            .into_iter()
            .map(|(name, schema)| {
                let required = schema.get("required").and_then(Value::as_array).cloned();
                let mut required = required.unwrap_or_default();
                required.insert(0, "channel".into());
                let description = schema.get("description").cloned();
                let mut all = Map::new();
                all.insert(
                    "channel".to_owned(),
                    serde_json::json!({ "type": "string", "const": name,
                        "description": "The kind of destination." }),
                );
                all.extend(properties(schema));
                all.extend(common.clone());
                serde_json::json!({
                    "type": "object",
                    "title": name,
                    "description": description,
                    "properties": all,
                    "required": required,
                    "additionalProperties": false,
                })
            })
            .collect();
        json_schema!({ "oneOf": variants })
    }
}

fn properties(mut schema: Schema) -> Map<String, Value> {
    match schema.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_keys_are_those_of_the_struct() {
        let keys = serde_json::to_value(Common::default()).unwrap();
        let mut names: Vec<_> = keys.as_object().unwrap().keys().map(String::as_str).collect();
        let mut listed = Common::KEYS.to_vec();
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
    }

    #[test]
    fn keys_of_both_halves_are_read_and_others_refused() {
        let read = |text: &str| serde_json::from_str::<DestinationConfig>(text);
        let config = read(r#"{"channel":"log","min_severity":"high","format":"json"}"#).unwrap();
        assert_eq!(config.common.min_severity, Severity::High);
        for (text, word) in [
            (r#"{"channel":"log","min_severty":"high"}"#, "min_severty"),
            (r#"{"channel":"log","url":"env:A"}"#, "url"),
            (r#"{"channel":"pigeon"}"#, "pigeon"),
            (r#"{"min_severity":"high"}"#, "channel"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn the_schema_names_every_channel_and_refuses_other_keys() {
        let schema = serde_json::to_value(schemars::schema_for!(DestinationConfig)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        assert_eq!(variants.len(), ChannelConfig::NAMES.len());
        for variant in variants {
            assert_eq!(variant["additionalProperties"], false);
            assert!(variant["properties"]["min_severity"].is_object());
        }
    }
}
