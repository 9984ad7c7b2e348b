//! The channel `teams`: a workflow of Microsoft Teams that is started by a webhook, with an Adaptive
//! Card.
//!
//! Sources: <https://learn.microsoft.com/en-us/connectors/teams/>, <https://adaptivecards.io/explorer/>.

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use rootwatch_core::alert::AlertKind;
use rootwatch_core::finding::Severity;
use rootwatch_core::retry;
use rootwatch_core::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{
    Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, example_secret,
};
use crate::Sent;
use crate::config::schema::secret_schema;
use crate::http::{Http, parse_url};
use crate::wording::Wording;

/// Bytes of a body: Teams refuses 28 KB, and was seen to lose cards above 21 KB.
pub const BODY_BYTES_MAX: usize = 21_000;
/// Bytes of one text of a card.
const TEXT_BYTES_MAX: usize = 4_000;

/// Posts an Adaptive Card by a workflow of Teams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the workflow; a secret, because it allows posting.
    #[schemars(schema_with = "secret_schema")]
    pub url: SecretRef,
    /// Allow private addresses (RFC 1918 and the like) and `http`, for your own relay.
    #[serde(default)]
    pub allow_private: bool,
}

impl Settings for Config {
    /// A workflow is slowed down beyond four requests a second.
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 120 };
    const FACTS: Facts = Facts {
        about: "Starts a workflow of Microsoft Teams (\"Post to a channel when a webhook request is \
                received\"), which posts an Adaptive Card. URLs of the retired Office 365 \
                          connectors do not work. Mentions and links in quoted texts are \
                          neutralized.",
        limits: &[
            (
                "a body",
                "21,000 bytes (Teams refuses 28 KB): parts that do not fit are omitted whole, the \
                 timeline first, and the card says so",
            ),
            ("version of the card", "1.4"),
        ],
        answers: &[
            (
                "200, 202",
                "accepted by the workflow, **not** yet posted; only the workflow's run history \
                 shows whether it was posted",
            ),
            ("408, 425, 429, 500 and above, no answer", "retried, after `Retry-After` if given"),
            (
                "other",
                "permanent failure: the workflow was deleted or turned off, or its owner was \
                       removed",
            ),
        ],
        repeats: "A card may appear twice: workflows are not idempotent.",
        probe: "Checks only the configuration: any request would start the workflow.",
    };

    fn example() -> Self {
        Self { url: example_secret("TEAMS_URL"), allow_private: false }
    }

    fn problems(&self) -> Vec<Fault> {
        match &self.url {
            SecretRef::Plain(url) => parse_url(url.expose(), self.allow_private)
                .err()
                .map(|fault| ("url", fault))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(message)
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let url = tools.secret("url", &self.url)?;
        let url = parse_url(url.expose(), self.allow_private).map_err(|e| vec![("url", e)])?;
        let http = Http::new(self.allow_private).map_err(|e| vec![("url", e)])?;
        Ok(Box::new(Teams { http, url }))
    }
}

struct Teams {
    http: Http,
    url: Url,
}

impl std::fmt::Debug for Teams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Teams")
    }
}

/// A text in which nothing is Markdown, a mention or a link of its own.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '*' | '_' | '~' | '`' | '[' | ']' | '#' | '|' => {
                out.push('\\');
                out.push(letter);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            _ => out.push(letter),
        }
    }
    // A list or a number at the beginning of a line would be set as one.
    if out.starts_with(['-', '+']) {
        out.insert(0, '\\');
    }
    // Teams makes links of what looks like one.
    out.replace("://", ":\u{2060}//")
}

/// As much as fits in one text; cut between characters.
fn fit(text: &str) -> String {
    let text = escaped(text);
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX - 3);
    // A backslash at the end would escape what follows.
    format!("{}…", text[..end].trim_end_matches('\\'))
}

fn block(text: &str) -> Value {
    json!({ "type": "TextBlock", "text": text, "wrap": true })
}

fn heading(text: &str) -> Value {
    json!({ "type": "TextBlock", "text": text, "wrap": true, "weight": "Bolder", "spacing": "Medium" })
}

fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "Attention",
        Severity::Medium => "Warning",
        Severity::Low => "Accent",
        Severity::Informational => "Default",
    }
}

/// A part of a card that is left out as a whole.
fn part(title: &str, lines: &[String]) -> Vec<Value> {
    if lines.is_empty() {
        return Vec::new();
    }
    let mut blocks = vec![heading(title)];
    blocks.extend(lines.iter().map(|line| {
        let mut block = block(&fit(line));
        block["spacing"] = json!("Small");
        block
    }));
    blocks
}

/// The body: an Adaptive Card in its envelope, at most [`BODY_BYTES_MAX`] bytes.
#[must_use]
pub fn render(message: &Message<'_>) -> Vec<u8> {
    let wording = message.wording;
    let mut top = Vec::new();
    if let Some(banner) = &wording.banner {
        top.push(heading(&fit(banner)));
    }
    let mut title = heading(&fit(&wording.title));
    title["size"] = json!("Medium");
    // What is over asks for nothing, however bad it was.
    let is_over = matches!(
        message.alert.kind,
        AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. }
    );
    title["color"] = json!(if is_over { "Default" } else { colour(wording.severity) });
    top.push(title);
    top.extend(wording.fresh.iter().map(|fresh| block(&format!("New: {}", fit(fresh)))));
    let texts =
        Some(&wording.lead).filter(|lead| !lead.is_empty()).into_iter().chain(&wording.prose);
    top.extend(texts.map(|text| block(&fit(text))));
    let steps: Vec<String> = wording
        .next
        .iter()
        .enumerate()
        .map(|(place, step)| format!("{}) {step}", place + 1))
        .collect();
    // In the order of what must not be left out.
    let parts = [
        part("Do first", &steps),
        part(&format!("Why {}", wording.severity), &wording.why),
        part("Incidents", &wording.listed),
        part("What happened", &wording.timeline),
    ];
    for kept in (0..=parts.len()).rev() {
        let is_whole = parts[kept..].iter().all(Vec::is_empty);
        let body = card(wording, &top, &parts[..kept], is_whole).to_string();
        if body.len() <= BODY_BYTES_MAX {
            return body.into_bytes();
        }
    }
    // Rather one line than nothing.
    card(wording, &[heading(&fit(&wording.compact))], &[], false).to_string().into_bytes()
}

fn card(wording: &Wording, top: &[Value], parts: &[Vec<Value>], is_whole: bool) -> Value {
    let mut body = top.to_vec();
    body.extend(parts.iter().flatten().cloned());
    let mut foot = fit(&wording.foot);
    if !is_whole {
        foot.push_str(" · shortened: the hub has all of it");
    }
    let mut last = block(&foot);
    last["isSubtle"] = json!(true);
    last["size"] = json!("Small");
    body.push(last);
    let mut content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": fit(&wording.compact),
        "msteams": { "width": "Full" },
        "body": body,
    });
    if let Some(link) = &wording.link {
        // Ours, from the configuration.
        content["actions"] =
            json!([{ "type": "Action.OpenUrl", "title": "Open in the hub", "url": link }]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": content,
        }],
    })
}

#[async_trait]
impl Channel for Teams {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let headers = vec![(CONTENT_TYPE, "application/json".to_owned())];
        let answer = match self.http.post(&self.url, headers, render(message)).await {
            Ok(answer) => answer,
            Err(sent) => return sent,
        };
        match answer.status.as_u16() {
            200..300 => Sent::Delivered {
                receipt: "accepted by the workflow; whether it posted is not known".to_owned(),
            },
            status if retry::is_retryable(status) => {
                Sent::RetryAfter { after: answer.retry_after(message.now), error: answer.told() }
            }
            _ => Sent::Rejected { error: answer.told() },
        }
    }

    async fn probe(&self, _: Timestamp) -> Sent {
        Sent::Delivered {
            receipt: "not asked: a workflow cannot be asked without starting it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_writes_is_no_markdown_mention_or_link() {
        let text = escaped("<at>all</at> **b** [click](https://evil.test) `x`");
        assert_eq!(
            text,
            "&lt;at&gt;all&lt;/at&gt; \\*\\*b\\*\\* \\[click\\](https:\u{2060}//evil.test) \\`x\\`"
        );
        assert_eq!(escaped("- one"), "\\- one");
    }

    #[test]
    fn a_text_is_cut_between_characters_and_not_inside_an_escape() {
        assert_eq!(fit(&"x".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        for text in [
            "x".repeat(TEXT_BYTES_MAX + 1),
            "ä_".repeat(TEXT_BYTES_MAX),
            "*".repeat(TEXT_BYTES_MAX),
        ] {
            let fitted = fit(&text);
            assert!(fitted.len() <= TEXT_BYTES_MAX, "{}", fitted.len());
            assert!(fitted.ends_with('…') && !fitted.ends_with("\\…"), "{fitted}");
        }
    }
}
