//! The channel `eventbridge`, against a scripted EventBridge and the stand-in.

use rootwatch_core::alert::{Alert, AlertKind, CloseReason};
use rootwatch_notify::Sent;
use rootwatch_notify::channels::eventbridge::ENTRY_BYTES_MAX;
use serde_json::{Value, json};

use crate::aws::{json_error, judges_answers, ok, probe, probe_of_standin, sent, sent_to_standin};
use crate::common::{Memory, PROD, Server, opened};
use crate::standin::{ACCOUNT, shared};
use crate::words::{alerts, rendered};

const GOOD: &str = r#"{ "FailedEntryCount": 0, "Entries": [{ "EventId": "e-1" }] }"#;

fn keys(bus: &str) -> Value {
    json!({ "channel": "eventbridge", "bus": bus, "region": "us-east-1" })
}

fn entry(alert: &Alert) -> Value {
    let body: Value = serde_json::from_slice(&rendered("eventbridge", alert)).expect("JSON");
    assert_eq!(body["Entries"].as_array().map(Vec::len), Some(1));
    body["Entries"][0].clone()
}

/// As the manual of EventBridge counts: 14 bytes for a time, the bytes of source, type, detail and
/// each resource.
fn size(entry: &Value) -> usize {
    let text = |key: &str| entry[key].as_str().expect("a text").len();
    let resources = entry["Resources"].as_array().expect("a list");
    let resources = resources.iter().map(|one| one.as_str().expect("a text").len()).sum::<usize>();
    14 + text("Source") + text("DetailType") + text("Detail") + resources
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    judges_answers(&keys("security"), &opened(), GOOD).await;
}

#[tokio::test]
async fn an_answer_of_success_can_hold_a_failure() {
    for (code, wanted) in [
        ("ThrottlingException", "later"),
        ("InternalFailure", "later"),
        ("InternalException", "later"),
        ("MalformedDetail", "never"),
        ("NotAuthorizedForSourceException", "never"),
        ("AccessDeniedException", "ours"),
        ("ResourceNotFoundException", "ours"),
    ] {
        let body = json!({ "FailedEntryCount": 1,
            "Entries": [{ "ErrorCode": code, "ErrorMessage": "said AWS" }] });
        let server = Server::new(&[ok(&body.to_string())]).await;
        let result = sent(&keys("security"), &server, opened(), &Memory::default()).await;
        let found = match &result {
            Sent::RetryAfter { .. } => "later",
            Sent::Rejected { .. } => "never",
            Sent::Misconfigured { .. } => "ours",
            Sent::Delivered { .. } => "delivered",
        };
        assert_eq!(found, wanted, "{code}: {result:?}");
        assert!(result.error().is_some_and(|error| error.contains(code)), "{result:?}");
    }
    let server = Server::new(&[ok(r#"{ "FailedEntryCount": 1, "Entries": [{}] }"#)]).await;
    let result = sent(&keys("security"), &server, opened(), &Memory::default()).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
}

#[test]
fn an_entry_is_whole_up_to_the_limit_and_shortened_beyond() {
    for (name, alert) in alerts() {
        let entry = entry(&alert);
        assert!(size(&entry) <= ENTRY_BYTES_MAX, "{name}");
        let detail: Value =
            serde_json::from_str(entry["Detail"].as_str().expect("a text")).expect("JSON");
        assert_eq!(detail["id"], alert.id, "{name}");
    }
    let padded = |bytes: usize| {
        let mut alert = opened();
        alert.findings[0].error_message = Some("x".repeat(bytes));
        entry(&alert)
    };
    let room = ENTRY_BYTES_MAX - size(&padded(0));
    for (bytes, is_whole) in [(room - 1, true), (room, true), (room + 1, false)] {
        let entry = padded(bytes);
        assert!(size(&entry) <= ENTRY_BYTES_MAX);
        assert_eq!(
            entry["Detail"].as_str().is_some_and(|text| text.contains("shortened")),
            !is_whole
        );
    }
    assert_eq!(size(&padded(room)), ENTRY_BYTES_MAX);
}

#[test]
fn what_is_no_bus_is_found_offline() {
    for bus in [
        "",
        "a b",
        "arn:aws:sns:eu-west-1:123456789012:a",
        "arn:aws:events:eu-west-1:1:event-bus/a",
        "arn:aws:events:eu-west-1:123456789012:rule/a",
    ] {
        let text = json!({ "destination": { "a": keys(bus) } }).to_string();
        let faults = rootwatch_notify::Notifier::check(&crate::common::config(&text));
        assert_eq!(faults.len(), 1, "{bus}");
    }
}

#[tokio::test]
async fn a_rule_on_the_bus_takes_what_it_asks_for() {
    let aws = shared().await;
    aws.call("events", "create_event_bus", json!({ "Name": "notify-bus" })).await;
    let queue = aws.call("sqs", "create_queue", json!({ "QueueName": "notify-bus" })).await;
    let pattern = json!({ "source": ["rootwatch"], "detail-type": ["Rootwatch Alert Closed"],
        "detail": { "severity": ["high", "critical"] } });
    let rule = json!({ "Name": "notify-rule", "EventBusName": "notify-bus",
        "EventPattern": pattern.to_string() });
    aws.call("events", "put_rule", rule).await;
    let target = json!({ "Rule": "notify-rule", "EventBusName": "notify-bus",
        "Targets": [{ "Id": "1", "Arn": format!("arn:aws:sqs:us-east-1:{ACCOUNT}:notify-bus") }] });
    aws.call("events", "put_targets", target).await;
    let opened_one = sent_to_standin(&keys("notify-bus"), opened()).await;
    assert!(matches!(opened_one, Sent::Delivered { .. }), "{opened_one:?}");
    let mut closed = opened();
    closed.kind = AlertKind::Closed { why: CloseReason::Resolved };
    let arn = format!("arn:aws:events:us-east-1:{ACCOUNT}:event-bus/notify-bus");
    let result = sent_to_standin(&keys(&arn), closed).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    let ask =
        json!({ "QueueUrl": queue["QueueUrl"], "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
    let answer = aws.call("sqs", "receive_message", ask).await;
    let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
    assert_eq!(messages.len(), 1, "{answer}");
    let event: Value =
        serde_json::from_str(messages[0]["Body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(event["id"], receipt.as_str());
    assert_eq!(event["source"], "rootwatch");
    assert_eq!(event["resources"], json!([format!("arn:aws:iam::{PROD}:root")]));
    assert_eq!(event["detail"]["kind"], "closed");
    assert_eq!(event["detail"]["incidents"][0]["accounts"][0]["id"], PROD);
    let result = probe_of_standin(&keys("notify-bus")).await;
    assert_eq!(result, Sent::Delivered { receipt: format!("{arn} is there") });
    let result = probe_of_standin(&keys("nowhere")).await;
    assert!(matches!(result, Sent::Misconfigured { .. }), "{result:?}");
}

#[tokio::test]
async fn a_probe_puts_nothing_on_the_bus() {
    let server = Server::new(&[json_error(400, "AccessDeniedException")]).await;
    let result = probe(&keys("security"), &server).await;
    let Sent::Misconfigured { error } = &result else { panic!("{result:?}") };
    assert!(error.contains("events:DescribeEventBus"), "{error}");
    let target = server.request(0).header("x-amz-target").map(str::to_owned);
    assert_eq!(target.as_deref(), Some("AWSEvents.DescribeEventBus"));
}
