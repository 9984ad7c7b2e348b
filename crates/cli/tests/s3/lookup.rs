//! `lookup://` against a server that plays CloudTrail, EC2 and STS in their published shapes
//! (CloudTrail API reference, "LookupEvents"; EC2 API reference, "DescribeRegions"); roles in other
//! accounts against the stand-in, whose IAM says who may assume them and what they may do.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Heard, Server, answer};
use crate::standin::{ACCOUNT, Standin, free_port};
use crate::{archive, program, ran, run};

const JSON: &str = "application/x-amz-json-1.1";

/// Who am I, which regions: the same everywhere.
fn surroundings(heard: &Heard) -> Option<Vec<u8>> {
    let body = String::from_utf8_lossy(&heard.body);
    let xml = if body.contains("GetCallerIdentity") {
        "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/a\
         </Arn><UserId>A</UserId><Account>111122223333</Account></GetCallerIdentityResult>\
         </GetCallerIdentityResponse>"
    } else if body.contains("DescribeRegions") {
        "<DescribeRegionsResponse><regionInfo><item><regionName>eu-west-1</regionName></item>\
         <item><regionName>us-east-1</regionName></item></regionInfo></DescribeRegionsResponse>"
    } else {
        return None;
    };
    Some(answer("200 OK", "text/xml", xml))
}

fn region(heard: &Heard) -> &str {
    // Credential=<key>/<day>/<region>/cloudtrail/aws4_request
    heard.header("authorization").and_then(|text| text.split('/').nth(2)).unwrap_or_default()
}

fn asked(heard: &Heard) -> Value {
    assert_eq!(
        heard.header("x-amz-target"),
        Some("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents")
    );
    serde_json::from_slice(&heard.body).expect("JSON")
}

/// An event as LookupEvents gives it: the record as a text in it.
fn event(id: &str, region: &str, time: &str) -> Value {
    let record = archive::root_record(id, "111122223333", region, time);
    let at: jiff::Timestamp = time.parse().expect("a time");
    json!({
        "EventId": id, "EventName": "ListBuckets", "ReadOnly": "true", "Username": "root",
        "EventTime": at.as_second(), "EventSource": "s3.amazonaws.com", "Resources": [],
        "CloudTrailEvent": record,
    })
}

/// So many hours ago, to the minute.
fn ago(hours: i64) -> String {
    let minute = jiff::Timestamp::now().as_second() / 60 * 60;
    let at = jiff::Timestamp::from_second(minute - hours * 3600).expect("a time");
    at.to_string()
}

fn error(name: &str) -> Vec<u8> {
    let body = json!({"__type": name, "message": "said by the test"});
    answer("400 Bad Request", JSON, &body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_region_is_looked_up_page_by_page_at_the_pace_that_is_allowed() {
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |heard| {
        if let Some(answer) = surroundings(heard) {
            return answer;
        }
        let asked = asked(heard);
        assert_eq!(asked["MaxResults"], 50);
        assert!(asked.get("LookupAttributes").is_none(), "nothing may be left out: {asked}");
        if region(heard) == "eu-west-1" {
            return error("AccessDeniedException");
        }
        let number = tries.fetch_add(1, Ordering::Relaxed);
        let token = asked["NextToken"].as_str().unwrap_or("");
        let page = match (number, token) {
            (0, "") => json!({"Events": [event("new", "us-east-1", &ago(2))], "NextToken": "t1"}),
            (1, "t1") => return error("ThrottlingException"),
            (2, "t1") => return error("ExpiredTokenException"),
            // Published replies have pages without events.
            (3, "t1") => json!({"Events": [], "NextToken": "t2"}),
            (4, "t2") => json!({"Events": [
                event("old", "us-east-1", &ago(24)),
                event("before", "us-east-1", &ago(24 * 20)),
            ]}),
            other => panic!("asked {other:?}"),
        };
        answer("200 OK", JSON, &page.to_string())
    });
    let since = ago(24 * 10);
    let mut command = program(&server.url(), None);
    command.args(["scan", "--format", "jsonl", "lookup://", "--since", &since]);
    let ran = run(command).await;
    let told: Vec<(String, String)> = ran
        .lines()
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().expect("a text").to_owned();
            (text("event_id"), text("file"))
        })
        .collect();
    let file = "lookup://111122223333/us-east-1";
    assert_eq!(told, [("old".into(), file.into()), ("new".into(), file.into())], "{}", ran.err);
    assert_eq!(ran.code, 3, "a region that is denied was not looked at: {}", ran.err);
    assert!(ran.err.contains("lookup://111122223333/eu-west-1"), "{}", ran.err);
    assert!(ran.err.contains("AccessDeniedException"), "{}", ran.err);

    let lookups: Vec<Heard> = server
        .heard()
        .into_iter()
        .filter(|heard| heard.header("x-amz-target").is_some() && region(heard) == "us-east-1")
        .collect();
    assert_eq!(lookups.len(), 5);
    for pair in lookups.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause > Duration::from_millis(400), "two a second at most: {pause:?}");
    }
    let since: jiff::Timestamp = since.parse().expect("a time");
    assert_eq!(asked(&lookups[0])["StartTime"].as_i64(), Some(since.as_second()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_costs_nothing_and_a_named_region_needs_no_list() {
    let an_hour_ago = jiff::Timestamp::now().as_second() - 3600;
    let server = Server::start(move |heard| {
        if String::from_utf8_lossy(&heard.body).contains("DescribeRegions") {
            return answer(
                "403 Forbidden",
                "text/xml",
                "<Error><Code>UnauthorizedOperation</Code></Error>",
            );
        }
        if let Some(answer) = surroundings(heard) {
            return answer;
        }
        let asked = asked(heard);
        let old = &ago(24);
        let page = match asked["NextToken"].as_str() {
            Some(_) => return error("InvalidNextTokenException"),
            None if asked["EndTime"].as_i64() > Some(an_hour_ago) => {
                json!({"Events": [event("one", "us-east-1", old)], "NextToken": "ended"})
            }
            None => {
                json!({"Events": [event("one", "us-east-1", old), event("two", "us-east-1", &ago(48))]})
            }
        };
        answer("200 OK", JSON, &page.to_string())
    });
    let look = async |more: &[&str]| {
        let mut command = program(&server.url(), None);
        command.args(["scan", "--format", "jsonl", "lookup://"]).args(more);
        run(command).await
    };
    let named = look(&["--region", "us-east-1"]).await;
    assert_eq!((named.code, named.lines().len()), (0, 2), "{}", named.err);
    let long_ago = look(&["--region", "us-east-1", "--since", "400d"]).await;
    assert_eq!((long_ago.code, long_ago.lines().len()), (3, 2), "{}", long_ago.err);
    assert!(long_ago.err.contains("keeps 90 days"), "{}", long_ago.err);
    let unnamed = look(&[]).await;
    assert_eq!((unnamed.code, unnamed.out.as_str()), (3, ""), "{}", unnamed.err);
    assert!(unnamed.err.contains("ec2:DescribeRegions"), "{}", unnamed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_before_an_interrupt_is_told_as_an_incomplete_look() {
    let server = Server::start(move |heard| {
        if let Some(answer) = surroundings(heard) {
            return answer;
        }
        // There is always more.
        let page = json!({"Events": [event("one", "us-east-1", &ago(24))], "NextToken": "t"});
        answer("200 OK", JSON, &page.to_string())
    });
    let mut command = program(&server.url(), None);
    let child = command
        .args(["scan", "--format", "jsonl", "lookup://", "--region", "us-east-1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let begin = std::time::Instant::now();
    while server.heard().len() < 4 {
        assert!(begin.elapsed() < Duration::from_secs(30), "nothing is asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = child.id().to_string();
    let ended = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill");
    assert!(ended.success());
    let ran = ran(child.wait_with_output().expect("the program"));
    assert_eq!((ran.code, ran.lines().len()), (3, 1), "{}", ran.err);
    assert!(ran.err.contains("interrupted"), "{}", ran.err);
}

/// A role of an account that ours may assume with this external id, and that may do these.
async fn role(standin: &Standin, account: &str, external_id: &str, actions: &[&str]) {
    let place = (account, "us-east-1");
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
        "Condition": { "StringEquals": { "sts:ExternalId": external_id } },
    }] });
    let role = json!({ "RoleName": "audit", "AssumeRolePolicyDocument": trust.to_string() });
    standin.call_at(place, "iam", "create_role", role).await;
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": actions, "Resource": "*" },
    ] });
    let policy =
        json!({ "RoleName": "audit", "PolicyName": "audit", "PolicyDocument": policy.to_string() });
    standin.call_at(place, "iam", "put_role_policy", policy).await;
}

/// Somebody deletes a forwarding rule: what CloudTrail of that account and region remembers, and a
/// rule speaks of whoever it was.
async fn blind(standin: &Standin, place: (&str, &str)) {
    let name = format!("rootwatch-of-{}", place.0);
    let rule = json!({ "Name": name, "EventPattern": "{\"source\":[\"aws.signin\"]}" });
    standin.call_at(place, "events", "put_rule", rule).await;
    standin.call_at(place, "events", "delete_rule", json!({ "Name": name })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_looked_up_by_the_role_that_each_of_them_has() {
    let standin =
        tokio::task::spawn_blocking(|| Standin::start_with_iam_and_cloud_trail(free_port()))
            .await
            .expect("one");
    let [second, third, fourth] = ["222233334444", "333344445555", "444455556666"];
    let needed = ["cloudtrail:LookupEvents", "ec2:DescribeRegions"];
    role(&standin, second, "ours", &needed).await;
    role(&standin, third, "ours", &needed).await;
    blind(&standin, (second, "eu-west-1")).await;
    blind(&standin, (third, "us-east-1")).await;
    // These are not to be found: our own account is not asked for, and the fourth has no role.
    blind(&standin, (ACCOUNT, "us-east-1")).await;
    blind(&standin, (fourth, "us-east-1")).await;

    let look = async |accounts: &[&str], more: &[&str]| {
        let places = format!("lookup://{}", accounts.join(","));
        let mut command = program(&standin.endpoint(), None);
        command.args(["scan", "--format", "jsonl", "--root-use", "no", &places]);
        command.args(["--role-name", "audit"]).args(more);
        run(command).await
    };
    let both = look(&[second, third], &["--external-id", "ours"]).await;
    let mut files: Vec<String> = Vec::new();
    for line in both.lines() {
        assert_eq!(line["event_name"], "DeleteRule", "{line}");
        let file = line["file"].as_str().expect("a text");
        assert_eq!(line["account_id"].as_str(), file.split('/').nth(2), "{line}");
        files.push(file.to_owned());
    }
    files.sort();
    let expected = [format!("lookup://{second}/eu-west-1"), format!("lookup://{third}/us-east-1")];
    assert_eq!((both.code, &files[..]), (0, &expected[..]), "{}{}", both.out, both.err);

    // An account that does not let us in is not looked at, and that is said; the others are.
    let with_fourth = look(&[second, fourth], &["--external-id", "ours"]).await;
    assert_eq!((with_fourth.code, with_fourth.lines().len()), (3, 1), "{}", with_fourth.err);
    let refused = format!("arn:aws:iam::{fourth}:role/audit");
    assert!(with_fourth.err.contains(&refused), "{}", with_fourth.err);
    // Nor does one that asks for an external id without it.
    let without = look(&[second], &[]).await;
    assert_eq!((without.code, without.out.as_str()), (3, ""), "{}", without.err);
    assert!(without.err.contains(&format!("lookup://{second}")), "{}", without.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_look_up_events_is_no_clean_account() {
    let standin =
        tokio::task::spawn_blocking(|| Standin::start_with_iam_and_cloud_trail(free_port()))
            .await
            .expect("one");
    let account = "222233334444";
    role(&standin, account, "ours", &["ec2:DescribeRegions"]).await;
    let mut command = program(&standin.endpoint(), None);
    command.args(["scan", "--format", "jsonl", "--region", "eu-west-1"]);
    command.args([&format!("lookup://{account}"), "--role-name", "audit", "--external-id", "ours"]);
    let ran = run(command).await;
    assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{}", ran.err);
    assert!(ran.err.contains("lookup://222233334444/eu-west-1"), "{}", ran.err);
    assert!(ran.err.contains("AccessDenied"), "{}", ran.err);
}
