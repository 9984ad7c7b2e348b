//! The channel `webhook`: a CloudEvents 1.0 event in JSON, signed in the Standard Webhooks manner.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use ring::hmac;
use rootwatch_core::retry;
use rootwatch_core::secret::{Secret, SecretRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, example_secret,
};
use crate::Sent;
use crate::config::schema::{secret_schema, secrets_schema};
use crate::http::{Http, parse_url};

/// Posts a signed CloudEvents 1.0 event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to post: an https URL.
    #[schemars(schema_with = "secret_schema")]
    pub url: SecretRef,
    /// Signing secrets, at least 24 bytes each. Each adds a signature, so that receivers can
    /// rotate. Empty: no signature.
    #[serde(default)]
    #[schemars(schema_with = "secrets_schema")]
    pub secrets: Vec<SecretRef>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub bearer: Option<SecretRef>,
    /// Allow private addresses (RFC 1918 and the like) and `http`.
    #[serde(default)]
    pub allow_private: bool,
}

/// Bytes of a body: what a receiver has to be ready for.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Bytes of a secret at least: shorter ones can be guessed.
const SECRET_BYTES_MIN: usize = 24;
/// How secrets begin that are written in base64, as Standard Webhooks has it.
const SECRET_PREFIX: &str = "whsec_";

impl Settings for Config {
    const BEHAVIOR: Behavior = Behavior { is_chat: false, rate_per_minute: 0 };
    const FACTS: Facts = Facts {
        about: "Posts a CloudEvents 1.0 event (structured mode, JSON), signed in the manner of \
                Standard Webhooks: `webhook-signature` holds, for each secret, `v1,` and the \
                base64 of HMAC-SHA256 over `webhook-id`, `.`, `webhook-timestamp`, `.` and the \
                body. To rotate, add the new secret, switch the receiver, remove the old secret. \
                To prevent replays, a receiver should reject timestamps more than five minutes off \
                and remember each `webhook-id` for that time. Private addresses are rejected \
                unless `allow_private = true`.",
        limits: &[(
            "a body",
            "256 KiB; a longer alert is sent without findings, with `\"shortened\": true`",
        )],
        answers: &[
            ("200 to 299", "delivered"),
            ("408, 425, 429, 500 and above, no answer", "retried, after `Retry-After` if given"),
            ("300 to 399", "permanent failure: redirects are not followed"),
            ("other", "permanent failure"),
        ],
        repeats: "`webhook-id`, and `id` in the event, is the same in every retry.",
        probe: "Posts an event of type `rootwatch.probe` without data.",
    };

    fn example() -> Self {
        Self {
            url: example_secret("WEBHOOK_URL"),
            secrets: vec![example_secret("WEBHOOK_SECRET")],
            bearer: None,
            allow_private: false,
        }
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(message)
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let SecretRef::Plain(url) = &self.url
            && let Err(fault) = parse_url(url.expose(), self.allow_private)
        {
            faults.push(("url", fault));
        }
        for secret in &self.secrets {
            if let SecretRef::Plain(secret) = secret
                && let Err(fault) = key(secret)
            {
                faults.push(("secrets", fault));
            }
        }
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let url = tools.secret("url", &self.url)?;
        let url = parse_url(url.expose(), self.allow_private).map_err(|e| vec![("url", e)])?;
        let http = Http::new(self.allow_private).map_err(|e| vec![("url", e)])?;
        let mut keys = Vec::new();
        for secret in &self.secrets {
            let secret = tools.secret("secrets", secret)?;
            let bytes = key(&secret).map_err(|fault| vec![("secrets", fault)])?;
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        let bearer = self.bearer.as_ref().map(|at| tools.secret("bearer", at)).transpose()?;
        Ok(Box::new(Webhook { http, url, keys, bearer }))
    }
}

/// The bytes of a secret: base64 after `whsec_`, the text itself otherwise.
fn key(secret: &Secret) -> Result<Vec<u8>, String> {
    let text = secret.expose();
    let bytes = match text.strip_prefix(SECRET_PREFIX) {
        Some(encoded) => BASE64
            .decode(encoded)
            .map_err(|_| format!("what follows `{SECRET_PREFIX}` is not base64"))?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!("a secret has at least {SECRET_BYTES_MIN} bytes"));
    }
    Ok(bytes)
}

struct Webhook {
    http: Http,
    url: Url,
    keys: Vec<hmac::Key>,
    bearer: Option<Secret>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("signatures", &self.keys.len()).finish_non_exhaustive()
    }
}

/// The body: a CloudEvents 1.0 event in the structured mode.
///
/// `id` is the delivery's, the same in every retry; `subject` ties the events about one incident
/// together. At most [`BODY_BYTES_MAX`] bytes: an alert that is longer leaves its findings out, and
/// says so with `"shortened": true`.
#[must_use]
pub fn render(message: &Message<'_>) -> Vec<u8> {
    let body = event(message, message.wording.json.clone());
    if body.len() <= BODY_BYTES_MAX {
        return body;
    }
    event(message, message.shortened())
}

fn event(message: &Message<'_>, data: serde_json::Value) -> Vec<u8> {
    let event = serde_json::json!({
        "specversion": "1.0",
        "id": message.id.0,
        "source": "rootwatch",
        "type": format!("rootwatch.alert.{}", message.alert.kind.name()),
        "subject": message.thread,
        "time": message.alert.decided_at.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    });
    event.to_string().into_bytes()
}

/// `webhook-signature`: a signature by each key over id, time (Unix seconds) and body.
fn signatures(keys: &[hmac::Key], id: &str, secs: i64, body: &[u8]) -> String {
    let sign = |key: &hmac::Key| {
        let mut context = hmac::Context::with_key(key);
        context.update(format!("{id}.{secs}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

impl Webhook {
    async fn post(&self, id: &str, now: Timestamp, body: Vec<u8>) -> Sent {
        let secs = now.as_second();
        let mut headers = vec![
            (CONTENT_TYPE, "application/cloudevents+json; charset=utf-8".to_owned()),
            (HeaderName::from_static("webhook-id"), id.to_owned()),
            (HeaderName::from_static("webhook-timestamp"), secs.to_string()),
        ];
        if !self.keys.is_empty() {
            let signatures = signatures(&self.keys, id, secs, &body);
            headers.push((HeaderName::from_static("webhook-signature"), signatures));
        }
        if let Some(bearer) = &self.bearer {
            headers.push((AUTHORIZATION, format!("Bearer {}", bearer.expose())));
        }
        let answer = match self.http.post(&self.url, headers, body).await {
            Ok(answer) => answer,
            Err(sent) => return sent,
        };
        match answer.status.as_u16() {
            200..300 => Sent::Delivered { receipt: answer.status.as_u16().to_string() },
            status if retry::is_retryable(status) => {
                Sent::RetryAfter { after: answer.retry_after(now), error: answer.told() }
            }
            300..400 => {
                Sent::Rejected { error: format!("{}: redirects are not followed", answer.told()) }
            }
            _ => Sent::Rejected { error: answer.told() },
        }
    }
}

#[async_trait]
impl Channel for Webhook {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        self.post(&message.id.0, message.now, render(message)).await
    }

    /// Posts an event of type `rootwatch.probe` without data: a webhook cannot be asked otherwise.
    async fn probe(&self, now: Timestamp) -> Sent {
        let id = format!("probe-{}", now.as_millisecond());
        let event = serde_json::json!({
            "specversion": "1.0",
            "id": id,
            "source": "rootwatch",
            "type": "rootwatch.probe",
            "time": now.to_string(),
        });
        self.post(&id, now, event.to_string().into_bytes()).await
    }
}
