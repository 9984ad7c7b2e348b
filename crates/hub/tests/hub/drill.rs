//! A drill at the HTTP door, as an API destination of EventBridge brings it.

use jiff::SignedDuration;
use reqwest::Method;
use rootwatch_core::forwarding::{DRILL, DRILL_SOURCE};
use serde_json::{Value, json};

use crate::stage::{INGEST, READ, Stage, answer, gzip};
use crate::standin;

fn drill(account: &str) -> Value {
    json!({
        "version": "0", "id": "d-1", "source": DRILL_SOURCE, "detail-type": "Rootwatch drill",
        "account": account, "region": "eu-west-1", "time": "2026-05-04T16:10:00Z",
        "resources": [], "detail": { "why": "set-up" },
    })
}

#[tokio::test]
async fn a_drill_is_told_once_a_minute_and_place_and_is_no_record() {
    let stage = Stage::new().await;
    let send = async |token: &str, body: Vec<u8>| {
        let request = stage.request(Method::POST, "/v1/events").header("x-api-key", token);
        answer(request.body(body)).await
    };
    let text = drill("222233334444").to_string();
    let (status, taken) = send(INGEST, text.clone().into_bytes()).await;
    assert_eq!((status.as_u16(), &taken["drills"]), (200, &json!(1)), "{taken}");
    let outcome = json!({ "outcome": "drill", "account": "222233334444", "region": "eu-west-1" });
    assert_eq!(taken["records"], json!([outcome]));
    assert_eq!(send(INGEST, gzip(text.as_bytes())).await.0, 200);
    let told = stage.told().await;
    assert_eq!(told.len(), 1, "once a minute: {told:?}");
    assert_eq!(told[0]["alert"]["kind"], "test", "{told:?}");
    assert!(told[0].to_string().contains("222233334444"), "{told:?}");

    assert_eq!(send(INGEST, drill("333344445555").to_string().into_bytes()).await.0, 200);
    assert_eq!(stage.told().await.len(), 2, "another place");
    stage.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(send(INGEST, text.clone().into_bytes()).await.0, 200);
    assert_eq!(stage.told().await.len(), 3, "another minute");

    // What says no place, may not, or only looks like one.
    let (status, refused) = send(INGEST, drill("two words").to_string().into_bytes()).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused["detail"].to_string().contains("without the account and region"), "{refused}");
    assert_eq!(send(READ, text.clone().into_bytes()).await.0, 403);
    for other in [format!("[{text},{text}]"), text.replace(DRILL_SOURCE, "rootwatch.drills")] {
        let (status, taken) = send(INGEST, other.into_bytes()).await;
        assert_eq!((status.as_u16(), &taken["drills"]), (200, &json!(0)), "{taken}");
        assert_ne!(taken["passed_over"], 0, "{taken}");
    }
    assert_eq!(stage.told().await.len(), 3);
    for list in ["/v1/incidents", "/v1/findings", "/v1/unverified"] {
        assert_eq!(stage.all(list).await, Vec::<Value>::new(), "{list}");
    }
    stage.running.shutdown().await;
}

/// The stand-in's EventBridge writes envelope and key, as AWS's does.
#[tokio::test(flavor = "multi_thread")]
async fn a_drill_comes_through_an_api_destination() {
    let standin = standin::shared().await;
    let stage = Stage::new().await;
    let events = async |operation: &str, ask: Value| standin.call("events", operation, ask).await;
    let key = json!({ "ApiKeyName": "X-Api-Key", "ApiKeyValue": INGEST });
    let connection = json!({
        "Name": "drill", "AuthorizationType": "API_KEY",
        "AuthParameters": { "ApiKeyAuthParameters": key },
    });
    let connection = events("create_connection", connection).await;
    let destination = json!({
        "Name": "drill", "ConnectionArn": connection["ConnectionArn"], "HttpMethod": "POST",
        "InvocationEndpoint": format!("http://{}/v1/events", stage.running.address()),
    });
    let destination = events("create_api_destination", destination).await;
    events("put_rule", json!({ "Name": "drill", "EventPattern": DRILL.pattern })).await;
    let target = json!({
        "Id": "hub", "Arn": destination["ApiDestinationArn"],
        "RoleArn": format!("arn:aws:iam::{}:role/send", standin::ACCOUNT),
    });
    events("put_targets", json!({ "Rule": "drill", "Targets": [target] })).await;
    let entry = json!({
        "Source": DRILL_SOURCE, "DetailType": "Rootwatch drill", "Detail": "{\"why\":\"set-up\"}",
    });
    events("put_events", json!({ "Entries": [entry] })).await;
    let is_owed = async || !stage.all("/v1/deliveries").await.is_empty();
    stage.until("a test alert is owed", is_owed).await;
    let told = stage.told().await;
    assert_eq!((told.len(), &told[0]["alert"]["kind"]), (1, &json!("test")), "{told:?}");
    assert!(told[0].to_string().contains(standin::ACCOUNT), "{told:?}");
    stage.running.shutdown().await;
}
