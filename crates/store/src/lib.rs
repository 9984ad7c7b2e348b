//! What the hub remembers: findings, incidents, the deliveries that it owes.
//!
//! [`Store`] is a trait of domain operations, not of tables: `sqlite` keeps them in one file on one
//! machine, `dynamo` in a DynamoDB table; `rootwatch-testkit` says what any store has to promise. One
//! [`Store::commit`] is one transaction: what it was given is all there afterwards, or nothing of it is, whenever the
//! process dies. Only then may a source be told that its records are safe.

mod config;
#[cfg(feature = "aws")]
pub mod dynamo;
pub mod permissions;
#[cfg(any(feature = "sqlite", feature = "aws"))]
mod rows;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

pub use config::StoreConfig;

use async_trait::async_trait;
use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::correlate::Change;
use rootwatch_core::delivery::{Delivery, DeliveryId, DeliveryState};
use rootwatch_core::finding::{Finding, FindingKey, RootUse, Severity};
use rootwatch_core::incident::{Incident, IncidentId, IncidentKind, IncidentState};
use serde::{Deserialize, Serialize};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another writer changed an incident since it was loaded: load again, decide again.
    #[error("incident {id} was changed by another writer")]
    Conflict {
        /// The incident.
        id: IncidentId,
    },
    /// Another writer committed since what this was decided on: catch up ([`Store::catch_up`]),
    /// decide again.
    #[error("another writer was faster")]
    Overtaken,
    /// The store cannot write now (disk full, locked for too long, out of reach): nothing was
    /// saved; try again later.
    #[error("the store cannot be used now: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
    },
    /// The store's data are damaged or of a version that this program does not know: a person has
    /// to look.
    #[error("the store is damaged: {reason}")]
    Damaged {
        /// What is wrong, and where.
        reason: String,
    },
    /// What was named is not there.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `incident`, `delivery` …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A page cursor that this store did not give out.
    #[error("this is not a page cursor of this store")]
    BadCursor,
}

/// What becomes true in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Changes as [`rootwatch_core::correlate`] reported them, in their order.
    pub changes: Vec<Change>,
    /// When each new finding reached the hub; findings that are not named count as of `now`.
    pub received: BTreeMap<FindingKey, Timestamp>,
    /// Deliveries that are owed from now on. One that is there already stays as it is.
    pub deliveries: Vec<Delivery>,
    /// What was told of an incident, from now on.
    pub told: Vec<(IncidentId, NotifiedState)>,
    /// The revision that each touched incident must have; a difference is a
    /// [`StoreError::Conflict`]. Incidents that are opened are not named.
    pub expected: Vec<(IncidentId, u64)>,
    /// Records that could not be trusted.
    pub unverified: Vec<Unverified>,
    /// Positions of sources that are done from now on: a name and a mark.
    pub positions: Vec<(String, String)>,
    /// The generation of the store ([`CaughtUp`]) on which this was decided; when the store has
    /// moved on the answer is [`StoreError::Overtaken`]. `None` asks for no such look, as whoever
    /// decides alone, or only owes deliveries, may.
    pub generation: Option<u64>,
    /// When this was decided.
    pub now: Option<Timestamp>,
}

/// How a decider stands to a store that others decide over, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaughtUp {
    /// One process has this store for itself: nobody else decides.
    Alone,
    /// These incidents changed, opened or went since the generation that was asked about; none,
    /// when nobody else committed.
    Moved {
        /// The generation now, for [`Batch::generation`].
        generation: u64,
        /// Each once.
        incidents: Vec<IncidentId>,
    },
    /// Too much happened, or none was asked about: whatever is in memory is to be read again.
    Anew {
        /// The generation now.
        generation: u64,
    },
}

/// An incident with what the store knows of it. Findings are only those that correlation needs:
/// those that merely echo another are counted.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIncident {
    /// The incident. Its `findings` leave echoes out when it was loaded for correlation.
    pub incident: Incident,
    /// Grows by one with every transaction that touches the incident; 1 when it opens.
    pub revision: u64,
    /// What was told of it.
    pub told: NotifiedState,
    /// All findings, echoes included.
    pub findings_total: u64,
    /// Who acknowledged or resolved it, and why: for people.
    pub by: Option<Handled>,
    /// When the incident was written last.
    pub changed_at: Timestamp,
}

/// Who took an incident over or ended it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// The state that it was given.
    pub state: IncidentState,
    /// Who did it: a token's name, or what the caller stated.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, in their words; at most [`NOTE_BYTES_MAX`] bytes.
    pub note: Option<String>,
}

/// Bytes of a note that somebody leaves with an incident.
pub const NOTE_BYTES_MAX: usize = 2048;

/// A record that says what it may not: kept apart, shown, never part of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unverified {
    /// Names it, so that repeats are kept once.
    pub key: FindingKey,
    /// When it reached the hub.
    pub received_at: Timestamp,
    /// The source that brought it: `http:<token name>`, `sqs:<name>` …
    pub source: String,
    /// Why it is not trusted.
    pub reason: String,
    /// What it claims.
    pub finding: Finding,
}

/// What the hub has to know of the past to judge a new record: see
/// [`rootwatch_core::detect::History`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// (account, access key) that made calls.
    pub keys: Vec<(String, String)>,
    /// (account, address) from which the root user came through.
    pub addresses: Vec<(String, String)>,
    /// (account, rule, time) of findings since the asked moment.
    pub spoken: Vec<(String, String, Timestamp)>,
}

/// A page of a list, and where the next begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// At most as many as were asked for.
    pub items: Vec<T>,
    /// For [`PageRequest::after`]; `None` at the end.
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Items at most, 1 to [`PAGE_ITEMS_MAX`].
    pub items_max: usize,
    /// The cursor of the page before.
    pub after: Option<String>,
}

/// Items of a page at most.
pub const PAGE_ITEMS_MAX: usize = 500;

impl Default for PageRequest {
    fn default() -> Self {
        Self { items_max: 50, after: None }
    }
}

/// Which incidents to list; what is empty does not filter. Newest (`last_at`) first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// States.
    pub states: Vec<IncidentState>,
    /// Kinds.
    pub kinds: Vec<IncidentKind>,
    /// From this severity on.
    pub min_severity: Option<Severity>,
    /// Incidents that concern this account.
    pub account: Option<String>,
    /// Last finding at or after.
    pub since: Option<Timestamp>,
    /// First finding before.
    pub until: Option<Timestamp>,
    /// Informational incidents that no digest has listed yet.
    pub undigested: bool,
}

/// Which findings to list; what is empty does not filter. Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// Findings of this incident.
    pub incident: Option<IncidentId>,
    /// Account of the root user.
    pub account: Option<String>,
    /// Classes of root use.
    pub root_use: Vec<RootUse>,
    /// From this severity on.
    pub min_severity: Option<Severity>,
    /// Findings in which this rule speaks.
    pub rule: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// A finding, where it is, and when it came.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFinding {
    /// As the incident judges it.
    pub finding: Finding,
    /// Its incident.
    pub incident: IncidentId,
    /// When it reached the hub.
    pub received_at: Timestamp,
}

/// Which deliveries to list; what is empty does not filter. Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// States.
    pub states: Vec<DeliveryState>,
    /// To this destination.
    pub destination: Option<String>,
    /// About this incident.
    pub incident: Option<IncidentId>,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// The channel took it.
    Delivered {
        /// What it answered.
        receipt: String,
    },
    /// To be tried again.
    Again {
        /// Not before.
        at: Timestamp,
        /// What went wrong, without secrets.
        error: String,
        /// True when the attempt does not count: nothing was sent (the rate limit, an open
        /// breaker, shutting down).
        not_begun: bool,
    },
    /// Given up, and what is owed instead: stand-ins, and the alert that telling is broken.
    Failed {
        /// What went wrong, without secrets.
        error: String,
        /// Owed from now on, in the same transaction.
        instead: Vec<Delivery>,
    },
}

/// Numbers for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Incidents that are open, by severity.
    pub open_incidents: BTreeMap<Severity, u64>,
    /// Deliveries by destination and state. Ended ones since the last pruning.
    pub deliveries: BTreeMap<(String, DeliveryState), u64>,
    /// When the oldest delivery that has not ended was owed.
    pub oldest_due: Option<Timestamp>,
    /// Findings.
    pub findings: u64,
    /// Unverified records.
    pub unverified: u64,
}

/// What pruning took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Incidents that were over, with their findings.
    pub incidents: u64,
    /// Their findings.
    pub findings: u64,
    /// Deliveries that had ended.
    pub deliveries: u64,
    /// Unverified records.
    pub unverified: u64,
}

/// What a hub needs to remember. All operations are safe to repeat.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Saves a batch in one transaction, durably, before it returns.
    ///
    /// # Errors
    /// Nothing was saved.
    async fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Which of these findings are there already, corrected and echoed ones included.
    async fn known(&self, keys: &[FindingKey]) -> Result<HashSet<FindingKey>, StoreError>;

    /// The incidents of which some finding is from this span, both ends included, and with
    /// `unended` also all that are open or acknowledged. For correlation: echoes are left out.
    async fn incidents_within(
        &self,
        from: Timestamp,
        to: Timestamp,
        unended: bool,
    ) -> Result<Vec<StoredIncident>, StoreError>;

    /// What rules that look back have to know, of all accounts or of these.
    async fn past(
        &self,
        spoken_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<Past, StoreError>;

    /// Those of these incidents that are there, each once, for correlation: as
    /// [`Store::incidents_within`] gives them.
    async fn incidents_of(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError>;

    /// What others committed since `generation`. A store that many deciders share counts its
    /// commits: one that changes incidents moves it by one. What is read after this call is at least
    /// as new as the generation that it gives. Without a generation to catch up from it gives one to
    /// begin with, which need not be the last.
    ///
    /// What decisions are made on ([`Store::known`], [`Store::past`], [`Store::incidents_within`],
    /// [`Store::incidents_of`], [`Store::positions`]) may be of several commits when others commit
    /// meanwhile. That is found out: a batch that names its generation is refused then.
    async fn catch_up(&self, generation: Option<u64>) -> Result<CaughtUp, StoreError> {
        let _ = generation;
        Ok(CaughtUp::Alone)
    }

    /// One incident, its findings up to `findings_max`, the first ones, echoes included.
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

    /// Findings, as their incidents judge them.
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

    /// Gives an incident a state by hand, with the deliveries that tell of it.
    async fn handle(
        &self,
        id: &IncidentId,
        handled: &Handled,
        told: Option<NotifiedState>,
        deliveries: Vec<Delivery>,
    ) -> Result<StoredIncident, StoreError>;

    /// Notes that a digest listed these incidents, with the deliveries that tell of it.
    async fn digested(
        &self,
        ids: &[IncidentId],
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError>;

    /// Takes up to `max` deliveries that are due (or whose lease ran out), the oldest first, and
    /// leases them until `until`. Of one thread ([`rootwatch_core::alert::Alert::thread`]) and
    /// destination only the oldest that has not ended is ever leased, so that nobody hears the end
    /// before the beginning. `busy` names destinations that take no more now.
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Notes what an attempt came to and ends the lease. True when that may have made another one
    /// ready to be leased: the next of its thread, or what is owed instead.
    async fn attempted(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// When the next delivery that has not ended is due (or its lease runs out).
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// A small value that survives restarts: a breaker's state, the last digest, an SNS message
    /// id. `None` clears it.
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), StoreError>;

    /// The value of a note.
    async fn note(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Those of these notes that are there, by name.
    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, StoreError> {
        let mut notes = BTreeMap::new();
        for name in names {
            if let Some(note) = self.note(name).await? {
                notes.insert(name.clone(), note);
            }
        }
        Ok(notes)
    }

    /// Marks of a source's positions that begin with `prefix`: see [`Batch::positions`].
    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError>;

    /// Numbers for health and metrics.
    async fn standing(&self) -> Result<Standing, StoreError>;

    /// Takes away what ended before `before`: incidents that are quiet or resolved with their
    /// findings, ended deliveries, unverified records, and notes of what was seen (`seen:…`) and of
    /// threads (`thread:…`). Other notes stay.
    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError>;

    /// A cheap write and read that shows whether the store works.
    async fn ping(&self) -> Result<(), StoreError>;
}
