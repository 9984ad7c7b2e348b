//! The channel `slack`: an incoming webhook of Slack, with Block Kit.
//!
//! A webhook posts to the channel for which it was made; it can neither update nor thread. The
//! whole message stays below the limits that Slack documents, and below the one that it does not:
//! about 13,200 characters in all, beyond which it answers `msg_blocks_too_long`.

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use rootwatch_core::finding::Severity;
use rootwatch_core::secret::SecretRef;
use rootwatch_core::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{Channel, Facts, Fault, Memory, Message, Settings, Tools, Traits, example_secret};
use crate::Sent;
use crate::config::secret_schema;
use crate::http::{Http, parse_url};
use crate::wording::Wording;

/// Blocks of a message.
pub const BLOCKS_MAX: usize = 50;
/// Characters of a header, which is plain text.
pub const HEADER_CHARS_MAX: usize = 150;
/// Characters of a section's text.
pub const SECTION_CHARS_MAX: usize = 3_000;
/// Characters of a message in all: below the limit that Slack has and does not document.
pub const MESSAGE_CHARS_MAX: usize = 12_000;
/// Characters of the fallback text.
const FALLBACK_CHARS_MAX: usize = 1_000;

/// Posts to a channel of Slack by an incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The webhook's URL, which is a secret: whoever has it can post.
    #[schemars(schema_with = "secret_schema")]
    pub url: SecretRef,
    /// True to allow addresses that are not on the internet, and http: for a relay of yours.
    #[serde(default)]
    pub allow_private: bool,
}

impl Settings for Config {
    /// Slack takes one message a second, and more in a burst.
    const TRAITS: Traits = Traits { is_chat: true, rate_per_minute: 60 };
    const FACTS: Facts = Facts {
        about: "Posts to a channel of Slack with Block Kit. An incoming webhook posts to the channel \
                for which it was made; it can neither update nor thread.",
        limits: &[
            ("blocks", "50"),
            ("header", "150 characters of UTF-16"),
            ("text of a section", "3,000 characters"),
            ("message in all", "12,000 characters: below about 13,200, which Slack does not document \
                               and beyond which it answers `msg_blocks_too_long`"),
        ],
        answers: &[
            ("200 `ok`", "delivered"),
            ("400 `msg_blocks_too_long`, `invalid_blocks`", "sent once more at once, in one line"),
            ("other 400, 401, 403, 404, 410", "for good: the webhook is revoked, the channel archived"),
            ("408, 425, 429, 500 and above, no answer", "tried again, after `Retry-After` where given"),
        ],
        repeats: "A message may come twice: a webhook knows no idempotency.",
        probe: "Posts an empty text, which a webhook that works refuses with `no_text`: nobody sees it.",
    };

    fn example() -> Self {
        Self { url: example_secret("SLACK_URL"), allow_private: false }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(message).to_string().into_bytes()
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

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let url = tools.secret("url", &self.url)?;
        let url = parse_url(url.expose(), self.allow_private).map_err(|e| vec![("url", e)])?;
        let http = Http::new(self.allow_private).map_err(|e| vec![("url", e)])?;
        Ok(Box::new(Slack { http, url }))
    }
}

struct Slack {
    http: Http,
    url: Url,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slack")
    }
}

/// A text in which nothing is Slack's markup: neither a link, a mention nor bold letters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A word joiner after it keeps these from being read as markup, and is not seen.
            '*' | '_' | '~' | '`' => {
                out.push(letter);
                out.push('\u{2060}');
            }
            _ => out.push(letter),
        }
    }
    out
}

/// The header: plain text. Slack counts as JavaScript does, in units of UTF-16.
fn header(text: &str) -> String {
    let mut units = 0;
    let fits = |letter: &char| {
        units += letter.len_utf16();
        units < HEADER_CHARS_MAX
    };
    let mut head: String = text.chars().take_while(fits).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    head
}

/// As many whole lines as fit.
fn fit(lines: &[String], chars_max: usize) -> String {
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        let more = lines.len() - place;
        let end = format!("… {more} more in the hub");
        let room = chars_max.saturating_sub(text.chars().count() + 1);
        let fits = line.chars().count() + if more > 1 { end.chars().count() + 1 } else { 0 };
        if !text.is_empty() {
            text.push('\n');
        }
        if fits > room {
            text.push_str(&end);
            return text;
        }
        text.push_str(line);
    }
    text
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } })
}

/// A sign beside the word: never colour alone.
fn sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "🔴",
        Severity::High => "🟠",
        Severity::Medium => "🟡",
        Severity::Low => "🔵",
        Severity::Informational => "⚪",
    }
}

/// The body: blocks, and the text that a notification shows. Bounded by every limit of Slack.
#[must_use]
pub fn render(message: &Message<'_>) -> Value {
    let wording = message.wording;
    let fallback = words::cap(&wording.compact, FALLBACK_CHARS_MAX);
    let mut head = format!("{} {}", sign(wording.severity), wording.title);
    if let Some(banner) = &wording.banner {
        head = format!("{banner} · {head}");
    }
    let head = header(&head);
    let mut room = MESSAGE_CHARS_MAX - head.chars().count();
    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": head, "emoji": true } })];
    let mut put = |title: &str, lines: Vec<String>, chars_max: usize| {
        if lines.is_empty() || blocks.len() == BLOCKS_MAX {
            return;
        }
        let mut text = String::new();
        if !title.is_empty() {
            text = format!("*{title}*\n");
        }
        let chars_max = chars_max.min(SECTION_CHARS_MAX).min(room);
        if chars_max < text.chars().count() + 40 {
            return;
        }
        text.push_str(&fit(&lines, chars_max - text.chars().count()));
        room -= text.chars().count().min(room);
        blocks.push(section(&text));
    };
    // In the order of what must not be left out.
    let fresh: Vec<String> =
        wording.fresh.iter().map(|fresh| format!("+ {}", escaped(fresh))).collect();
    put("", fresh, 1_500);
    put("", texts(wording), 2_500);
    let why = wording.why.iter().map(|why| escaped(why)).collect::<Vec<_>>().join(" · ");
    put(&format!("Why {}", wording.severity), some(why), 1_500);
    let next = wording.next.iter().enumerate();
    let next = next.map(|(place, step)| format!("{}. {}", place + 1, escaped(step))).collect();
    put("Do first", next, 2_500);
    put("What happened", wording.timeline.iter().map(|row| escaped(row)).collect(), 2_500);
    put("", wording.listed.iter().map(|line| format!("• {}", escaped(line))).collect(), 3_000);
    let mut foot = escaped(&wording.foot);
    if let Some(link) = &wording.link {
        // Ours, from the configuration.
        foot.push_str(&format!(" · <{}|Open in the hub>", link.replace(['<', '>', '|'], "")));
    }
    put("", some(foot), 500);
    json!({ "text": escaped(&fallback), "blocks": blocks, "unfurl_links": false, "unfurl_media": false })
}

fn texts(wording: &Wording) -> Vec<String> {
    let mut lines = some(escaped(&wording.lead));
    lines.extend(wording.prose.iter().map(|prose| escaped(prose)));
    lines
}

fn some(text: String) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec![text] }
}

impl Slack {
    async fn post(&self, body: &Value, now: Timestamp) -> (Sent, bool) {
        let headers = vec![(CONTENT_TYPE, "application/json; charset=utf-8".to_owned())];
        let answer = match self.http.post(&self.url, headers, body.to_string().into_bytes()).await {
            Ok(answer) => answer,
            Err(sent) => return (sent, false),
        };
        let too_long = answer.body.contains("too_long") || answer.body.contains("invalid_blocks");
        let sent = match answer.status.as_u16() {
            200..300 => Sent::Delivered { receipt: answer.body.trim().to_owned() },
            408 | 425 | 429 | 500..600 => {
                Sent::RetryAfter { after: answer.retry_after(now), error: answer.told() }
            }
            // The channel is archived, the app removed, the webhook revoked: for good.
            _ => Sent::Rejected { error: answer.told() },
        };
        (sent, too_long)
    }
}

#[async_trait]
impl Channel for Slack {
    async fn send(&self, message: &Message<'_>, _: &Memory<'_>) -> Sent {
        let (sent, too_long) = self.post(&render(message), message.now).await;
        if !too_long || !matches!(sent, Sent::Rejected { .. }) {
            return sent;
        }
        // Rather a short message than none.
        let short = json!({ "text": escaped(&message.wording.compact) });
        self.post(&short, message.now).await.0
    }

    /// Posts nothing: an empty body is refused with `no_text` or the like by a webhook that works,
    /// and otherwise by one that does not.
    async fn probe(&self, now: Timestamp) -> Sent {
        match self.post(&json!({ "text": "" }), now).await.0 {
            Sent::Rejected { error } if error.contains("no_text") => {
                Sent::Delivered { receipt: "the webhook is there".to_owned() }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_writes_is_no_markup() {
        let text = escaped("<!channel> *hi* <https://evil.test|click> `x` & @here");
        assert!(!text.contains('<') && !text.contains("*hi*") && !text.contains("`x`"), "{text}");
        assert!(text.starts_with("&lt;!channel&gt;"));
    }

    #[test]
    fn lines_that_do_not_fit_are_counted() {
        let lines: Vec<String> = (0..100).map(|number| format!("line {number:03}")).collect();
        let text = fit(&lines, 100);
        assert!(text.chars().count() <= 100, "{}", text.chars().count());
        assert!(text.ends_with("more in the hub"), "{text}");
        assert_eq!(fit(&lines[..2], 100), "line 000\nline 001");
    }
}
