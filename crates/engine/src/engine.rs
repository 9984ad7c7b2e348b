//! The engine: one task that decides everything, in one order, and saves it.
//!
//! It takes all that is waiting, so that many records share one flush of the disk: whoever waits
//! while a batch is being written is part of the next. Nobody is answered before the batch is on
//! disk. When that fails nothing of it was saved, everybody in it is told so, and the engine reads
//! its memory from the store again before it goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rootwatch_core::finding::FindingKey;
use rootwatch_store::StoreError;
use tokio::sync::{Notify, mpsc, watch};

use crate::command::{Job, Parcel};
use crate::handle::{Ingest, Inner};
use crate::intake::{Classifier, Judged};
use crate::memory::Memory;
use crate::metrics;
use crate::outcome::IngestError;
use crate::permit::MemoryBudget;
use crate::schedule::Upkeep;
use crate::settings::{Parts, Settings};
use crate::shutdown;

/// Records of one batch at most.
pub const BATCH_RECORDS_MAX: usize = 4_096;
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

/// The engine, before it runs.
#[derive(Debug)]
pub struct Engine {
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) inner: Arc<Inner>,
    pub(crate) parts: Parts,
    pub(crate) memory: Memory,
    /// False when memory may differ from the store.
    pub(crate) in_step: bool,
    pub(crate) pause: Duration,
    pub(crate) upkeep: Upkeep,
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
        let ingest = Ingest::new(sender, Arc::clone(&inner));
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
                () = shutdown::requested(&mut shutdown), if !closing => {
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
    pub(crate) async fn is_to_try_again<T>(
        &mut self,
        done: &Result<T, StoreError>,
        tries: &mut u32,
    ) -> bool {
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
    pub(crate) fn note<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
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
    pub(crate) fn works(&mut self) {
        self.pause = Duration::ZERO;
        if self.inner.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
            tracing::info!("the store saves again");
        }
    }

    /// Reads memory again when it may differ from the store.
    pub(crate) async fn step(&mut self) -> Result<(), StoreError> {
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
    (rootwatch_core::retry::chance() * end as f64) as u64
}

/// Keys of the findings that parcels bring.
pub(crate) fn keys(parcels: &[Parcel]) -> Vec<FindingKey> {
    let judged = parcels.iter().flat_map(|parcel| &parcel.judged);
    judged
        .filter_map(|judged| match judged {
            Judged::Detected(detected) => Some(detected.finding.key.clone()),
            _ => None,
        })
        .collect()
}
