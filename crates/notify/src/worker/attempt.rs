//! One attempt at one delivery, and its consequences.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{AlertKind, Clock};
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::retry;

use super::retry::{back_off, requested_pause};
use crate::outage::{self, Outages};
use crate::{Attempt, Notifier, Outbox, OutboxError, Sent};

/// How often saving an outcome is tried, and the first pause in between: together much shorter than a
/// lease.
const SAVES_MAX: u32 = 6;
const SAVE_PAUSE: Duration = Duration::from_millis(100);
const SAVE_PAUSE_MAX: Duration = Duration::from_millis(1_600);

/// The result of one task.
#[derive(Debug)]
pub(super) struct FinishedAttempt {
    pub(super) id: DeliveryId,
    pub(super) destination: String,
    pub(super) outcome: AttemptOutcome,
}

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptOutcome {
    Delivered,
    /// To be retried, and the pause that the destination asked for, if any.
    RetryLater(Option<SignedDuration>),
    Failed,
    /// Failed without a further attempt because it is too old.
    Expired,
    /// Not sent; due again.
    Returned,
}

/// What attempts need.
#[derive(Debug, Clone)]
pub(super) struct AttemptContext {
    pub(super) notifier: Arc<Notifier>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) outages: Arc<Outages>,
    /// Set when an outcome may have made another delivery ready to be leased.
    pub(super) readied: Arc<AtomicBool>,
}

impl AttemptContext {
    /// True if a delivery is too old and was tried before or its destination is known to fail. A
    /// delivery that only waited while the hub was down is tried first.
    pub(super) fn is_expired(&self, delivery: &Delivery, is_failing: bool) -> bool {
        let age = self.clock.now().duration_since(delivery.created_at);
        (delivery.attempts > 1 || is_failing) && age > self.notifier.age_max(&delivery.destination)
    }

    /// Returns a leased delivery that was not sent.
    pub(super) async fn return_unsent(self, delivery: Delivery, at: Timestamp) -> FinishedAttempt {
        let error = delivery.last_error.clone();
        let error = error.unwrap_or_else(|| "not sent yet: the destination is busy".to_owned());
        self.save(&delivery.id, Attempt::Again { at, error, not_begun: true }).await;
        self.escalate_early(&delivery, self.clock.now()).await;
        FinishedAttempt {
            id: delivery.id,
            destination: delivery.destination,
            outcome: AttemptOutcome::Returned,
        }
    }

    /// Fails a delivery that is too old.
    pub(super) async fn expire(self, delivery: Delivery) -> FinishedAttempt {
        let hours = self.clock.now().duration_since(delivery.created_at).as_hours();
        let last = delivery.last_error.as_deref().unwrap_or("no attempt succeeded");
        let error = format!("not delivered within {hours} hours: {last}");
        self.fail(&delivery, error).await;
        FinishedAttempt {
            id: delivery.id,
            destination: delivery.destination,
            outcome: AttemptOutcome::Expired,
        }
    }

    /// One attempt.
    pub(super) async fn attempt(self, delivery: Delivery) -> FinishedAttempt {
        // A bug in a channel costs this delivery one attempt, and nothing else.
        let send =
            AssertUnwindSafe(self.notifier.send(&delivery, self.outbox.as_ref())).catch_unwind();
        let sent = send.await.unwrap_or_else(|_| Sent::RetryAfter {
            after: None,
            error: "internal error in the channel; see the log".to_owned(),
        });
        let outcome = match sent {
            Sent::Delivered { receipt } => {
                self.save(&delivery.id, Attempt::Delivered { receipt }).await;
                self.record_recovery(&delivery.destination).await;
                AttemptOutcome::Delivered
            }
            Sent::RetryAfter { after, error } => self.retry_later(&delivery, after, error).await,
            Sent::Rejected { error } | Sent::Misconfigured { error } => {
                self.fail(&delivery, error).await;
                AttemptOutcome::Failed
            }
        };
        FinishedAttempt { id: delivery.id, destination: delivery.destination, outcome }
    }

    async fn retry_later(
        &self,
        delivery: &Delivery,
        after: Option<SignedDuration>,
        error: String,
    ) -> AttemptOutcome {
        let after = requested_pause(after);
        let now = self.clock.now();
        let pause = after.unwrap_or_else(|| back_off(delivery));
        let at = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        tracing::warn!(
            delivery = %delivery.id, attempt = delivery.attempts, error,
            "delivery failed; retrying"
        );
        self.save(&delivery.id, Attempt::Again { at, error, not_begun: false }).await;
        self.escalate_early(delivery, now).await;
        AttemptOutcome::RetryLater(after)
    }

    /// Fails the delivery permanently. Enqueues its escalation and, once per outage, the alert about
    /// the outage.
    async fn fail(&self, delivery: &Delivery, error: String) {
        tracing::error!(delivery = %delivery.id, error, "delivery failed permanently");
        let now = self.clock.now();
        let destination = &delivery.destination;
        let mut instead: Vec<Delivery> = self.escalation(delivery, now).into_iter().collect();
        // Only real alerts start an outage. Its alert goes to all other destinations.
        let is_about_delivery = matches!(
            delivery.alert.kind,
            AlertKind::Test
                | AlertKind::DeliveryFailing { .. }
                | AlertKind::DeliveryRecovered { .. }
        );
        let mut unnotified = None;
        if !is_about_delivery {
            match self.outages.begin(destination, now).await {
                Ok(outage) if !outage.is_notified => {
                    let alert = outage::failing(destination, outage, &error, now);
                    let others = self.notifier.others(&alert, destination);
                    instead.extend(others.iter().map(|to| Delivery::new(alert.clone(), to, now)));
                    unnotified = Some(outage);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot record the outage; the next failure records it");
                }
            }
        }
        let is_saved = self.save(&delivery.id, Attempt::Failed { error, instead }).await;
        if let Some(outage) = unnotified
            && is_saved
            && let Err(error) = self.outages.mark_notified(destination, outage).await
        {
            tracing::warn!(%error, "could not mark the outage as notified; its alert may be enqueued again with the same id");
        }
    }

    /// The same alert to the destination's `escalate_to`.
    fn escalation(&self, delivery: &Delivery, now: Timestamp) -> Option<Delivery> {
        let to = self.notifier.escalates_to(&delivery.destination)?;
        // A destination does not receive the alert about its own outage.
        if matches!(&delivery.alert.kind, AlertKind::DeliveryFailing { destination } if destination == to)
        {
            return None;
        }
        let mut escalation = Delivery::new(delivery.alert.clone(), to, now);
        escalation.stands_in_for = Some(delivery.id.clone());
        Some(escalation)
    }

    /// Also sends to `escalate_to` when a delivery has not succeeded for `escalate_after_mins`.
    async fn escalate_early(&self, delivery: &Delivery, now: Timestamp) {
        let age = now.duration_since(delivery.created_at);
        let Some(after) = self.notifier.escalates_after(&delivery.destination) else { return };
        if age >= after
            && let Some(escalation) = self.escalation(delivery, now)
            && let Err(error) = self.enqueue(vec![escalation]).await
        {
            tracing::warn!(%error, "could not enqueue the escalation; retrying with the next attempt");
        }
    }

    /// Ends the outage of a destination, if there is one, and enqueues the alert about it.
    async fn record_recovery(&self, destination: &str) {
        let outage = match self.outages.of(destination).await {
            Ok(Some(outage)) => outage,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(destination, %error, "cannot read the outage; the next delivery ends it");
                return;
            }
        };
        let now = self.clock.now();
        let alert = outage::recovered(destination, outage, now);
        let to = self.notifier.others(&alert, destination);
        let deliveries = to.iter().map(|to| Delivery::new(alert.clone(), to, now)).collect();
        let done = match self.enqueue(deliveries).await {
            Ok(()) => self.outages.end(destination).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "could not record the recovery; its alert may be enqueued again with the same id");
        }
    }

    async fn enqueue(&self, deliveries: Vec<Delivery>) -> Result<(), OutboxError> {
        self.outbox.raise(deliveries).await?;
        self.readied.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Saves the outcome of an attempt; true if it was saved.
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
            tracing::warn!(delivery = %id, %error, "cannot save the outcome of an attempt");
            if round < SAVES_MAX {
                let pause = retry::back_off(SAVE_PAUSE, SAVE_PAUSE_MAX, round, retry::chance());
                tokio::time::sleep(pause).await;
            }
        }
        // The lease runs out and the message is sent again: twice is better than never.
        false
    }
}
