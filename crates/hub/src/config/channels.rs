//! `docs/reference/channels.md`: what is known of each channel, from the code that obeys it.

use std::fmt::Write as _;

use rootwatch_core::delivery::Delivery;
use rootwatch_notify::channels::{ChannelConfig, Facts};
use rootwatch_notify::config::Common;
use rootwatch_notify::{DestinationConfig, NotifyConfig, preview, sample};
use serde_json::{Map, Value, json};

use super::reference::channel_keys;

/// Columns of a line of an example; a longer one is shown up to there.
const LINE_COLUMNS_MAX: usize = 160;
/// Lines of an example of what is sent.
const LINES_MAX: usize = 120;

/// `docs/reference/channels.md`.
#[must_use]
pub fn channels_reference() -> String {
    let mut text = String::from(
        "# The channels\n\n\
         Generated from the program (`cargo xtask docs`); do not edit.\n\n\
         A channel is a way to tell people; a destination is one that is configured, in \
         `[notify.destination.<name>]`. Keys that every destination has (severity, escalation, \
         retries, rates, masking, templates) are in [config.md](config.md). What is tried again is \
         tried after `Retry-After` where the other side gives one, else after 1 second and up to 10 \
         minutes in growing pauses, until `age_max_hours`; what fails for good goes to \
         `escalate_to`, and that telling is broken becomes an incident of its own. `rootwatch notify \
         test NAME` sends a marked test along the real way; `rootwatch notify preview` prints what \
         would be sent.\n\n\
         Where people read, access keys, e-mail addresses and tokens are masked \
         (`[notify.redact]`); request parameters are never sent as such.\n",
    );
    let _ = writeln!(text, "\n| Channel | Masked by default |\n|---|---|");
    for name in ChannelConfig::NAMES {
        let Some(channel) = ChannelConfig::example(name) else { continue };
        let masked = if channel.is_read_by_people() { "yes" } else { "no" };
        let _ = writeln!(text, "| [`{name}`](#{name}) | {masked} |");
    }
    for name in ChannelConfig::NAMES {
        let Some(channel) = ChannelConfig::example(name) else { continue };
        section(&mut text, name, channel);
    }
    text
}

fn section(text: &mut String, name: &str, channel: ChannelConfig) {
    let Facts { about, limits, answers, repeats, probe } = *channel.facts();
    let _ = writeln!(text, "\n## {name}\n\n{about}\n\n```toml\n{}```", example(name, &channel));
    channel_keys(text, name);
    table(text, "Limits that every message keeps", ["What", "How much"], limits);
    table(text, "What answers mean", ["Answer", "What follows"], answers);
    let _ = writeln!(text, "\n**Sent again**: {repeats}\n\n**Probe**: {probe}");
    let destination = DestinationConfig { common: Common::default(), channel };
    if let Ok(Some(alert)) = sample::alert("escalated") {
        let now = alert.decided_at;
        let delivery = Delivery::new(alert, name, now);
        let bytes = preview(&destination, &NotifyConfig::default(), None, &delivery, now);
        let (language, sent) = match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => ("json", serde_json::to_string_pretty(&value).unwrap_or_default()),
            Err(_) => ("text", String::from_utf8_lossy(&bytes).into_owned()),
        };
        let _ = writeln!(text, "\nWhat is sent when an incident escalates:\n\n~~~{language}");
        for line in sent.lines().take(LINES_MAX) {
            let line = line.trim_end();
            match line.char_indices().nth(LINE_COLUMNS_MAX) {
                Some((end, _)) => {
                    let _ = writeln!(text, "{}…", &line[..end]);
                }
                None => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        let more = sent.lines().count().saturating_sub(LINES_MAX);
        if more > 0 {
            let _ = writeln!(text, "… {more} lines more");
        }
        text.push_str("~~~\n");
    }
}

/// The example's destination as a configuration has it.
fn example(name: &str, channel: &ChannelConfig) -> String {
    let mut keys = Map::new();
    if let Ok(Value::Object(all)) = serde_json::to_value(channel) {
        keys.extend(all.into_iter().filter(|(_, value)| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        }));
    }
    let file = json!({ "notify": { "destination": { (format!("my-{name}")): keys } } });
    toml::to_string(&file).unwrap_or_default()
}

fn table(text: &mut String, title: &str, heads: [&str; 2], rows: &[(&str, &str)]) {
    let _ = writeln!(text, "\n{title}:\n\n| {} | {} |\n|---|---|", heads[0], heads[1]);
    for (what, how) in rows {
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(text, "| {} | {} |", cell(what), cell(how));
    }
}
