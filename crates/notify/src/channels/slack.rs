//! The channel `slack`: Slack, with Block Kit, by an incoming webhook or by a bot.
//!
//! A webhook posts to the channel for which it was made; it can neither update messages nor reply
//! in threads. A bot can: an incident has one message in the channel, which shows its present
//! state, and what happened since is in the thread below it. The whole message stays below the
//! limits that Slack documents, and below the one that it does not: about 13,200 characters in all,
//! beyond which it answers `msg_blocks_too_long`.

mod api;
mod blocks;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use rootwatch_core::retry;
use rootwatch_core::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use self::api::Bot;
pub use self::blocks::{
    BLOCKS_MAX, HEADER_CHARS_MAX, MESSAGE_CHARS_MAX, SECTION_CHARS_MAX, render, render_reply,
};
use super::{
    Behavior, Channel, Facts, Fault, Message, Settings, ThreadMemory, Tools, example_secret,
};
use crate::Sent;
use crate::config::schema::secret_schema;
use crate::http::{Http, parse_url};

/// Where Slack's methods are.
const API_URL: &str = "https://slack.com/api/";
/// How the token of a bot begins.
const TOKEN_PREFIX: &str = "xoxb-";
/// Letters of the id of a conversation.
const CONVERSATION_CHARS_MAX: usize = 32;

/// Posts to a channel of Slack: by an incoming webhook (`url`), or as a bot (`token` and
/// `conversation`), which keeps one message for each incident up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of an incoming webhook; a secret, because it allows posting. Either this, or `token` and
    /// `conversation`.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub url: Option<SecretRef>,
    /// Token of a bot: `xoxb-…`.
    #[serde(default)]
    #[schemars(schema_with = "secret_schema")]
    pub token: Option<SecretRef>,
    /// Id of the conversation to post to: `C0123456789`. Slack shows it at the end of the
    /// conversation's details.
    #[serde(default)]
    pub conversation: Option<String>,
    /// Base URL of Slack's API methods, for your own relay (with `allow_private`). Default:
    /// `https://slack.com/api/`.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Allow private addresses (RFC 1918 and the like) and `http`, for your own relay.
    #[serde(default)]
    pub allow_private: bool,
}

impl Settings for Config {
    /// Slack takes one message a second, and more in a burst.
    const BEHAVIOR: Behavior = Behavior { is_chat: true, rate_per_minute: 60 };
    const FACTS: Facts = Facts {
        about: "Posts to a channel of Slack with Block Kit, in one of two ways. **An incoming \
                webhook** (`url`) posts to the channel for which it was made; it can neither \
                update messages nor reply in threads. **A bot** (`token` and `conversation`) posts \
                one message for an incident and keeps it up to date. Updates go into its thread; \
                escalations and renewed root use also appear in the channel. For a bot, make an \
                app, give it the scope `chat:write`, install it, and invite it to the channel \
                (`/invite @app`). With `channels:read` (private channels: `groups:read`) the probe \
                can see whether it is in the channel; with `channels:history` (`groups:history`) \
                it finds a message whose answer was lost.",
        limits: &[
            ("blocks", "50"),
            ("header", "150 characters of UTF-16"),
            ("text of a section", "3,000 characters"),
            (
                "whole message",
                "12,000 characters: below about 13,200, which Slack does not document \
                               and beyond which it answers `msg_blocks_too_long`",
            ),
        ],
        answers: &[
            ("200 `ok`, or 200 with `\"ok\": true`", "delivered"),
            (
                "`msg_blocks_too_long`, `msg_too_long`, `invalid_blocks`",
                "resent at once as one line",
            ),
            ("`message_not_found`, `thread_not_found`", "the message was deleted: posted again"),
            (
                "`channel_not_found`, `not_in_channel`, `is_archived`, `invalid_auth`, \
              `account_inactive`, `token_revoked`, `missing_scope` and the like",
                "permanent failure: fix the configuration or the app",
            ),
            (
                "other 400, 401, 403, 404, 410",
                "permanent failure: the webhook is revoked, the channel archived",
            ),
            (
                "408, 425, 429, 500 and above, no answer; `ratelimited`, `internal_error`, \
              `fatal_error`, `service_unavailable`",
                "retried, after `Retry-After` if given",
            ),
            ("200 with another error", "permanent failure"),
        ],
        repeats: "Webhooks are not idempotent: a message may appear twice. Before a retry, a bot \
                  looks for its message by the attached `metadata`; without the scope to read the \
                  channel, a message may appear twice.",
        probe: "Webhook: posts an empty text, which a working webhook rejects with `no_text`; it \
                does not appear in the channel. Bot: `auth.test`, and `conversations.info` where \
                its scopes allow that.",
    };

    fn example() -> Self {
        Self {
            url: None,
            token: Some(example_secret("SLACK_TOKEN")),
            conversation: Some("C0123456789".to_owned()),
            api_url: None,
            allow_private: false,
        }
    }

    /// The first message of a thread, by a bot as by a webhook.
    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        render(message).to_string().into_bytes()
    }

    /// A bot shows it in its message; a webhook would only post once more.
    fn keeps_tickets(&self) -> bool {
        self.token.is_some()
    }

    fn problems(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |key: &'static str, text: &str| faults.push((key, text.to_owned()));
        match (&self.url, &self.token) {
            (Some(_), Some(_)) => fault("url", "either `url` or `token`, and not both"),
            (None, None) => fault("url", "set either `url`, or `token` and `conversation`"),
            (Some(_), None) if self.conversation.is_some() => {
                fault("conversation", "a webhook posts to the channel for which it was made");
            }
            (Some(_), None) if self.api_url.is_some() => {
                fault("api_url", "`api_url` applies to a bot only; a webhook uses `url`");
            }
            (None, Some(_)) if self.conversation.is_none() => {
                fault("conversation", "`token` also needs `conversation`");
            }
            _ => {}
        }
        if let Some(id) = &self.conversation {
            let is_id = (2..=CONVERSATION_CHARS_MAX).contains(&id.len())
                && id.starts_with(['C', 'G', 'D'])
                && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            if !is_id {
                fault(
                    "conversation",
                    "this is no id of a conversation: it looks like `C0123456789`",
                );
            }
        }
        if self.api_url.is_some() && !self.allow_private {
            fault("api_url", "another place than Slack needs `allow_private = true`");
        }
        if let Some(SecretRef::Plain(token)) = &self.token
            && let Some(text) = token_fault(token.expose())
        {
            fault("token", text);
        }
        if let Some(url) = &self.api_url
            && let Err(text) = api_url(url)
        {
            fault("api_url", &text);
        }
        if let Some(SecretRef::Plain(url)) = &self.url
            && let Err(text) = parse_url(url.expose(), self.allow_private)
        {
            fault("url", &text);
        }
        faults
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        let http = Http::new(self.allow_private);
        if let (Some(token), Some(conversation)) = (&self.token, &self.conversation) {
            let token = tools.secret("token", token)?;
            if let Some(fault) = token_fault(token.expose()) {
                return Err(vec![("token", fault.to_owned())]);
            }
            let api = api_url(self.api_url.as_deref().unwrap_or(API_URL));
            let api = api.map_err(|fault| vec![("api_url", fault)])?;
            let http = http.map_err(|fault| vec![("token", fault)])?;
            let conversation = conversation.clone();
            return Ok(Box::new(Bot { http, api, token, conversation }));
        }
        let Some(url) = &self.url else { return Err(self.problems()) };
        let url = tools.secret("url", url)?;
        let url = parse_url(url.expose(), self.allow_private).map_err(|e| vec![("url", e)])?;
        let http = http.map_err(|fault| vec![("url", fault)])?;
        Ok(Box::new(IncomingWebhook { http, url }))
    }
}

fn token_fault(token: &str) -> Option<&'static str> {
    let is_right = token.starts_with(TOKEN_PREFIX)
        && token.len() > TOKEN_PREFIX.len()
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_right).then_some("this is no token of a bot: it begins with `xoxb-`")
}

/// The URL below which the methods are; it ends in a slash.
fn api_url(text: &str) -> Result<Url, String> {
    parse_url(&format!("{}/", text.trim().trim_end_matches('/')), true)
}

struct IncomingWebhook {
    http: Http,
    url: Url,
}

impl std::fmt::Debug for IncomingWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhook of Slack")
    }
}

/// True for an error after which a short message may come through.
fn is_about_length(error: &str) -> bool {
    error.contains("too_long") || error.contains("invalid_blocks")
}

impl IncomingWebhook {
    async fn post(&self, body: &Value, now: Timestamp) -> (Sent, bool) {
        let headers = vec![(CONTENT_TYPE, "application/json; charset=utf-8".to_owned())];
        let answer = match self.http.post(&self.url, headers, body.to_string().into_bytes()).await {
            Ok(answer) => answer,
            Err(sent) => return (sent, false),
        };
        let too_long = is_about_length(&answer.body);
        let sent = match answer.status.as_u16() {
            200..300 => Sent::Delivered { receipt: answer.body.trim().to_owned() },
            status if retry::is_retryable(status) => {
                Sent::RetryAfter { after: answer.retry_after(now), error: answer.told() }
            }
            // The channel is archived, the app removed, the webhook revoked: for good.
            _ => Sent::Rejected { error: answer.told() },
        };
        (sent, too_long)
    }
}

#[async_trait]
impl Channel for IncomingWebhook {
    async fn send(&self, message: &Message<'_>, _: &ThreadMemory<'_>) -> Sent {
        let (sent, too_long) = self.post(&render(message), message.now).await;
        if !too_long || !matches!(sent, Sent::Rejected { .. }) {
            return sent;
        }
        // Rather a short message than none.
        self.post(&blocks::short(message), message.now).await.0
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
