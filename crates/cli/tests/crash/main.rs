//! Nothing acknowledged is ever lost: the built program is fed over HTTP and from a queue, killed
//! with `SIGKILL` at random instants and started again, while the end that is told misbehaves. For a
//! while the store may not grow, and the machine's clock jumps.
//!
//! Set `ROOTWATCH_TEST_SEED` to replay a run; every run prints its seed.

#![allow(clippy::print_stdout, reason = "the seed has to be seen to replay a run")]

mod away;
mod clock;
mod program;
mod queue;
mod receiver;
#[path = "../../../hub/tests/sources/standin.rs"]
#[allow(dead_code, reason = "only a part of it is needed here")]
mod standin;
#[path = "../../../hub/benches/traffic/mod.rs"]
mod traffic;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::correlate::{CorrelatePolicy, correlate_all};
use rootwatch_core::decode::{Item, Limits, decode_log};
use rootwatch_core::detect::{Detector, finalize};
use rootwatch_core::rules::Ruleset;
use serde_json::Value;

use program::Program;
use queue::Queue;
use receiver::{Mood, Receiver};
use traffic::{Dice, Made};

/// How often the hub is killed while it is fed.
const KILLS: usize = 24;
/// Kills between which the store is full.
const FULL: std::ops::Range<usize> = 1..13;
/// Root sessions that are made up.
const SESSIONS: usize = 260;
/// Calls of a session at most.
const CALLS_MAX: usize = 24;
/// Requests that are under way at one time.
const SENDERS: usize = 4;
/// Where the clock ends: what was to be tried later by a clock that was ahead is due.
const CLOCK_AHEAD: SignedDuration = SignedDuration::from_hours(5);
/// Longest wait for all alerts to be told once the hub is left alone.
const DRAIN: Duration = Duration::from_secs(180);

const TOKEN: &str = "crash-test-token-0123456789abcdef0123456789abcdef";

fn seed() -> u64 {
    let seed = std::env::var("ROOTWATCH_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| Timestamp::now().as_nanosecond() as u64);
    println!("ROOTWATCH_TEST_SEED={seed}");
    seed
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

fn config(
    folder: &std::path::Path,
    hub: SocketAddr,
    receiver: &Receiver,
    queue: &Queue,
    is_full: bool,
) -> PathBuf {
    let digest = ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes());
    let sha256: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let store = folder.join("hub.db");
    let text = format!(
        r#"
[hub]
listen = "{hub}"

[store]
path = {store:?}
{}
[[token]]
name = "driver"
sha256 = "{sha256}"
scopes = ["ingest", "read", "write"]

[source.http]
requests_per_second_max = 100000

[notify.destination.hook]
channel = "webhook"
url = "http://{}/hook"
secrets = ["whsec_Y3Jhc2gtdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OQ=="]
allow_private = true
timeout_secs = 2
concurrency = 16
age_max_hours = 72
{}"#,
        if is_full { "size_bytes_max = 1048576\n" } else { "" },
        receiver.address,
        queue.config()
    );
    let path = folder.join("rootwatch.toml");
    std::fs::write(&path, text).expect("a temporary folder");
    path
}

/// The incidents of a set of events, each as the set of its event ids, as a scan finds them.
fn expected(events: &[Made]) -> BTreeSet<BTreeSet<String>> {
    let rules = Ruleset::built_in();
    let mut detector = Detector::new(&rules);
    let mut detected = Vec::new();
    for made in events {
        decode_log(made.json.as_bytes(), &Limits::default(), &mut |_, item| match item {
            Item::Event(event) => detected.extend(detector.detect(&event)),
            other => panic!("not an event: {other:?}"),
        });
    }
    let (findings, _) = finalize(detected, &rules);
    assert_eq!(findings.len(), events.len(), "each event is a finding");
    correlate_all(findings, &CorrelatePolicy::default())
        .into_iter()
        .map(|incident| incident.findings.into_iter().filter_map(|one| one.event_id).collect())
        .collect()
}

/// Sends a body of events; `None` when no whole answer came.
async fn post(hub: SocketAddr, body: String) -> Option<reqwest::StatusCode> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .expect("a client without special wishes");
    let sent = client
        .post(format!("http://{hub}/v1/events"))
        .bearer_auth(TOKEN)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await;
    let answer = sent.ok()?;
    let status = answer.status();
    answer.bytes().await.is_ok().then_some(status)
}

/// Sends until everything was acknowledged, whatever happens to the hub meanwhile.
async fn feed(
    hub: SocketAddr,
    bodies: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
) {
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = bodies.get(place) else { return };
        loop {
            // A lost answer and a refusal are the same to the sender: it still has the events.
            if let Some(status) = post(hub, body.clone()).await {
                if status.is_success() {
                    break;
                }
                assert!(
                    status.is_server_error() || status.as_u16() == 429,
                    "the hub refused with {status}"
                );
                refused.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn get(hub: SocketAddr, path: &str) -> Value {
    let client = reqwest::Client::new();
    let answer = client.get(format!("http://{hub}{path}")).bearer_auth(TOKEN).send().await;
    let answer = answer.expect("the hub is up").error_for_status().expect("a good request");
    serde_json::from_str(&answer.text().await.expect("a whole answer")).expect("JSON")
}

/// All items of a paged list.
async fn all(hub: SocketAddr, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = get(hub, &format!("{path}{sign}limit=500{after}")).await;
        items.extend(page["items"].as_array().expect("a list").iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return items,
        }
    }
}

/// Waits until nothing is owed: then every alert reached the receiver, and none is stuck. Answers
/// with how many there were.
async fn all_told(hub: SocketAddr, receiver: &Receiver) -> usize {
    let begin = Instant::now();
    loop {
        let due = all(hub, "/v1/deliveries?state=due").await;
        if due.is_empty() {
            break;
        }
        assert!(begin.elapsed() < DRAIN, "{} deliveries are stuck: {}", due.len(), due[0]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let deliveries = all(hub, "/v1/deliveries").await;
    let taken = receiver.taken();
    let mut told: HashMap<&str, usize> = HashMap::new();
    for delivery in &deliveries {
        let id = delivery["id"].as_str().expect("an id");
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        assert!(taken.contains_key(id), "{id} counts as delivered and never came");
        if let Some(incident) = delivery["incident_id"].as_str() {
            *told.entry(incident).or_default() += 1;
        }
    }
    for id in taken.keys() {
        assert!(
            deliveries.iter().any(|delivery| delivery["id"] == id.as_str()),
            "{id} was told and is not owed"
        );
    }
    for incident in &all(hub, "/v1/incidents").await {
        let id = incident["id"].as_str().expect("an id");
        if incident["severity"] != "informational" {
            assert!(told.contains_key(id), "nobody was told of {incident}");
        }
    }
    deliveries.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_killed_at_random_loses_nothing_that_it_acknowledged() {
    let seed = seed();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut dice = Dice::new(seed);
    let events = traffic::sessions(
        &mut dice,
        SESSIONS,
        traffic::ACCOUNTS.len(),
        CALLS_MAX,
        Timestamp::now(),
        SignedDuration::from_mins(30),
    );
    let distinct: BTreeSet<&str> = events.iter().map(|made| made.id.as_str()).collect();
    assert_eq!(distinct.len(), events.len());
    let expected = expected(&events);

    // One in five comes twice, all in any order: one in three as a message of a queue, the others
    // in requests of one to forty.
    let mut stream: Vec<&Made> = events.iter().collect();
    for _ in 0..events.len() / 5 {
        stream.push(&events[dice.below(events.len())]);
    }
    dice.shuffle(&mut stream);
    let (queued, posted): (Vec<&Made>, Vec<&Made>) =
        stream.into_iter().partition(|_| dice.below(3) == 0);
    let messages: Vec<String> = queued.iter().map(|made| made.json.clone()).collect();
    let messages_total = messages.len();
    let mut bodies = Vec::new();
    let mut rest = &posted[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + dice.below(40)).min(rest.len()));
        let list: Vec<&str> = now.iter().map(|made| made.json.as_str()).collect();
        bodies.push(format!("[{}]", list.join(",")));
        rest = later;
    }

    let folder = tempfile::tempdir().expect("a temporary folder");
    let receiver = Receiver::start(seed, Mood::Moody).await;
    let queue = Arc::new(Queue::new().await);
    let hub = free_address();
    let configure = |is_full| config(folder.path(), hub, &receiver, &queue, is_full);
    let mut program = Program::new(&configure(false), hub);
    program.start("/readyz").await;

    let bodies = Arc::new(bodies);
    let next = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let fed = Arc::new(AtomicBool::new(false));
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
            tokio::spawn(feed(hub, bodies, next, Arc::clone(&refused)))
        })
        .collect();
    let (to, mut pauses) = (Arc::clone(&queue), dice.clone());
    senders.push(tokio::spawn(async move { to.feed(&messages, &mut pauses).await }));
    let watch = {
        let fed = Arc::clone(&fed);
        tokio::spawn(async move {
            for sender in senders {
                sender.await.expect("the sender sees no refusal");
            }
            fed.store(true, Ordering::Relaxed);
        })
    };
    let mut kills = 0;
    while kills < KILLS || !fed.load(Ordering::Relaxed) {
        let millis = if kills < KILLS { 5 + dice.below(250) } else { 50 };
        tokio::time::sleep(Duration::from_millis(millis as u64)).await;
        assert!(!watch.is_finished() || fed.load(Ordering::Relaxed), "a sender was refused");
        if kills < KILLS {
            let mut jump = || SignedDuration::from_mins(dice.below(4 * 60) as i64 - 2 * 60);
            // Once while it runs, once while it is down.
            program.clock.set(jump());
            tokio::time::sleep(Duration::from_millis(5)).await;
            program.kill();
            program.clock.set(jump());
            kills += 1;
            if kills == FULL.start {
                refused.store(0, Ordering::Relaxed);
            } else if kills == FULL.end {
                let refused = refused.load(Ordering::Relaxed);
                assert!(refused > 0, "a store that is full acknowledges nothing");
                println!("{refused} requests refused by the hub while its store was full");
            }
            let is_full = FULL.contains(&kills);
            configure(is_full);
            // A hub that can save nothing says that it is not ready.
            program.start(if is_full { "/livez" } else { "/readyz" }).await;
        }
    }
    watch.await.expect("all were acknowledged");
    receiver.behave(Mood::Kind);
    program.clock.set(CLOCK_AHEAD);
    queue.drained(DRAIN).await;

    // Every event once, every incident once.
    let mut incidents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    for finding in all(hub, "/v1/findings").await {
        count += 1;
        let incident = finding["incident_id"].as_str().expect("an incident").to_owned();
        let event = finding["event_id"].as_str().expect("an event id").to_owned();
        assert!(incidents.entry(incident).or_default().insert(event), "a finding is there twice");
    }
    assert_eq!(count, events.len(), "every event that was acknowledged is stored once");
    let found: BTreeSet<BTreeSet<String>> = incidents.values().cloned().collect();
    assert_eq!(found.len(), incidents.len());
    assert_eq!(found, expected, "the incidents are those of a scan");
    let listed = all(hub, "/v1/incidents").await;
    assert_eq!(listed.len(), expected.len(), "every incident exists once");

    let deliveries = all_told(hub, &receiver).await;
    println!(
        "{} events in {} requests and {messages_total} messages, {kills} kills, {} incidents, {} deliveries, {} refused by the receiver",
        events.len(),
        bodies.len(),
        listed.len(),
        deliveries,
        receiver.refused()
    );
}
