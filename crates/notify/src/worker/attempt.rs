//! One attempt to make one delivery, and what follows from it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{AlertKind, Clock};
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::{fnv, retry};

use crate::telling::{self, Outages};
use crate::{Attempt, Notifier, Outbox, OutboxError, Sent};

/// The first pause before another try, and the longest.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(600);
/// The longest pause that a destination may ask for.
pub(super) const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(1);
/// How often it is tried to save what an attempt came to, and the first pause in between: together
/// well below a lease.
const SAVES_MAX: u32 = 6;
const SAVE_PAUSE: Duration = Duration::from_millis(100);
const SAVE_PAUSE_MAX: Duration = Duration::from_millis(1_600);

/// What a task came to.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) id: DeliveryId,
    pub(super) destination: String,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Delivered,
    /// To be tried again, and whether the destination asked to be left alone for some time.
    Again(Option<SignedDuration>),
    Failed,
    /// Too old: given up without asking the channel.
    Expired,
    /// Nothing was sent; it is due again.
    GivenBack,
}

/// What attempts need.
#[derive(Debug, Clone)]
pub(super) struct Around {
    pub(super) notifier: Arc<Notifier>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) outages: Arc<Outages>,
    /// Set when something became ready to be leased by what was done here.
    pub(super) readied: Arc<AtomicBool>,
}

impl Around {
    /// True when a delivery is too old: given up if it was tried before, or if its destination is
    /// known to fail. What only waited for a hub that was away is tried first.
    pub(super) fn is_expired(&self, delivery: &Delivery, is_failing: bool) -> bool {
        let age = self.clock.now().duration_since(delivery.created_at);
        (delivery.attempts > 1 || is_failing) && age > self.notifier.age_max(&delivery.destination)
    }

    /// Gives a delivery back that was leased and not sent.
    pub(super) async fn give_back(self, delivery: Delivery, at: Timestamp) -> Ended {
        let error = delivery.last_error.clone();
        let error = error.unwrap_or_else(|| "its turn did not come".to_owned());
        self.save(&delivery.id, Attempt::Again { at, error, not_begun: true }).await;
        self.escalate_early(&delivery, self.clock.now()).await;
        Ended { id: delivery.id, destination: delivery.destination, what: What::GivenBack }
    }

    /// Gives a delivery up that is too old.
    pub(super) async fn expire(self, delivery: Delivery) -> Ended {
        let hours = self.clock.now().duration_since(delivery.created_at).as_hours();
        let last = delivery.last_error.as_deref().unwrap_or("it never came through");
        let error = format!("given up after {hours} hours: {last}");
        self.give_up(&delivery, error).await;
        Ended { id: delivery.id, destination: delivery.destination, what: What::Expired }
    }

    /// One attempt.
    pub(super) async fn attempt(self, delivery: Delivery) -> Ended {
        // A mistake in a channel costs this delivery an attempt, and nothing else.
        let send =
            AssertUnwindSafe(self.notifier.send(&delivery, self.outbox.as_ref())).catch_unwind();
        let sent = send.await.unwrap_or_else(|_| Sent::RetryAfter {
            after: None,
            error: "the channel broke; the log says more".to_owned(),
        });
        let what = match sent {
            Sent::Delivered { receipt } => {
                self.save(&delivery.id, Attempt::Delivered { receipt }).await;
                self.mended(&delivery.destination).await;
                What::Delivered
            }
            Sent::RetryAfter { after, error } => self.try_again(&delivery, after, error).await,
            Sent::Rejected { error } | Sent::Misconfigured { error } => {
                self.give_up(&delivery, error).await;
                What::Failed
            }
        };
        Ended { id: delivery.id, destination: delivery.destination, what }
    }

    async fn try_again(
        &self,
        delivery: &Delivery,
        after: Option<SignedDuration>,
        error: String,
    ) -> What {
        let after = after.map(|after| after.clamp(SignedDuration::ZERO, RETRY_AFTER_MAX));
        let now = self.clock.now();
        let pause = after.filter(SignedDuration::is_positive).unwrap_or_else(|| back_off(delivery));
        let at = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        tracing::warn!(
            delivery = %delivery.id, attempt = delivery.attempts, error,
            "a message did not come through; it is tried again"
        );
        self.save(&delivery.id, Attempt::Again { at, error, not_begun: false }).await;
        self.escalate_early(delivery, now).await;
        What::Again(after.filter(SignedDuration::is_positive))
    }

    /// The delivery ends here: its stand-in is owed in its place, and, once an outage, the alert
    /// that telling is broken.
    async fn give_up(&self, delivery: &Delivery, error: String) {
        tracing::error!(delivery = %delivery.id, error, "a message was given up");
        let now = self.clock.now();
        let destination = &delivery.destination;
        let mut instead: Vec<Delivery> = self.stand_in(delivery, now).into_iter().collect();
        // That a destination is broken is told of real alerts, and by everybody else.
        let is_about_telling = matches!(
            delivery.alert.kind,
            AlertKind::Test
                | AlertKind::DeliveryFailing { .. }
                | AlertKind::DeliveryRecovered { .. }
        );
        let mut untold = None;
        if !is_about_telling {
            match self.outages.begin(destination, now).await {
                Ok(outage) if !outage.is_told => {
                    let alert = telling::broken(destination, outage, &error, now);
                    let others = self.notifier.others(&alert, destination);
                    instead.extend(others.iter().map(|to| Delivery::new(alert.clone(), to, now)));
                    untold = Some(outage);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "that telling is broken is told later"),
            }
        }
        let is_saved = self.save(&delivery.id, Attempt::Failed { error, instead }).await;
        if let Some(outage) = untold
            && is_saved
            && let Err(error) = self.outages.told(destination, outage).await
        {
            tracing::warn!(%error, "that telling is broken is owed once more, under the same id");
        }
    }

    /// The same alert to the destination's `escalate_to`.
    fn stand_in(&self, delivery: &Delivery, now: Timestamp) -> Option<Delivery> {
        let to = self.notifier.escalates_to(&delivery.destination)?;
        // That a destination is broken is not told to itself.
        if matches!(&delivery.alert.kind, AlertKind::DeliveryFailing { destination } if destination == to)
        {
            return None;
        }
        let mut stand_in = Delivery::new(delivery.alert.clone(), to, now);
        stand_in.stands_in_for = Some(delivery.id.clone());
        Some(stand_in)
    }

    /// Tells the next one as well when a delivery has been tried for long.
    async fn escalate_early(&self, delivery: &Delivery, now: Timestamp) {
        let age = now.duration_since(delivery.created_at);
        let Some(after) = self.notifier.escalates_after(&delivery.destination) else { return };
        if age >= after
            && let Some(stand_in) = self.stand_in(delivery, now)
            && let Err(error) = self.raise(vec![stand_in]).await
        {
            tracing::warn!(%error, "nobody else is told yet");
        }
    }

    /// Says that a destination works again, if it was said that it does not.
    async fn mended(&self, destination: &str) {
        let Ok(Some(outage)) = self.outages.of(destination).await else { return };
        let now = self.clock.now();
        let alert = telling::mended(destination, outage, now);
        let to = self.notifier.others(&alert, destination);
        let owed = to.iter().map(|to| Delivery::new(alert.clone(), to, now)).collect();
        let done = match self.raise(owed).await {
            Ok(()) => self.outages.end(destination).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "that telling is mended is owed once more, under the same id");
        }
    }

    async fn raise(&self, owed: Vec<Delivery>) -> Result<(), OutboxError> {
        self.outbox.raise(owed).await?;
        self.readied.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Saves what an attempt came to; true when it was saved.
    async fn save(&self, id: &DeliveryId, attempt: Attempt) -> bool {
        for round in 1..=SAVES_MAX {
            let saved = self.outbox.attempted(id, attempt.clone(), self.clock.now()).await;
            let error = match saved {
                Ok(readies) => {
                    self.readied.fetch_or(readies, Ordering::Relaxed);
                    return true;
                }
                Err(error) => error,
            };
            tracing::warn!(delivery = %id, %error, "an attempt could not be saved");
            if round < SAVES_MAX {
                let pause = retry::back_off(SAVE_PAUSE, SAVE_PAUSE_MAX, round, retry::chance());
                tokio::time::sleep(pause).await;
            }
        }
        // The lease runs out, and it is sent again: twice is better than never.
        false
    }
}

/// The pause before the next attempt: doubled each time, and never the same for all that failed
/// together.
fn back_off(delivery: &Delivery) -> SignedDuration {
    // The id is the source of chance: it needs no generator, and a test can repeat it.
    let hash = fnv::extend(fnv::hash(&delivery.attempts.to_le_bytes()), delivery.id.0.as_bytes());
    let chance = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    let pause = retry::back_off(BACK_OFF, BACK_OFF_MAX, delivery.attempts, chance);
    SignedDuration::try_from(pause).unwrap_or(SignedDuration::from_mins(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let now = Timestamp::UNIX_EPOCH;
        let outage = telling::Outage { since: now, is_told: false };
        let alert = telling::broken("chat", outage, "gone", now);
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
