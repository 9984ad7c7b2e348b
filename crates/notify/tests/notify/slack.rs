//! Slack as a bot: one message for an incident, a thread below it, and nothing twice.

use std::sync::Arc;

use jiff::SignedDuration;
use rootwatch_core::alert::{Alert, AlertKind, Clock as _};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::{Notifier, Sent};
use serde_json::{Value, json};

use crate::common::{Answer, Manual, Memory, Request, Server, config, notifier, opened, status};
use crate::words::{alerts, rendered};

const NOW: &str = "2026-05-04T14:07:40Z";
const TOKEN: &str = "xoxb-hush-hush";
const CHANNEL: &str = "C0123456789";

fn answer(body: Value) -> Answer {
    Answer::Status(200, "", body.to_string())
}

/// What Slack answers to what it takes: a message with this time stamp.
fn taken(ts: &str) -> Answer {
    answer(
        json!({ "ok": true, "channel": CHANNEL, "ts": ts, "message": { "text": "x".repeat(9_000) } }),
    )
}

fn refused(word: &str) -> Answer {
    answer(json!({ "ok": false, "error": word }))
}

/// A notifier with a bot, what it remembers, and Slack.
struct NotifiedState {
    notifier: Arc<Notifier>,
    clock: Arc<Manual>,
    memory: Memory,
    server: Server,
}

impl NotifiedState {
    async fn new(answers: &[Answer]) -> Self {
        let server = Server::new(answers).await;
        let clock = Manual::new(NOW);
        let text = json!({ "destination": { "a": { "channel": "slack", "token": TOKEN,
            "conversation": CHANNEL, "api_url": server.url, "allow_private": true, "timeout_secs": 1 } } });
        let notifier = notifier(&config(&text.to_string()), &clock);
        Self { notifier, clock, memory: Memory::default(), server }
    }

    async fn send(&self, alert: &Alert) -> Sent {
        let delivery = Delivery::new(alert.clone(), "a", self.clock.now());
        self.notifier.send(&delivery, &self.memory).await
    }

    /// Sends, with these answers, and gives what was asked for it.
    async fn asked(&self, alert: &Alert, answers: &[Answer]) -> (Sent, Vec<Request>) {
        self.server.answer(answers);
        let before = self.server.count();
        let sent = self.send(alert).await;
        let after = self.server.count();
        (sent, (before..after).map(|place| self.server.request(place)).collect())
    }
}

/// An alert of the catalogue, with a number of its own.
fn of(name: &str, number: usize) -> Alert {
    let (_, mut alert) = alerts().into_iter().find(|one| one.0 == name).expect("an alert");
    alert.id = format!("{}.{number}", alert.thread());
    alert
}

fn method(request: &Request) -> &str {
    let line = request.head.lines().next().expect("a line");
    let path = line.split(' ').nth(1).expect("a path");
    path.rsplit('/').next().expect("a method")
}

fn methods(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(method).collect()
}

fn schema() -> jsonschema::Validator {
    let text = include_str!("../schemas/slack-message.json");
    let schema: Value = serde_json::from_str(text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn assert_valid(body: &Value, of: &str) {
    let errors: Vec<String> = schema().iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{of}: {errors:?}");
}

fn is_delivered(sent: &Sent, ts: &str) -> bool {
    matches!(sent, Sent::Delivered { receipt } if *receipt == format!("{CHANNEL} {ts}"))
}

/// All texts of the blocks.
fn shown(body: &Value) -> String {
    let blocks = body["blocks"].as_array().expect("blocks");
    let texts: Vec<&str> = blocks.iter().filter_map(|one| one["text"]["text"].as_str()).collect();
    texts.join("\n")
}

#[test]
fn what_is_sent_is_what_slack_takes() {
    for (name, alert) in alerts() {
        let body: Value = serde_json::from_slice(&rendered("slack", &alert)).expect("JSON");
        assert_valid(&body, name);
    }
    assert!(!schema().is_valid(&json!({ "text": "a", "blocks": [{ "type": "header" }] })));
    let long =
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": "x".repeat(3_001) } });
    assert!(!schema().is_valid(&json!({ "text": "a", "blocks": [long] })));
}

#[tokio::test]
async fn an_incident_has_one_message_that_is_kept_up_to_date_and_a_thread() {
    let told = NotifiedState::new(&[taken("1.000100")]).await;
    let (sent, asked) = told.asked(&of("opened", 1), &[taken("1.000100")]).await;
    assert!(is_delivered(&sent, "1.000100"), "{sent:?}");
    assert_eq!(methods(&asked), ["chat.postMessage"]);
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    let first = asked[0].json();
    assert_valid(&first, "the first");
    assert_eq!((&first["channel"], &first["thread_ts"]), (&json!(CHANNEL), &Value::Null));
    assert_eq!(first["metadata"]["event_type"], "rootwatch_alert");
    for (number, name, is_loud, words) in [
        (2, "escalated", true, "+ created a root access key"),
        (3, "taken", false, "Acknowledged by anna"),
        (4, "closed", false, "Quiet · "),
    ] {
        let (sent, asked) = told.asked(&of(name, number), &[taken("2.000200")]).await;
        assert!(is_delivered(&sent, "1.000100"), "{name}: {sent:?}");
        assert_eq!(methods(&asked), ["chat.update", "chat.postMessage"], "{name}");
        let (update, reply) = (asked[0].json(), asked[1].json());
        assert_valid(&update, name);
        assert_valid(&reply, name);
        assert_eq!(update["ts"], "1.000100");
        // What the first message is known by stays.
        assert_eq!(update["metadata"], first["metadata"]);
        assert_eq!((&reply["thread_ts"], &reply["ts"]), (&json!("1.000100"), &Value::Null));
        assert_eq!(reply["reply_broadcast"], is_loud, "{name}");
        assert!(shown(&reply).contains(words) && shown(&update).contains(words), "{name}");
        assert!(shown(&reply).contains("GET /v1/incidents/"), "{name}");
        insta::assert_snapshot!(format!("reply_{name}"), shown(&reply));
        // Once more: nothing is left to do.
        let (sent, asked) = told.asked(&of(name, number), &[taken("9.000900")]).await;
        assert!(is_delivered(&sent, "1.000100") && asked.is_empty(), "{name}");
    }
    // It goes on, and the channel sees that.
    let mut again = of("opened", 5);
    again.kind = AlertKind::Continued;
    let (_, asked) = told.asked(&again, &[taken("3.000300")]).await;
    assert_eq!(asked[1].json()["reply_broadcast"], true);
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_found_and_not_posted_twice() {
    let told = NotifiedState::new(&[Answer::Close]).await;
    let (sent, asked) = told.asked(&of("opened", 1), &[Answer::Half]).await;
    assert!(matches!(sent, Sent::RetryAfter { .. }), "{sent:?}");
    let metadata = asked[0].json()["metadata"].clone();
    let other =
        json!({ "event_type": "rootwatch_alert", "event_payload": { "delivery": "another" } });
    let history = json!({ "ok": true, "messages": [
        { "ts": "8.000800", "metadata": other },
        { "ts": "7.000700", "thread_ts": "6.000600", "metadata": metadata },
        { "ts": "1.000100", "metadata": metadata },
    ] });
    let (sent, asked) = told.asked(&of("opened", 1), &[answer(history)]).await;
    assert!(is_delivered(&sent, "1.000100"), "{sent:?}");
    assert_eq!(methods(&asked), ["conversations.history"]);
    let form = String::from_utf8(asked[0].body.clone()).expect("UTF-8");
    assert!(
        form.contains("include_all_metadata=true") && form.contains("channel=C0123456789"),
        "{form}"
    );
    assert!(form.contains("oldest=1777903360"), "{form}");
    // The reply's answer is lost.
    let (sent, asked) = told.asked(&of("escalated", 2), &[taken("1.000100"), Answer::Half]).await;
    assert!(matches!(sent, Sent::RetryAfter { .. }), "{sent:?}");
    let metadata = asked[1].json()["metadata"].clone();
    let replies = json!({ "ok": true, "messages": [{ "ts": "1.000100" }, { "ts": "2.000200", "metadata": metadata }] });
    let (sent, asked) =
        told.asked(&of("escalated", 2), &[taken("1.000100"), answer(replies)]).await;
    assert!(is_delivered(&sent, "1.000100"), "{sent:?}");
    assert_eq!(methods(&asked), ["chat.update", "conversations.replies"]);
}

#[tokio::test]
async fn what_cannot_be_looked_for_is_posted_rather_twice_than_never() {
    for history in [refused("missing_scope"), answer(json!({ "ok": true, "messages": [] }))] {
        let told = NotifiedState::new(&[Answer::Close]).await;
        assert!(matches!(told.send(&of("opened", 1)).await, Sent::RetryAfter { .. }));
        let (sent, asked) = told.asked(&of("opened", 1), &[history, taken("1.000100")]).await;
        assert!(is_delivered(&sent, "1.000100"), "{sent:?}");
        assert_eq!(methods(&asked), ["conversations.history", "chat.postMessage"]);
    }
    // Who does not answer may know of it: later.
    let told = NotifiedState::new(&[Answer::Close]).await;
    assert!(matches!(told.send(&of("opened", 1)).await, Sent::RetryAfter { .. }));
    let (sent, asked) = told.asked(&of("opened", 1), &[status(503), taken("1.000100")]).await;
    assert!(matches!(sent, Sent::RetryAfter { .. }) && asked.len() == 1, "{sent:?}");
}

#[tokio::test]
async fn a_message_that_somebody_deleted_is_posted_anew() {
    for (answers, wanted) in [
        (
            vec![refused("message_not_found"), taken("5.000500")],
            vec!["chat.update", "chat.postMessage"],
        ),
        (
            vec![taken("1.000100"), refused("thread_not_found"), taken("5.000500")],
            vec!["chat.update", "chat.postMessage", "chat.postMessage"],
        ),
    ] {
        let told = NotifiedState::new(&[taken("1.000100")]).await;
        told.send(&of("opened", 1)).await;
        let (sent, asked) = told.asked(&of("escalated", 2), &answers).await;
        assert!(is_delivered(&sent, "5.000500"), "{sent:?}");
        assert_eq!(methods(&asked), wanted);
        assert_eq!(asked[wanted.len() - 1].json()["thread_ts"], Value::Null);
        let (_, asked) = told.asked(&of("closed", 3), &[taken("6.000600")]).await;
        assert_eq!(asked[0].json()["ts"], "5.000500");
    }
}

#[tokio::test]
async fn each_outage_of_a_destination_has_a_message_of_its_own_which_says_when_it_is_over() {
    let told = NotifiedState::new(&[taken("1.000100")]).await;
    let destination = "chat".to_owned();
    let of = |kind: AlertKind, number: usize| {
        let mut alert = of("broken", number);
        alert.kind = kind;
        alert.id = format!("telling-chat-{number}");
        alert
    };
    let broken = AlertKind::DeliveryFailing { destination: destination.clone() };
    let mended = AlertKind::DeliveryRecovered { destination };
    told.send(&of(broken.clone(), 1)).await;
    let (_, asked) = told.asked(&of(mended, 2), &[taken("2.000200")]).await;
    assert_eq!(methods(&asked), ["chat.update", "chat.postMessage"]);
    assert!(shown(&asked[0].json()).contains("are delivered again"));
    let (sent, asked) = told.asked(&of(broken, 3), &[taken("3.000300")]).await;
    assert!(is_delivered(&sent, "3.000300"), "{sent:?}");
    assert_eq!(methods(&asked), ["chat.postMessage"]);
}

#[tokio::test]
async fn tests_and_digests_are_messages_of_their_own() {
    let told = NotifiedState::new(&[taken("1.000100")]).await;
    for name in ["test", "digest"] {
        for number in 1..=2 {
            let mut alert = of(name, number);
            alert.id = format!("{name}-{number}");
            let (_, asked) = told.asked(&alert, &[taken("1.000100")]).await;
            assert_eq!(methods(&asked), ["chat.postMessage"], "{name}");
            let text = shown(&asked[0].json());
            assert_eq!(name == "test", text.starts_with("TEST: nothing happened"), "{text}");
        }
    }
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    let later = |sent: &Sent| matches!(sent, Sent::RetryAfter { .. });
    for word in [
        "ratelimited",
        "rate_limited",
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
    ] {
        let sent = NotifiedState::new(&[refused(word)]).await.send(&opened()).await;
        assert!(later(&sent) && sent.error().is_some_and(|e| e.contains(word)), "{word}: {sent:?}");
    }
    for word in [
        "channel_not_found",
        "is_archived",
        "not_in_channel",
        "invalid_auth",
        "account_inactive",
        "token_revoked",
        "missing_scope",
    ] {
        let sent = NotifiedState::new(&[refused(word)]).await.send(&opened()).await;
        let is_right = matches!(&sent, Sent::Misconfigured { error } if error.contains(word));
        assert!(is_right, "{word}: {sent:?}");
    }
    for word in ["no_text", "something_new", TOKEN] {
        let sent = NotifiedState::new(&[refused(word)]).await.send(&opened()).await;
        assert!(matches!(sent, Sent::Rejected { .. }), "{word}: {sent:?}");
        assert!(!format!("{sent:?}").contains(TOKEN), "{sent:?}");
    }
    for code in [302, 400, 404, 410, 413] {
        let sent = NotifiedState::new(&[status(code)]).await.send(&opened()).await;
        assert!(matches!(sent, Sent::Rejected { .. }), "{code}: {sent:?}");
    }
    for code in [401, 403] {
        let sent = NotifiedState::new(&[status(code)]).await.send(&opened()).await;
        assert!(matches!(sent, Sent::Misconfigured { .. }), "{code}: {sent:?}");
    }
    let proxy = Answer::Status(200, "", "<html>sign in to the Wi-Fi</html>".to_owned());
    for answer in
        [status(408), status(429), status(500), Answer::Hang, Answer::Half, Answer::Close, proxy]
    {
        let sent = NotifiedState::new(std::slice::from_ref(&answer)).await.send(&opened()).await;
        assert!(later(&sent), "{answer:?}: {sent:?}");
    }
    let limited = json!({ "ok": false, "error": "ratelimited" }).to_string();
    for code in [200, 429] {
        let answer = Answer::Status(code, "retry-after: 30\r\n", limited.clone());
        let sent = NotifiedState::new(&[answer]).await.send(&opened()).await;
        let Sent::RetryAfter { after, .. } = sent else { panic!("{code}: {sent:?}") };
        assert_eq!(after, Some(SignedDuration::from_secs(30)), "{code}");
    }
}

#[tokio::test]
async fn what_slack_finds_too_long_is_said_in_one_line() {
    for word in ["msg_too_long", "msg_blocks_too_long", "invalid_blocks"] {
        let told = NotifiedState::new(&[taken("1.000100")]).await;
        let (sent, asked) = told.asked(&of("opened", 1), &[refused(word), taken("1.000100")]).await;
        assert!(is_delivered(&sent, "1.000100"), "{word}: {sent:?}");
        let short = asked[1].json();
        assert!(
            short["blocks"].is_null()
                && short["text"].as_str().is_some_and(|text| text.contains("prod-payments"))
        );
        assert_eq!(short["metadata"], asked[0].json()["metadata"]);
        let answers = [refused(word), taken("1.000100"), taken("2.000200")];
        let (sent, asked) = told.asked(&of("escalated", 2), &answers).await;
        assert!(is_delivered(&sent, "1.000100"), "{word}: {sent:?}");
        assert_eq!(methods(&asked), ["chat.update", "chat.update", "chat.postMessage"]);
        assert_eq!(asked[1].json()["blocks"], json!([]));
        // What is too long in one line as well is given up.
        let told = NotifiedState::new(&[refused(word)]).await;
        assert!(matches!(told.send(&opened()).await, Sent::Rejected { .. }));
        assert_eq!(told.server.count(), 2);
    }
}

#[tokio::test]
async fn a_probe_asks_and_posts_nothing() {
    let member = |is: bool, archived: bool| {
        answer(json!({ "ok": true, "channel": { "is_member": is, "is_archived": archived } }))
    };
    let good = answer(json!({ "ok": true, "user_id": "U1" }));
    for (answers, is) in [
        (vec![good.clone(), member(true, false)], "delivered"),
        (vec![good.clone(), refused("missing_scope")], "delivered"),
        (vec![good.clone(), member(false, false)], "misconfigured"),
        (vec![good.clone(), member(true, true)], "misconfigured"),
        (vec![good.clone(), refused("channel_not_found")], "misconfigured"),
        (vec![refused("invalid_auth")], "misconfigured"),
        (vec![Answer::Close], "later"),
    ] {
        let told = NotifiedState::new(&answers).await;
        let sent = told.notifier.probe("a").await.expect("a destination");
        let was = match &sent {
            Sent::Delivered { .. } => "delivered",
            Sent::Misconfigured { .. } => "misconfigured",
            _ => "later",
        };
        assert_eq!(was, is, "{answers:?}: {sent:?}");
        for place in 0..told.server.count() {
            let request = told.server.request(place);
            assert!(["auth.test", "conversations.info"].contains(&method(&request)));
        }
    }
}

#[test]
fn faults_are_found_offline() {
    let bot = json!({ "token": TOKEN, "conversation": CHANNEL });
    let hook = json!({ "url": "https://hooks.slack.com/services/T/B/x" });
    for (base, more, key) in [
        (json!({}), json!({}), "url"),
        (bot.clone(), hook.clone(), "url"),
        (bot.clone(), json!({ "conversation": "general" }), "conversation"),
        (bot.clone(), json!({ "conversation": "#general" }), "conversation"),
        (bot.clone(), json!({ "conversation": null }), "conversation"),
        (bot.clone(), json!({ "token": "xoxp-somebody" }), "token"),
        (bot.clone(), json!({ "token": "xoxb-" }), "token"),
        (bot.clone(), json!({ "api_url": "https://relay.example.com" }), "api_url"),
        (
            bot.clone(),
            json!({ "api_url": "ftp://relay.example.com", "allow_private": true }),
            "api_url",
        ),
        (hook.clone(), json!({ "conversation": CHANNEL }), "conversation"),
        (
            hook.clone(),
            json!({ "api_url": "https://a.example.com", "allow_private": true }),
            "api_url",
        ),
    ] {
        let problems = problems(&base, &more);
        let wanted = format!("notify.destination.a.{key}");
        assert!(problems.iter().any(|one| one.contains(&wanted)), "{base} {more}: {problems:?}");
        assert!(!problems.join(" ").contains("hush"), "{problems:?}");
    }
    for right in [bot, hook] {
        assert_eq!(problems(&right, &json!({})), Vec::<String>::new());
    }
}

fn problems(base: &Value, more: &Value) -> Vec<String> {
    let mut keys = json!({ "channel": "slack" });
    for part in [base, more] {
        if let (Value::Object(keys), Value::Object(part)) = (&mut keys, part) {
            keys.extend(part.clone());
        }
    }
    let text = json!({ "destination": { "a": keys } }).to_string();
    Notifier::check(&config(&text)).iter().map(ToString::to_string).collect()
}
