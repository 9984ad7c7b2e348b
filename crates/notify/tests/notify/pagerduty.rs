//! PagerDuty: one alert of theirs for each incident of ours.

use rootwatch_core::alert::{AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::channels::pagerduty;
use rootwatch_notify::{Notifier, Sent};
use serde_json::Value;

use crate::common::{Manual, Memory, Server, config, notifier, opened, status};
use crate::words::{alerts, rendered};

const KEY: &str = "EXAMPLE0EXAMPLE0EXAMPLE0EXAMPLE0";

fn schema() -> jsonschema::Validator {
    let text = include_str!("../schemas/pagerduty-events-v2.schema.json");
    let schema: Value = serde_json::from_str(text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

#[test]
fn every_event_is_what_pagerduty_describes_and_within_its_limits() {
    let schema = schema();
    for (name, alert) in alerts() {
        let bytes = rendered("pagerduty", &alert);
        assert!(bytes.len() <= pagerduty::EVENT_BYTES_MAX, "{name}");
        let event: Value = serde_json::from_slice(&bytes).expect("JSON");
        let faults: Vec<String> =
            schema.iter_errors(&event).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
        assert_eq!(event["dedup_key"], alert.thread(), "{name}");
    }
    for wrong in [
        r#"{"routing_key":"a","event_action":"fire","dedup_key":"a"}"#,
        r#"{"routing_key":"a","event_action":"trigger","dedup_key":"a"}"#,
        r#"{"routing_key":"a","event_action":"trigger",
            "payload":{"summary":"a","source":"b","severity":"high"}}"#,
    ] {
        assert!(!schema.is_valid(&serde_json::from_str(wrong).expect("JSON")), "{wrong}");
    }
}

#[test]
fn a_summary_is_cut_at_its_limit_and_not_before() {
    for (letters, stays) in [(1_000, true), (5_000, false)] {
        let mut alert = opened();
        alert.incidents[0].title = "ä".repeat(letters);
        let event: Value = serde_json::from_slice(&rendered("pagerduty", &alert)).expect("JSON");
        let summary = event["payload"]["summary"].as_str().expect("a summary");
        assert!(summary.chars().count() <= pagerduty::SUMMARY_CHARS_MAX, "{stays}");
    }
}

#[test]
fn an_event_that_is_too_long_leaves_its_findings_out_and_says_so() {
    let mut alert = opened();
    alert.findings[0].user_agent = Some("x".repeat(pagerduty::EVENT_BYTES_MAX));
    // Masking would take it away.
    let mut finding = alert.findings[0].clone();
    finding.title = "y".repeat(pagerduty::EVENT_BYTES_MAX);
    alert.findings.push(finding);
    let bytes = rendered("pagerduty", &alert);
    assert!(bytes.len() <= pagerduty::EVENT_BYTES_MAX);
    let event: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(event["payload"]["custom_details"]["shortened"], true);
    assert!(event["payload"]["custom_details"]["alert"].is_null());
    let event: Value = serde_json::from_slice(&rendered("pagerduty", &opened())).expect("JSON");
    assert_eq!(event["payload"]["custom_details"]["alert"]["kind"], "opened");
}

fn told_by(server: &Server, clock: &std::sync::Arc<Manual>) -> std::sync::Arc<Notifier> {
    let text = format!(
        r#"{{ "destination": {{ "a": {{ "channel": "pagerduty", "routing_key": "{KEY}",
            "url": "{}", "allow_private": true }} }} }}"#,
        server.url
    );
    notifier(&config(&text), clock)
}

#[tokio::test]
async fn an_incident_is_triggered_acknowledged_and_resolved_by_one_key() {
    let server = Server::new(&[status(202)]).await;
    let clock = Manual::new("2026-05-04T14:03:40Z");
    let (notifier, outbox) = (told_by(&server, &clock), Memory::default());
    let from = rootwatch_core::finding::Severity::High;
    for kind in [
        AlertKind::Opened,
        AlertKind::Escalated { from },
        AlertKind::Acknowledged { by: "anna".to_owned() },
        AlertKind::Closed { why: CloseReason::Quiet },
        AlertKind::Continued,
    ] {
        let mut alert = opened();
        alert.kind = kind;
        let sent = notifier.send(&Delivery::new(alert, "a", clock.now()), &outbox).await;
        assert!(matches!(sent, Sent::Delivered { .. }), "{sent:?}");
    }
    let events: Vec<Value> =
        (0..server.count()).map(|place| server.request(place).json()).collect();
    let actions: Vec<&str> =
        events.iter().filter_map(|event| event["event_action"].as_str()).collect();
    assert_eq!(actions, ["trigger", "trigger", "acknowledge", "resolve", "trigger"]);
    assert!(events.iter().all(|event| event["dedup_key"] == events[0]["dedup_key"]));
    assert!(events.iter().all(|event| event["routing_key"] == KEY));
}

#[tokio::test]
async fn a_test_pages_nobody_for_long() {
    let server = Server::new(&[status(202)]).await;
    let clock = Manual::new("2026-05-04T14:03:40Z");
    let mut alert = opened();
    alert.kind = AlertKind::Test;
    alert.incidents.clear();
    let delivery = Delivery::new(alert, "a", clock.now());
    let sent = told_by(&server, &clock).send(&delivery, &Memory::default()).await;
    assert!(matches!(sent, Sent::Delivered { .. }), "{sent:?}");
    let (trigger, resolve) = (server.request(0).json(), server.request(1).json());
    assert_eq!(trigger["payload"]["severity"], "info");
    assert!(trigger["payload"]["summary"].as_str().is_some_and(|text| text.starts_with("TEST")));
    assert_eq!(resolve["event_action"], "resolve");
    assert_eq!(resolve["dedup_key"], trigger["dedup_key"]);
}

#[tokio::test]
async fn a_probe_opens_nothing_and_a_key_is_checked_before() {
    let server = Server::new(&[status(202), status(400)]).await;
    let clock = Manual::new("2026-05-04T14:03:40Z");
    let notifier = told_by(&server, &clock);
    assert!(matches!(notifier.probe("a").await, Some(Sent::Delivered { .. })));
    assert_eq!(server.request(0).json()["event_action"], "resolve");
    assert!(matches!(notifier.probe("a").await, Some(Sent::Rejected { .. })));
    let short =
        config(r#"{ "destination": { "a": { "channel": "pagerduty", "routing_key": "short" } } }"#);
    let problems = Notifier::check(&short);
    assert_eq!(problems[0].key, "notify.destination.a.routing_key");
}
