//! What the engine needs to start.

use std::collections::BTreeMap;
use std::sync::Arc;

use rootwatch_core::alert::{AccountName, Clock};
use rootwatch_core::rules::Ruleset;
use rootwatch_core::window::Window;
use rootwatch_notify::{DigestConfig, Notifier};
use rootwatch_store::Store;
use tokio::sync::Notify;

use crate::intake::Trust;

/// What the engine needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests that wait at most.
    pub queue_requests_max: usize,
    /// Bytes that wait at most.
    pub queue_bytes_max: usize,
    /// Bytes of one body at most, before and after inflating.
    pub body_bytes_max: usize,
    /// Days for which incidents that are over stay in memory.
    pub memory_days: u32,
    /// Seconds of silence that close an incident.
    pub quiet_after_secs: u32,
    /// Days that the store keeps.
    pub retention_days: u32,
    /// When informational incidents are told together.
    pub digest: DigestConfig,
    /// Names of accounts.
    pub accounts: BTreeMap<String, AccountName>,
    /// Approved root use.
    pub windows: Vec<Window>,
    /// Which records are ours.
    pub trust: Trust,
    /// Whether the engine looks by itself what time alone changes; else [`Ingest::tick`] does.
    pub ticks: bool,
}

/// What the engine works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where it saves.
    pub store: Arc<dyn Store>,
    /// What it looks for.
    pub rules: Arc<Ruleset>,
    /// Whom it tells.
    pub notifier: Arc<Notifier>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Wakes who sends deliveries.
    pub wake: Arc<Notify>,
}
