//! A fan-out to the end: the hub's stack with its function scans what the queue of history names, finds
//! what a scan of the same files finds here, and keeps nobody waiting who is to be told of today.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};
use rootwatch_store::{
    DeliveryFilter, FindingFilter, IncidentFilter, Lists as _, PageRequest, StoredIncident,
};
use serde_json::{Value, json};

use crate::server::{Server, relay, s3_error};
use crate::stage::{HUB, HUB_REGION, hub, package, put_event_on, put_package};
use crate::standin::{Standin, free_port, sdk_at};
use crate::{Ran, archive, program, root, run};

/// The bucket of the trail.
const TRAIL: &str = "example-org-trail";
/// The place of the hub.
const THERE: (&str, &str) = (HUB, HUB_REGION);
/// Longest wait for the functions.
const WAIT: Duration = Duration::from_secs(150);
/// Longest wait for an alert, below the function's timeout of a minute: who waits for an instance that
/// history has taken waits longer.
const ALERT_WAIT: Duration = Duration::from_secs(45);
/// Messages that two instances take of the queue of history, ten each: the stack's own settings.
const TAKEN_AT_ONCE: u64 = 20;
const PAGE: PageRequest = PageRequest { items_max: 500, after: None };

/// Event ids of all lines of a scan.
fn ids(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line["event_id"].as_str().map(str::to_owned)).collect()
}

/// The hub's stack with its function, and a trail's bucket that it may read.
struct Deployed {
    standin: Standin,
    outputs: BTreeMap<String, String>,
    s3: aws_sdk_s3::Client,
}

impl Deployed {
    /// Its bucket holds the story.
    async fn new() -> Self {
        let standin = tokio::task::spawn_blocking(|| Standin::start_with_iam(free_port()));
        let standin = standin.await.expect("one");
        put_package(&standin, package()).await;
        let plan = json!([hub(&[("LogBuckets", TRAIL)])]);
        let outputs = standin.stacks(plan).await.swap_remove(0);
        let sdk = sdk_at(standin.port(), THERE);
        let config = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(config);
        let place = aws_sdk_s3::types::CreateBucketConfiguration::builder()
            .location_constraint(HUB_REGION.into())
            .build();
        let bucket = s3.create_bucket().bucket(TRAIL).create_bucket_configuration(place);
        bucket.send().await.expect("a bucket");
        let there = Self { standin, outputs, s3 };
        there.put_folder(&root().join("fixtures/story")).await;
        there
    }

    /// Uploads a folder; keys are the paths in it.
    async fn put_folder(&self, folder: &Path) {
        futures_util::stream::iter(archive::files(folder))
            .for_each_concurrent(8, async |path| {
                let key = path.strip_prefix(folder).expect("a path").to_str().expect("UTF-8");
                let body = std::fs::read(&path).expect("a file");
                let put = self.s3.put_object().bucket(TRAIL).key(key).body(body.into());
                put.send().await.expect("an object");
            })
            .await;
    }

    /// Runs the program as somebody in the hub's account.
    async fn ask(&self, args: &[&str]) -> Ran {
        let mut command = program(&self.standin.endpoint(), None);
        command.env("AWS_REGION", HUB_REGION).args(args);
        run(command).await
    }

    fn history(&self) -> &str {
        &self.outputs["HistoryQueueUrl"]
    }

    /// Puts the whole bucket on the queue of history; gives what the program tells of it.
    async fn fan_out(&self) -> Value {
        let prefix = format!("s3://{TRAIL}/AWSLogs");
        let args = ["scan", "--format", "jsonl", "--fan-out", self.history(), &prefix];
        let sent = self.ask(&args).await;
        assert_eq!(sent.code, 0, "{}", sent.err);
        sent.lines().swap_remove(0)
    }

    /// How the queue of history stands, as the program tells it, with the exit code.
    async fn status(&self) -> (i32, Value) {
        let status = self.ask(&["scan", "status", self.history()]).await;
        assert!(
            status.code < 2,
            "no dead letters, and it can be asked: {}{}",
            status.out,
            status.err
        );
        (status.code, status.lines().pop().expect("a line"))
    }

    async fn until_all_is_read(&self) {
        let begin = Instant::now();
        loop {
            let (code, status) = self.status().await;
            if code == 0 {
                return;
            }
            assert!(begin.elapsed() < WAIT, "{status}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn store(&self) -> DynamoStore {
        let sdk = sdk_at(self.standin.port(), THERE);
        let options = DynamoOptions::of_table(self.outputs["TableName"].as_str());
        DynamoStore::open(&sdk, &options).await.expect("a store")
    }

    /// Event ids of all findings.
    async fn found(&self) -> BTreeSet<String> {
        let found = self.store().await.findings(&FindingFilter::default(), &PAGE).await;
        let found = found.expect("findings").items.into_iter();
        found.filter_map(|one| one.finding.event_id).collect()
    }

    async fn incidents(&self) -> Vec<StoredIncident> {
        let found = self.store().await.incidents(&IncidentFilter::default(), &PAGE).await;
        found.expect("incidents").items
    }

    /// From now on the function reads S3 there.
    async fn read_s3_through(&self, url: &str) {
        let name = &self.outputs["FunctionName"];
        let ask = json!({ "FunctionName": name });
        let call = async |operation: &str, ask: Value| {
            self.standin.call_at(THERE, "lambda", operation, ask).await
        };
        let mut variables = call("get_function_configuration", ask).await["Environment"].take();
        variables["Variables"]["AWS_ENDPOINT_URL_S3"] = json!(url);
        let changed = json!({ "FunctionName": name, "Environment": variables });
        call("update_function_configuration", changed).await;
    }

    /// Somebody who hears of alerts: a queue's URL.
    async fn listen(&self) -> String {
        let (topic, arn) =
            (&self.outputs["TopicArn"], format!("arn:aws:sqs:{HUB_REGION}:{HUB}:people"));
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage", "Resource": arn,
            "Condition": { "ArnEquals": { "aws:SourceArn": topic } },
        }] });
        let queue =
            json!({ "QueueName": "people", "Attributes": { "Policy": policy.to_string() } });
        let queue = self.standin.call_at(THERE, "sqs", "create_queue", queue).await;
        let subscription = json!({
            "TopicArn": topic, "Protocol": "sqs", "Endpoint": arn,
            "Attributes": { "RawMessageDelivery": "true" },
        });
        self.standin.call_at(THERE, "sns", "subscribe", subscription).await;
        queue["QueueUrl"].as_str().expect("a URL").to_owned()
    }

    /// The next message that a listener hears within a time.
    async fn hear(&self, listener: &str, within: Duration) -> Option<String> {
        let sqs = aws_sdk_sqs::Client::new(&sdk_at(self.standin.port(), THERE));
        let begin = Instant::now();
        loop {
            let ask = sqs.receive_message().queue_url(listener).wait_time_seconds(2);
            let reply = ask.visibility_timeout(600).send().await.expect("a reply");
            if let Some(message) = reply.messages.unwrap_or_default().pop() {
                return message.body;
            }
            if begin.elapsed() > within {
                return None;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_find_what_a_local_scan_finds_and_wake_nobody() {
    let there = Deployed::new().await;
    let sent = there.fan_out().await;
    assert!(sent["objects"].as_u64().is_some_and(|objects| objects > 100), "{sent}");
    there.until_all_is_read().await;

    let all = "direct,privileged,derived,on_behalf,possible,no";
    let local =
        there.ask(&["scan", "--format", "jsonl", "--root-use", all, "fixtures/story"]).await;
    assert_eq!(there.found().await, ids(&local.lines()));
    let incidents = there.incidents().await;
    assert!(incidents.len() >= 3);
    assert!(incidents.iter().all(|stored| stored.notified.history));
    let owed = there.store().await.deliveries(&DeliveryFilter::default(), &PAGE).await;
    assert_eq!(owed.expect("deliveries").items, []);
}

/// Every instance that may read history is held up by S3, and more of it waits, when somebody uses the
/// root user.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_of_today_does_not_wait_behind_a_fan_out() {
    let there = Deployed::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    for account in archive::ACCOUNTS {
        for region in archive::REGIONS {
            for minute in 0..60 {
                let key = archive::key(account, region, 1, minute);
                archive::put(folder.path(), &key, &archive::gzip(b"{\"Records\":[]}"));
            }
        }
    }
    there.put_folder(folder.path()).await;
    let is_open = Arc::new(AtomicBool::new(false));
    let (port, open) = (there.standin.port(), Arc::clone(&is_open));
    let s3 = Server::start(move |heard| match open.load(Ordering::Relaxed) {
        true => relay(port, heard),
        false => s3_error("503 Slow Down", "SlowDown"),
    });
    there.read_s3_through(&s3.url()).await;
    let listener = there.listen().await;

    let messages = there.fan_out().await["messages"].as_u64().expect("a number");
    assert!(messages > TAKEN_AT_ONCE, "{messages}");
    let begin = Instant::now();
    while s3.gets() == 0 {
        assert!(begin.elapsed() < WAIT, "no function reads history");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let record = archive::root_record("today", HUB, HUB_REGION, &time);
    let record = serde_json::from_str(&record).expect("JSON");
    let kind = "AWS API Call via CloudTrail";
    put_event_on(&there.standin, THERE, "rootwatch", "aws.s3", kind, &record).await;
    let told = there.hear(&listener, ALERT_WAIT).await.expect("an alert of today");
    assert!(told.contains(HUB), "{told}");
    let (_, status) = there.status().await;
    let number = |name: &str| status[name].as_u64().expect("a number");
    assert!(number("visible") > 0, "more of history waits: {status}");
    assert_eq!(number("visible") + number("in_flight"), messages, "none of it is done: {status}");

    // Then history is read to its end, and it is heard of nothing more.
    is_open.store(true, Ordering::Relaxed);
    there.until_all_is_read().await;
    let local = there.ask(&["scan", "--format", "jsonl", "fixtures/story"]).await;
    let mut expected = ids(&local.lines());
    expected.insert("today".to_owned());
    assert!(there.found().await.is_superset(&expected));
    let incidents = there.incidents().await;
    assert_eq!(incidents.iter().filter(|stored| !stored.notified.history).count(), 1);
    assert_eq!(there.hear(&listener, Duration::ZERO).await, None);
}
