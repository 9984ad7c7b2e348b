//! What is known to be wrong with the sample that everybody copies (EventBridge to a hub, one small
//! function, one topic), each as a test that bears its name. Two more stand with the function's own
//! tests, where what is sent to SNS can be looked at and SNS can fail: `moody`.

use rootwatch_core::forwarding::{ALL, STATE};
use serde_json::{Value, json};

use crate::stage::{ACCOUNTS, HUB, HUB_REGION, put_event, put_event_on};
use crate::{API_CALL, Organisation, SIGN_IN, THERE, root, shared, sign_in};

/// Listens, puts events as they come, and gives what is heard.
async fn heard_of(
    name: &str,
    account: &str,
    events: &[((&str, &str), &str, &str, Value)],
    count: usize,
) -> Vec<Value> {
    let there = shared().await;
    let listener = there.listen(name).await;
    for (place, source, detail_type, record) in events {
        put_event(&there.standin, *place, source, detail_type, record).await;
    }
    there.hear(&listener, account, count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hubs_own_account_is_watched_in_its_own_region() {
    let place = (HUB, HUB_REGION);
    let record = root("sample-own", place, "CreateUser", false);
    let events = [(place, "aws.iam", API_CALL, record)];
    assert_eq!(heard_of("own", HUB, &events, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_only_us_east_1_sees_reaches_a_hub_elsewhere() {
    let place = ("444455556666", "us-east-1");
    shared().await.spoke(place).await;
    let events = [(place, "aws.signin", SIGN_IN, sign_in("sample-sign-in", place))];
    assert_eq!(heard_of("sign-in", place.0, &events, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_without_an_access_key_is_no_less_heard() {
    let place = ("123456789012", "us-east-1");
    shared().await.spoke(place).await;
    let record = sign_in("sample-keyless", place);
    assert_eq!(record["userIdentity"].get("accessKeyId"), None);
    let heard = heard_of("keyless", place.0, &[(place, "aws.signin", SIGN_IN, record)], 1).await;
    // And says who, what and how bad, not a constant sentence.
    let text = heard[0].to_string();
    for word in [place.0, "203.0.113.77", "critical", "MFA"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_twenty_calls_is_no_twenty_messages() {
    let place = ("111111111111", HUB_REGION);
    shared().await.spoke(place).await;
    let first = root("sample-first", place, "GetUser", true);
    let began = first["eventTime"].as_str().expect("a time").to_owned();
    let events: Vec<_> = (0..20)
        .map(|number| {
            let mut record = root(&format!("sample-{number}"), place, "GetUser", true);
            record["userIdentity"]["accessKeyId"] = json!("ASIAEXAMPLEEXAMPLE00");
            record["userIdentity"]["sessionContext"] =
                json!({ "attributes": { "creationDate": began, "mfaAuthenticated": "true" } });
            (place, "aws.iam", API_CALL, record)
        })
        .collect();
    let heard = heard_of("session", place.0, &events, 1).await;
    assert!((1..=2).contains(&heard.len()), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_twice_is_told_once() {
    let place = ("222222222222", HUB_REGION);
    shared().await.spoke(place).await;
    let event = (place, "aws.iam", API_CALL, root("sample-twice", place, "CreateUser", false));
    let events = [event.clone(), event.clone(), event];
    assert_eq!(heard_of("twice", place.0, &events, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_alike_from_any_account_of_the_organisation_raises_nothing() {
    let there = shared().await;
    let place = ("555555555555", HUB_REGION);
    there.spoke(place).await;
    let listener = there.listen("look-alike").await;
    let forged = root("sample-forged", place, "DeactivateMFADevice", false);
    put_event_on(&there.standin, THERE, "rootwatch", "my.app", API_CALL, &forged).await;
    put_event(&there.standin, place, "my.app", API_CALL, &forged).await;
    // What is sound comes through the same way, after it.
    let sound = root("sample-sound", place, "CreateUser", false);
    put_event(&there.standin, place, "aws.iam", API_CALL, &sound).await;
    let heard = there.hear(&listener, place.0, 1).await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].to_string().contains("CreateUser"), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_concurrency_is_reserved_and_the_runtime_is_none_that_ends() {
    let there = shared().await;
    let name = json!({ "FunctionName": there.outputs["FunctionName"] });
    let function =
        there.standin.call_at(THERE, "lambda", "get_function_configuration", name.clone()).await;
    assert_eq!(function["Runtime"], "provided.al2023");
    assert_eq!(function["Environment"]["Variables"]["ROOTWATCH_LOG"], "info");
    let reserved = there.standin.call_at(THERE, "lambda", "get_function_concurrency", name).await;
    assert_eq!(reserved.get("ReservedConcurrentExecutions"), None, "{reserved}");
    let source = json!({ "FunctionName": there.outputs["FunctionName"] });
    let mappings =
        there.standin.call_at(THERE, "lambda", "list_event_source_mappings", source).await;
    let mapping = &mappings["EventSourceMappings"][0];
    assert_eq!(mapping["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]));
}

/// The role that is really made, as IAM has it: nothing is allowed on everything.
#[tokio::test(flavor = "multi_thread")]
async fn the_function_may_publish_to_its_topic_and_not_to_all() {
    let there = shared().await;
    let role = there.outputs["FunctionRoleArn"].rsplit('/').next().expect("a name");
    let list = json!({ "RoleName": role });
    let names = there.standin.call_at(THERE, "iam", "list_role_policies", list).await;
    let names = names["PolicyNames"].as_array().expect("policies").clone();
    assert!(!names.is_empty());
    for name in names {
        let ask = json!({ "RoleName": role, "PolicyName": name });
        let policy = there.standin.call_at(THERE, "iam", "get_role_policy", ask).await;
        for statement in policy["PolicyDocument"]["Statement"].as_array().expect("statements") {
            let text = statement.to_string();
            assert_ne!(statement["Resource"], "*", "{text}");
            assert!(!text.contains("iam:") || text.contains(":iam:"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organisation_has_more_accounts_than_the_sample_watches() {
    // Each account has a rule in each region, the hub's own among them.
    let there: &Organisation = shared().await;
    for account in ACCOUNTS {
        for region in crate::stage::REGIONS {
            let rules =
                there.standin.call_at((account, region), "events", "list_rules", json!({})).await;
            let states: Vec<&str> = rules["Rules"]
                .as_array()
                .expect("rules")
                .iter()
                .filter_map(|rule| rule["State"].as_str())
                .collect();
            assert!(states.len() >= ALL.len(), "{account} {region}: {rules}");
            for state in states {
                assert_eq!(state, STATE);
            }
        }
    }
}
