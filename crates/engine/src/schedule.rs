//! When maintenance was last done, and whether the clock can be trusted.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How long nothing is pruned after the clock changed.
const DISTRUST: Duration = Duration::from_secs(86_400);
/// How much the clock may gain or lose between two checks before it counts as changed.
const DRIFT_MAX: SignedDuration = SignedDuration::from_mins(5);

/// When maintenance was last done. Uses the monotonic clock where a changed clock would do harm.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) pruned_at: Option<Instant>,
    pub(crate) evicted_at: Instant,
    checked_at: (Instant, Timestamp),
    distrusted_at: Option<Instant>,
    /// When the store failed last.
    pub(crate) failed_at: Instant,
}

impl Schedule {
    pub(crate) fn at(now: Timestamp) -> Self {
        let instant = Instant::now();
        Self {
            pruned_at: None,
            evicted_at: instant,
            checked_at: (instant, now),
            distrusted_at: None,
            failed_at: instant,
        }
    }

    /// Compares the clock with the monotonic one.
    pub(crate) fn check_clock(&mut self, now: Timestamp) {
        let (instant, before) = self.checked_at;
        let real = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::MAX);
        let drift = now.duration_since(before) - real;
        if drift.abs() > DRIFT_MAX {
            tracing::warn!(
                by_secs = drift.as_secs(),
                "the system clock jumped: nothing is pruned for a day"
            );
            self.distrusted_at = Some(Instant::now());
        }
        self.checked_at = (Instant::now(), now);
    }

    pub(crate) fn trusts_clock(&self) -> bool {
        self.distrusted_at.is_none_or(|at| at.elapsed() >= DISTRUST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_noticed_and_not_trusted() {
        let now = Timestamp::UNIX_EPOCH;
        let mut schedule = Schedule::at(now);
        schedule.check_clock(now);
        assert!(schedule.trusts_clock());
        schedule.check_clock(now + SignedDuration::from_hours(24));
        assert!(!schedule.trusts_clock());
        let mut schedule = Schedule::at(now);
        schedule.check_clock(now - SignedDuration::from_hours(24));
        assert!(!schedule.trusts_clock());
    }
}
