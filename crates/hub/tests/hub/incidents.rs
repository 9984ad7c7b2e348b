//! Records in, incidents out: the same as a scan's, however they arrive.

use reqwest::Method;
use serde_json::json;

use rootwatch_hub::config::WindowConfig;

use crate::stage::{READ, Stage, TOKEN, answer, config, event, expected, gzip, story};

/// Numbers that look random, the same each time.
fn shuffle<T>(list: &mut [T]) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for place in (1..list.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        list.swap(place, (state % (place as u64 + 1)) as usize);
    }
}

#[tokio::test]
async fn the_story_at_once_is_what_a_scan_finds() {
    let stage = Stage::new().await;
    let records = story();
    let taken = stage.take(format!("{{\"Records\":[{}]}}", records.join(","))).await;
    assert_eq!(taken["records"].as_array().map(Vec::len), Some(records.len()));
    assert_eq!(taken["known"], 1, "one record of the story is delivered twice");
    assert_eq!(stage.incidents().await, expected(&records));
    stage.running.shutdown().await;
}

#[tokio::test]
async fn the_story_one_by_one_shuffled_and_doubled_is_the_same_as_json_lines_and_gzip() {
    let stage = Stage::new().await;
    let records = story();
    let mut doubled: Vec<&String> = records.iter().chain(&records).collect();
    shuffle(&mut doubled);
    for (number, some) in doubled.chunks(7).enumerate() {
        let some: Vec<&str> = some.iter().map(|record| record.as_str()).collect();
        let body = match number % 3 {
            0 => some.join("\n").into_bytes(),
            1 => format!("[{}]", some.join(",")).into_bytes(),
            _ => gzip(format!("{{\"Records\":[{}]}}", some.join(",")).as_bytes()),
        };
        stage.take(body).await;
    }
    assert_eq!(stage.incidents().await, expected(&records));
    // Of an incident that turned out to be part of another, nobody is left waiting for the end.
    stage.told().await;
    let listed = stage.all("/v1/incidents").await;
    let mut open_at_last = std::collections::BTreeMap::new();
    for delivery in stage.all("/v1/deliveries").await.into_iter().rev() {
        let id = delivery["incident_id"].as_str().expect("an incident").to_owned();
        open_at_last.insert(id, delivery["kind"] != "closed");
    }
    let is_gone = |id: &String| !listed.iter().any(|one| one["id"] == id.as_str());
    assert!(open_at_last.keys().any(is_gone), "in this order some incidents join others");
    for (id, is_open) in open_at_last.iter().filter(|(id, _)| is_gone(id)) {
        assert!(!is_open, "{id} is no more, and nobody was told");
    }

    // All of it again: nothing changes.
    let before = stage.all("/v1/incidents").await;
    let taken = stage.take(records.join("\n")).await;
    assert_eq!(taken["saved"], 0, "{}", taken["saved"]);
    assert_eq!(stage.all("/v1/incidents").await, before);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing() {
    let mut stage = Stage::new().await;
    let mut records = story();
    shuffle(&mut records);
    for part in records.chunks(records.len() / 4) {
        stage.take(part.join("\n")).await;
        stage = stage.again(crate::stage::config()).await;
    }
    assert_eq!(stage.incidents().await, expected(&records));
    stage.running.shutdown().await;
}

#[tokio::test]
async fn each_record_is_answered_in_its_order() {
    let stage = Stage::new().await;
    let first = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    let body = format!("{first}\n{{\"eventName\":\n{{\"a\":1}}\n{first}\n");
    let taken = stage.take(body).await;
    let outcomes: Vec<&str> = taken["records"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|record| record["outcome"].as_str())
        .collect();
    assert_eq!(outcomes.first(), Some(&"saved"));
    assert_eq!(outcomes.last(), Some(&"known"));
    assert!(outcomes.contains(&"skipped"), "{taken}");
    assert!(taken["records"][0]["incident"].is_string());
    stage.running.shutdown().await;
}

#[tokio::test]
async fn people_are_told_once_of_each_incident_that_matters_and_again_when_it_ends() {
    let stage = Stage::new().await;
    let records = story();
    for part in records.chunks(50) {
        stage.take(part.join("\n")).await;
    }
    stage.told().await;
    let deliveries = stage.all("/v1/deliveries").await;
    let listed = stage.all("/v1/incidents").await;
    for incident in listed.iter().filter(|one| one["severity"] != "informational") {
        let opened = deliveries
            .iter()
            .filter(|one| one["incident_id"] == incident["id"] && one["kind"] == "opened");
        assert_eq!(opened.count(), 1, "{incident}");
    }
    assert!(deliveries.len() < 3 * listed.len(), "{} alerts", deliveries.len());

    // An hour of silence, and everything is over and told to be.
    stage.clock.advance(jiff::SignedDuration::from_mins(70));
    stage
        .until("all is quiet", async || stage.all("/v1/incidents?state=open").await.is_empty())
        .await;
    stage.told().await;
    let closed = stage.all("/v1/deliveries").await;
    let closed = closed.iter().filter(|one| one["kind"] == "closed").count();
    assert!(closed > 0);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn an_incident_is_acknowledged_and_resolved_by_name_and_its_end_is_told() {
    let stage = Stage::new().await;
    let first = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    let taken = stage.take(first).await;
    let id = taken["records"][0]["incident"].as_str().expect("an incident").to_owned();
    let act = |what: &str, body: serde_json::Value| {
        let path = format!("/v1/incidents/{id}/{what}");
        answer(stage.request(Method::POST, &path).bearer_auth(TOKEN).body(body.to_string()))
    };
    let (status, shown) = act("acknowledge", json!({ "note": "it was me" })).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["state"], "acknowledged");
    assert_eq!(shown["handled"]["by"], "all");
    assert_eq!(shown["handled"]["note"], "it was me");

    // It grows, and stays acknowledged.
    stage.take(event("e-2", "222233334444", "2026-05-04T14:04:00Z", "CreateUser")).await;
    assert_eq!(stage.get(&format!("/v1/incidents/{id}")).await["state"], "acknowledged");

    let (status, shown) = act("resolve", json!({})).await;
    assert_eq!((status.as_u16(), &shown["state"]), (200, &json!("resolved")));
    let (status, refused) = act("acknowledge", json!({})).await;
    assert_eq!(status, 409, "{refused}");
    stage.told().await;
    let kinds = |deliveries: Vec<serde_json::Value>| -> Vec<String> {
        deliveries.iter().filter_map(|one| one["kind"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(kinds(stage.all("/v1/deliveries").await), ["closed", "opened"]);

    // More comes: it is open again, and that is told.
    stage.take(event("e-3", "222233334444", "2026-05-04T14:05:00Z", "CreateUser")).await;
    assert_eq!(stage.get(&format!("/v1/incidents/{id}")).await["state"], "open");
    assert_eq!(kinds(stage.all("/v1/deliveries").await)[0], "continued");

    let (status, _) = act("resolve", json!({ "not": "e" })).await;
    assert_eq!(status, 400);
    let none = stage.request(Method::POST, "/v1/incidents/AAA-AAA/resolve").bearer_auth(TOKEN);
    assert_eq!(answer(none).await.0, 404);
    let reader = stage.request(Method::POST, &format!("/v1/incidents/{id}/resolve"));
    assert_eq!(answer(reader.bearer_auth(READ)).await.0, 403);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn what_comes_days_late_joins_its_incident_although_memory_let_go_of_it() {
    let mut config = crate::stage::config();
    config.hub.memory_days = 1;
    let stage = Stage::with(config.clone(), "2026-05-04T16:10:00Z").await;
    stage.take(event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser")).await;
    stage.clock.advance(jiff::SignedDuration::from_hours(24 * 30));
    stage
        .until("it is quiet", async || stage.all("/v1/incidents?state=quiet").await.len() == 1)
        .await;
    let stage = stage.again(config).await;
    let late = event("e-2", "222233334444", "2026-05-04T14:04:00Z", "CreateUser");
    let taken = stage.take(late.clone()).await;
    assert_eq!(taken["saved"], 1);
    assert_eq!(stage.incidents().await.len(), 1, "one session is one incident");
    assert_eq!(stage.take(late).await["known"], 1);
    stage.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_one_session_is_one_incident_and_a_handful_of_alerts() {
    let stage = Stage::new().await;
    let mut sent = 0;
    for _ in 0..20 {
        let some: Vec<String> = (0..400)
            .map(|number| {
                let number = sent + number;
                let time = at_second(number / 4);
                event(&format!("e-{number}"), "222233334444", &time, "DescribeInstances")
            })
            .collect();
        sent += some.len();
        let taken = stage.take(format!("[{}]", some.join(","))).await;
        assert_eq!(taken["saved"], 400);
    }
    let incidents = stage.all("/v1/incidents").await;
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["findings_total"], sent);
    stage.told().await;
    assert!(stage.all("/v1/deliveries").await.len() <= 5);
    stage.running.shutdown().await;
}

fn at_second(second: usize) -> String {
    let at = crate::stage::at("2026-05-04T14:00:00Z");
    (at + jiff::SignedDuration::from_secs(second as i64)).to_string()
}

#[tokio::test]
async fn two_incidents_of_one_short_name_stay_two() {
    // What opens these two has the same hash: V3C-DTZ.
    let first = event("e-381689", "222233334444", "2026-03-04T14:03:00Z", "CreateUser")
        .replace("2026-05-04T14:00:00Z", "2026-03-04T14:00:00Z")
        .replace("ASIAEXAMPLEEXAMPLE00", "ASIAEXAMPLEEXAMPLE01");
    let second = event("e-255", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    let stage = Stage::with(crate::stage::config(), "2026-03-04T16:00:00Z").await;
    let taken = stage.take(first).await;
    assert_eq!(taken["records"][0]["incident"], "V3C-DTZ");
    stage.clock.advance(jiff::SignedDuration::from_hours(24 * 62));
    stage
        .until("it is quiet", async || stage.all("/v1/incidents?state=quiet").await.len() == 1)
        .await;
    let stage = stage.again(crate::stage::config()).await;
    let taken = stage.take(second).await;
    assert_eq!(taken["saved"], 1);
    assert_ne!(taken["records"][0]["incident"], "V3C-DTZ");
    assert_eq!(stage.incidents().await.len(), 2);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn broken_telling_is_one_incident_until_it_is_mended() {
    let stage = Stage::new().await;
    let ingest = stage.running.ingest();
    for _ in 0..2 {
        let why = Some("connection refused".to_owned());
        ingest.set_outage("oncall".to_owned(), why).await.expect("a store");
    }
    let open = stage.all("/v1/incidents?kind=telling&state=open").await;
    assert_eq!(open.len(), 1);
    // Silence does not mend it, and a restart does not forget it.
    stage.clock.advance(jiff::SignedDuration::from_hours(48));
    let stage = stage.again(crate::stage::config()).await;
    let ingest = stage.running.ingest();
    ingest.set_outage("oncall".to_owned(), Some("again".to_owned())).await.expect("a store");
    ingest.set_outage("oncall".to_owned(), None).await.expect("a store");
    assert_eq!(stage.all("/v1/incidents?kind=telling&state=quiet").await.len(), 1);
    assert_eq!(stage.all("/v1/incidents").await.len(), 1);
    assert!(stage.all("/v1/deliveries").await.is_empty(), "its alert is the notifier's");
    stage.running.shutdown().await;
}

#[tokio::test]
async fn approved_use_says_so_and_what_goes_beyond_it_is_told() {
    let mut config = config();
    config.window.push(WindowConfig {
        name: "CHG-1042".to_owned(),
        accounts: vec!["222233334444".to_owned()],
        from: "2026-05-04T14:00:00Z".to_owned(),
        until: "2026-05-04T15:00:00Z".to_owned(),
        by: "anna".to_owned(),
        reason: "unlock a bucket".to_owned(),
        addresses: Vec::new(),
        calls: vec!["DeleteBucketPolicy".to_owned()],
    });
    let stage = Stage::with(config, "2026-05-04T14:10:00Z").await;
    let call = |id: &str, name: &str| event(id, "222233334444", "2026-05-04T14:05:00Z", name);
    stage.take(call("one", "DeleteBucketPolicy")).await;
    stage.take(call("two", "ListUsers")).await;
    // NotifiedState once: what is outside it stays outside.
    stage.take(call("three", "ListRoles")).await;
    stage.until("two alerts", async || stage.told().await.len() >= 2).await;
    let told: Vec<serde_json::Value> =
        stage.told().await.iter().map(|line| line["alert"].clone()).collect();
    let titles: Vec<&str> = told.iter().filter_map(|one| one["title"].as_str()).collect();
    let kinds: Vec<&str> = told.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["opened", "outside_window"], "{titles:?}");
    assert!(titles[0].contains("Approved (CHG-1042)"), "{titles:?}");
    assert!(titles[1].contains("Outside window CHG-1042"), "{titles:?}");
    assert_eq!(told[0]["approval"]["is"], "inside");
    assert_eq!(told[1]["approval"]["is"], "partly");
    assert_eq!(told[1]["approval"]["outside"], 1);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_ticket_hears_who_looks_after_it_and_what_is_new_stays_new() {
    let mut config = config();
    let bot = json!({ "channel": "slack", "token": "xoxb-example", "conversation": "C0EXAMPLE00",
        "api_url": "http://127.0.0.1:9/", "allow_private": true });
    let bot = serde_json::from_value(bot).expect("a destination");
    config.notify.destination.insert("bot".to_owned(), bot);
    let stage = Stage::with(config, "2026-05-04T14:10:00Z").await;
    let call = |id: &str, name: &str| event(id, "222233334444", "2026-05-04T14:05:00Z", name);
    stage.take(call("one", "ListUsers")).await;
    let id = stage.all("/v1/incidents").await[0]["id"].as_str().expect("an id").to_owned();
    // NotifiedState to nobody: it makes nothing worse. It is new when the next alert comes.
    stage.take(call("two", "ListRoles")).await;
    let acknowledge = || stage.request(Method::POST, &format!("/v1/incidents/{id}/acknowledge"));
    for _ in 0..2 {
        assert_eq!(answer(acknowledge().bearer_auth(TOKEN)).await.0, 200);
    }
    let kinds = async |to: &str| -> Vec<String> {
        let listed = stage.all("/v1/deliveries").await;
        let of = listed.iter().filter(|one| one["destination"] == to);
        let mut kinds: Vec<String> =
            of.filter_map(|one| one["kind"].as_str().map(str::to_owned)).collect();
        kinds.sort();
        kinds
    };
    assert_eq!(kinds("bot").await, ["acknowledged", "opened"], "once, not at every repeat");
    assert_eq!(kinds("log").await, ["opened"]);
    stage.take(call("three", "CreateAccessKey")).await;
    stage.until("it rose", async || kinds("log").await.len() == 2).await;
    stage
        .until("it is told", async || {
            let log = stage.log.lock().expect("the log").clone();
            String::from_utf8_lossy(&log).lines().count() == 2
        })
        .await;
    let log = String::from_utf8(stage.log.lock().expect("the log").clone()).expect("text");
    let rose: serde_json::Value =
        serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
    assert_eq!(rose["alert"]["kind"], "escalated");
    assert_eq!(
        rose["alert"]["fresh"].as_array().map(Vec::len),
        Some(2),
        "{}",
        rose["alert"]["fresh"]
    );
    stage.running.shutdown().await;
}
