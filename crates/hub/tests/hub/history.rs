//! A look into the past: what it brings is kept and shown, and wakes nobody.

use bytes::Bytes;
use jiff::SignedDuration;
use reqwest::Method;
use rootwatch_engine::RecordSource;

use crate::stage::{Stage, TOKEN, answer, config, event, expected, story};

/// A scan of old log files.
fn scan() -> RecordSource {
    RecordSource::live("lambda").as_history()
}

/// A year after the story.
const LATER: &str = "2027-05-04T16:10:00Z";

#[tokio::test]
async fn a_break_in_of_last_year_is_found_and_nobody_is_woken() {
    let mut daily = config();
    daily.notify.digest.at = "08:00".to_owned();
    let stage = Stage::with(daily, LATER).await;
    let records = story();
    let body = Bytes::from(records.join("\n"));
    stage.running.ingest().take(&scan(), body).await.expect("saved");
    assert_eq!(stage.incidents().await, expected(&records));
    // They end in silence, a digest falls due, a person resolves one: still nobody is told.
    stage.clock.advance(SignedDuration::from_hours(30));
    let is_over = async || stage.all("/v1/incidents?state=open").await.is_empty();
    stage.until("they are over", is_over).await;
    let incidents = stage.all("/v1/incidents").await;
    assert!(incidents.len() >= 3, "{incidents:?}");
    for incident in &incidents {
        assert_eq!((&incident["history"], &incident["alerts"]), (&true.into(), &0.into()));
    }
    let id = incidents[0]["id"].as_str().expect("an id");
    let resolve = stage.request(Method::POST, &format!("/v1/incidents/{id}/resolve"));
    let (status, resolved) = answer(resolve.bearer_auth(TOKEN).json(&serde_json::json!({}))).await;
    assert_eq!(status, 200, "{resolved}");
    stage.clock.advance(SignedDuration::from_hours(30));
    let digest = async || stage.running.store().note("digest").await.is_ok_and(|at| at.is_some());
    stage.until("a digest was due", digest).await;
    assert_eq!(stage.told().await, Vec::<serde_json::Value>::new());
    stage.running.shutdown().await;
}

#[tokio::test]
async fn what_goes_on_now_is_told_although_it_began_in_the_past() {
    let stage = Stage::with(config(), "2026-05-04T14:10:00Z").await;
    let old = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    stage.running.ingest().take(&scan(), Bytes::from(old.clone())).await.expect("saved");
    assert_eq!(stage.all("/v1/incidents").await[0]["history"], true);
    // The same record as it happens is known already, and changes nothing.
    stage.take(old).await;
    assert!(stage.told().await.is_empty());
    stage.take(event("e-2", "222233334444", "2026-05-04T14:04:00Z", "CreateAccessKey")).await;
    let told = stage.told().await;
    assert_eq!(told.len(), 1, "{told:?}");
    let incidents = stage.all("/v1/incidents").await;
    assert_eq!(incidents.len(), 1);
    assert_eq!(
        (&incidents[0]["history"], &incidents[0]["findings_total"]),
        (&false.into(), &2.into())
    );
    // And what a scan adds to it later is nothing to be woken for, but no history either.
    let more = event("e-3", "222233334444", "2026-05-04T14:03:30Z", "CreateUser");
    stage.running.ingest().take(&scan(), Bytes::from(more)).await.expect("saved");
    assert_eq!(stage.all("/v1/incidents").await[0]["history"], false);
    assert_eq!(stage.told().await.len(), 1);
    stage.running.shutdown().await;
}

/// A record that comes later may make others mean something else: an `AssumeRoot` call, for those of
/// the session that it gave out.
#[tokio::test]
async fn what_old_records_make_of_one_another_stays_history_in_any_order() {
    let stage = Stage::with(config(), LATER).await;
    let records = story();
    for record in records.iter().rev() {
        let body = Bytes::from(record.clone());
        stage.running.ingest().take(&scan(), body).await.expect("saved");
    }
    assert_eq!(stage.incidents().await, expected(&records));
    for incident in stage.all("/v1/incidents").await {
        assert_eq!(incident["history"], true, "{incident}");
    }
    assert_eq!(stage.told().await, Vec::<serde_json::Value>::new());
    stage.running.shutdown().await;
}
