//! The worker: what is owed is leased, sent, tried again, given up, and stood in for.
//!
//! Each attempt runs as a task of its own, so that a destination that hangs delays no other; what
//! it came to is saved by that task, so that many share a flush of the disk. The worker itself
//! only leases, keeps destinations within their limits, and waits.

mod attempt;
mod lane;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::Clock;
use rootwatch_core::delivery::{Delivery, DeliveryId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::attempt::{Around, Ended, RETRY_AFTER_MAX, What};
use self::lane::Lane;
use crate::telling::{self, Outages};
use crate::{Notifier, Outbox, OutboxError};

/// How long a delivery is leased. Longer than an attempt may take, its wait for its turn and the
/// saving of what it came to included.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// Deliveries that are leased at one time at most.
const LEASE_MAX: usize = 128;
/// Longest wait without looking.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Shortest wait when something is due that cannot be leased now: its destination is busy, or
/// another message of its thread goes first. When that ends, the worker looks at once anyway.
const WAIT_BUSY: Duration = Duration::from_millis(250);
/// Further away than anything that is owed: the clock was set back.
const FAR: SignedDuration = SignedDuration::from_hours(2);
const _: () = assert!(FAR.as_secs() > RETRY_AFTER_MAX.as_secs());
/// How long attempts that were begun may take when the worker is asked to end.
const FINISH: Duration = Duration::from_secs(15);

/// Empties an outbox.
#[derive(Debug)]
pub struct Worker {
    around: Around,
    waker: Arc<Notify>,
    lanes: HashMap<String, Lane>,
    /// What is leased by this worker: never begun twice, even if a lease ran out meanwhile.
    held: HashSet<DeliveryId>,
    running: JoinSet<Ended>,
    /// Set after the clock was set back: leased as if it were then.
    ahead: Option<Timestamp>,
    is_recalled: bool,
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
    /// How long nothing will happen by itself; `None` when all that was due was sent, and nothing is
    /// known to be left.
    pub pause: Option<Duration>,
}

/// What a look at what is owed came to.
#[derive(Debug, Clone, Copy)]
struct Look {
    leased: usize,
    /// True when some destination took no more.
    has_busy: bool,
}

impl Look {
    /// True when there may be more.
    fn is_full(self) -> bool {
        self.leased == LEASE_MAX
    }
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(notifier: Arc<Notifier>, outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>) -> Self {
        let outages = Arc::new(Outages::new(Arc::clone(&outbox)));
        Self {
            around: Around { notifier, outbox, clock, outages, readied: Arc::default() },
            waker: Arc::default(),
            lanes: HashMap::new(),
            held: HashSet::new(),
            running: JoinSet::new(),
            ahead: None,
            is_recalled: false,
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
                Ok(look) => {
                    pause = Duration::ZERO;
                    self.begin();
                    if look.is_full() { Duration::ZERO } else { self.wait().await }
                }
                Err(error) => {
                    pause = (pause * 2).clamp(WAIT_BUSY, WAIT_MAX);
                    tracing::warn!(%error, "what is owed cannot be looked at");
                    pause
                }
            };
            tokio::select! {
                () = &mut ended => break,
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    self.note(done.ok()).await;
                    while let Some(done) = self.running.try_join_next() {
                        self.note(done.ok()).await;
                    }
                }
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.finish().await;
    }

    /// One round, for whoever is called and does not run: leases all that is due, sends it, and
    /// returns when all of it has ended or is to be tried again.
    pub async fn tick(&mut self) -> Round {
        let mut round = Round::default();
        // Whether there may be something to lease, and whether something may be left in the end.
        let (mut looks, mut leaves) = (true, false);
        loop {
            if std::mem::take(&mut looks) {
                match self.lease().await {
                    Ok(look) => {
                        round.leased += look.leased;
                        leaves = look.has_busy;
                        looks = look.is_full();
                    }
                    Err(error) => {
                        tracing::warn!(%error, "what is owed cannot be looked at");
                        leaves = true;
                    }
                }
            }
            self.begin();
            let Some(done) = self.running.join_next().await else {
                if looks {
                    continue;
                }
                break;
            };
            // What was busy may be free now.
            looks |= self.around.readied.swap(false, Ordering::Relaxed) || leaves;
            let Ok(done) = done else { continue };
            match done.what {
                What::Delivered => round.delivered += 1,
                What::Again(_) | What::GivenBack => round.again += 1,
                What::Failed | What::Expired => round.failed += 1,
            }
            self.note(Some(done)).await;
        }
        let waits = self.lanes.values().any(|lane| !lane.waiting.is_empty());
        if leaves || waits || round.leased == 0 || round.again > 0 {
            round.pause = Some(self.wait().await);
        }
        round
    }

    /// Takes up the breakers as the last process left them.
    async fn recall(&mut self) -> Result<(), OutboxError> {
        let names: Vec<String> = self.around.notifier.destinations().map(str::to_owned).collect();
        let of = |name: &String| [breaker(name), telling::note(name)];
        let asked: Vec<String> = names.iter().flat_map(of).collect();
        let notes = self.around.outbox.notes(&asked).await?;
        for name in names {
            if let Some(note) = notes.get(&breaker(&name)) {
                self.lane(&name).recall(note);
            }
            let outage = notes.get(&telling::note(&name));
            self.around.outages.recall(&name, outage.map(String::as_str));
        }
        self.is_recalled = true;
        Ok(())
    }

    fn lane(&mut self, destination: &str) -> &mut Lane {
        let notifier = &self.around.notifier;
        self.lanes
            .entry(destination.to_owned())
            .or_insert_with(|| Lane::new(notifier.limits(destination)))
    }

    /// Leases what is due for destinations that can take it.
    async fn lease(&mut self) -> Result<Look, OutboxError> {
        if !self.is_recalled {
            self.recall().await?;
        }
        let now = self.around.clock.now();
        let is_busy = |(_, lane): &(&String, &Lane)| lane.is_busy(now);
        let busy: Vec<String> =
            self.lanes.iter().filter(is_busy).map(|(name, _)| name.clone()).collect();
        let as_of = self.ahead.take().unwrap_or(now);
        let until = now.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
        let leased = self.around.outbox.lease(as_of, until, LEASE_MAX, &busy).await?;
        let look = Look { leased: leased.len(), has_busy: !busy.is_empty() };
        for delivery in leased {
            if !self.held.insert(delivery.id.clone()) {
                // Its lease ran out while it is being sent or saved.
                continue;
            }
            let is_failing = self.lane(&delivery.destination).is_failing();
            if self.around.is_expired(&delivery, is_failing) {
                self.running.spawn(self.around.clone().expire(delivery));
            } else {
                let lane = self.lane(&delivery.destination);
                lane.waiting.push_back((delivery, Instant::now()));
            }
        }
        Ok(look)
    }

    /// Begins all attempts whose turn it is.
    fn begin(&mut self) {
        let now = self.around.clock.now();
        for lane in self.lanes.values_mut() {
            for delivery in lane.late() {
                self.running.spawn(self.around.clone().give_back(delivery, now));
            }
            while let Some(delivery) = lane.next(now) {
                lane.running += 1;
                self.running.spawn(self.around.clone().attempt(delivery));
            }
        }
    }

    /// How long nothing will happen by itself.
    async fn wait(&mut self) -> Duration {
        let now = self.around.clock.now();
        let due = match self.around.outbox.next_due().await {
            Ok(Some(at)) => {
                let left = at.duration_since(now);
                if left > FAR {
                    self.ahead = Some(at);
                    return WAIT_BUSY;
                }
                // What is due now and was not leased waits for a lane or for its turn in a thread.
                Duration::try_from(left).ok().filter(|left| !left.is_zero()).unwrap_or(WAIT_BUSY)
            }
            Ok(None) => WAIT_MAX,
            Err(_) => WAIT_BUSY,
        };
        let lanes = self.lanes.values().filter_map(|lane| lane.free_in(now)).min();
        due.min(lanes.unwrap_or(WAIT_MAX)).min(WAIT_MAX)
    }

    async fn note(&mut self, ended: Option<Ended>) {
        // Attempts catch what panics in a channel: nothing else ends without saying so.
        let Some(Ended { id, destination, what }) = ended else { return };
        self.held.remove(&id);
        let now = self.around.clock.now();
        let name = breaker(&destination);
        let Some(lane) = self.lanes.get_mut(&destination) else { return };
        match what {
            What::GivenBack | What::Expired => return,
            What::Delivered => {
                lane.running = lane.running.saturating_sub(1);
                if !lane.delivered() {
                    return;
                }
                tracing::info!(destination, "messages come through again");
            }
            What::Again(_) | What::Failed => {
                lane.running = lane.running.saturating_sub(1);
                if let What::Again(Some(pause)) = what {
                    lane.asked(now, pause);
                }
                let Some(pause) = lane.failed(now) else { return };
                tracing::warn!(
                    destination,
                    pause_secs = pause.as_secs(),
                    "a destination is left alone for a while"
                );
                let again = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
                for (delivery, _) in lane.waiting.drain(..) {
                    self.running.spawn(self.around.clone().give_back(delivery, again));
                }
            }
        }
        let text = lane.written();
        if let Err(error) = self.around.outbox.put_note(&name, text.as_deref()).await {
            tracing::warn!(%error, "a restart would not know that a destination is left alone");
        }
    }

    /// Waits for what is being sent; gives back what was not begun.
    async fn finish(mut self) {
        let now = self.around.clock.now();
        let waiting: Vec<Delivery> = self
            .lanes
            .values_mut()
            .flat_map(|lane| lane.waiting.drain(..))
            .map(|(delivery, _)| delivery)
            .collect();
        for delivery in waiting {
            self.running.spawn(self.around.clone().give_back(delivery, now));
        }
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH, all).await.is_err() {
            tracing::warn!("some messages were being sent at the end; they are sent again later");
        }
    }
}

/// The note that keeps a destination's breaker.
fn breaker(destination: &str) -> String {
    format!("breaker:{destination}")
}
