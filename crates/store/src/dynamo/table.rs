//! Requests to one table: pages, parts, retries, back-off.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, TransactWriteItem};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rootwatch_aws::{Advice, codes};
use rootwatch_core::retry;

use super::crash_point::CrashPoint;
use super::item::{BODY, Item, Key, LIST_PK, LIST_SK, PARTS, Val};
use super::parts::parts_of;
use super::write::Write;
use crate::StoreError;

/// Attempts of one request; with the pauses between them up to four seconds.
const TRIES_MAX: u32 = 9;
/// Longest pause after the first attempt, in milliseconds; it doubles.
const PAUSE_MILLIS: u64 = 20;
/// Longest pause, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 1_500;
/// Keys of one `BatchGetItem`: what DynamoDB allows.
const GET_KEYS_MAX: usize = 100;
/// Concurrent requests of one read.
const AT_ONCE: usize = 16;
/// Sorts after every key with the same prefix.
pub(super) const END: &str = "\u{10ffff}";
/// Sorts before every key.
pub(super) const BEGIN: &str = " ";

/// The reason that means that a condition does not hold.
const CONDITION: &str = "ConditionalCheckFailed";

/// Numbers that [`Table::random_u64`] gave out in this process.
static RANDOM_COUNT: AtomicU64 = AtomicU64::new(0);

/// The outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Done,
    /// Nothing was written: the conditions of the writes at these indexes do not hold.
    Refused(Vec<usize>),
}

/// What to read of one item collection.
#[derive(Debug, Clone)]
pub(super) struct Range<'a> {
    pub(super) pk: &'a str,
    /// Both ends included.
    pub(super) from: String,
    pub(super) to: String,
    /// Excludes the key `to` itself.
    pub(super) before_to: bool,
    pub(super) newest_first: bool,
    pub(super) items_max: usize,
    /// Reads the index for lists, which is eventually consistent and has keys only.
    pub(super) of_list: bool,
}

impl<'a> Range<'a> {
    pub(super) fn all(pk: &'a str) -> Self {
        Self {
            pk,
            from: BEGIN.to_owned(),
            to: END.to_owned(),
            before_to: false,
            newest_first: false,
            items_max: usize::MAX,
            of_list: false,
        }
    }

    pub(super) fn prefix(pk: &'a str, prefix: &str) -> Self {
        if prefix.is_empty() {
            return Self::all(pk);
        }
        Self { from: prefix.to_owned(), to: format!("{prefix}{END}"), ..Self::all(pk) }
    }

    pub(super) fn first(self, items_max: usize) -> Self {
        Self { items_max, ..self }
    }
}

/// Futures that are on their way at once, however different they are made.
pub(super) type Ask<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Waits for all of them, some at a time; their answers come in no order.
pub(super) async fn at_once<T>(asks: Vec<Ask<'_, T>>) -> Result<Vec<T>, StoreError> {
    futures_util::stream::iter(asks).buffer_unordered(AT_ONCE).try_collect().await
}

/// A table and its client.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
    /// Requests that were sent, tries included.
    pub(super) requests: AtomicU64,
    pub(super) crash_point: CrashPoint,
    /// Makes pauses and names differ from those of others.
    chance: RandomState,
}

impl Table {
    pub(super) fn new(client: Client, name: &str) -> Self {
        Self {
            client,
            name: name.to_owned(),
            requests: AtomicU64::new(0),
            crash_point: CrashPoint::new(),
            chance: RandomState::new(),
        }
    }

    /// A random number.
    pub(super) fn random_u64(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = now.map_or(0, |since| since.as_nanos());
        self.chance.hash_one((
            nanos,
            self.requests.load(Ordering::Relaxed),
            RANDOM_COUNT.fetch_add(1, Ordering::Relaxed),
        ))
    }

    async fn pause(&self, failures: u32) {
        let millis = Duration::from_millis;
        let (first, max) = (millis(PAUSE_MILLIS), millis(PAUSE_MILLIS_MAX));
        tokio::time::sleep(retry::back_off(first, max, failures, retry::chance())).await;
    }

    /// Sends a request, with retries.
    async fn ask<T, E, F>(&self, writes: bool, send: impl Fn() -> F) -> Result<T, SdkError<E>>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        if let Err(error) = self.crash_point.pass(writes) {
            return Err(SdkError::construction_failure(error));
        }
        let mut tried = 0;
        loop {
            self.requests.fetch_add(1, Ordering::Relaxed);
            match send().await {
                Err(error) if tried + 1 < TRIES_MAX && is_retryable(&error) => {
                    tracing::debug!(error = %DisplayErrorContext(&error), "retrying a DynamoDB request");
                    tried += 1;
                    self.pause(tried).await;
                }
                answer => return answer,
            }
        }
    }

    fn failed<E>(&self, error: SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if let Some("ResourceNotFoundException") = error.code() {
            let name = &self.name;
            return StoreError::Unavailable {
                reason: format!(
                    "there is no DynamoDB table {name}: `rootwatch store init` makes it"
                ),
            };
        }
        let text = match &error {
            SdkError::ServiceError(_) => format!(
                "{}: {}",
                error.code().unwrap_or("an error without a code"),
                error.message().unwrap_or("DynamoDB says no more")
            ),
            _ => DisplayErrorContext(&error).to_string(),
        };
        StoreError::Unavailable { reason: format!("the DynamoDB table {}: {text}", self.name) }
    }

    /// These items as they are now; missing ones are left out.
    pub(super) async fn get(&self, keys: &[Key]) -> Result<HashMap<Key, Item>, StoreError> {
        // DynamoDB refuses duplicate keys.
        let mut wanted = keys.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut asks: Vec<Ask<'_, Vec<(Key, Item)>>> = Vec::new();
        for chunk in wanted.chunks(GET_KEYS_MAX) {
            asks.push(Box::pin(self.get_some(chunk)));
        }
        let chunks = at_once(asks).await?;
        Ok(self.whole(chunks.into_iter().flatten().collect()).await?.into_iter().collect())
    }

    pub(super) async fn get_one(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let answer = self
            .ask(false, || {
                self.client
                    .get_item()
                    .table_name(&self.name)
                    .set_key(Some(key.attributes()))
                    .consistent_read(true)
                    .send()
            })
            .await
            .map_err(|error| self.failed(error))?;
        let Some(found) = answer.item else { return Ok(None) };
        Ok(self.whole(vec![Item::read(found)?]).await?.pop().map(|(_, item)| item))
    }

    async fn get_some(&self, keys: &[Key]) -> Result<Vec<(Key, Item)>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut left: Vec<HashMap<String, AttributeValue>> =
            keys.iter().map(Key::attributes).collect();
        let mut tried = 0;
        while !left.is_empty() {
            let asked = left.len();
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut left)))
                .consistent_read(true)
                .build()
                .map_err(|error| StoreError::Damaged { reason: error.to_string() })?;
            let answer = self
                .ask(false, || {
                    self.client.batch_get_item().request_items(&self.name, wanted.clone()).send()
                })
                .await
                .map_err(|error| self.failed(error))?;
            for items in answer.responses.unwrap_or_default().into_values() {
                for item in items {
                    found.push(Item::read(item)?);
                }
            }
            for (_, unprocessed) in answer.unprocessed_keys.unwrap_or_default() {
                left.extend(unprocessed.keys);
            }
            if !left.is_empty() {
                tried = if left.len() < asked { 0 } else { tried + 1 };
                if tried >= TRIES_MAX {
                    return Err(StoreError::Unavailable {
                        reason: format!("the DynamoDB table {} answers parts only", self.name),
                    });
                }
                self.pause(tried).await;
            }
        }
        Ok(found)
    }

    /// A range of an item collection, in its order.
    pub(super) async fn range(&self, range: Range<'_>) -> Result<Vec<(Key, Item)>, StoreError> {
        let mut found = Vec::new();
        let mut after = None;
        let (pk, sk) = if range.of_list { (LIST_PK, LIST_SK) } else { ("pk", "sk") };
        while found.len() < range.items_max && range.from <= range.to {
            let left = (range.items_max - found.len()).saturating_add(range.before_to.into());
            let answer = self
                .ask(false, || {
                    self.client
                        .query()
                        .table_name(&self.name)
                        .set_index_name(range.of_list.then(|| super::LIST_INDEX.to_owned()))
                        .key_condition_expression(format!("{pk} = :p AND {sk} BETWEEN :f AND :t"))
                        .expression_attribute_values(":p", AttributeValue::S(range.pk.to_owned()))
                        .expression_attribute_values(":f", AttributeValue::S(range.from.clone()))
                        .expression_attribute_values(":t", AttributeValue::S(range.to.clone()))
                        .scan_index_forward(!range.newest_first)
                        .consistent_read(!range.of_list)
                        .set_limit(i32::try_from(left).ok())
                        .set_exclusive_start_key(after.clone())
                        .send()
                })
                .await
                .map_err(|error| self.failed(error))?;
            for item in answer.items.unwrap_or_default() {
                let (key, item) = Item::read(item)?;
                let place = if range.of_list { item.text(LIST_SK) } else { Some(&*key.sk) };
                if !range.before_to || place != Some(&*range.to) {
                    found.push((key, item));
                }
            }
            after = answer.last_evaluated_key;
            if after.is_none() {
                break;
            }
        }
        found.truncate(range.items_max);
        if range.of_list { Ok(found) } else { self.whole(found).await }
    }

    /// Adds bodies that are stored in parts to their items.
    async fn whole(&self, mut items: Vec<(Key, Item)>) -> Result<Vec<(Key, Item)>, StoreError> {
        for (key, item) in &mut items {
            let Some(parts) = item.number(PARTS).filter(|parts| *parts > 0) else { continue };
            let of = parts_of(key);
            let found = Box::pin(self.range(Range::all(&of))).await?;
            if found.len() as i64 != parts {
                return Err(StoreError::Damaged {
                    reason: format!("{} {} has {} of {parts} parts", key.pk, key.sk, found.len()),
                });
            }
            let mut body: Vec<u8> = Vec::new();
            for (_, part) in found {
                if let Some(Val::B(bytes)) = part.0.get(BODY) {
                    body.extend(bytes);
                }
            }
            item.set(BODY, body);
        }
        Ok(items)
    }

    /// Puts one item, replacing any existing one: half the price of a transaction.
    pub(super) async fn put(&self, key: &Key, item: &Item) -> Result<(), StoreError> {
        let attributes = item.attributes(key);
        let put = || {
            let put = self.client.put_item().table_name(&self.name);
            put.set_item(Some(attributes.clone())).send()
        };
        self.ask(true, put).await.map(drop).map_err(|error| self.failed(error))
    }

    /// Deletes one item, if it exists.
    pub(super) async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let delete = || {
            let delete = self.client.delete_item().table_name(&self.name);
            delete.set_key(Some(key.attributes())).send()
        };
        self.ask(true, delete).await.map(drop).map_err(|error| self.failed(error))
    }

    /// Writes or deletes one item under its conditions.
    pub(super) async fn write(&self, write: &Write) -> Result<WriteOutcome, StoreError> {
        self.transact(std::slice::from_ref(write)).await
    }

    /// All of these or none.
    pub(super) async fn transact(&self, writes: &[Write]) -> Result<WriteOutcome, StoreError> {
        let items: Vec<TransactWriteItem> = writes
            .iter()
            .map(|write| write.item(&self.name))
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::Damaged { reason: error.to_string() })?;
        let mut tried = 0;
        loop {
            // The same token for all retries: a transaction whose answer was lost is not repeated.
            let token = format!("{:016x}{:016x}", self.random_u64(), self.random_u64());
            let answer = self
                .ask(true, || {
                    self.client
                        .transact_write_items()
                        .set_transact_items(Some(items.clone()))
                        .client_request_token(&token)
                        .send()
                })
                .await;
            let Err(error) = answer else { return Ok(WriteOutcome::Done) };
            let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
                error.as_service_error()
            else {
                return Err(self.failed(error));
            };
            let reasons: Vec<&str> = cancelled
                .cancellation_reasons()
                .iter()
                .map(|one| one.code().unwrap_or_default())
                .collect();
            let refused: Vec<usize> =
                (0..reasons.len()).filter(|&place| reasons[place] == CONDITION).collect();
            if !refused.is_empty() {
                return Ok(WriteOutcome::Refused(refused));
            }
            tried += 1;
            if tried >= TRIES_MAX
                || !reasons.iter().any(|reason| codes::advice(reason) == Some(Advice::Retry))
            {
                let told: Vec<&str> = cancelled
                    .cancellation_reasons()
                    .iter()
                    .filter_map(|one| one.message())
                    .collect();
                return Err(StoreError::Unavailable {
                    reason: format!(
                        "the DynamoDB table {} cancelled a transaction: {}",
                        self.name,
                        told.join(", ")
                    ),
                });
            }
            self.pause(tried).await;
        }
    }

    /// All items of the table, for consistency checks.
    pub(super) async fn scan(&self) -> Result<Vec<(Key, Item)>, StoreError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let answer = self
                .ask(false, || {
                    self.client
                        .scan()
                        .table_name(&self.name)
                        .consistent_read(true)
                        .set_exclusive_start_key(after.clone())
                        .send()
                })
                .await
                .map_err(|error| self.failed(error))?;
            for item in answer.items.unwrap_or_default() {
                found.push(Item::read(item)?);
            }
            after = answer.last_evaluated_key;
            if after.is_none() {
                return Ok(found);
            }
        }
    }
}

fn is_retryable<E: ProvideErrorMetadata + Debug>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            true
        }
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            codes::advice_for(status, error.code().unwrap_or_default()) == Advice::Retry
        }
        _ => false,
    }
}
