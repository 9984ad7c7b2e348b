//! The load command: `cargo bench -p rootwatch-hub --bench load`.
//!
//! Runs the hub with its store on a real disk and its state on loopback, and prints
//!
//! - **durable ingest**: events a second over HTTP, beside what the very same transactions reach in
//!   a bare loop over the store;
//! - **group commit**: what it gains that waiting callers share a flush, beside one transaction for
//!   each event, on this disk and on one whose flush takes longer;
//! - **latency**: from sending an event to its alert at a receiver, at a steady rate;
//! - **burst**: what is left of many calls of one session, and the memory that they take.
//!
//! Client, hub and receiver share the machine's cores. `LOAD_DIR` says where the stores are made;
//! a folder in memory would measure nothing.

#![allow(clippy::print_stdout, reason = "what this prints is what it is for")]

mod disk;
mod traffic;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::attempt::Attempt;
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::IncidentId;
use rootwatch_core::rules::Ruleset;
use rootwatch_hub::config::Config;
use rootwatch_hub::config::secrets::Resolver;
use rootwatch_hub::{Hub, HubParts, RunningHub, SystemClock};
use rootwatch_store::sqlite::{SqliteOptions, SqliteStore};
use rootwatch_store::{
    Batch, Decisions, DeliveryFilter, FindingFilter, IncidentFilter, Lists, LookBack, Maintenance,
    Notes, Outbox, Page, PageRequest, Pruned, Resolution, Stats, Store, StoreError, StoredFinding,
    StoredIncident, Unverified,
};

use traffic::{Dice, Made};

/// Events of the throughput runs.
const EVENTS: usize = 40_000;
/// Accounts that they are of, and days in which they happened: busy ones, with three sessions of the
/// root user a day.
const ACCOUNTS: usize = 200;
const DAYS: i64 = 5;
/// Events of a request, where many share one.
const BATCH: usize = 100;
/// Events of a large request: what an SQS source or a folder brings at once.
const LARGE_BATCH: usize = 1_000;
/// How long a flush takes on a disk that is reached over a network, as those of virtual machines
/// are: some single milliseconds.
const SLOW_FLUSH: Duration = Duration::from_millis(2);
/// Requests under way at one time: of many events, and of one.
const SENDERS: usize = 4;
const LONE_SENDERS: usize = 128;
/// Events a second and seconds of the latency run.
const STEADY: usize = 500;
const STEADY_SECS: usize = 20;
/// Calls of the burst.
const BURST: usize = 50_000;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` and `cargo bench -- --list` ask for nothing.
    if std::env::args().any(|word| word == "--list" || word == "--test") {
        return Ok(());
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        throughput().await?;
        grouping().await?;
        latency().await?;
        burst().await
    })
}

/// Keeps a copy of every batch that goes by.
#[derive(Debug)]
struct Recorder {
    inner: SqliteStore,
    batches: Mutex<Vec<Batch>>,
}

#[async_trait]
impl Decisions for Recorder {
    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch.clone());
        self.inner.commit(batch).await
    }

    async fn known(&self, keys: &[FindingKey]) -> Result<HashSet<FindingKey>, StoreError> {
        self.inner.known(keys).await
    }

    async fn incidents_within(
        &self,
        from: Timestamp,
        to: Timestamp,
        unended: bool,
    ) -> Result<Vec<StoredIncident>, StoreError> {
        self.inner.incidents_within(from, to, unended).await
    }

    async fn incidents_of(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError> {
        self.inner.incidents_of(ids).await
    }

    async fn look_back(
        &self,
        matches_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<LookBack, StoreError> {
        self.inner.look_back(matches_since, accounts).await
    }

    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.inner.positions(prefix).await
    }

    async fn resolve(
        &self,
        id: &IncidentId,
        resolution: &Resolution,
        notified: Option<NotifiedState>,
        deliveries: Vec<Delivery>,
    ) -> Result<StoredIncident, StoreError> {
        self.inner.resolve(id, resolution, notified, deliveries).await
    }

    async fn mark_digested(
        &self,
        ids: &[IncidentId],
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError> {
        self.inner.mark_digested(ids, deliveries).await
    }
}

#[async_trait]
impl Notes for Recorder {
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        self.inner.put_note(name, value).await
    }

    async fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.inner.note(name).await
    }
}

#[async_trait]
impl Outbox for Recorder {
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError> {
        self.inner.lease(now, until, max, busy).await
    }

    async fn record_attempt(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.inner.record_attempt(id, attempt, now).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.next_due().await
    }
}

#[async_trait]
impl Lists for Recorder {
    async fn incident(
        &self,
        id: &IncidentId,
        findings_max: usize,
    ) -> Result<StoredIncident, StoreError> {
        self.inner.incident(id, findings_max).await
    }

    async fn incidents(
        &self,
        filter: &IncidentFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredIncident>, StoreError> {
        self.inner.incidents(filter, page).await
    }

    async fn findings(
        &self,
        filter: &FindingFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredFinding>, StoreError> {
        self.inner.findings(filter, page).await
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        self.inner.deliveries(filter, page).await
    }

    async fn unverified(&self, page: &PageRequest) -> Result<Page<Unverified>, StoreError> {
        self.inner.unverified(page).await
    }
}

#[async_trait]
impl Maintenance for Recorder {
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats().await
    }

    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        self.inner.prune(before).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

/// A receiver of webhooks that notes when it first heard of an event.
#[derive(Debug, Default)]
struct Heard(Mutex<HashMap<String, Instant>>);

/// A hub, and what is needed to feed it.
struct Bench {
    running: RunningHub,
    url: String,
    folder: tempfile::TempDir,
}

/// Not in memory: the target folder of this build, unless told otherwise.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let place = std::env::var_os("LOAD_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::tempdir_in(&place).with_context(|| format!("no folder in {}", place.display()))
}

fn sqlite(folder: &tempfile::TempDir, name: &str) -> anyhow::Result<SqliteStore> {
    Ok(SqliteStore::open(&SqliteOptions::at(folder.path().join(name)))?)
}

impl Bench {
    /// Starts a hub over `store` with what `notify` says in TOML.
    async fn start(
        folder: tempfile::TempDir,
        store: Arc<dyn Store>,
        notify: &str,
    ) -> anyhow::Result<Self> {
        let text = format!(
            "[hub]\nlisten = \"127.0.0.1:0\"\n[source.http]\nrequests_per_second_max = 1000000\n{notify}"
        );
        let config: Config = toml::from_str(&text)?;
        let parts = HubParts {
            config,
            store,
            rules: Ruleset::built_in(),
            clock: Arc::new(SystemClock),
            log: Arc::new(Mutex::new(std::io::sink())),
            secrets: Arc::new(Resolver::default()),
        };
        let running = Hub::start(parts).await?;
        let url = format!("http://{}/v1/events", running.address());
        Ok(Self { running, url, folder })
    }
}

/// Sends the bodies, `senders` at a time; returns how long it took until all were acknowledged.
async fn send(url: &str, bodies: Vec<String>, senders: usize) -> anyhow::Result<Duration> {
    let bodies = Arc::new(bodies);
    let next = Arc::new(AtomicUsize::new(0));
    let client = reqwest::Client::new();
    let begin = Instant::now();
    let tasks: Vec<_> = (0..senders)
        .map(|_| {
            let (bodies, next, client) = (Arc::clone(&bodies), Arc::clone(&next), client.clone());
            let url = url.to_owned();
            tokio::spawn(async move {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = client.post(&url).body(body.clone()).send().await?;
                    let status = answer.status();
                    let text = answer.text().await?;
                    ensure!(status.is_success(), "{status}: {text}");
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(begin.elapsed())
}

fn bodies(events: &[Made], size: usize) -> Vec<String> {
    fn list(some: &[Made]) -> Vec<&str> {
        some.iter().map(|one| one.json.as_str()).collect()
    }
    events.chunks(size).map(|some| format!("[{}]", list(some).join(","))).collect()
}

/// Runs events through a hub and returns what it committed, and events a second.
async fn record(events: &[Made], size: usize, senders: usize) -> anyhow::Result<(Vec<Batch>, f64)> {
    let folder = folder()?;
    let recorder =
        Arc::new(Recorder { inner: sqlite(&folder, "hub.db")?, batches: Mutex::default() });
    let store: Arc<dyn Store> = recorder.clone();
    let bench = Bench::start(folder, store, "").await?;
    let took = send(&bench.url, bodies(events, size), senders).await?;
    bench.running.shutdown().await;
    let batches =
        std::mem::take(&mut *recorder.batches.lock().unwrap_or_else(PoisonError::into_inner));
    drop(bench.folder);
    Ok((batches, events.len() as f64 / took.as_secs_f64()))
}

/// Commits the same batches to an empty store, one after the other.
async fn replay(batches: &[Batch]) -> anyhow::Result<Duration> {
    let folder = folder()?;
    let store = sqlite(&folder, "bare.db")?;
    let mut took = Duration::ZERO;
    for batch in batches {
        let batch = batch.clone();
        let begin = Instant::now();
        store.commit(batch).await?;
        took += begin.elapsed();
    }
    Ok(took)
}

async fn throughput() -> anyhow::Result<()> {
    let mut dice = Dice::new(1);
    let span = SignedDuration::from_hours(24 * DAYS);
    let mut events =
        traffic::sessions(&mut dice, EVENTS / 12, ACCOUNTS, 24, Timestamp::now(), span);
    events.truncate(EVENTS);
    dice.shuffle(&mut events);
    println!(
        "durable ingest, {} events of {} B: {} sessions in {ACCOUNTS} accounts",
        events.len(),
        events[0].json.len(),
        EVENTS / 12
    );

    // Without a recorder: copying what goes by costs time.
    let folder = folder()?;
    let store: Arc<dyn Store> = Arc::new(sqlite(&folder, "hub.db")?);
    let bench = Bench::start(folder, store, "").await?;
    let took = send(&bench.url, bodies(&events, BATCH), SENDERS).await?;
    bench.running.shutdown().await;
    let over_http = events.len() as f64 / took.as_secs_f64();

    let (batches, _) = record(&events, BATCH, SENDERS).await?;
    let took = replay(&batches).await?;
    let bare = events.len() as f64 / took.as_secs_f64();
    println!(
        "  over HTTP, {BATCH} a request, {SENDERS} requests at a time {over_http:>10.0} events/s"
    );
    println!(
        "  the same transactions, bare loop over the store     {bare:>10.0} events/s  \
         ({} commits; over HTTP is {:.2} of it, bar 0.50)",
        batches.len(),
        over_http / bare
    );

    Ok(())
}

/// What it gains that waiting callers share a flush: on the disk as it is, and on one whose flush
/// takes as long as that of a disk that is reached over a network.
async fn grouping() -> anyhow::Result<()> {
    let mut dice = Dice::new(3);
    let span = SignedDuration::from_hours(24 * DAYS);
    let mut events =
        traffic::sessions(&mut dice, EVENTS / 12, ACCOUNTS, 24, Timestamp::now(), span);
    events.truncate(EVENTS / 2);
    dice.shuffle(&mut events);
    for flush in [None, Some(SLOW_FLUSH)] {
        disk::set_flush(flush.unwrap_or_default());
        let took = disk::flush_takes(folder()?.path())?;
        println!("group commit, a flush takes {:.2} ms:", took.as_secs_f64() * 1e3);
        let few = &events[..events.len().min(1_500)];
        let (batches, alone) = record(few, 1, 1).await?;
        let before = disk::flushes();
        let took = replay(&batches).await?;
        let flushes = disk::flushes() - before;
        let one_each = few.len() as f64 / took.as_secs_f64();
        println!("  one event a request, one request at a time           {alone:>10.0} events/s");
        println!(
            "  one transaction for each event, bare loop            {one_each:>10.0} events/s  \
             ({:.2} flushes an event)",
            flushes as f64 / few.len() as f64
        );
        for (size, senders) in [(1, LONE_SENDERS), (BATCH, SENDERS), (LARGE_BATCH, SENDERS)] {
            let folder = folder()?;
            let store: Arc<dyn Store> = Arc::new(sqlite(&folder, "hub.db")?);
            let bench = Bench::start(folder, store, "").await?;
            let took = send(&bench.url, bodies(&events, size), senders).await?;
            bench.running.shutdown().await;
            let grouped = events.len() as f64 / took.as_secs_f64();
            println!(
                "  {size:>4} events a request, {senders:>3} requests at a time       {grouped:>10.0} \
                 events/s  ({:.1} times one transaction for each event, bar 10)",
                grouped / one_each
            );
        }
    }
    disk::set_flush(Duration::ZERO);
    Ok(())
}

async fn hear(State(heard): State<Arc<Heard>>, body: String) {
    let now = Instant::now();
    let mut heard = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
    for part in body.split("\"event_id\":\"").skip(1) {
        if let Some((id, _)) = part.split_once('"') {
            heard.entry(id.to_owned()).or_insert(now);
        }
    }
}

async fn receiver() -> anyhow::Result<(SocketAddr, Arc<Heard>)> {
    let heard = Arc::new(Heard::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let routes = Router::new().route("/", post(hear)).with_state(Arc::clone(&heard));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok((address, heard))
}

async fn latency() -> anyhow::Result<()> {
    let (address, heard) = receiver().await?;
    let folder = folder()?;
    let store: Arc<dyn Store> = Arc::new(sqlite(&folder, "hub.db")?);
    let notify = format!(
        "[notify.destination.hook]\nchannel = \"webhook\"\nurl = \"http://{address}/\"\n\
         secrets = [\"whsec_bG9hZC1iZW5jaC1zZWNyZXQtMDEyMzQ1Njc4OTAxMg==\"]\n\
         allow_private = true\nconcurrency = 32\n"
    );
    let bench = Bench::start(folder, store, &notify).await?;
    let client = reqwest::Client::new();
    let mut dice = Dice::new(2);
    let total = STEADY * STEADY_SECS;
    let begin = Instant::now();
    let mut sent: Vec<(String, Instant)> = Vec::with_capacity(total);
    let mut answers = Vec::with_capacity(total);
    for number in 0..total {
        let at = begin + Duration::from_secs_f64(number as f64 / STEADY as f64);
        tokio::time::sleep_until(at.into()).await;
        // Seconds apart, so that no two calls of an account are one session.
        let made = traffic::lone_call(number, Timestamp::now(), &mut dice);
        sent.push((made.id, Instant::now()));
        let request = client.post(&bench.url).body(made.json);
        answers.push(tokio::spawn(async move {
            let begin = Instant::now();
            let ok = request.send().await.is_ok_and(|answer| answer.status().is_success());
            (ok, begin.elapsed())
        }));
    }
    let mut acknowledged = Vec::with_capacity(total);
    for answer in answers {
        let (ok, took) = answer.await?;
        ensure!(ok, "the hub refused an event");
        acknowledged.push(took);
    }
    let end = Instant::now() + Duration::from_secs(30);
    while heard.0.lock().unwrap_or_else(PoisonError::into_inner).len() < total
        && Instant::now() < end
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heard = heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut told: Vec<Duration> = sent
        .iter()
        .filter_map(|(id, at)| heard.get(id).map(|heard| heard.duration_since(*at)))
        .collect();
    println!(
        "latency at {STEADY} events a second for {STEADY_SECS} s, each an incident of its own"
    );
    println!("  told {} of {total}", told.len());
    println!("  event to acknowledged      {}", percentiles(&mut acknowledged));
    println!("  event to loopback receiver {} (bar p99 250 ms)", percentiles(&mut told));
    bench.running.shutdown().await;
    Ok(())
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        let place = (times.len() as f64 * part) as usize;
        times
            .get(place.min(times.len().saturating_sub(1)))
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    };
    format!("p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// Resident memory of this process in MB, where the system tells.
fn memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1_024.0)
}

async fn burst() -> anyhow::Result<()> {
    let (address, _) = receiver().await?;
    let folder = folder()?;
    let store: Arc<dyn Store> = Arc::new(sqlite(&folder, "hub.db")?);
    let notify = format!(
        "[notify.destination.hook]\nchannel = \"webhook\"\nurl = \"http://{address}/\"\n\
         allow_private = true\n"
    );
    let bench = Bench::start(folder, store, &notify).await?;
    let mut dice = Dice::new(3);
    let calls = traffic::burst(&mut dice, BURST, Timestamp::now());
    let bodies = bodies(&calls, BATCH);
    let parts: Vec<Vec<String>> = bodies.chunks(bodies.len() / 5).map(<[String]>::to_vec).collect();
    drop((calls, bodies));
    println!("a burst of {BURST} calls of one session in one account");
    let mut done = 0;
    for part in parts {
        done += part.len() * BATCH;
        let took = send(&bench.url, part, SENDERS).await?;
        let memory = memory_mb().map_or_else(String::new, |mb| format!(", {mb:.0} MB resident"));
        println!("  after {done:>6} calls: {:.2} s for the last part{memory}", took.as_secs_f64());
    }
    let store = bench.running.store();
    let page = PageRequest::default();
    let incidents = store.incidents(&IncidentFilter::default(), &page).await?;
    let deliveries = store.deliveries(&DeliveryFilter::default(), &page).await?;
    let standing = store.stats().await?;
    println!(
        "  {} findings, {} incident(s), {} alert(s)",
        standing.findings,
        incidents.items.len(),
        deliveries.items.len()
    );
    bench.running.shutdown().await;
    Ok(())
}
