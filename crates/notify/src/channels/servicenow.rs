//! The channel `servicenow`: an incident of ServiceNow's Table API for each incident of ours.
//! The Table API is not idempotent: the channel searches for an open incident with its
//! `correlation_id` before it
//! creates one. The outbox sends one message of a thread at a time, so nothing else creates one
//! meanwhile.
//!
//! Source: <https://www.servicenow.com/docs/> (Table API, Inbound REST OAuth).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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
use rootwatch_core::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use url::Url;

use super::{
    Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, example_secret,
};
use crate::Sent;
use crate::config::schema::secret_schema;
use crate::http::{Answer, Http, parse_url};

/// Characters of `short_description`.
pub const SHORT_CHARS_MAX: usize = 160;
/// Characters of `description`, and of a work note.
pub const TEXT_CHARS_MAX: usize = 8_000;
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long before its end a token is not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(30);
/// How long a token is used whose answer does not say how long.
const TOKEN_SECS: u64 = 600;
/// The states of an incident that is over: resolved, closed, cancelled.
const OVER: &str = "6,7,8";

/// Opens, updates and resolves incidents of ServiceNow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the instance: `https://example.service-now.com`.
    pub instance: String,
    /// User name of an account with the role `itil`. Omit it with OAuth.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of `user`.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub password: Option<SecretRef>,
    /// OAuth client id (grant type client credentials), instead of `user`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// OAuth client secret.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub client_secret: Option<SecretRef>,
    /// Fields of new incidents by column name: `assignment_group`, `caller_id`, `category` … They
    /// override the fields that Rootwatch sets.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// `close_code` of resolved incidents; must be a value that the instance defines.
    #[serde(default = "close_code")]
    pub close_code: String,
    /// Allow private addresses (RFC 1918 and the like) and `http`, for your own relay.
    #[serde(default)]
    pub allow_private: bool,
}

fn close_code() -> String {
    "Resolved by request".to_owned()
}

impl Config {
    fn url(&self) -> Result<Url, String> {
        parse_url(&self.instance, self.allow_private)
    }
}

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 60 };
    const FACTS: Facts = Facts {
        about: "Opens an incident through the Table API (`/api/now/table/incident`); \
                `correlation_id` is the id of the Rootwatch incident. Updates become work notes; \
                the incident is resolved when the Rootwatch incident closes. Urgency and impact: \
                critical and high are 1, medium 2, others 3; tests and digests are 3, and a test \
                is resolved at once. Setup: a user with the role `itil`, or an OAuth client with \
                the grant type client credentials; put mandatory columns into `fields`.",
        limits: &[
            ("`short_description`", "160 characters"),
            ("`description`, a work note", "8,000 characters"),
        ],
        answers: &[
            ("200, 201", "delivered; the receipt is the number: `INC0010001`"),
            (
                "401",
                "with OAuth: retried once with a new token; otherwise the configuration is \
                     wrong",
            ),
            ("403", "the configuration is wrong: the user may not write"),
            ("404 for a known incident", "searched again, and created if there is none"),
            ("408, 425, 429, 500 and above, no answer", "retried, after `Retry-After` if given"),
            ("other", "permanent failure"),
        ],
        repeats: "Before it creates an incident, the channel searches for an open one with the \
                  same `correlation_id`: no duplicates, even if an answer was lost. A work note \
                  may appear twice if its answer was lost.",
        probe: "Reads one incident. Write access is not checked before the first message.",
    };

    fn keeps_tickets(&self) -> bool {
        true
    }

    fn example() -> Self {
        Self {
            instance: "https://example.service-now.com".to_owned(),
            user: Some("rootwatch".to_owned()),
            password: Some(example_secret("SERVICENOW_PASSWORD")),
            client_id: None,
            client_secret: None,
            fields: [("assignment_group".to_owned(), "Cloud Security".to_owned())].into(),
            close_code: close_code(),
            allow_private: false,
        }
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Err(fault) = self.url() {
            faults.push(("instance", fault));
        }
        let user = (self.user.is_some(), self.password.is_some());
        let client = (self.client_id.is_some(), self.client_secret.is_some());
        if !matches!(
            (user, client),
            ((true, true), (false, false)) | ((false, false), (true, true))
        ) {
            let fault = "set either `user` and `password`, or `client_id` and `client_secret`";
            faults.push(("user", fault.to_owned()));
        }
        if self.user.as_ref().is_some_and(|user| user.contains(':')) {
            faults.push(("user", "a user name must not contain `:`".to_owned()));
        }
        faults
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        let body = if begins(message) { self.created(message) } else { self.changed(message) };
        Value::Object(body).to_string().into_bytes()
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let url = self.url().map_err(|fault| vec![("instance", fault)])?;
        let http = Http::new(self.allow_private).map_err(|fault| vec![("instance", fault)])?;
        let login = match (&self.user, &self.password, &self.client_id, &self.client_secret) {
            (Some(user), Some(password), _, _) => {
                let password = tools.secret("password", password)?;
                let pair = BASE64.encode(format!("{user}:{}", password.expose()));
                Login::Basic(Secret::new(format!("Basic {pair}")))
            }
            (_, _, Some(id), Some(secret)) => Login::OAuth {
                id: id.clone(),
                secret: tools.secret("client_secret", secret)?,
                token: Mutex::default(),
            },
            _ => return Err(self.problems()),
        };
        Ok(Box::new(ServiceNow { config: self.clone(), http, url, login }))
    }
}

/// True for alerts that open an incident where there is none; others would only say that it is over.
fn begins(message: &Message<'_>) -> bool {
    !is_over(message) && !matches!(message.alert.kind, AlertKind::Acknowledged { .. })
}

fn is_over(message: &Message<'_>) -> bool {
    matches!(message.alert.kind, AlertKind::Closed { .. } | AlertKind::DeliveryRecovered { .. })
}

/// From 1 to 3, as urgency and impact are counted.
fn level(message: &Message<'_>) -> &'static str {
    if matches!(message.alert.kind, AlertKind::Test | AlertKind::Digest) {
        return "3";
    }
    match message.wording.severity {
        Severity::Critical | Severity::High => "1",
        Severity::Medium => "2",
        Severity::Low | Severity::Informational => "3",
    }
}

fn fit(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

/// The whole message as plain text. ServiceNow renders `[code]` as HTML: ours holds none.
fn text(message: &Message<'_>) -> String {
    let text = message.wording.lines().join("\n");
    fit(&text.replace("[code]", "[ code]").replace("[/code]", "[ /code]"), TEXT_CHARS_MAX)
}

impl Config {
    fn created(&self, message: &Message<'_>) -> Map<String, Value> {
        let title = match &message.wording.banner {
            Some(banner) => format!("{banner} · {}", message.wording.title),
            None => message.wording.title.clone(),
        };
        let level = level(message);
        let body = json!({
            "short_description": fit(&title, SHORT_CHARS_MAX),
            "description": text(message),
            "urgency": level,
            "impact": level,
            "correlation_id": message.thread,
            "correlation_display": "Rootwatch",
        });
        let Value::Object(mut body) = body else { return Map::new() };
        body.extend(self.fields.iter().map(|(name, value)| (name.clone(), json!(value))));
        body
    }

    fn changed(&self, message: &Message<'_>) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("work_notes".to_owned(), json!(text(message)));
        if is_over(message) {
            body.extend(self.resolved(&message.wording.title));
        } else if !matches!(message.alert.kind, AlertKind::Acknowledged { .. }) {
            body.insert("urgency".to_owned(), json!(level(message)));
            body.insert("impact".to_owned(), json!(level(message)));
        }
        body
    }

    fn resolved(&self, notes: &str) -> Map<String, Value> {
        let notes = fit(notes, TEXT_CHARS_MAX);
        let fields = [("state", "6"), ("close_code", &self.close_code), ("close_notes", &notes)];
        fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
    }
}

enum Login {
    /// The whole header.
    Basic(Secret),
    OAuth {
        id: String,
        secret: Secret,
        /// The header, and until when it is used.
        token: Mutex<Option<(Secret, Instant)>>,
    },
}

struct ServiceNow {
    config: Config,
    http: Http,
    url: Url,
    login: Login,
}

impl std::fmt::Debug for ServiceNow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceNow")
    }
}

/// An incident of theirs.
struct Known {
    sys_id: String,
    number: String,
}

impl Known {
    fn of(result: &Value) -> Option<Self> {
        let text = |name: &str| result[name].as_str().filter(|text| !text.is_empty());
        let sys_id = text("sys_id")?.to_owned();
        Some(Self { number: text("number").unwrap_or(&sys_id).to_owned(), sys_id })
    }
}

impl ServiceNow {
    /// The header; a new token when `anew` or when the old one has ended.
    async fn authorization(&self, anew: bool, now: Timestamp) -> Result<Secret, Sent> {
        let (id, secret, token) = match &self.login {
            Login::Basic(header) => return Ok(header.clone()),
            Login::OAuth { id, secret, token } => (id, secret, token),
        };
        let mut token = token.lock().await;
        if let Some((header, until)) = token.as_ref()
            && !anew
            && Instant::now() < *until
        {
            return Ok(header.clone());
        }
        let mut url = self.url.clone();
        url.set_path("/oauth_token.do");
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", id)
            .append_pair("client_secret", secret.expose())
            .finish();
        let headers = vec![(CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
        let answer = self.http.post(&url, headers, form.into_bytes()).await?;
        if !answer.status.is_success() {
            return Err(match answer.status.as_u16() {
                status if retry::is_retryable(status) => again(&answer, now),
                // Its body may quote what was asked.
                code => Sent::Misconfigured { error: format!("no token is given: {code}") },
            });
        }
        let given: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let Some(text) = given["access_token"].as_str() else {
            return Err(Sent::RetryAfter {
                after: None,
                error: "the answer holds no token".to_owned(),
            });
        };
        let secs = given["expires_in"].as_u64().unwrap_or(TOKEN_SECS);
        let lasts = Duration::from_secs(secs.min(86_400)).saturating_sub(TOKEN_MARGIN);
        let header = Secret::new(format!("Bearer {text}"));
        *token = Some((header.clone(), Instant::now() + lasts));
        Ok(header)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Answer, Sent> {
        let mut url = self.url.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let bytes = if method == Method::GET {
            Vec::new()
        } else {
            serde_json::to_vec(body).unwrap_or_default()
        };
        let mut anew = false;
        loop {
            let header = self.authorization(anew, now).await?;
            let headers: Vec<(HeaderName, String)> = vec![
                (AUTHORIZATION, header.expose().to_owned()),
                (ACCEPT, "application/json".to_owned()),
                (CONTENT_TYPE, "application/json".to_owned()),
            ];
            let asked =
                self.http.ask(method.clone(), &url, headers, bytes.clone(), ANSWER_BYTES_MAX);
            let answer = asked.await?;
            // A token may end before its time.
            if answer.status == 401 && !anew && matches!(self.login, Login::OAuth { .. }) {
                anew = true;
                continue;
            }
            return match answer.status.as_u16() {
                200..300 | 404 => Ok(answer),
                401 | 403 => Err(Sent::Misconfigured { error: answer.told() }),
                status if retry::is_retryable(status) => Err(again(&answer, now)),
                _ => Err(Sent::Rejected { error: answer.told() }),
            };
        }
    }

    /// The open incident with our id, if there is one.
    async fn find(&self, thread: &str, now: Timestamp) -> Result<Option<Known>, Sent> {
        // `^` parts the conditions of a query.
        let thread: String = thread.chars().filter(|letter| *letter != '^').collect();
        let query = format!("correlation_id={thread}^stateNOT IN{OVER}");
        let query = [
            ("sysparm_query", query.as_str()),
            ("sysparm_fields", "sys_id,number,state"),
            ("sysparm_limit", "1"),
        ];
        let nothing = Map::new();
        let answer =
            self.ask(Method::GET, "/api/now/table/incident", &query, &nothing, now).await?;
        if answer.status == 404 {
            // Some instances say so where a query finds nothing.
            return Ok(None);
        }
        let found = result(&answer)?;
        Ok(found.as_array().and_then(|list| list.first()).and_then(Known::of))
    }

    async fn create(&self, message: &Message<'_>) -> Result<Known, Sent> {
        let body = self.config.created(message);
        let path = "/api/now/table/incident";
        let answer = self.ask(Method::POST, path, &[], &body, message.now).await?;
        if answer.status == 404 {
            return Err(Sent::Rejected { error: answer.told() });
        }
        let made = result(&answer)?;
        Known::of(&made).ok_or_else(|| Sent::RetryAfter {
            after: None,
            error: "the answer names no incident".to_owned(),
        })
    }

    /// Changes an incident; `None` when it is there no more.
    async fn change(
        &self,
        sys_id: &str,
        body: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Option<Known>, Sent> {
        let path = format!("/api/now/table/incident/{sys_id}");
        let answer = self.ask(Method::PATCH, &path, &[], body, now).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        Ok(Known::of(&result(&answer)?))
    }

    async fn tell(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Result<String, Sent> {
        // Asked each time rather than remembered: somebody may have resolved it by hand, and what
        // goes on then is a new one.
        let Some(known) = self.find(message.thread, message.now).await? else {
            if !begins(message) {
                return Ok("there is no open incident: nothing to change".to_owned());
            }
            // Before, so that an incident that is found after a lost answer is known to hold it.
            memory.put(message.id.0.as_str()).await?;
            let made = self.create(message).await?;
            if message.alert.kind == AlertKind::Test {
                let body = self.config.resolved("This was a test.");
                self.change(&made.sys_id, &body, message.now).await?;
            }
            return Ok(made.number);
        };
        // The answer to the attempt before was lost: this message made it, and is in it.
        if memory.get().await?.as_deref() == Some(message.id.0.as_str()) {
            return Ok(known.number);
        }
        let body = self.config.changed(message);
        match self.change(&known.sys_id, &body, message.now).await? {
            Some(changed) => {
                memory.put(message.id.0.as_str()).await?;
                Ok(changed.number)
            }
            None => Err(Sent::RetryAfter {
                after: None,
                error: format!("the incident {} went away meanwhile", text::cap(&known.number, 40)),
            }),
        }
    }
}

fn again(answer: &Answer, now: Timestamp) -> Sent {
    Sent::RetryAfter { after: answer.retry_after(now), error: answer.told() }
}

fn result(answer: &Answer) -> Result<Value, Sent> {
    let value: Value = serde_json::from_str(&answer.body).map_err(|_| Sent::RetryAfter {
        after: None,
        // An instance that sleeps answers 200 with a page.
        error: "the answer is no JSON: the instance may be asleep".to_owned(),
    })?;
    Ok(value["result"].clone())
}

#[async_trait]
impl Channel for ServiceNow {
    async fn send(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Sent {
        match self.tell(message, memory).await {
            Ok(receipt) => Sent::Delivered { receipt },
            Err(sent) => sent,
        }
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        match self.find("rootwatch-probe", now).await {
            Ok(_) => Sent::Delivered { receipt: "the table can be read".to_owned() },
            Err(sent) => sent,
        }
    }
}
