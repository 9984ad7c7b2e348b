//! A hub on a free port with a store in a temporary folder, and what to send it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, StatusCode};
use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::detect::{Detector, finalize};
use rootwatch_core::rules::Ruleset;
use rootwatch_engine::clock::ManualClock;
use rootwatch_hub::config::Config;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::{Hub, HubParts, RunningHub};
use rootwatch_store::Store;
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_web::{Scope, TokenConfig};
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest wait for anything to become true.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Tokens of the stage: for everything, and for one thing each.
pub(crate) const TOKEN: &str = "token-for-everything-0123456789abcdef";
pub(crate) const INGEST: &str = "token-for-ingest-0123456789abcdef";
pub(crate) const READ: &str = "token-for-reading-0123456789abcdef";

/// A moment after the story, on its day.
pub(crate) const AFTER_STORY: &str = "2026-05-04T16:10:00Z";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

pub(crate) fn token(name: &str, text: &str, scopes: &[Scope]) -> TokenConfig {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    TokenConfig { name: name.to_owned(), sha256, scopes: scopes.to_vec() }
}

/// Tokens, a destination that writes to memory, and no patience for slow senders.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.hub.listen = ([127, 0, 0, 1], 0).into();
    config.source.http.requests_per_second_max = 100_000;
    config.token = vec![
        token("all", TOKEN, &[Scope::Ingest, Scope::Read, Scope::Write]),
        token("ingest", INGEST, &[Scope::Ingest]),
        token("read", READ, &[Scope::Read]),
    ];
    let log = serde_json::json!({ "channel": "log", "format": "json" });
    let log = serde_json::from_value(log).expect("a destination");
    config.notify.destination.insert("log".to_owned(), log);
    config
}

pub(crate) struct Stage {
    pub(crate) running: RunningHub,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) client: reqwest::Client,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) log: Arc<Mutex<Vec<u8>>>,
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn open(folder: &Path, pages_max: Option<u64>) -> Arc<dyn Store> {
    let options = SqliteOptions { pages_max, ..SqliteOptions::at(folder.join("hub.db")) };
    Arc::new(SqliteStore::open(&options).expect("a store"))
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(config(), AFTER_STORY).await
    }

    pub(crate) async fn with(config: Config, now: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = open(folder.path(), None);
        Self::over(folder, store, config, now).await
    }

    pub(crate) async fn over(
        folder: tempfile::TempDir,
        store: Arc<dyn Store>,
        config: Config,
        now: &str,
    ) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let clock = Arc::new(ManualClock::at(at(now)));
        let parts = HubParts {
            config,
            store,
            rules: Ruleset::built_in(),
            clock: Arc::clone(&clock) as _,
            log: Arc::new(Mutex::new(Shared(Arc::clone(&log)))),
            secrets: Arc::new(Resolver::new(folder.path())),
        };
        let running = Hub::start(parts).await.expect("a hub");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { running, clock, client, folder, log }
    }

    /// Ends the hub and starts another on the same store.
    pub(crate) async fn again(self, config: Config) -> Self {
        let Self { running, clock, folder, .. } = self;
        let now = rootwatch_core::alert::Clock::now(&*clock).to_string();
        running.shutdown().await;
        let store = open(folder.path(), None);
        Self::over(folder, store, config, &now).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.running.address()))
    }

    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let request = self.request(Method::POST, "/v1/events").bearer_auth(INGEST).body(body);
        answer(request).await
    }

    /// Sends records that have to be taken.
    pub(crate) async fn take(&self, body: impl Into<reqwest::Body>) -> Value {
        let (status, taken) = self.post(body).await;
        assert_eq!(status, 200, "{taken}");
        taken
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = answer(self.request(Method::GET, path).bearer_auth(READ)).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    /// All items of a paged list.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{sign}limit=100{after}")).await;
            items.extend(page["items"].as_array().expect("a list").iter().cloned());
            match page["next"].as_str() {
                Some(next) => {
                    let next: String =
                        url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
                    after = format!("&after={next}");
                }
                None => return items,
            }
        }
    }

    /// The incidents, each as the set of its event ids.
    pub(crate) async fn incidents(&self) -> BTreeSet<BTreeSet<String>> {
        let mut incidents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for finding in self.all("/v1/findings").await {
            let incident = finding["incident_id"].as_str().expect("an incident").to_owned();
            let event = finding["event_id"].as_str().expect("an event id").to_owned();
            assert!(incidents.entry(incident).or_default().insert(event), "a finding is twice");
        }
        assert_eq!(self.all("/v1/incidents").await.len(), incidents.len());
        incidents.into_values().collect()
    }

    /// What was written to the destination `log`, once nothing is owed any more.
    pub(crate) async fn told(&self) -> Vec<Value> {
        self.until("all is told", async || self.all("/v1/deliveries?state=due").await.is_empty())
            .await;
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(log).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let begin = Instant::now();
        while !is_so().await {
            assert!(begin.elapsed() < WAIT_MAX, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The value of a metric, by the beginning of its line.
    pub(crate) async fn metric(&self, begin: &str) -> f64 {
        let text = self.request(Method::GET, "/metrics").send().await.expect("an answer");
        let text = text.text().await.expect("text");
        let lines = text.lines().filter(|line| line.starts_with(begin));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// True when the store holds nothing of any record.
    pub(crate) async fn is_empty(&self) -> bool {
        let standing = self.running.store().stats().await.expect("a store");
        standing.findings == 0 && standing.unverified == 0 && standing.deliveries.is_empty()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let text = answer.text().await.expect("a whole answer");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// All records of the story, in the order of files and as often as they are there.
pub(crate) fn story() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/story/AWSLogs");
    let mut files = Vec::new();
    list(&root, &mut files);
    files.sort();
    let mut records = Vec::new();
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("Digest")) {
        let bytes = std::fs::read(file).expect("a log file");
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        let log: BTreeMap<String, Vec<Box<RawValue>>> =
            serde_json::from_str(&text).expect("a log file");
        records.extend(log["Records"].iter().map(|record| record.get().to_owned()));
    }
    records
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The incidents of these records as a scan finds them, each as the set of its event ids.
pub(crate) fn expected(records: &[String]) -> BTreeSet<BTreeSet<String>> {
    let rules = Ruleset::built_in();
    let mut detector = Detector::new(&rules);
    let mut detected = Vec::new();
    for record in records {
        decode_log(record.as_bytes(), &Limits::default(), &mut |_, item| {
            if let Item::Event(event) = item {
                detected.extend(detector.detect(&event));
            }
        });
    }
    let (findings, _) = finalize(detected, &rules);
    let incidents = correlate_all(findings, &CorrelatePolicy::default());
    let ids = |finding: rootwatch_core::finding::Finding| finding.event_id;
    incidents
        .into_iter()
        .map(|incident| incident.findings.into_iter().filter_map(ids).collect())
        .collect()
}

/// An EventBridge event of a root user.
pub(crate) fn event(id: &str, account: &str, time: &str, name: &str) -> String {
    event_from("aws.iam", account, id, account, time, name)
}

/// An EventBridge event of which the envelope may say something else.
pub(crate) fn event_from(
    source: &str,
    envelope_account: &str,
    id: &str,
    account: &str,
    time: &str,
    name: &str,
) -> String {
    serde_json::json!({
        "version": "0", "id": format!("envelope-{id}"), "detail-type": "AWS API Call via CloudTrail",
        "source": source, "account": envelope_account, "time": time, "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "Root", "principalId": account, "arn": format!("arn:aws:iam::{account}:root"),
                "accountId": account, "accessKeyId": "ASIAEXAMPLEEXAMPLE00",
                "sessionContext": { "attributes": {
                    "creationDate": "2026-05-04T14:00:00Z", "mfaAuthenticated": "true" } },
            },
            "eventTime": time, "eventSource": "iam.amazonaws.com", "eventName": name,
            "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.7", "userAgent": "aws-cli/2.27",
            "requestParameters": null, "responseElements": null, "requestID": format!("r-{id}"),
            "eventID": id, "readOnly": false, "eventType": "AwsApiCall", "managementEvent": true,
            "recipientAccountId": account, "eventCategory": "Management",
        },
    })
    .to_string()
}
