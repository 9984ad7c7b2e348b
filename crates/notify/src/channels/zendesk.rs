//! The channel `zendesk`: a ticket for each incident.
//!
//! A ticket is created with an `Idempotency-Key`, so that a repeat makes no second one; later
//! messages are private comments of the ticket that has the incident's id as `external_id`.
//!
//! Source: <https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/>.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use rootwatch_core::alert::AlertKind;
use rootwatch_core::finding::Severity;
use rootwatch_core::retry;
use rootwatch_core::secret::{Secret, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{
    Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, example_secret,
};
use crate::Sent;
use crate::config::schema::secret_schema;
use crate::http::{Answer, Http, parse_url};

/// Characters of a subject.
pub const SUBJECT_CHARS_MAX: usize = 150;
/// Characters of a comment: below the 65,535 that Zendesk takes.
pub const COMMENT_CHARS_MAX: usize = 16_000;
/// Characters of an idempotency key.
pub const KEY_CHARS_MAX: usize = 255;
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Opens, comments and solves tickets of Zendesk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the account: `https://example.zendesk.com`.
    pub url: String,
    /// Email address of the agent that owns the API token. Omit it with OAuth.
    #[serde(default)]
    pub email: Option<String>,
    /// An API token of the account.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub api_token: Option<SecretRef>,
    /// OAuth token, instead of `email` and `api_token`.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub oauth_token: Option<SecretRef>,
    /// Tags of each ticket, in addition to `rootwatch`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Id of the group that tickets are assigned to.
    #[serde(default)]
    pub group_id: Option<u64>,
    /// Custom fields that the account requires.
    #[serde(default)]
    pub custom_fields: Vec<CustomField>,
    /// Allow private addresses (RFC 1918 and the like) and `http`, for your own relay.
    #[serde(default)]
    pub allow_private: bool,
}

/// A custom field of a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomField {
    /// The field's id.
    pub id: u64,
    /// Its value.
    pub value: String,
}

impl Config {
    fn address(&self) -> Result<Url, String> {
        parse_url(&self.url, self.allow_private)
    }
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 60 };
    const FACTS: Facts = Facts {
        about: "Opens a ticket of type incident; `external_id` is the id of the Rootwatch \
                incident. Updates become private comments; the ticket is solved when the Rootwatch \
                incident closes. Priorities: critical `urgent`, high `high`, medium `normal`, \
                others, tests and digests `low`; a test is solved at once. Setup: an API token \
                (Admin Center, Apps and integrations) and the agent's email address, or an OAuth \
                token with the scopes `tickets:write` and `read`.",
        limits: &[
            ("subject", "150 characters"),
            ("comment", "16,000 characters"),
            ("`Idempotency-Key`", "255 characters"),
        ],
        answers: &[
            ("200, 201", "delivered; the receipt is the ticket's number"),
            ("401, 403", "the configuration is wrong"),
            (
                "404, 422 for a known ticket",
                "the ticket was deleted or closed: a new one is created",
            ),
            (
                "408, 409, 425, 429, 500 and above, no answer",
                "retried, after `Retry-After` if given",
            ),
            ("other", "permanent failure"),
        ],
        repeats: "A ticket is created with the delivery's id as `Idempotency-Key`: for two hours \
                  Zendesk answers a repeat with the existing ticket; later the channel finds it by \
                  `external_id`. A comment may appear twice if its answer was lost.",
        probe: "Reads the authenticated user (`/api/v2/users/me.json`). Write access is not \
                checked before the first message.",
    };

    fn keeps_tickets(&self) -> bool {
        true
    }

    fn example() -> Self {
        Self {
            url: "https://example.zendesk.com".to_owned(),
            email: Some("rootwatch@example.com".to_owned()),
            api_token: Some(example_secret("ZENDESK_TOKEN")),
            oauth_token: None,
            tags: vec!["security".to_owned()],
            group_id: None,
            custom_fields: Vec::new(),
            allow_private: false,
        }
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(fault) = self.address() {
            faults.push(("url", fault));
        }
        let by_token = (self.email.is_some(), self.api_token.is_some());
        if !matches!(
            (by_token, self.oauth_token.is_some()),
            ((true, true), false) | ((false, false), true)
        ) {
            let fault = "either `email` and `api_token` or `oauth_token` is needed";
            faults.push(("api_token", fault.to_owned()));
        }
        faults
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        let body = if begins(message) { self.created(message) } else { changed(message) };
        body.to_string().into_bytes()
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let url = self.address().map_err(|fault| vec![("url", fault)])?;
        let http = Http::new(self.allow_private).map_err(|fault| vec![("url", fault)])?;
        let header = match (&self.email, &self.api_token, &self.oauth_token) {
            (Some(email), Some(token), _) => {
                let token = tools.secret("api_token", token)?;
                let pair = BASE64.encode(format!("{email}/token:{}", token.expose()));
                Secret::new(format!("Basic {pair}"))
            }
            (_, _, Some(token)) => {
                Secret::new(format!("Bearer {}", tools.secret("oauth_token", token)?.expose()))
            }
            _ => return Err(self.problems()),
        };
        Ok(Box::new(Zendesk { config: self.clone(), http, url, header }))
    }
}

fn is_over(message: &Message<'_>) -> bool {
    matches!(message.alert.kind, AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. })
}

/// True for alerts that open a ticket where there is none.
fn begins(message: &Message<'_>) -> bool {
    !is_over(message) && !matches!(message.alert.kind, AlertKind::Acknowledged { .. })
}

fn priority(message: &Message<'_>) -> &'static str {
    if matches!(message.alert.kind, AlertKind::Test | AlertKind::Digest) {
        return "low";
    }
    match message.wording.severity {
        Severity::Critical => "urgent",
        Severity::High => "high",
        Severity::Medium => "normal",
        Severity::Low | Severity::Informational => "low",
    }
}

fn fit(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

/// A private comment. Zendesk fills `{{…}}` in with texts of its own: ours asks for none.
fn comment(message: &Message<'_>) -> Value {
    let text = message.wording.lines().join("\n").replace("{{", "{ {");
    json!({ "body": fit(&text, COMMENT_CHARS_MAX), "public": false })
}

impl Config {
    fn created(&self, message: &Message<'_>) -> Value {
        let title = match &message.wording.banner {
            Some(banner) => format!("{banner} · {}", message.wording.title),
            None => message.wording.title.clone(),
        };
        let mut tags = vec!["rootwatch".to_owned()];
        tags.extend(self.tags.iter().cloned());
        let mut ticket = json!({
            "subject": fit(&title.replace("{{", "{ {"), SUBJECT_CHARS_MAX),
            "comment": comment(message),
            "priority": priority(message),
            "type": "incident",
            "external_id": message.thread,
            "tags": tags,
        });
        if let Some(group) = self.group_id {
            ticket["group_id"] = json!(group);
        }
        if !self.custom_fields.is_empty() {
            ticket["custom_fields"] = json!(self.custom_fields);
        }
        if message.alert.kind == AlertKind::Test {
            ticket["status"] = json!("solved");
        }
        json!({ "ticket": ticket })
    }
}

fn changed(message: &Message<'_>) -> Value {
    let mut ticket = json!({ "comment": comment(message) });
    if is_over(message) {
        ticket["status"] = json!("solved");
    } else if !matches!(message.alert.kind, AlertKind::Acknowledged { .. }) {
        ticket["priority"] = json!(priority(message));
        // A ticket that was solved goes on.
        ticket["status"] = json!("open");
    }
    json!({ "ticket": ticket })
}

struct Zendesk {
    config: Config,
    http: Http,
    url: Url,
    header: Secret,
}

impl std::fmt::Debug for Zendesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zendesk")
    }
}

impl Zendesk {
    /// Asks; 404 and 422 are answers, too.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        key: Option<&str>,
        body: Option<&Value>,
        now: Timestamp,
    ) -> Result<Answer, Sent> {
        let mut url = self.url.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers: Vec<(HeaderName, String)> = vec![
            (AUTHORIZATION, self.header.expose().to_owned()),
            (ACCEPT, "application/json".to_owned()),
            (CONTENT_TYPE, "application/json".to_owned()),
        ];
        if let Some(key) = key {
            headers.push((HeaderName::from_static("idempotency-key"), fit(key, KEY_CHARS_MAX)));
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let answer = self.http.ask(method, &url, headers, bytes, ANSWER_BYTES_MAX).await?;
        match answer.status.as_u16() {
            200..300 | 404 | 422 => Ok(answer),
            401 | 403 => Err(Sent::Misconfigured { error: answer.told() }),
            // 409 is another update at the same moment, to be retried: "Requests" in the reference of
            // Zendesk's API.
            status if status == 409 || retry::is_retryable(status) => {
                Err(Sent::RetryAfter { after: answer.retry_after(now), error: answer.told() })
            }
            _ => Err(Sent::Rejected { error: answer.told() }),
        }
    }

    /// The newest ticket with our id that can still be changed.
    async fn find(&self, thread: &str, now: Timestamp) -> Result<Option<u64>, Sent> {
        let query = [("external_id", thread)];
        let path = "/api/v2/tickets.json";
        let answer = self.ask(Method::GET, path, &query, None, None, now).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let found = json_of(&answer)?;
        let tickets = found["tickets"].as_array().cloned().unwrap_or_default();
        let open = tickets.iter().filter(|one| one["status"] != "closed");
        Ok(open.filter_map(|one| one["id"].as_u64()).max())
    }

    async fn create(&self, message: &Message<'_>) -> Result<u64, Sent> {
        let body = self.config.created(message);
        let (path, key) = ("/api/v2/tickets.json", message.id.0.as_str());
        let answer = self.ask(Method::POST, path, &[], Some(key), Some(&body), message.now).await?;
        if !answer.status.is_success() {
            return Err(Sent::Rejected { error: answer.told() });
        }
        json_of(&answer)?["ticket"]["id"].as_u64().ok_or_else(|| Sent::RetryAfter {
            after: None,
            error: "the answer names no ticket".to_owned(),
        })
    }

    async fn tell(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Result<String, Sent> {
        let Some(id) = self.find(message.thread, message.now).await? else {
            if !begins(message) {
                return Ok("there is no open ticket: nothing to change".to_owned());
            }
            // Before, so that a ticket that is found after a lost answer is known to hold it.
            memory.put(&message.id.0).await?;
            return Ok(format!("ticket {}", self.create(message).await?));
        };
        if memory.get().await?.as_deref() == Some(message.id.0.as_str()) {
            return Ok(format!("ticket {id}"));
        }
        let path = format!("/api/v2/tickets/{id}.json");
        let body = changed(message);
        let answer = self.ask(Method::PUT, &path, &[], None, Some(&body), message.now).await?;
        if answer.status.is_success() {
            memory.put(&message.id.0).await?;
            return Ok(format!("ticket {id}"));
        }
        // Deleted, or closed for good, meanwhile.
        if begins(message) {
            return Ok(format!("ticket {}", self.create(message).await?));
        }
        Ok(format!("ticket {id} can be changed no more"))
    }
}

fn json_of(answer: &Answer) -> Result<Value, Sent> {
    serde_json::from_str(&answer.body)
        .map_err(|_| Sent::RetryAfter { after: None, error: "the answer is no JSON".to_owned() })
}

#[async_trait]
impl Channel for Zendesk {
    async fn send(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Sent {
        match self.tell(message, memory).await {
            Ok(receipt) => Sent::Delivered { receipt },
            Err(sent) => sent,
        }
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        let path = "/api/v2/users/me.json";
        let asked = self.ask(Method::GET, path, &[], None, None, now).await;
        match asked.and_then(|answer| json_of(&answer)) {
            // Who is not known is answered as nobody, with 200.
            Ok(me) if me["user"]["id"].as_u64().is_some() => {
                Sent::Delivered { receipt: "the credentials are taken".to_owned() }
            }
            Ok(_) => Sent::Misconfigured { error: "the credentials are not taken".to_owned() },
            Err(sent) => sent,
        }
    }
}
