//! Incidents, findings, deliveries and unverified records as pages, for people.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::delivery::{Delivery, DeliveryState};
use rootwatch_core::finding::{Finding, RootUse, Severity};
use rootwatch_core::incident::{IncidentId, IncidentKind, IncidentState};

use crate::{StoreError, StoredIncident, Unverified};

/// A finding, its incident, and when it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFinding {
    /// The finding as its incident classifies it.
    pub finding: Finding,
    /// Its incident.
    pub incident: IncidentId,
    /// When it reached the hub.
    pub received_at: Timestamp,
}

/// One page of a list, and where the next starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// At most as many as were requested.
    pub items: Vec<T>,
    /// For [`PageRequest::after`]; `None` at the end.
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Maximum number of items, 1 to [`PAGE_ITEMS_MAX`].
    pub items_max: usize,
    /// The cursor of the page before.
    pub after: Option<String>,
}

/// Maximum number of items on a page.
pub const PAGE_ITEMS_MAX: usize = 500;

impl Default for PageRequest {
    fn default() -> Self {
        Self { items_max: 50, after: None }
    }
}

/// Which incidents to list; an empty field does not filter. Newest (`last_at`) first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// States.
    pub states: Vec<IncidentState>,
    /// Kinds.
    pub kinds: Vec<IncidentKind>,
    /// This severity or higher.
    pub min_severity: Option<Severity>,
    /// Incidents that concern this account.
    pub account: Option<String>,
    /// Last finding at or after this time.
    pub since: Option<Timestamp>,
    /// First finding before this time.
    pub until: Option<Timestamp>,
    /// Informational incidents that no digest has listed yet.
    pub undigested: bool,
}

/// Which findings to list; an empty field does not filter. Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// Findings of this incident.
    pub incident: Option<IncidentId>,
    /// Account of the root user.
    pub account: Option<String>,
    /// Classes of root use.
    pub root_use: Vec<RootUse>,
    /// This severity or higher.
    pub min_severity: Option<Severity>,
    /// Findings that this rule matched.
    pub rule: Option<String>,
    /// At or after this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// Which deliveries to list; an empty field does not filter. Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// States.
    pub states: Vec<DeliveryState>,
    /// To this destination.
    pub destination: Option<String>,
    /// About this incident.
    pub incident: Option<IncidentId>,
}

/// What people look at: one incident, and lists in pages.
#[async_trait]
pub trait Lists: fmt::Debug + Send + Sync {
    /// One incident with its first `findings_max` findings, redundant ones included.
    async fn incident(
        &self,
        id: &IncidentId,
        findings_max: usize,
    ) -> Result<StoredIncident, StoreError>;

    /// Incidents without their findings.
    async fn incidents(
        &self,
        filter: &IncidentFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredIncident>, StoreError>;

    /// Findings, as their incidents classify them.
    async fn findings(
        &self,
        filter: &FindingFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredFinding>, StoreError>;

    /// Deliveries.
    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>, StoreError>;

    /// Unverified records, newest first.
    async fn unverified(&self, page: &PageRequest) -> Result<Page<Unverified>, StoreError>;
}
