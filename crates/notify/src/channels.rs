//! The channels: kinds of destinations.
//!
//! A channel is one file, a `mod` line and a word in the list below. Its file holds
//!
//! * `Config`: its keys, [`Settings`] for it, with what can be checked offline, what is written of it
//!   in `docs/reference/channels.md`, and an example,
//! * `render`: a pure function from a [`Message`] to what is sent, bounded by the channel's limits
//!   and with every text escaped,
//! * a [`Channel`]: `send`, and `probe`, which goes the same way.
//!
//! A channel that changes what it sent before (a ticket, a thread) keeps the vendor's id of it in a
//! [`ThreadMemory`].

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::alert::Alert;
use rootwatch_core::delivery::DeliveryId;
use rootwatch_core::secret::{Secret, SecretRef};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::log_sink::LogSink;
use crate::wording::Wording;
use crate::{Outbox, Sent};

// Plain `mod` lines: rustfmt and grep do not look into macros.
pub mod email;
pub mod eventbridge;
pub mod log;
pub mod ocsf;
pub mod pagerduty;
pub mod securityhub;
pub mod servicenow;
pub mod slack;
pub mod sms;
pub mod sns;
pub mod teams;
pub mod webhook;
pub mod zendesk;

/// Generates the configuration and the dispatch from the names of the channels.
macro_rules! channel_table {
    ($($name:ident),+ $(,)?) => {
        /// The configuration of a destination's channel. The variants are named as in the
        /// configuration.
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(tag = "channel")]
        #[non_exhaustive]
        pub enum ChannelConfig {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name::Config),
            )+
        }

        impl ChannelConfig {
            /// The names of all channels.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// The channel's name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)+ }
            }

            /// Reads the keys of the channel with this name.
            pub(crate) fn read(name: &str, keys: serde_json::Value) -> Result<Self, String> {
                match name {
                    $(stringify!($name) => <$name::Config as Deserialize>::deserialize(keys)
                        .map(Self::$name)
                        .map_err(|error| error.to_string()),)+
                    _ => {
                        let name = rootwatch_core::text::cap(name, 40);
                        Err(format!("unknown channel `{name}`, expected one of {}",
                            Self::NAMES.join(", ")))
                    }
                }
            }

            pub(crate) fn schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
                vec![$((stringify!($name), <$name::Config as JsonSchema>::json_schema(generator))),+]
            }

            fn settings(&self) -> &dyn AnySettings {
                match self { $(Self::$name(config) => config,)+ }
            }

            /// An example destination of the channel with this name; `None` if the channel does not
            /// exist.
            #[must_use]
            pub fn example(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name(Settings::example())),)+
                    _ => None,
                }
            }
        }
    };
}

channel_table!(
    email,
    eventbridge,
    log,
    ocsf,
    pagerduty,
    securityhub,
    servicenow,
    slack,
    sms,
    sns,
    teams,
    webhook,
    zendesk,
);

impl ChannelConfig {
    /// Faults that can be found offline: the key, and what is wrong.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        self.settings().problems()
    }

    pub(crate) fn behavior(&self) -> Behavior {
        self.settings().behavior()
    }

    /// True if the channel receives acknowledgements.
    pub(crate) fn keeps_tickets(&self) -> bool {
        self.settings().keeps_tickets()
    }

    /// True if `[notify.redact]` applies by default.
    #[must_use]
    pub fn is_read_by_people(&self) -> bool {
        self.behavior().is_chat
    }

    /// What is known of the channel, for its documentation.
    #[must_use]
    pub fn facts(&self) -> &'static Facts {
        self.settings().facts()
    }

    /// The bytes that would be sent for a message: the body of a request, a mail, an entry.
    #[must_use]
    pub fn render(&self, message: &Message<'_>) -> Vec<u8> {
        self.settings().render(message)
    }

    pub(crate) fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        self.settings().open(tools)
    }
}

/// A fault of a channel's configuration: the key, and what is wrong.
pub(crate) type Fault = (&'static str, String);

/// The behavior of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behavior {
    /// True for chats and tickets, which many people read: `[notify.redact]` applies by default.
    pub(crate) is_chat: bool,
    /// Messages per minute that the channel supports; 0: unlimited.
    pub(crate) rate_per_minute: u32,
}

/// A secret as examples show it.
fn example_secret(name: &str) -> SecretRef {
    SecretRef::Env(name.to_owned())
}

/// The documentation of a channel, from which `docs/reference/channels.md` is generated. Texts are
/// Markdown.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What the channel does and how to set up the other side; sentences.
    pub about: &'static str,
    /// Limits of every message: what, and how much.
    pub limits: &'static [(&'static str, &'static str)],
    /// Answers of the other side, and their consequences.
    pub answers: &'static [(&'static str, &'static str)],
    /// What happens when a message is resent because its answer was lost.
    pub repeats: &'static str,
    /// What `probe` checks, and what it cannot check.
    pub probe: &'static str,
}

/// The keys of a channel.
pub(crate) trait Settings: DeserializeOwned + Serialize + JsonSchema {
    const BEHAVIOR: Behavior;
    const FACTS: Facts;
    /// True where each incident has a ticket or a page of its own that shows who looks after it.
    /// Other channels do not hear of [`rootwatch_core::alert::AlertKind::Acknowledged`].
    fn keeps_tickets(&self) -> bool {
        false
    }

    /// A destination as the documentation shows it, with secrets of `env:`.
    fn example() -> Self;

    /// Faults that can be found offline.
    fn problems(&self) -> Vec<Fault>;

    /// The bytes that would be sent for a message. Pure; bounded by the channel's limits.
    fn render(&self, message: &Message<'_>) -> Vec<u8>;

    /// Makes the channel ready: resolves secrets, builds clients. Sends nothing.
    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>>;
}

trait AnySettings {
    fn behavior(&self) -> Behavior;
    fn keeps_tickets(&self) -> bool;
    fn facts(&self) -> &'static Facts;
    fn render(&self, message: &Message<'_>) -> Vec<u8>;
    fn problems(&self) -> Vec<Fault>;
    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>>;
}

impl<S: Settings> AnySettings for S {
    fn behavior(&self) -> Behavior {
        S::BEHAVIOR
    }

    fn keeps_tickets(&self) -> bool {
        Settings::keeps_tickets(self)
    }

    fn facts(&self) -> &'static Facts {
        &S::FACTS
    }

    fn render(&self, message: &Message<'_>) -> Vec<u8> {
        Settings::render(self, message)
    }

    fn problems(&self) -> Vec<Fault> {
        Settings::problems(self)
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        Settings::open(self, tools)
    }
}

/// What a channel needs when it is opened.
pub(crate) struct Tools<'a> {
    /// The destination's name.
    pub(crate) destination: &'a str,
    /// Resolves a secret; the error is in words.
    pub(crate) resolve: &'a dyn Fn(&SecretRef) -> Result<Secret, String>,
    /// Where `log` writes.
    pub(crate) log: LogSink,
    /// How AWS is reached.
    pub(crate) aws: &'a crate::AwsAccess,
}

impl Tools<'_> {
    /// A secret that the configuration refers to.
    pub(crate) fn secret(&self, key: &'static str, at: &SecretRef) -> Result<Secret, Vec<Fault>> {
        (self.resolve)(at).map_err(|error| {
            vec![(key, format!("{at}: {}", rootwatch_core::text::cap(&error, 300)))]
        })
    }
}

/// A message for a channel.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The words, the same for every channel.
    pub wording: &'a Wording,
    /// The alert to send.
    pub alert: &'a Alert,
    /// Names the delivery, the same in every retry: the idempotency key.
    pub id: &'a DeliveryId,
    /// Ties the messages about one thing together.
    pub thread: &'a str,
    /// When this attempt begins.
    pub now: Timestamp,
}

impl Message<'_> {
    /// For programs: the alert without its findings, where a channel has no room for them. Says so
    /// with `"shortened": true`.
    pub(crate) fn shortened(&self) -> serde_json::Value {
        let accounts = self.alert.incident().map(|brief| {
            let ids = brief.accounts.iter().take(SHORTENED_ACCOUNTS_MAX);
            ids.map(|account| rootwatch_core::text::cap(&account.id, 12)).collect::<Vec<_>>()
        });
        serde_json::json!({
            "id": self.alert.id,
            "kind": self.alert.kind.name(),
            "decided_at": self.alert.decided_at,
            "severity": self.wording.severity,
            "incident": self.alert.incident().map(|brief| &brief.id),
            "accounts": accounts,
            "title": self.wording.title,
            "compact": self.wording.compact,
            "link": self.wording.json["link"],
            "shortened": true,
        })
    }
}

/// Accounts that [`Message::shortened`] names.
const SHORTENED_ACCOUNTS_MAX: usize = 50;

/// What a channel keeps of one thread between its messages: the vendor's id of a ticket or of a
/// thread's first message. It survives restarts.
///
/// A crash between the vendor's answer and [`ThreadMemory::put`] loses it: a channel asks the vendor first
/// where that can be asked for our id.
#[derive(Debug)]
pub struct ThreadMemory<'a> {
    outbox: &'a dyn Outbox,
    name: String,
}

impl<'a> ThreadMemory<'a> {
    /// What the destination keeps of this thread.
    pub(crate) fn new(outbox: &'a dyn Outbox, destination: &str, thread: &str) -> Self {
        Self { outbox, name: format!("thread:{destination}:{thread}") }
    }

    /// The stored value; `Err` is the outcome of the attempt.
    pub(crate) async fn get(&self) -> Result<Option<String>, Sent> {
        self.outbox.note(&self.name).await.map_err(|error| Self::refused(&error))
    }

    /// Keeps a small text in place of the last one.
    pub(crate) async fn put(&self, text: &str) -> Result<(), Sent> {
        let kept = self.outbox.put_note(&self.name, Some(text)).await;
        kept.map_err(|error| Self::refused(&error))
    }

    fn refused(error: &crate::OutboxError) -> Sent {
        Sent::RetryAfter { after: None, error: error.to_string() }
    }
}

/// An opened channel.
#[async_trait]
pub(crate) trait Channel: fmt::Debug + Send + Sync {
    /// One attempt. The caller bounds its time.
    async fn send(&self, message: &Message<'_>, memory: &ThreadMemory<'_>) -> Sent;

    /// Checks whether sending would work, over the same connection, without a visible message where
    /// the channel allows that.
    async fn probe(&self, now: Timestamp) -> Sent;
}
