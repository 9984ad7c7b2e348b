//! Routes, words and sends alerts to the configured destinations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::{Alert, Clock};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::secret::{Secret, SecretRef};
use rootwatch_core::text;

use crate::channels::{Channel, Message, ThreadMemory, Tools};
use crate::config::{self, Common, ConfigProblem, DestinationConfig, NotifyConfig};
use crate::log_sink::{LogSink, standard_output};
use crate::wording::config::{RedactConfig, TemplateConfig};
use crate::wording::{Wording, WordingOptions};
use crate::{AwsAccess, Outbox, Sent, route};

/// Longest error that is stored with a delivery, in columns.
const ERROR_COLUMNS_MAX: usize = 400;

/// One opened destination.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) common: Common,
    /// Messages a minute; 0 for no limit.
    pub(crate) rate_per_minute: u32,
    channel: Box<dyn Channel>,
    redact: RedactConfig,
    template: Option<TemplateConfig>,
}

/// Routes, words and sends alerts.
pub struct Notifier {
    config: NotifyConfig,
    destinations: BTreeMap<String, Destination>,
    clock: Arc<dyn Clock>,
    link_base: Option<String>,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("destinations", &self.destinations).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Opens all destinations: resolves their secrets once and builds their clients. Sends nothing.
    ///
    /// # Errors
    /// All errors in the configuration, in its order.
    pub fn new(
        config: &NotifyConfig,
        resolve: &dyn Fn(&SecretRef) -> Result<Secret, String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<ConfigProblem>> {
        Self::with_log(config, resolve, clock, standard_output())
    }

    /// As [`Notifier::new`]; the channel `log` writes to `log`.
    ///
    /// # Errors
    /// As for [`Notifier::new`].
    pub fn with_log(
        config: &NotifyConfig,
        resolve: &dyn Fn(&SecretRef) -> Result<Secret, String>,
        clock: Arc<dyn Clock>,
        log: LogSink,
    ) -> Result<Self, Vec<ConfigProblem>> {
        Self::with_aws(config, resolve, clock, log, &AwsAccess::default())
    }

    /// As [`Notifier::with_log`]; AWS credentials and regions come from `aws`.
    ///
    /// # Errors
    /// As for [`Notifier::new`].
    pub fn with_aws(
        config: &NotifyConfig,
        resolve: &dyn Fn(&SecretRef) -> Result<Secret, String>,
        clock: Arc<dyn Clock>,
        log: LogSink,
        aws: &AwsAccess,
    ) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Self::check(config);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut destinations = BTreeMap::new();
        for (name, destination) in &config.destination {
            let tools = Tools { resolve, log: Arc::clone(&log), destination: name, aws };
            match destination.channel.open(&tools) {
                Ok(channel) => {
                    let behavior = destination.channel.behavior();
                    let common = destination.common.clone();
                    let rate_per_minute =
                        common.rate_per_minute.unwrap_or(behavior.rate_per_minute);
                    let redact = if common.redact.unwrap_or(behavior.is_chat) {
                        config.redact.clone()
                    } else {
                        RedactConfig::NOTHING
                    };
                    let template = common
                        .template
                        .as_ref()
                        .and_then(|name| config.template.get(name))
                        .cloned();
                    let made = Destination { common, rate_per_minute, channel, redact, template };
                    destinations.insert(name.clone(), made);
                }
                Err(faults) => problems.extend(faults.into_iter().map(|(key, problem)| {
                    ConfigProblem::new(format!("notify.destination.{name}.{key}"), problem)
                })),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self { config: config.clone(), destinations, clock, link_base: None })
    }

    /// The hub's public address, for links in messages: `https://hub.example.com`.
    #[must_use]
    pub fn with_public_url(mut self, url: Option<&str>) -> Self {
        self.link_base = url.map(|url| url.trim_end_matches('/').to_owned());
        self
    }

    /// Finds errors in the configuration offline: unknown destinations, circles of `escalate_to`,
    /// invalid times and zones, values out of range.
    #[must_use]
    pub fn check(config: &NotifyConfig) -> Vec<ConfigProblem> {
        config::check(config)
    }

    /// The destinations of an alert, in order, each once. See [`mod@crate::route`].
    #[must_use]
    pub fn route(&self, alert: &Alert) -> Vec<String> {
        route::route(&self.config.route, &self.config.destination, alert)
    }

    /// The names of all destinations.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.destinations.keys().map(String::as_str)
    }

    /// How many messages may be sent to a destination at one time, and in a minute (0: no limit).
    pub(crate) fn limits(&self, name: &str) -> (usize, u32) {
        self.destinations.get(name).map_or((1, 0), |destination| {
            (destination.common.concurrency as usize, destination.rate_per_minute)
        })
    }

    /// The age at which an undelivered message fails permanently.
    pub(crate) fn age_max(&self, name: &str) -> SignedDuration {
        let hours = self.destinations.get(name).map_or(24, |one| one.common.age_max_hours);
        SignedDuration::from_hours(i64::from(hours))
    }

    /// The destination that receives a message if this one fails.
    pub(crate) fn escalates_to(&self, name: &str) -> Option<&str> {
        self.destinations.get(name)?.common.escalate_to.as_deref()
    }

    /// The age at which `escalate_to` also receives a message; `None`: only after it has failed
    /// permanently.
    pub(crate) fn escalates_after(&self, name: &str) -> Option<SignedDuration> {
        let common = &self.destinations.get(name)?.common;
        let minutes = i64::from(common.escalate_after_mins);
        (common.escalate_to.is_some() && minutes > 0).then(|| SignedDuration::from_mins(minutes))
    }

    /// The destinations of an alert about an outage: all but the failing one, whatever the routes.
    /// Empty if there is no other.
    pub(crate) fn others(&self, alert: &Alert, broken: &str) -> Vec<String> {
        let routed = self.route(alert);
        let all = if routed.is_empty() {
            self.destinations().map(str::to_owned).collect()
        } else {
            routed
        };
        all.into_iter().filter(|name| name != broken).collect()
    }

    /// One attempt: words the alert for the destination's channel and sends it. Bounded in time by
    /// the destination's `timeout_secs`. The channel's state of the thread is stored in the notes
    /// of `outbox`.
    pub async fn send(&self, delivery: &Delivery, outbox: &dyn Outbox) -> Sent {
        let name = &delivery.destination;
        let Some(destination) = self.destinations.get(name) else {
            let name = text::cap(name, 60);
            return Sent::Misconfigured { error: format!("unknown destination `{name}`") };
        };
        let wording = self.worded(destination, delivery);
        let thread = delivery.alert.thread();
        let message = Message {
            wording: &wording,
            alert: &delivery.alert,
            id: &delivery.id,
            thread: &thread,
            now: self.clock.now(),
        };
        let memory = ThreadMemory::new(outbox, name, &thread);
        within(destination, destination.channel.send(&message, &memory)).await
    }

    /// The wording of a delivery for its destination; `None` if the destination does not exist.
    #[must_use]
    pub fn word(&self, delivery: &Delivery) -> Option<Wording> {
        let destination = self.destinations.get(&delivery.destination)?;
        Some(self.worded(destination, delivery))
    }

    fn worded(&self, destination: &Destination, delivery: &Delivery) -> Wording {
        let setting = WordingOptions {
            link_base: self.link_base.as_deref(),
            redact: &destination.redact,
            stands_in_for: delivery.stands_in_for.as_ref(),
            template: destination.template.as_ref(),
        };
        Wording::new(&delivery.alert, &setting)
    }

    /// Checks whether sending to a destination would work, without a visible message where its
    /// channel allows that. `None` if the destination does not exist.
    pub async fn probe(&self, name: &str) -> Option<Sent> {
        let destination = self.destinations.get(name)?;
        Some(within(destination, destination.channel.probe(self.clock.now())).await)
    }
}

async fn within(destination: &Destination, work: impl Future<Output = Sent>) -> Sent {
    let secs = destination.common.timeout_secs;
    let limit = Duration::from_secs(u64::from(secs));
    let sent = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Sent::RetryAfter {
        after: None,
        error: format!("no answer within {secs} s"),
    });
    bounded(sent)
}

fn bounded(sent: Sent) -> Sent {
    let cap = |text: String| text::cap(&text, ERROR_COLUMNS_MAX);
    match sent {
        Sent::Delivered { receipt } => Sent::Delivered { receipt: cap(receipt) },
        Sent::RetryAfter { after, error } => Sent::RetryAfter { after, error: cap(error) },
        Sent::Rejected { error } => Sent::Rejected { error: cap(error) },
        Sent::Misconfigured { error } => Sent::Misconfigured { error: cap(error) },
    }
}

/// The bytes of a delivery: worded, masked and rendered as when it is sent. Needs no secret and
/// sends nothing.
#[must_use]
pub fn preview(
    destination: &DestinationConfig,
    config: &NotifyConfig,
    public_url: Option<&str>,
    delivery: &Delivery,
    now: Timestamp,
) -> Vec<u8> {
    let nothing = RedactConfig::NOTHING;
    let is_masked = destination.common.redact.unwrap_or(destination.channel.behavior().is_chat);
    let setting = WordingOptions {
        link_base: public_url.map(|url| url.trim_end_matches('/')),
        redact: if is_masked { &config.redact } else { &nothing },
        stands_in_for: delivery.stands_in_for.as_ref(),
        template: destination.common.template.as_ref().and_then(|name| config.template.get(name)),
    };
    let wording = Wording::new(&delivery.alert, &setting);
    let thread = delivery.alert.thread();
    let message = Message {
        wording: &wording,
        alert: &delivery.alert,
        id: &delivery.id,
        thread: &thread,
        now,
    };
    destination.channel.render(&message)
}
