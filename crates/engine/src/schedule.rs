//! When maintenance was last done, and whether the clock can be trusted.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How long nothing is pruned after the clock was set.
const DISTRUST: Duration = Duration::from_secs(86_400);
/// How much the clock may gain or lose between two looks before it counts as set.
const DRIFT_MAX: SignedDuration = SignedDuration::from_mins(5);

/// When things were last done, by a clock that nobody sets where that matters.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) pruned_at: Option<Instant>,
    pub(crate) evicted_at: Instant,
    looked_at: (Instant, Timestamp),
    distrusted_at: Option<Instant>,
    /// When the store failed last.
    pub(crate) failed_at: Instant,
}

impl Upkeep {
    pub(crate) fn at(now: Timestamp) -> Self {
        let instant = Instant::now();
        Self {
            pruned_at: None,
            evicted_at: instant,
            looked_at: (instant, now),
            distrusted_at: None,
            failed_at: instant,
        }
    }

    /// Compares the clock with one that nobody sets.
    pub(crate) fn look(&mut self, now: Timestamp) {
        let (instant, before) = self.looked_at;
        let real = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::MAX);
        let drift = now.duration_since(before) - real;
        if drift.abs() > DRIFT_MAX {
            tracing::warn!(by_secs = drift.as_secs(), "the clock was set");
            self.distrusted_at = Some(Instant::now());
        }
        self.looked_at = (Instant::now(), now);
    }

    pub(crate) fn trusts_clock(&self) -> bool {
        self.distrusted_at.is_none_or(|at| at.elapsed() >= DISTRUST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_and_nothing_is_pruned_by_it() {
        let now = Timestamp::UNIX_EPOCH;
        let mut upkeep = Upkeep::at(now);
        upkeep.look(now);
        assert!(upkeep.trusts_clock());
        upkeep.look(now + SignedDuration::from_hours(24));
        assert!(!upkeep.trusts_clock());
        let mut upkeep = Upkeep::at(now);
        upkeep.look(now - SignedDuration::from_hours(24));
        assert!(!upkeep.trusts_clock());
    }
}
