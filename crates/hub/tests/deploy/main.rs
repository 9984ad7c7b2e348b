//! The shipped templates on an emulator of AWS: from an account's default bus to the hub's queue.
//!
//! What the emulator does not have and AWS does: bus policies, dead letters of targets, archives,
//! metrics. Those are held by `deploy/check.py` alone.

#[allow(dead_code, reason = "other crates' tests need the rest of it")]
mod stage;
#[path = "../sources/standin.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod standin;

use std::collections::BTreeSet;

use rootwatch_core::classify::classify;
use rootwatch_core::decode::{Limits, decode_event};
use rootwatch_core::finding::RootUse;
use rootwatch_core::forwarding::{ALL, STATE};
use rootwatch_engine::Trust;
use rootwatch_hub::config::{Inputs, load};
use serde_json::{Value, json};
use stage::{ACCOUNTS, HUB, HUB_REGION, organisation, put_event, put_event_on, receive, spoke};
use standin::{Standin, free_port};

const API_CALL: &str = "AWS API Call via CloudTrail";
const SIGN_IN: &str = "AWS Console Sign In via CloudTrail";

/// A record of the account's root user.
fn root(id: &str, (account, region): (&str, &str), name: &str, read_only: bool) -> Value {
    json!({
        "eventVersion": "1.11", "eventID": id, "eventName": name,
        "eventSource": "iam.amazonaws.com", "eventTime": "2026-05-04T14:00:00Z",
        "awsRegion": region, "sourceIPAddress": "192.0.2.7", "eventType": "AwsApiCall",
        "readOnly": read_only, "recipientAccountId": account,
        "userIdentity": {
            "type": "Root", "accountId": account, "arn": format!("arn:aws:iam::{account}:root"),
        },
    })
}

/// A record of a role in the account.
fn role(id: &str, (account, region): (&str, &str), service: &str, name: &str) -> Value {
    let mut record = root(id, (account, region), name, false);
    record["eventSource"] = json!(format!("{service}.amazonaws.com"));
    record["userIdentity"] = json!({
        "type": "AssumedRole", "accountId": account,
        "arn": format!("arn:aws:sts::{account}:assumed-role/root/someone"),
    });
    record
}

/// Id, account, region and source of what came.
fn places(events: &[Value]) -> BTreeSet<[String; 4]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let place = |event: &Value| {
        let id = text(&event["detail"]["eventID"]);
        [id, text(&event["account"]), text(&event["region"]), text(&event["source"])]
    };
    events.iter().map(place).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_account_and_region_reaches_the_hubs_queue_once_and_nothing_forged_does() {
    let standin = tokio::task::spawn_blocking(|| Standin::start(free_port())).await.expect("one");
    let outputs = organisation(&standin, &[("Consumer", "none")], stage::empty_package()).await;
    let queue = &outputs["QueueUrl"];

    let (second, third) = (ACCOUNTS[1], ACCOUNTS[2]);
    let sign_in = (second, "us-east-1");
    let mut login = root("login", sign_in, "ConsoleLogin", false);
    login["eventSource"] = json!("signin.amazonaws.com");
    login["eventType"] = json!("AwsConsoleSignIn");
    put_event(&standin, sign_in, "aws.signin", SIGN_IN, &login).await;
    // A read-only call in the hub's own region, and one in the hub's own account.
    let reader = (third, HUB_REGION);
    put_event(&standin, reader, "aws.iam", API_CALL, &root("read", reader, "GetUser", true)).await;
    let own = (HUB, "us-east-1");
    put_event(&standin, own, "aws.iam", API_CALL, &root("own", own, "CreateAccessKey", false))
        .await;
    // Somebody blinds the account, in two ways, and an account leaves.
    let tamper = role("tamper", reader, "cloudtrail", "StopLogging");
    put_event(&standin, reader, "aws.cloudtrail", API_CALL, &tamper).await;
    let blind = role("blind", sign_in, "guardduty", "DeleteDetector");
    put_event(&standin, sign_in, "aws.guardduty", API_CALL, &blind).await;
    let leave = role("leave", sign_in, "organizations", "LeaveOrganization");
    put_event(&standin, sign_in, "aws.organizations", API_CALL, &leave).await;
    let drill = json!({ "eventID": "drill" });
    put_event(&standin, reader, "rootwatch.drill", "Rootwatch drill", &drill).await;

    // What must not come: look-alikes from customers' sources, at a spoke and at the hub's bus, and
    // what is nobody's business.
    put_event(&standin, reader, "my.app", API_CALL, &root("forged", reader, "GetUser", false))
        .await;
    let on_the_bus = root("forged-too", reader, "GetUser", false);
    put_event_on(&standin, (HUB, HUB_REGION), "rootwatch", "my.app", API_CALL, &on_the_bus).await;
    let ordinary = role("ordinary", reader, "ec2", "RunInstances");
    put_event(&standin, reader, "aws.ec2", API_CALL, &ordinary).await;

    let events = receive(&standin, queue, 7).await;
    let expected = [
        ["login", second, "us-east-1", "aws.signin"],
        ["read", third, HUB_REGION, "aws.iam"],
        ["own", HUB, "us-east-1", "aws.iam"],
        ["tamper", third, HUB_REGION, "aws.cloudtrail"],
        ["blind", second, "us-east-1", "aws.guardduty"],
        ["leave", second, "us-east-1", "aws.organizations"],
        ["drill", third, HUB_REGION, "rootwatch.drill"],
    ];
    assert_eq!(places(&events), expected.map(|place| place.map(str::to_owned)).into());
    assert_eq!(events.len(), expected.len(), "each once");

    // What came is what the hub judges and trusts, with the account that it came from.
    let trust = Trust { accounts: ACCOUNTS.map(str::to_owned).into() };
    for event in &events {
        let text = event.to_string();
        let decoded = decode_event(text.as_bytes(), &Limits::default());
        if event["source"] == "rootwatch.drill" {
            continue;
        }
        let decoded = decoded.expect("a record");
        assert_eq!(trust.doubt(&decoded), None);
        let is_root = event["detail"]["userIdentity"]["type"] == "Root";
        let expected = if is_root { RootUse::Direct } else { RootUse::No };
        assert_eq!(classify(&decoded.record).root_use, expected);
    }
}

/// What the template tells the function is configuration that the hub takes: the topic is a
/// destination, the table keeps incidents, and the organisation and the buckets are known.
#[tokio::test(flavor = "multi_thread")]
async fn the_functions_environment_is_sound_configuration() {
    let standin = tokio::task::spawn_blocking(|| Standin::start(free_port())).await.expect("one");
    stage::put_package(&standin, stage::empty_package()).await;
    let parameters = [("Consumer", "none"), ("LogBuckets", "trail-a,trail-b")];
    let outputs = standin.stacks(json!([stage::hub(&parameters)])).await.swap_remove(0);
    let name = json!({ "FunctionName": outputs["FunctionName"] });
    let place = (HUB, HUB_REGION);
    let function = standin.call_at(place, "lambda", "get_function_configuration", name).await;
    let given = function["Environment"]["Variables"].as_object().expect("variables");

    let mut environment = Vec::new();
    for (key, value) in given {
        environment.push((key.clone(), value.as_str().expect("a text").to_owned()));
    }
    let loaded = load(&Inputs { environment, ..Inputs::default() }).expect("a configuration");
    assert_eq!(loaded.config.hub.organization.id.as_deref(), Some("o-exampleorgid"));
    assert_eq!(json!(loaded.config.store.table), json!(outputs["TableName"]));
    assert_eq!(json!(loaded.config.source.lambda.buckets), json!(["trail-a", "trail-b"]));
    let shown = serde_json::to_value(&loaded.config.notify.destination).expect("JSON");
    assert_eq!(shown["sns"]["topic"], json!(outputs["TopicArn"]), "{shown}");
}

/// The stand-in has no bus policies: what AWS would refuse at the hub's bus comes through here, and
/// the hub keeps it apart by itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_puts_on_the_bus_is_unverified() {
    let standin = tokio::task::spawn_blocking(|| Standin::start(free_port())).await.expect("one");
    let outputs = organisation(&standin, &[("Consumer", "none")], stage::empty_package()).await;
    let (victim, stranger) = ((ACCOUNTS[1], HUB_REGION), "444455556666");
    let mut plan = spoke((stranger, HUB_REGION));
    plan["name"] = json!("rootwatch-strangers-spoke");
    standin.stacks(json!([plan])).await;
    let forged = root("forged", victim, "ConsoleLogin", false);
    put_event(&standin, (stranger, HUB_REGION), "aws.iam", API_CALL, &forged).await;

    let events = receive(&standin, &outputs["QueueUrl"], 1).await;
    assert_eq!(places(&events).len(), 1);
    let text = events[0].to_string();
    let decoded = decode_event(text.as_bytes(), &Limits::default()).expect("a record");
    let doubt = Trust::default().doubt(&decoded).expect("a doubt");
    assert!(doubt.contains(stranger) && doubt.contains(victim.0), "{doubt}");
}

/// The stand-in keeps read-only calls back as AWS does, so that the first test would fail with the
/// state that everybody writes first. And what is deleted leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn plain_enabled_would_lose_read_only_calls_and_a_deleted_spoke_is_gone() {
    let standin = tokio::task::spawn_blocking(|| Standin::start(free_port())).await.expect("one");
    stage::put_package(&standin, stage::empty_package()).await;
    let place = (ACCOUNTS[1], "us-east-1");
    let mut plain = spoke(place);
    let text = plain["template"].as_str().expect("a template");
    assert_eq!(text.matches(STATE).count(), ALL.len(), "every rule of the spoke has the state");
    plain["template"] = json!(text.replace(STATE, "ENABLED"));
    let outputs = standin.stacks(json!([stage::hub(&[("Consumer", "none")]), plain])).await;

    for (id, read_only) in [("read", true), ("write", false)] {
        let record = root(id, place, "Something", read_only);
        put_event(&standin, place, "aws.iam", API_CALL, &record).await;
    }
    let events = receive(&standin, &outputs[0]["QueueUrl"], 1).await;
    let came: Vec<_> = events.iter().map(|event| &event["detail"]["eventID"]).collect();
    assert_eq!(came, ["write"]);

    let delete = json!({
        "account": place.0, "region": place.1, "name": "rootwatch-spoke", "delete": true,
    });
    standin.stacks(json!([delete])).await;
    let rules = standin.call_at(place, "events", "list_rules", json!({})).await;
    assert_eq!(rules["Rules"], json!([]));
    let roles = standin.call_at(place, "iam", "list_roles", json!({})).await;
    assert_eq!(roles["Roles"], json!([]));
    let queues = standin.call_at(place, "sqs", "list_queues", json!({})).await;
    assert_eq!(queues.get("QueueUrls").unwrap_or(&json!([])), &json!([]));
}
