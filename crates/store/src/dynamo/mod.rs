//! One DynamoDB table, which several hubs may share.
//!
//! # Order of commits
//!
//! The *head* item counts commits; the count is the *generation*. Every commit of incidents, findings
//! or positions increases it in the same transaction, on the condition that it is still the
//! generation that the decision was made on. So all commits are in one order; if another commit came
//! first, the decision is made again. A log item for each generation names the incidents that it
//! touched, so that `catch_up` is one short query. Commits that only enqueue deliveries, notes and
//! leases do not change the head.
//!
//! A DynamoDB transaction takes 100 items and 4 MB. A larger commit is first written as a *journal*,
//! in chunks that nobody reads yet. A small transaction then moves the head and names the journal:
//! with it the commit is saved. Then the journal is written out, in transactions that each check that
//! the head still names it. Every decision starts at the head, waits briefly for a journal that it
//! names, and then writes it out itself. So a writer may die anywhere, and one that resumes late
//! overwrites nothing; a test ends a writer before each of its writes. See [`head`].
//!
//! Data read after the head may belong to a later commit. The decision is refused then, because its
//! commit names the generation, and what the later commit touched is read again. A decision that
//! saves nothing reads the head once more. A starting process uses the generation that it saw when it
//! opened the table.
//!
//! # Requests
//!
//! A Lambda function waits for its requests, so they are counted: thirteen from the start of a process
//! to the end of the first alert's delivery, the message itself included, and eleven for a later
//! incident. A commit reads all it needs in one request. A process remembers the deliveries that it
//! wrote last (`recent`) and does not read them again: it writes them on the condition that they have
//! the remembered version, and reads them if that fails. Failed requests are retried with jitter up to
//! `TRIES_MAX` times; one token for all attempts keeps a lost answer from becoming a conflict.
//!
//! # Item collections
//!
//! | Partition key | Items | Read by |
//! |---|---|---|
//! | `HEAD`, `L`, `J`, `J#journal` | the head, the log of generations, journals and their chunks | every decision |
//! | `I#incident` | `E` counts of redundant findings, `F` findings, `H` the incident, `O` originals, `X` redundant findings | correlation, in one query up to `X` |
//! | `K#finding` | where a finding is | `known`, and every write of it |
//! | `IT`, `U` | incidents by their last moment; open and acknowledged ones | `incidents_within`, lists, pruning |
//! | `A#account`, `AA` | rules that matched (`H#`, by time), addresses and keys of an account; the accounts | `look_back`, in one query |
//! | `D#delivery`, `T#destination#thread` | a delivery; the pending deliveries of a thread, with a version | `record_attempt` |
//! | `R#destination`, `TO`, `C` | deliveries that may be leased, by time; the destinations; counts by state | `lease`, `stats` |
//! | `P`, `N#note`, `V#record`, `B#…` | positions, notes, unverified records, bodies too large for an item | |
//!
//! Incidents are in one collection by their last moment, not in a bucket for each day: an incident may
//! last for months, a query from a moment on is exact, and the head limits the rate of commits anyway.
//! The one index, `list`, is eventually consistent and serves only lists for people and pruning. Only
//! [`DynamoStore::check`] scans the table. Deliveries have versions of their own, by thread: workers
//! change them all the time, and under the head they would delay decisions. See [`outbox`] and
//! [`deliveries`]. Pruning deletes what ended; `ttl` (retention and `EXPIRY_SLACK`) is for tables that
//! nobody prunes, and `stats` does not see it.

mod check;
mod crash_point;
mod deliveries;
mod head;
mod item;
mod layout;
mod outbox;
mod overlay;
mod parts;
mod planner;
mod prune;
mod read;
mod recent;
mod retry;
mod schema;
mod table;
#[cfg(feature = "testkit")]
mod test_hooks;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use jiff::{SignedDuration, Timestamp};
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::attempt::Attempt;
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::IncidentId;

use self::item::{BODY, Item, Key, LIST_PK, LIST_SK, sorted};
use self::recent::Recent;
use self::retry::CommitTask;
use self::table::Table;
use crate::rows::micros;

pub use self::schema::{TABLE, TableShape};
use crate::{
    Batch, CaughtUp, Decisions, DeliveryFilter, FindingFilter, IncidentFilter, Lists, LookBack,
    Maintenance, Notes, Outbox, Page, PageRequest, Pruned, Resolution, Stats, StoreConfig,
    StoreError, StoredFinding, StoredIncident, Unverified,
};

/// The version of what is in the table.
const SCHEMA: i64 = 1;
/// The index for lists.
const LIST_INDEX: &str = "list";
/// Items that share the counts of deliveries.
const SHARDS: usize = 8;
/// Entries of a list that pruning reads in one request.
const PRUNE_SLICE: usize = 100;
/// Keys that this process knows to exist.
const KNOWN_KEYS_MAX: usize = 50_000;
/// Seconds for one request.
const REQUEST_SECS_MAX: u64 = 10;
/// How much longer than the retention DynamoDB keeps items that nobody prunes.
const EXPIRY_SLACK: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Maximum bytes of a note's value, which has to fit one item.
const NOTE_VALUE_BYTES_MAX: usize = 300 * 1024;

/// Which table, and how long ended incidents and deliveries stay in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoOptions {
    /// The table's name.
    pub table: String,
    /// DynamoDB itself deletes what ended and was not pruned after this many days and a month.
    pub retention_days: u32,
}

impl DynamoOptions {
    /// This table, with defaults.
    #[must_use]
    pub fn of_table(table: impl Into<String>) -> Self {
        Self { table: table.into(), retention_days: StoreConfig::default().retention_days }
    }

    /// As configured; `None` if a file is configured.
    #[must_use]
    pub fn of(config: &StoreConfig) -> Option<Self> {
        let table = config.table.clone()?;
        Some(Self { table, retention_days: config.retention_days })
    }
}

/// A store in a DynamoDB table.
#[derive(Debug)]
pub struct DynamoStore {
    table: Table,
    retention: SignedDuration,
    /// The last number that a delivery got.
    numbers: AtomicI64,
    /// Keys of items that are never deleted: they need not be written again.
    known_keys: Mutex<HashSet<Key>>,
    /// The generation at which the head was settled when it was read last.
    seen: AtomicU64,
    /// Deliveries that this process wrote last.
    recent: Recent,
}

impl DynamoStore {
    /// Opens an existing table. Reads one item of it.
    ///
    /// # Errors
    /// When it does not exist, cannot be read, or is of a version that this program does not know.
    pub async fn open(sdk: &SdkConfig, options: &DynamoOptions) -> Result<Self, StoreError> {
        let retention = SignedDuration::from_hours(24 * i64::from(options.retention_days));
        let store = Self {
            table: Table::new(client(sdk), &options.table),
            retention,
            numbers: AtomicI64::new(0),
            known_keys: Mutex::default(),
            seen: AtomicU64::new(0),
            recent: Recent::default(),
        };
        store.committed_head().await?;
        Ok(store)
    }

    /// Creates a table as [`TABLE`] describes; false if one of this name exists.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn create_table(sdk: &SdkConfig, name: &str) -> Result<bool, StoreError> {
        schema::create(&client(sdk), name).await
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.table.name
    }

    /// Requests that were sent since the store was opened, repeated ones included.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.table.requests.load(Ordering::Relaxed)
    }

    /// A number for a delivery, larger than all before.
    fn number(&self) -> i64 {
        let now = micros(Timestamp::now());
        let next = |last: i64| Some(now.max(last + 1));
        let last = self.numbers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let (Ok(last) | Err(last)) = last;
        now.max(last + 1)
    }

    fn knows_key(&self, key: &Key) -> bool {
        self.known_keys.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn remember_key(&self, key: Key) {
        let mut known_keys = self.known_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if known_keys.len() >= KNOWN_KEYS_MAX {
            known_keys.clear();
        }
        known_keys.insert(key);
    }

    /// The second at which DynamoDB may delete what ended at `ended` and was not pruned.
    fn expiry(&self, ended: Timestamp) -> i64 {
        let later = self.retention.saturating_add(EXPIRY_SLACK);
        ended.saturating_add(later).unwrap_or(Timestamp::MAX).as_second()
    }
}

fn client(sdk: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(REQUEST_SECS_MAX))
        .build();
    // `table` retries, as it knows about transactions.
    let config = aws_sdk_dynamodb::config::Builder::from(sdk)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

fn note_key(name: &str) -> Key {
    Key::new(format!("N#{}", item::name(name)), "N")
}

#[async_trait]
impl Decisions for DynamoStore {
    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let now = batch.now.unwrap_or_else(Timestamp::now);
        self.commit_with_retry(batch.generation, &CommitTask::Batch(&batch, now)).await
    }

    async fn known(&self, keys: &[FindingKey]) -> Result<HashSet<FindingKey>, StoreError> {
        if keys.is_empty() {
            return Ok(HashSet::new());
        }
        self.known_of(keys).await
    }

    async fn incidents_within(
        &self,
        from: Timestamp,
        to: Timestamp,
        unended: bool,
    ) -> Result<Vec<StoredIncident>, StoreError> {
        self.within(from, to, unended).await
    }

    async fn incidents_of(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError> {
        self.named(ids).await
    }

    async fn look_back(
        &self,
        matches_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<LookBack, StoreError> {
        self.look_back_of(matches_since, accounts).await
    }

    async fn catch_up(&self, generation: Option<u64>) -> Result<CaughtUp, StoreError> {
        self.caught_up(generation).await
    }

    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.positions_of(prefix).await
    }

    async fn resolve(
        &self,
        id: &IncidentId,
        resolution: &Resolution,
        told: Option<NotifiedState>,
        deliveries: Vec<Delivery>,
    ) -> Result<StoredIncident, StoreError> {
        self.commit_with_retry(None, &CommitTask::Handle(id, resolution, told, &deliveries))
            .await?;
        self.one_incident(id, 0).await
    }

    async fn mark_digested(
        &self,
        ids: &[IncidentId],
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError> {
        self.commit_with_retry(None, &CommitTask::Digest(ids, &deliveries)).await
    }
}

#[async_trait]
impl Notes for DynamoStore {
    async fn put_note(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let key = note_key(name);
        let Some(value) = value else { return self.table.delete(&key).await };
        if value.len() > NOTE_VALUE_BYTES_MAX {
            return Err(StoreError::Unavailable {
                reason: format!("the note {name} has {} bytes, too many", value.len()),
            });
        }
        let now = Timestamp::now();
        let mut item = Item::default().with_body(&value)?;
        if crate::maintenance::EXPIRING_NOTES.iter().any(|begin| name.starts_with(begin)) {
            item.set("ttl", self.expiry(now));
            item.set(LIST_PK, "N");
            item.set(LIST_SK, format!("{}#{}", sorted(micros(now)), item::name(name)));
        }
        self.table.put(&key, &item).await
    }

    async fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let item = self.table.get_one(&note_key(name)).await?;
        item.filter(|item| item.0.contains_key(BODY)).map(|item| item.body("a note")).transpose()
    }

    async fn notes(&self, names: &[String]) -> Result<BTreeMap<String, String>, StoreError> {
        let keys: Vec<Key> = names.iter().map(|name| note_key(name)).collect();
        let mut found = self.table.get(&keys).await?;
        let mut notes = BTreeMap::new();
        for (name, key) in names.iter().zip(&keys) {
            if let Some(item) = found.remove(key).filter(|item| item.0.contains_key(BODY)) {
                notes.insert(name.clone(), item.body("a note")?);
            }
        }
        Ok(notes)
    }
}

#[async_trait]
impl Outbox for DynamoStore {
    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError> {
        self.lease_some(now, until, max, busy).await
    }

    async fn record_attempt(
        &self,
        id: &DeliveryId,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.note_attempt(id, &attempt, now).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.next_ready().await
    }
}

#[async_trait]
impl Lists for DynamoStore {
    async fn incident(
        &self,
        id: &IncidentId,
        findings_max: usize,
    ) -> Result<StoredIncident, StoreError> {
        self.one_incident(id, findings_max).await
    }

    async fn incidents(
        &self,
        filter: &IncidentFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredIncident>, StoreError> {
        self.list_incidents(filter, page).await
    }

    async fn findings(
        &self,
        filter: &FindingFilter,
        page: &PageRequest,
    ) -> Result<Page<StoredFinding>, StoreError> {
        self.list_findings(filter, page).await
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        self.list_deliveries(filter, page).await
    }

    async fn unverified(&self, page: &PageRequest) -> Result<Page<Unverified>, StoreError> {
        self.list_unverified(page).await
    }
}

#[async_trait]
impl Maintenance for DynamoStore {
    async fn stats(&self) -> Result<Stats, StoreError> {
        self.stats_now().await
    }

    async fn prune(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        let all = self.prune_all(before).await?;
        if all != Pruned::default() {
            tracing::info!(
                %before,
                incidents = all.incidents,
                findings = all.findings,
                deliveries = all.deliveries,
                unverified = all.unverified,
                "pruned ended items"
            );
        }
        Ok(all)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let now = Timestamp::now().to_string();
        self.put_note("ping", Some(&now)).await?;
        self.note("ping").await.map(drop)
    }
}
