//! Queues over the wire. The stand-in's buckets, topics, rules and queues are its own making of
//! AWS's: the shapes of notifications are produced by it, not written here.

use std::sync::atomic::Ordering;

use aws_sdk_sqs::types::QueueAttributeName;
use rootwatch_hub::sources::{SqsConfig, start_sqs_with};
use serde_json::json;

use super::fake::Fake;
use super::standin::{self, ACCOUNT, Standin, endpoint, free_port, shared};
use super::{gzip, log_file, record, until};

/// A queue with a dead-letter queue, and a bucket.
struct Place {
    standin: &'static Standin,
    sqs: aws_sdk_sqs::Client,
    s3: aws_sdk_s3::Client,
    name: String,
    url: String,
    dead: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        let standin = shared().await;
        let sdk = standin.sdk();
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let path_style = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(path_style);
        let made = sqs.create_queue().queue_name(format!("{name}-dead")).send().await;
        let dead = made.expect("a queue").queue_url.expect("a URL");
        let redrive = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}-dead"),
            "maxReceiveCount": 2,
        });
        let made = sqs
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::RedrivePolicy, redrive.to_string());
        let url = made.send().await.expect("a queue").queue_url.expect("a URL");
        s3.create_bucket().bucket(name).send().await.expect("a bucket");
        Self { standin, sqs, s3, name: name.to_owned(), url, dead }
    }

    fn config(&self) -> SqsConfig {
        SqsConfig {
            buckets: vec![self.name.clone()],
            retry_secs: 0,
            receivers: 1,
            ..SqsConfig::new(&self.name, &self.url)
        }
    }

    fn start(&self, fake: &Fake, config: SqsConfig) -> Vec<tokio::task::JoinHandle<()>> {
        start_sqs_with(config, fake.surroundings(), &self.standin.sdk())
    }

    fn queue_arn(&self) -> String {
        format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{}", self.name)
    }

    async fn send(&self, body: impl Into<String>) {
        let request = self.sqs.send_message().queue_url(&self.url).message_body(body);
        request.send().await.expect("a message");
    }

    async fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        let body = aws_sdk_s3::primitives::ByteStream::from(body.into());
        let request = self.s3.put_object().bucket(&self.name).key(key).body(body);
        request.send().await.expect("an object");
    }

    /// CloudTrail's own words for new objects.
    async fn tell_of(&self, key: &str) {
        self.send(json!({"s3Bucket": self.name, "s3ObjectKey": [key]}).to_string()).await;
    }

    /// Messages that are visible, hidden and in the dead-letter queue.
    async fn counts(&self) -> (u32, u32, u32) {
        let count = async |url: &str| {
            let request = self.sqs.get_queue_attributes().queue_url(url);
            let reply = request.attribute_names(QueueAttributeName::All).send().await;
            let attributes = reply.expect("attributes").attributes.expect("attributes");
            let number = |name| attributes[&name].parse::<u32>().expect("a number");
            let visible = number(QueueAttributeName::ApproximateNumberOfMessages);
            (visible, number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible))
        };
        let (visible, hidden) = count(&self.url).await;
        let (dead, dead_hidden) = count(&self.dead).await;
        (visible, hidden, dead + dead_hidden)
    }

    async fn ends_with(&self, dead: u32) {
        until(&format!("{} is done", self.name), async || self.counts().await == (0, 0, dead))
            .await;
    }
}

fn event(id: &str) -> String {
    let detail: serde_json::Value = serde_json::from_str(&record(id)).expect("JSON");
    json!({
        "version": "0", "id": id, "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam", "account": "222233334444", "region": "us-east-1",
        "time": "2026-05-04T14:00:00Z", "resources": [], "detail": detail,
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_every_wrapping_and_their_messages_are_deleted() {
    let place = Place::new("events").await;
    let fake = Fake::new();
    let tasks = place.start(&fake, place.config());
    // An event, a log file, and records one a line.
    place.send(event("direct")).await;
    place.send(log_file(&["file-1", "file-2"])).await;
    place.send(format!("{}\n{}", record("line-1"), record("line-2"))).await;
    // Through SNS, in its envelope and raw.
    for (topic, raw) in [("events-enveloped", "false"), ("events-raw", "true")] {
        let arn = place.standin.call("sns", "create_topic", json!({"Name": topic})).await;
        let arn = arn["TopicArn"].clone();
        let subscription = json!({
            "TopicArn": arn, "Protocol": "sqs", "Endpoint": place.queue_arn(),
            "Attributes": {"RawMessageDelivery": raw},
        });
        place.standin.call("sns", "subscribe", subscription).await;
        let message = json!({"TopicArn": arn, "Message": event(topic)});
        place.standin.call("sns", "publish", message).await;
    }
    // Through a rule of EventBridge.
    let rule = json!({"Name": "events", "EventPattern": r#"{"source":["aws.iam"]}"#});
    place.standin.call("events", "put_rule", rule).await;
    let targets = json!({"Rule": "events", "Targets": [{"Id": "queue", "Arn": place.queue_arn()}]});
    place.standin.call("events", "put_targets", targets).await;
    let put = json!({"Entries": [{
        "Source": "aws.iam", "DetailType": "AWS API Call via CloudTrail",
        "Detail": record("by-rule"),
    }]});
    place.standin.call("events", "put_events", put).await;
    // Sound, but nothing of CloudTrail's.
    let foreign = json!({"source": "aws.guardduty", "detail-type": "GuardDuty Finding",
        "detail": {"severity": 8}});
    place.send(foreign.to_string()).await;
    let expected = [
        "by-rule",
        "direct",
        "events-enveloped",
        "events-raw",
        "file-1",
        "file-2",
        "line-1",
        "line-2",
    ];
    until("all events", async || fake.seen.has(&expected)).await;
    place.ends_with(0).await;
    assert_eq!(fake.seen.ids(), expected);
    fake.close();
    for task in tasks {
        task.await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_files_are_fetched_whatever_way_their_notification_came() {
    let place = Place::new("objects").await;
    let topic = json!({"Name": "objects-topic"});
    let topic = place.standin.call("sns", "create_topic", topic).await["TopicArn"].clone();
    let subscription = json!({"TopicArn": topic, "Protocol": "sqs", "Endpoint": place.queue_arn()});
    place.standin.call("sns", "subscribe", subscription).await;
    let pattern = json!({"source": ["aws.s3"], "detail": {
        "bucket": {"name": ["objects"]}, "object": {"key": [{"prefix": "event/"}]},
    }});
    let rule = json!({"Name": "objects", "EventPattern": pattern.to_string()});
    place.standin.call("events", "put_rule", rule).await;
    let targets =
        json!({"Rule": "objects", "Targets": [{"Id": "queue", "Arn": place.queue_arn()}]});
    place.standin.call("events", "put_targets", targets).await;
    let only =
        |prefix: &str| json!({"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}});
    // With this the bucket tries the queue and the topic with a test event each.
    let notifications = json!({"Bucket": "objects", "NotificationConfiguration": {
        "QueueConfigurations": [{
            "QueueArn": place.queue_arn(), "Events": ["s3:ObjectCreated:*"],
            "Filter": only("direct/"),
        }],
        "TopicConfigurations": [{
            "TopicArn": topic, "Events": ["s3:ObjectCreated:*"], "Filter": only("topic/"),
        }],
        "EventBridgeConfiguration": {},
    }});
    place.standin.call("s3", "put_bucket_notification_configuration", notifications).await;
    let name = "222233334444_CloudTrail_us-east-1_20260504T1405Z_Ab12.json.gz";
    for way in ["direct", "topic", "event"] {
        let key = format!("{way}/a b+c=d/ä%41/{name}");
        place.put(&key, gzip(log_file(&[way]).as_bytes())).await;
    }
    // A digest speaks of nothing, whoever tells of it.
    let digest = "222233334444_CloudTrail-Digest_us-east-1_t_us-east-1_20260504T140000Z.json.gz";
    place.put(&format!("direct/{digest}"), "never read").await;
    place.put("direct/plain.json", log_file(&["plain"])).await;
    place.put("trail/own.json.gz", gzip(log_file(&["own"]).as_bytes())).await;
    let own = json!({"s3Bucket": "objects", "s3ObjectKey": ["trail/own.json.gz"]});
    let message = json!({"TopicArn": topic, "Message": own.to_string()});
    place.standin.call("sns", "publish", message).await;

    let fake = Fake::new();
    place.start(&fake, place.config());
    until("all objects", async || fake.seen.has(&["direct", "event", "own", "plain", "topic"]))
        .await;
    place.ends_with(0).await;
    fake.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_goes_to_the_dead_letter_queue_and_the_rest_is_saved() {
    let place = Place::new("poison").await;
    place.put("there.json", log_file(&["there"])).await;
    place.send("not JSON").await;
    place.send(json!({"order": 7}).to_string()).await;
    place.send(r#"{"Records":[{"eventName":"#).await;
    place.send(json!({"s3Bucket": "elsewhere", "s3ObjectKey": ["a.json"]}).to_string()).await;
    place.tell_of("gone.json").await;
    // One object of two is there: its findings are saved.
    let both = json!({"s3Bucket": "poison", "s3ObjectKey": ["gone.json", "there.json"]});
    place.send(both.to_string()).await;
    place.send(event("sound")).await;
    let fake = Fake::new();
    place.start(&fake, place.config());
    place.ends_with(6).await;
    assert_eq!(fake.seen.ids(), ["sound", "there"]);
    fake.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_stays_hidden_as_long_as_the_work_lasts() {
    let place = Place::new("slow").await;
    let fake = Fake::new();
    fake.seen.dawdles_millis.store(5_000, Ordering::SeqCst);
    let config = SqsConfig { visibility_timeout_secs: 2, receivers: 2, ..place.config() };
    place.start(&fake, config);
    place.send(event("slow")).await;
    place.ends_with(0).await;
    assert_eq!((fake.seen.times("slow"), fake.seen.calls()), (1, 1));
    fake.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_saved_is_held_and_given_back_when_the_hub_closes() {
    let place = Place::new("failing").await;
    let fake = Fake::new();
    fake.seen.fails.store(true, Ordering::SeqCst);
    let tasks = place.start(&fake, place.config());
    place.send(event("held")).await;
    // Held: tried again and again, received once, so that the redrive policy does not strike.
    until("some tries", async || fake.seen.calls() > 3).await;
    assert_eq!(place.counts().await, (0, 1, 0));
    fake.close();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(place.counts().await, (1, 0, 0));
    assert_eq!(fake.seen.times("held"), 0);

    let next = Fake::new();
    next.seen.fails.store(true, Ordering::SeqCst);
    place.start(&next, place.config());
    until("some tries", async || next.seen.calls() > 2).await;
    next.seen.fails.store(false, Ordering::SeqCst);
    place.ends_with(0).await;
    assert_eq!(next.seen.times("held"), 1);
    next.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_large_objects_pass_in_batches() {
    let place = Place::new("large").await;
    let fake = Fake::new();
    // As large as SQS takes: 1 MiB.
    let padded = format!("{}{}", log_file(&["padded"]), " ".repeat(1 << 20));
    place.send(&padded[..1 << 20]).await;
    let ids: Vec<String> = (0..20_000).map(|number| format!("{number:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let text = log_file(&ids);
    assert!(text.len() > 6 << 20);
    place.put("large.json.gz", gzip(text.as_bytes())).await;
    place.tell_of("large.json.gz").await;
    place.start(&fake, place.config());
    until("all", async || fake.seen.has(&["padded"]) && fake.seen.ids().len() == 20_001).await;
    place.ends_with(0).await;
    let batch = fake.seen.batch_max.load(Ordering::SeqCst);
    assert!(batch <= 512, "{batch} findings in one batch");
    fake.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_damaged_log_file_the_sound_part_is_saved_and_a_whole_one_later_is_read() {
    let place = Place::new("damaged").await;
    let ids: Vec<String> = (0..2_000).map(|number| format!("{number:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let whole = gzip(log_file(&ids).as_bytes());
    place.put("cut.json.gz", &whole[..whole.len() / 2]).await;
    place.tell_of("cut.json.gz").await;
    let fake = Fake::new();
    place.start(&fake, place.config());
    place.ends_with(1).await;
    let saved = fake.seen.ids().len();
    assert!(saved > 200 && saved < 2_000, "{saved} of 2000");
    place.put("cut.json.gz", whole).await;
    place.tell_of("cut.json.gz").await;
    until("the rest", async || fake.seen.ids().len() == 2_000).await;
    fake.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_engine_is_given_nothing() {
    let place = Place::new("pressure").await;
    let fake = Fake::new();
    fake.seen.is_full.store(true, Ordering::SeqCst);
    place.start(&fake, place.config());
    place.send(event("later")).await;
    let before = fake.seen.asked();
    until("some looks", async || fake.seen.asked() > before + 4).await;
    assert_eq!(place.counts().await, (1, 0, 0));
    fake.seen.is_full.store(false, Ordering::SeqCst);
    place.ends_with(0).await;
    assert_eq!(fake.seen.times("later"), 1);
    fake.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_when_the_queue_is_out_of_reach_and_when_it_is_back() {
    let port = free_port();
    let sdk = standin::sdk(port);
    let fake = Fake::new();
    let url = format!("{}/{ACCOUNT}/late", endpoint(port));
    let _tasks = start_sqs_with(SqsConfig::new("late", &url), fake.surroundings(), &sdk);
    let state = || fake.status.sources().into_iter().find(|(name, _)| name == "sqs:late");
    until("trouble", async || state().is_some_and(|(_, trouble)| trouble.is_some())).await;
    let standin =
        tokio::task::spawn_blocking(move || Standin::start(port)).await.expect("a stand-in");
    let sqs = aws_sdk_sqs::Client::new(&standin.sdk());
    sqs.create_queue().queue_name("late").send().await.expect("a queue");
    let request = sqs.send_message().queue_url(&url).message_body(event("late"));
    request.send().await.expect("a message");
    until("the event", async || fake.seen.has(&["late"])).await;
    assert!(state().is_some_and(|(_, trouble)| trouble.is_none()), "{:?}", state());
    fake.close();
}
