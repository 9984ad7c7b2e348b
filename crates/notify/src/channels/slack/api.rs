//! A bot of Slack: one message for an incident, kept up to date, and a thread below it.
//!
//! Slack knows no idempotency key. So what is about to be posted is noted first; an attempt that
//! finds such a note looks for the message, by the metadata that we attach, before it posts again.
//! To update a message twice does no harm.

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use rootwatch_core::alert::AlertKind;
use rootwatch_core::retry;
use rootwatch_core::secret::Secret;
use rootwatch_core::text;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::super::{Channel, Message, ThreadMemory};
use super::{blocks, is_about_length};
use crate::Sent;
use crate::http::Http;

/// Bytes of an answer that are read: Slack sends the message back.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Bytes of an answer with many messages.
const HISTORY_BYTES_MAX: usize = 2 << 20;
/// Messages among which ours is looked for.
const HISTORY_MAX: u32 = 100;
/// Seconds before the note of a message from which on it is looked for: clocks differ.
const HISTORY_MARGIN_SECS: i64 = 300;
/// Columns of Slack's error that are shown.
const ERROR_COLUMNS_MAX: usize = 80;
/// What our metadata is called.
const EVENT_TYPE: &str = "rootwatch_alert";

pub(super) struct Bot {
    pub(super) http: Http,
    pub(super) api: Url,
    pub(super) token: Secret,
    pub(super) conversation: String,
}

impl std::fmt::Debug for Bot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bot").field("conversation", &self.conversation).finish_non_exhaustive()
    }
}

/// The stored state of a thread.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct ThreadState {
    /// The first message; `None` while it is not known to be there.
    first: Option<First>,
    /// The delivery whose message is about to be posted, and since when (Unix seconds).
    begun: Option<(String, i64)>,
    /// The last delivery whose message or reply is posted.
    posted: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct First {
    /// The conversation's id, as Slack answered it.
    channel: String,
    /// The message's time stamp, which is its id there.
    ts: String,
    /// The delivery that posted it.
    delivery: String,
}

/// Why a call failed.
enum CallError {
    /// Slack answered with this error code.
    Slack(String, Sent),
    /// Anything else.
    Other(Sent),
}

impl From<CallError> for Sent {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Slack(_, sent) | CallError::Other(sent) => sent,
        }
    }
}

/// What an error of Slack means. Source: the errors of chat.postMessage, chat.update and
/// conversations.info in Slack's reference.
fn meaning(word: &str, error: String, after: Option<jiff::SignedDuration>) -> Sent {
    match word {
        "ratelimited"
        | "rate_limited"
        | "message_limit_exceeded"
        | "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org" => Sent::RetryAfter { after, error },
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "missing_scope"
        | "no_permission"
        | "access_denied"
        | "ekm_access_denied"
        | "not_allowed_token_type"
        | "org_login_required"
        | "team_access_not_granted"
        | "two_factor_setup_required"
        | "enterprise_is_restricted"
        | "channel_not_found"
        | "not_in_channel"
        | "is_archived"
        | "is_inactive"
        | "restricted_action"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_only_channel"
        | "accesslimited" => Sent::Misconfigured { error },
        _ => Sent::Rejected { error },
    }
}

/// True for an error that says that what we want to change or answer to is no longer there.
fn is_gone(word: &str) -> bool {
    matches!(
        word,
        "message_not_found"
            | "thread_not_found"
            | "cant_update_message"
            | "edit_window_closed"
            | "parent_message_not_found"
    )
}

impl Bot {
    async fn ask(
        &self,
        method: &str,
        kind: &'static str,
        body: Vec<u8>,
        bytes_max: usize,
        now: Timestamp,
    ) -> Result<Value, CallError> {
        let url = self.api.join(method).map_err(|error| {
            CallError::Other(Sent::Misconfigured { error: format!("`api_url`: {error}") })
        })?;
        let headers = vec![
            (CONTENT_TYPE, kind.to_owned()),
            (AUTHORIZATION, format!("Bearer {}", self.token.expose())),
        ];
        let answer = self.http.ask(Method::POST, &url, headers, body, bytes_max).await;
        let answer = answer.map_err(CallError::Other)?;
        let after = answer.retry_after(now);
        let told = || answer.told().replace(self.token.expose(), "***");
        match answer.status.as_u16() {
            200..300 => {}
            status if retry::is_retryable(status) => {
                return Err(CallError::Other(Sent::RetryAfter { after, error: told() }));
            }
            401 | 403 => return Err(CallError::Other(Sent::Misconfigured { error: told() })),
            _ => return Err(CallError::Other(Sent::Rejected { error: told() })),
        }
        let Ok(read) = serde_json::from_str::<Value>(&answer.body) else {
            // A page of something on the way.
            let error = format!("{method}: the answer is no whole JSON");
            return Err(CallError::Other(Sent::RetryAfter { after, error }));
        };
        if read["ok"] == true {
            return Ok(read);
        }
        let word = read["error"].as_str().unwrap_or("no error named");
        let word = text::cap(&word.replace(self.token.expose(), "***"), ERROR_COLUMNS_MAX);
        let mut error = format!("{method}: Slack answered `{word}`");
        if let Some(needed) = read["needed"].as_str() {
            error.push_str(&format!(", needed: {}", text::cap(needed, ERROR_COLUMNS_MAX)));
        }
        let sent = meaning(&word, error, after);
        Err(CallError::Slack(word, sent))
    }

    /// A method that changes something: its arguments in JSON.
    async fn change(&self, method: &str, body: &Value, now: Timestamp) -> Result<Value, CallError> {
        let kind = "application/json; charset=utf-8";
        self.ask(method, kind, body.to_string().into_bytes(), ANSWER_BYTES_MAX, now).await
    }

    /// A method that reads: its arguments in a form, since these know no JSON.
    async fn read(
        &self,
        method: &str,
        arguments: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Value, CallError> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(arguments).finish();
        let kind = "application/x-www-form-urlencoded";
        self.ask(method, kind, form.into_bytes(), HISTORY_BYTES_MAX, now).await
    }

    /// As [`Bot::change`]; when Slack finds the message too long, once more in one line.
    async fn say(
        &self,
        method: &str,
        body: Value,
        more: &Value,
        message: &Message<'_>,
    ) -> Result<Value, CallError> {
        let whole = |mut body: Value| {
            if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
                body.extend(more.clone());
            }
            body
        };
        match self.change(method, &whole(body), message.now).await {
            Err(CallError::Slack(word, _)) if is_about_length(&word) => {
                let mut short = blocks::short(message);
                if method == "chat.update" {
                    // It would leave the old blocks where they are.
                    short["blocks"] = json!([]);
                }
                self.change(method, &whole(short), message.now).await
            }
            other => other,
        }
    }

    /// Looks for what a delivery posted: in the conversation, or in the thread of a message.
    async fn find(
        &self,
        delivery: &str,
        since: i64,
        thread: Option<&First>,
        now: Timestamp,
    ) -> Result<Option<First>, CallError> {
        let oldest = (since - HISTORY_MARGIN_SECS).to_string();
        let limit = HISTORY_MAX.to_string();
        let mut arguments = vec![
            ("channel", thread.map_or(self.conversation.as_str(), |first| first.channel.as_str())),
            ("oldest", oldest.as_str()),
            ("limit", limit.as_str()),
            ("include_all_metadata", "true"),
        ];
        let method = match thread {
            Some(first) => {
                arguments.push(("ts", first.ts.as_str()));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        let read = self.read(method, &arguments, now).await?;
        let ours = |one: &&Value| {
            one["metadata"]["event_type"] == EVENT_TYPE
                && one["metadata"]["event_payload"]["delivery"] == delivery
                && match thread {
                    // The message at its head is not the reply.
                    Some(first) => one["ts"] != first.ts.as_str(),
                    // A reply that is shown in the channel begins no thread.
                    None => one["thread_ts"].is_null() || one["thread_ts"] == one["ts"],
                }
        };
        let found = read["messages"].as_array().and_then(|all| all.iter().find(ours));
        Ok(found.and_then(|one| one["ts"].as_str()).map(|ts| First {
            channel: self.conversation.clone(),
            ts: ts.to_owned(),
            delivery: delivery.to_owned(),
        }))
    }

    /// As [`Bot::find`]; where we may not read, it is not found.
    async fn find_if_allowed(
        &self,
        delivery: &str,
        since: i64,
        thread: Option<&First>,
        now: Timestamp,
    ) -> Result<Option<First>, Sent> {
        match self.find(delivery, since, thread, now).await {
            Ok(found) => Ok(found),
            Err(CallError::Slack(_, sent @ Sent::RetryAfter { .. }) | CallError::Other(sent)) => {
                Err(sent)
            }
            // No scope, or the thread is gone: what posts says it.
            Err(CallError::Slack(..)) => Ok(None),
        }
    }

    fn metadata(message: &Message<'_>) -> Value {
        let payload = json!({ "delivery": message.id.0, "thread": message.thread });
        json!({ "event_type": EVENT_TYPE, "event_payload": payload })
    }

    /// Posts the first message of a thread, unless an attempt before this one did.
    async fn begin(
        &self,
        message: &Message<'_>,
        memory: &ThreadMemory<'_>,
        mut kept: ThreadState,
    ) -> Result<Sent, Sent> {
        let id = &message.id.0;
        let before = match &kept.begun {
            Some((begun, since)) if begun == id => {
                self.find_if_allowed(id, *since, None, message.now).await?
            }
            _ => None,
        };
        let first = match before {
            Some(first) => first,
            None => {
                kept = ThreadState {
                    begun: Some((id.clone(), message.now.as_second())),
                    ..ThreadState::default()
                };
                put(memory, &kept).await?;
                let more =
                    json!({ "channel": self.conversation, "metadata": Self::metadata(message) });
                let said =
                    self.say("chat.postMessage", blocks::render(message), &more, message).await;
                let said = said.map_err(Sent::from)?;
                let text = |key: &str| said[key].as_str().map(str::to_owned);
                let Some(ts) = text("ts") else {
                    // It is there, and can be neither changed nor answered to.
                    return Ok(Sent::Delivered { receipt: "ok, without a time stamp".to_owned() });
                };
                let channel = text("channel").unwrap_or_else(|| self.conversation.clone());
                First { channel, ts, delivery: id.clone() }
            }
        };
        let receipt = format!("{} {}", first.channel, first.ts);
        let kept = ThreadState { first: Some(first), begun: None, posted: Some(id.clone()) };
        put(memory, &kept).await?;
        Ok(Sent::Delivered { receipt })
    }

    /// Brings the first message up to date and says below it what is new.
    async fn go_on(
        &self,
        message: &Message<'_>,
        memory: &ThreadMemory<'_>,
        mut kept: ThreadState,
        first: First,
    ) -> Result<Sent, Sent> {
        let id = &message.id.0;
        let receipt = format!("{} {}", first.channel, first.ts);
        if kept.posted.as_ref() == Some(id) {
            return Ok(Sent::Delivered { receipt });
        }
        let more = json!({ "channel": first.channel, "ts": first.ts,
            "metadata": Self::metadata_of(&first, message) });
        match self.say("chat.update", blocks::render(message), &more, message).await {
            Err(CallError::Slack(word, _)) if is_gone(&word) => {
                return self.begin(message, memory, ThreadState::default()).await;
            }
            Err(failed) => return Err(failed.into()),
            Ok(_) => {}
        }
        let before = match &kept.begun {
            Some((begun, since)) if begun == id => {
                self.find_if_allowed(id, *since, Some(&first), message.now).await?
            }
            _ => None,
        };
        if before.is_none() {
            kept.begun = Some((id.clone(), message.now.as_second()));
            put(memory, &kept).await?;
            let is_loud = matches!(
                message.alert.kind,
                AlertKind::Escalated { .. }
                    | AlertKind::OutsideWindow { .. }
                    | AlertKind::Continued
            );
            let more = json!({ "channel": first.channel, "thread_ts": first.ts,
                "reply_broadcast": is_loud, "metadata": Self::metadata(message) });
            let reply = blocks::render_reply(message);
            match self.say("chat.postMessage", reply, &more, message).await {
                Err(CallError::Slack(word, _)) if is_gone(&word) => {
                    return self.begin(message, memory, ThreadState::default()).await;
                }
                Err(failed) => return Err(failed.into()),
                Ok(_) => {}
            }
        }
        let kept = ThreadState { first: Some(first), begun: None, posted: Some(id.clone()) };
        put(memory, &kept).await?;
        Ok(Sent::Delivered { receipt })
    }

    /// The metadata that the first message had when it was posted: an update replaces them.
    fn metadata_of(first: &First, message: &Message<'_>) -> Value {
        let payload = json!({ "delivery": first.delivery, "thread": message.thread });
        json!({ "event_type": EVENT_TYPE, "event_payload": payload })
    }
}

async fn put(memory: &ThreadMemory<'_>, kept: &ThreadState) -> Result<(), Sent> {
    memory.put(&serde_json::to_string(kept).unwrap_or_default()).await
}

#[async_trait]
impl Channel for Bot {
    async fn send(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Sent {
        let kept = match memory.get().await {
            Ok(kept) => kept,
            Err(sent) => return sent,
        };
        let mut kept: ThreadState =
            kept.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        // The next outage of a destination is not to change the message about the last one.
        let begins = matches!(message.alert.kind, AlertKind::DeliveryFailing { .. });
        if begins && kept.first.as_ref().is_some_and(|first| first.delivery != message.id.0) {
            kept.first = None;
        }
        let done = match kept.first.clone() {
            Some(first) => self.go_on(message, memory, kept, first).await,
            None => self.begin(message, memory, kept).await,
        };
        done.unwrap_or_else(|sent| sent)
    }

    async fn probe(&self, now: Timestamp) -> Sent {
        if let Err(failed) = self.change("auth.test", &json!({}), now).await {
            return failed.into();
        }
        let arguments = [("channel", self.conversation.as_str())];
        match self.read("conversations.info", &arguments, now).await {
            Ok(read) if read["channel"]["is_archived"] == true => {
                Sent::Misconfigured { error: "the conversation is archived".to_owned() }
            }
            Ok(read) if read["channel"]["is_member"] == false => {
                let error = "the app is not in the conversation: `/invite` it".to_owned();
                Sent::Misconfigured { error }
            }
            Ok(_) => Sent::Delivered { receipt: "the app is in the conversation".to_owned() },
            Err(CallError::Slack(word, _)) if word == "missing_scope" => {
                let receipt = "the token is good; without the scope `channels:read` nobody can tell \
                               whether the app is in the conversation";
                Sent::Delivered { receipt: receipt.to_owned() }
            }
            Err(failed) => failed.into(),
        }
    }
}
