//! The worker: leases pending deliveries, sends them, retries, fails and escalates them.
//!
//! Each attempt runs in its own task, so that a destination that hangs delays no other. The task also
//! saves the outcome, so that many outcomes share one flush of the disk. The worker itself only
//! leases, keeps destinations within their limits, and waits.

mod attempt;
mod destination_queue;
mod retry;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::Clock;
use rootwatch_core::delivery::{Delivery, DeliveryId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::attempt::{AttemptContext, AttemptOutcome, FinishedAttempt};
use self::destination_queue::DestinationQueue;
use self::retry::RETRY_AFTER_MAX;
use crate::outage::{self, Outages};
use crate::{Notifier, Outbox, OutboxError};

/// How long a delivery is leased: longer than an attempt may take, including its wait in the queue
/// and the saving of its outcome.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// Maximum number of deliveries in one lease.
const LEASE_MAX: usize = 128;
/// Longest pause between two leases.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Shortest pause when a due delivery cannot be leased now: its destination is busy, or an older
/// message of its thread is not finished. When that changes, the worker leases at once anyway.
const WAIT_BUSY: Duration = Duration::from_millis(250);
/// A due time further away than any retry: the clock was set back.
const FAR: SignedDuration = SignedDuration::from_hours(2);
const _: () = assert!(FAR.as_secs() > RETRY_AFTER_MAX.as_secs());
/// How long running attempts may take after a shutdown was requested.
const FINISH: Duration = Duration::from_secs(15);

/// Delivers what an outbox holds.
#[derive(Debug)]
pub struct Worker {
    context: AttemptContext,
    waker: Arc<Notify>,
    queues: HashMap<String, DestinationQueue>,
    /// Deliveries that this worker has leased: never started twice, even if a lease ran out meanwhile.
    leased: HashSet<DeliveryId>,
    running: JoinSet<FinishedAttempt>,
    /// Set after the clock was set back: the next lease uses this time.
    lease_as_of: Option<Timestamp>,
    is_restored: bool,
}

/// The counts of one [`Worker::tick`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Deliveries that were leased.
    pub leased: usize,
    /// Deliveries that were delivered.
    pub delivered: usize,
    /// Deliveries to be retried.
    pub again: usize,
    /// Deliveries that failed permanently.
    pub failed: usize,
    /// How long nothing is due; `None` if all due deliveries were sent and none is known to be left.
    pub pause: Option<Duration>,
}

/// The result of leasing due deliveries.
#[derive(Debug, Clone, Copy)]
struct LeaseResult {
    leased: usize,
    /// True if some destination was busy.
    has_busy: bool,
}

impl LeaseResult {
    /// True if more deliveries may be due.
    fn is_full(self) -> bool {
        self.leased == LEASE_MAX
    }
}

impl Worker {
    /// Creates a worker; [`Worker::run`] or [`Worker::tick`] starts it.
    #[must_use]
    pub fn new(notifier: Arc<Notifier>, outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>) -> Self {
        let outages = Arc::new(Outages::new(Arc::clone(&outbox)));
        Self {
            context: AttemptContext { notifier, outbox, clock, outages, readied: Arc::default() },
            waker: Arc::default(),
            queues: HashMap::new(),
            leased: HashSet::new(),
            running: JoinSet::new(),
            lease_as_of: None,
            is_restored: false,
        }
    }

    /// Wakes the worker: call `notify_one` after enqueuing a delivery.
    #[must_use]
    pub fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.waker)
    }

    /// Runs until `shutdown` is true, then waits up to 15 seconds for running attempts.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let waker = self.waker();
        let ended = async move {
            // An error means that the sender is gone, which is a shutdown, too.
            let _ = shutdown.wait_for(|end| *end).await;
        };
        tokio::pin!(ended);
        let mut pause = Duration::ZERO;
        loop {
            // Before the lease, so that a delivery enqueued during it is not missed.
            let woken = waker.notified();
            let wait = match self.lease().await {
                Ok(leased) => {
                    pause = Duration::ZERO;
                    self.start_attempts();
                    if leased.is_full() { Duration::ZERO } else { self.wait().await }
                }
                Err(error) => {
                    pause = (pause * 2).clamp(WAIT_BUSY, WAIT_MAX);
                    tracing::warn!(%error, retry_ms = pause.as_millis(), "cannot read the outbox");
                    pause
                }
            };
            tokio::select! {
                () = &mut ended => break,
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    self.finish_attempt(done.ok()).await;
                    while let Some(done) = self.running.try_join_next() {
                        self.finish_attempt(done.ok()).await;
                    }
                }
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.finish().await;
    }

    /// One round, for a program that is called instead of running all the time: leases all due
    /// deliveries, sends them, and returns when each one is delivered, failed or to be retried.
    pub async fn tick(&mut self) -> Round {
        let mut round = Round::default();
        // Whether more may be due, and whether something due may be left at the end.
        let (mut may_lease, mut may_leave) = (true, false);
        loop {
            if std::mem::take(&mut may_lease) {
                match self.lease().await {
                    Ok(result) => {
                        round.leased += result.leased;
                        may_leave = result.has_busy;
                        may_lease = result.is_full();
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the outbox");
                        may_leave = true;
                    }
                }
            }
            self.start_attempts();
            let Some(done) = self.running.join_next().await else {
                if may_lease {
                    continue;
                }
                break;
            };
            // A busy destination may be free now.
            may_lease |= self.context.readied.swap(false, Ordering::Relaxed) || may_leave;
            let Ok(done) = done else { continue };
            match done.outcome {
                AttemptOutcome::Delivered => round.delivered += 1,
                AttemptOutcome::RetryLater(_) | AttemptOutcome::Returned => round.again += 1,
                AttemptOutcome::Failed | AttemptOutcome::Expired => round.failed += 1,
            }
            self.finish_attempt(Some(done)).await;
        }
        let waits = self.queues.values().any(|queue| !queue.waiting.is_empty());
        if may_leave || waits || round.leased == 0 || round.again > 0 {
            round.pause = Some(self.wait().await);
        }
        round
    }

    /// Restores the circuit breakers and outages that the last process saved.
    async fn restore(&mut self) -> Result<(), OutboxError> {
        let names: Vec<String> = self.context.notifier.destinations().map(str::to_owned).collect();
        let of = |name: &String| [breaker_note(name), outage::note_name(name)];
        let asked: Vec<String> = names.iter().flat_map(of).collect();
        let notes = self.context.outbox.notes(&asked).await?;
        for name in names {
            if let Some(note) = notes.get(&breaker_note(&name)) {
                self.queue(&name).restore(note);
            }
            let outage = notes.get(&outage::note_name(&name));
            self.context.outages.restore(&name, outage.map(String::as_str));
        }
        self.is_restored = true;
        Ok(())
    }

    fn queue(&mut self, destination: &str) -> &mut DestinationQueue {
        let notifier = &self.context.notifier;
        self.queues
            .entry(destination.to_owned())
            .or_insert_with(|| DestinationQueue::new(notifier.limits(destination)))
    }

    /// Leases due deliveries of destinations that are not busy.
    async fn lease(&mut self) -> Result<LeaseResult, OutboxError> {
        if !self.is_restored {
            self.restore().await?;
        }
        let now = self.context.clock.now();
        let is_busy = |(_, queue): &(&String, &DestinationQueue)| queue.is_busy(now);
        let busy: Vec<String> =
            self.queues.iter().filter(is_busy).map(|(name, _)| name.clone()).collect();
        let as_of = self.lease_as_of.take().unwrap_or(now);
        let until = now.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
        let leased = self.context.outbox.lease(as_of, until, LEASE_MAX, &busy).await?;
        let result = LeaseResult { leased: leased.len(), has_busy: !busy.is_empty() };
        for delivery in leased {
            if !self.leased.insert(delivery.id.clone()) {
                // Its lease ran out while it is still being sent or saved.
                continue;
            }
            let is_failing = self.queue(&delivery.destination).is_failing();
            if self.context.is_expired(&delivery, is_failing) {
                self.running.spawn(self.context.clone().expire(delivery));
            } else {
                let queue = self.queue(&delivery.destination);
                queue.waiting.push_back((delivery, Instant::now()));
            }
        }
        Ok(result)
    }

    /// Starts every attempt that may start now.
    fn start_attempts(&mut self) {
        let now = self.context.clock.now();
        for queue in self.queues.values_mut() {
            for delivery in queue.overdue() {
                self.running.spawn(self.context.clone().return_unsent(delivery, now));
            }
            while let Some(delivery) = queue.next(now) {
                queue.running += 1;
                self.running.spawn(self.context.clone().attempt(delivery));
            }
        }
    }

    /// How long until something is due or a destination becomes available.
    async fn wait(&mut self) -> Duration {
        let now = self.context.clock.now();
        let due = match self.context.outbox.next_due().await {
            Ok(Some(at)) => {
                let left = at.duration_since(now);
                if left > FAR {
                    self.lease_as_of = Some(at);
                    return WAIT_BUSY;
                }
                // A delivery that is due and was not leased waits for its destination or its thread.
                Duration::try_from(left).ok().filter(|left| !left.is_zero()).unwrap_or(WAIT_BUSY)
            }
            Ok(None) => WAIT_MAX,
            Err(_) => WAIT_BUSY,
        };
        let queues = self.queues.values().filter_map(|queue| queue.available_in(now)).min();
        due.min(queues.unwrap_or(WAIT_MAX)).min(WAIT_MAX)
    }

    async fn finish_attempt(&mut self, finished: Option<FinishedAttempt>) {
        // Attempts catch panics of channels: no other task ends without a result.
        let Some(FinishedAttempt { id, destination, outcome }) = finished else { return };
        self.leased.remove(&id);
        let now = self.context.clock.now();
        let name = breaker_note(&destination);
        let Some(queue) = self.queues.get_mut(&destination) else { return };
        match outcome {
            AttemptOutcome::Returned | AttemptOutcome::Expired => return,
            AttemptOutcome::Delivered => {
                queue.running = queue.running.saturating_sub(1);
                if !queue.record_success() {
                    return;
                }
                tracing::info!(destination, "destination works again");
            }
            AttemptOutcome::RetryLater(_) | AttemptOutcome::Failed => {
                queue.running = queue.running.saturating_sub(1);
                if let AttemptOutcome::RetryLater(Some(pause)) = outcome {
                    queue.pause_on_request(now, pause);
                }
                let Some(pause) = queue.record_failure(now) else { return };
                tracing::warn!(
                    destination,
                    pause_secs = pause.as_secs(),
                    "destination paused after repeated failures"
                );
                let again = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
                for (delivery, _) in queue.waiting.drain(..) {
                    self.running.spawn(self.context.clone().return_unsent(delivery, again));
                }
            }
        }
        let text = queue.breaker_state();
        if let Err(error) = self.context.outbox.put_note(&name, text.as_deref()).await {
            tracing::warn!(%error, "cannot save the circuit breaker; a restart would forget that the destination is paused");
        }
    }

    /// Waits for running attempts and returns deliveries whose attempt has not started.
    async fn finish(mut self) {
        let now = self.context.clock.now();
        let waiting: Vec<Delivery> = self
            .queues
            .values_mut()
            .flat_map(|queue| queue.waiting.drain(..))
            .map(|(delivery, _)| delivery)
            .collect();
        for delivery in waiting {
            self.running.spawn(self.context.clone().return_unsent(delivery, now));
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH, all).await.is_err() {
            tracing::warn!(
                "attempts still running at shutdown; their messages are sent again after the restart"
            );
        }
    }
}

/// The name of the note that keeps a destination's circuit breaker.
fn breaker_note(destination: &str) -> String {
    format!("breaker:{destination}")
}
