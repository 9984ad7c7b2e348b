use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::SignedDuration;
use ring::hmac;
use rootwatch_core::alert::Clock as _;
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::{Notifier, Sent};

use crate::common::{Answer, Manual, Memory, Server, config, notifier, opened, plain, status};

const NOW: &str = "2026-05-04T14:03:40Z";

/// Channels of one request a message.
const POSTS: [&str; 4] = ["webhook", "slack", "pagerduty", "teams"];

async fn sent(channel: &str, server: &Server, more: &str) -> Sent {
    let key = match channel {
        "pagerduty" => r#", "routing_key": "EXAMPLE0EXAMPLE0EXAMPLE0EXAMPLE0""#,
        _ => "",
    };
    let text = format!(
        r#"{{ "destination": {{ "a": {{ "channel": "{channel}", "url": "{}", "allow_private": true,
            "timeout_secs": 1{key}{more} }} }} }}"#,
        server.url
    );
    let clock = Manual::new(NOW);
    let delivery = Delivery::new(opened(), "a", clock.now());
    notifier(&config(&text), &clock).send(&delivery, &Memory::default()).await
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    for channel in POSTS {
        for code in [200, 400, 401, 403, 404, 410, 413, 302, 408, 425, 429, 500, 503] {
            let server = Server::new(&[status(code)]).await;
            let result = sent(channel, &server, "").await;
            let is_right = match code {
                200 => matches!(result, Sent::Delivered { .. }),
                408 | 425 | 429 | 500 | 503 => {
                    matches!(result, Sent::RetryAfter { after: None, .. })
                }
                _ => matches!(result, Sent::Rejected { .. }),
            };
            assert!(is_right, "{channel} {code}: {result:?}");
            assert_eq!(server.count(), 1, "{channel} {code}");
            let told = format!("{result:?}");
            assert!(!told.contains("hush"), "the URL is a secret: {told}");
            assert!(!told.contains("EXAMPLE0EXAMPLE0"), "so is the key: {told}");
        }
    }
}

#[tokio::test]
async fn what_brings_no_whole_answer_is_tried_again() {
    for channel in POSTS {
        for answer in [Answer::Hang, Answer::Half, Answer::Close] {
            let server = Server::new(std::slice::from_ref(&answer)).await;
            let result = sent(channel, &server, "").await;
            assert!(matches!(result, Sent::RetryAfter { .. }), "{channel} {answer:?}: {result:?}");
            assert!(!format!("{result:?}").contains("hush"), "{result:?}");
        }
    }
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_and_as_a_date() {
    for (header, secs) in [
        ("retry-after: 17\r\n", Some(17)),
        ("retry-after: Mon, 04 May 2026 14:05:40 GMT\r\n", Some(120)),
        ("retry-after: Mon, 04 May 2020 14:05:40 GMT\r\n", Some(0)),
        ("retry-after: soon\r\n", None),
        ("retry-after: -5\r\n", None),
    ] {
        for channel in POSTS {
            let server = Server::new(&[Answer::Status(429, header, String::new())]).await;
            let result = sent(channel, &server, "").await;
            let Sent::RetryAfter { after, .. } = result else { panic!("{header}: {result:?}") };
            assert_eq!(after, secs.map(SignedDuration::from_secs), "{channel} {header}");
        }
    }
}

#[tokio::test]
async fn slack_is_told_in_short_when_the_message_was_too_long() {
    let long = Answer::Status(400, "", "msg_blocks_too_long".to_owned());
    let server = Server::new(&[long, Answer::Status(200, "", "ok".to_owned())]).await;
    let result = sent("slack", &server, "").await;
    assert_eq!(result, Sent::Delivered { receipt: "ok".to_owned() });
    let body = server.request(1).json();
    assert!(body.get("blocks").is_none());
    assert!(body["text"].as_str().is_some_and(|text| text.contains("prod-payments")));
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound_and_shown_escaped() {
    let body = format!("\u{1b}[31m{}", "x".repeat(1 << 20));
    let server = Server::new(&[Answer::Status(400, "", body)]).await;
    let result = sent("webhook", &server, "").await;
    let error = result.error().unwrap_or_default();
    assert!(error.contains("\\u{1b}[31mxxx") && error.len() < 1000, "{error}");
}

#[tokio::test]
async fn signatures_can_be_recomputed_with_each_of_the_secrets() {
    let server = Server::new(&[status(200)]).await;
    let old = "an old secret of 32 bytes or more";
    let new = [7_u8; 32];
    let more =
        format!(r#", "bearer": "a-token", "secrets": ["{old}", "whsec_{}"]"#, BASE64.encode(new));
    assert!(matches!(sent("webhook", &server, &more).await, Sent::Delivered { .. }));
    let request = server.request(0);
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let signed = [
        header("webhook-id").as_bytes(),
        b".",
        header("webhook-timestamp").as_bytes(),
        b".",
        &request.body,
    ]
    .concat();
    let signatures = header("webhook-signature");
    let signatures: Vec<&str> = signatures.split(' ').collect();
    assert_eq!(signatures.len(), 2);
    for (secret, signature) in [old.as_bytes(), &new].into_iter().zip(signatures) {
        let encoded = signature.strip_prefix("v1,").expect("version 1");
        let bytes = BASE64.decode(encoded).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, &signed, &bytes).expect("the signature fits");
        assert!(hmac::verify(&key, &[&signed[..], b"x"].concat(), &bytes).is_err());
    }
    assert_eq!(header("authorization"), "Bearer a-token");
    assert_eq!(header("webhook-timestamp"), "1777903420");
    let event = request.json();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "rootwatch.alert.opened");
    assert_eq!(event["id"], header("webhook-id"));
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let clock = Manual::new(NOW);
    for host in [
        "127.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "0.0.0.0",
        "100.64.0.1",
        "[fd00::1]",
        "10.1.2.3",
        "192.168.0.1",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "0x7f.1",
        "[2002:7f00:1::]",
        "224.0.0.1",
    ] {
        for channel in ["webhook", "slack"] {
            let text = format!(
                r#"{{ "destination": {{ "a": {{ "channel": "{channel}", "url": "https://{host}/" }} }} }}"#
            );
            let problems = Notifier::check(&config(&text));
            assert!(!problems.is_empty(), "{channel} {host}");
            assert!(Notifier::new(&config(&text), &plain, clock.clone()).is_err());
        }
    }
    for url in ["http://hooks.example.com/", "ftp://hooks.example.com/", "https://a:b@example.com/"]
    {
        let text = format!(
            r#"{{ "destination": {{ "a": {{ "channel": "webhook", "url": "{url}" }} }} }}"#
        );
        assert!(!Notifier::check(&config(&text)).is_empty(), "{url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_when_it_is_called() {
    let clock = Manual::new(NOW);
    let text =
        r#"{ "destination": { "a": { "channel": "webhook", "url": "https://localhost/hush" } } }"#;
    let notifier: Arc<Notifier> = notifier(&config(text), &clock);
    let result =
        notifier.send(&Delivery::new(opened(), "a", clock.now()), &Memory::default()).await;
    let Sent::Misconfigured { error } = result else { panic!("{result:?}") };
    assert!(error.contains("localhost is at") && !error.contains("hush"), "{error}");
}

#[tokio::test]
async fn a_probe_of_slack_tells_nobody_anything() {
    let server = Server::new(&[Answer::Status(400, "", "no_text".to_owned()), status(404)]).await;
    let text = format!(
        r#"{{ "destination": {{ "a": {{ "channel": "slack", "url": "{}", "allow_private": true }} }} }}"#,
        server.url
    );
    let notifier = notifier(&config(&text), &Manual::new(NOW));
    assert!(matches!(notifier.probe("a").await, Some(Sent::Delivered { .. })));
    assert!(matches!(notifier.probe("a").await, Some(Sent::Rejected { .. })));
    assert_eq!(notifier.probe("b").await, None);
    assert_eq!(server.request(0).json()["text"], "");
}
