//! The whole way on an emulator of AWS: stacks made from the templates that are shipped, the package
//! that is shipped, events put by a client that is not ours, and what a subscriber hears.
//!
//! What the emulator does not do and AWS does: alarms do not look at metrics (their state is set here,
//! and what they tell is looked at), bus policies, and dead letters of targets.

mod sample;
#[path = "../../../hub/tests/deploy/stage.rs"]
#[allow(dead_code, reason = "the hub's tests need the rest of it")]
mod stage;
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod standin;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rootwatch_core::finding::RootUse;
use rootwatch_store::dynamo::{DynamoOptions, DynamoStore};
use rootwatch_store::{FindingFilter, Lists as _, PageRequest, StoredFinding};
use serde_json::{Value, json};
use stage::{ACCOUNTS, HUB, HUB_REGION, organisation, package, put_event, put_event_on, spoke};
use standin::{Standin, free_port, sdk_at};
use tokio::sync::OnceCell;

const API_CALL: &str = "AWS API Call via CloudTrail";
const SIGN_IN: &str = "AWS Console Sign In via CloudTrail";
/// The place of the hub.
const THERE: (&str, &str) = (HUB, HUB_REGION);
/// Longest wait for anything to come through.
const WAIT: Duration = Duration::from_secs(90);

/// An organisation with a hub, on an emulator of its own that enforces what roles may do.
struct Organisation {
    standin: Standin,
    outputs: BTreeMap<String, String>,
}

/// The organisation that tests share which do not break it.
async fn shared() -> &'static Organisation {
    static SHARED: OnceCell<Organisation> = OnceCell::const_new();
    SHARED.get_or_init(Organisation::new).await
}

impl Organisation {
    async fn new() -> Self {
        let standin = tokio::task::spawn_blocking(|| Standin::start_with_iam(free_port()))
            .await
            .expect("one");
        let outputs = organisation(&standin, &[], package()).await;
        // What fails comes back at once, and not after the minutes that the template says.
        for queue in ["QueueUrl", "HistoryQueueUrl"] {
            let visible = json!({
                "QueueUrl": outputs[queue], "Attributes": { "VisibilityTimeout": "1" },
            });
            standin.call_at(THERE, "sqs", "set_queue_attributes", visible).await;
        }
        Self { standin, outputs }
    }

    /// A spoke in one more account.
    async fn spoke(&self, place: (&str, &str)) {
        self.standin.stacks(json!([spoke(place)])).await;
    }

    /// Somebody who listens to the topic from now on: a queue's URL.
    async fn listen(&self, name: &str) -> String {
        // As everywhere, the topic may only send where it is let in.
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage", "Resource": format!("arn:aws:sqs:{HUB_REGION}:{HUB}:{name}"),
            "Condition": { "ArnEquals": { "aws:SourceArn": self.outputs["TopicArn"] } },
        }] });
        let queue = json!({ "QueueName": name, "Attributes": { "Policy": policy.to_string() } });
        let queue = self.standin.call_at(THERE, "sqs", "create_queue", queue).await;
        let subscription = json!({
            "TopicArn": self.outputs["TopicArn"], "Protocol": "sqs",
            "Endpoint": format!("arn:aws:sqs:{HUB_REGION}:{HUB}:{name}"),
            "Attributes": { "RawMessageDelivery": "true" },
        });
        self.standin.call_at(THERE, "sns", "subscribe", subscription).await;
        queue["QueueUrl"].as_str().expect("a URL").to_owned()
    }

    /// What a listener hears of an account (or of anything that is named), until it is so many
    /// messages, and for a moment more.
    async fn hear(&self, listener: &str, of: &str, count: usize) -> Vec<Value> {
        let begin = Instant::now();
        let mut all = Vec::new();
        loop {
            let ask = json!({
                "QueueUrl": listener, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600,
                "WaitTimeSeconds": if all.len() < count { 10 } else { 3 },
            });
            let reply = self.standin.call_at(THERE, "sqs", "receive_message", ask).await;
            let messages = reply["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() && all.len() >= count {
                return all;
            }
            for message in messages {
                let body = message["Body"].as_str().expect("a body");
                if body.contains(of) {
                    all.push(serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())));
                }
            }
            assert!(begin.elapsed() < WAIT, "{} of {count} messages came: {all:?}", all.len());
        }
    }

    async fn findings(&self) -> Vec<StoredFinding> {
        let sdk = sdk_at(self.standin.port(), THERE);
        let options = DynamoOptions::of_table(self.outputs["TableName"].as_str());
        let store = DynamoStore::open(&sdk, &options).await.expect("a store");
        let page = PageRequest { items_max: 500, after: None };
        store.findings(&FindingFilter::default(), &page).await.expect("findings").items
    }

    async fn count(&self, queue: &str, attribute: &str) -> u64 {
        let ask = json!({ "QueueUrl": self.outputs[queue], "AttributeNames": [attribute] });
        let reply = self.standin.call_at(THERE, "sqs", "get_queue_attributes", ask).await;
        reply["Attributes"][attribute].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let begin = Instant::now();
        while !is_so().await {
            assert!(begin.elapsed() < WAIT, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// A record of the account's root user, as of now.
fn root(id: &str, (account, region): (&str, &str), name: &str, read_only: bool) -> Value {
    let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "eventVersion": "1.11", "eventID": id, "eventName": name,
        "eventSource": "iam.amazonaws.com", "eventTime": at,
        "awsRegion": region, "sourceIPAddress": "203.0.113.77", "eventType": "AwsApiCall",
        "readOnly": read_only, "recipientAccountId": account, "userAgent": "aws-cli/2.27",
        "userIdentity": {
            "type": "Root", "accountId": account, "arn": format!("arn:aws:iam::{account}:root"),
            "principalId": account,
        },
    })
}

/// A sign-in of the root user without MFA.
fn sign_in(id: &str, place: (&str, &str)) -> Value {
    let mut record = root(id, place, "ConsoleLogin", false);
    record["eventSource"] = json!("signin.amazonaws.com");
    record["eventType"] = json!("AwsConsoleSignIn");
    record["responseElements"] = json!({ "ConsoleLogin": "Success" });
    record["additionalEventData"] = json!({ "MFAUsed": "No" });
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn root_use_in_any_account_and_region_is_heard_once_and_nothing_is_lost() {
    let there = Organisation::new().await;
    let listener = there.listen("listener").await;
    let standin = &there.standin;
    let (second, third) = ((ACCOUNTS[1], "us-east-1"), (ACCOUNTS[2], HUB_REGION));
    // A sign-in, which only us-east-1 sees, a change in another region, and the hub's own account.
    let login = sign_in("login", second);
    put_event(standin, second, "aws.signin", SIGN_IN, &login).await;
    let change = root("change", third, "CreateAccessKey", false);
    put_event(standin, third, "aws.iam", API_CALL, &change).await;
    put_event(standin, (HUB, "us-east-1"), "aws.iam", API_CALL, &{
        root("own", (HUB, "us-east-1"), "DeactivateMFADevice", false)
    })
    .await;
    let heard = there.hear(&listener, "", 3).await;
    assert_eq!(heard.len(), 3, "each once: {heard:?}");
    let texts: Vec<String> = heard.iter().map(Value::to_string).collect();
    for account in ACCOUNTS {
        assert_eq!(texts.iter().filter(|text| text.contains(account)).count(), 1, "{account}");
    }

    // EventBridge delivers at least once; a read-only call is seen; a forged one is not.
    put_event(standin, second, "aws.signin", SIGN_IN, &login).await;
    put_event(standin, third, "aws.iam", API_CALL, &root("read", third, "GetUser", true)).await;
    let forged = root("forged", third, "CreateUser", false);
    put_event(standin, third, "my.app", API_CALL, &forged).await;
    put_event_on(standin, THERE, "rootwatch", "my.app", API_CALL, &forged).await;
    let is_read = async || {
        let findings = there.findings().await;
        findings.iter().any(|one| one.finding.event_id.as_deref() == Some("read"))
    };
    there.until("the read-only call is kept", is_read).await;
    there
        .until("the queue is empty", async || {
            there.count("QueueUrl", "ApproximateNumberOfMessages").await == 0
                && there.count("QueueUrl", "ApproximateNumberOfMessagesNotVisible").await == 0
        })
        .await;
    let findings = there.findings().await;
    let places: BTreeSet<[String; 3]> = findings
        .iter()
        .map(|one| {
            assert_eq!(one.finding.root_use, RootUse::Direct);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let finding = &one.finding;
            [text(&finding.event_id), text(&finding.account_id), text(&finding.region)]
        })
        .collect();
    let expected = [
        ["login", ACCOUNTS[1], "us-east-1"],
        ["change", ACCOUNTS[2], HUB_REGION],
        ["own", HUB, "us-east-1"],
        ["read", ACCOUNTS[2], HUB_REGION],
    ];
    assert_eq!(places, expected.map(|place| place.map(str::to_owned)).into());
    assert_eq!(findings.len(), expected.len(), "each once");
    assert_eq!(there.count("DeadLettersUrl", "ApproximateNumberOfMessages").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_ends_among_the_dead_letters_and_the_alarm_is_heard() {
    let there = Organisation::new().await;
    let listener = there.listen("listener").await;
    let queues = [("QueueUrl", "DeadLettersUrl"), ("HistoryQueueUrl", "HistoryDeadLettersUrl")];
    for (queue, _) in queues {
        let poison = "neither fish nor fowl";
        let send = json!({ "QueueUrl": there.outputs[queue], "MessageBody": poison });
        there.standin.call_at(THERE, "sqs", "send_message", send).await;
    }
    let place = (ACCOUNTS[1], "us-east-1");
    put_event(&there.standin, place, "aws.signin", SIGN_IN, &sign_in("login", place)).await;
    // The sound one beside it is not held up.
    assert_eq!(there.hear(&listener, place.0, 1).await.len(), 1);
    let alarms = there.standin.call_at(THERE, "cloudwatch", "describe_alarms", json!({})).await;
    let alarms = alarms["MetricAlarms"].as_array().expect("alarms").clone();
    for (_, dead) in queues {
        there
            .until("each is a dead letter of its own queue", async || {
                there.count(dead, "ApproximateNumberOfMessages").await == 1
            })
            .await;
        let name = there.outputs[dead].rsplit('/').next().expect("a name").to_owned();
        let is_ours = |alarm: &&Value| alarm["Dimensions"][0]["Value"] == name.as_str();
        let alarm = alarms.iter().find(is_ours).expect("an alarm on the dead letters");
        let state = json!({
            "AlarmName": alarm["AlarmName"], "StateValue": "ALARM", "StateReason": "one message",
        });
        there.standin.call_at(THERE, "cloudwatch", "set_alarm_state", state).await;
        let heard = there.hear(&listener, &format!("\"{name}\""), 1).await;
        assert!(heard[0].to_string().contains("ALARM"), "{heard:?}");
    }
}
