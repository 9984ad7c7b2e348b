//! The channel `sms`, against a scripted SNS and the stand-in.

use std::collections::BTreeMap;

use rootwatch_notify::Sent;
use rootwatch_notify::channels::sms::SEPTETS_MAX;
use serde_json::{Value, json};

use crate::aws::{judges_answers, ok, probe, sent, sent_to_standin, xml_error};
use crate::common::{Memory, Server, opened};
use crate::standin::shared;
use crate::words::{alerts, rendered};

const GOOD: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m-1</MessageId></PublishResult></PublishResponse>";
/// GSM 03.38, basic alphabet and extension, as the standard's table has them.
const BASIC: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
const EXTENSION: &str = "^{}\\[~]|€";

fn keys(to: &[&str]) -> Value {
    json!({ "channel": "sms", "to": to, "region": "us-east-1" })
}

fn pairs(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    judges_answers(&keys(&["+12065550100"]), &opened(), GOOD).await;
}

#[test]
fn every_message_is_one_part_of_gsm_letters_with_the_account_first() {
    for (name, alert) in alerts() {
        let text = pairs(&rendered("sms", &alert)).remove("Message").expect("a message");
        let mut septets = 0;
        for letter in text.chars() {
            assert!(BASIC.contains(letter) || EXTENSION.contains(letter), "{name}: {letter:?}");
            septets += if EXTENSION.contains(letter) { 2 } else { 1 };
        }
        assert!(septets <= SEPTETS_MAX, "{name}: {septets} in {text}");
        if let Some(brief) = alert.incident() {
            let account = match &brief.accounts[..] {
                [account] => account.id.clone(),
                many => format!("{} accounts", many.len()),
            };
            assert!(text.find(&account).is_some_and(|place| place < 40), "{name}: {text}");
            assert!(text.ends_with(&format!(". Inc {}", brief.id)), "{name}: {text}");
        }
    }
}

#[test]
fn a_title_fills_what_room_there_is_and_no_more() {
    let size = |length: usize| {
        let mut alert = opened();
        alert.incidents[0].title = "x".repeat(length);
        let text = pairs(&rendered("sms", &alert)).remove("Message").expect("a message");
        (text.chars().count(), text.contains("..."))
    };
    let (around, _) = size(0);
    let room = SEPTETS_MAX - around;
    assert_eq!(size(room - 1), (SEPTETS_MAX - 1, false));
    assert_eq!(size(room), (SEPTETS_MAX, false));
    // The full stop before the number of the incident is the last of the three.
    assert_eq!(size(room + 1), (SEPTETS_MAX - 1, true));
}

#[tokio::test]
async fn a_retry_leaves_out_whom_was_told_and_the_next_alert_tells_all() {
    let numbers = ["+12065550100", "+12065550101", "+12065550102"];
    let memory = Memory::default();
    let server = Server::new(&[ok(GOOD), xml_error(400, "Throttled"), ok(GOOD)]).await;
    let first = sent(&keys(&numbers), &server, opened(), &memory).await;
    let Sent::RetryAfter { error, .. } = &first else { panic!("{first:?}") };
    assert!(error.contains("+1206…01: ") && error.ends_with("(2 delivered)"), "{error}");
    assert!(!error.contains("5550101"), "{error}");
    let again = sent(&keys(&numbers), &server, opened(), &memory).await;
    assert!(matches!(again, Sent::Delivered { .. }), "{again:?}");
    let told = |place: usize| pairs(&server.request(place).body)["PhoneNumber"].clone();
    assert_eq!((server.count(), told(3)), (4, numbers[1].to_owned()));
    assert!(!format!("{:?}", memory.notes).contains("555"), "no number is kept");
    let mut next = opened();
    next.id = format!("{}.2", next.incidents[0].id);
    let next = sent(&keys(&numbers), &server, next, &memory).await;
    assert!(matches!(next, Sent::Delivered { .. }), "{next:?}");
    assert_eq!(server.count(), 7);
}

#[tokio::test]
async fn a_number_that_is_refused_keeps_nobody_else_from_hearing_and_is_said() {
    let server = Server::new(&[xml_error(400, "InvalidParameter"), ok(GOOD)]).await;
    let result =
        sent(&keys(&["+12065550100", "+12065550101"]), &server, opened(), &Memory::default()).await;
    let Sent::Rejected { error } = &result else { panic!("{result:?}") };
    assert!(error.contains("InvalidParameter") && error.ends_with("(1 delivered)"), "{error}");
    assert_eq!(server.count(), 2);
}

#[test]
fn what_is_no_number_is_found_offline() {
    for (key, value) in [
        ("to", json!([])),
        ("to", json!(["0170123456"])),
        ("to", json!(["+0170123456"])),
        ("to", json!(["+49 170 1234567"])),
        ("to", json!(["+12065550100", "+12065550100"])),
        ("sender_id", json!("123")),
        ("sender_id", json!("a-name-that-is-long")),
        ("origination_number", json!("12345")),
        ("price_max", json!(0.0)),
        ("region", json!("evil.test/")),
    ] {
        let mut keys = keys(&["+12065550100"]);
        keys[key] = value.clone();
        let text = json!({ "destination": { "a": keys } }).to_string();
        let faults = rootwatch_notify::Notifier::check(&crate::common::config(&text));
        assert_eq!(faults.len(), 1, "{key} {value}");
    }
}

#[tokio::test]
async fn the_stand_in_takes_it_with_its_attributes() {
    let to = "+12065550142";
    let mut keys = keys(&[to]);
    keys["sender_id"] = json!("Rootwatch");
    keys["price_max"] = json!(0.25);
    keys["origination_number"] = json!("+12065550199");
    let result = sent_to_standin(&keys, opened()).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    let url = format!("{}/_ministack/sns/sms-messages", shared().await.endpoint());
    let answer = reqwest::get(url).await.expect("an answer").text().await.expect("a text");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let message = &answer["sms_messages"][to][0];
    assert_eq!(message["MessageId"], receipt.as_str(), "{answer}");
    let text = message["Message"].as_str().expect("a text");
    assert!(text.starts_with("CRITICAL 222233334444 prod-payments: Root user signed in"), "{text}");
    let attribute = |name: &str| message["MessageAttributes"][name].to_string();
    assert!(attribute("AWS.SNS.SMS.SMSType").contains("Transactional"));
    assert!(attribute("AWS.SNS.SMS.SenderID").contains("Rootwatch"));
    assert!(attribute("AWS.SNS.SMS.MaxPrice").contains("0.25"));
    assert!(attribute("AWS.MM.SMS.OriginationNumber").contains("+12065550199"));
}

fn sandbox(is_in: bool) -> crate::common::Answer {
    ok(&format!("<R><IsInSandbox>{is_in}</IsInSandbox></R>"))
}

fn opted_out(is_out: bool) -> crate::common::Answer {
    ok(&format!("<R><isOptedOut>{is_out}</isOptedOut></R>"))
}

#[tokio::test]
async fn a_probe_knows_the_sandbox_who_opted_out_and_the_limit() {
    let limit = ok(
        "<R><attributes><entry><key>MonthlySpendLimit</key><value>50</value></entry></attributes></R>",
    );
    let number = |status: &str| {
        ok(&format!(
            "<R><PhoneNumbers><member><PhoneNumber>+12065550100</PhoneNumber><Status>{status}</Status>\
            </member></PhoneNumbers></R>"
        ))
    };
    let denied = xml_error(403, "AuthorizationError");
    for (answers, is_good, says) in [
        (vec![sandbox(false), opted_out(false), limit.clone()], true, "US dollars: 50"),
        (
            vec![sandbox(true), number("Verified"), opted_out(false), limit.clone()],
            true,
            "in the SMS sandbox",
        ),
        (
            vec![sandbox(true), number("Pending"), opted_out(false), limit.clone()],
            false,
            "+1206…00 is not verified",
        ),
        (vec![sandbox(false), opted_out(true), limit.clone()], false, "+1206…00 opted out"),
        (
            vec![denied.clone(), opted_out(false), limit.clone()],
            true,
            "not allowed to look at the sandbox",
        ),
        (
            vec![denied],
            false,
            "not allowed to look at the sandbox, who opted out, the spending limit",
        ),
    ] {
        let server = Server::new(&answers).await;
        let result = probe(&keys(&["+12065550100"]), &server).await;
        assert_eq!(matches!(result, Sent::Delivered { .. }), is_good, "{result:?}");
        assert!(format!("{result:?}").contains(says), "{says}: {result:?}");
        let bodies: Vec<String> = (0..server.count())
            .map(|place| pairs(&server.request(place).body)["Action"].clone())
            .collect();
        assert!(!bodies.contains(&"Publish".to_owned()), "{bodies:?}");
    }
}
