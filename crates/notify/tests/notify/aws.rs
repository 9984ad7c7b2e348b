//! What all channels of AWS have in common: how answers are judged, what is signed, and that no
//! secret is told.

use jiff::SignedDuration;
use rootwatch_core::alert::{Alert, Clock as _};
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::Sent;
use serde_json::{Value, json};

use crate::common::{
    Answer, Manual, Memory, Server, config, notifier_on_aws, notifier_on_standin, opened, status,
};
use crate::standin;

pub(crate) const NOW: &str = "2026-05-04T14:03:40Z";

/// What a destination with these keys makes of a scripted AWS.
pub(crate) async fn sent(keys: &Value, server: &Server, alert: Alert, memory: &Memory) -> Sent {
    let clock = Manual::new(NOW);
    let mut keys = keys.clone();
    keys["endpoint_url"] = json!(server.url);
    if keys.get("timeout_secs").is_none() {
        keys["timeout_secs"] = json!(5);
    }
    let config = config(&json!({ "destination": { "a": keys } }).to_string());
    let delivery = Delivery::new(alert, "a", clock.now());
    notifier_on_aws(&config, &clock).send(&delivery, memory).await
}

/// What a destination with these keys makes of the stand-in.
pub(crate) async fn sent_to_standin(keys: &Value, alert: Alert) -> Sent {
    let (notifier, clock) = on_standin(keys).await;
    notifier.send(&Delivery::new(alert, "a", clock.now()), &Memory::default()).await
}

pub(crate) async fn probe_of_standin(keys: &Value) -> Sent {
    on_standin(keys).await.0.probe("a").await.expect("a destination")
}

async fn on_standin(
    keys: &Value,
) -> (std::sync::Arc<rootwatch_notify::Notifier>, std::sync::Arc<Manual>) {
    let clock = Manual::new(NOW);
    let mut keys = keys.clone();
    keys["endpoint_url"] = json!(standin::shared().await.endpoint());
    let config = config(&json!({ "destination": { "a": keys } }).to_string());
    (notifier_on_standin(&config, &clock), clock)
}

pub(crate) async fn probe(keys: &Value, server: &Server) -> Sent {
    let clock = Manual::new(NOW);
    let mut keys = keys.clone();
    keys["endpoint_url"] = json!(server.url);
    let config = config(&json!({ "destination": { "a": keys } }).to_string());
    notifier_on_aws(&config, &clock).probe("a").await.expect("a destination")
}

pub(crate) fn ok(body: &str) -> Answer {
    Answer::Status(200, "", body.to_owned())
}

/// An error as the JSON protocols write it.
pub(crate) fn json_error(code: u16, name: &str) -> Answer {
    let body = json!({ "__type": format!("com.amazonaws#{name}"), "message": "said AWS" });
    Answer::Status(code, "", body.to_string())
}

/// An error as the query protocol writes it.
pub(crate) fn xml_error(code: u16, name: &str) -> Answer {
    let body = format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
         <Code>{name}</Code><Message>said AWS</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    );
    Answer::Status(code, "", body)
}

fn quiet(sent: &Sent) {
    let told = format!("{sent:?}");
    for secret in ["hush-key", "hush-token", "/hook/hush"] {
        assert!(!told.contains(secret), "{told}");
    }
}

/// The answers that mean the same for each of these channels.
pub(crate) async fn judges_answers(keys: &Value, alert: &Alert, good: &str) {
    let send = async |answer: Answer| {
        let server = Server::new(&[answer]).await;
        let mut keys = keys.clone();
        keys["timeout_secs"] = json!(1);
        let result = sent(&keys, &server, alert.clone(), &Memory::default()).await;
        quiet(&result);
        (result, server)
    };
    for code in [400, 401, 403, 404, 410, 413, 408, 425, 429, 500, 503] {
        let (result, server) = send(status(code)).await;
        let is_right = match code {
            408 | 425 | 429 | 500 | 503 => matches!(result, Sent::RetryAfter { after: None, .. }),
            401 | 403 => matches!(result, Sent::Misconfigured { .. }),
            _ => matches!(result, Sent::Rejected { .. } | Sent::Misconfigured { .. }),
        };
        assert!(is_right, "{code}: {result:?}");
        assert_eq!(server.count(), 1, "{code}");
    }
    for answer in [Answer::Hang, Answer::Half, Answer::Close] {
        let (result, _) = send(answer.clone()).await;
        assert!(matches!(result, Sent::RetryAfter { .. }), "{answer:?}: {result:?}");
    }
    let (result, _) = send(Answer::Status(503, "retry-after: 17\r\n", String::new())).await;
    let Sent::RetryAfter { after, .. } = result else { panic!("{result:?}") };
    assert_eq!(after, Some(SignedDuration::from_secs(17)));
    for error in [json_error, xml_error] {
        for name in ["Throttling", "ThrottlingException", "RequestLimitExceeded"] {
            let (result, _) = send(error(400, name)).await;
            assert!(matches!(result, Sent::RetryAfter { .. }), "{name}: {result:?}");
        }
        for name in ["AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch"] {
            let (result, _) = send(error(400, name)).await;
            assert!(matches!(result, Sent::Misconfigured { .. }), "{name}: {result:?}");
            assert!(format!("{result:?}").contains(name), "{result:?}");
        }
        // Asked once more with new credentials, and then left for later.
        let (result, server) = send(error(400, "ExpiredTokenException")).await;
        assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
        assert_eq!(server.count(), 2);
    }
    let (result, server) = send(ok(good)).await;
    assert!(matches!(result, Sent::Delivered { .. }), "{result:?}");
    // An answer of somebody else: nothing was taken.
    let (result, _) = send(ok("<html>welcome</html>")).await;
    assert!(matches!(result, Sent::RetryAfter { .. }), "{result:?}");
    let request = server.request(0);
    let signature = request.header("authorization").expect("a signature");
    assert!(
        signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"),
        "{signature}"
    );
    assert!(signature.contains("x-amz-date;x-amz-security-token"), "{signature}");
    assert_eq!(request.header("x-amz-security-token"), Some("hush-token"));
}

#[tokio::test]
async fn a_session_that_ended_is_begun_again_at_once() {
    let good = "<PublishResponse><PublishResult><MessageId>m-1</MessageId></PublishResult></PublishResponse>";
    let server = Server::new(&[xml_error(403, "ExpiredToken"), ok(good)]).await;
    let keys = json!({ "channel": "sns", "topic": "arn:aws:sns:us-east-1:111122223333:a" });
    let result = sent(&keys, &server, opened(), &Memory::default()).await;
    assert_eq!(result, Sent::Delivered { receipt: "m-1".to_owned() });
    assert_eq!(server.count(), 2);
}
