//! What people and programs read, for each kind of alert and each channel.

use rootwatch_core::alert::{Alert, AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::incident::IncidentState;
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
        assert!(rootwatch_core::words::width(compact) <= COMPACT_COLUMNS_MAX, "{name}");
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
fn keys_and_mail_are_masked_in_chats_and_whole_elsewhere() {
    let from = rootwatch_core::finding::Severity::High;
    let mut alert = alert(AlertKind::Escalated { from }, &incident(&session()), 1, NOW);
    alert.kind = AlertKind::Closed { why: CloseReason::Quiet };
    assert!(text("slack", &alert).contains("AKIA…MPLE"));
    assert!(!text("slack", &alert).contains("AKIASTORYROOTEXAMPLE"));
    assert!(text("webhook", &alert).contains("AKIASTORYROOTEXAMPLE"));
}
