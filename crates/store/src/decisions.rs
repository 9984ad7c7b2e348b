//! What the engine reads to decide, and saves in one transaction.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::Change;
use rootwatch_core::delivery::Delivery;
use rootwatch_core::finding::{Finding, FindingKey};
use rootwatch_core::incident::IncidentId;
use serde::{Deserialize, Serialize};

use crate::{Resolution, StoreError, StoredIncident};

/// Everything that one transaction saves.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Changes as [`rootwatch_core::correlate`] reported them, in their order.
    pub changes: Vec<Change>,
    /// When each new finding reached the hub; `now` for findings that are not listed.
    pub received: BTreeMap<FindingKey, Timestamp>,
    /// Deliveries to enqueue. One that exists already stays unchanged.
    pub deliveries: Vec<Delivery>,
    /// The new notified state of these incidents.
    pub notified: Vec<(IncidentId, NotifiedState)>,
    /// The revision that each touched incident must have; a difference is a
    /// [`StoreError::Conflict`]. Incidents that this batch opens are not listed.
    pub expected: Vec<(IncidentId, u64)>,
    /// Records that could not be trusted.
    pub unverified: Vec<Unverified>,
    /// Positions that sources have reached: a name and a mark.
    pub positions: Vec<(String, String)>,
    /// The generation of the store ([`CaughtUp`]) that the decision was made on. If another writer
    /// has committed since, the answer is [`StoreError::Overtaken`]. `None` skips this check, for a
    /// process that decides alone or only enqueues deliveries.
    pub generation: Option<u64>,
    /// When the decision was made.
    pub now: Option<Timestamp>,
}

/// What other writers of a shared store have done since a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaughtUp {
    /// This process has the store for itself: nobody else decides.
    Alone,
    /// These incidents were changed, opened or deleted since the generation that was asked about;
    /// empty if nobody else committed.
    Moved {
        /// The generation now, for [`Batch::generation`].
        generation: u64,
        /// Each once.
        incidents: Vec<IncidentId>,
    },
    /// Too much has changed, or no generation was asked about: discard what is in memory and read
    /// it again.
    Anew {
        /// The generation now.
        generation: u64,
    },
}

/// A record whose claims could not be verified: listed apart, never part of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unverified {
    /// Its key, so that repeats are kept once.
    pub key: FindingKey,
    /// When it reached the hub.
    pub received_at: Timestamp,
    /// The source that received it: `http:<token name>`, `sqs:<name>` …
    pub source: String,
    /// Why it is not trusted.
    pub reason: String,
    /// The finding that it would be.
    pub finding: Finding,
}

/// History that rules refer to when a new record is classified: see
/// [`rootwatch_core::detect::History`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookBack {
    /// (account, access key) that made calls.
    pub keys: Vec<(String, String)>,
    /// (account, address) of successful calls by the root user.
    pub addresses: Vec<(String, String)>,
    /// (account, rule, time) of the findings since the requested moment.
    pub matches: Vec<(String, String, Timestamp)>,
}

/// What the engine needs in order to decide about new records. All operations are safe to repeat.
#[async_trait]
pub trait Decisions: fmt::Debug + Send + Sync {
    /// Saves a batch in one transaction, durably, before it returns.
    ///
    /// # Errors
    /// Nothing was saved.
    async fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Which of these findings are stored already, corrected and redundant ones included.
    async fn known(&self, keys: &[FindingKey]) -> Result<HashSet<FindingKey>, StoreError>;

    /// The incidents with a finding in this span, both ends included; with `unended` also all that
    /// are open or acknowledged. For correlation: redundant findings are left out and counted.
    async fn incidents_within(
        &self,
        from: Timestamp,
        to: Timestamp,
        unended: bool,
    ) -> Result<Vec<StoredIncident>, StoreError>;

    /// The stored ones among these incidents, each once, as [`Decisions::incidents_within`] returns
    /// them.
    async fn incidents_of(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError>;

    /// The history that rules refer to, of all accounts or of these.
    async fn look_back(
        &self,
        matches_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<LookBack, StoreError>;

    /// What other writers committed since `generation`. A store that several processes share counts
    /// its commits: each commit that changes incidents increases the generation by one. Everything
    /// read after this call is at least as new as the generation that it returns. Without a
    /// generation it returns one to start from, which need not be the newest.
    ///
    /// Reads for a decision ([`Decisions::known`], [`Decisions::look_back`],
    /// [`Decisions::incidents_within`], [`Decisions::incidents_of`], [`Decisions::positions`]) may mix
    /// several commits if others commit meanwhile. That is detected: the batch names its generation
    /// and is refused.
    async fn catch_up(&self, generation: Option<u64>) -> Result<CaughtUp, StoreError> {
        let _ = generation;
        Ok(CaughtUp::Alone)
    }

    /// The marks of the positions whose names start with `prefix`: see [`Batch::positions`].
    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;

    /// Acknowledges or resolves an incident for an operator, and enqueues the deliveries about it.
    async fn resolve(
        &self,
        id: &IncidentId,
        resolution: &Resolution,
        notified: Option<NotifiedState>,
        deliveries: Vec<Delivery>,
    ) -> Result<StoredIncident, StoreError>;

    /// Marks these incidents as listed in a digest, and enqueues the deliveries of the digest.
    async fn mark_digested(
        &self,
        ids: &[IncidentId],
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError>;
}
