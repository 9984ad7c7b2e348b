//! Alerts to messages to channels.
//!
//! [`Notifier`] knows the destinations: it routes an alert ([`route`]), words it ([`wording`]) and
//! sends it by a channel ([`channels`]), one attempt at a time. [`Worker`] empties an [`Outbox`]:
//! it leases what is due, tries again, gives up, escalates, and says when telling people is broken.
//!
//! Wording and routing are functions of their arguments. Only [`Worker`] and the channels' `send`
//! reach outside, and every answer that they read is bounded.

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
    /// Nothing was sent, and nothing can be until somebody changes the configuration.
    Misconfigured {
        /// What is wrong.
        error: String,
    },
}

impl Sent {
    /// What attempts at several receivers of one message come to, each with the receiver's name: to be
    /// tried again while one of them may still work, delivered only when all were told.
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
        let told = match receipts.len() {
            0 => String::new(),
            count => format!(" ({count} told)"),
        };
        if !later.is_empty() {
            later.append(&mut never);
            Self::RetryAfter { after, error: format!("{}{told}", later.join("; ")) }
        } else if is_ours {
            Self::Misconfigured { error: format!("{}{told}", never.join("; ")) }
        } else if !never.is_empty() {
            Self::Rejected { error: format!("{}{told}", never.join("; ")) }
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
