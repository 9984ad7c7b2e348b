//! The engine: one task that decides everything, in one order, and saves it.
//!
//! It takes all that is waiting, so that many records share one flush of the disk: whoever waits
//! while a batch is being written is part of the next. Nobody is answered before the batch is on
//! disk. When that fails nothing of it was saved, everybody in it is told so, and the engine reads
//! its memory from the store again before it goes on.

mod batch;
mod hand;
mod memory;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use rootwatch_core::alert::{AccountName, Alert, Clock};
use rootwatch_core::decode::Limits;
use rootwatch_core::detect::Detected;
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::IncidentId;
use rootwatch_core::rules::Ruleset;
use rootwatch_core::window::Window;
use rootwatch_notify::{DigestConfig, Notifier};
use rootwatch_store::{Resolution, Store, StoreError, StoredIncident};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::drill::Drill;
use crate::intake::{
    IngestError, Judged, Origin, Outcome, Trust, inflate, is_gzip, judge_detected, judge_text,
};
use crate::metrics;
use memory::Memory;
use upkeep::Upkeep;

/// Records of one batch at most.
pub const BATCH_RECORDS_MAX: usize = 4_096;
/// Bytes of a body above which it is judged on a thread of its own.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// How often the engine looks whether time alone changes something.
const TICK: Duration = Duration::from_secs(1);
/// The same over a store that others decide over, too: each look is a question to it.
const TICK_SHARED: Duration = Duration::from_secs(15);
/// Times that a batch is decided again when another writer changed its incidents.
const CONFLICTS_MAX: u32 = 5;
/// Times that a batch is decided again when another writer of a shared store was faster.
const OVERTAKEN_MAX: u32 = 30;
/// Longest pause before that, in milliseconds: pauses are drawn from a span that grows up to it.
const OVERTAKEN_PAUSE_MILLIS_MAX: u64 = 400;
/// Shortest and longest pause before the store is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Seconds after which whoever finds the queue full is asked to come again.
const BUSY_SECS: u64 = 1;
/// Seconds in which drills from one account and region are one.
const DRILL_SECS: i64 = 60;
/// About what a finding takes in memory, in bytes.
const FINDING_BYTES: usize = 2_048;

/// What the engine needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests that wait at most.
    pub queue_requests_max: usize,
    /// Bytes that wait at most.
    pub queue_bytes_max: usize,
    /// Bytes of one body at most, before and after inflating.
    pub body_bytes_max: usize,
    /// Days for which incidents that are over stay in memory.
    pub memory_days: u32,
    /// Seconds of silence that close an incident.
    pub quiet_after_secs: u32,
    /// Days that the store keeps.
    pub retention_days: u32,
    /// When informational incidents are told together.
    pub digest: DigestConfig,
    /// Names of accounts.
    pub accounts: BTreeMap<String, AccountName>,
    /// Approved root use.
    pub windows: Vec<Window>,
    /// Which records are ours.
    pub trust: Trust,
    /// Whether the engine looks by itself what time alone changes; else [`Ingest::tick`] does.
    pub ticks: bool,
}

/// What the engine works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where it saves.
    pub store: Arc<dyn Store>,
    /// What it looks for.
    pub rules: Arc<Ruleset>,
    /// Whom it tells.
    pub notifier: Arc<Notifier>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Wakes who sends deliveries.
    pub wake: Arc<Notify>,
}

/// A handle to the engine, cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    jobs: mpsc::Sender<Job>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Arc<Ruleset>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    waiting_bytes: AtomicUsize,
    /// Why the store cannot save now.
    trouble: watch::Sender<Option<String>>,
}

/// Bytes that somebody holds of what may wait at one time; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    inner: Arc<Inner>,
    bytes: usize,
    /// It gets no larger when this much waits in all.
    bytes_max: usize,
}

impl Room {
    /// Takes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let bytes_max = self.bytes_max;
        let taken = self.inner.waiting_bytes.fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |waiting| waiting.checked_add(bytes).filter(|sum| *sum <= bytes_max),
        );
        match taken {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(IngestError::Busy { retry_after_secs: BUSY_SECS }),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.inner.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Something for the engine to do.
#[derive(Debug)]
enum Job {
    Records(Box<Parcel>),
    Handle {
        id: IncidentId,
        handled: Resolution,
        answer: oneshot::Sender<Result<StoredIncident, StoreError>>,
    },
    Telling {
        destination: String,
        /// Why it does not work; `None` when it works again.
        broken: Option<String>,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    Raise {
        alert: Box<Alert>,
        only: Option<String>,
        answer: oneshot::Sender<Result<Vec<String>, StoreError>>,
    },
    Tick {
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
}

/// The records of one request.
#[derive(Debug)]
struct Parcel {
    origin: Origin,
    received_at: Timestamp,
    judged: Vec<Judged>,
    position: Option<(String, String)>,
    /// Held until the answer is given.
    _room: Room,
    answer: oneshot::Sender<Result<Vec<Outcome>, IngestError>>,
}

impl Ingest {
    /// Takes any shape of text that [`rootwatch_core::decode::decode_log`] knows, gzip or not, and a
    /// drill that stands alone. Durable when it returns; outcomes are in the order of the records.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take(&self, origin: &Origin, body: Bytes) -> Result<Vec<Outcome>, IngestError> {
        let room = self.room(body.len())?;
        self.take_in(origin, body, room).await
    }

    /// As [`Ingest::take`], for a body whose bytes hold room already.
    pub(crate) async fn take_in(
        &self,
        origin: &Origin,
        body: Bytes,
        mut room: Room,
    ) -> Result<Vec<Outcome>, IngestError> {
        let received_at = self.inner.clock.now();
        let bytes_max = self.inner.settings.body_bytes_max;
        let is_small = body.len() <= INLINE_BYTES_MAX && !is_gzip(&body);
        let inner = Arc::clone(&self.inner);
        let judge = move || {
            let sent = body.len();
            let text = inflate(body, bytes_max)?;
            room.grow(text.len().saturating_sub(sent))?;
            let limits = Limits::default();
            let judged = match Drill::read(&text) {
                Some(Ok(drill)) => Err(drill),
                Some(Err(reason)) => {
                    let reason = reason.to_owned();
                    Ok(vec![Judged::Done(Outcome::Skipped { reason, record: 1, offset: 0 })])
                }
                None => Ok(judge_text(&text, &inner.rules, &inner.settings.trust, &limits)),
            };
            Ok::<_, IngestError>((judged, room))
        };
        let (judged, room) = if is_small {
            judge()?
        } else {
            tokio::task::spawn_blocking(judge).await.map_err(|_| IngestError::Closing)??
        };
        match judged {
            Ok(judged) => self.send(origin, received_at, judged, None, room).await,
            Err(Drill { account, region }) => {
                self.drill(&account, &region).await?;
                Ok(vec![Outcome::Drill { account, region }])
            }
        }
    }

    /// Takes what a scan of a stream found; `position`, the name and mark of how far the source has
    /// been read, is saved in the same transaction.
    ///
    /// # Errors
    /// Nothing was saved.
    pub async fn take_detected(
        &self,
        origin: &Origin,
        detected: Vec<Detected>,
        position: Option<(String, String)>,
    ) -> Result<Vec<Outcome>, IngestError> {
        let received_at = self.inner.clock.now();
        let room = self.room(detected.len() * FINDING_BYTES)?;
        let judged = judge_detected(detected, &self.inner.settings.trust);
        self.send(origin, received_at, judged, position, room).await
    }

    /// Room for this many bytes, which may be the first of more. Refuses what would wait too long,
    /// before any work is done for it.
    pub(crate) fn room(&self, bytes: usize) -> Result<Room, IngestError> {
        if self.jobs.is_closed() {
            return Err(IngestError::Closing);
        }
        if self.jobs.capacity() == 0 {
            return Err(IngestError::Busy { retry_after_secs: BUSY_SECS });
        }
        let bytes_max = self.inner.settings.queue_bytes_max;
        let mut room = Room { inner: Arc::clone(&self.inner), bytes: 0, bytes_max };
        room.grow(bytes)?;
        Ok(room)
    }

    /// Room for somebody who is not known yet: all of them together get half of it, so that those
    /// who are known still find some.
    pub(crate) fn room_for_strangers(&self) -> Result<Room, IngestError> {
        let mut room = self.room(0)?;
        room.bytes_max /= 2;
        Ok(room)
    }

    /// Bytes of one body at most.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.inner.settings.body_bytes_max
    }

    /// How full the queue is, 0 to 1.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        let settings = &self.inner.settings;
        let requests = self.jobs.max_capacity().saturating_sub(self.jobs.capacity()) as f64
            / self.jobs.max_capacity().max(1) as f64;
        let bytes = self.inner.waiting_bytes.load(Ordering::Relaxed) as f64
            / settings.queue_bytes_max.max(1) as f64;
        requests.max(bytes).min(1.0)
    }

    /// Why the engine cannot save now; `None` when it can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.jobs.is_closed() {
            return Some("the engine has ended".to_owned());
        }
        self.inner.trouble.borrow().clone()
    }

    /// Acknowledges or resolves an incident, and tells of it.
    ///
    /// # Errors
    /// When there is no such incident, or the store cannot save.
    pub async fn handle(
        &self,
        id: IncidentId,
        handled: Resolution,
    ) -> Result<StoredIncident, StoreError> {
        self.ask(|answer| Job::Handle { id, handled, answer }).await
    }

    /// Notes that deliveries to a destination fail for good (`Some` says why), or come through
    /// again, as an incident of our own.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn telling(
        &self,
        destination: String,
        broken: Option<String>,
    ) -> Result<(), StoreError> {
        self.ask(|answer| Job::Telling { destination, broken, answer }).await
    }

    /// Owes an alert that is about no incident to whom it is routed, or to one of them only;
    /// returns the destinations.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn raise(
        &self,
        alert: Alert,
        only: Option<String>,
    ) -> Result<Vec<String>, StoreError> {
        self.ask(|answer| Job::Raise { alert: Box::new(alert), only, answer }).await
    }

    /// Does what time alone asks for: incidents end in silence, digests fall due, old things are let
    /// go of. For a hub whose clock is elsewhere ([`Settings::ticks`] is false).
    ///
    /// # Errors
    /// When the store cannot be read or cannot save.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.ask(|answer| Job::Tick { answer }).await
    }

    /// Owes a test alert, since a drill came through from this account and region. One a minute and
    /// place is enough: who may send drills may not flood people.
    ///
    /// # Errors
    /// When the store cannot save.
    pub async fn drill(&self, account: &str, region: &str) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let by = format!("a drill that came through from account {account} in {region}");
        let mut alert = rootwatch_notify::sample::test(&by, now);
        alert.id = format!("drill-{account}-{region}-{}", now.as_second() / DRILL_SECS);
        self.raise(alert, None).await.map(drop)
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let closing = || StoreError::Unavailable { reason: "the hub is closing".to_owned() };
        let (answer, wait) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| closing())?;
        wait.await.map_err(|_| closing())?
    }

    async fn send(
        &self,
        origin: &Origin,
        received_at: Timestamp,
        judged: Vec<Judged>,
        position: Option<(String, String)>,
        room: Room,
    ) -> Result<Vec<Outcome>, IngestError> {
        metrics::received(origin, &judged, received_at);
        let needs_engine =
            position.is_some() || judged.iter().any(|judged| !matches!(judged, Judged::Done(_)));
        if !needs_engine {
            let done = |judged| match judged {
                Judged::Done(outcome) => Some(outcome),
                _ => None,
            };
            return Ok(judged.into_iter().filter_map(done).collect());
        }
        let (answer, wait) = oneshot::channel();
        let origin = origin.clone();
        let parcel = Parcel { origin, received_at, judged, position, _room: room, answer };
        self.jobs.try_send(Job::Records(Box::new(parcel))).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngestError::Busy { retry_after_secs: BUSY_SECS },
            mpsc::error::TrySendError::Closed(_) => IngestError::Closing,
        })?;
        wait.await.map_err(|_| IngestError::Closing)?
    }
}

/// The engine, before it runs.
#[derive(Debug)]
pub struct Engine {
    jobs: mpsc::Receiver<Job>,
    inner: Arc<Inner>,
    parts: Parts,
    memory: Memory,
    /// False when memory may differ from the store.
    in_step: bool,
    pause: Duration,
    upkeep: Upkeep,
}

impl Engine {
    /// An engine and the handle to it. Reads from the store what it has to know.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new(parts: Parts, settings: Settings) -> Result<(Self, Ingest), StoreError> {
        let (sender, jobs) = mpsc::channel(settings.queue_requests_max.max(1));
        let mut memory = Memory::new(&settings);
        memory.load(&*parts.store, &parts.rules, parts.clock.now()).await?;
        let inner = Arc::new(Inner {
            rules: Arc::clone(&parts.rules),
            clock: Arc::clone(&parts.clock),
            settings,
            waiting_bytes: AtomicUsize::new(0),
            trouble: watch::channel(None).0,
        });
        let ingest = Ingest { jobs: sender, inner: Arc::clone(&inner) };
        let pause = Duration::ZERO;
        let upkeep = Upkeep::at(parts.clock.now());
        let engine = Self { jobs, inner, parts, memory, in_step: true, pause, upkeep };
        Ok((engine, ingest))
    }

    /// Wakes this from now on when something is owed: whoever sends deliveries needs the engine's
    /// handle before it can be made.
    pub fn wakes(&mut self, wake: Arc<Notify>) {
        self.parts.wake = wake;
    }

    /// Works until `shutdown` is true and nothing waits any more.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let is_shared = self.memory.generation.is_some();
        let ticks = self.inner.settings.ticks;
        let mut tick = tokio::time::interval(if is_shared { TICK_SHARED } else { TICK });
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut closing = false;
        loop {
            // What is due goes first: there may always be another job.
            tokio::select! {
                biased;
                // Whoever held the other end is gone: that is a shutdown too.
                () = crate::ended(&mut shutdown), if !closing => {
                    closing = true;
                    // What is in the queue is still done; nothing new comes in.
                    self.jobs.close();
                }
                _ = tick.tick(), if ticks && !closing => { let _ = self.tick().await; }
                job = self.jobs.recv() => match job {
                    Some(job) => self.work(job).await,
                    None => break,
                },
            }
        }
    }

    /// Does one job, and all records that wait behind it.
    async fn work(&mut self, first: Job) {
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Records(parcel) => {
                    let mut parcels = vec![*parcel];
                    let mut records = parcels[0].judged.len();
                    while records < BATCH_RECORDS_MAX {
                        match self.jobs.try_recv() {
                            Ok(Job::Records(parcel)) => {
                                records += parcel.judged.len();
                                parcels.push(*parcel);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.records(parcels).await;
                }
                Job::Handle { id, handled, answer } => {
                    let done = self.handle(&id, &handled).await;
                    let _ = answer.send(self.note(done));
                }
                Job::Telling { destination, broken, answer } => {
                    let mut tries = 0;
                    let done = loop {
                        let done = self.telling(&destination, broken.as_deref()).await;
                        if !self.is_to_try_again(&done, &mut tries).await {
                            break done;
                        }
                    };
                    self.in_step &= done.is_ok();
                    let _ = answer.send(self.note(done));
                }
                Job::Raise { alert, only, answer } => {
                    let done = self.raise(*alert, only.as_deref()).await;
                    let _ = answer.send(self.note(done));
                }
                Job::Tick { answer } => {
                    let _ = answer.send(self.tick().await);
                }
            }
        }
    }

    async fn records(&mut self, mut parcels: Vec<Parcel>) {
        let mut tries = 0;
        let done = loop {
            let done = self.decide(&mut parcels).await;
            if !self.is_to_try_again(&done, &mut tries).await {
                self.in_step &= done.is_ok();
                break self.note(done);
            }
        };
        let now = self.parts.clock.now();
        match done {
            Ok(answers) => {
                for (parcel, outcomes) in parcels.into_iter().zip(answers) {
                    metrics::saved(&parcel.origin, &outcomes, parcel.received_at, now);
                    // Who asked may have gone: what they sent is saved.
                    let _ = parcel.answer.send(Ok(outcomes));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for parcel in parcels {
                    let error = StoreError::Unavailable { reason: text.clone() };
                    let _ = parcel.answer.send(Err(IngestError::Store(error)));
                }
            }
        }
    }

    /// True when what could not be saved is worth deciding again at once: another writer was faster.
    /// Memory is in step again, or read anew, before that.
    async fn is_to_try_again<T>(&mut self, done: &Result<T, StoreError>, tries: &mut u32) -> bool {
        match done {
            Err(StoreError::Overtaken) if *tries < OVERTAKEN_MAX => {
                // Others would be faster again and again, were all to come back at the same time.
                let span = (10 << (*tries).min(6)).min(OVERTAKEN_PAUSE_MILLIS_MAX);
                tokio::time::sleep(Duration::from_millis(any_below(span))).await;
            }
            Err(StoreError::Conflict { id }) if *tries < CONFLICTS_MAX => {
                tracing::debug!(%id, "decided again");
                self.memory.wanted.insert(id.clone());
                self.in_step = false;
            }
            // Somebody pruned the store beside the hub.
            Err(StoreError::NotFound { .. }) if *tries < CONFLICTS_MAX => self.in_step = false,
            _ => return false,
        }
        *tries += 1;
        true
    }

    /// Remembers whether the store works, and slows down while it does not.
    fn note<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match &done {
            Ok(_) | Err(StoreError::NotFound { .. } | StoreError::BadCursor) => {}
            Err(error) => {
                self.upkeep.failed_at = Instant::now();
                self.in_step = false;
                tracing::error!(%error, "the store could not save");
                metrics::store_failed();
                self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                self.inner.trouble.send_replace(Some(error.to_string()));
            }
        }
        done
    }

    /// The store has saved something.
    fn works(&mut self) {
        self.pause = Duration::ZERO;
        if self.inner.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
            tracing::info!("the store saves again");
        }
    }

    /// Reads memory again when it may differ from the store.
    async fn step(&mut self) -> Result<(), StoreError> {
        if self.in_step && self.memory.catch_up(&*self.parts.store).await? {
            return Ok(());
        }
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        let mut memory = Memory::new(&self.inner.settings);
        memory.wanted = std::mem::take(&mut self.memory.wanted);
        memory.load(&*self.parts.store, &self.parts.rules, self.parts.clock.now()).await?;
        memory.is_new = false;
        self.memory = memory;
        self.in_step = true;
        Ok(())
    }
}

/// Some number below this one, another each time; not for secrets.
fn any_below(end: u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) % end.max(1)
}

/// Keys of the findings that parcels bring.
fn keys(parcels: &[Parcel]) -> Vec<FindingKey> {
    let judged = parcels.iter().flat_map(|parcel| &parcel.judged);
    judged
        .filter_map(|judged| match judged {
            Judged::Detected(detected) => Some(detected.finding.key.clone()),
            _ => None,
        })
        .collect()
}
