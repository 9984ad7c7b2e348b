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

/// The engine's part of the configuration.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Requests that may wait.
    pub queue_requests_max: usize,
    /// Bytes that may wait.
    pub queue_bytes_max: usize,
    /// Largest body in bytes, before and after inflating.
    pub body_bytes_max: usize,
    /// Days for which ended incidents stay in memory.
    pub memory_days: u32,
    /// Seconds without a finding after which an incident closes.
    pub quiet_after_secs: u32,
    /// Days for which the store keeps ended incidents.
    pub retention_days: u32,
    /// When the digest of informational incidents is sent.
    pub digest: DigestConfig,
    /// Names of accounts.
    pub accounts: BTreeMap<String, AccountName>,
    /// Approved root use.
    pub windows: Vec<Window>,
    /// Which accounts records are trusted to be of.
    pub trust: Trust,
    /// Whether the engine itself applies what time alone changes; otherwise
    /// [`EngineHandle::tick`](crate::EngineHandle::tick) does.
    pub ticks: bool,
}

/// What the engine works with: its services.
#[derive(Debug, Clone)]
pub struct EngineParts {
    /// Where decisions are saved.
    pub store: Arc<dyn Store>,
    /// The detection rules.
    pub rules: Arc<Ruleset>,
    /// Routes alerts to destinations.
    pub notifier: Arc<Notifier>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Wakes the worker that sends deliveries.
    pub wake: Arc<Notify>,
}
