//! The channel `sns`, against a scripted SNS and the stand-in.

use std::collections::BTreeMap;

use rootwatch_core::alert::{AccountName, Alert};
use rootwatch_notify::Sent;
use rootwatch_notify::channels::sns::{MESSAGE_BYTES_MAX, SUBJECT_CHARS_MAX};
use serde_json::{Value, json};

use crate::aws::{judges_answers, ok, probe, probe_of_standin, sent, sent_to_standin, xml_error};
use crate::common::{Memory, PROD, Server, opened};
use crate::standin::{ACCOUNT, shared};
use crate::words::{alerts, rendered};

const GOOD: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m-1</MessageId></PublishResult></PublishResponse>";

fn keys(topic: &str) -> Value {
    json!({ "channel": "sns", "topic": format!("arn:aws:sns:us-east-1:{ACCOUNT}:{topic}") })
}

fn pairs(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    judges_answers(&keys("a"), &opened(), GOOD).await;
    for (name, advice) in [
        ("KMSAccessDenied", "kms:GenerateDataKey*"),
        ("KMSDisabled", "enabled"),
        ("AuthorizationError", "sns:Publish"),
        ("NotFound", "no such topic"),
    ] {
        let server = Server::new(&[xml_error(400, name)]).await;
        let result = sent(&keys("a"), &server, opened(), &Memory::default()).await;
        let Sent::Misconfigured { error } = &result else { panic!("{name}: {result:?}") };
        assert!(error.contains(name) && error.contains(advice), "{error}");
    }
    for (name, is_later) in [("KMSThrottling", true), ("InvalidParameter", false)] {
        let server = Server::new(&[xml_error(400, name)]).await;
        let result = sent(&keys("a"), &server, opened(), &Memory::default()).await;
        assert_eq!(matches!(result, Sent::RetryAfter { .. }), is_later, "{name}: {result:?}");
        assert_eq!(matches!(result, Sent::Rejected { .. }), !is_later, "{name}: {result:?}");
    }
}

#[test]
fn limits_are_kept_by_every_message() {
    for (name, alert) in alerts() {
        let form = pairs(&rendered("sns", &alert));
        let subject = &form["Subject"];
        assert!((1..=SUBJECT_CHARS_MAX).contains(&subject.len()), "{name}: {subject}");
        assert!(subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {subject}");
        assert!(subject.starts_with(|first: char| first.is_ascii_graphic()), "{name}: {subject}");
        assert!(size(&form) <= MESSAGE_BYTES_MAX, "{name}");
        assert!(!form.contains_key("MessageAttributes.entry.11.Name"));
        let parts: Value = serde_json::from_str(&form["Message"]).expect("JSON");
        let machine: Value =
            serde_json::from_str(parts["default"].as_str().expect("a text")).expect("JSON");
        assert_eq!(machine["kind"], alert.kind.name(), "{name}");
        assert!(parts["email"].as_str().is_some_and(|text| text.len() <= 16 << 10), "{name}");
    }
}

fn size(form: &BTreeMap<String, String>) -> usize {
    let attributes = form.iter().filter(|(key, _)| key.starts_with("MessageAttributes"));
    form["Message"].len() + attributes.map(|(_, value)| value.len()).sum::<usize>()
}

/// An alert whose message has this many bytes more than the smallest.
fn padded(bytes: usize) -> Alert {
    let mut alert = opened();
    alert.findings[0].error_message = Some("x".repeat(bytes));
    alert
}

#[test]
fn a_message_is_whole_up_to_the_limit_and_shortened_beyond() {
    let around = size(&pairs(&rendered("sns", &padded(0))));
    for (more, is_whole) in [(-1, true), (0, true), (1, false)] {
        let bytes = (MESSAGE_BYTES_MAX - around).checked_add_signed(more).expect("a size");
        let form = pairs(&rendered("sns", &padded(bytes)));
        let parts: Value = serde_json::from_str(&form["Message"]).expect("JSON");
        let machine: Value =
            serde_json::from_str(parts["default"].as_str().expect("a text")).expect("JSON");
        assert_eq!(machine.get("shortened").is_none(), is_whole, "{more}");
        assert!(size(&form) <= MESSAGE_BYTES_MAX);
        if is_whole {
            assert_eq!(size(&form), MESSAGE_BYTES_MAX.saturating_add_signed(more));
        }
    }
    let mut many = opened();
    many.incidents[0].accounts =
        vec![AccountName { id: PROD.to_owned(), ..AccountName::default() }; 1_000];
    assert!(size(&pairs(&rendered("sns", &many))) <= MESSAGE_BYTES_MAX);
}

#[tokio::test]
async fn a_fifo_topic_gets_a_group_and_the_same_id_in_every_retry() {
    let server = Server::new(&[crate::common::Answer::Close, ok(GOOD)]).await;
    let first = sent(&keys("a.fifo"), &server, opened(), &Memory::default()).await;
    assert!(matches!(first, Sent::RetryAfter { .. }), "{first:?}");
    let again = sent(&keys("a.fifo"), &server, opened(), &Memory::default()).await;
    assert!(matches!(again, Sent::Delivered { .. }), "{again:?}");
    assert_eq!(server.request(0).body, server.request(1).body);
    let form = pairs(&server.request(0).body);
    assert_eq!(form["MessageGroupId"], opened().thread());
    assert_eq!(form["MessageDeduplicationId"].len(), 64);
    let mut alert = opened();
    alert.id = "another".to_owned();
    sent(&keys("a.fifo"), &server, alert, &Memory::default()).await;
    let other = pairs(&server.request(2).body);
    assert_ne!(other["MessageDeduplicationId"], form["MessageDeduplicationId"]);
}

#[test]
fn what_is_no_topic_is_found_offline() {
    for topic in [
        "a",
        "arn:aws:sqs:us-east-1:111122223333:a",
        "arn:aws:sns:evil.test/:111122223333:a",
        "arn:aws:sns:us-east-1:1:a",
        "arn:aws:sns:us-east-1:111122223333:a:b",
    ] {
        let text =
            json!({ "destination": { "a": { "channel": "sns", "topic": topic } } }).to_string();
        let faults = rootwatch_notify::Notifier::check(&crate::common::config(&text));
        assert_eq!(faults.len(), 1, "{topic}");
    }
}

/// A queue of the stand-in that gets what a new topic is told.
async fn topic_and_queue(name: &str, fifo: bool) -> (String, String) {
    let aws = shared().await;
    let end = if fifo { ".fifo" } else { "" };
    let attributes = if fifo { json!({ "FifoTopic": "true" }) } else { json!({}) };
    let made = aws
        .call(
            "sns",
            "create_topic",
            json!({ "Name": format!("{name}{end}"), "Attributes": attributes }),
        )
        .await;
    let topic = made["TopicArn"].as_str().expect("an ARN").to_owned();
    let attributes = if fifo { json!({ "FifoQueue": "true" }) } else { json!({}) };
    let queue = aws
        .call(
            "sqs",
            "create_queue",
            json!({ "QueueName": format!("{name}{end}"), "Attributes": attributes }),
        )
        .await;
    let url = queue["QueueUrl"].as_str().expect("a URL").to_owned();
    let arn = format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}{end}");
    let subscribe = json!({ "TopicArn": topic, "Protocol": "sqs", "Endpoint": arn });
    aws.call("sns", "subscribe", subscribe).await;
    (topic, url)
}

async fn received(url: &str) -> Vec<Value> {
    let ask = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
    let answer = shared().await.call("sqs", "receive_message", ask).await;
    let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
    messages
        .iter()
        .map(|one| serde_json::from_str(one["Body"].as_str().expect("a body")).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn a_queue_that_subscribed_receives_the_alert_in_json() {
    let (topic, url) = topic_and_queue("notify-standard", false).await;
    let keys = json!({ "channel": "sns", "topic": topic });
    let result = sent_to_standin(&keys, opened()).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    let messages = received(&url).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["MessageId"], receipt.as_str());
    assert!(messages[0]["Subject"].as_str().is_some_and(|text| text.contains("prod-payments")));
    let alert: Value =
        serde_json::from_str(messages[0]["Message"].as_str().expect("a text")).expect("JSON");
    assert_eq!(alert["kind"], "opened");
    assert_eq!(alert["findings"][0]["event_name"], "ConsoleLogin");
    assert_eq!(messages[0]["MessageAttributes"]["severity"]["Value"], "critical");
    let accounts = &messages[0]["MessageAttributes"]["account_id"];
    assert_eq!(accounts["Type"], "String.Array");
    assert_eq!(accounts["Value"], format!("[\"{PROD}\"]"));
    let result = probe_of_standin(&keys).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    assert_eq!(receipt, "the topic is there; 1 subscriber");
}

#[tokio::test]
async fn a_fifo_topic_tells_once_what_is_sent_twice() {
    let (topic, url) = topic_and_queue("notify-fifo", true).await;
    let keys = json!({ "channel": "sns", "topic": topic });
    for _ in 0..2 {
        let result = sent_to_standin(&keys, opened()).await;
        assert!(matches!(result, Sent::Delivered { .. }), "{result:?}");
    }
    assert_eq!(received(&url).await.len(), 1);
}

#[tokio::test]
async fn a_filter_policy_keeps_away_what_is_of_another_account() {
    let (topic, url) = topic_and_queue("notify-filter", false).await;
    let aws = shared().await;
    let listed = aws.call("sns", "list_subscriptions_by_topic", json!({ "TopicArn": topic })).await;
    let filter = json!({ "account_id": ["333344445555"] }).to_string();
    let set = json!({ "SubscriptionArn": listed["Subscriptions"][0]["SubscriptionArn"],
        "AttributeName": "FilterPolicy", "AttributeValue": filter });
    aws.call("sns", "set_subscription_attributes", set).await;
    let keys = json!({ "channel": "sns", "topic": topic });
    sent_to_standin(&keys, opened()).await;
    assert_eq!(received(&url).await.len(), 0);
    let mut other = opened();
    other.incidents[0].accounts[0].id = "333344445555".to_owned();
    sent_to_standin(&keys, other).await;
    assert_eq!(received(&url).await.len(), 1);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_a_fault_of_the_configuration() {
    for result in [
        sent_to_standin(&keys("nowhere"), opened()).await,
        probe_of_standin(&keys("nowhere")).await,
    ] {
        let Sent::Misconfigured { error } = &result else { panic!("{result:?}") };
        assert!(error.contains("no such topic"), "{error}");
    }
}

fn attributes(key: &str) -> String {
    format!(
        "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>TopicArn</key>\
         <value>a</value></entry><entry><key>KmsMasterKeyId</key><value>{key}</value></entry></Attributes>\
         </GetTopicAttributesResult></GetTopicAttributesResponse>"
    )
}

const SUBSCRIBERS: &str = "<ListSubscriptionsByTopicResponse><ListSubscriptionsByTopicResult><Subscriptions>\
    <member><SubscriptionArn>PendingConfirmation</SubscriptionArn><Protocol>email</Protocol>\
    <Endpoint>anna.example@example.com</Endpoint></member></Subscriptions>\
    </ListSubscriptionsByTopicResult></ListSubscriptionsByTopicResponse>";

#[tokio::test]
async fn a_probe_says_who_has_not_confirmed_and_what_it_may_not_see() {
    let server = Server::new(&[
        ok(&attributes("alias/root-use")),
        crate::aws::json_error(400, "AccessDeniedException"),
        ok(SUBSCRIBERS),
    ])
    .await;
    let result = probe(&keys("a"), &server).await;
    let Sent::Misconfigured { error } = &result else { panic!("{result:?}") };
    assert!(error.contains("not confirmed yet: a…@example.com (email)"), "{error}");
    assert!(error.contains("alias/root-use: not allowed to look at the key"), "{error}");
    assert!(!error.contains("anna"), "{error}");
    let disabled = ok(r#"{ "KeyMetadata": { "KeyId": "k", "KeyState": "PendingDeletion" } }"#);
    let server = Server::new(&[ok(&attributes("alias/root-use")), disabled]).await;
    let result = probe(&keys("a"), &server).await;
    assert!(matches!(&result, Sent::Misconfigured { error } if error.contains("PendingDeletion")));
}
