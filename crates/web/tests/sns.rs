//! The endpoint for SNS, with the real engine and store, a signing key of the tests' own, and a loopback
//! server that stands for SNS.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::SignedDuration;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rootwatch_core::alert::Clock;
use rootwatch_core::rules::Ruleset;
use rootwatch_engine::clock::ManualClock;
use rootwatch_engine::{Engine, EngineParts, EngineSettings, Trust};
use rootwatch_notify::{Notifier, NotifyConfig};
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{FindingFilter, PageRequest, Store};
use rootwatch_web::{Hosts, Sns, SnsAnswer};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

const TOPIC: &str = "arn:aws:sns:eu-central-1:222233334444:root-events";
const NOW: &str = "2026-05-04T14:00:10Z";

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sns");
    std::fs::read(folder.join(name)).expect("a fixture")
}

/// What stands for SNS, and what it was asked for.
#[derive(Debug, Default)]
struct Standin {
    certificates: AtomicUsize,
    confirmations: Mutex<Vec<String>>,
    fails: AtomicUsize,
}

impl Standin {
    async fn start(self: &Arc<Self>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("an address").port();
        let (serves, asked) = (Arc::clone(self), Arc::clone(self));
        let fails = Arc::clone(self);
        let router = Router::new()
            .route(
                "/cert.pem",
                get(move || async move {
                    serves.certificates.fetch_add(1, Ordering::SeqCst);
                    fixture("cert.pem")
                }),
            )
            .route("/stranger.pem", get(|| async { fixture("stranger.pem") }))
            .route("/large.pem", get(|| async { vec![b'x'; 100 << 10] }))
            .route("/moved.pem", get(|| async { axum::response::Redirect::temporary("/cert.pem") }))
            .route(
                "/",
                get(move |RawQuery(query): RawQuery| async move {
                    if fails.fails.load(Ordering::SeqCst) > 0 {
                        fails.fails.fetch_sub(1, Ordering::SeqCst);
                        return StatusCode::INTERNAL_SERVER_ERROR;
                    }
                    let mut confirmations = asked.confirmations.lock().expect("no panic");
                    confirmations.push(query.unwrap_or_default());
                    StatusCode::OK
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }
}

/// A hub as far as this endpoint needs it.
struct Bench {
    sns: Sns,
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    standin: Arc<Standin>,
    port: u16,
    key: KeyPair,
    /// Ends the engine when it is dropped.
    shutdown: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with_topics(&[TOPIC]).await
    }

    async fn with_topics(topics: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path: PathBuf = folder.path().join("hub.db");
        let store = SqliteStore::open(&SqliteOptions::at(path)).expect("a store");
        let store: Arc<dyn Store> = Arc::new(store);
        let clock = Arc::new(ManualClock::at(NOW.parse().expect("a time")));
        let shared: Arc<dyn Clock> = clock.clone();
        let config = NotifyConfig::default();
        let notifier = Notifier::new(&config, &|_| Err("no secrets".to_owned()), shared.clone());
        let parts = EngineParts {
            store: Arc::clone(&store),
            rules: Arc::new(Ruleset::built_in()),
            notifier: Arc::new(notifier.expect("a notifier")),
            clock: shared.clone(),
            wake: Arc::new(Notify::new()),
        };
        let settings = EngineSettings {
            queue_requests_max: 64,
            queue_bytes_max: 8 << 20,
            body_bytes_max: 1 << 20,
            memory_days: 3,
            quiet_after_secs: 3_600,
            retention_days: 365,
            digest: config.digest.clone(),
            accounts: Default::default(),
            windows: Vec::new(),
            trust: Trust::default(),
            ticks: true,
        };
        let (engine, ingest) = Engine::new(parts, settings).await.expect("an engine");
        let (shutdown, asked) = watch::channel(false);
        tokio::spawn(engine.run(asked));
        let standin = Arc::new(Standin::default());
        let port = standin.start().await;
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let sns = Sns::new(&topics, ingest, store.clone(), shared).expect("a client");
        let sns = sns.with_hosts(Hosts::loopback(port));
        let key = KeyPair::from_pkcs8(&fixture("key.pk8")).expect("a key");
        Self { sns, store, clock, standin, port, key, shutdown, _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Signs as SNS does in version 2.
    fn sign(&self, message: &mut Map<String, Value>) {
        let kind = message["Type"].as_str().expect("a kind");
        let names: &[&str] = match kind {
            "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
            _ => {
                &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
            }
        };
        let mut text = String::new();
        for name in names {
            if let Some(value) = message.get(*name).and_then(Value::as_str) {
                text.push_str(&format!("{name}\n{value}\n"));
            }
        }
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("a signature");
        message.insert("Signature".to_owned(), STANDARD.encode(signature).into());
    }

    /// A good notification with one record, before it is signed.
    fn unsigned(&self, id: &str, text: &str) -> Map<String, Value> {
        let message = json!({
            "Type": "Notification", "MessageId": id, "TopicArn": TOPIC, "Message": text,
            "Timestamp": self.clock.now().to_string(), "SignatureVersion": "2",
            "SigningCertURL": self.url("cert.pem"),
        });
        message.as_object().expect("an object").clone()
    }

    fn notification(&self, id: &str, text: &str) -> Map<String, Value> {
        let mut message = self.unsigned(id, text);
        self.sign(&mut message);
        message
    }

    fn confirmation(&self, kind: &str, id: &str, url: &str) -> Map<String, Value> {
        let mut message = self.unsigned(id, "You have chosen to subscribe to the topic.");
        message.insert("Type".to_owned(), kind.into());
        message.insert("Token".to_owned(), "t0".into());
        message.insert("SubscribeURL".to_owned(), url.into());
        self.sign(&mut message);
        message
    }

    fn confirmation_url(&self) -> String {
        self.url(&format!("?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t0"))
    }

    async fn take(&self, message: &Map<String, Value>) -> SnsAnswer {
        self.sns.take(Bytes::from(serde_json::to_vec(message).expect("JSON"))).await
    }

    /// Ids of the records that are on disk.
    async fn saved(&self) -> Vec<String> {
        let page = PageRequest { items_max: 500, after: None };
        let found = self.store.findings(&FindingFilter::default(), &page).await.expect("a store");
        let ids = found.items.iter().filter_map(|item| item.finding.event_id.clone());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }

    /// Refused with this status, in words that hold these, and nothing was saved.
    async fn assert_refused(&self, message: &Map<String, Value>, status: u16, words: &str) {
        let answer = self.take(message).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert!(answer.text.contains(words), "{answer:?} should say {words:?}");
        assert_eq!(self.saved().await, Vec::<String>::new());
    }
}

/// An event of the root user; its id is what the tests know it by.
fn event(id: &str) -> String {
    json!({
        "version": "0", "id": id, "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam", "account": "222233334444", "time": "2026-05-04T14:00:00Z",
        "region": "us-east-1", "resources": [],
        "detail": {
            "eventVersion": "1.11", "eventID": id, "eventName": "CreateUser",
            "eventSource": "iam.amazonaws.com", "eventTime": "2026-05-04T14:00:00Z",
            "awsRegion": "us-east-1", "sourceIPAddress": "192.0.2.7", "eventType": "AwsApiCall",
            "recipientAccountId": "222233334444",
            "userIdentity": {
                "type": "Root", "accountId": "222233334444",
                "arn": "arn:aws:iam::222233334444:root",
            },
        },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_notifications_of_both_versions_are_saved_once() {
    let bench = Bench::new().await;
    let second = bench.notification("m-2", &event("v2"));
    let answer = bench.take(&second).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, "accepted: 1 saved, 0 already known, 0 others")
    );
    let mut first: Map<String, Value> =
        serde_json::from_slice(&fixture("notification-v1.json")).expect("JSON");
    first.insert("SigningCertURL".to_owned(), bench.url("cert.pem").into());
    assert_eq!(bench.take(&first).await.text, "accepted: 1 saved, 0 already known, 0 others");
    assert_eq!(bench.saved().await, ["v1", "v2"]);
    for message in [&first, &second] {
        let answer = bench.take(message).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "already known"));
    }
    // The same record in another message.
    let again = bench.notification("m-3", &event("v2"));
    assert_eq!(bench.take(&again).await.text, "accepted: 0 saved, 1 already known, 0 others");
    assert_eq!(bench.saved().await, ["v1", "v2"]);
    assert_eq!(bench.standin.certificates.load(Ordering::SeqCst), 1, "fetched once, kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_first_messages_fetches_the_certificate_a_few_times_at_most() {
    let bench = Bench::new().await;
    let messages: Vec<_> =
        (0..40).map(|n| bench.notification(&format!("m-{n}"), &event(&format!("e-{n}")))).collect();
    let answers = futures_util::future::join_all(messages.iter().map(|one| bench.take(one))).await;
    assert!(answers.iter().all(|answer| answer.status.is_success()), "{answers:?}");
    assert_eq!(bench.saved().await.len(), 40);
    assert!(bench.standin.certificates.load(Ordering::SeqCst) <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_on_its_way_or_made_up_is_refused() {
    let bench = Bench::new().await;
    let signed = bench.notification("m-1", &event("forged"));
    let changes = [
        ("Message", event("other")),
        ("MessageId", "m-2".to_owned()),
        ("Subject", "added".to_owned()),
        ("Timestamp", "2026-05-04T14:00:09Z".to_owned()),
        ("SignatureVersion", "1".to_owned()),
        ("Signature", STANDARD.encode([7; 256])),
        ("Signature", String::new()),
    ];
    for (member, value) in changes {
        let mut message = signed.clone();
        message.insert(member.to_owned(), value.into());
        bench.assert_refused(&message, 403, "`Signature` does not match").await;
    }
    let mut unsigned = signed.clone();
    unsigned.remove("Signature");
    bench.assert_refused(&unsigned, 400, "`Signature` is missing").await;
    // Its id is not burnt by all that.
    assert_eq!(bench.take(&signed).await.status.as_u16(), 200);
    assert_eq!(bench.saved().await, ["forged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_topic_is_refused_and_without_topics_the_endpoint_is_disabled() {
    let bench = Bench::new().await;
    let mut message = bench.unsigned("m-1", &event("e"));
    message.insert("TopicArn".to_owned(), "arn:aws:sns:eu-central-1:333344445555:evil".into());
    bench.sign(&mut message);
    bench.assert_refused(&message, 403, "not a configured topic").await;
    assert_eq!(bench.standin.certificates.load(Ordering::SeqCst), 0, "nothing is fetched for it");
    let shut = Bench::with_topics(&[]).await;
    let message = shut.notification("m-1", &event("e"));
    shut.assert_refused(&message, 404, "no SNS topic is configured").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_from_elsewhere_for_others_or_out_of_date_are_refused() {
    let bench = Bench::new().await;
    let with = |url: String| {
        let mut message = bench.notification("m-1", &event("e"));
        message.insert("SigningCertURL".to_owned(), url.into());
        message
    };
    for url in [
        "https://sns.eu-central-1.amazonaws.com.evil.test/cert.pem".to_owned(),
        format!("http://localhost:{}/cert.pem", bench.port),
        format!("{}?x=1", bench.url("cert.pem")),
    ] {
        bench.assert_refused(&with(url), 403, "`SigningCertURL` is not a certificate of SNS").await;
    }
    let stranger = with(bench.url("stranger.pem"));
    bench.assert_refused(&stranger, 403, "was not made for SNS").await;
    for unreachable in ["large.pem", "moved.pem", "missing.pem"] {
        let message = with(bench.url(unreachable));
        let answer = bench.take(&message).await;
        assert_eq!((answer.status.as_u16(), answer.retry_after_secs), (503, Some(5)), "{answer:?}");
    }
    assert_eq!(bench.standin.certificates.load(Ordering::SeqCst), 0);
    // A hundred years later, with the certificate in memory and without.
    let good = bench.notification("m-2", &event("good"));
    assert_eq!(bench.take(&good).await.status.as_u16(), 200);
    bench.clock.advance(SignedDuration::from_hours(24 * 366 * 100));
    let answer = bench.take(&bench.notification("m-3", &event("late"))).await;
    assert_eq!(answer.status.as_u16(), 403, "{answer:?}");
    assert!(answer.text.contains("expired"), "{answer:?}");
    assert_eq!(bench.saved().await, ["good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_old_or_from_the_future_is_refused() {
    let bench = Bench::new().await;
    let message = bench.notification("m-1", &event("e"));
    for hours in [2, -4] {
        bench.clock.advance(SignedDuration::from_hours(hours));
        bench.assert_refused(&message, 403, "minutes from the hub's clock").await;
    }
    bench.clock.advance(SignedDuration::from_hours(3));
    assert_eq!(bench.take(&message).await.status.as_u16(), 200, "SNS may retry for an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_confirmed_once_and_again_after_a_failure() {
    let bench = Bench::new().await;
    let kind = "SubscriptionConfirmation";
    let message = bench.confirmation(kind, "c-1", &bench.confirmation_url());
    bench.standin.fails.store(1, Ordering::SeqCst);
    let answer = bench.take(&message).await;
    assert_eq!(answer.status.as_u16(), 502, "so that SNS asks again: {answer:?}");
    assert_eq!(bench.take(&message).await.text, "the subscription is confirmed");
    assert_eq!(bench.take(&message).await.text, "already known");
    let asked = bench.standin.confirmations.lock().expect("no panic").clone();
    assert_eq!(asked, [format!("Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t0")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_leads_elsewhere_is_refused_and_never_followed() {
    let bench = Bench::new().await;
    let foreign = Arc::new(Standin::default());
    let port = foreign.start().await;
    let query = format!("?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t0");
    for url in [
        format!("http://127.0.0.1:{port}/{query}"),
        format!("http://127.0.0.1:{}@127.0.0.1:{port}/{query}", bench.port),
        bench.url(&format!("?Action=ConfirmSubscription&TopicArn={TOPIC}-2&Token=t0")),
        bench.url(&format!("?Action=Unsubscribe&TopicArn={TOPIC}&Token=t0")),
        bench.url(&format!("?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t1")),
    ] {
        let message = bench.confirmation("SubscriptionConfirmation", "c-1", &url);
        bench.assert_refused(&message, 403, "`SubscribeURL` does not confirm this topic").await;
    }
    let mut forged =
        bench.confirmation("SubscriptionConfirmation", "c-2", &bench.confirmation_url());
    forged.insert("Signature".to_owned(), STANDARD.encode([7; 256]).into());
    bench.assert_refused(&forged, 403, "`Signature`").await;
    for standin in [&foreign, &bench.standin] {
        assert!(standin.confirmations.lock().expect("no panic").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_unsubscribed_does_not_subscribe_again() {
    let bench = Bench::new().await;
    let message = bench.confirmation("UnsubscribeConfirmation", "u-1", &bench.confirmation_url());
    let answer = bench.take(&message).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!(answer.text.contains("unsubscribed"), "{answer:?}");
    assert!(bench.standin.confirmations.lock().expect("no panic").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_no_record_is_taken_once_and_raw_delivery_is_refused() {
    let bench = Bench::new().await;
    for (id, text) in [("m-1", "hello"), ("m-2", ""), ("m-3", "{\"a\":")] {
        let answer = bench.take(&bench.notification(id, text)).await;
        let expected = (200, "accepted, but `Message` holds no record");
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), expected, "{text:?}");
    }
    let answer = bench.sns.take(Bytes::from(event("raw"))).await;
    assert_eq!(answer.status.as_u16(), 400);
    assert!(answer.text.contains("raw message delivery"), "{answer:?}");
    assert_eq!(bench.saved().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_saved_is_asked_for_again_and_its_id_is_not_remembered() {
    let bench = Bench::new().await;
    let warm = bench.notification("m-0", &event("warm"));
    assert_eq!(bench.take(&warm).await.status.as_u16(), 200);
    bench.shutdown.send(true).expect("an engine");
    tokio::time::timeout(Duration::from_secs(30), bench.shutdown.closed()).await.expect("its end");
    let answer = bench.take(&bench.notification("m-1", &event("e"))).await;
    assert_eq!(answer.status.as_u16(), 503, "{answer:?}");
    assert!(answer.retry_after_secs.is_some());
    let note = |id: &str| format!("seen:sns:{TOPIC}:{id}");
    assert!(bench.store.note(&note("m-0")).await.expect("a store").is_some());
    assert_eq!(bench.store.note(&note("m-1")).await.expect("a store"), None);
    assert_eq!(bench.saved().await, ["warm"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_told_from_what_holds_no_record() {
    let bench = Bench::new().await;
    let drill = json!({
        "source": "rootwatch.drill", "detail-type": "Drill", "account": "222233334444",
        "region": "eu-west-1", "detail": {},
    });
    let taken = bench.take(&bench.notification("d-1", &drill.to_string())).await;
    assert_eq!((taken.status.as_u16(), taken.text.contains("a drill")), (200, true), "{taken:?}");
    let mut nowhere = drill;
    nowhere["account"] = json!("nowhere at all");
    let taken = bench.take(&bench.notification("d-2", &nowhere.to_string())).await;
    assert!(taken.text.contains("`Message` holds no record"), "{taken:?}");
    assert_eq!(bench.saved().await, Vec::<String>::new());
}
