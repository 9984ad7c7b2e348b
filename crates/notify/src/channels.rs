//! The channels: kinds of destinations.
//!
//! A channel is one file and one word on the `roster!`. Its file holds
//!
//! * `Config`: its keys, [`Settings`] for it, with what can be checked offline,
//! * `render`: a pure function from a [`Message`] to what is sent, bounded by the channel's limits
//!   and with every text escaped,
//! * a [`Channel`]: `send`, and `probe`, which goes the same way.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::alert::{Alert, DeliveryId};
use rootwatch_core::secret::{Secret, SecretRef};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Sent;
use crate::notifier::LogSink;
use crate::wording::Wording;

/// Makes the modules, the configuration and the dispatch from the names of the channels.
macro_rules! roster {
    ($($name:ident),+ $(,)?) => {
        $(pub mod $name;)+

        /// The configuration of a destination's channel. The variants bear the names that the
        /// configuration knows.
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
                        let name = rootwatch_core::words::cap(name, 40);
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
        }
    };
}

roster!(log, slack, webhook);

impl ChannelConfig {
    /// Faults that can be found offline: the key, and what is wrong.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        self.settings().problems()
    }

    pub(crate) fn traits(&self) -> Traits {
        self.settings().traits()
    }

    pub(crate) fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        self.settings().open(tools)
    }
}

/// A fault of a channel's configuration: the key, and what is wrong.
pub(crate) type Fault = (&'static str, String);

/// What a channel is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// True where messages lie open to many: what `[notify.redact]` says is masked by default.
    pub(crate) is_chat: bool,
    /// Messages a minute that the channel bears; 0 for no limit.
    pub(crate) rate_per_minute: u32,
}

/// The keys of a channel.
pub(crate) trait Settings: DeserializeOwned + Serialize + JsonSchema {
    const TRAITS: Traits;

    /// Faults that can be found offline.
    fn problems(&self) -> Vec<Fault>;

    /// Makes the channel ready: resolves secrets, builds clients. Sends nothing.
    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>>;
}

trait AnySettings {
    fn traits(&self) -> Traits;
    fn problems(&self) -> Vec<Fault>;
    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>>;
}

impl<S: Settings> AnySettings for S {
    fn traits(&self) -> Traits {
        S::TRAITS
    }

    fn problems(&self) -> Vec<Fault> {
        Settings::problems(self)
    }

    fn open(&self, tools: &Tools<'_>) -> Result<Box<dyn Channel>, Vec<Fault>> {
        Settings::open(self, tools)
    }
}

/// What channels are made with.
pub(crate) struct Tools<'a> {
    /// Resolves a secret; the error is in words.
    pub(crate) resolve: &'a dyn Fn(&SecretRef) -> Result<Secret, String>,
    /// Where `log` writes.
    pub(crate) log: LogSink,
}

impl Tools<'_> {
    /// A secret that the configuration refers to.
    pub(crate) fn secret(&self, key: &'static str, at: &SecretRef) -> Result<Secret, Vec<Fault>> {
        (self.resolve)(at).map_err(|error| {
            vec![(key, format!("{at}: {}", rootwatch_core::words::cap(&error, 300)))]
        })
    }
}

/// What a channel is given to send.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The words, the same for every channel.
    pub wording: &'a Wording,
    /// What is told.
    pub alert: &'a Alert,
    /// Names the delivery, the same in every retry: the idempotency key.
    pub id: &'a DeliveryId,
    /// Ties the messages about one thing together.
    pub thread: &'a str,
    /// When this attempt begins.
    pub now: Timestamp,
}

/// A way to tell people, made ready.
#[async_trait]
pub(crate) trait Channel: fmt::Debug + Send + Sync {
    /// One attempt. The caller bounds its time.
    async fn send(&self, message: &Message<'_>) -> Sent;

    /// Asks whether sending would work, by the same way, without telling anybody anything where the
    /// channel can be asked so.
    async fn probe(&self, now: Timestamp) -> Sent;
}
