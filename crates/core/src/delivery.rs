//! Deliveries: one alert to one destination, with its attempts and receipt.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::Alert;

/// Identifies one delivery: an alert to a destination. Stable across retries and restarts, so that
/// channels use it as their idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryId(pub String);

impl DeliveryId {
    /// The delivery of an alert to a destination.
    #[must_use]
    pub fn of(alert_id: &str, destination: &str) -> Self {
        Self(format!("{alert_id}@{destination}"))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be sent when due: new, or to be retried.
    Due,
    /// The channel accepted it.
    Delivered,
    /// Not retried any more: rejected permanently, or too old. The escalation was enqueued, if one is
    /// configured.
    Failed,
}

impl DeliveryState {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Due, Self::Delivered, Self::Failed];

    /// The name used in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// An alert to a destination, with its attempts and receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Name of the destination, from the configuration.
    pub destination: String,
    /// The alert to send.
    pub alert: Alert,
    /// Its state.
    pub state: DeliveryState,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// Not to be sent before this time.
    pub due_at: Timestamp,
    /// Leased by a worker until then; afterwards any worker may send it.
    pub leased_until: Option<Timestamp>,
    /// Attempts that began.
    pub attempts: u32,
    /// The error of the last attempt, without secrets.
    pub last_error: Option<String>,
    /// The channel's response: an id or `ok`.
    pub receipt: Option<String>,
    /// When it ended, delivered or failed.
    pub ended_at: Option<Timestamp>,
    /// The failed delivery that this one replaces.
    pub stands_in_for: Option<DeliveryId>,
}

impl Delivery {
    /// A delivery that is due at once.
    #[must_use]
    pub fn new(alert: Alert, destination: &str, now: Timestamp) -> Self {
        Self {
            id: DeliveryId::of(&alert.id, destination),
            destination: destination.to_owned(),
            alert,
            state: DeliveryState::Due,
            created_at: now,
            due_at: now,
            leased_until: None,
            attempts: 0,
            last_error: None,
            receipt: None,
            ended_at: None,
            stands_in_for: None,
        }
    }
}
