//! Mail by Amazon SES: against the stand-in, and against a server that answers as it is told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::SignedDuration;
use mail_parser::MessageParser;
use rootwatch_core::alert::Clock as _;
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::{Notifier, Sent};
use serde_json::{Value, json};

use crate::common::{
    Answer, Manual, Memory, Server, config, notifier_on_aws, notifier_on_standin, opened, status,
};
use crate::standin;

const NOW: &str = "2026-05-04T14:07:40Z";

fn destination(from: &str, ses: Value) -> String {
    json!({ "destination": { "a": { "channel": "email", "from": from, "timeout_secs": 5,
        "to": ["Anna <anna@example.com>"], "cc": ["boss@example.com"], "ses": ses } } })
    .to_string()
}

async fn sent(notifier: &Notifier) -> Sent {
    let clock = Manual::new(NOW);
    let delivery = Delivery::new(opened(), "a", clock.now());
    notifier.send(&delivery, &Memory::default()).await
}

/// What a server that answers so is asked, and what comes of it.
async fn scripted(answers: &[Answer], ses: Value) -> (Sent, Sent, Server) {
    let server = Server::new(answers).await;
    let mut keys = json!({ "endpoint_url": server.url.replace("/hook/hush", "") });
    if let (Value::Object(keys), Value::Object(ses)) = (&mut keys, ses) {
        keys.extend(ses);
    }
    let text = destination("Rootwatch <rootwatch@example.com>", keys);
    let notifier = notifier_on_aws(&config(&text), &Manual::new(NOW));
    let sent = sent(&notifier).await;
    (sent, notifier.probe("a").await.expect("a destination"), server)
}

fn refusal(code: u16, word: &str) -> Answer {
    let body = json!({ "__type": word, "message": "said AWS" }).to_string();
    Answer::Status(code, "", body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_comes_to_the_stand_in_as_it_was_made() {
    let standin = standin::shared().await;
    // Another test's mails are there too.
    let from = "ses-test@mail.example.com";
    let clock = Manual::new(NOW);
    let text =
        destination(from, json!({ "region": "eu-west-1", "endpoint_url": standin.endpoint() }));
    let notifier = notifier_on_standin(&config(&text), &clock);
    let unverified = notifier.probe("a").await.expect("a destination");
    let is_told =
        matches!(&unverified, Sent::Misconfigured { error } if error.contains("verified"));
    assert!(is_told, "{unverified:?}");
    let url = format!("{}/v2/email/identities", standin.endpoint());
    let http = reqwest_client();
    let scope = "AWS4-HMAC-SHA256 Credential=111122223333/20260504/eu-west-1/ses/aws4_request, \
                 SignedHeaders=host, Signature=0";
    let made = http
        .post(url)
        .header("authorization", scope)
        .body(json!({ "EmailIdentity": "mail.example.com" }).to_string())
        .send()
        .await
        .expect("an answer");
    assert!(made.status().is_success(), "{made:?}");
    let probe = notifier.probe("a").await.expect("a destination");
    assert!(matches!(&probe, Sent::Delivered { receipt } if receipt.contains(from)), "{probe:?}");
    let sent = sent(&notifier).await;
    let Sent::Delivered { receipt } = &sent else { panic!("{sent:?}") };
    let url =
        format!("{}/_ministack/ses/messages?account={}", standin.endpoint(), standin::ACCOUNT);
    let all = http.get(url).send().await.expect("an answer").text().await.expect("a body");
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let text = all.to_string();
    assert!(text.contains(receipt.as_str()), "{text}");
    let mail = find(&all, receipt).expect("our mail");
    assert_eq!(mail["Source"], from);
    let told = mail.to_string();
    for words in ["anna@example.com", "boss@example.com", "CRITICAL", "prod-payments"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

/// The object with this `MessageId`, wherever it is.
fn find<'a>(value: &'a Value, id: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) if fields.get("MessageId").is_some_and(|own| own == id) => {
            Some(value)
        }
        Value::Object(fields) => fields.values().find_map(|one| find(one, id)),
        Value::Array(list) => list.iter().find_map(|one| find(one, id)),
        _ => None,
    }
}

fn reqwest_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

#[tokio::test]
async fn the_call_names_everybody_and_holds_the_mail() {
    let taken = Answer::Status(200, "", json!({ "MessageId": "0100-example" }).to_string());
    let arn = "arn:aws:ses:us-east-1:123456789012:identity/example.com";
    let ses = json!({ "configuration_set": "alerts", "identity_arn": arn });
    let (sent, probe, server) = scripted(&[taken], ses).await;
    assert_eq!(sent, Sent::Delivered { receipt: "0100-example".to_owned() });
    assert!(matches!(probe, Sent::Delivered { .. }), "{probe:?}");
    let request = server.request(0);
    assert!(
        request.head.starts_with("POST /v2/email/outbound-emails HTTP/1.1"),
        "{}",
        request.head
    );
    let signed = request.header("authorization").expect("a signature");
    assert!(signed.contains("/us-east-1/ses/aws4_request"), "{signed}");
    let body = request.json();
    assert_eq!(body["FromEmailAddress"], "rootwatch@example.com");
    assert_eq!(body["Destination"]["ToAddresses"], json!(["anna@example.com"]));
    assert_eq!(body["Destination"]["CcAddresses"], json!(["boss@example.com"]));
    assert_eq!(body["ConfigurationSetName"], "alerts");
    assert_eq!(body["FromEmailAddressIdentityArn"], arn);
    let data = body["Content"]["Raw"]["Data"].as_str().expect("a mail");
    let mail = BASE64.decode(data).expect("base64");
    let read = MessageParser::new().parse(&mail).expect("a mail");
    assert!(read.subject().is_some_and(|subject| subject.starts_with("CRITICAL · ")));
    assert!(read.body_html(0).is_some_and(|html| html.contains("prod-payments")));
    assert!(read.header_raw("References").is_some());
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    for (answer, is, words) in [
        (refusal(429, "TooManyRequestsException"), "later", "TooMany"),
        (refusal(400, "LimitExceededException"), "later", "Limit"),
        (refusal(400, "SendingPausedException"), "misconfigured", "paused"),
        (refusal(400, "AccountSuspendedException"), "misconfigured", "Support"),
        (refusal(400, "MailFromDomainNotVerifiedException"), "misconfigured", "MAIL FROM"),
        (refusal(404, "NotFoundException"), "misconfigured", "no such"),
        (refusal(403, "AccessDeniedException"), "misconfigured", "ses:SendEmail"),
        (refusal(400, "MessageRejected"), "rejected", "verified"),
        (refusal(400, "BadRequestException"), "rejected", "said AWS"),
        (status(413), "rejected", "413"),
        (status(500), "later", "500"),
        (Answer::Status(503, "retry-after: 30\r\n", String::new()), "later, after a time", "503"),
        (Answer::Hang, "later", ""),
        (Answer::Half, "later", ""),
        (Answer::Close, "later", ""),
    ] {
        let (sent, probe, _) = scripted(std::slice::from_ref(&answer), json!({})).await;
        for sent in [sent, probe] {
            let was = match &sent {
                Sent::Delivered { .. } => "delivered",
                Sent::RetryAfter { after: None, .. } => "later",
                Sent::RetryAfter { after, .. } => {
                    assert_eq!(*after, Some(SignedDuration::from_secs(30)));
                    "later, after a time"
                }
                Sent::Rejected { .. } => "rejected",
                Sent::Misconfigured { .. } => "misconfigured",
            };
            assert_eq!(was, is, "{answer:?}: {sent:?}");
            assert!(
                sent.error().is_some_and(|error| error.contains(words)),
                "{answer:?}: {sent:?}"
            );
            assert!(!format!("{sent:?}").contains("hush"), "{sent:?}");
        }
    }
}

#[tokio::test]
async fn a_probe_sees_what_would_keep_mail_from_going_out() {
    let json = |value: Value| Answer::Status(200, "", value.to_string());
    let none = refusal(404, "NotFoundException");
    let account = json(json!({ "SendingEnabled": true, "ProductionAccessEnabled": true }));
    let good = json(json!({ "VerifiedForSendingStatus": true }));
    let bad = json(json!({ "VerifiedForSendingStatus": false }));
    let sandbox = json(json!({ "SendingEnabled": true, "ProductionAccessEnabled": false }));
    for (answers, is_good, words) in [
        (vec![account.clone(), good.clone()], true, "rootwatch@example.com"),
        (vec![account.clone(), none.clone(), good.clone()], true, "rootwatch@example.com"),
        (vec![sandbox, good], true, "sandbox"),
        (vec![account.clone(), none.clone(), bad.clone()], false, "verified"),
        (vec![account, bad, none], false, "verified"),
        (vec![json(json!({ "SendingEnabled": false }))], false, "switched off"),
    ] {
        let server = Server::new(&answers).await;
        let keys = json!({ "endpoint_url": server.url.replace("/hook/hush", "") });
        let text = destination("rootwatch@example.com", keys);
        let notifier = notifier_on_aws(&config(&text), &Manual::new(NOW));
        let sent = notifier.probe("a").await.expect("a destination");
        assert_eq!(matches!(sent, Sent::Delivered { .. }), is_good, "{sent:?}");
        assert!(format!("{sent:?}").contains(words), "{sent:?}");
        for place in 0..server.count() {
            assert!(server.request(place).head.starts_with("GET /v2/email/"));
        }
    }
}

#[test]
fn faults_are_found_offline() {
    let base = json!({ "channel": "email", "from": "a@example.com", "to": ["b@example.com"],
        "ses": {} });
    for (more, key) in [
        (json!({ "host": "smtp.example.com" }), "host"),
        (json!({ "ses": null }), "host"),
        (json!({ "port": 587 }), "ses"),
        (json!({ "user": "a", "password": "env:B" }), "ses"),
        (json!({ "ses": { "region": "Europe" } }), "ses.region"),
        (json!({ "ses": { "role": "admin" } }), "ses.role"),
        (json!({ "ses": { "endpoint_url": "email" } }), "ses.endpoint_url"),
        (json!({ "ses": { "configuration_set": "a b" } }), "ses.configuration_set"),
        (
            json!({ "ses": { "identity_arn": "arn:aws:sns:eu-west-1:123456789012:a" } }),
            "ses.identity_arn",
        ),
        (json!({ "to": vec!["b@example.com"; 51] }), "to"),
    ] {
        let problems = problems(&base, &more);
        let wanted = format!("notify.destination.a.{key}");
        assert!(problems.iter().any(|one| one.contains(&wanted)), "{more}: {problems:?}");
    }
    for right in [json!({}), json!({ "to": vec!["b@example.com"; 50] })] {
        assert_eq!(problems(&base, &right), Vec::<String>::new());
    }
}

fn problems(base: &Value, more: &Value) -> Vec<String> {
    let mut keys = base.clone();
    if let (Value::Object(keys), Value::Object(more)) = (&mut keys, more) {
        keys.extend(more.clone());
    }
    let text = json!({ "destination": { "a": keys } }).to_string();
    Notifier::check(&config(&text)).iter().map(ToString::to_string).collect()
}
