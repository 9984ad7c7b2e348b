//! The built function, called as Lambda calls it, over DynamoDB, SNS, SQS and S3 of the stand-in.

mod drain;
mod moody;
mod runtime;
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "the hub's tests use more of it")]
mod standin;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use rootwatch_store::dynamo::DynamoStore;
use runtime::Instance;
use serde_json::{Value, json};
use standin::Standin;
use tokio::process::Command;

const PROD: &str = "222233334444";
const CALLER: &str = "arn:aws:sts::111122223333:assumed-role/oncall/someone";

/// A table, a topic, and a queue that shows what the topic was sent.
struct Stage {
    standin: &'static Standin,
    environment: Vec<(String, String)>,
    heard: String,
}

impl Stage {
    async fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let standin = standin::shared().await;
        let name = format!("function-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        DynamoStore::create_table(&standin.sdk(), &name).await.expect("a table");
        let topic = standin.call("sns", "create_topic", json!({ "Name": name })).await;
        let topic = topic["TopicArn"].as_str().expect("an ARN").to_owned();
        let queue = standin.call("sqs", "create_queue", json!({ "QueueName": name })).await;
        let heard = queue["QueueUrl"].as_str().expect("a URL").to_owned();
        let arn = format!("arn:aws:sqs:us-east-1:{}:{name}", standin::ACCOUNT);
        let subscription = json!({
            "TopicArn": topic, "Protocol": "sqs", "Endpoint": arn,
            "Attributes": { "RawMessageDelivery": "true" },
        });
        standin.call("sns", "subscribe", subscription).await;
        let mut stage = Self { standin, environment: Vec::new(), heard };
        for (name, value) in [
            ("AWS_ENDPOINT_URL", standin.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", standin::ACCOUNT),
            ("AWS_SECRET_ACCESS_KEY", "none"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("ROOTWATCH_STORE__TABLE", name.as_str()),
            ("ROOTWATCH_NOTIFY__DESTINATION__SNS__CHANNEL", "sns"),
            ("ROOTWATCH_NOTIFY__DESTINATION__SNS__TOPIC", topic.as_str()),
            ("ROOTWATCH_LOG", "warn"),
        ] {
            stage.set(name, value);
        }
        stage
    }

    fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(there, _)| there != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    async fn instance(&self) -> Instance {
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Instance::start(program(), &environment).await
    }

    /// The alerts that a subscriber of the topic has heard so far, as JSON.
    async fn heard(&self) -> Vec<Value> {
        let mut heard = Vec::new();
        loop {
            // Hidden from then on: what is heard once is not heard again by this.
            let ask = json!({
                "QueueUrl": self.heard, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600,
            });
            let reply = self.standin.call("sqs", "receive_message", ask).await;
            let Some(messages) = reply["Messages"].as_array().filter(|some| !some.is_empty())
            else {
                return heard;
            };
            for message in messages {
                let body = message["Body"].as_str().expect("a body");
                heard.push(serde_json::from_str(body).expect("an alert in JSON"));
            }
        }
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    command.stdout(Stdio::null());
    command
}

/// When the sessions of these tests began: one moment for all, whatever hour begins between two calls.
static BEGAN: LazyLock<String> = LazyLock::new(|| {
    let began = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5);
    began.strftime("%Y-%m-%dT%H:%M:00Z").to_string()
});

/// A record in the envelope of EventBridge, some minutes ago.
fn event(id: &str, account: &str, name: &str, source_ip: &str) -> Value {
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(3);
    json!({
        "version": "0", "id": format!("envelope-{id}"), "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam", "account": account, "time": at.to_string(), "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "Root", "principalId": account, "arn": format!("arn:aws:iam::{account}:root"),
                "accountId": account, "accessKeyId": "ASIAEXAMPLEEXAMPLE00",
                "sessionContext": { "attributes": {
                    "creationDate": *BEGAN, "mfaAuthenticated": "false" } },
            },
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "eventSource": "iam.amazonaws.com", "eventName": name,
            "awsRegion": "us-east-1", "sourceIPAddress": source_ip, "userAgent": "aws-cli/2.27",
            "requestParameters": null, "responseElements": null, "requestID": format!("r-{id}"),
            "eventID": id, "readOnly": false, "eventType": "AwsApiCall", "managementEvent": true,
            "recipientAccountId": account, "eventCategory": "Management",
        },
    })
}

/// A batch of SQS of these bodies; messages are named after their place.
fn batch(bodies: &[String]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .enumerate()
        .map(|(place, body)| {
            json!({
                "messageId": format!("m-{place}"), "receiptHandle": "r", "body": body,
                "eventSource": "aws:sqs", "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:rootwatch",
            })
        })
        .collect();
    json!({ "Records": records })
}

/// A request to the function URL, as AWS hands it over when it has proved who sends it.
fn request(method: &str, path: &str, query: &str, caller: Option<&str>) -> Value {
    let authorizer =
        caller.map(|arn| json!({ "iam": { "userArn": arn, "accountId": "111122223333" } }));
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": { "host": "example.lambda-url.us-east-1.on.aws", "content-type": "application/json" },
        "requestContext": {
            "accountId": "111122223333", "apiId": "example", "domainName": "example.lambda-url.us-east-1.on.aws",
            "domainPrefix": "example", "http": {
                "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" },
            "requestId": "id", "routeKey": "$default", "stage": "$default",
            "time": "04/May/2026:14:03:00 +0000", "timeEpoch": 1_777_903_380_000_i64,
            "authorizer": authorizer,
        },
        "body": if method == "POST" { "{}" } else { "" }, "isBase64Encoded": false,
    })
}

/// Status and body of an answer to a request.
fn answered(answer: &Value) -> (u64, Value) {
    let body = answer["body"].as_str().unwrap_or_default();
    let body = if answer["isBase64Encoded"] == true {
        let bytes = base64::engine::general_purpose::STANDARD.decode(body).expect("base64");
        String::from_utf8(bytes).expect("text")
    } else {
        body.to_owned()
    };
    let status = answer["statusCode"].as_u64().expect("a status");
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn incidents(instance: &mut Instance) -> Vec<Value> {
    let answer = instance.invoke(request("GET", "/v1/incidents", "limit=100", Some(CALLER))).await;
    let (status, page) = answered(&answer.expect("an answer"));
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().expect("a list").clone()
}

fn failed(answer: &Value) -> BTreeSet<String> {
    let list = answer["batchItemFailures"].as_array().expect("failures");
    list.iter().map(|one| one["itemIdentifier"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_from_the_queue_is_saved_told_once_and_shown() {
    let stage = Stage::new().await;
    let mut instance = stage.instance().await;
    let body = event("e-1", PROD, "CreateAccessKey", "203.0.113.77").to_string();
    let answer = instance.invoke(batch(std::slice::from_ref(&body))).await.expect("an answer");
    assert_eq!(failed(&answer), BTreeSet::new());
    let heard = stage.heard().await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].to_string().contains(PROD), "{heard:?}");
    // It comes again, to this process and to another one: nothing is doubled.
    let mut other = stage.instance().await;
    for again in [&mut instance, &mut other] {
        let answer = again.invoke(batch(&[body.clone(), body.clone()])).await.expect("an answer");
        assert_eq!(failed(&answer), BTreeSet::new());
    }
    assert_eq!(stage.heard().await.len(), 0);
    let listed = incidents(&mut other).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["alerts"], &listed[0]["findings_total"]), (&1.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_gather_one_session_into_one_incident() {
    let stage = Stage::new().await;
    let mut instances = [stage.instance().await, stage.instance().await];
    for number in 0..10 {
        let body = event(&format!("e-{number}"), PROD, &format!("Create{number}"), "203.0.113.77");
        let answer = instances[number % 2].invoke(batch(&[body.to_string()])).await;
        assert_eq!(failed(&answer.expect("an answer")), BTreeSet::new());
    }
    let listed = incidents(&mut instances[0]).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["findings_total"], 10);
    let heard = stage.heard().await;
    assert_eq!(heard.len() as u64, listed[0]["alerts"].as_u64().expect("a number"), "{heard:?}");
}

/// A forged record that comes again writes nothing. What another process commits next was taken for
/// that, and not read: a session became two incidents.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_commits_after_a_repeat_that_wrote_nothing_is_seen() {
    let stage = Stage::new().await;
    let mut one = stage.instance().await;
    let mut other = stage.instance().await;
    let mut forged = event("forged", PROD, "CreateUser", "203.0.113.77");
    forged["source"] = "my.app".into();
    one.invoke(event("e-0", "333344445555", "CreateUser", "203.0.113.9")).await.expect("taken");
    one.invoke(forged.clone()).await.expect("taken");
    one.invoke(forged).await.expect("taken");
    other.invoke(event("e-1", PROD, "CreateUser", "203.0.113.77")).await.expect("taken");
    one.invoke(event("e-2", PROD, "CreateAccessKey", "203.0.113.77")).await.expect("taken");
    let listed = incidents(&mut other).await;
    let found: Vec<_> = listed.iter().filter(|one| one["accounts"][0] == PROD).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["findings_total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_fails_alone() {
    let stage = Stage::new().await;
    let mut instance = stage.instance().await;
    let sound = event("e-1", PROD, "CreateUser", "203.0.113.77").to_string();
    let torn = sound[..sound.len() / 2].to_owned();
    let bodies = [sound, "{\"no\":\"event\"}".to_owned(), torn, "not JSON".to_owned()];
    let answer = instance.invoke(batch(&bodies)).await.expect("an answer");
    let expected: BTreeSet<String> = ["m-1", "m-2", "m-3"].map(str::to_owned).into();
    assert_eq!(failed(&answer), expected);
    assert_eq!(stage.heard().await.len(), 1);
    // What comes by itself fails as a whole.
    let nameless =
        json!({ "Records": [{ "eventSource": "aws:s3", "eventName": "ObjectCreated:Put" }] });
    let refused = instance.invoke(nameless).await.expect_err("names no object");
    assert!(refused.to_string().contains("without bucket"), "{refused}");
    let refused = instance.invoke(json!({ "who": "knows" })).await.expect_err("unknown");
    assert!(refused.to_string().contains("expected an SQS batch"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_directly_is_told_and_a_forged_one_is_kept_apart() {
    let stage = Stage::new().await;
    let mut instance = stage.instance().await;
    let mut forged = event("e-1", PROD, "CreateUser", "203.0.113.77");
    forged["source"] = "my.app".into();
    instance.invoke(forged).await.expect("taken");
    assert_eq!(incidents(&mut instance).await.len(), 0);
    let unverified = instance.invoke(request("GET", "/v1/unverified", "", Some(CALLER))).await;
    let (_, page) = answered(&unverified.expect("an answer"));
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(stage.heard().await.len(), 0);
    instance.invoke(event("e-2", PROD, "CreateUser", "203.0.113.77")).await.expect("taken");
    assert_eq!(stage.heard().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_url_lets_in_whom_aws_vouches_for_and_nobody_else() {
    let stage = Stage::new().await;
    let mut instance = stage.instance().await;
    instance.invoke(event("e-1", PROD, "CreateUser", "203.0.113.77")).await.expect("taken");
    let mut stranger = request("GET", "/v1/incidents", "", None);
    stranger["headers"]["host"] = "localhost".into();
    let (status, _) = answered(&instance.invoke(stranger).await.expect("an answer"));
    assert_eq!(status, 401);
    let listed = incidents(&mut instance).await;
    let id = listed[0]["id"].as_str().expect("an id");
    let path = format!("/v1/incidents/{id}/acknowledge");
    let (status, taken) = answered(
        &instance.invoke(request("POST", &path, "", Some(CALLER))).await.expect("an answer"),
    );
    assert_eq!(status, 200, "{taken}");
    assert_eq!(incidents(&mut instance).await[0]["handled"]["by"], CALLER);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sns_does_not_take_is_sent_by_a_later_call() {
    let mut stage = Stage::new().await;
    // Nobody listens there.
    stage.set("ROOTWATCH_NOTIFY__DESTINATION__SNS__ENDPOINT_URL", "http://127.0.0.1:9");
    let mut away = stage.instance().await;
    let body = event("e-1", PROD, "CreateUser", "203.0.113.77").to_string();
    let answer = away.invoke_within(batch(&[body]), Duration::from_secs(8)).await;
    // Saved, so the queue may forget it; owed, so it is not lost.
    assert_eq!(failed(&answer.expect("an answer")), BTreeSet::new());
    assert_eq!(stage.heard().await.len(), 0);
    drop(away);
    stage
        .environment
        .retain(|(name, _)| !name.ends_with("ENDPOINT_URL") || name == "AWS_ENDPOINT_URL");
    let mut back = stage.instance().await;
    let mut heard = Vec::new();
    for _ in 0..40 {
        let answer = back.invoke(json!({ "rootwatch": "tick" })).await.expect("a tick");
        assert!(answer["delivered"].is_u64(), "{answer}");
        heard.extend(stage.heard().await);
        if !heard.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(heard.len(), 1, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_files_are_read_when_their_notification_comes_and_old_ones_wake_nobody() {
    let mut stage = Stage::new().await;
    let bucket = "function-trail";
    stage.set("ROOTWATCH_SOURCE__LAMBDA__BUCKETS", &json!([bucket]).to_string());
    stage.standin.call("s3", "create_bucket", json!({ "Bucket": bucket })).await;
    let record = |id: &str, account: &str| {
        let event = event(id, account, "CreateUser", "203.0.113.77");
        json!({ "Records": [event["detail"]] }).to_string()
    };
    for (key, body) in
        [("live.json", record("e-1", PROD)), ("old.json", record("e-2", "333344445555"))]
    {
        stage
            .standin
            .call("s3", "put_object", json!({ "Bucket": bucket, "Key": key, "Body": body }))
            .await;
    }
    let notification = |bucket: &str, key: &str| {
        json!({ "Records": [{
            "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "s3": { "bucket": { "name": bucket }, "object": { "key": key, "size": 1 } },
        }] })
    };
    let mut instance = stage.instance().await;
    let mut old = notification(bucket, "old.json");
    old["rootwatch"] = json!({ "history": "scan-1" });
    let bodies = [
        notification(bucket, "live.json").to_string(),
        old.to_string(),
        notification("another", "live.json").to_string(),
        notification(bucket, "missing.json").to_string(),
    ];
    let answer = instance.invoke(batch(&bodies)).await.expect("an answer");
    assert_eq!(failed(&answer), ["m-2", "m-3"].map(str::to_owned).into());
    let listed = incidents(&mut instance).await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for incident in &listed {
        let is_old = incident["accounts"][0] == "333344445555";
        assert_eq!(incident["history"], is_old, "{incident}");
    }
    let heard = stage.heard().await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].to_string().contains(PROD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_fails_every_message_and_nothing_is_told() {
    let mut stage = Stage::new().await;
    let mut instance = stage.instance().await;
    // The table goes away under a process that has begun.
    let table =
        stage.environment.iter().find(|(name, _)| name.ends_with("TABLE")).expect("a table");
    let table = table.1.clone();
    stage.standin.call("dynamodb", "delete_table", json!({ "TableName": table })).await;
    let body = event("e-1", PROD, "CreateUser", "203.0.113.77").to_string();
    let answer =
        instance.invoke_within(batch(std::slice::from_ref(&body)), Duration::from_secs(5)).await;
    assert_eq!(failed(&answer.expect("an answer")), ["m-0".to_owned()].into());
    let alone =
        instance.invoke_within(serde_json::from_str(&body).expect("JSON"), Duration::from_secs(5));
    alone.await.expect_err("not saved");
    let tick = instance.invoke_within(json!({ "rootwatch": "tick" }), Duration::from_secs(5));
    tick.await.expect_err("not saved");
    assert_eq!(stage.heard().await.len(), 0);
    // Without a table named at all, nothing starts.
    stage.environment.retain(|(name, _)| !name.ends_with("TABLE"));
    assert!(!stage.instance().await.end().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_told_once_a_minute_and_marked_as_a_test() {
    let stage = Stage::new().await;
    let mut instance = stage.instance().await;
    let drill = json!({
        "version": "0", "id": "d-1", "source": "rootwatch.drill", "detail-type": "Drill",
        "account": PROD, "region": "eu-west-1", "time": "2026-05-04T14:03:00Z", "resources": [],
        "detail": {},
    });
    let bodies = vec![drill.to_string(); 5];
    let answer = instance.invoke(batch(&bodies)).await.expect("an answer");
    assert_eq!(failed(&answer), BTreeSet::new());
    let heard = stage.heard().await;
    // A minute may begin between two of them.
    assert!((1..=2).contains(&heard.len()), "{heard:?}");
    assert_eq!(heard[0]["kind"], "test", "{heard:?}");
    assert!(heard[0].to_string().contains(PROD), "{heard:?}");
    assert_eq!(incidents(&mut instance).await.len(), 0);
}
