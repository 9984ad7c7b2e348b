//! Pending deliveries: threads of deliveries, and the writes of a change to them.
//!
//! Of each thread and destination an item counts what has not ended; with its version every change
//! to the thread is in one order, without the head of the table. The oldest that has not ended is
//! *in turn*: it has an entry among those of its destination that are ready, ordered by when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use rootwatch_core::delivery::{Delivery, DeliveryId, DeliveryState};

use super::item::{Item, Key, LIST_PK, LIST_SK, name, sorted};
use super::parts::puts;
use super::table::Range;
use super::write::{Edit, Write};
use super::{DynamoStore, SHARDS};
use crate::StoreError;
use crate::rows::{micros, time};

/// Between a destination and a state in the name of a counter; no state has one.
pub(super) const UNIT: char = '|';

fn delivery_key(id: &DeliveryId) -> Key {
    Key::new(format!("D#{}", name(&id.0)), "D")
}

/// The keys to read for enqueueing these.
pub(super) fn keys_of(deliveries: &[Delivery]) -> impl Iterator<Item = Key> {
    deliveries.iter().flat_map(|one| {
        let thread = thread_pk(&one.destination, &one.alert.thread());
        [delivery_key(&one.id), Key::new(thread, "!")]
    })
}

/// The collection of a thread to a destination.
fn thread_pk(destination: &str, thread: &str) -> String {
    let (destination, thread) = (name(destination), name(thread));
    format!("T#{}#{destination}#{thread}", destination.len())
}

pub(super) fn ready_pk(destination: &str) -> String {
    format!("R#{}", name(destination))
}

fn waiting_key(thread: &str, seq: i64) -> Key {
    Key::new(thread, format!("W#{}", sorted(seq)))
}

/// A delivery with its item, as read.
#[derive(Debug, Clone)]
pub(super) struct StoredDelivery {
    pub(super) key: Key,
    pub(super) item: Item,
    pub(super) delivery: Delivery,
    pub(super) thread: String,
    pub(super) version: i64,
    pub(super) seq: i64,
    pub(super) number: i64,
    pub(super) in_turn: bool,
}

impl StoredDelivery {
    pub(super) fn read(key: Key, item: Item) -> Result<Self, StoreError> {
        let mut delivery: Delivery = item.body("a delivery")?;
        let state = item.needs("state")?;
        let unknown = || StoreError::Damaged { reason: format!("a delivery is {state:?}") };
        let at = |name: &str| item.number(name).map(time).transpose();
        delivery.state =
            DeliveryState::ALL.into_iter().find(|one| one.name() == state).ok_or_else(unknown)?;
        delivery.due_at = time(item.counts("due")?)?;
        delivery.leased_until = at("leased")?;
        delivery.attempts = u32::try_from(item.counts("attempts")?).unwrap_or(u32::MAX);
        delivery.last_error = item.text("error").map(str::to_owned);
        delivery.receipt = item.text("receipt").map(str::to_owned);
        delivery.ended_at = at("ended")?;
        Ok(Self {
            thread: thread_pk(&delivery.destination, &delivery.alert.thread()),
            version: item.counts("v")?,
            seq: item.counts("seq")?,
            number: item.counts("number")?,
            in_turn: item.counts("turn")? == 1,
            delivery,
            key,
            item,
        })
    }

    pub(super) fn ready_key(&self) -> Key {
        ready_key(&self.delivery, self.number)
    }

    /// A change to it as it was read.
    pub(super) fn edit(&self) -> Edit {
        Edit::of(self.key.clone()).is("v", self.version).set("v", self.version + 1)
    }

    pub(super) fn is_due(&self) -> bool {
        self.delivery.state == DeliveryState::Due
    }
}

/// When it can be leased: when due, or when its lease expires.
fn ready_at(delivery: &Delivery) -> i64 {
    let due = micros(delivery.due_at);
    due.max(delivery.leased_until.map_or(due, micros))
}

pub(super) fn ready_key(delivery: &Delivery, number: i64) -> Key {
    let pk = ready_pk(&delivery.destination);
    Key::new(pk, format!("{}#{}", sorted(ready_at(delivery)), sorted(number)))
}

pub(super) fn ready_item(id: &DeliveryId, created_at: Timestamp) -> Item {
    Item::default().with("id", id.0.as_str()).with("created", micros(created_at))
}

/// A thread to a destination, as it will be after the change.
#[derive(Debug, Clone, Default)]
pub(super) struct Thread {
    /// `None` if there is no item yet.
    version: Option<i64>,
    last: i64,
    unended: i64,
    is_changed: bool,
}

impl Thread {
    fn read(item: &Item) -> Result<Self, StoreError> {
        Ok(Self {
            version: Some(item.counts("v")?),
            last: item.counts("last")?,
            unended: item.counts("n")?,
            is_changed: false,
        })
    }
}

/// Changes to deliveries that one transaction writes.
#[derive(Debug)]
pub(super) struct OutboxWrites<'a> {
    store: &'a DynamoStore,
    threads: BTreeMap<String, Thread>,
    /// Whether deliveries exist, by id.
    known: HashMap<DeliveryId, bool>,
    writes: Vec<Write>,
    bytes: usize,
    counts: BTreeMap<usize, BTreeMap<String, i64>>,
    destinations: BTreeSet<String>,
    /// New deliveries that fit one item.
    owed: Vec<StoredDelivery>,
}

impl<'a> OutboxWrites<'a> {
    pub(super) fn new(store: &'a DynamoStore) -> Self {
        Self {
            store,
            threads: BTreeMap::new(),
            known: HashMap::new(),
            writes: Vec::new(),
            bytes: 0,
            counts: BTreeMap::new(),
            destinations: BTreeSet::new(),
            owed: Vec::new(),
        }
    }

    /// Continues with the thread as this process wrote it last, if it did.
    pub(super) fn recall(&mut self, pk: &str) {
        if let Some(thread) = self.store.recent.thread(pk) {
            self.threads.insert(pk.to_owned(), thread);
        }
    }

    /// Reads in one request what enqueueing these needs, except what was `read` already.
    pub(super) async fn prefetch(
        &mut self,
        deliveries: &[Delivery],
        read: &HashMap<Key, Option<Item>>,
    ) -> Result<(), StoreError> {
        let mut threads: BTreeSet<String> = BTreeSet::new();
        let mut keys: BTreeMap<Key, Option<DeliveryId>> = BTreeMap::new();
        for one in deliveries {
            keys.insert(delivery_key(&one.id), Some(one.id.clone()));
            threads.insert(thread_pk(&one.destination, &one.alert.thread()));
        }
        keys.extend(threads.iter().map(|pk| (Key::new(pk, "!"), None)));
        let wanted: Vec<Key> = keys.keys().filter(|key| !read.contains_key(key)).cloned().collect();
        let found = self.store.table.get(&wanted).await?;
        for (key, id) in keys {
            let item = found.get(&key).or_else(|| read.get(&key)?.as_ref());
            match id {
                Some(id) => _ = self.known.insert(id, item.is_some()),
                None => {
                    let thread = item.map(Thread::read).transpose()?;
                    self.threads.insert(key.pk, thread.unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    async fn thread(&mut self, pk: &str) -> Result<&mut Thread, StoreError> {
        if !self.threads.contains_key(pk) {
            let found = self.store.table.get_one(&Key::new(pk, "!")).await?;
            let thread = found.as_ref().map(Thread::read).transpose()?.unwrap_or_default();
            self.threads.insert(pk.to_owned(), thread);
        }
        Ok(self.threads.entry(pk.to_owned()).or_default())
    }

    pub(super) fn push(&mut self, write: Write) {
        self.bytes += write.bytes();
        self.writes.push(write);
    }

    pub(super) fn count(&mut self, thread: &str, destination: &str, state: DeliveryState, by: i64) {
        let shard = thread.bytes().fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
        let counts = self.counts.entry(shard % SHARDS).or_default();
        *counts.entry(format!("{destination}{UNIT}{}", state.name())).or_default() += by;
    }

    /// Enqueues a delivery behind the pending ones of its thread and destination. One that exists
    /// stays unchanged.
    pub(super) async fn enqueue(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        let key = delivery_key(&delivery.id);
        let is_known = match self.known.get(&delivery.id) {
            Some(known) => *known,
            None => self.store.table.get_one(&key).await?.is_some(),
        };
        if is_known {
            return Ok(());
        }
        self.known.insert(delivery.id.clone(), true);
        let number = self.store.number();
        let pk = thread_pk(&delivery.destination, &delivery.alert.thread());
        let is_due = delivery.state == DeliveryState::Due;
        let thread = self.thread(&pk).await?;
        let mut in_turn = false;
        let seq = thread.last + 1;
        if is_due {
            in_turn = thread.unended == 0;
            thread.last = seq;
            thread.unended += 1;
            thread.is_changed = true;
        }
        let mut item = Item::default()
            .with("state", delivery.state.name())
            .with("dest", delivery.destination.as_str())
            .with("due", micros(delivery.due_at))
            .with("attempts", i64::from(delivery.attempts))
            .with("v", 1)
            .with("seq", seq)
            .with("number", number)
            .with("turn", i64::from(in_turn))
            .with(LIST_PK, "D")
            .with(LIST_SK, sorted(number))
            .with_body(delivery)?;
        let numbers = [("leased", delivery.leased_until), ("ended", delivery.ended_at)];
        for (name, at) in numbers {
            if let Some(at) = at {
                item.set(name, micros(at));
            }
        }
        for (name, text) in [("error", &delivery.last_error), ("receipt", &delivery.receipt)] {
            if let Some(text) = text {
                item.set(name, text.as_str());
            }
        }
        let puts = puts(key, item);
        if is_due && let [(key, item)] = &puts[..] {
            self.owed.push(StoredDelivery::read(key.clone(), item.clone())?);
        }
        for (key, item) in puts {
            self.push(Write::New(key, item));
        }
        if is_due {
            let waiting = Item::default().with("id", delivery.id.0.as_str());
            self.push(Write::Put(waiting_key(&pk, seq), waiting));
        }
        if in_turn {
            let item = ready_item(&delivery.id, delivery.created_at);
            self.push(Write::Put(ready_key(delivery, number), item));
        }
        self.count(&pk, &delivery.destination, delivery.state, 1);
        if !self.store.knows_key(&destination_key(&delivery.destination)) {
            self.destinations.insert(delivery.destination.clone());
        }
        Ok(())
    }

    /// Ends a pending delivery and makes the next of its thread ready; returns whether there is one.
    pub(super) async fn end(
        &mut self,
        kept: &StoredDelivery,
        state: DeliveryState,
        receipt: Option<&str>,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let thread = self.thread(&kept.thread).await?;
        thread.unended = (thread.unended - 1).max(0);
        thread.is_changed = true;
        let more = thread.unended > 0;
        let mut edit = kept
            .edit()
            .set("state", state.name())
            .set("ended", micros(now))
            .set("turn", 0)
            .set("ttl", self.store.expiry(now))
            .remove("leased");
        edit = match receipt {
            Some(receipt) => edit.set("receipt", receipt),
            None => edit.remove("receipt"),
        };
        edit = match error {
            Some(error) => edit.set("error", error),
            None => edit.remove("error"),
        };
        self.push(Write::Edit(edit));
        self.push(Write::Delete(waiting_key(&kept.thread, kept.seq)));
        if kept.in_turn {
            self.push(Write::Take(kept.ready_key()));
        }
        let destination = &kept.delivery.destination;
        self.count(&kept.thread, destination, DeliveryState::Due, -1);
        self.count(&kept.thread, destination, state, 1);
        if more && kept.in_turn {
            let range = Range::prefix(&kept.thread, "W#").first(2);
            let waiting = self.store.table.range(range).await?;
            let next = waiting.iter().find(|(key, _)| *key != waiting_key(&kept.thread, kept.seq));
            if let Some((_, next)) = next {
                let id = DeliveryId(next.needs("id")?.to_owned());
                let Some(next) = self.store.stored_delivery(&id).await? else {
                    return Err(StoreError::Damaged {
                        reason: format!("delivery {id} is pending but missing"),
                    });
                };
                self.push(Write::Edit(next.edit().set("turn", 1)));
                let item = ready_item(&next.delivery.id, next.delivery.created_at);
                self.push(Write::Put(next.ready_key(), item));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The number of writes.
    pub(super) fn len(&self) -> usize {
        let threads = self.threads.values().filter(|thread| thread.is_changed).count();
        self.writes.len() + threads + self.counts.len() + self.destinations.len()
    }

    /// Approximate bytes of the writes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + 512 * (self.len() - self.writes.len())
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        let mut writes = self.writes.clone();
        for (pk, thread) in self.threads.iter().filter(|(_, thread)| thread.is_changed) {
            let mut edit = Edit::of(Key::new(pk, "!"));
            edit = match thread.version {
                Some(version) => edit.is("v", version),
                None => edit.lacks("v"),
            };
            if thread.unended == 0 {
                if thread.version.is_some() {
                    writes.push(Write::Drop(edit));
                }
                continue;
            }
            let version = thread.version.unwrap_or_default() + 1;
            let edit = edit.set("v", version).set("last", thread.last);
            writes.push(Write::Edit(edit.set("n", thread.unended)));
        }
        for (shard, counts) in &self.counts {
            let mut edit = Edit::of(Key::new("C", format!("{shard:02}")));
            for (name, by) in counts {
                edit = edit.add(name, *by);
            }
            writes.push(Write::Edit(edit));
        }
        for destination in &self.destinations {
            let item = Item::default().with("name", destination.as_str());
            writes.push(Write::Put(destination_key(destination), item));
        }
        writes
    }

    /// After the transaction: remembers what need not be written or read again.
    pub(super) fn done(self) {
        for (pk, thread) in self.threads.into_iter().filter(|(_, thread)| thread.is_changed) {
            let version = Some(thread.version.unwrap_or_default() + 1);
            let after = Thread { version, is_changed: false, ..thread };
            self.store.recent.wrote_thread(pk, (after.unended > 0).then_some(after));
        }
        for kept in self.owed {
            self.store.recent.wrote(kept);
        }
        if !self.destinations.is_empty() {
            self.store.recent.forget_destinations();
        }
        for destination in &self.destinations {
            self.store.remember_key(destination_key(destination));
        }
    }
}

/// The item of a destination that has ever had a delivery.
fn destination_key(destination: &str) -> Key {
    Key::new("TO", format!("={}", name(destination)))
}

impl DynamoStore {
    pub(super) async fn stored_delivery(
        &self,
        id: &DeliveryId,
    ) -> Result<Option<StoredDelivery>, StoreError> {
        let key = delivery_key(id);
        let item = self.table.get_one(&key).await?;
        item.map(|item| StoredDelivery::read(key, item)).transpose()
    }
}
