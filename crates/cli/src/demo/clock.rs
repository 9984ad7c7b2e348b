//! The clock of the demo.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::Clock;

/// Runs like any clock, and jumps with each step of the demo.
#[derive(Debug)]
pub(crate) struct StoryClock(Mutex<(Timestamp, Instant)>);

impl StoryClock {
    /// Creates a clock that starts at this time.
    pub(crate) fn at(moment: Timestamp) -> Self {
        Self(Mutex::new((moment, Instant::now())))
    }

    /// Sets the clock forward to this time; never back.
    pub(crate) fn jump(&self, to: Timestamp) {
        let to = to.max(self.now());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (to, Instant::now());
    }
}

impl Clock for StoryClock {
    fn now(&self) -> Timestamp {
        let (moment, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::ZERO);
        moment.saturating_add(gone).unwrap_or(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_jumps_forward_and_never_back() {
        let noon: Timestamp = "2026-05-04T12:00:00Z".parse().expect("a moment");
        let clock = StoryClock::at(noon);
        let later = noon + SignedDuration::from_hours(1);
        clock.jump(later);
        assert!(clock.now() >= later);
        clock.jump(noon);
        assert!(clock.now() >= later);
    }
}
