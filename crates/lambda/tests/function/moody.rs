//! An SNS that is throttled, fails, hangs up, and then takes what it is sent.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};

use crate::{Stage, batch, event, failed};

/// What it answers before it takes anything.
const MOODS: usize = 4;

#[derive(Clone)]
struct Moody {
    asked: Arc<AtomicUsize>,
    endpoint: String,
    /// The last request.
    last: Arc<Mutex<String>>,
}

async fn answer(State(moody): State<Moody>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    *moody.last.lock().expect("no panic") = String::from_utf8_lossy(&body).into_owned();
    let refuse = |status: u16, code: &str| {
        let text = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message>\
             </Error><RequestId>r</RequestId></ErrorResponse>"
        );
        Response::builder().status(status).body(Body::from(text)).expect("an answer")
    };
    match moody.asked.fetch_add(1, Ordering::SeqCst) {
        0 => refuse(400, "Throttling"),
        1 => refuse(503, "ServiceUnavailable"),
        2 => refuse(500, "InternalFailure"),
        3 => {
            // An answer that breaks off: nobody knows whether it was taken. It was not.
            let broken = futures_util::stream::iter([
                Ok(Bytes::from_static(b"<PublishRes")),
                Err(std::io::Error::other("gone")),
            ]);
            Response::new(Body::from_stream(broken))
        }
        _ => {
            let mut request = reqwest::Client::new().post(&moody.endpoint).body(body);
            for name in ["authorization", "content-type", "x-amz-date", "x-amz-security-token"] {
                if let Some(value) = headers.get(name) {
                    request = request.header(name, value);
                }
            }
            let answer = request.send().await.expect("the stand-in");
            let status = StatusCode::from_u16(answer.status().as_u16()).expect("a status");
            let text = answer.bytes().await.expect("a body");
            Response::builder().status(status).body(Body::from(text)).expect("an answer")
        }
    }
}

/// The sample logs a failed publish and returns success: the alert is gone.
#[tokio::test(flavor = "multi_thread")]
async fn an_sns_that_is_throttled_and_fails_loses_nothing() {
    // Whoever was first has made the choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut stage = Stage::new().await;
    let endpoint = format!("{}/", stage.standin.endpoint());
    let moody = Moody { asked: Arc::default(), endpoint, last: Arc::default() };
    let (asked, last) = (Arc::clone(&moody.asked), Arc::clone(&moody.last));
    let router = Router::new().fallback(answer).with_state(moody);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    stage.set("AWS_ENDPOINT_URL_SNS", &format!("http://{address}"));
    let mut instance = stage.instance().await;
    let body = event("e-1", "222233334444", "CreateUser", "203.0.113.77").to_string();
    let answer = instance.invoke(batch(&[body])).await.expect("an answer");
    assert!(failed(&answer).is_empty(), "it is saved, so the queue may forget it");
    // What was not sent within the call is sent by a tick.
    let mut heard = stage.heard().await;
    let begin = std::time::Instant::now();
    while heard.is_empty() {
        assert!(begin.elapsed().as_secs() < 90, "nothing is heard");
        instance.invoke(serde_json::json!({ "rootwatch": "tick" })).await.expect("a tick");
        heard.extend(stage.heard().await);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(asked.load(Ordering::SeqCst), MOODS + 1);

    // The sample mails the record as JSON within JSON. What people read here is words.
    let form = last.lock().expect("no panic").clone();
    let form = reqwest::Url::parse(&format!("http://localhost/?{form}")).expect("a form");
    let message = form.query_pairs().find(|(name, _)| name == "Message").expect("a message").1;
    let message: serde_json::Value = serde_json::from_str(&message).expect("JSON");
    for protocol in ["email", "sms"] {
        let text = message[protocol].as_str().expect("words");
        assert!(text.contains("222233334444") && text.contains("203.0.113.77"), "{text}");
        assert!(!text.contains('{') && !text.contains("userIdentity"), "{text}");
    }
}
