//! The channel `log`: a line on the standard output, or several for people.

use std::fmt;
use std::sync::PoisonError;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools};
use crate::Sent;
use crate::log_sink::LogSink;

/// Bytes of one entry.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Writes alerts to standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Format of an alert.
    pub format: Format,
}

/// Format of an alert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One line of JSON.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: false, rate_per_minute: 0 };
    const FACTS: Facts = Facts {
        about: "Writes each alert to standard output: one line of JSON for a log collector, or \
                lines for people.",
        limits: &[("an entry", "256 KiB; a longer alert is written without findings and says so")],
        answers: &[("the output cannot be written to", "retried")],
        repeats: "An entry may be written twice; `delivery` is the same in both.",
        probe: "Flushes the output.",
    };

    fn example() -> Self {
        Self { format: Format::Text }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(self.format, message).into_bytes()
    }

    fn problems(&self) -> Vec<Fault> {
        Vec::new()
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        Ok(Box::new(Log { format: self.format, sink: tools.log.clone() }))
    }
}

struct Log {
    format: Format,
    sink: LogSink,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Columns of an entry for people.
const COLUMNS: usize = 100;
/// Columns that all lines but the first are moved in.
const INDENT: usize = 10;

/// The entry, its line break included: at most [`ENTRY_BYTES_MAX`] bytes.
#[must_use]
pub fn render(format: Format, message: &Message<'_>) -> String {
    let mut entry = match format {
        Format::Json => {
            let mut line = serde_json::json!({
                "delivery": message.id.0,
                "alert": message.wording.json,
            })
            .to_string();
            if line.len() >= ENTRY_BYTES_MAX {
                // Never cut in the middle: what is left out can be read in the hub.
                let wording = message.wording;
                line = serde_json::json!({
                    "delivery": message.id.0,
                    "alert": { "id": message.alert.id, "title": wording.title,
                        "severity": wording.severity, "shortened": true },
                })
                .to_string();
            }
            line
        }
        Format::Text => text(message),
    };
    entry.push('\n');
    entry
}

/// Some lines: when and what, then what is known, moved in.
fn text(message: &Message<'_>) -> String {
    let wording = message.wording;
    let at = text::clock(message.alert.decided_at, &jiff::tz::TimeZone::UTC);
    let mut lines = Vec::new();
    let banner = wording.banner.as_ref().map(|banner| format!("{banner} · ")).unwrap_or_default();
    let head = text::wrap(&format!("{banner}{}", wording.title), COLUMNS - INDENT);
    for (place, line) in head.into_iter().enumerate() {
        let left = if place == 0 { format!("{at} UTC") } else { String::new() };
        lines.push(format!("{left:INDENT$}{line}"));
    }
    let mut put = |label: &str, text: &str| {
        let label_columns = text::width(label);
        let room = COLUMNS - INDENT - label_columns;
        for (place, line) in text::wrap(text, room).into_iter().enumerate() {
            let left = if place == 0 { label.to_owned() } else { " ".repeat(label_columns) };
            lines.push(format!("{:INDENT$}{left}{line}", ""));
        }
    };
    for fresh in &wording.fresh {
        put("+ ", fresh);
    }
    if !wording.lead.is_empty() {
        put("", &wording.lead);
    }
    if let Some(prose) = &wording.prose {
        put("", prose);
    }
    if !wording.why.is_empty() {
        put("why   ", &wording.why.join(" · "));
    }
    for (place, step) in wording.next.iter().take(3).enumerate() {
        put(&format!("{} {}. ", if place == 0 { "do " } else { "   " }, place + 1), step);
    }
    for listed in &wording.listed {
        put("- ", listed);
    }
    put("", &wording.foot);
    if let Some(link) = &wording.link {
        put("", link);
    }
    lines.join("\n") + "\n"
}

#[async_trait]
impl Channel for Log {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let entry = render(self.format, message);
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match sink.write_all(entry.as_bytes()).and_then(|()| sink.flush()) {
            Ok(()) => Sent::Delivered { receipt: "written".to_owned() },
            Err(error) => Sent::RetryAfter { after: None, error: format!("cannot write: {error}") },
        }
    }

    async fn probe(&self, _now: Timestamp) -> Sent {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match sink.flush() {
            Ok(()) => Sent::Delivered { receipt: "written".to_owned() },
            Err(error) => Sent::RetryAfter { after: None, error: format!("cannot write: {error}") },
        }
    }
}
