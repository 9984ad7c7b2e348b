//! One DynamoDB table, which many deciders may share.
//!
//! The head of the table counts commits; every commit moves it, under the condition that it is
//! still what the decision was made on. So all commits are in one order, and none of them is lost
//! or half there: see [`head`]. What decisions are made on lies in item collections of the base
//! table and is read consistently; the one index serves lists for people. Nothing but
//! [`DynamoStore::check`] reads the whole table.
//!
//! Deliveries are not under the head: workers lease and end them all the time, and would be in the
//! deciders' way. See [`outbox`] and [`deliveries`].

mod crash_point;
mod deliveries;
mod head;
mod item;
mod layout;
mod outbox;
mod overlay;
mod read;
mod recent;
mod schema;
mod table;
mod upkeep;
mod work;
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
use rootwatch_core::delivery::{Delivery, DeliveryId};
use rootwatch_core::finding::FindingKey;
use rootwatch_core::incident::IncidentId;

use self::head::{Head, Plan, Went};
use self::item::{BODY, Item, Key, LIST_PK, LIST_SK, sorted};
use self::recent::Recent;
use self::table::Table;
use self::work::Work;
use crate::rows::micros;
use crate::{
    Attempt, Batch, CaughtUp, DeliveryFilter, FindingFilter, Handled, IncidentFilter, Page,
    PageRequest, Past, Pruned, Standing, Store, StoreConfig, StoreError, StoredFinding,
    StoredIncident, Unverified,
};

pub use self::schema::{TABLE, TableShape};

/// The version of what is in the table.
const SCHEMA: i64 = 1;
/// The index for lists.
const LIST_INDEX: &str = "list";
/// Items over which the numbers of deliveries are spread.
const SHARDS: usize = 8;
/// Entries of a list that pruning looks at, at once.
const PRUNE_SLICE: usize = 100;
/// Tries of a commit that depends on no generation, while others commit.
const COMMIT_TRIES_MAX: u32 = 40;
/// A pause between two of them at most.
const COMMIT_PAUSE_MILLIS_MAX: u64 = 200;
/// Keys that this process remembers to be there.
const LEARNED_MAX: usize = 50_000;
/// Seconds for one request.
const REQUEST_SECS_MAX: u64 = 10;
/// How much longer than configured DynamoDB keeps what nobody prunes.
const EXPIRY_SLACK: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Bytes of a note's value, which lies in one item.
const NOTE_VALUE_BYTES_MAX: usize = 300 * 1024;

/// Which table, and how long what ended stays in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoOptions {
    /// The table's name.
    pub table: String,
    /// After this long, and a month, DynamoDB itself deletes what ended and was not pruned.
    pub retention_days: u32,
}

impl DynamoOptions {
    /// This table, with what is otherwise usual.
    #[must_use]
    pub fn of_table(table: impl Into<String>) -> Self {
        Self { table: table.into(), retention_days: StoreConfig::default().retention_days }
    }

    /// As configured; `None` when a file is.
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
    /// Keys of items that are never taken away: known to be there, they need not be written again.
    learned: Mutex<HashSet<Key>>,
    /// The generation at which the head was settled when it was read last.
    seen: AtomicU64,
    /// Deliveries of which this process wrote last.
    recent: Recent,
}

impl DynamoStore {
    /// Opens a table, which has to be there. Reads one item of it.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is of a version that this program does not know.
    pub async fn open(sdk: &SdkConfig, options: &DynamoOptions) -> Result<Self, StoreError> {
        let retention = SignedDuration::from_hours(24 * i64::from(options.retention_days));
        let store = Self {
            table: Table::new(client(sdk), &options.table),
            retention,
            numbers: AtomicI64::new(0),
            learned: Mutex::default(),
            seen: AtomicU64::new(0),
            recent: Recent::default(),
        };
        store.settled().await?;
        Ok(store)
    }

    /// Makes a table as [`TABLE`] says; false when one of this name is there already.
    ///
    /// # Errors
    /// When it cannot be made.
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

    fn knows(&self, key: &Key) -> bool {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn learn(&self, key: Key) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if learned.len() >= LEARNED_MAX {
            learned.clear();
        }
        learned.insert(key);
    }

    /// The second at which DynamoDB may take away what ended then and was not pruned.
    fn expiry(&self, ended: Timestamp) -> i64 {
        let later = self.retention.saturating_add(EXPIRY_SLACK);
        ended.saturating_add(later).unwrap_or(Timestamp::MAX).as_second()
    }

    /// Plans and pushes until it is through, or in vain.
    async fn through(&self, generation: Option<u64>, task: &Task<'_>) -> Result<(), StoreError> {
        for tried in 0..COMMIT_TRIES_MAX {
            // A decision says which commit it was made on: the head need not be read, for moving it
            // asks whether that one is still the last.
            let head = match generation {
                Some(generation) => Head::at(generation),
                None => self.settled().await?,
            };
            let went = match task.plan(self).await {
                // Nothing that moves the head: it has to be looked at.
                Ok(plan)
                    if generation.is_some()
                        && !plan.moves
                        && self.settled().await?.generation != head.generation =>
                {
                    Went::HeadMoved
                }
                Ok(plan) => self.push(&head, plan).await?,
                Err(error) => {
                    if self.settled().await?.generation == head.generation {
                        return Err(error);
                    }
                    // It was planned on what others were changing.
                    Went::HeadMoved
                }
            };
            match went {
                Went::Through => return Ok(()),
                Went::HeadMoved if generation.is_some() => return Err(StoreError::Overtaken),
                _ => {
                    let longest = (5 << tried.min(8)).min(COMMIT_PAUSE_MILLIS_MAX);
                    let millis = self.table.lot() % longest;
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
            }
        }
        Err(self.busy())
    }
}

/// What is to become true.
enum Task<'a> {
    Batch(&'a Batch, Timestamp),
    Handle(&'a IncidentId, &'a Handled, Option<NotifiedState>, &'a [Delivery]),
    Digest(&'a [IncidentId], &'a [Delivery]),
}

impl Task<'_> {
    async fn plan(&self, store: &DynamoStore) -> Result<Plan, StoreError> {
        let received = BTreeMap::new();
        match self {
            Self::Batch(batch, now) => Work::of_batch(store, batch, *now).await,
            Self::Handle(id, handled, told, deliveries) => {
                let mut work = Work::new(store, &received, handled.at);
                work.handle(id, handled, *told).await?;
                work.finish(deliveries.to_vec())
            }
            Self::Digest(ids, deliveries) => {
                let mut work = Work::new(store, &received, Timestamp::now());
                work.digest(ids).await?;
                work.finish(deliveries.to_vec())
            }
        }
    }
}

fn client(sdk: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(REQUEST_SECS_MAX))
        .build();
    // It is tried again in `table`, which knows of transactions.
    let config = aws_sdk_dynamodb::config::Builder::from(sdk)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

fn note_key(name: &str) -> Key {
    Key::new(format!("N#{}", item::name(name)), "N")
}

#[async_trait]
impl Store for DynamoStore {
    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let now = batch.now.unwrap_or_else(Timestamp::now);
        self.through(batch.generation, &Task::Batch(&batch, now)).await
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

    async fn past(
        &self,
        spoken_since: Timestamp,
        accounts: Option<&[String]>,
    ) -> Result<Past, StoreError> {
        self.past_of(spoken_since, accounts).await
    }

    async fn incidents_of(&self, ids: &[IncidentId]) -> Result<Vec<StoredIncident>, StoreError> {
        self.named(ids).await
    }

    async fn catch_up(&self, generation: Option<u64>) -> Result<CaughtUp, StoreError> {
        self.caught_up(generation).await
    }

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

    async fn handle(
        &self,
        id: &IncidentId,
        handled: &Handled,
        told: Option<NotifiedState>,
        deliveries: Vec<Delivery>,
    ) -> Result<StoredIncident, StoreError> {
        self.through(None, &Task::Handle(id, handled, told, &deliveries)).await?;
        self.one_incident(id, 0).await
    }

    async fn digested(
        &self,
        ids: &[IncidentId],
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError> {
        self.through(None, &Task::Digest(ids, &deliveries)).await
    }

    async fn lease(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError> {
        self.lease_some(now, until, max, busy).await
    }

    async fn attempted(
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
        if upkeep::AGEING.iter().any(|begin| name.starts_with(begin)) {
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

    async fn positions(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.positions_of(prefix).await
    }

    async fn standing(&self) -> Result<Standing, StoreError> {
        self.standing_now().await
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
                "pruned what ended before"
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
