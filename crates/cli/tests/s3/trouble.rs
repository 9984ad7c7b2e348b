//! Connections that break, a service that asks for patience, objects that are not to be had.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::server::{Heard, Server, relay, s3_error};
use crate::{Bucket, archive, scan};

/// Cuts an answer after so many bytes of its body, if it has more.
fn cut(mut answer: Vec<u8>, at: usize) -> Vec<u8> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    answer.truncate(head + at);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_is_resumed_and_what_is_gone_is_told() {
    let bucket = Bucket::new("trouble").await;
    let small =
        |id: &str| archive::log(id, "111122223333", "us-east-1", "2026-05-04T12:00:00Z", 30);
    for name in ["sound", "broken", "vanished", "denied", "busy"] {
        bucket.put(&format!("logs/{name}.json.gz"), small(name)).await;
    }
    let large = archive::large_log("large", 5 << 20);
    assert!(large.len() > 4 << 20, "streamed: {}", large.len());
    bucket.put("logs/large.json.gz", large.clone()).await;
    bucket.put("logs/changed.json.gz", large).await;

    let port = bucket.standin.port();
    let (lists, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |heard: &Heard| {
        let is_first = |count: &AtomicUsize| count.fetch_add(1, Ordering::Relaxed) == 0;
        let begins = heard.header("range").is_none();
        if heard.is_list() && is_first(&lists) {
            return s3_error("503 Slow Down", "SlowDown");
        }
        if heard.is_get_of("/vanished") {
            return s3_error("404 Not Found", "NoSuchKey");
        }
        if heard.is_get_of("/denied") {
            return s3_error("403 Forbidden", "AccessDenied");
        }
        if heard.is_get_of("/busy") && busy.fetch_add(1, Ordering::Relaxed) < 2 {
            return s3_error("503 Slow Down", "SlowDown");
        }
        if heard.is_get_of("/changed") && !begins {
            return s3_error("412 Precondition Failed", "PreconditionFailed");
        }
        let answer = relay(port, heard);
        if heard.is_get_of("/broken") && begins {
            return cut(answer, 200);
        }
        // Once in what a thread reads first, and once in what streams behind it.
        if heard.is_get_of("/large") || heard.is_get_of("/changed") {
            return cut(answer, 2 << 20);
        }
        answer
    });
    let ran = scan(bucket.standin, Some(&server.url()), &[&bucket.url("logs/")]).await;
    let mut ids: Vec<String> = ran
        .lines()
        .iter()
        .map(|line| line["event_id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["broken", "busy", "large", "sound"], "{}", ran.err);
    assert_eq!(ran.code, 3, "{}", ran.err);
    for (name, reason) in [
        ("vanished", "NoSuchKey"),
        ("denied", "AccessDenied"),
        ("changed", "changed while it was read"),
    ] {
        assert!(ran.err.contains(&bucket.url(&format!("logs/{name}.json.gz"))), "{}", ran.err);
        assert!(ran.err.contains(reason), "{}", ran.err);
    }
    assert!(!ran.err.contains("large.json.gz"), "{}", ran.err);
    let ranges: Vec<Heard> =
        server.heard().into_iter().filter(|heard| heard.header("range").is_some()).collect();
    let of = |name: &str| ranges.iter().filter(|heard| heard.is_get_of(name)).count();
    assert_eq!(of("/broken"), 1);
    assert!(of("/large") >= 2, "resumed at the offset, not begun again: {ranges:?}");
    assert!(ranges.iter().all(|heard| heard.header("if-match").is_some()), "{ranges:?}");
}
