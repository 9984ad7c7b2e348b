//! Teams: cards within their limits, in which nothing of a stranger is markup.

use rootwatch_core::alert::AlertKind;
use rootwatch_core::finding::Severity;
use rootwatch_notify::channels::teams;
use serde_json::Value;

use crate::common::opened;
use crate::words::{alerts, rendered};

fn schema() -> jsonschema::Validator {
    let text = include_str!("../schemas/teams-message.schema.json");
    let schema: Value = serde_json::from_str(text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

#[test]
fn every_card_is_what_is_published_and_within_its_limit() {
    let schema = schema();
    for (name, alert) in alerts() {
        let bytes = rendered("teams", &alert);
        assert!(bytes.len() <= teams::BODY_BYTES_MAX, "{name}: {}", bytes.len());
        let body: Value = serde_json::from_slice(&bytes).expect("JSON");
        let faults: Vec<String> =
            schema.iter_errors(&body).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(!text.contains("<at>") && !text.contains("](http"), "{name}");
        assert!(!text.contains("https://evil.test"), "{name}: it would be made a link");
        assert!(!text.contains('\u{202e}'), "{name}");
    }
    let wrong = r#"{"type":"message","attachments":[{"contentType":"text/plain","content":{}}]}"#;
    assert!(!schema.is_valid(&serde_json::from_str(wrong).expect("JSON")));
}

#[test]
fn what_has_no_room_is_left_out_as_a_whole_and_said() {
    let (mut whole, mut shortened) = (0, 0);
    // Grows by a little, over the edge.
    for length in (10..390).step_by(5) {
        let mut alert = opened();
        alert.kind = AlertKind::Escalated { from: Severity::High };
        alert.next = (0..3).map(|number| format!("{number}{}", "&".repeat(length))).collect();
        alert.findings = (0..12)
            .map(|number| {
                let mut finding = alert.findings[0].clone();
                finding.key.0 = number.to_string();
                finding.session.sign_in = false;
                finding.did = format!("{number}{}", "&".repeat(length));
                finding
            })
            .collect();
        alert.fresh = alert.findings.iter().map(|finding| finding.key.clone()).collect();
        for brief in &mut alert.incidents {
            brief.reasons = (0..6)
                .map(|number| {
                    let mut reason = brief.reasons[0].clone();
                    reason.text = format!("{number}{}", "&".repeat(length)).into();
                    reason
                })
                .collect();
        }
        let bytes = rendered("teams", &alert);
        assert!(bytes.len() <= teams::BODY_BYTES_MAX, "{length}: {}", bytes.len());
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.contains("Root user signed in"), "{length}");
        if text.contains("shortened: the hub has all of it") {
            shortened += 1;
            assert!(!text.contains("What happened") && text.contains("Do first"), "{length}");
        } else {
            whole += 1;
            assert!(text.contains("What happened") && text.contains("Do first"), "{length}");
        }
    }
    assert!(whole > 0 && shortened > 0, "{whole} fit, {shortened} do not");
}
