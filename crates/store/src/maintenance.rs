//! Counts, pruning and the health check.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::delivery::DeliveryState;
use rootwatch_core::finding::Severity;
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// Numbers for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open incidents by severity.
    pub open_incidents: BTreeMap<Severity, u64>,
    /// Deliveries by destination and state; ended ones until they are pruned.
    pub deliveries: BTreeMap<(String, DeliveryState), u64>,
    /// When the oldest pending delivery was enqueued.
    pub oldest_due: Option<Timestamp>,
    /// Findings.
    pub findings: u64,
    /// Unverified records.
    pub unverified: u64,
}

/// What pruning deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Ended incidents.
    pub incidents: u64,
    /// Their findings.
    pub findings: u64,
    /// Ended deliveries.
    pub deliveries: u64,
    /// Unverified records.
    pub unverified: u64,
}

/// Prefixes of the names of notes that pruning deletes by age: message ids that were received, and
/// what channels keep about threads.
#[cfg(any(feature = "sqlite", feature = "aws"))]
pub(crate) const EXPIRING_NOTES: [&str; 2] = ["seen:", "thread:"];

/// Keeps a store small and shows whether it works.
#[async_trait]
pub trait Maintenance: fmt::Debug + Send + Sync {
    /// Numbers for health and metrics.
    async fn stats(&self) -> Result<Stats, StoreError>;

    /// Deletes what ended before `before`: quiet and resolved incidents with their findings, ended
    /// deliveries, unverified records, and notes about messages (`seen:…`) and threads
    /// (`thread:…`). Other notes stay.
    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError>;

    /// A cheap write and read that shows whether the store works.
    async fn ping(&self) -> Result<(), StoreError>;
}
