//! `POST /v1/sns`: HTTPS subscriptions of SNS topics.
//!
//! SNS sends no token: what it posts is believed because of its signature. Everything is checked
//! before anything is fetched, a certificate is fetched only from SNS itself, and a message changes
//! something only when its topic, time, certificate and signature are right.
//!
//! Status codes are SNS's protocol: after 4xx it gives a message up (to the subscription's
//! dead-letter queue, if there is one), after 429 and 5xx it sends it again, for up to an hour.

mod certificate;
mod verify;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, redirect};
use rootwatch_core::alert::Clock;
use rootwatch_engine::{EngineHandle, IngestError, IntakeOutcome, RecordSource};
use rootwatch_store::{Notes, StoreError};
use tokio::sync::Semaphore;

use self::certificate::Certificate;
pub use self::verify::Hosts;
use self::verify::{Fault, SnsEnvelope, SnsMessage, SnsMessageKind, TopicLocation};
use crate::metrics;

/// The name of this endpoint in metrics, and of its records' source.
pub(crate) const ENDPOINT: &str = "sns";
/// The path of this endpoint.
pub(crate) const PATH: &str = "/v1/sns";
/// Seconds for a fetch, and for waiting for its turn. SNS waits 15 for the response.
const FETCH_SECS_MAX: u64 = 5;
/// Concurrent fetches: anybody who knows a topic can cause them.
const FETCHES_MAX: usize = 4;
/// Largest certificate file or response to a confirmation, in bytes.
const FETCH_BYTES_MAX: usize = 64 << 10;
/// Certificates in memory.
const CERTIFICATES_MAX: usize = 16;
/// Hours after which a certificate is fetched again.
const CERTIFICATE_HOURS_MAX: i64 = 24;
/// Seconds after which SNS should retry when a fetch or the store fails.
const RETRY_SECS: u64 = 5;
/// Characters of a text by others in a log line.
const SHOWN_LETTERS_MAX: usize = 160;

/// Verifies messages of SNS and hands their records to the engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sns {
    inner: Arc<Inner>,
    hosts: Hosts,
}

#[derive(Debug)]
struct Inner {
    topics: HashMap<String, TopicLocation>,
    engine: EngineHandle,
    store: Arc<dyn Notes>,
    clock: Arc<dyn Clock>,
    client: Client,
    fetches: Semaphore,
    /// By URL, with the time at which they were fetched.
    certificates: Mutex<HashMap<String, (Timestamp, Arc<Certificate>)>>,
}

/// The response to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnsAnswer {
    /// 200 when everything is done and on disk.
    pub status: StatusCode,
    /// Public text.
    pub text: String,
    /// Seconds to wait before a retry.
    pub retry_after_secs: Option<u64>,
    /// For the log, not for the sender.
    pub internal: Option<String>,
}

impl SnsAnswer {
    fn done(text: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, text: text.into(), retry_after_secs: None, internal: None }
    }
}

/// Why a message is refused. Nothing of it was saved. Texts follow the rules of [`crate::problem`].
#[derive(Debug)]
struct Refusal {
    reason: &'static str,
    answer: SnsAnswer,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        let answer =
            SnsAnswer { status, text: text.into(), retry_after_secs: None, internal: None };
        Self { reason, answer }
    }

    fn later(reason: &'static str, text: impl Into<String>, secs: u64) -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, text);
        refusal.answer.retry_after_secs = Some(secs);
        refusal
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status =
            if fault.is_distrust { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
        Self::new(status, fault.reason, fault.text)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        // The store's own text may hold paths.
        let mut refusal = Self::later("store", "the store is unavailable", RETRY_SECS);
        refusal.answer.internal = Some(error.to_string());
        refusal
    }
}

impl From<IngestError> for Refusal {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Busy { retry_after_secs } => {
                Self::later("busy", error.to_string(), retry_after_secs)
            }
            IngestError::Store(error) => error.into(),
            IngestError::Closing => Self::later("closing", error.to_string(), RETRY_SECS),
            IngestError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string())
            }
            IngestError::Damaged { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "damaged", error.to_string())
            }
        }
    }
}

impl Sns {
    /// An endpoint for these topics; without any it is disabled. A topic that is not an ARN of SNS is
    /// logged as an error and ignored.
    ///
    /// # Errors
    /// In words: this system's roots of trust cannot be read.
    pub fn new(
        topics: &[String],
        engine: EngineHandle,
        store: Arc<dyn Notes>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        // That only https is spoken is in the hosts: a URL is compared with the whole source.
        let client = Client::builder()
            .tls_backend_preconfigured(rootwatch_notify::tls()?)
            .user_agent(concat!("rootwatch/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .timeout(Duration::from_secs(FETCH_SECS_MAX))
            .build()
            .map_err(causes)?;
        let mut topics_by_arn = HashMap::new();
        for topic in topics {
            match TopicLocation::of(topic) {
                Some(place) => {
                    topics_by_arn.insert(topic.clone(), place);
                }
                None => {
                    tracing::error!(%topic, "not the ARN of an SNS topic: its messages are refused");
                }
            }
        }
        let inner = Inner {
            topics: topics_by_arn,
            engine,
            store,
            clock,
            client,
            fetches: Semaphore::new(FETCHES_MAX),
            certificates: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), hosts: Hosts::default() })
    }

    /// For tests alone: which hosts certificates and confirmations may come from.
    #[doc(hidden)]
    #[must_use]
    pub fn with_hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// True if no topic is configured.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.inner.topics.is_empty()
    }

    /// Takes one request's body. The size of it is the caller's to bound.
    pub async fn take(&self, body: Bytes) -> SnsAnswer {
        match self.decide(&body).await {
            Ok(text) => SnsAnswer::done(text),
            Err(refusal) => {
                metrics::refused(ENDPOINT, refusal.reason);
                tracing::debug!(reason = refusal.reason, "SNS message refused");
                refusal.answer
            }
        }
    }

    async fn decide(&self, body: &[u8]) -> Result<String, Refusal> {
        if self.is_disabled() {
            let text = "no SNS topic is configured (`source.sns.topics`)";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "shut", text));
        }
        let envelope = open(body)?;
        let topic = envelope.topic_arn.clone().unwrap_or_default();
        let Some(place) = self.inner.topics.get(&topic) else {
            tracing::warn!(topic = %shown(&topic), "message of a topic that is not configured refused");
            let text = "`TopicArn` is not a configured topic";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "topic", text));
        };
        let message = SnsMessage::read(envelope, topic)?;
        self.check(&message, place).await.inspect_err(|refusal| {
            tracing::warn!(
                topic = %message.topic,
                id = %message.id,
                certificate = %shown(&message.certificate_url),
                reason = refusal.reason,
                "message refused that claims to be from SNS: {}",
                refusal.answer.text
            );
        })?;

        let seen = format!("seen:sns:{}:{}", message.topic, message.id);
        if self.inner.store.note(&seen).await?.is_some() {
            return Ok("already known".to_owned());
        }
        let text = match &message.kind {
            SnsMessageKind::Notification { .. } => self.notification(&message).await?,
            SnsMessageKind::Subscribed { url, token } => {
                self.hosts.check_confirmation_url(url, place, &message.topic, token).inspect_err(
                    |_| {
                        tracing::warn!(
                            topic = %message.topic,
                            url = %shown(url),
                            "subscription not confirmed: its URL is not one of SNS"
                        );
                    },
                )?;
                self.confirm(url, &message.topic).await?
            }
            SnsMessageKind::Unsubscribed { .. } => {
                // Subscribing again would overrule the operator who unsubscribed.
                tracing::warn!(topic = %message.topic, "this hub was unsubscribed from the topic: it gets no more records from it");
                "noted: this hub is unsubscribed and does not subscribe again by itself".to_owned()
            }
        };
        // Everything is on disk. Without this note a repeated message is handled again, which is harmless:
        // findings are recognized by their ids.
        if let Err(error) = self.inner.store.put_note(&seen, Some("done")).await {
            tracing::warn!(%error, "cannot note the id of a handled message");
        }
        Ok(text)
    }

    /// Checks that SNS sent this message, for its topic, recently. Cheap checks first.
    async fn check(&self, message: &SnsMessage, place: &TopicLocation) -> Result<(), Refusal> {
        self.hosts.check_certificate_url(&message.certificate_url, place)?;
        let now = self.inner.clock.now();
        message.check_time(now)?;
        let certificate = self.certificate(&message.certificate_url, place, now).await?;
        certificate.check(place, now)?;
        certificate.verify(message)?;
        Ok(())
    }

    async fn notification(&self, message: &SnsMessage) -> Result<String, Refusal> {
        let source = RecordSource::live(ENDPOINT);
        let text = Bytes::from(message.message.clone());
        let outcomes = self.inner.engine.take(&source, text).await?;
        if outcomes.iter().all(|outcome| matches!(outcome, IntakeOutcome::Skipped { .. })) {
            // If refused, SNS would send the same text again or treat the endpoint as broken. It is
            // accepted and logged once instead.
            metrics::refused(ENDPOINT, "nothing_decodable");
            let why = outcomes.iter().find_map(|outcome| match outcome {
                IntakeOutcome::Skipped { reason, .. } => Some(shown(reason)),
                _ => None,
            });
            tracing::warn!(
                topic = %message.topic,
                id = %message.id,
                why = why.as_deref().unwrap_or("it is empty"),
                "the message holds no record: check what publishes to this topic"
            );
            return Ok("accepted, but `Message` holds no record".to_owned());
        }
        let count = |is: fn(&IntakeOutcome) -> bool| outcomes.iter().filter(|one| is(one)).count();
        let saved = count(|one| matches!(one, IntakeOutcome::Saved { .. }));
        let known = count(|one| matches!(one, IntakeOutcome::Known));
        if let [IntakeOutcome::Drill { .. }] = &outcomes[..] {
            return Ok("accepted: a drill, a test alert is enqueued".to_owned());
        }
        let others = outcomes.len() - saved - known;
        Ok(format!("accepted: {saved} saved, {known} already known, {others} others"))
    }

    async fn confirm(&self, url: &str, topic: &str) -> Result<String, Refusal> {
        match self.fetch(url).await {
            Ok(_) => {
                tracing::info!(%topic, "the subscription is confirmed");
                Ok("the subscription is confirmed".to_owned())
            }
            Err(FetchError::Busy) => Err(busy()),
            Err(FetchError::Failed(why)) => {
                tracing::warn!(%topic, why = %shown(&why), "cannot confirm the subscription");
                let text = "SNS did not confirm the subscription; the hub's log says why";
                Err(Refusal::new(StatusCode::BAD_GATEWAY, "confirmation", text))
            }
        }
    }

    /// The certificate of a URL that was checked, from memory or from SNS.
    async fn certificate(
        &self,
        url: &str,
        place: &TopicLocation,
        now: Timestamp,
    ) -> Result<Arc<Certificate>, Refusal> {
        if let Some(known) = self.known(url, now) {
            return Ok(known);
        }
        let pem = match self.fetch_unless(url, || self.known(url, now)).await {
            Ok(Fetched::Known(known)) => return Ok(known),
            Ok(Fetched::Bytes(pem)) => pem,
            Err(FetchError::Busy) => return Err(busy()),
            Err(FetchError::Failed(why)) => {
                tracing::warn!(url = %shown(url), why = %shown(&why), "cannot fetch the signing certificate");
                let text = "the signing certificate could not be fetched";
                return Err(Refusal::later("certificate_unreachable", text, RETRY_SECS));
            }
        };
        let certificate = Certificate::read(&pem).map(Arc::new).map_err(|why| {
            let text = format!("the signing certificate cannot be used: {why}");
            Refusal::new(StatusCode::FORBIDDEN, "certificate", text)
        })?;
        // Only a certificate that is valid now is kept.
        certificate.check(place, now)?;
        let mut held = self.inner.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= CERTIFICATES_MAX
            && !held.contains_key(url)
            && let Some(oldest) =
                held.iter().min_by_key(|(_, (at, _))| *at).map(|(url, _)| url.clone())
        {
            held.remove(&oldest);
        }
        held.insert(url.to_owned(), (now, Arc::clone(&certificate)));
        Ok(certificate)
    }

    fn known(&self, url: &str, now: Timestamp) -> Option<Arc<Certificate>> {
        let held = self.inner.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, certificate) = held.get(url)?;
        let is_fresh =
            now.duration_since(*at).abs() < SignedDuration::from_hours(CERTIFICATE_HOURS_MAX);
        is_fresh.then(|| Arc::clone(certificate))
    }

    async fn fetch(&self, url: &str) -> Result<(), FetchError> {
        self.fetch_unless(url, || None).await.map(drop)
    }

    /// Gets a URL that was checked, unless it is known when its turn comes.
    async fn fetch_unless(
        &self,
        url: &str,
        known: impl Fn() -> Option<Arc<Certificate>>,
    ) -> Result<Fetched, FetchError> {
        let turn = self.inner.fetches.acquire();
        let turn = tokio::time::timeout(Duration::from_secs(FETCH_SECS_MAX), turn).await;
        let Ok(Ok(_turn)) = turn else { return Err(FetchError::Busy) };
        if let Some(known) = known() {
            return Ok(Fetched::Known(known));
        }
        let failed = |error: reqwest::Error| FetchError::Failed(causes(error));
        let mut response = self.inner.client.get(url).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Failed(format!("it answered {}", response.status().as_u16())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > FETCH_BYTES_MAX {
                let why = format!("it answered with more than {FETCH_BYTES_MAX} bytes");
                return Err(FetchError::Failed(why));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched::Bytes(bytes))
    }
}

enum Fetched {
    Bytes(Vec<u8>),
    Known(Arc<Certificate>),
}

enum FetchError {
    /// Too many fetches wait.
    Busy,
    /// Internal text.
    Failed(String),
}

fn busy() -> Refusal {
    Refusal::later("busy", "too many fetches from SNS are in progress", RETRY_SECS)
}

/// An error of a fetch with its causes, without the URL.
fn causes(error: reqwest::Error) -> String {
    rootwatch_core::error_chain::joined(&error.without_url())
}

/// A text by others, shortened and escaped for a log line.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_LETTERS_MAX).flat_map(char::escape_default).collect()
}

/// Reads an envelope. A message without one was delivered raw or is not from SNS.
fn open(body: &[u8]) -> Result<SnsEnvelope, Refusal> {
    let raw = || {
        let text = "not an SNS message envelope; if raw message delivery is on, turn it off for this \
                    subscription: raw messages are unsigned";
        Refusal::new(StatusCode::BAD_REQUEST, "raw", text)
    };
    let is_object =
        body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'{');
    if !is_object {
        return Err(raw());
    }
    let envelope: SnsEnvelope = serde_json::from_slice(body).map_err(|error| {
        let text = format!(
            "the message is not JSON as SNS writes it (line {}, column {})",
            error.line(),
            error.column()
        );
        Refusal::new(StatusCode::BAD_REQUEST, "malformed", text)
    })?;
    if envelope.topic_arn.is_none() && envelope.signature.is_none() {
        return Err(raw());
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_delivery_and_broken_messages_have_different_reasons() {
        for raw in ["", "hello", "[]", r#"{"source":"aws.iam","detail":{}}"#] {
            let refusal = open(raw.as_bytes()).expect_err("raw");
            assert_eq!(refusal.reason, "raw", "{raw}");
            assert!(refusal.answer.text.contains("turn it off"), "{raw}");
        }
        for broken in ["{", r#"{"Type":1}"#, r#"{"TopicArn":"a","TopicArn":"b"}"#] {
            assert_eq!(
                open(broken.as_bytes()).expect_err("broken").reason,
                "malformed",
                "{broken}"
            );
        }
    }

    #[test]
    fn texts_by_others_are_short_and_on_one_line_in_logs() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(1_000)).len(), SHOWN_LETTERS_MAX);
    }
}
