//! What people and programs read, for each kind of alert and each channel.

use std::collections::BTreeSet;

use rootwatch_core::alert::{Alert, AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::incident::IncidentState;
use rootwatch_core::window::Approval;
use rootwatch_notify::channels::{ChannelConfig, slack, webhook};
use rootwatch_notify::config::Common;
use rootwatch_notify::wording::COMPACT_COLUMNS_MAX;
use rootwatch_notify::{DestinationConfig, NotifyConfig, preview, sample};
use serde_json::{Value, json};

use crate::common::{Manual, PROD, alert, incident, key_created, opened, record, sign_in};

const NOW: &str = "2026-05-04T14:07:40Z";
const SANDBOX: &str = "333344445555";

/// A session: a sign-in without MFA, and a key that it created.
fn session() -> Vec<Value> {
    vec![sign_in(PROD, "2026-05-04T14:03:00Z", "Success"), key_created("2026-05-04T14:07:00Z")]
}

fn about_telling(kind: AlertKind) -> Alert {
    let mut alert = opened();
    alert.kind = kind;
    alert.id = "telling-chat-1777903420.1".to_owned();
    alert.incidents.clear();
    alert.findings.clear();
    alert.fresh.clear();
    alert.next.clear();
    alert.note = Some("the server answered 404 Not Found: no_service".to_owned());
    alert
}

pub(crate) fn alerts() -> Vec<(&'static str, Alert)> {
    let from = rootwatch_core::finding::Severity::High;
    let mut over = incident(&session());
    over.state = IncidentState::Quiet;
    let mut taken = incident(&session());
    taken.state = IncidentState::Acknowledged;
    let failed: Vec<Value> = (0..6)
        .map(|minute| sign_in(PROD, &format!("2026-05-04T14:0{minute}:00Z"), "Failure"))
        .collect();
    let spray = [
        sign_in(PROD, "2026-05-04T13:50:00Z", "Failure"),
        sign_in(SANDBOX, "2026-05-04T13:50:10Z", "Failure"),
        sign_in("111122223333", "2026-05-04T13:50:20Z", "Failure"),
    ];
    let privileged = [json!({
        "eventVersion": "1.11",
        "userIdentity": { "type": "AssumedRole", "accountId": "111122223333",
            "arn": "arn:aws:sts::111122223333:assumed-role/ops/anna@example.com" },
        "eventTime": "2026-05-04T13:52:00Z", "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRoot", "awsRegion": "us-east-1", "sourceIPAddress": "192.0.2.10",
        "userAgent": "Boto3/1.34", "eventID": "one", "eventType": "AwsApiCall",
        "recipientAccountId": "111122223333",
        "requestParameters": { "targetPrincipal": PROD,
            "taskPolicyArn": { "arn": "arn:aws:iam::aws:policy/root-task/S3UnlockBucketPolicy" } },
    })];
    let mut digest = opened();
    digest.kind = AlertKind::Digest;
    digest.incidents_left_out = 70;
    vec![
        ("opened", opened()),
        ("escalated", alert(AlertKind::Escalated { from }, &incident(&session()), 1, NOW)),
        ("taken", alert(AlertKind::Acknowledged { by: "anna".to_owned() }, &taken, 2, NOW)),
        ("closed", alert(AlertKind::Closed { why: CloseReason::Quiet }, &over, 2, NOW)),
        ("failed", alert(AlertKind::Opened, &incident(&failed), 0, NOW)),
        ("approved", sample::alert("approved").expect("a sample").expect("it is known")),
        (
            "outside_window",
            sample::alert("outside_window").expect("a sample").expect("it is known"),
        ),
        ("spray", alert(AlertKind::Opened, &incident(&spray), 0, NOW)),
        ("privileged", alert(AlertKind::Opened, &incident(&privileged), 0, NOW)),
        ("digest", digest),
        ("test", about_telling(AlertKind::Test)),
        ("broken", about_telling(AlertKind::DeliveryFailing { destination: "chat".to_owned() })),
        ("hostile", hostile()),
        ("long", long()),
        ("other_script", other_script()),
    ]
}

/// Whoever used the credentials chose the agent, and the names.
fn hostile() -> Alert {
    let evil =
        "<!channel> *x* <https://evil.test|click> \u{202e}\u{1b}[2J\r\nSet-Cookie: a &amp; `";
    let records = [
        sign_in(PROD, "2026-05-04T14:03:00Z", "Success"),
        record(
            PROD,
            "2026-05-04T14:05:00Z",
            "CreateUser",
            json!({ "userAgent": evil, "requestParameters": { "userName": evil } }),
        ),
    ];
    let mut alert = alert(AlertKind::Opened, &incident(&records), 0, NOW);
    for account in &mut alert.incidents[0].accounts {
        account.name = Some(evil.to_owned());
    }
    alert.incidents[0].title = format!("Title {evil}");
    alert
}

fn long() -> Alert {
    let records: Vec<Value> = (0..59)
        .map(|second| {
            let time = format!("2026-05-04T14:05:{second:02}Z");
            let user = format!("{second}{}", "<&x".repeat(400));
            let more = json!({ "userAgent": user, "requestParameters": { "userName": user } });
            record(PROD, &time, "CreateUser", more)
        })
        .collect();
    let mut alert = alert(AlertKind::Opened, &incident(&records), 0, NOW);
    alert.next = vec!["<&>".repeat(2_000); 8];
    alert.incidents[0].title = "<&>".repeat(2_000);
    alert
}

fn other_script() -> Alert {
    let mut alert = opened();
    alert.incidents[0].title = "支払い口座でルートユーザーがサインイン".to_owned();
    alert.incidents[0].accounts[0].name = Some("Zahlungen-Österreich-支払い".to_owned());
    alert
}

/// What a channel with its example's configuration sends for an alert.
pub(crate) fn rendered(channel: &str, alert: &Alert) -> Vec<u8> {
    let config = ChannelConfig::example(channel).expect("a channel");
    let clock = Manual::new(NOW);
    let delivery = Delivery::new(alert.clone(), "a", clock.now());
    let destination = DestinationConfig { common: Common::default(), channel: config };
    preview(&destination, &NotifyConfig::default(), None, &delivery, clock.now())
}

fn text(channel: &str, alert: &Alert) -> String {
    String::from_utf8(rendered(channel, alert)).expect("UTF-8")
}

/// As a snapshot shows it: JSON in many lines, a mail's parts as they are read.
fn shown(channel: &str, alert: &Alert) -> String {
    let text = text(channel, alert);
    if channel == "email" {
        return crate::email::shown(&text);
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => serde_json::to_string_pretty(&value).expect("JSON"),
        Err(_) if text.starts_with("Action=") => form(&text),
        Err(_) => text,
    }
}

/// Forms as a snapshot shows them: a pair a line, JSON in many lines, the text in it once more.
fn form(text: &str) -> String {
    let mut out = String::new();
    for form in text.lines() {
        for (key, value) in url::form_urlencoded::parse(form.as_bytes()) {
            match serde_json::from_str::<serde_json::Map<String, Value>>(&value) {
                Ok(parts) => {
                    for (part, text) in &parts {
                        let text = text.as_str().expect("a text");
                        out.push_str(&format!("{key}.{part} =\n{text}\n"));
                    }
                }
                Err(_) => out.push_str(&format!("{key} = {value}\n")),
            }
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_channel_sends_this() {
    for channel in ChannelConfig::NAMES {
        for (name, alert) in alerts() {
            insta::assert_snapshot!(format!("{channel}_{name}"), shown(channel, &alert));
        }
    }
}

#[test]
fn compact_words_keep_their_limit() {
    for (name, alert) in alerts() {
        let text = text("webhook", &alert);
        let event: Value = serde_json::from_str(&text).expect("JSON");
        let compact = event["data"]["compact"].as_str().expect("words");
        assert!(rootwatch_core::text::width(compact) <= COMPACT_COLUMNS_MAX, "{name}");
    }
}

#[test]
fn programs_read_the_same_with_every_finding() {
    for (name, alert) in alerts() {
        let text = text("webhook", &alert);
        assert!(text.len() <= webhook::BODY_BYTES_MAX, "{name}");
        let event: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(event["type"], format!("rootwatch.alert.{}", alert.kind.name()));
        assert_eq!(event["data"]["id"], alert.id.as_str());
        assert!(event["data"]["compact"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
}

#[test]
fn slack_keeps_its_limits_and_nothing_of_a_stranger_is_markup() {
    for (name, alert) in alerts() {
        let body: Value = serde_json::from_str(&text("slack", &alert)).expect("JSON");
        let blocks = body["blocks"].as_array().expect("blocks");
        assert!(blocks.len() <= slack::BLOCKS_MAX, "{name}");
        let mut all = 0;
        for block in blocks {
            let text = block["text"]["text"].as_str().expect("a text");
            let count = text.encode_utf16().count();
            let max = match block["type"].as_str() {
                Some("header") => slack::HEADER_CHARS_MAX,
                _ => slack::SECTION_CHARS_MAX,
            };
            assert!((1..=max).contains(&count), "{name}: {count} of {max}");
            if block["text"]["type"] == "mrkdwn" {
                assert!(!text.contains("<!") && !text.contains("|click>"), "{name}: {text}");
            }
            assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{name}");
            all += count;
        }
        assert!(all < 13_000, "{name}: {all}");
        assert!(!body["text"].as_str().expect("a text").contains("<!"), "{name}");
    }
}

#[test]
fn keys_and_mail_are_masked_where_people_read_and_whole_where_programs_do() {
    let mut over = incident(&session());
    over.state = IncidentState::Quiet;
    let alert = alert(AlertKind::Closed { why: CloseReason::Quiet }, &over, 2, NOW);
    for channel in ["slack", "email"] {
        assert!(shown(channel, &alert).contains("AKIA…MPLE"), "{channel}");
    }
    for channel in ["slack", "email", "sms", "teams", "pagerduty", "servicenow", "zendesk"] {
        assert!(!shown(channel, &alert).contains("AKIASTORYROOTEXAMPLE"), "{channel}");
    }
    assert!(text("webhook", &alert).contains("AKIASTORYROOTEXAMPLE"));
}

/// The words of an alert for people, without the steps to do first.
fn words(mut alert: Alert, stands_in_for: Option<&str>) -> String {
    alert.next.clear();
    let config = crate::common::config(r#"{ "destination": { "a": { "channel": "log" } } }"#);
    let clock = std::sync::Arc::new(Manual::new(NOW));
    let notifier = crate::common::notifier(&config, &clock);
    let mut delivery = Delivery::new(alert, "a", clock.now());
    delivery.stands_in_for = stands_in_for.map(|id| DeliveryId(id.to_owned()));
    notifier.word(&delivery).expect("the destination").lines().join("\n")
}

#[test]
fn each_kind_of_alert_reads_differently_on_a_phone() {
    let incident = incident(&session());
    let other = rootwatch_core::incident::IncidentId("7K2-MPX".to_owned());
    let mut kinds = vec![
        AlertKind::Opened,
        AlertKind::Continued,
        AlertKind::Escalated { from: rootwatch_core::finding::Severity::High },
        AlertKind::OutsideWindow { window: "CHG-1042".to_owned() },
        AlertKind::Acknowledged { by: "anna".to_owned() },
    ];
    for why in [CloseReason::Quiet, CloseReason::Resolved, CloseReason::Joined(other)] {
        kinds.push(AlertKind::Closed { why });
    }
    let mut all: Vec<Alert> =
        kinds.into_iter().map(|kind| alert(kind, &incident, 1, NOW)).collect();
    let window = rootwatch_core::window::Approved {
        window: "CHG-1042".to_owned(),
        by: "anna".to_owned(),
        reason: "change the support plan".to_owned(),
        until: crate::common::at(NOW),
    };
    let opened = all[0].clone();
    let approved = Approval::Inside(window.clone());
    all.push(Alert { approval: approved, ..opened.clone() });
    all.push(Alert { approval: Approval::Partly { window, outside: 1 }, ..opened });
    let (digest, test) = (AlertKind::Digest, AlertKind::Test);
    let destination = "chat".to_owned();
    let failing = AlertKind::DeliveryFailing { destination: destination.clone() };
    let recovered = AlertKind::DeliveryRecovered { destination };
    all.extend([digest, test, failing, recovered].map(about_telling));
    let number = all.len();
    for (channel, line) in [
        ("sms", all.iter().map(|alert| text("sms", alert)).collect::<BTreeSet<_>>()),
        (
            "slack",
            all.iter()
                .map(|alert| {
                    let body: Value = serde_json::from_str(&text("slack", alert)).expect("JSON");
                    body["text"].as_str().expect("a text").to_owned()
                })
                .collect(),
        ),
    ] {
        assert_eq!(line.len(), number, "{channel}: {line:#?}");
    }
}

/// A call of a role, as the account's trail records it.
fn by_a_role(name: &str, source: &str, more: Value) -> Value {
    let mut record = json!({
        "eventVersion": "1.11",
        "userIdentity": { "type": "AssumedRole", "accountId": PROD,
            "arn": format!("arn:aws:sts::{PROD}:assumed-role/deploy/pipeline") },
        "eventTime": "2026-05-04T13:52:00Z", "eventSource": format!("{source}.amazonaws.com"),
        "eventName": name, "awsRegion": "eu-west-1", "sourceIPAddress": "192.0.2.10",
        "userAgent": "Boto3/1.34", "eventID": name, "eventType": "AwsApiCall",
        "recipientAccountId": PROD, "requestParameters": { "name": "org" },
    });
    if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
        record.extend(more);
    }
    record
}

fn assume_root(more: Value) -> Value {
    let parameters = json!({ "targetPrincipal": PROD, "taskPolicyArn": {
        "arn": "arn:aws:iam::aws:policy/root-task/IAMCreateRootUserPassword" } });
    let mut record = by_a_role("AssumeRoot", "sts", more);
    record["requestParameters"] = parameters;
    record
}

#[test]
fn an_alert_about_another_caller_names_the_caller_and_the_region() {
    let stopped = by_a_role("StopLogging", "cloudtrail", json!({}));
    let text = words(alert(AlertKind::Opened, &incident(&[stopped]), 0, NOW), None);
    for part in ["assumed-role/deploy/pipeline in eu-west-1", "not root use", "192.0.2.10"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = words(alert(AlertKind::Opened, &incident(&[assume_root(json!({}))]), 0, NOW), None);
    assert!(text.contains("assumed-role/deploy/pipeline"), "{text}");
    let own = words(opened(), None);
    assert!(!own.contains("not root use"), "{own}");
}

#[test]
fn a_denied_call_never_reads_as_one_that_was_done() {
    let denied = json!({ "errorCode": "AccessDenied", "errorMessage": "explicit deny" });
    let root = |name: &str, source: &str| {
        let mut more = denied.clone();
        more["eventSource"] = format!("{source}.amazonaws.com").into();
        record(PROD, "2026-05-04T14:05:00Z", name, more)
    };
    for records in [
        [assume_root(denied.clone())],
        [by_a_role("StopLogging", "cloudtrail", denied.clone())],
        [root("RunInstances", "ec2")],
        [root("CreateAccessKey", "iam")],
        [root("StopLogging", "cloudtrail")],
    ] {
        let text = words(alert(AlertKind::Opened, &incident(&records), 0, NOW), None);
        let lower = text.to_lowercase();
        assert!(lower.contains("denied"), "{text}");
        for done in ["opened", "started", "created", "stopped"] {
            assert!(!lower.contains(done), "{done}: {text}");
        }
    }
}

#[test]
fn a_failed_sign_in_says_nothing_of_mfa() {
    for (name, alert) in alerts() {
        if matches!(name, "failed" | "spray") {
            let text = words(alert, None);
            assert!(!text.contains("MFA"), "{name}: {text}");
            assert!(text.contains("none succeeded"), "{name}: {text}");
        }
    }
    assert!(words(opened(), None).contains("No MFA"));
}

#[test]
fn a_test_that_was_rerouted_is_still_marked_as_a_test() {
    let text = words(about_telling(AlertKind::Test), Some("x.1@oncall"));
    let banner = text.lines().next().expect("a banner");
    assert_eq!(banner, "TEST: nothing happened · Sent here because delivery to oncall failed");
    assert!(
        words(opened(), Some("x.1@oncall")).starts_with("Sent here because delivery to oncall")
    );
}
