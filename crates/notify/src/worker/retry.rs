//! When a failed delivery is retried.

use std::time::Duration;

use jiff::SignedDuration;
use rootwatch_core::delivery::Delivery;
use rootwatch_core::{fnv, retry};

/// The first pause before a retry, and the longest.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(600);
/// The longest pause that a destination may ask for.
pub(super) const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(1);

/// The pause that a destination asked for, within [`RETRY_AFTER_MAX`]; `None` if it asked for none.
pub(super) fn requested_pause(after: Option<SignedDuration>) -> Option<SignedDuration> {
    after.map(|after| after.min(RETRY_AFTER_MAX)).filter(SignedDuration::is_positive)
}

/// The pause before the next attempt: doubled each time, and different for deliveries that failed
/// together.
pub(super) fn back_off(delivery: &Delivery) -> SignedDuration {
    // The id is the source of chance: it needs no generator, and a test can repeat it.
    let hash = fnv::extend(fnv::hash(&delivery.attempts.to_le_bytes()), delivery.id.0.as_bytes());
    let chance = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    let pause = retry::back_off(BACK_OFF, BACK_OFF_MAX, delivery.attempts, chance);
    SignedDuration::try_from(pause).unwrap_or(SignedDuration::from_mins(10))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::outage;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let now = Timestamp::UNIX_EPOCH;
        let outage = outage::Outage { since: now, is_notified: false };
        let alert = outage::failing("chat", outage, "gone", now);
        let pause = |to: &str, attempts: u32| {
            back_off(&Delivery { attempts, ..Delivery::new(alert.clone(), to, now) })
        };
        for attempts in 0..40_u32 {
            let full = BACK_OFF.saturating_mul(1 << attempts.saturating_sub(1).min(16));
            let full = SignedDuration::try_from(full.min(BACK_OFF_MAX)).expect("minutes");
            let pause = pause("mail", attempts);
            assert!(pause >= full / 2 && pause <= full, "{attempts}: {pause:?}");
        }
        assert_ne!(pause("mail", 8), pause("page", 8));
    }
}
