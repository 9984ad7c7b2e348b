//! The sources: queues against an emulator of AWS's API over the wire, and watched folders.

mod directory;
mod fake;
mod queue;
#[allow(dead_code, reason = "other crates' tests need the rest of it")]
mod standin;

use std::future::Future;
use std::time::{Duration, Instant};

/// Waits until something holds, at most half a minute.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(30), "not within half a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A record of the root user; its id is what the tests know it by.
fn record(id: &str) -> String {
    serde_json::json!({
        "eventVersion": "1.11", "eventID": id, "eventName": "GetUser",
        "eventSource": "iam.amazonaws.com", "eventTime": "2026-05-04T14:00:00Z",
        "awsRegion": "us-east-1", "sourceIPAddress": "192.0.2.7", "eventType": "AwsApiCall",
        "recipientAccountId": "222233334444",
        "userIdentity": {
            "type": "Root", "accountId": "222233334444",
            "arn": "arn:aws:iam::222233334444:root",
        },
    })
    .to_string()
}

/// A log file with these records.
fn log_file(ids: &[&str]) -> String {
    let records: Vec<String> = ids.iter().map(|id| record(id)).collect();
    format!("{{\"Records\":[{}]}}", records.join(","))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}
