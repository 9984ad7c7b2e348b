//! Whom no certificate vouches for is told nothing, on any channel; it may be another time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rootwatch_core::alert::Clock as _;
use rootwatch_core::delivery::Delivery;
use rootwatch_notify::Sent;
use rootwatch_notify::channels::ChannelConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::aws::NOW;
use crate::common::{Manual, Memory, config, notifier_on_aws, opened};

/// What stands where the vendor should.
#[derive(Debug, Clone, Copy)]
enum Impostor {
    /// It has a certificate that it signed itself.
    SelfSigned,
    /// It speaks HTTP where TLS is expected.
    Plain,
    /// It hangs up.
    HangsUp,
}

/// The address of an impostor, and how many bytes of a request it read.
async fn impostor(kind: Impostor) -> (String, Arc<AtomicUsize>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let heard = Arc::new(AtomicUsize::new(0));
    let ears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, ears) = (acceptor.clone(), Arc::clone(&ears));
            tokio::spawn(async move {
                match kind {
                    Impostor::SelfSigned => {
                        if let Ok(mut stream) = acceptor.accept(stream).await {
                            let mut bytes = [0_u8; 1024];
                            let count = stream.read(&mut bytes).await.unwrap_or(0);
                            ears.fetch_add(count, Ordering::Relaxed);
                        }
                    }
                    Impostor::Plain => {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        let _ = stream.write_all(answer).await;
                    }
                    Impostor::HangsUp => drop(stream),
                }
            });
        }
    });
    (format!("https://{address}"), heard)
}

/// The keys of every channel that speaks HTTPS, with its vendor at `url`.
fn destinations(url: &str) -> Vec<Value> {
    let mut all = vec![
        json!({ "channel": "email", "from": "Rootwatch <rootwatch@example.com>",
            "to": ["oncall@example.com"], "ses": { "region": "us-east-1", "endpoint_url": url } }),
        json!({ "channel": "eventbridge", "bus": "security", "endpoint_url": url }),
        json!({ "channel": "ocsf", "s3": "s3://example-lake", "endpoint_url": url }),
        json!({ "channel": "pagerduty", "routing_key": "hush".repeat(8), "url": url }),
        json!({ "channel": "securityhub", "account": "111122223333", "endpoint_url": url }),
        json!({ "channel": "servicenow", "instance": url, "user": "a", "password": "hush" }),
        json!({ "channel": "slack", "url": format!("{url}/hush") }),
        json!({ "channel": "slack", "token": "xoxb-hush", "conversation": "C0123456789", "api_url": url }),
        json!({ "channel": "sms", "to": ["+12065550100"], "endpoint_url": url }),
        json!({ "channel": "sns", "topic": "arn:aws:sns:us-east-1:111122223333:a", "endpoint_url": url }),
        json!({ "channel": "teams", "url": format!("{url}/hush") }),
        json!({ "channel": "webhook", "url": format!("{url}/hush") }),
        json!({ "channel": "zendesk", "url": url, "email": "a@example.com", "api_token": "hush" }),
    ];
    for keys in &mut all {
        let is_aws = keys.get("endpoint_url").is_some();
        if is_aws && keys["channel"] != "sns" {
            keys["region"] = json!("us-east-1");
        } else if !is_aws && keys["channel"] != "email" {
            keys["allow_private"] = json!(true);
        }
        keys["timeout_secs"] = json!(5);
    }
    all
}

#[tokio::test]
async fn no_channel_tells_whom_no_certificate_vouches_for() {
    let clock = Manual::new(NOW);
    let names: std::collections::BTreeSet<String> = destinations("https://example.com")
        .iter()
        .filter_map(|keys| keys["channel"].as_str().map(str::to_owned))
        .collect();
    for name in ChannelConfig::NAMES {
        assert!(*name == "log" || names.contains(*name), "{name} is tried");
    }
    for kind in [Impostor::SelfSigned, Impostor::Plain, Impostor::HangsUp] {
        let (url, heard) = impostor(kind).await;
        for keys in destinations(&url) {
            let text = json!({ "destination": { "a": keys } }).to_string();
            let notifier = notifier_on_aws(&config(&text), &clock);
            let delivery = Delivery::new(opened(), "a", clock.now());
            let result = notifier.send(&delivery, &Memory::default()).await;
            let is_later = matches!(&result, Sent::RetryAfter { after: None, .. });
            assert!(is_later, "{kind:?} {}: {result:?}", keys["channel"]);
            assert!(!format!("{result:?}").contains("hush"), "{result:?}");
            let probed = notifier.probe("a").await.expect("a destination");
            // A workflow of Teams cannot be asked without starting it.
            let is_well = matches!(probed, Sent::Delivered { .. });
            assert!(
                !is_well || keys["channel"] == "teams",
                "{kind:?} {}: {probed:?}",
                keys["channel"]
            );
        }
        assert_eq!(heard.load(Ordering::Relaxed), 0, "{kind:?}: nothing was said");
    }
}
