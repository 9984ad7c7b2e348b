//! Alerts: routing, wording, channels, delivery and retries.
//!
//! [`Notifier`] holds the destinations. For each alert, [`route`] selects destinations, [`wording`]
//! writes the texts once for all channels, and the `render` of each channel fits them into the
//! channel's limits. These three are pure functions of their arguments. `send` makes one attempt, with
//! one of four outcomes ([`Sent`]): delivered, retry later, rejected, misconfigured.
//!
//! [`Worker`] delivers what an [`Outbox`] holds. It leases due deliveries, keeps destinations apart so
//! that one that hangs delays no other, backs off with jitter, obeys `Retry-After`, and opens a circuit
//! breaker on a destination that keeps failing. A delivery that is rejected or too old is sent to
//! `escalate_to` instead, and begins an outage: an alert of its own to all other destinations.
//!
//! A channel documents itself as data ([`channels::Facts`]): limits, answers and their consequences,
//! what a repeat does. Documentation, previews and snapshots come from the same functions as messages.
//! What a channel must remember of a thread, such as a ticket's id, is a note in the outbox, so that a
//! restart neither loses nor duplicates it; if the vendor can be searched for our id, the channel does
//! that first. AWS calls are signed requests without an SDK per service. Every answer that is read is
//! bounded.
//!
//! Texts are masked before templates see them, and templates run before channels escape them. A
//! template that fails leaves the built-in text: no alert is lost to a template.

pub mod aws;
pub mod channels;
pub mod config;
pub mod outbox;
pub mod permissions;
pub mod route;
pub mod sample;
pub mod wording;
pub mod worker;

mod digest;
mod guard;
mod http;
mod log_sink;
mod notifier;
mod outage;
mod time_of_day;
mod transliterate;

pub use self::aws::AwsAccess;
pub use self::config::{ConfigProblem, DestinationConfig, NotifyConfig};
pub use self::digest::DigestConfig;
pub use self::log_sink::{LogSink, standard_output};
pub use self::notifier::{Notifier, preview};
pub use self::outbox::{Attempt, Outbox, OutboxError};
pub use self::route::Route;
pub use self::time_of_day::TimeOfDay;
pub use self::wording::Wording;
pub use self::wording::config::{RedactConfig, TemplateConfig};
pub use self::worker::Worker;
pub use rootwatch_aws::tls_config as tls;

use jiff::SignedDuration;

/// What one attempt came to. Texts are safe to show and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The channel took it.
    Delivered {
        /// What it answered: an id or `ok`.
        receipt: String,
    },
    /// It may work later.
    RetryAfter {
        /// How long the channel asks to be left alone; `None` where it says nothing.
        after: Option<SignedDuration>,
        /// What went wrong.
        error: String,
    },
    /// The channel will never take this message.
    Rejected {
        /// What it said.
        error: String,
    },
    /// Nothing was sent, and nothing can be sent until the configuration changes.
    Misconfigured {
        /// What is wrong.
        error: String,
    },
}

impl Sent {
    /// What attempts at several receivers of one message come to, each with the receiver's name: to be
    /// retried while one of them may still work, delivered only when all have it.
    pub(crate) fn together(results: Vec<(String, Self)>) -> Self {
        let mut receipts = Vec::new();
        let (mut later, mut after, mut never, mut is_ours) = (Vec::new(), None, Vec::new(), false);
        for (name, sent) in results {
            match sent {
                Self::Delivered { receipt } => receipts.push(receipt),
                Self::RetryAfter { after: pause, error } => {
                    after = after.max(pause);
                    later.push(format!("{name}: {error}"));
                }
                Self::Misconfigured { error } => {
                    is_ours = true;
                    never.push(format!("{name}: {error}"));
                }
                Self::Rejected { error } => never.push(format!("{name}: {error}")),
            }
        }
        let delivered = match receipts.len() {
            0 => String::new(),
            count => format!(" ({count} delivered)"),
        };
        if !later.is_empty() {
            later.append(&mut never);
            Self::RetryAfter { after, error: format!("{}{delivered}", later.join("; ")) }
        } else if is_ours {
            Self::Misconfigured { error: format!("{}{delivered}", never.join("; ")) }
        } else if !never.is_empty() {
            Self::Rejected { error: format!("{}{delivered}", never.join("; ")) }
        } else {
            Self::Delivered { receipt: receipts.join(", ") }
        }
    }

    /// What went wrong; `None` when it was delivered.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Delivered { .. } => None,
            Self::RetryAfter { error, .. }
            | Self::Rejected { error }
            | Self::Misconfigured { error } => Some(error),
        }
    }
}
