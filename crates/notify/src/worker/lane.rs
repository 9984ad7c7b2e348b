//! One destination as the worker sees it: what waits for its turn, the rate limit, the breaker.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::delivery::Delivery;

/// An attempt that could not begin this long after its lease began is given back.
const TURN: Duration = Duration::from_secs(25);
/// Deliveries of one destination that wait for their turn at most, before others are leased.
const WAITING_MAX: usize = 64;
/// Failures in a row that open a destination's breaker.
pub(super) const BREAKER_FAILURES: u32 = 5;
/// How long a breaker stays open at first and at most: one attempt then shows whether the
/// destination works again.
const BREAKER: SignedDuration = SignedDuration::from_secs(5);
const BREAKER_MAX: SignedDuration = SignedDuration::from_secs(300);
/// For how long a whole destination is left alone at most because it asked for it with one message.
const ASKED_MAX: SignedDuration = SignedDuration::from_secs(60);

#[derive(Debug)]
pub(super) struct Lane {
    concurrency: usize,
    rate: Option<DefaultDirectRateLimiter>,
    pub(super) waiting: VecDeque<(Delivery, Instant)>,
    pub(super) running: usize,
    failures: u32,
    /// The breaker: no attempts before then.
    open_until: Option<Timestamp>,
    /// What the destination asks for: no attempts before then.
    asked_until: Option<Timestamp>,
    /// The rate limit: no attempts before then.
    slow_until: Option<Instant>,
}

impl Lane {
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

    /// As a note says that it was: see [`Lane::written`].
    pub(super) fn recall(&mut self, note: &str) {
        let Some((failures, until)) = note.split_once(' ') else { return };
        if let (Ok(failures), Ok(until)) = (failures.parse(), until.parse()) {
            self.failures = failures;
            self.open_until = Some(until);
        }
    }

    /// The breaker's state, to be kept: failures in a row, and until when it is open.
    pub(super) fn written(&self) -> Option<String> {
        self.open_until.map(|until| format!("{} {until}", self.failures))
    }

    /// For how long no attempt may begin. A pause that is longer than any, because the clock was set
    /// back, is over.
    fn shut(&self, now: Timestamp) -> Option<SignedDuration> {
        let left = |until: Option<Timestamp>, max: SignedDuration| {
            let left = until?.duration_since(now);
            (left > SignedDuration::ZERO && left <= max).then_some(left)
        };
        left(self.open_until, BREAKER_MAX).max(left(self.asked_until, ASKED_MAX))
    }

    /// True when the breaker has opened and nothing came through since.
    pub(super) fn is_failing(&self) -> bool {
        self.failures >= BREAKER_FAILURES
    }

    /// True when no more should be leased for it now.
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        self.shut(now).is_some()
            || self.slow_until.is_some_and(|until| until > Instant::now())
            || self.waiting.len() >= WAITING_MAX
            // While a breaker is half open one attempt is enough.
            || (self.is_failing() && self.running + self.waiting.len() > 0)
    }

    /// What waited for so long that its lease would not last.
    pub(super) fn late(&mut self) -> Vec<Delivery> {
        let late = self.waiting.iter().take_while(|(_, since)| since.elapsed() > TURN).count();
        self.waiting.drain(..late).map(|(delivery, _)| delivery).collect()
    }

    /// The next attempt that may begin now.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<Delivery> {
        let room = if self.is_failing() { 1 } else { self.concurrency };
        let is_slow = self.slow_until.is_some_and(|until| until > Instant::now());
        if self.running >= room || self.waiting.is_empty() || is_slow || self.shut(now).is_some() {
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

    /// When something that waits here may begin; `None` when nothing keeps it.
    pub(super) fn free_in(&self, now: Timestamp) -> Option<Duration> {
        let breaker = self.shut(now).and_then(|left| Duration::try_from(left).ok());
        let slow = self.slow_until.map(|until| until.saturating_duration_since(Instant::now()));
        breaker.into_iter().chain(slow).filter(|wait| !wait.is_zero()).max()
    }

    /// An attempt came through. True when the breaker was open.
    pub(super) fn delivered(&mut self) -> bool {
        let was_open = self.open_until.take().is_some();
        self.failures = 0;
        was_open
    }

    /// An attempt failed. Says for how long the breaker opens, if it does.
    pub(super) fn failed(&mut self, now: Timestamp) -> Option<SignedDuration> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < BREAKER_FAILURES {
            return None;
        }
        let doubled = (self.failures - BREAKER_FAILURES).min(8);
        let pause = BREAKER.saturating_mul(1 << doubled).min(BREAKER_MAX);
        self.open_until = Some(now.saturating_add(pause).unwrap_or(Timestamp::MAX));
        Some(pause)
    }

    /// The destination asks to be left alone.
    pub(super) fn asked(&mut self, now: Timestamp, pause: SignedDuration) {
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
    fn a_breaker_opens_after_failures_in_a_row_and_longer_each_time() {
        let now = at("2026-05-04T14:00:00Z");
        let mut lane = Lane::new((4, 0));
        for _ in 1..BREAKER_FAILURES {
            assert_eq!(lane.failed(now), None);
            assert!(!lane.is_busy(now));
        }
        assert_eq!(lane.failed(now), Some(BREAKER));
        assert!(lane.is_busy(now));
        assert!(!lane.is_busy(now + BREAKER), "one attempt shows whether it works");
        assert_eq!(lane.failed(now), Some(BREAKER * 2));
        for _ in 0..20 {
            assert!(lane.failed(now) <= Some(BREAKER_MAX));
        }
        assert!(lane.delivered());
        assert!(!lane.is_busy(now));
    }

    #[test]
    fn a_breaker_survives_restarts_but_not_a_clock_that_is_set_back() {
        let now = at("2026-05-04T14:00:00Z");
        let mut lane = Lane::new((4, 0));
        for _ in 0..BREAKER_FAILURES {
            lane.failed(now);
        }
        let mut again = Lane::new((4, 0));
        again.recall(&lane.written().unwrap());
        assert!(again.is_busy(now) && !again.is_busy(now + BREAKER));
        assert!(!again.is_busy(at("2026-05-03T14:00:00Z")));
        again.recall("what nobody wrote");
        assert!(again.is_busy(now));
    }
}
