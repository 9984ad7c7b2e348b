//! A clock, an outbox in memory, alerts from records, and a server that answers as it is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{AccountName, Alert, AlertContext, AlertKind, Clock, compose};
use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::delivery::{Delivery, DeliveryId, DeliveryState};
use rootwatch_core::detect::{Detector, finalize};
use rootwatch_core::finding::Finding;
use rootwatch_core::incident::Incident;
use rootwatch_core::rules::Ruleset;
use rootwatch_core::secret::{Secret, SecretRef};
use rootwatch_notify::{Attempt, AwsAccess, LogSink, Notifier, NotifyConfig, Outbox, OutboxError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub(crate) const PROD: &str = "222233334444";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug)]
pub(crate) struct Manual(Mutex<Timestamp>);

impl Manual {
    pub(crate) fn new(now: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(at(now))))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *self.0.lock().expect("the clock") = now;
    }

    pub(crate) fn advance(&self, by: SignedDuration) {
        self.set(self.now() + by);
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("the clock")
    }
}

/// An outbox in memory, with the rules that the trait states.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) kept: Mutex<BTreeMap<DeliveryId, Delivery>>,
    pub(crate) notes: Mutex<HashMap<String, String>>,
    order: Mutex<Vec<DeliveryId>>,
}

impl Memory {
    pub(crate) fn owe(&self, deliveries: Vec<Delivery>) {
        let mut kept = self.kept.lock().expect("the outbox");
        let mut order = self.order.lock().expect("the order");
        for delivery in deliveries {
            if !kept.contains_key(&delivery.id) {
                order.push(delivery.id.clone());
                kept.insert(delivery.id.clone(), delivery);
            }
        }
    }

    pub(crate) fn get(&self, id: &str) -> Delivery {
        let kept = self.kept.lock().expect("the outbox");
        kept.get(&DeliveryId(id.to_owned())).unwrap_or_else(|| panic!("{id} is owed")).clone()
    }

    pub(crate) fn count(&self, holds: impl Fn(&Delivery) -> bool) -> usize {
        self.kept.lock().expect("the outbox").values().filter(|one| holds(one)).count()
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, OutboxError> {
        let mut kept = self.kept.lock().expect("the outbox");
        let mut leased = Vec::new();
        let mut threads: HashSet<(String, String)> = HashSet::new();
        for id in self.order.lock().expect("the order").iter() {
            let Some(one) = kept.get_mut(id) else { continue };
            if one.state != DeliveryState::Due {
                continue;
            }
            let thread = (one.destination.clone(), one.alert.thread());
            let is_first = threads.insert(thread);
            let is_free = one.due_at <= now && one.leased_until.is_none_or(|until| until <= now);
            if is_first && is_free && !busy.contains(&one.destination) && leased.len() < max {
                one.leased_until = Some(until);
                one.attempts += 1;
                leased.push(one.clone());
            }
        }
        Ok(leased)
    }

    async fn attempted(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, OutboxError> {
        let instead = {
            let mut kept = self.kept.lock().expect("the outbox");
            let one = kept.get_mut(id).ok_or_else(|| OutboxError::new("no such delivery"))?;
            one.leased_until = None;
            match attempt {
                Attempt::Delivered { receipt } => {
                    one.state = DeliveryState::Delivered;
                    one.receipt = Some(receipt);
                    one.ended_at = Some(now);
                    Vec::new()
                }
                Attempt::Again { at, error, not_begun } => {
                    one.due_at = at;
                    one.last_error = Some(error);
                    one.attempts -= u32::from(not_begun);
                    Vec::new()
                }
                Attempt::Failed { error, instead } => {
                    one.state = DeliveryState::Failed;
                    one.last_error = Some(error);
                    one.ended_at = Some(now);
                    instead
                }
            }
        };
        self.owe(instead);
        Ok(true)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, OutboxError> {
        let kept = self.kept.lock().expect("the outbox");
        let due = kept.values().filter(|one| one.state == DeliveryState::Due);
        Ok(due.map(|one| one.leased_until.unwrap_or(one.due_at).max(one.due_at)).min())
    }

    async fn note(&self, name: &str) -> Result<Option<String>, OutboxError> {
        Ok(self.notes.lock().expect("notes").get(name).cloned())
    }

    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, OutboxError> {
        let notes = self.notes.lock().expect("notes");
        let found = names.iter().filter_map(|name| Some((name.clone(), notes.get(name)?.clone())));
        Ok(found.collect())
    }

    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), OutboxError> {
        let mut notes = self.notes.lock().expect("notes");
        match value {
            Some(value) => notes.insert(name.to_owned(), value.to_owned()),
            None => notes.remove(name),
        };
        Ok(())
    }

    async fn raise(&self, deliveries: Vec<Delivery>) -> Result<(), OutboxError> {
        self.owe(deliveries);
        Ok(())
    }
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Status(u16, &'static str, String),
    Hang,
    /// Promises more than it sends.
    Half,
    Close,
}

pub(crate) fn status(code: u16) -> Answer {
    Answer::Status(code, "", "said the server".to_owned())
}

/// One request as it came: its head and its body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A server on loopback that gives its answers in turn, the last one for ever.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Server {
    pub(crate) async fn new(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook/hush", listener.local_addr().expect("an address"));
        let server =
            Self { url, requests: Arc::default(), answers: Arc::new(Mutex::new(answers.to_vec())) };
        let own = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().serve(stream));
            }
        });
        server
    }

    pub(crate) fn answer(&self, answers: &[Answer]) {
        *self.answers.lock().expect("answers") = answers.to_vec();
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().expect("requests").len()
    }

    pub(crate) fn request(&self, place: usize) -> Request {
        self.requests.lock().expect("requests")[place].clone()
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let mut bytes = Vec::new();
        let mut piece = [0_u8; 16 << 10];
        let (head, body) = loop {
            let Ok(count @ 1..) = stream.read(&mut piece).await else { return };
            bytes.extend_from_slice(&piece[..count]);
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let wanted = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if bytes.len() - end - 4 >= wanted {
                break (head, bytes[end + 4..].to_vec());
            }
        };
        self.requests.lock().expect("requests").push(Request { head, body });
        let answer = {
            let mut answers = self.answers.lock().expect("answers");
            if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
        };
        let text = match answer {
            Answer::Status(code, headers, body) => format!(
                "HTTP/1.1 {code} Said\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
                body.len()
            ),
            Answer::Hang => {
                tokio::time::sleep(Duration::from_secs(120)).await;
                return;
            }
            Answer::Half => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_owned(),
            Answer::Close => return,
        };
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

pub(crate) fn config(text: &str) -> NotifyConfig {
    let value: Value = serde_json::from_str(text).expect("JSON");
    serde_json::from_value(value).expect("a configuration")
}

pub(crate) fn plain(reference: &SecretRef) -> Result<Secret, String> {
    match reference {
        SecretRef::Plain(secret) => Ok(secret.clone()),
        other => Err(format!("{other} is not there")),
    }
}

pub(crate) fn notifier(config: &NotifyConfig, clock: &Arc<Manual>) -> Arc<Notifier> {
    let sink: LogSink = Arc::new(Mutex::new(Vec::<u8>::new()));
    let made = Notifier::with_log(config, &plain, clock.clone(), sink);
    Arc::new(made.expect("a notifier").with_public_url(Some("https://hub.example.com/")))
}

/// As [`notifier`], with keys of AWS and a region that nobody has to look for; a destination says
/// where AWS is by `endpoint_url`.
pub(crate) fn notifier_on_aws(config: &NotifyConfig, clock: &Arc<Manual>) -> Arc<Notifier> {
    let keys = Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "hush-key",
        Some("hush-token".to_owned()),
        None,
        "tests",
    );
    on_aws(config, clock, keys)
}

/// As [`notifier_on_aws`], for the stand-in: there a key's id is the account.
pub(crate) fn notifier_on_standin(config: &NotifyConfig, clock: &Arc<Manual>) -> Arc<Notifier> {
    on_aws(config, clock, Credentials::new(crate::standin::ACCOUNT, "none", None, None, "tests"))
}

fn on_aws(config: &NotifyConfig, clock: &Arc<Manual>, keys: Credentials) -> Arc<Notifier> {
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .build();
    notifier_with(config, clock, sdk)
}

/// As [`notifier`], with everything of AWS where this says.
pub(crate) fn notifier_with(
    config: &NotifyConfig,
    clock: &Arc<Manual>,
    sdk: SdkConfig,
) -> Arc<Notifier> {
    let sink: LogSink = Arc::new(Mutex::new(Vec::<u8>::new()));
    let made = Notifier::with_aws(config, &plain, clock.clone(), sink, &AwsAccess::of(sdk));
    Arc::new(made.expect("a notifier").with_public_url(Some("https://hub.example.com/")))
}

/// Names of the story's accounts.
pub(crate) fn name(id: &str) -> AccountName {
    let (name, unit) = match id {
        "111122223333" => (Some("example-management"), None),
        PROD => (Some("prod-payments"), Some("Production")),
        _ => (None, None),
    };
    AccountName { id: id.to_owned(), name: name.map(str::to_owned), unit: unit.map(str::to_owned) }
}

/// A record of the root user.
pub(crate) fn record(account: &str, time: &str, event: &str, more: Value) -> Value {
    let mut record = json!({
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "Root", "principalId": account, "accountId": account,
            "arn": format!("arn:aws:iam::{account}:root"),
            "accessKeyId": "ASIASTORYSESSIONEXAM",
            "sessionContext": { "attributes": { "creationDate": "2026-05-04T14:03:00Z", "mfaAuthenticated": "false" } },
        },
        "eventTime": time, "eventSource": "iam.amazonaws.com", "eventName": event,
        "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.77",
        "userAgent": "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/124.0 Safari/537.36",
        "eventID": format!("{account}-{time}-{event}"), "eventType": "AwsApiCall",
        "recipientAccountId": account,
    });
    if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
        record.extend(more);
    }
    record
}

/// A sign-in without MFA, or one that failed.
pub(crate) fn sign_in(account: &str, time: &str, result: &str) -> Value {
    record(
        account,
        time,
        "ConsoleLogin",
        json!({
            "eventSource": "signin.amazonaws.com", "eventType": "AwsConsoleSignIn",
            "userIdentity": { "type": "Root", "principalId": account, "accountId": account,
                "arn": format!("arn:aws:iam::{account}:root") },
            "responseElements": { "ConsoleLogin": result },
            "additionalEventData": { "MFAUsed": "No", "LoginTo": "https://console.aws.amazon.com/" },
        }),
    )
}

pub(crate) fn key_created(time: &str) -> Value {
    record(
        PROD,
        time,
        "CreateAccessKey",
        json!({ "responseElements": { "accessKey": { "accessKeyId": "AKIASTORYROOTEXAMPLE",
            "status": "Active", "userName": "root" } } }),
    )
}

pub(crate) fn findings(records: &[Value], rules: &Ruleset) -> Vec<Finding> {
    let bytes = json!({ "Records": records }).to_string();
    let mut detector = Detector::new(rules);
    let mut detected = Vec::new();
    decode_log(bytes.as_bytes(), &Limits::default(), &mut |_, item| match item {
        Item::Event(event) => detected.extend(detector.detect(&event)),
        Item::PassedOver(_) => {}
        Item::Skipped(skipped) => panic!("{skipped:?}"),
    });
    finalize(detected, rules).0
}

/// The worst incident of these records.
pub(crate) fn incident(records: &[Value]) -> Incident {
    let rules = Ruleset::built_in();
    let mut incidents = correlate_all(findings(records, &rules), &CorrelatePolicy::default());
    incidents.sort_by_key(|incident| incident.severity);
    incidents.pop().expect("an incident")
}

/// An alert about an incident of which the first `seen` findings were told before.
pub(crate) fn alert(kind: AlertKind, incident: &Incident, seen: usize, now: &str) -> Alert {
    let known: Vec<_> = incident.findings.iter().take(seen).map(|one| one.key.clone()).collect();
    let telling = AlertContext {
        decided_at: at(now),
        received_at: Some(at(now)),
        findings_total: incident.findings_total(),
        seen: &|key| known.contains(key),
        by: None,
        names: &name,
        rules: &Ruleset::built_in(),
        windows: &[],
    };
    compose(format!("{}.1", incident.id), kind, incident, &telling)
}

/// A small alert with this id, in a thread of its own.
pub(crate) fn test_alert(id: &str) -> Alert {
    // To read all rules a thousand times takes its time.
    static OPENED: OnceLock<Alert> = OnceLock::new();
    let mut alert = OPENED.get_or_init(opened).clone();
    alert.id = id.to_owned();
    alert.incidents.clear();
    alert
}

/// An incident that opened: a sign-in without MFA.
pub(crate) fn opened() -> Alert {
    let incident = incident(&[sign_in(PROD, "2026-05-04T14:03:00Z", "Success")]);
    alert(AlertKind::Opened, &incident, 0, "2026-05-04T14:03:40Z")
}
