//! The worker: what is owed is leased, sent, tried again, given up, and stood in for.
//!
//! Each attempt runs as a task of its own, so that a destination that hangs delays no other; what
//! it came to is saved by that task, so that many share a flush of the disk. The worker itself
//! only leases, keeps destinations within their limits, and waits.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{AlertKind, Clock, Delivery};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::telling;
use crate::{Attempt, Notifier, Outbox, OutboxError, Sent};

/// How long a delivery is leased. Longer than an attempt may take, waiting for its turn included.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// An attempt that could not begin this long after its lease began is given back.
const TURN: Duration = Duration::from_secs(25);
/// Deliveries that are leased at one time at most.
const LEASE_MAX: usize = 128;
/// Deliveries of one destination that wait for their turn at most, before others are leased.
const WAITING_MAX: usize = 64;
/// The first pause before another try, and the longest.
const BACK_OFF: SignedDuration = SignedDuration::from_secs(1);
const BACK_OFF_MAX: SignedDuration = SignedDuration::from_mins(10);
/// The longest pause that a destination may ask for.
const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Failures in a row that open a destination's breaker, and how long it stays open at first and at
/// most: one attempt then shows whether it works again.
const BREAKER_FAILURES: u32 = 5;
const BREAKER: Duration = Duration::from_secs(5);
const BREAKER_MAX: Duration = Duration::from_secs(300);
/// Longest wait without looking: a clock that was set back must not keep what is due for ever.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Shortest wait when something is due that cannot be leased now.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// How long attempts that were begun may take when the worker is asked to end.
const FINISH: Duration = Duration::from_secs(15);

/// Empties an outbox.
#[derive(Debug)]
pub struct Worker {
    notifier: Arc<Notifier>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    waker: Arc<Notify>,
    lanes: HashMap<String, Lane>,
    running: JoinSet<Ended>,
}

/// What one round of [`Worker::tick`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Deliveries that were leased.
    pub leased: usize,
    /// Delivered.
    pub delivered: usize,
    /// To be tried again.
    pub again: usize,
    /// Given up.
    pub failed: usize,
}

/// One destination.
#[derive(Debug)]
struct Lane {
    concurrency: usize,
    rate: Option<DefaultDirectRateLimiter>,
    waiting: VecDeque<(Delivery, Instant)>,
    running: usize,
    failures: u32,
    /// The breaker: no attempts before then.
    closed_until: Option<Instant>,
    /// The rate limit: no attempts before then.
    slow_until: Option<Instant>,
}

/// What a task came to.
#[derive(Debug)]
struct Ended {
    destination: String,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Delivered,
    Again,
    Failed,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(notifier: Arc<Notifier>, outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>) -> Self {
        Self {
            notifier,
            outbox,
            clock,
            waker: Arc::default(),
            lanes: HashMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Wakes the worker at once: call `notify_one` whenever something new is owed.
    #[must_use]
    pub fn waker(&self) -> Arc<Notify> {
        Arc::clone(&self.waker)
    }

    /// Works until `shutdown` says true, then waits for what is being sent, within a bound.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let waker = self.waker();
        let ended = async move {
            // Who could ask being gone is a shutdown, too.
            let _ = shutdown.wait_for(|end| *end).await;
        };
        tokio::pin!(ended);
        let mut pause = Duration::ZERO;
        loop {
            // Before the look, so that what is owed during it is not missed.
            let woken = waker.notified();
            let wait = match self.lease().await {
                Ok(leased) => {
                    pause = Duration::ZERO;
                    self.begin();
                    if leased == LEASE_MAX { Duration::ZERO } else { self.wait().await }
                }
                Err(error) => {
                    pause = (pause * 2).clamp(WAIT_MIN, WAIT_MAX);
                    tracing::warn!(%error, "what is owed cannot be looked at");
                    pause
                }
            };
            tokio::select! {
                () = &mut ended => break,
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    self.note(done.ok());
                    while let Some(done) = self.running.try_join_next() {
                        self.note(done.ok());
                    }
                }
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.finish().await;
    }

    /// One round, for tests with a clock of their own: leases all that is due, sends it, and
    /// returns when all of it has ended or is to be tried again.
    pub async fn tick(&mut self) -> Round {
        let mut round = Round::default();
        loop {
            let leased = self.lease().await.unwrap_or_default();
            round.leased += leased;
            self.begin();
            let Some(done) = self.running.join_next().await else { break };
            let Ok(done) = done else { continue };
            match done.what {
                What::Delivered => round.delivered += 1,
                What::Again => round.again += 1,
                What::Failed => round.failed += 1,
            }
            self.note(Some(done));
        }
        round
    }

    /// Leases what is due for destinations that can take it; says how many there were.
    async fn lease(&mut self) -> Result<usize, OutboxError> {
        let busy: Vec<String> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.is_busy())
            .map(|(name, _)| name.clone())
            .collect();
        let now = self.clock.now();
        let until = now.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
        let leased = self.outbox.lease(now, until, LEASE_MAX, &busy).await?;
        let count = leased.len();
        for delivery in leased {
            let lane = self
                .lanes
                .entry(delivery.destination.clone())
                .or_insert_with(|| Lane::new(self.notifier.limits(&delivery.destination)));
            lane.waiting.push_back((delivery, Instant::now()));
        }
        Ok(count)
    }

    /// Begins all attempts whose turn it is.
    fn begin(&mut self) {
        for lane in self.lanes.values_mut() {
            while let Some((delivery, since)) = lane.next() {
                lane.running += 1;
                let attempt = OneAttempt {
                    notifier: Arc::clone(&self.notifier),
                    outbox: Arc::clone(&self.outbox),
                    clock: Arc::clone(&self.clock),
                    delivery,
                };
                let is_late = since.elapsed() > TURN;
                self.running.spawn(attempt.run(is_late));
            }
        }
    }

    /// How long nothing will happen by itself.
    async fn wait(&self) -> Duration {
        let now = self.clock.now();
        let due = match self.outbox.next_due().await {
            Ok(Some(at)) => Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO),
            Ok(None) => WAIT_MAX,
            Err(_) => WAIT_MIN,
        };
        // What is due now and was not leased waits for a lane or for its turn in a thread.
        let due = due.max(WAIT_MIN);
        let lanes = self.lanes.values().filter_map(Lane::free_in).min();
        due.min(lanes.unwrap_or(WAIT_MAX)).min(WAIT_MAX)
    }

    fn note(&mut self, ended: Option<Ended>) {
        let Some(ended) = ended else { return };
        let Some(lane) = self.lanes.get_mut(&ended.destination) else { return };
        lane.running = lane.running.saturating_sub(1);
        if ended.what == What::Delivered {
            if lane.failures >= BREAKER_FAILURES {
                tracing::info!(destination = ended.destination, "messages come through again");
            }
            lane.failures = 0;
            lane.closed_until = None;
            return;
        }
        lane.failures = lane.failures.saturating_add(1);
        if lane.failures >= BREAKER_FAILURES {
            let doubled = (lane.failures - BREAKER_FAILURES).min(8);
            let pause = (BREAKER * 2_u32.pow(doubled)).min(BREAKER_MAX);
            lane.closed_until = Some(Instant::now() + pause);
            tracing::warn!(
                destination = ended.destination,
                failures = lane.failures,
                pause_secs = pause.as_secs(),
                "a destination is left alone for a while"
            );
        }
    }

    /// Waits for what is being sent; gives back what was not begun.
    async fn finish(mut self) {
        let now = self.clock.now();
        for lane in self.lanes.values_mut() {
            for (delivery, _) in lane.waiting.drain(..) {
                let error = "the hub was ending".to_owned();
                let back = Attempt::Again { at: now, error, not_begun: true };
                if self.outbox.attempted(&delivery.id, back, now).await.is_err() {
                    // Its lease runs out.
                    break;
                }
            }
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH, all).await.is_err() {
            tracing::warn!("some messages were being sent at the end; they are sent again later");
        }
    }
}

impl Lane {
    fn new((concurrency, rate_per_minute): (usize, u32)) -> Self {
        let rate = NonZeroU32::new(rate_per_minute)
            .map(|rate| RateLimiter::direct(Quota::per_minute(rate)));
        Self {
            concurrency: concurrency.max(1),
            rate,
            waiting: VecDeque::new(),
            running: 0,
            failures: 0,
            closed_until: None,
            slow_until: None,
        }
    }

    /// True when no more should be leased for it now.
    fn is_busy(&self) -> bool {
        let now = Instant::now();
        let is_shut = |until: Option<Instant>| until.is_some_and(|until| until > now);
        is_shut(self.closed_until)
            || is_shut(self.slow_until)
            || self.waiting.len() >= WAITING_MAX
            // While a breaker is half open one attempt is enough.
            || (self.failures >= BREAKER_FAILURES && self.running + self.waiting.len() > 0)
    }

    /// The next attempt that may begin now.
    fn next(&mut self) -> Option<(Delivery, Instant)> {
        let half_open = self.failures >= BREAKER_FAILURES;
        let room = if half_open { 1 } else { self.concurrency };
        if self.running >= room {
            return None;
        }
        let (_, since) = self.waiting.front()?;
        // What waited too long is handed out to be given back.
        if since.elapsed() <= TURN
            && let Some(rate) = &self.rate
            && let Err(until) = rate.check()
        {
            let wait = until.wait_time_from(DefaultClock::default().now());
            self.slow_until = Some(Instant::now() + wait);
            return None;
        }
        self.slow_until = None;
        self.waiting.pop_front()
    }

    /// When something that waits here may begin.
    fn free_in(&self) -> Option<Duration> {
        let until = [self.closed_until, self.slow_until].into_iter().flatten().max()?;
        Some(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
    }
}

/// One attempt to make one delivery.
struct OneAttempt {
    notifier: Arc<Notifier>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    delivery: Delivery,
}

impl OneAttempt {
    async fn run(self, is_late: bool) -> Ended {
        let destination = self.delivery.destination.clone();
        let now = self.clock.now();
        if is_late {
            let error = "its turn did not come in time".to_owned();
            self.save(Attempt::Again { at: now, error, not_begun: true }).await;
            return Ended { destination, what: What::Again };
        }
        let age = now.duration_since(self.delivery.created_at);
        let sent = if age > self.notifier.age_max(&destination) && self.delivery.attempts > 1 {
            let last = self.delivery.last_error.as_deref().unwrap_or("it was never tried");
            let hours = age.as_hours();
            Sent::Rejected { error: format!("given up after {hours} hours: {last}") }
        } else {
            // A mistake in a channel costs this delivery an attempt, and nothing else.
            let send = AssertUnwindSafe(self.notifier.send(&self.delivery)).catch_unwind();
            send.await.unwrap_or_else(|_| Sent::RetryAfter {
                after: None,
                error: "the channel broke; the log says more".to_owned(),
            })
        };
        let now = self.clock.now();
        let (attempt, what) = match sent {
            Sent::Delivered { receipt } => (Attempt::Delivered { receipt }, What::Delivered),
            Sent::RetryAfter { after, error } => {
                let pause = match after {
                    Some(after) => after.clamp(SignedDuration::ZERO, RETRY_AFTER_MAX),
                    None => back_off(&self.delivery),
                };
                let at = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
                tracing::warn!(
                    delivery = %self.delivery.id, attempt = self.delivery.attempts, error,
                    "a message did not come through; it is tried again"
                );
                (Attempt::Again { at, error, not_begun: false }, What::Again)
            }
            Sent::Rejected { error } | Sent::Misconfigured { error } => {
                tracing::error!(delivery = %self.delivery.id, error, "a message was given up");
                let instead = self.instead(&error, now).await;
                (Attempt::Failed { error, instead }, What::Failed)
            }
        };
        self.save(attempt).await;
        if what == What::Delivered {
            self.mended(now).await;
        } else if what == What::Again {
            self.escalate_early(now).await;
        }
        Ended { destination, what }
    }

    async fn save(&self, attempt: Attempt) {
        let now = self.clock.now();
        if let Err(error) = self.outbox.attempted(&self.delivery.id, attempt, now).await {
            // The lease runs out, and it is sent again: twice is better than never.
            tracing::warn!(delivery = %self.delivery.id, %error, "an attempt could not be saved");
        }
    }

    /// What is owed in place of a delivery that is given up: its stand-in, and, once an outage,
    /// the alert that telling is broken.
    async fn instead(&self, error: &str, now: Timestamp) -> Vec<Delivery> {
        let mut instead = Vec::new();
        instead.extend(self.stand_in(now));
        let name = telling::note(&self.delivery.destination);
        // That a destination is broken is told of real alerts, and by everybody else.
        let is_about_telling = matches!(
            self.delivery.alert.kind,
            AlertKind::Test | AlertKind::TellingBroken { .. } | AlertKind::TellingMended { .. }
        );
        if is_about_telling || matches!(self.outbox.note(&name).await, Ok(Some(_))) {
            return instead;
        }
        let alert = telling::broken(&self.delivery.destination, error, now);
        for destination in self.notifier.others(&alert, &self.delivery.destination) {
            instead.push(Delivery::new(alert.clone(), &destination, now));
        }
        if let Err(error) = self.outbox.put_note(&name, Some(&now.to_string())).await {
            tracing::warn!(%error, "that telling is broken may be told twice");
        }
        instead
    }

    /// The same alert to the destination's `escalate_to`.
    fn stand_in(&self, now: Timestamp) -> Option<Delivery> {
        let to = self.notifier.escalates_to(&self.delivery.destination)?;
        let mut stand_in = Delivery::new(self.delivery.alert.clone(), to, now);
        stand_in.stands_in_for = Some(self.delivery.id.clone());
        Some(stand_in)
    }

    /// Tells the next one as well when a delivery has been tried for long.
    async fn escalate_early(&self, now: Timestamp) {
        let age = now.duration_since(self.delivery.created_at);
        let Some(after) = self.notifier.escalates_after(&self.delivery.destination) else { return };
        if age < after {
            return;
        }
        if let Some(stand_in) = self.stand_in(now)
            && let Err(error) = self.outbox.raise(vec![stand_in]).await
        {
            tracing::warn!(%error, "nobody else is told yet");
        }
    }

    /// Says that a destination works again, if it was said that it does not.
    async fn mended(&self, now: Timestamp) {
        let name = telling::note(&self.delivery.destination);
        let Ok(Some(_)) = self.outbox.note(&name).await else { return };
        let alert = telling::mended(&self.delivery.destination, now);
        let to = self.notifier.others(&alert, "");
        let owed = to.iter().map(|to| Delivery::new(alert.clone(), to, now)).collect();
        if self.outbox.raise(owed).await.is_ok()
            && let Err(error) = self.outbox.put_note(&name, None).await
        {
            tracing::warn!(%error, "that telling is mended may be told twice");
        }
    }
}

/// The pause before the next attempt: doubled each time, and never the same for all that failed
/// together.
fn back_off(delivery: &Delivery) -> SignedDuration {
    let doubled = delivery.attempts.saturating_sub(1).min(16);
    let pause = BACK_OFF.saturating_mul(1 << doubled).min(BACK_OFF_MAX);
    // Half of it by chance, and the chance by what is sent: nothing else has to be asked.
    let chance = delivery.id.0.bytes().fold(u64::from(delivery.attempts) + 1, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let share = (chance >> 11) as f64 / (1_u64 << 53) as f64;
    pause / 2 + (pause / 2).mul_f64(share)
}
