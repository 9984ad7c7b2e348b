//! The engine: one task that makes all decisions, in one order, and saves them.
//!
//! It takes all requests that wait, so that many records share one flush of the disk; requests that
//! arrive while a batch is written are part of the next. A request is answered when its batch is on
//! disk. If the batch cannot be saved, nothing of it is, each of its requests fails, and the engine
//! reloads its memory from the store before it continues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rootwatch_core::finding::FindingKey;
use rootwatch_store::StoreError;
use tokio::sync::{Notify, mpsc, watch};

use crate::command::{Command, IngestRequest};
use crate::handle::{EngineHandle, Inner};
use crate::intake::{CheckedRecord, Classifier};
use crate::memory::Memory;
use crate::metrics;
use crate::outcome::IngestError;
use crate::permit::MemoryBudget;
use crate::schedule::Schedule;
use crate::settings::{EngineParts, EngineSettings};
use crate::shutdown;

/// Records of one batch at most.
pub const BATCH_RECORDS_MAX: usize = 4_096;
/// How often the engine checks whether time alone changes something.
const TICK: Duration = Duration::from_secs(1);
/// The same with a shared store, where each check is a request.
const TICK_SHARED: Duration = Duration::from_secs(15);
/// How often a batch is decided again after another writer changed its incidents.
const CONFLICTS_MAX: u32 = 5;
/// How often a batch is decided again after another engine committed first.
const OVERTAKEN_MAX: u32 = 30;
/// Longest pause before that, in milliseconds. Pauses are random within a span that grows up to it.
const OVERTAKEN_PAUSE_MILLIS_MAX: u64 = 400;
/// Shortest and longest pause before the store is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The engine, before it runs.
#[derive(Debug)]
pub struct Engine {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) inner: Arc<Inner>,
    pub(crate) parts: EngineParts,
    pub(crate) memory: Memory,
    /// False if memory may differ from the store.
    pub(crate) in_sync: bool,
    pub(crate) pause: Duration,
    pub(crate) schedule: Schedule,
}

impl Engine {
    /// Creates an engine and its handle, and loads memory from the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new(
        parts: EngineParts,
        settings: EngineSettings,
    ) -> Result<(Self, EngineHandle), StoreError> {
        let (sender, commands) = mpsc::channel(settings.queue_requests_max.max(1));
        let mut memory = Memory::new(&settings);
        memory.load(&*parts.store, &parts.rules, parts.clock.now()).await?;
        let classifier = Arc::new(Classifier {
            rules: Arc::clone(&parts.rules),
            trust: settings.trust.clone(),
            body_bytes_max: settings.body_bytes_max,
        });
        let inner = Arc::new(Inner {
            classifier,
            clock: Arc::clone(&parts.clock),
            settings,
            waiting: MemoryBudget::default(),
            trouble: watch::channel(None).0,
        });
        let ingest = EngineHandle::new(sender, Arc::clone(&inner));
        let pause = Duration::ZERO;
        let schedule = Schedule::at(parts.clock.now());
        let engine = Self { commands, inner, parts, memory, in_sync: true, pause, schedule };
        Ok((engine, ingest))
    }

    /// Sets what the engine wakes when it enqueues deliveries. The worker that waits for it needs the
    /// engine's handle, so it is created after the engine.
    pub fn wakes(&mut self, wake: Arc<Notify>) {
        self.parts.wake = wake;
    }

    /// Runs until `shutdown` is true and the queue is empty.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let is_shared = self.memory.is_shared();
        let ticks = self.inner.settings.ticks;
        let mut tick = tokio::time::interval(if is_shared { TICK_SHARED } else { TICK });
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut closing = false;
        loop {
            // Ticks first: under load there is always another command.
            tokio::select! {
                biased;
                () = shutdown::requested(&mut shutdown), if !closing => {
                    closing = true;
                    // Commands in the queue are still done; new ones are refused.
                    self.commands.close();
                }
                _ = tick.tick(), if ticks && !closing => { let _ = self.tick().await; }
                command = self.commands.recv() => match command {
                    Some(command) => self.work(command).await,
                    None => break,
                },
            }
        }
    }

    /// Does one command; for records, all records that wait behind it, too.
    async fn work(&mut self, first: Command) {
        let mut next = Some(first);
        while let Some(command) = next.take() {
            match command {
                Command::Records(request) => {
                    let mut requests = vec![*request];
                    let mut records = requests[0].checked.len();
                    while records < BATCH_RECORDS_MAX {
                        match self.commands.try_recv() {
                            Ok(Command::Records(request)) => {
                                records += request.checked.len();
                                requests.push(*request);
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.records(requests).await;
                }
                Command::Handle { id, handled, answer } => {
                    let done = self.handle(&id, &handled).await;
                    let _ = answer.send(self.record_result(done));
                }
                Command::SetOutage { destination, failure, answer } => {
                    let mut tries = 0;
                    let done = loop {
                        let done = self.set_outage(&destination, failure.as_deref()).await;
                        if !self.should_retry(&done, &mut tries).await {
                            break done;
                        }
                    };
                    self.in_sync &= done.is_ok();
                    let _ = answer.send(self.record_result(done));
                }
                Command::Raise { alert, only, answer } => {
                    let done = self.raise(*alert, only.as_deref()).await;
                    let _ = answer.send(self.record_result(done));
                }
                Command::Tick { answer } => {
                    let _ = answer.send(self.tick().await);
                }
            }
        }
    }

    async fn records(&mut self, mut requests: Vec<IngestRequest>) {
        let mut tries = 0;
        let done = loop {
            let done = self.decide(&mut requests).await;
            if !self.should_retry(&done, &mut tries).await {
                self.in_sync &= done.is_ok();
                break self.record_result(done);
            }
        };
        let now = self.parts.clock.now();
        match done {
            Ok(answers) => {
                for (request, outcomes) in requests.into_iter().zip(answers) {
                    metrics::saved(&request.source, &outcomes, request.received_at, now);
                    // The caller may have disconnected; its records are saved anyway.
                    let _ = request.answer.send(Ok(outcomes));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for request in requests {
                    let error = StoreError::Unavailable { reason: text.clone() };
                    let _ = request.answer.send(Err(IngestError::Store(error)));
                }
            }
        }
    }

    /// True if a batch should be decided again at once because another writer committed first. Waits
    /// before that, and marks memory for reloading where that is needed.
    pub(crate) async fn should_retry<T>(
        &mut self,
        done: &Result<T, StoreError>,
        tries: &mut u32,
    ) -> bool {
        match done {
            Err(StoreError::Overtaken) if *tries < OVERTAKEN_MAX => {
                // Without a random pause, all engines would collide again.
                let span = (10 << (*tries).min(6)).min(OVERTAKEN_PAUSE_MILLIS_MAX);
                tokio::time::sleep(Duration::from_millis(any_below(span))).await;
            }
            Err(StoreError::Conflict { id }) if *tries < CONFLICTS_MAX => {
                tracing::debug!(%id, "incident changed by another writer; deciding again");
                self.memory.wanted.insert(id.clone());
                self.in_sync = false;
            }
            // Somebody pruned the store meta the hub.
            Err(StoreError::NotFound { .. }) if *tries < CONFLICTS_MAX => self.in_sync = false,
            _ => return false,
        }
        *tries += 1;
        true
    }

    /// Records whether the store failed, and slows down while it does.
    pub(crate) fn record_result<T>(
        &mut self,
        done: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &done {
            Ok(_) | Err(StoreError::NotFound { .. } | StoreError::BadCursor) => {}
            Err(error) => {
                self.schedule.failed_at = Instant::now();
                self.in_sync = false;
                tracing::error!(%error, "the store failed");
                metrics::store_failed();
                self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                self.inner.trouble.send_replace(Some(error.to_string()));
            }
        }
        done
    }

    /// The store works (again).
    pub(crate) fn store_recovered(&mut self) {
        self.pause = Duration::ZERO;
        if self.inner.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
            tracing::info!("the store works again");
        }
    }

    /// Reloads memory if it may differ from the store.
    pub(crate) async fn sync_memory(&mut self) -> Result<(), StoreError> {
        if self.in_sync && self.memory.catch_up(&*self.parts.store).await? {
            return Ok(());
        }
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        let mut memory = Memory::new(&self.inner.settings);
        memory.wanted = std::mem::take(&mut self.memory.wanted);
        memory.load(&*self.parts.store, &self.parts.rules, self.parts.clock.now()).await?;
        memory.require_catch_up();
        self.memory = memory;
        self.in_sync = true;
        Ok(())
    }
}

/// A random number below `end`; not for secrets.
fn any_below(end: u64) -> u64 {
    (rootwatch_core::retry::chance() * end as f64) as u64
}

/// Keys of the findings of requests.
pub(crate) fn keys(requests: &[IngestRequest]) -> Vec<FindingKey> {
    let checked = requests.iter().flat_map(|request| &request.checked);
    checked
        .filter_map(|checked| match checked {
            CheckedRecord::Detected(detected) => Some(detected.finding.key.clone()),
            _ => None,
        })
        .collect()
}
