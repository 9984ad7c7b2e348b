//! The channel `securityhub`, against a scripted Security Hub, moto, and the format's own limits.

use std::sync::LazyLock;

use rootwatch_core::alert::{AccountName, Alert, AlertKind, Clock as _, CloseReason};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::Sent;
use rootwatch_notify::channels::securityhub::{
    DESCRIPTION_CHARS_MAX, FINDING_BYTES_MAX, FINDINGS_MAX, TITLE_CHARS_MAX,
};
use serde_json::{Value, json};

use crate::aws::{NOW, json_error, judges_answers, ok, probe, sent};
use crate::common::{Manual, Memory, PROD, Server, config, notifier_with, opened};
use crate::standin::{ACCOUNT, sdk, shared_moto};
use crate::words::{alerts, rendered};

const GOOD: &str = r#"{ "FailedCount": 0, "SuccessCount": 1, "FailedFindings": [] }"#;
const GOOD_UPDATE: &str = r#"{ "ProcessedFindings": [{}], "UnprocessedFindings": [] }"#;

static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value =
        serde_json::from_str(include_str!("../schemas/asff.schema.json")).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
});

fn keys() -> Value {
    json!({ "channel": "securityhub", "account": ACCOUNT, "region": "us-east-1" })
}

fn finding(alert: &Alert) -> Value {
    let bytes = rendered("securityhub", alert);
    let line = bytes.split(|byte| *byte == b'\n').next().expect("a line");
    let body: Value = serde_json::from_slice(line).expect("JSON");
    body["Findings"][0].clone()
}

fn with_accounts(count: u64) -> Alert {
    let mut alert = opened();
    alert.incidents[0].accounts = (0..count)
        .map(|number| AccountName {
            id: format!("{:012}", 222_200_000_000 + number),
            ..AccountName::default()
        })
        .collect();
    alert
}

fn closed() -> Alert {
    let mut alert = opened();
    alert.kind = AlertKind::Closed { why: CloseReason::Resolved };
    alert.decided_at = "2026-05-04T15:00:00Z".parse().expect("a moment");
    alert
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    judges_answers(&keys(), &opened(), GOOD).await;
    for name in ["InvalidAccessException", "AccessDeniedException"] {
        let server = Server::new(&[json_error(401, name)]).await;
        let result = sent(&keys(), &server, opened(), &Memory::default()).await;
        assert!(matches!(result, Sent::Misconfigured { .. }), "{name}: {result:?}");
    }
    let server = Server::new(&[json_error(429, "LimitExceededException")]).await;
    let result = sent(&keys(), &server, opened(), &Memory::default()).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
}

#[tokio::test]
async fn an_answer_of_success_can_hold_failures() {
    for (code, is_later) in
        [("InternalError", true), ("ThrottlingException", true), ("InvalidInput", false)]
    {
        let body = json!({ "FailedCount": 1, "SuccessCount": 0,
            "FailedFindings": [{ "Id": "a", "ErrorCode": code, "ErrorMessage": "said AWS" }] });
        let server = Server::new(&[ok(&body.to_string())]).await;
        let result = sent(&keys(), &server, opened(), &Memory::default()).await;
        assert_eq!(matches!(result, Sent::RetryAfter { .. }), is_later, "{code}: {result:?}");
        assert_eq!(matches!(result, Sent::Rejected { .. }), !is_later, "{code}: {result:?}");
    }
    let server = Server::new(&[ok(r#"{ "FailedCount": 1, "SuccessCount": 0 }"#)]).await;
    let result = sent(&keys(), &server, opened(), &Memory::default()).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
}

#[test]
fn every_finding_is_one_of_the_format() {
    for (name, alert) in alerts() {
        for line in rendered("securityhub", &alert).split(|byte| *byte == b'\n') {
            let body: Value = serde_json::from_slice(line).expect("JSON");
            let faults: Vec<String> =
                SCHEMA.iter_errors(&body).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(faults.is_empty(), "{name}: {faults:?}");
            for finding in body["Findings"].as_array().expect("a list") {
                assert!(finding.to_string().len() <= FINDING_BYTES_MAX / 10, "{name}");
            }
        }
    }
    let mut wrong = json!({ "Findings": [finding(&opened())] });
    wrong["Findings"][0]["Severity"]["Label"] = json!("URGENT");
    assert!(!SCHEMA.is_valid(&wrong), "the schema refuses what is wrong");
}

#[test]
fn titles_and_descriptions_keep_their_limits_at_the_edge() {
    for letter in ["x", "ü", "支", "e\u{301}"] {
        for length in [TITLE_CHARS_MAX - 1, TITLE_CHARS_MAX, TITLE_CHARS_MAX + 1, 4_000] {
            let mut alert = opened();
            alert.incidents[0].title = letter.repeat(length);
            alert.incidents[0].by = Some(letter.repeat(length));
            let finding = finding(&alert);
            let count = |key: &str| finding[key].as_str().expect("a text").chars().count();
            assert!(count("Title") <= TITLE_CHARS_MAX, "{letter} {length}");
            assert!(count("Description") <= DESCRIPTION_CHARS_MAX, "{letter} {length}");
            if letter == "x" && length <= TITLE_CHARS_MAX {
                assert_eq!(count("Title"), length);
            }
        }
    }
}

#[test]
fn an_incident_has_a_finding_in_each_account_and_a_stable_id() {
    let ids = |alert: &Alert| -> Vec<String> {
        let text = String::from_utf8(rendered("securityhub", alert)).expect("UTF-8");
        text.lines()
            .flat_map(|line| {
                let body: Value = serde_json::from_str(line).expect("JSON");
                let found = body["Findings"].as_array().cloned().expect("a list");
                found.into_iter().map(|one| one["Id"].as_str().expect("an id").to_owned())
            })
            .collect()
    };
    assert_eq!(ids(&opened()), ids(&closed()));
    for (accounts, findings) in [(99, 99), (100, 100), (101, 100)] {
        let found = ids(&with_accounts(accounts));
        let distinct: std::collections::BTreeSet<_> = found.iter().collect();
        assert_eq!((found.len(), distinct.len()), (findings, findings));
        assert!(found.len() <= FINDINGS_MAX);
    }
    let said = finding(&with_accounts(102))["Description"].to_string();
    assert!(said.contains("2 accounts more have no finding"), "{said}");
}

#[tokio::test]
async fn a_finding_is_opened_taken_and_archived_and_its_workflow_follows() {
    let server = Server::new(&[ok(GOOD), ok(GOOD), ok(GOOD_UPDATE)]).await;
    let memory = Memory::default();
    let first = sent(&keys(), &server, opened(), &memory).await;
    assert_eq!(first, Sent::Delivered { receipt: "1 finding".to_owned() });
    let last = sent(&keys(), &server, closed(), &memory).await;
    assert_eq!(last, Sent::Delivered { receipt: "1 finding, RESOLVED".to_owned() });
    let imported = server.request(1).json()["Findings"][0].clone();
    assert_eq!(imported["RecordState"], "ARCHIVED");
    assert_eq!(imported["Id"], server.request(0).json()["Findings"][0]["Id"]);
    assert!(server.request(2).head.starts_with("PATCH /hook/hush/findings/batchupdate "));
    let update = server.request(2).json();
    assert_eq!(update["Workflow"]["Status"], "RESOLVED");
    assert_eq!(update["FindingIdentifiers"][0]["Id"], imported["Id"]);
    // The finding is there; that its workflow may not be set is said, and no reason to fail.
    let server = Server::new(&[ok(GOOD), json_error(403, "AccessDeniedException")]).await;
    let result = sent(&keys(), &server, closed(), &memory).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    assert!(receipt.contains("the workflow is not RESOLVED: AWS answered 403"), "{receipt}");
    // What was imported a moment ago may not be found yet.
    let later = json!({ "ProcessedFindings": [], "UnprocessedFindings": [{ "FindingIdentifier": { "Id": "a" },
        "ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found" }] });
    let server = Server::new(&[ok(GOOD), ok(&later.to_string())]).await;
    let result = sent(&keys(), &server, closed(), &memory).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
}

#[test]
fn a_test_is_a_sample_that_nobody_has_to_close() {
    let (_, alert) = alerts().into_iter().find(|(name, _)| *name == "test").expect("a test");
    let finding = finding(&alert);
    assert_eq!(finding["Sample"], true);
    assert_eq!(finding["RecordState"], "ARCHIVED");
    assert_eq!(finding["Severity"]["Label"], "INFORMATIONAL");
    assert!(finding["Title"].as_str().is_some_and(|title| title.starts_with("TEST: ")));
}

#[test]
fn what_is_no_account_and_no_role_is_found_offline() {
    for (key, value) in [
        ("account", "1"),
        ("region", "evil.test/"),
        ("role", "{account}"),
        ("role", "arn:aws:iam::{account}:user/a"),
        ("endpoint_url", "ftp://example.com/"),
    ] {
        let mut keys = keys();
        keys[key] = json!(value);
        let text = json!({ "destination": { "a": keys } }).to_string();
        let faults = rootwatch_notify::Notifier::check(&config(&text));
        assert_eq!(faults.len(), 1, "{key} {value}");
    }
}

#[tokio::test]
async fn a_probe_asks_whether_it_is_enabled() {
    let server = Server::new(&[json_error(401, "InvalidAccessException")]).await;
    let result = probe(&keys(), &server).await;
    assert!(
        matches!(&result, Sent::Misconfigured { error } if error.contains("enable Security Hub")),
        "{result:?}"
    );
    let server = Server::new(&[ok(
        r#"{ "HubArn": "arn:aws:securityhub:us-east-1:111122223333:hub/default" }"#,
    )])
    .await;
    assert!(matches!(probe(&keys(), &server).await, Sent::Delivered { .. }));
    assert!(server.request(0).head.starts_with("GET /hook/hush/accounts "));
}

async fn sent_to_moto(keys: &Value, alert: Alert) -> Sent {
    let clock = Manual::new(NOW);
    let port = shared_moto().await.port();
    let config = config(&json!({ "destination": { "a": keys } }).to_string());
    let notifier = notifier_with(&config, &clock, sdk(port));
    let delivery = Delivery::new(alert, "a", clock.now());
    notifier.send(&delivery, &Memory::default()).await
}

#[tokio::test]
async fn moto_holds_one_finding_through_the_life_of_an_incident() {
    let moto = shared_moto().await;
    let found = async || {
        let answer = moto.call("securityhub", "get_findings", json!({})).await;
        let all = answer["Findings"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|one| one["Id"].to_string().contains(PROD)).collect::<Vec<_>>()
    };
    let result = sent_to_moto(&keys(), opened()).await;
    assert_eq!(result, Sent::Delivered { receipt: "1 finding".to_owned() });
    let again = sent_to_moto(&keys(), opened()).await;
    assert!(matches!(again, Sent::Delivered { .. }), "{again:?}");
    let findings = found().await;
    assert_eq!(findings.len(), 1, "a repeat replaces");
    assert_eq!(findings[0]["RecordState"], "ACTIVE");
    assert_eq!(findings[0]["AwsAccountId"], ACCOUNT);
    assert_eq!(findings[0]["Resources"][0]["Id"], format!("AWS::::Account:{PROD}"));
    assert_eq!(findings[0]["Severity"]["Label"], "CRITICAL");
    // moto has no BatchUpdateFindings: the receipt says that the workflow could not be set.
    let result = sent_to_moto(&keys(), closed()).await;
    let Sent::Delivered { receipt } = &result else { panic!("{result:?}") };
    assert!(receipt.starts_with("1 finding; the workflow is not RESOLVED"), "{receipt}");
    let findings = found().await;
    assert_eq!((findings.len(), &findings[0]["RecordState"]), (1, &json!("ARCHIVED")));
}

/// A scripted STS and Security Hub: moto does not keep accounts apart here.
#[tokio::test]
async fn with_a_role_for_each_account_its_credentials_import_the_finding() {
    let given = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
        <AssumedRoleUser><AssumedRoleId>A:rootwatch</AssumedRoleId>\
        <Arn>arn:aws:sts::333344445555:assumed-role/rootwatch-securityhub/rootwatch</Arn></AssumedRoleUser>\
        <Credentials><AccessKeyId>ASIAASSUMEDROLEEXAMP</AccessKeyId><SecretAccessKey>hush-key</SecretAccessKey>\
        <SessionToken>hush-session</SessionToken><Expiration>2099-05-04T15:00:00Z</Expiration></Credentials>\
        </AssumeRoleResult></AssumeRoleResponse>";
    let server = Server::new(&[ok(given), ok(GOOD)]).await;
    let port = server.url.split(':').nth(2).and_then(|end| end.split('/').next()).expect("a port");
    let mut keys = keys();
    keys["role"] = json!("arn:aws:iam::{account}:role/rootwatch-securityhub");
    keys["endpoint_url"] = json!(server.url);
    let mut alert = opened();
    alert.incidents[0].accounts[0].id = "333344445555".to_owned();
    let clock = Manual::new(NOW);
    let config = config(&json!({ "destination": { "a": keys } }).to_string());
    let notifier = notifier_with(&config, &clock, sdk(port.parse().expect("a port")));
    for _ in 0..2 {
        let delivery = Delivery::new(alert.clone(), "a", clock.now());
        let result = notifier.send(&delivery, &Memory::default()).await;
        assert_eq!(result, Sent::Delivered { receipt: "1 finding".to_owned() });
    }
    // One role is assumed once, and used for both.
    assert_eq!(server.count(), 3);
    let assume = String::from_utf8(server.request(0).body).expect("UTF-8");
    assert!(
        assume.contains("role%2Frootwatch-securityhub") && assume.contains("333344445555"),
        "{assume}"
    );
    for place in [1, 2] {
        let request = server.request(place);
        let signature = request.header("authorization").expect("a signature").to_owned();
        assert!(signature.contains("Credential=ASIAASSUMEDROLEEXAMP/"), "{signature}");
        assert_eq!(request.header("x-amz-security-token"), Some("hush-session"));
        assert_eq!(request.json()["Findings"][0]["AwsAccountId"], "333344445555");
    }
    // A role that may not be assumed is a fault of the configuration.
    let denied = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
        <Message>not allowed</Message></Error></ErrorResponse>";
    server.answer(&[crate::common::Answer::Status(403, "", denied.to_owned())]);
    let notifier = notifier_with(&config, &clock, sdk(port.parse().expect("a port")));
    let delivery = Delivery::new(alert, "a", clock.now());
    let result = notifier.send(&delivery, &Memory::default()).await;
    let Sent::Misconfigured { error } = &result else { panic!("{result:?}") };
    assert!(error.contains("AccessDenied") && error.contains("333344445555"), "{error}");
}

/// boto3 holds parameters against AWS's own description of the call before it sends them.
#[tokio::test]
async fn the_description_of_aws_knows_every_attribute() {
    let moto = shared_moto().await;
    for (name, alert) in alerts() {
        let mut finding = finding(&alert);
        // Apart from the one that another test looks for.
        finding["Id"] = json!(format!("described/{name}"));
        let result = moto
            .call("securityhub", "batch_import_findings", json!({ "Findings": [finding] }))
            .await;
        assert_eq!(result["SuccessCount"], 1, "{name}");
    }
}
