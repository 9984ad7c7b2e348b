//! One destination as the worker sees it: queue, rate limit and circuit breaker.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::delivery::Delivery;

/// A delivery that waits longer than this after its lease began is returned.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// Maximum length of the queue; no more deliveries are leased for the destination then.
const WAITING_MAX: usize = 64;
/// Consecutive failures that open the circuit breaker.
pub(super) const BREAKER_FAILURES: u32 = 5;
/// How long the circuit breaker stays open at first and at most. One attempt then shows whether the
/// destination works again.
const BREAKER: SignedDuration = SignedDuration::from_secs(5);
const BREAKER_MAX: SignedDuration = SignedDuration::from_secs(300);
/// Longest pause of a whole destination that it can request in the answer to one message.
const ASKED_MAX: SignedDuration = SignedDuration::from_secs(60);

/// The queue of one destination, its rate limit and its circuit breaker.
#[derive(Debug)]
pub(super) struct DestinationQueue {
    concurrency: usize,
    rate: Option<DefaultDirectRateLimiter>,
    pub(super) waiting: VecDeque<(Delivery, Instant)>,
    pub(super) running: usize,
    failures: u32,
    /// The circuit breaker: no attempts before then.
    open_until: Option<Timestamp>,
    /// Requested by the destination: no attempts before then.
    asked_until: Option<Timestamp>,
    /// The rate limit: no attempts before then.
    slow_until: Option<Instant>,
}

impl DestinationQueue {
    pub(super) fn new((concurrency, rate_per_minute): (usize, u32)) -> Self {
        let rate = NonZeroU32::new(rate_per_minute)
            .map(|rate| RateLimiter::direct(Quota::per_minute(rate)));
        Self {
            concurrency: concurrency.max(1),
            rate,
            waiting: VecDeque::new(),
            running: 0,
            failures: 0,
            open_until: None,
            asked_until: None,
            slow_until: None,
        }
    }

    /// Restores the circuit breaker from a note that [`DestinationQueue::breaker_state`] wrote.
    pub(super) fn restore(&mut self, note: &str) {
        let Some((failures, until)) = note.split_once(' ') else { return };
        if let (Ok(failures), Ok(until)) = (failures.parse(), until.parse()) {
            self.failures = failures;
            self.open_until = Some(until);
        }
    }

    /// The state of an open circuit breaker: consecutive failures, and until when it is open.
    pub(super) fn breaker_state(&self) -> Option<String> {
        self.open_until.map(|until| format!("{} {until}", self.failures))
    }

    /// How long no attempt may start. A pause longer than the maximum is over: the clock was set back.
    fn paused_for(&self, now: Timestamp) -> Option<SignedDuration> {
        let left = |until: Option<Timestamp>, max: SignedDuration| {
            let left = until?.duration_since(now);
            (left > SignedDuration::ZERO && left <= max).then_some(left)
        };
        left(self.open_until, BREAKER_MAX).max(left(self.asked_until, ASKED_MAX))
    }

    /// True if the circuit breaker has opened and no attempt has succeeded since.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= BREAKER_FAILURES
    }

    /// True if no more deliveries should be leased for the destination now.
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        self.paused_for(now).is_some()
            || self.slow_until.is_some_and(|until| until > Instant::now())
            || self.waiting.len() >= WAITING_MAX
            // A half-open circuit breaker allows one attempt.
            || (self.is_failing() && self.running + self.waiting.len() > 0)
    }

    /// Removes deliveries that waited so long that their lease would not last for an attempt.
    pub(super) fn overdue(&mut self) -> Vec<Delivery> {
        let overdue =
            self.waiting.iter().take_while(|(_, since)| since.elapsed() > WAIT_MAX).count();
        self.waiting.drain(..overdue).map(|(delivery, _)| delivery).collect()
    }

    /// The next delivery that may be sent now.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Delivery> {
        let allowed = if self.is_failing() { 1 } else { self.concurrency };
        let is_slow = self.slow_until.is_some_and(|until| until > Instant::now());
        if self.running >= allowed
            || self.waiting.is_empty()
            || is_slow
            || self.paused_for(now).is_some()
        {
            return None;
        }
        if let Some(rate) = &self.rate
            && let Err(until) = rate.check()
        {
            let wait = until.wait_time_from(DefaultClock::default().now());
            self.slow_until = Some(Instant::now() + wait);
            return None;
        }
        self.slow_until = None;
        self.waiting.pop_front().map(|(delivery, _)| delivery)
    }

    /// How long the destination stays paused or rate-limited; `None` if it is not.
    pub(super) fn available_in(&self, now: Timestamp) -> Option<Duration> {
        let breaker = self.paused_for(now).and_then(|left| Duration::try_from(left).ok());
        let slow = self.slow_until.map(|until| until.saturating_duration_since(Instant::now()));
        breaker.into_iter().chain(slow).filter(|wait| !wait.is_zero()).max()
    }

    /// Records a successful attempt. True if the circuit breaker was open.
    pub(super) fn record_success(&mut self) -> bool {
        let was_open = self.open_until.take().is_some();
        self.failures = 0;
        was_open
    }

    /// Records a failed attempt. Returns for how long the circuit breaker opens, if it does.
    pub(super) fn record_failure(&mut self, now: Timestamp) -> Option<SignedDuration> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < BREAKER_FAILURES {
            return None;
        }
        let doubled = (self.failures - BREAKER_FAILURES).min(8);
        let pause = BREAKER.saturating_mul(1 << doubled).min(BREAKER_MAX);
        self.open_until = Some(now.saturating_add(pause).unwrap_or(Timestamp::MAX));
        Some(pause)
    }

    /// Pauses because the destination asked for it.
    pub(super) fn pause_on_request(&mut self, now: Timestamp, pause: SignedDuration) {
        self.asked_until = now.saturating_add(pause.min(ASKED_MAX)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_breaker_opens_after_consecutive_failures_and_longer_each_time() {
        let now = at("2026-05-04T14:00:00Z");
        let mut queue = DestinationQueue::new((4, 0));
        for _ in 1..BREAKER_FAILURES {
            assert_eq!(queue.record_failure(now), None);
            assert!(!queue.is_busy(now));
        }
        assert_eq!(queue.record_failure(now), Some(BREAKER));
        assert!(queue.is_busy(now));
        assert!(!queue.is_busy(now + BREAKER), "one attempt shows whether it works");
        assert_eq!(queue.record_failure(now), Some(BREAKER * 2));
        for _ in 0..20 {
            assert!(queue.record_failure(now) <= Some(BREAKER_MAX));
        }
        assert!(queue.record_success());
        assert!(!queue.is_busy(now));
    }

    #[test]
    fn a_breaker_survives_restarts_but_not_a_clock_that_is_set_back() {
        let now = at("2026-05-04T14:00:00Z");
        let mut queue = DestinationQueue::new((4, 0));
        for _ in 0..BREAKER_FAILURES {
            queue.record_failure(now);
        }
        let mut again = DestinationQueue::new((4, 0));
        again.restore(&queue.breaker_state().unwrap());
        assert!(again.is_busy(now) && !again.is_busy(now + BREAKER));
        assert!(!again.is_busy(at("2026-05-03T14:00:00Z")));
        again.restore("unreadable");
        assert!(again.is_busy(now));
    }
}
