//! Full disks, clocks that jump, digests, and how the hub says that it stands.

use jiff::SignedDuration;
use reqwest::Method;
use rootwatch_hub::metrics::{METRICS, Metric};

use crate::stage::{AFTER_STORY, INGEST, Stage, TOKEN, answer, config, event, open};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test]
async fn a_full_disk_refuses_and_says_so_and_nothing_is_lost_once_it_is_mended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path(), Some(120));
    let stage = Stage::over(folder, store, config(), AFTER_STORY).await;
    let mut saved: Vec<String> = Vec::new();
    let mut refused = None;
    for part in 0..400 {
        let some: Vec<String> = (0..20)
            .map(|number| {
                let id = format!("e-{part}-{number}");
                event(&id, "222233334444", "2026-05-04T14:03:00Z", &format!("Create{part}{number}"))
            })
            .collect();
        let post = stage.request(Method::POST, "/v1/events").bearer_auth(INGEST);
        let answered = post.body(format!("[{}]", some.join(","))).send().await.expect("an answer");
        if answered.status() == 200 {
            saved.extend((0..20).map(|number| format!("e-{part}-{number}")));
            continue;
        }
        assert_eq!(answered.status(), 503);
        assert!(answered.headers().contains_key("retry-after"));
        refused = Some(format!("[{}]", some.join(",")));
        break;
    }
    let refused = refused.expect("120 pages are full at some time");
    assert!(!saved.is_empty());
    let (status, ready) = answer(stage.request(Method::GET, "/readyz")).await;
    assert_eq!(status, 503, "{ready}");
    assert_eq!(ready["ready"], false);
    // It stays so while nobody sends anything.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(answer(stage.request(Method::GET, "/readyz")).await.0, 503);

    // The disk is mended: the sender comes again.
    let stage = stage.again(config()).await;
    let (status, ready) = answer(stage.request(Method::GET, "/readyz")).await;
    assert_eq!(status, 200, "{ready}");
    let taken = stage.take(refused).await;
    assert_eq!(taken["saved"], 20, "nothing of a request that was refused had been kept");
    let findings = stage.all("/v1/findings").await;
    assert_eq!(findings.len(), saved.len() + 20);
    for id in &saved {
        assert!(findings.iter().any(|one| one["event_id"] == id.as_str()), "{id} is lost");
    }
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_stops_nothing() {
    let mut short = config();
    short.store.retention_days = 1;
    let stage = Stage::with(short, AFTER_STORY).await;
    stage.take(event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser")).await;
    stage.told().await;
    // Ten days forward: over, and told; not pruned, since no ten days have passed.
    stage.clock.advance(HOUR * 240);
    stage
        .until("it is quiet", async || stage.all("/v1/incidents?state=quiet").await.len() == 1)
        .await;
    // And back again, a day before the beginning.
    stage.clock.advance(-HOUR * 264);
    let again = event("e-2", "222233334444", "2026-05-04T14:04:00Z", "CreateUser");
    assert_eq!(stage.take(again).await["saved"], 1);
    let incidents = stage.all("/v1/incidents").await;
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["findings_total"], 2);
    assert_eq!(incidents[0]["state"], "open");
    stage.clock.advance(HOUR * 48);
    stage
        .until("it is quiet", async || stage.all("/v1/incidents?state=quiet").await.len() == 1)
        .await;
    stage.told().await;
    let deliveries = stage.all("/v1/deliveries").await;
    let kinds: Vec<&str> = deliveries.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["closed", "continued", "closed", "opened"]);
    stage.running.shutdown().await;
}

/// A call that the root user's own services make: informational.
fn quiet_event(id: &str) -> String {
    let text = event(id, "222233334444", "2026-05-04T14:03:00Z", "DescribeInstances");
    text.replace(
        "\"type\":\"Root\"",
        "\"invokedBy\":\"autoscaling.amazonaws.com\",\"type\":\"Root\"",
    )
}

#[tokio::test]
async fn informational_incidents_are_listed_by_one_digest() {
    let stage = Stage::new().await;
    stage
        .until("the hub has begun", async || {
            let note = stage.running.store().note("digest").await;
            note.is_ok_and(|note| note.is_some())
        })
        .await;
    let taken = stage.take(quiet_event("e-1")).await;
    assert_eq!(taken["saved"], 1, "{taken}");
    assert_eq!(stage.all("/v1/incidents").await[0]["severity"], "informational");
    assert_eq!(stage.told().await.len(), 0);
    stage.clock.advance(HOUR * 17);
    let digests = async || {
        let deliveries = stage.all("/v1/deliveries").await;
        deliveries.into_iter().filter(|one| one["kind"] == "digest").collect::<Vec<_>>()
    };
    stage.until("a digest is told", async || digests().await.len() == 1).await;
    stage.clock.advance(HOUR * 24);
    stage.take(quiet_event("e-2").replace("14:00:00Z", "15:00:00Z")).await;
    assert!(digests().await.len() <= 2);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn what_is_older_than_the_retention_goes_and_the_hub_goes_on() {
    let stage = Stage::new().await;
    stage.take(event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser")).await;
    stage.told().await;
    stage.clock.advance(HOUR * 72);
    stage
        .until("it is quiet", async || stage.all("/v1/incidents?state=quiet").await.len() == 1)
        .await;
    stage.told().await;
    stage.clock.advance(HOUR * 72);
    // A hub that starts trusts its clock, and prunes.
    let mut short = config();
    short.store.retention_days = 1;
    let stage = stage.again(short).await;
    stage.until("it is pruned", async || stage.all("/v1/incidents").await.is_empty()).await;
    let again = event("e-2", "222233334444", "2026-05-04T14:04:00Z", "CreateUser");
    assert_eq!(stage.take(again).await["saved"], 1);
    assert_eq!(stage.all("/v1/incidents").await.len(), 1);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn health_and_numbers_are_there_for_machines() {
    let stage = Stage::new().await;
    assert_eq!(answer(stage.request(Method::GET, "/livez")).await.0, 200);
    let (status, ready) = answer(stage.request(Method::GET, "/readyz")).await;
    assert_eq!(status, 200, "{ready}");
    let parts: Vec<&str> = ready["parts"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|part| part["part"].as_str())
        .collect();
    assert_eq!(parts, ["engine", "store", "notify"]);
    stage.take(event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser")).await;
    stage.told().await;
    for name in [
        "rootwatch_records_received_total",
        "rootwatch_records_saved_total",
        "rootwatch_incidents_open",
        "rootwatch_deliveries{",
        "rootwatch_commit_seconds_count",
        "rootwatch_commit_findings_count",
        "rootwatch_latency_seconds_count{step=\"event_to_received\"}",
        "rootwatch_latency_seconds_count{step=\"received_to_saved\"}",
        "rootwatch_latency_seconds_count{step=\"saved_to_delivered\"}",
    ] {
        assert!(stage.metric(name).await >= 1.0, "{name}");
    }
    // What a proxy passes on is not from this machine.
    let passed_on = stage.request(Method::GET, "/metrics").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(answer(passed_on).await.0, 401);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn every_metric_and_label_that_is_served_is_in_the_reference() {
    let stage = Stage::new().await;
    let record = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    stage.take(record).await;
    let refused = stage.request(Method::POST, "/v1/events").send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
    let text = stage.request(Method::GET, "/metrics").send().await.expect("an answer");
    let text = text.text().await.expect("text");
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a name"));
        let is_one = |metric: &&Metric| {
            let suffix = name.strip_prefix(metric.name);
            suffix.is_some_and(|end| matches!(end, "" | "_bucket" | "_sum" | "_count"))
        };
        let metric = METRICS.iter().find(is_one);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the reference"));
        let labels = rest.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        for label in labels.map(|(labels, _)| labels).unwrap_or_default().split("\",") {
            let label = label.split('=').next().unwrap_or_default();
            let is_known = label.is_empty() || label == "le" || metric.labels.contains(&label);
            assert!(is_known, "{name} has the label {label}");
        }
        count += 1;
    }
    assert!(count > 10, "{text}");
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_test_alert_goes_the_way_of_real_ones() {
    let stage = Stage::new().await;
    let ask = |body: &'static str| {
        let request = stage.request(Method::POST, "/v1/notify/test").bearer_auth(TOKEN);
        answer(request.body(body))
    };
    let (status, owed) = ask("").await;
    assert_eq!(status, 202, "{owed}");
    let told = stage.told().await;
    assert_eq!(told.len(), 1);
    let deliveries = stage.all("/v1/deliveries").await;
    assert_eq!(owed["deliveries"][0], deliveries[0]["id"]);
    assert_eq!(deliveries[0]["state"], "delivered");
    assert_eq!(ask("{\"destination\":\"nobody\"}").await.0, 404);
    assert_eq!(ask("{\"destination\":").await.0, 400);
    stage.running.shutdown().await;
}
