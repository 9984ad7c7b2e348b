//! The channel `pagerduty`: Events API v2. An incident is one alert of PagerDuty, by its
//! `dedup_key`: triggered, acknowledged and resolved with the incident.
//!
//! Source: <https://developer.pagerduty.com/docs/events-api-v2/overview/>.

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use rootwatch_core::alert::AlertKind;
use rootwatch_core::finding::Severity;
use rootwatch_core::retry;
use rootwatch_core::secret::{Secret, SecretRef};
use rootwatch_core::text;
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

/// Characters of the summary.
pub const SUMMARY_CHARS_MAX: usize = 1_024;
/// Bytes of an event: below the 512 KB that PagerDuty takes.
pub const EVENT_BYTES_MAX: usize = 500_000;
/// Characters of a `dedup_key`.
pub const DEDUP_KEY_CHARS_MAX: usize = 255;
/// Characters of a routing key.
const ROUTING_KEY_CHARS: usize = 32;
/// What stands for the routing key where an event is only shown.
const SHOWN_KEY: &str = "***";

/// Triggers, acknowledges and resolves alerts of PagerDuty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Integration key of a service's Events API v2 integration: 32 characters.
    #[schemars(schema_with = "secret_schema")]
    pub routing_key: SecretRef,
    /// Service region of the account.
    #[serde(default)]
    pub region: Region,
    /// URL of your own relay. Default: PagerDuty's address in `region`.
    #[serde(default)]
    pub url: Option<String>,
    /// Allow private addresses (RFC 1918 and the like) and `http`, for your own relay.
    #[serde(default)]
    pub allow_private: bool,
}

/// Where an account of PagerDuty is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// `events.pagerduty.com`.
    #[default]
    Us,
    /// `events.eu.pagerduty.com`.
    Eu,
}

impl Config {
    fn address(&self) -> Result<Url, String> {
        let own = match self.region {
            Region::Us => "https://events.pagerduty.com/v2/enqueue",
            Region::Eu => "https://events.eu.pagerduty.com/v2/enqueue",
        };
        parse_url(self.url.as_deref().unwrap_or(own), self.allow_private)
    }
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 120 };
    const FACTS: Facts = Facts {
        about: "Sends events to PagerDuty's Events API v2. Each incident is one PagerDuty alert; \
                `dedup_key` is the incident's id. `trigger`: opened, escalated, outside its \
                window, or continued. `acknowledge`: acknowledged in the hub. `resolve`: closed. \
                Severities: critical is `critical`, high `error`, medium `warning`, low and \
                informational `info`; tests and digests are always `info`, and a test resolves \
                itself. Setup: add an Events API v2 integration to a service; its integration key \
                is `routing_key`. Set the service's urgency by severity, otherwise `info` also \
                pages.",
        limits: &[
            ("summary", "1,024 characters"),
            ("`dedup_key`", "255 characters"),
            (
                "an event",
                "500,000 bytes (PagerDuty takes 512 KB); a longer alert is sent without findings, \
                 with `\"shortened\": true`",
            ),
        ],
        answers: &[
            ("202", "delivered; the receipt is the `dedup_key`"),
            ("400", "permanent failure: PagerDuty rejects the event"),
            ("408, 425, 429, 500 and above, no answer", "retried, after `Retry-After` if given"),
            ("other", "permanent failure"),
        ],
        repeats: "Events with the same `dedup_key` update the open alert. Repeated `acknowledge` \
                  and `resolve` events change nothing.",
        probe: "Resolves an alert that does not exist, which has no effect: this checks the \
                address and the format. PagerDuty also accepts events with an unknown key; only \
                `rootwatch notify test` checks the key.",
    };

    fn keeps_tickets(&self) -> bool {
        true
    }

    fn example() -> Self {
        Self {
            routing_key: example_secret("PAGERDUTY_KEY"),
            region: Region::Us,
            url: None,
            allow_private: false,
        }
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let SecretRef::Plain(key) = &self.routing_key
            && let Err(fault) = checked(key)
        {
            faults.push(("routing_key", fault));
        }
        if let Err(fault) = self.address() {
            faults.push(("url", fault));
        }
        faults
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(message, SHOWN_KEY)
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let key = tools.secret("routing_key", &self.routing_key)?;
        checked(&key).map_err(|fault| vec![("routing_key", fault)])?;
        let url = self.address().map_err(|fault| vec![("url", fault)])?;
        let http = Http::new(self.allow_private).map_err(|fault| vec![("url", fault)])?;
        Ok(Box::new(PagerDuty { http, url, key }))
    }
}

fn checked(key: &Secret) -> Result<(), String> {
    let text = key.expose();
    if text.len() == ROUTING_KEY_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err(format!("an integration key has {ROUTING_KEY_CHARS} letters and digits"))
    }
}

struct PagerDuty {
    http: Http,
    url: Url,
    key: Secret,
}

impl std::fmt::Debug for PagerDuty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PagerDuty")
    }
}

fn action(kind: &AlertKind) -> &'static str {
    match kind {
        AlertKind::Acknowledged { .. } => "acknowledge",
        AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. } => "resolve",
        _ => "trigger",
    }
}

fn severity(message: &Message<'_>) -> &'static str {
    if matches!(message.alert.kind, AlertKind::Test | AlertKind::Digest) {
        return "info";
    }
    match message.wording.severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Informational => "info",
    }
}

/// At most so many characters; PagerDuty refuses longer ones.
fn fit(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

/// The event, as JSON: at most [`EVENT_BYTES_MAX`] bytes.
#[must_use]
pub fn render(message: &Message<'_>, routing_key: &str) -> Vec<u8> {
    let whole = event(message, routing_key, true).to_string();
    if whole.len() <= EVENT_BYTES_MAX {
        return whole.into_bytes();
    }
    event(message, routing_key, false).to_string().into_bytes()
}

fn event(message: &Message<'_>, routing_key: &str, is_whole: bool) -> Value {
    let (wording, alert) = (message.wording, message.alert);
    let action = action(&alert.kind);
    let dedup_key = fit(message.thread, DEDUP_KEY_CHARS_MAX);
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key,
        "client": "Rootwatch",
    });
    if let Some(link) = &wording.link {
        event["client_url"] = json!(link);
        event["links"] = json!([{ "href": link, "text": "Open in the hub" }]);
    }
    if action != "trigger" {
        return event;
    }
    let mut details = json!({
        "in_short": wording.compact,
        "when_and_where": wording.lead,
        "new": wording.fresh,
        "what_was_done": wording.prose,
        "why": wording.why,
        "do_first": wording.next,
        "timeline": wording.timeline,
        "listed": wording.listed,
        "foot": wording.foot,
    });
    if let Value::Object(fields) = &mut details {
        fields.retain(|_, value| {
            !(value.is_null() || value == &json!("") || value.as_array().is_some_and(Vec::is_empty))
        });
        if is_whole {
            fields.insert("alert".to_owned(), wording.json.clone());
        } else {
            fields.insert("shortened".to_owned(), true.into());
        }
    }
    let incident = alert.incident();
    let account = incident.and_then(|one| one.accounts.first());
    let title = match &wording.banner {
        Some(banner) => format!("{banner} · {}", wording.title),
        None => wording.title.clone(),
    };
    let mut payload = json!({
        "summary": fit(&title, SUMMARY_CHARS_MAX),
        "source": account.map_or("rootwatch", |one| one.id.as_str()),
        "severity": severity(message),
        "timestamp": alert.decided_at.to_string(),
        "class": alert.kind.name(),
        "custom_details": details,
    });
    if let Some(account) = account {
        let name = account.name.as_deref().unwrap_or(&account.id);
        payload["component"] = json!(text::cap(name, 100));
        if let Some(unit) = &account.unit {
            payload["group"] = json!(text::cap(unit, 100));
        }
    }
    event["payload"] = payload;
    event
}

impl PagerDuty {
    async fn post(&self, body: Vec<u8>, receipt: &str, now: Timestamp) -> Sent {
        let headers = vec![(CONTENT_TYPE, "application/json".to_owned())];
        let answer = match self.http.post(&self.url, headers, body).await {
            Ok(answer) => answer,
            Err(sent) => return sent,
        };
        // It may quote the event, and with it the key.
        let told = || answer.told().replace(self.key.expose(), "***");
        match answer.status.as_u16() {
            200..300 => Sent::Delivered { receipt: format!("taken for {receipt}") },
            status if retry::is_retryable(status) => {
                Sent::RetryAfter { after: answer.retry_after(now), error: told() }
            }
            _ => Sent::Rejected { error: told() },
        }
    }

    fn resolving(&self, dedup_key: &str) -> Vec<u8> {
        let event = json!({
            "routing_key": self.key.expose(),
            "event_action": "resolve",
            "dedup_key": dedup_key,
        });
        event.to_string().into_bytes()
    }
}

#[async_trait]
impl Channel for PagerDuty {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let body = render(message, self.key.expose());
        let sent = self.post(body, message.thread, message.now).await;
        if message.alert.kind == AlertKind::Test && matches!(sent, Sent::Delivered { .. }) {
            // The test is delivered; that its alert stays open for a while does no harm.
            let key = fit(message.thread, DEDUP_KEY_CHARS_MAX);
            return self.post(self.resolving(&key), message.thread, message.now).await;
        }
        sent
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        let key = format!("rootwatch-probe-{}", now.as_millisecond());
        self.post(self.resolving(&key), &key, now).await
    }
}
