//! Hostile input at every endpoint: a clear refusal, a count, and no state.

use std::time::Duration;

use reqwest::Method;
use rootwatch_core::rules::Ruleset;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::{Hub, HubError, HubParts};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{INGEST, READ, Stage, TOKEN, answer, config, event, event_from, gzip, open};

const REFUSED: &str = "rootwatch_requests_refused_total";

fn refused(endpoint: &str, reason: &str) -> String {
    format!("{REFUSED}{{endpoint=\"{endpoint}\",reason=\"{reason}\",door=\"{endpoint}\"}}")
}

fn detail(problem: &Value) -> &str {
    problem["detail"].as_str().unwrap_or_default()
}

/// Sends bytes as they are, and reads the answer until the hub closes or the time is over.
async fn raw(stage: &Stage, bytes: &[u8], time: Duration) -> String {
    let mut stream = TcpStream::connect(stage.running.address()).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(time, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn tokens_are_asked_for_and_count_for_their_scopes_only() {
    let stage = Stage::new().await;
    let before = stage.metric(&refused("http", "unauthorized")).await;
    let record = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    let post = || stage.request(Method::POST, "/v1/events").body(record.clone());
    let answered = post().send().await.expect("an answer");
    assert_eq!(answered.status(), 401);
    assert!(answered.headers().contains_key("www-authenticate"));
    assert_eq!(answered.headers()["content-type"], "application/problem+json");
    assert_eq!(answered.headers()["x-content-type-options"], "nosniff");
    for wrong in ["", "x", &TOKEN[1..], &format!("{TOKEN} "), &"a".repeat(5_000)] {
        let (status, _) = answer(post().header("x-api-key", wrong)).await;
        assert!(status == 401 || wrong.ends_with(' '), "{wrong:?}: {status}");
    }
    let twice = post().header("authorization", format!("Bearer {INGEST}"));
    let twice = twice.header("authorization", "Bearer other");
    assert_eq!(answer(twice).await.0, 401);
    assert!(stage.metric(&refused("http", "unauthorized")).await >= before + 5.0);

    assert_eq!(answer(post().bearer_auth(READ)).await.0, 403);
    let list = stage.request(Method::GET, "/v1/incidents");
    assert_eq!(answer(list.bearer_auth(INGEST)).await.0, 403);
    for path in ["/v1/incidents", "/v1/findings", "/v1/deliveries", "/v1/unverified"] {
        assert_eq!(answer(stage.request(Method::GET, path)).await.0, 401, "{path}");
    }
    let mut kept = stage.all("/v1/findings").await;
    kept.extend(stage.all("/v1/unverified").await);
    assert!(
        kept.len() <= 1,
        "only a token with a space after it, which is none of it, may come in"
    );
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_hub_without_tokens_stays_on_this_machine_and_answers_no_web_page() {
    let mut open_door = config();
    open_door.token.clear();
    open_door.hub.listen = ([0, 0, 0, 0], 0).into();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parts = HubParts {
        config: open_door.clone(),
        store: open(folder.path(), None),
        rules: Ruleset::empty(),
        clock: std::sync::Arc::new(rootwatch_engine::clock::SystemClock),
        log: rootwatch_notify::standard_output(),
        secrets: std::sync::Arc::new(Resolver::new(folder.path())),
    };
    let error = Hub::start(parts).await.expect_err("anybody could come in");
    assert!(matches!(error, HubError::Open { .. }) && error.is_configuration());

    open_door.hub.listen = ([127, 0, 0, 1], 0).into();
    let stage = Stage::with(open_door, crate::stage::AFTER_STORY).await;
    let record = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    let post = || stage.request(Method::POST, "/v1/events").body(record.clone());
    let page = post().header("origin", "https://pages.example.com");
    assert_eq!(answer(page).await.0, 403);
    let rebound = stage.request(Method::GET, "/v1/incidents").header("host", "pages.example.com");
    assert_eq!(answer(rebound).await.0, 403);
    assert!(stage.is_empty().await);
    assert_eq!(answer(post()).await.0, 200);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_or_grows_too_much_is_refused() {
    let mut small = config();
    small.hub.body_bytes_max = 256 << 10;
    let stage = Stage::with(small, crate::stage::AFTER_STORY).await;
    let (status, problem) = stage.post(vec![b' '; (256 << 10) + 1]).await;
    assert_eq!(status, 413, "{problem}");
    let mut chunked = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {INGEST}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    for _ in 0..300 {
        chunked.push_str(&format!("400\r\n{}\r\n", "[".repeat(1 << 10)));
    }
    let answered = raw(&stage, chunked.as_bytes(), Duration::from_secs(5)).await;
    assert!(answered.starts_with("HTTP/1.1 413"), "{answered}");
    let (status, problem) = stage.post(gzip(&vec![b' '; 8 << 20])).await;
    assert_eq!(status, 413, "{problem}");
    let (status, problem) = stage.post(gzip(&vec![b'{'; 200 << 10])).await;
    assert_eq!(status, 413, "grows by more than 200 times: {problem}");
    let mut damaged = gzip(b"{\"Records\":[]}");
    damaged.truncate(15);
    let (status, problem) = stage.post(damaged).await;
    assert_eq!(status, 400, "{problem}");
    let brotli = stage.request(Method::POST, "/v1/events").bearer_auth(INGEST).body("{}");
    assert_eq!(answer(brotli.header("content-encoding", "br")).await.0, 415);
    assert!(stage.metric(&refused("http", "too_large")).await >= 3.0);
    assert!(stage.is_empty().await);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_decoded_is_refused_with_its_place() {
    let stage = Stage::new().await;
    let deep = "[".repeat(100_000);
    let deep_record = format!("{{\"eventName\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    for (body, word) in [
        ("{\"eventName\": nonsense}".to_owned(), "byte"),
        ("{\"eventName\": \"x\"".to_owned(), "byte"),
        (deep_record, "nested deeper"),
        (deep, ""),
        ("\u{0}\u{1}\u{2}".to_owned(), ""),
        ("hello".to_owned(), ""),
        (String::new(), "empty"),
    ] {
        let (status, problem) = stage.post(body.clone()).await;
        let start: String = body.chars().take(30).collect();
        assert_eq!(status, 400, "{start:?}: {problem}");
        assert!(detail(&problem).contains(word), "{start:?}: {problem}");
    }
    let (status, problem) = stage.post(vec![0xff; 100]).await;
    assert_eq!(status, 400, "{problem}");
    assert!(stage.is_empty().await);
    // Sound, and nothing in it.
    assert_eq!(stage.take("{\"Records\":[]}").await["records"].as_array().map(Vec::len), Some(0));
    stage.running.shutdown().await;
}

#[tokio::test]
async fn forged_events_are_kept_apart_and_touch_no_incident() {
    let mut ours = config();
    ours.hub.organization.accounts = vec!["222233334444".to_owned()];
    let stage = Stage::with(ours, crate::stage::AFTER_STORY).await;
    let time = "2026-05-04T14:03:00Z";
    let real = event("e-0", "222233334444", time, "CreateUser");
    stage.take(real).await;
    stage.told().await;
    let before = stage.all("/v1/incidents").await;
    let deliveries = stage.all("/v1/deliveries").await.len();
    let forged = [
        event_from("my.app", "222233334444", "e-1", "222233334444", time, "CreateUser"),
        event_from("aws.iam", "111122223333", "e-2", "222233334444", time, "CreateUser"),
        event_from("aws.iam", "222233334444", "e-3", "111122223333", time, "CreateUser"),
        event("e-4", "333344445555", time, "CreateUser"),
    ];
    let taken = stage.take(format!("[{}]", forged.join(","))).await;
    assert_eq!(taken["unverified"], 4, "{taken}");
    assert_eq!(stage.all("/v1/incidents").await, before);
    assert_eq!(stage.all("/v1/deliveries").await.len(), deliveries);
    let shown = stage.all("/v1/unverified").await;
    assert_eq!(shown.len(), 4);
    assert!(shown.iter().all(|one| one["source"] == "http:ingest"), "{shown:?}");
    // What was claimed falsely does not stand in the way of the truth.
    let truth = event("e-1", "222233334444", time, "CreateUser");
    assert_eq!(stage.take(truth).await["saved"], 1);
    assert!(stage.metric("rootwatch_records_unverified_total{source=\"http\"}").await >= 4.0);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_decided_is_counted_and_stands_in_the_finding() {
    let stage = Stage::new().await;
    let count = "rootwatch_rules_undecided_total{source=\"http\"}";
    let before = stage.metric(count).await;
    // No selector has both values and all lie in one element: each is compared with each.
    let pair = [
        serde_json::json!({ "includeManagementEvents": true }),
        serde_json::json!({ "readWriteType": "ReadOnly" }),
    ];
    let selectors: Vec<_> = std::iter::repeat_n(pair, 2_100).flatten().collect();
    let easy = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "PutEventSelectors");
    let mut hard: serde_json::Value = serde_json::from_str(&easy).expect("an event");
    hard["detail"]["eventSource"] = "cloudtrail.amazonaws.com".into();
    hard["detail"]["requestParameters"] = serde_json::json!({ "eventSelectors": [selectors] });
    assert_eq!(stage.take(hard.to_string()).await["saved"], 1);
    assert_eq!(stage.metric(count).await, before + 1.0);
    let findings = stage.all("/v1/findings").await;
    let reasons = findings[0]["reasons"].as_array().expect("reasons");
    let said = "rules_undecided: cloudtrail-selectors-narrowed (record too complex to match)";
    assert!(reasons.iter().any(|reason| reason == said), "{reasons:?}");
    assert_eq!(findings[0]["severity"], "high");
    stage.running.shutdown().await;
}

#[tokio::test]
async fn slow_senders_are_cut_off_and_others_are_not_kept_waiting() {
    let mut impatient = config();
    impatient.source.http.head_timeout_secs = 1;
    impatient.source.http.request_timeout_secs = 1;
    let stage = Stage::with(impatient, crate::stage::AFTER_STORY).await;
    let wait = Duration::from_secs(5);
    let head = raw(&stage, b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n", wait);
    let nothing = raw(&stage, b"", wait);
    let slow_body = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {INGEST}\r\n\
         Content-Length: 1000\r\n\r\n{{"
    );
    let body = raw(&stage, slow_body.as_bytes(), wait);
    let record = event("e-1", "222233334444", "2026-05-04T14:03:00Z", "CreateUser");
    let begin = std::time::Instant::now();
    let ((head, nothing, body), answered) =
        tokio::join!(async { tokio::join!(head, nothing, body) }, stage.post(record));
    assert_eq!(answered.0, 200);
    assert!(begin.elapsed() < wait, "all were cut off");
    assert!(!head.contains("200") && !nothing.contains("200"));
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    stage.running.shutdown().await;
}

#[tokio::test]
async fn connections_are_bounded_and_come_free_again() {
    let mut narrow = config();
    narrow.source.http.connections_max = 2;
    narrow.source.http.head_timeout_secs = 1;
    let stage = Stage::with(narrow, crate::stage::AFTER_STORY).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(stage.running.address()).await.expect("a connection"));
    }
    // The idle ones are closed one after the other, and this request has its turn.
    let answered = stage.request(Method::GET, "/livez").send().await.expect("an answer");
    assert_eq!(answered.status(), 200);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn headers_cannot_be_smuggled_in_or_out() {
    let stage = Stage::new().await;
    let wait = Duration::from_secs(2);
    let get = |path: &str, header: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READ}\r\n{header}\
             Connection: close\r\n\r\n"
        )
    };
    let sly = get("/v1/incidents?after=x%0d%0aSet-Cookie:%20a=b&state=%0d%0aX-Evil:%201", "");
    let answered = raw(&stage, sly.as_bytes(), wait).await;
    assert!(answered.starts_with("HTTP/1.1 400"), "{answered}");
    let head = answered.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    assert!(!head.contains("set-cookie") && !head.contains("x-evil"), "{head}");
    for smuggled in [
        "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\x00\r\n\r\n",
        "NONSENSE\r\n\r\n",
    ] {
        let answered = raw(&stage, smuggled.as_bytes(), wait).await;
        assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 4"), "{answered}");
    }
    let large = get("/livez", &format!("X-Large: {}\r\n", "a".repeat(100_000)));
    let answered = raw(&stage, large.as_bytes(), wait).await;
    assert!(answered.is_empty() || answered.starts_with("HTTP/1.1 431"), "{answered}");
    assert!(stage.is_empty().await);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off() {
    let mut impatient = config();
    impatient.source.http.request_timeout_secs = 1;
    impatient.source.http.connections_max = 1;
    let stage = Stage::with(impatient, crate::stage::AFTER_STORY).await;
    for part in 0..3 {
        let some: Vec<String> = (0..500)
            .map(|number| {
                let id = format!("e-{part}-{number}");
                event(
                    &id,
                    "222233334444",
                    "2026-05-04T14:03:00Z",
                    &format!("Create{part}-{number}"),
                )
            })
            .collect();
        stage.take(format!("[{}]", some.join(","))).await;
    }
    // The client above keeps its connection; here is another one's turn only when it is closed.
    let Stage { running, client, .. } = stage;
    drop(client);
    let mut greedy = TcpStream::connect(running.address()).await.expect("a connection");
    let ask = format!(
        "GET /v1/findings?limit=500 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {READ}\r\n\r\n"
    );
    // Enough for all buffers on the way to be full.
    for _ in 0..40 {
        greedy.write_all(ask.as_bytes()).await.expect("sent");
    }
    let other = reqwest::Client::builder().no_proxy().build().expect("a client");
    let live = other.get(format!("http://{}/livez", running.address())).send();
    let live = tokio::time::timeout(Duration::from_secs(15), live).await;
    assert_eq!(live.expect("in time").expect("an answer").status(), 200);
    drop(greedy);
    running.shutdown().await;
}

#[tokio::test]
async fn who_sends_too_often_is_told_when_to_come_again() {
    let mut calm = config();
    calm.source.http.requests_per_second_max = 1;
    let stage = Stage::with(calm, crate::stage::AFTER_STORY).await;
    let mut refused_with = None;
    for _ in 0..30 {
        let post = stage.request(Method::POST, "/v1/events").bearer_auth(INGEST).body("[]");
        let answered = post.send().await.expect("an answer");
        if answered.status() == 429 {
            refused_with = answered.headers().get("retry-after").cloned();
            break;
        }
    }
    assert!(refused_with.is_some(), "30 requests at once are too many");
    stage.running.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_asks_to_come_again() {
    let mut narrow = config();
    narrow.hub.body_bytes_max = 64 << 10;
    narrow.hub.queue_bytes_max = 1 << 10;
    let stage = Stage::with(narrow, crate::stage::AFTER_STORY).await;
    let post = stage.request(Method::POST, "/v1/events").bearer_auth(INGEST);
    let answered = post.body(vec![b' '; 32 << 10]).send().await.expect("an answer");
    assert_eq!(answered.status(), 503);
    assert!(answered.headers().contains_key("retry-after"));
    // Room that was taken is given back.
    assert_eq!(stage.post("[]").await.0, 200);
    assert!(stage.running.ingest().pressure() < f64::EPSILON);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn unknown_filters_are_refused_with_the_nearest_known_one() {
    let stage = Stage::new().await;
    let ask = |path: &'static str| answer(stage.request(Method::GET, path).bearer_auth(READ));
    let (status, problem) = ask("/v1/incidents?min_severty=high").await;
    assert_eq!(status, 400);
    assert!(detail(&problem).contains("min_severity"), "{problem}");
    for path in [
        "/v1/incidents?state=closed",
        "/v1/incidents?limit=0",
        "/v1/incidents?limit=501",
        "/v1/incidents?limit=1&limit=2",
        "/v1/incidents?after=nonsense",
        "/v1/findings?since=yesterday",
        "/v1/findings?root_use=yes",
        "/v1/deliveries?state=lost",
        "/v1/unverified?account=1",
    ] {
        let (status, problem) = ask(path).await;
        assert_eq!(status, 400, "{path}: {problem}");
        assert!(!detail(&problem).is_empty());
    }
    assert_eq!(ask("/v1/incidents/%2e%2e").await.0, 404);
    assert_eq!(ask("/v2/incidents").await.0, 404);
    let wrong_way = stage.request(Method::DELETE, "/v1/incidents").bearer_auth(READ);
    assert_eq!(answer(wrong_way).await.0, 405);
    stage.running.shutdown().await;
}

#[tokio::test]
async fn whoever_is_not_known_cannot_fill_the_queue_or_knock_without_end() {
    let mut calm = config();
    calm.source.sns.topics = vec!["arn:aws:sns:eu-central-1:222233334444:root-events".to_owned()];
    calm.source.http.requests_per_second_max = 5;
    calm.hub.queue_bytes_max = 1 << 20;
    let stage = Stage::with(calm, crate::stage::AFTER_STORY).await;
    let knock = |bytes: usize| stage.request(Method::POST, "/v1/sns").body(vec![b' '; bytes]);
    assert_eq!(
        answer(knock(600 << 10)).await.0,
        503,
        "half of the room is for those who are known"
    );
    let mut statuses = Vec::new();
    for _ in 0..80 {
        statuses.push(answer(knock(10)).await.0.as_u16());
    }
    assert!(statuses.contains(&400) && statuses.contains(&429), "{statuses:?}");
    // Those who are known do not wait for it.
    assert_eq!(stage.post("[]").await.0, 200);
    assert!(stage.is_empty().await);
    stage.running.shutdown().await;
}
