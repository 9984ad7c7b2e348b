//! `POST /v1/sns`: HTTPS subscriptions of SNS topics.
//!
//! SNS sends no token: what it posts is believed because of its signature. Everything is checked
//! before anything is fetched, a certificate is fetched only from SNS itself, and a message changes
//! something only when its topic, time, certificate and signature are right.
//!
//! Status codes are SNS's protocol: after 4xx it gives a message up (to the subscription's
//! dead-letter queue, if there is one), after 429 and 5xx it sends it again, for up to an hour.

mod verify;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, redirect};
use rootwatch_core::alert::Clock;
use rootwatch_engine::{Ingest, IngestError, Origin, Outcome};
use rootwatch_store::{Notes, StoreError};
use tokio::sync::Semaphore;

pub use self::verify::Hosts;
use self::verify::{Certificate, Envelope, Fault, Kind, Message, Place};
use crate::metrics;

/// This door's name in metrics, and of its records' source.
pub(crate) const DOOR: &str = "sns";
/// Where it is.
pub(crate) const PATH: &str = "/v1/sns";
/// Seconds that a fetch may take, and wait for its turn. SNS itself waits 15 for the answer.
const FETCH_SECS_MAX: u64 = 5;
/// Fetches at one time at most: whoever knows a topic can ask for them.
const FETCHES_MAX: usize = 4;
/// Bytes of a certificate file, or of the answer to a confirmation, at most.
const FETCH_BYTES_MAX: usize = 64 << 10;
/// Certificates in memory at most.
const CERTIFICATES_MAX: usize = 16;
/// Hours after which a certificate is fetched again.
const CERTIFICATE_HOURS_MAX: i64 = 24;
/// Seconds after which SNS is asked to come again when a fetch or the store did not work.
const RETRY_SECS: u64 = 5;
/// Letters of a text by others in a log line at most.
const SHOWN_LETTERS_MAX: usize = 160;

/// The door for SNS; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sns {
    inner: Arc<Inner>,
    hosts: Hosts,
}

#[derive(Debug)]
struct Inner {
    topics: HashMap<String, Place>,
    ingest: Ingest,
    store: Arc<dyn Notes>,
    clock: Arc<dyn Clock>,
    client: Client,
    fetches: Semaphore,
    /// By URL, with the time at which they were fetched.
    certificates: Mutex<HashMap<String, (Timestamp, Arc<Certificate>)>>,
}

/// What a message is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnsAnswer {
    /// 200 when all that had to be done is done, and on disk.
    pub status: StatusCode,
    /// Public words.
    pub text: String,
    /// When to come again, in seconds.
    pub retry_after_secs: Option<u64>,
}

impl SnsAnswer {
    fn done(text: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, text: text.into(), retry_after_secs: None }
    }
}

/// Why a message is not taken. Nothing was kept of it.
#[derive(Debug)]
struct Refusal {
    reason: &'static str,
    answer: SnsAnswer,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        let answer = SnsAnswer { status, text: text.into(), retry_after_secs: None };
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
        // What the store says may hold paths: it goes to the log.
        tracing::error!(%error, "a message of SNS found the store out of order");
        Self::later("store", "the store cannot be used now", RETRY_SECS)
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
    /// A door for these topics; without any it is shut. A topic that is no ARN of SNS is reported
    /// in the log and listened to by nobody.
    ///
    /// # Errors
    /// In words: this system's roots of trust cannot be read.
    pub fn new(
        topics: &[String],
        ingest: Ingest,
        store: Arc<dyn Notes>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        // That only https is spoken is in the hosts: a URL is compared with the whole origin.
        let client = Client::builder()
            .tls_backend_preconfigured(rootwatch_notify::tls()?)
            .user_agent(concat!("rootwatch/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .timeout(Duration::from_secs(FETCH_SECS_MAX))
            .build()
            .map_err(causes)?;
        let mut places = HashMap::new();
        for topic in topics {
            match Place::of(topic) {
                Some(place) => {
                    places.insert(topic.clone(), place);
                }
                None => tracing::error!(%topic, "this is no ARN of an SNS topic"),
            }
        }
        let inner = Inner {
            topics: places,
            ingest,
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

    /// True without a topic.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.inner.topics.is_empty()
    }

    /// Takes one request's body. The size of it is the caller's to bound.
    pub async fn take(&self, body: Bytes) -> SnsAnswer {
        match self.decide(&body).await {
            Ok(text) => SnsAnswer::done(text),
            Err(refusal) => {
                metrics::refused(DOOR, refusal.reason);
                tracing::debug!(reason = refusal.reason, "a message of SNS was refused");
                refusal.answer
            }
        }
    }

    async fn decide(&self, body: &[u8]) -> Result<String, Refusal> {
        if self.is_shut() {
            let text = "this hub listens to no SNS topic: its configuration names none";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "shut", text));
        }
        let envelope = open(body)?;
        let topic = envelope.topic_arn.clone().unwrap_or_default();
        let Some(place) = self.inner.topics.get(&topic) else {
            tracing::warn!(topic = %shown(&topic), "a message of a topic that is not listened to");
            let text = "`TopicArn` is not one that this hub listens to";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "topic", text));
        };
        let message = Message::read(envelope, topic)?;
        self.check(&message, place).await.inspect_err(|refusal| {
            tracing::warn!(
                topic = %message.topic,
                id = %message.id,
                certificate = %shown(&message.certificate_url),
                reason = refusal.reason,
                "a message was refused that says it is SNS's: {}",
                refusal.answer.text
            );
        })?;

        let seen = format!("seen:sns:{}:{}", message.topic, message.id);
        if self.inner.store.note(&seen).await?.is_some() {
            return Ok("known already".to_owned());
        }
        let text = match &message.kind {
            Kind::Notification { .. } => self.notification(&message).await?,
            Kind::Subscribed { url, token } => {
                self.hosts.check_confirmation_url(url, place, &message.topic, token).inspect_err(
                    |_| {
                        tracing::warn!(
                            topic = %message.topic,
                            url = %shown(url),
                            "a subscription was not confirmed: its URL is not SNS's"
                        );
                    },
                )?;
                self.confirm(url, &message.topic).await?
            }
            Kind::Unsubscribed { .. } => {
                // To subscribe again would be to overrule whoever did it; that nothing comes any
                // more is theirs to know.
                tracing::warn!(topic = %message.topic, "somebody unsubscribed this hub from the topic");
                "noted: this hub is unsubscribed, and does not subscribe again by itself".to_owned()
            }
        };
        // All is done and on disk by now. Were this note lost, the message would be done again,
        // which is harmless: findings are known by their ids.
        if let Err(error) = self.inner.store.put_note(&seen, Some("done")).await {
            tracing::warn!(%error, "a message's id could not be noted");
        }
        Ok(text)
    }

    /// Whether SNS sent this, for its topic, lately. What costs nothing comes first.
    async fn check(&self, message: &Message, place: &Place) -> Result<(), Refusal> {
        self.hosts.check_certificate_url(&message.certificate_url, place)?;
        let now = self.inner.clock.now();
        message.check_time(now)?;
        let certificate = self.certificate(&message.certificate_url, place, now).await?;
        certificate.check(place, now)?;
        certificate.verify(message)?;
        Ok(())
    }

    async fn notification(&self, message: &Message) -> Result<String, Refusal> {
        let origin = Origin::live(DOOR);
        let text = Bytes::from(message.message.clone());
        let outcomes = self.inner.ingest.take(&origin, text).await?;
        if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Skipped { .. })) {
            // A refusal would have SNS send the same text again, or count this endpoint as broken,
            // and the text would be no better: it is looked at once, by a person.
            metrics::refused(DOOR, "nothing_decodable");
            let why = outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Skipped { reason, .. } => Some(shown(reason)),
                _ => None,
            });
            tracing::warn!(
                topic = %message.topic,
                id = %message.id,
                why = why.as_deref().unwrap_or("it is empty"),
                "a message holds no record: is this topic for records?"
            );
            return Ok("taken, but nothing in `Message` is a record".to_owned());
        }
        let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|one| is(one)).count();
        let saved = count(|one| matches!(one, Outcome::Saved { .. }));
        let known = count(|one| matches!(one, Outcome::Known));
        if let [Outcome::Drill { .. }] = &outcomes[..] {
            return Ok("taken: a drill, of which people are told".to_owned());
        }
        let others = outcomes.len() - saved - known;
        Ok(format!("taken: {saved} saved, {known} known already, {others} others"))
    }

    async fn confirm(&self, url: &str, topic: &str) -> Result<String, Refusal> {
        match self.fetch(url).await {
            Ok(_) => {
                tracing::info!(%topic, "the subscription is confirmed");
                Ok("the subscription is confirmed".to_owned())
            }
            Err(Unfetched::Busy) => Err(busy()),
            Err(Unfetched::Failed(why)) => {
                tracing::warn!(%topic, why = %shown(&why), "a subscription could not be confirmed");
                let text = "SNS did not confirm the subscription; the hub's log says why";
                Err(Refusal::new(StatusCode::BAD_GATEWAY, "confirmation", text))
            }
        }
    }

    /// The certificate of a URL that was checked, from memory or from SNS.
    async fn certificate(
        &self,
        url: &str,
        place: &Place,
        now: Timestamp,
    ) -> Result<Arc<Certificate>, Refusal> {
        if let Some(known) = self.known(url, now) {
            return Ok(known);
        }
        let pem = match self.fetch_unless(url, || self.known(url, now)).await {
            Ok(Fetched::Known(known)) => return Ok(known),
            Ok(Fetched::Bytes(pem)) => pem,
            Err(Unfetched::Busy) => return Err(busy()),
            Err(Unfetched::Failed(why)) => {
                tracing::warn!(url = %shown(url), why = %shown(&why), "no signing certificate");
                let text = "the signing certificate could not be fetched";
                return Err(Refusal::later("certificate_unreachable", text, RETRY_SECS));
            }
        };
        let certificate = Certificate::read(&pem).map(Arc::new).map_err(|why| {
            let text = format!("the signing certificate cannot be used: {why}");
            Refusal::new(StatusCode::FORBIDDEN, "certificate", text)
        })?;
        // Only what is good now is worth its place.
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

    async fn fetch(&self, url: &str) -> Result<(), Unfetched> {
        self.fetch_unless(url, || None).await.map(drop)
    }

    /// Gets a URL that was checked, unless it is known when its turn comes.
    async fn fetch_unless(
        &self,
        url: &str,
        known: impl Fn() -> Option<Arc<Certificate>>,
    ) -> Result<Fetched, Unfetched> {
        let turn = self.inner.fetches.acquire();
        let turn = tokio::time::timeout(Duration::from_secs(FETCH_SECS_MAX), turn).await;
        let Ok(Ok(_turn)) = turn else { return Err(Unfetched::Busy) };
        if let Some(known) = known() {
            return Ok(Fetched::Known(known));
        }
        let failed = |error: reqwest::Error| Unfetched::Failed(causes(error));
        let mut response = self.inner.client.get(url).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(Unfetched::Failed(format!("it answered {}", response.status().as_u16())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > FETCH_BYTES_MAX {
                let why = format!("it answered with more than {FETCH_BYTES_MAX} bytes");
                return Err(Unfetched::Failed(why));
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

enum Unfetched {
    /// Too many others wait.
    Busy,
    /// Private words.
    Failed(String),
}

fn busy() -> Refusal {
    Refusal::later("busy", "too much is being fetched from SNS already", RETRY_SECS)
}

/// An error of a fetch with its causes, without the URL.
fn causes(error: reqwest::Error) -> String {
    rootwatch_core::error_chain::joined(&error.without_url())
}

/// A text by others, for a log line.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_LETTERS_MAX).flat_map(char::escape_default).collect()
}

/// Reads an envelope. What has none was delivered raw, or is not SNS's.
fn open(body: &[u8]) -> Result<Envelope, Refusal> {
    let raw = || {
        let text = "this is no message of SNS. If raw message delivery is on, switch it off for \
                    this subscription: raw messages have no signature";
        Refusal::new(StatusCode::BAD_REQUEST, "raw", text)
    };
    let is_object =
        body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte == b'{');
    if !is_object {
        return Err(raw());
    }
    let envelope: Envelope = serde_json::from_slice(body).map_err(|error| {
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
    fn what_was_delivered_raw_is_told_apart_from_what_is_broken() {
        for raw in ["", "hello", "[]", r#"{"source":"aws.iam","detail":{}}"#] {
            let refusal = open(raw.as_bytes()).expect_err("raw");
            assert_eq!(refusal.reason, "raw", "{raw}");
            assert!(refusal.answer.text.contains("switch it off"), "{raw}");
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
    fn what_others_wrote_is_short_and_on_one_line_in_logs() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(1_000)).len(), SHOWN_LETTERS_MAX);
    }
}
