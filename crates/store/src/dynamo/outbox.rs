//! Deliveries: owed, leased, ended.
//!
//! Of each thread and destination an item counts what has not ended; with its version every change
//! to the thread is in one order, without the head of the table. The oldest that has not ended is
//! *in turn*: it has an entry among those of its destination that are ready, ordered by when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use rootwatch_core::alert::{Delivery, DeliveryId, DeliveryState};

use super::item::{Item, Key, LIST_PK, LIST_SK, PARTS, name, sorted, unsorted};
use super::table::{Ask, BEGIN, END, Range, Written, at_once};
use super::write::{Edit, Write, puts};
use super::{DynamoStore, SHARDS};
use crate::rows::{Cursor, List, items, micros, time};
use crate::{Attempt, DeliveryFilter, Page, PageRequest, StoreError};

/// Rounds of a lease in which others may come first.
const LEASE_ROUNDS_MAX: usize = 20;
/// Tries to note an attempt while others work on the same thread.
const ATTEMPTED_TRIES_MAX: usize = 50;
/// Between a destination and a state in the name of a counter; no state has one.
const UNIT: char = '|';

fn delivery_key(id: &DeliveryId) -> Key {
    Key::new(format!("D#{}", name(&id.0)), "D")
}

/// The collection of a thread to a destination.
fn thread_pk(destination: &str, thread: &str) -> String {
    let (destination, thread) = (name(destination), name(thread));
    format!("T#{}#{destination}#{thread}", destination.len())
}

fn ready_pk(destination: &str) -> String {
    format!("R#{}", name(destination))
}

fn waiting_key(thread: &str, seq: i64) -> Key {
    Key::new(thread, format!("W#{}", sorted(seq)))
}

/// What is kept of a delivery, as read.
#[derive(Debug, Clone)]
struct Kept {
    key: Key,
    item: Item,
    delivery: Delivery,
    thread: String,
    version: i64,
    seq: i64,
    number: i64,
    in_turn: bool,
}

impl Kept {
    fn read(key: Key, item: Item) -> Result<Self, StoreError> {
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

    fn ready_key(&self) -> Key {
        ready_key(&self.delivery, self.number)
    }

    /// A change to it as it was read.
    fn edit(&self) -> Edit {
        Edit::of(self.key.clone()).is("v", self.version).set("v", self.version + 1)
    }

    fn is_due(&self) -> bool {
        self.delivery.state == DeliveryState::Due
    }
}

/// When it can be leased: when due, or when its lease runs out.
fn ready_at(delivery: &Delivery) -> i64 {
    let due = micros(delivery.due_at);
    due.max(delivery.leased_until.map_or(due, micros))
}

fn ready_key(delivery: &Delivery, number: i64) -> Key {
    let pk = ready_pk(&delivery.destination);
    Key::new(pk, format!("{}#{}", sorted(ready_at(delivery)), sorted(number)))
}

fn ready_item(id: &DeliveryId, created_at: Timestamp) -> Item {
    Item::default().with("id", id.0.as_str()).with("created", micros(created_at))
}

/// A thread to a destination, as it is going to be.
#[derive(Debug, Clone, Default)]
struct Thread {
    /// `None` when there is no item yet.
    version: Option<i64>,
    last: i64,
    unended: i64,
    is_changed: bool,
}

/// Changes to deliveries, which are to be written in one transaction.
#[derive(Debug)]
pub(super) struct Outbox<'a> {
    store: &'a DynamoStore,
    threads: BTreeMap<String, Thread>,
    /// Deliveries by id: whether they are there.
    known: HashMap<DeliveryId, bool>,
    writes: Vec<Write>,
    bytes: usize,
    counts: BTreeMap<usize, BTreeMap<String, i64>>,
    destinations: BTreeSet<String>,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(store: &'a DynamoStore) -> Self {
        Self {
            store,
            threads: BTreeMap::new(),
            known: HashMap::new(),
            writes: Vec::new(),
            bytes: 0,
            counts: BTreeMap::new(),
            destinations: BTreeSet::new(),
        }
    }

    /// Reads what owing these needs, at once.
    pub(super) async fn prefetch(&mut self, deliveries: &[Delivery]) -> Result<(), StoreError> {
        let mut threads: BTreeSet<String> = BTreeSet::new();
        let mut keys: BTreeMap<Key, Option<DeliveryId>> = BTreeMap::new();
        for one in deliveries {
            keys.insert(delivery_key(&one.id), Some(one.id.clone()));
            threads.insert(thread_pk(&one.destination, &one.alert.thread()));
        }
        keys.extend(threads.iter().map(|pk| (Key::new(pk, "!"), None)));
        let wanted: Vec<Key> = keys.keys().cloned().collect();
        let found = self.store.table.get(&wanted).await?;
        for (key, id) in keys {
            match id {
                Some(id) => _ = self.known.insert(id, found.contains_key(&key)),
                None => {
                    let thread = found.get(&key).map(Thread::read).transpose()?;
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

    fn push(&mut self, write: Write) {
        self.bytes += write.bytes();
        self.writes.push(write);
    }

    fn count(&mut self, thread: &str, destination: &str, state: DeliveryState, by: i64) {
        let shard = thread.bytes().fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
        let counts = self.counts.entry(shard % SHARDS).or_default();
        *counts.entry(format!("{destination}{UNIT}{}", state.name())).or_default() += by;
    }

    /// Owes a delivery, behind those of its thread and destination that have not ended. One that
    /// is there already stays as it is.
    pub(super) async fn owe(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
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
        for (key, item) in puts(key, item) {
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
        if !self.store.knows(&destination_key(&delivery.destination)) {
            self.destinations.insert(delivery.destination.clone());
        }
        Ok(())
    }

    /// Ends a delivery that is due, and gives the turn to the next of its thread.
    async fn end(
        &mut self,
        kept: &Kept,
        state: DeliveryState,
        receipt: Option<&str>,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
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
                let Some(next) = self.store.kept(&id).await? else {
                    return Err(StoreError::Damaged {
                        reason: format!("the delivery {id} waits and is not there"),
                    });
                };
                self.push(Write::Edit(next.edit().set("turn", 1)));
                let item = ready_item(&next.delivery.id, next.delivery.created_at);
                self.push(Write::Put(next.ready_key(), item));
            }
        }
        Ok(())
    }

    /// How many writes it comes to.
    pub(super) fn len(&self) -> usize {
        let threads = self.threads.values().filter(|thread| thread.is_changed).count();
        self.writes.len() + threads + self.counts.len() + self.destinations.len()
    }

    /// About how many bytes.
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

    /// Remembers what need not be written again.
    pub(super) fn done(&self) {
        for destination in &self.destinations {
            self.store.learn(destination_key(destination));
        }
    }
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

/// Names a destination to which something was ever owed.
fn destination_key(destination: &str) -> Key {
    Key::new("TO", format!("={}", name(destination)))
}

impl DynamoStore {
    async fn kept(&self, id: &DeliveryId) -> Result<Option<Kept>, StoreError> {
        let key = delivery_key(id);
        let item = self.table.get_one(&key).await?;
        item.map(|item| Kept::read(key, item)).transpose()
    }

    async fn destinations(&self) -> Result<Vec<String>, StoreError> {
        let found = self.table.range(Range::all("TO")).await?;
        found.iter().map(|(_, item)| item.needs("name").map(str::to_owned)).collect()
    }

    /// The first entries of each destination that is ready by then: when, their numbers, their ids.
    async fn ready(
        &self,
        by: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<(i64, String, DeliveryId)>, StoreError> {
        let pks: Vec<String> = self
            .destinations()
            .await?
            .iter()
            .filter(|one| !busy.contains(one))
            .map(|one| ready_pk(one))
            .collect();
        let to = format!("{}{END}", sorted(micros(by)));
        let mut asks: Vec<Ask<'_, Vec<(Key, Item)>>> = Vec::new();
        for pk in &pks {
            let range = Range { to: to.clone(), ..Range::all(pk).first(max) };
            asks.push(Box::pin(self.table.range(range)));
        }
        let found = at_once(asks).await?;
        let mut all = Vec::new();
        for (key, item) in found.into_iter().flatten() {
            let id = DeliveryId(item.needs("id")?.to_owned());
            all.push((unsorted(&key.sk)?, key.sk, id));
        }
        // The key goes on with the number.
        all.sort_unstable_by(|one, other| one.1.cmp(&other.1));
        all.truncate(max);
        Ok(all)
    }

    pub(super) async fn lease_some(
        &self,
        now: Timestamp,
        until: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut leased: Vec<(String, Delivery)> = Vec::new();
        if max == 0 {
            return Ok(Vec::new());
        }
        self.settled().await?;
        // One leased until now or before would be leased again in the next round.
        let mut mine: BTreeSet<DeliveryId> = BTreeSet::new();
        for _ in 0..LEASE_ROUNDS_MAX {
            let mut ready = self.ready(now, max, busy).await?;
            ready.retain(|(_, _, id)| !mine.contains(id));
            ready.truncate(max - leased.len());
            if ready.is_empty() {
                break;
            }
            let mut asks: Vec<Ask<'_, Option<(String, Delivery)>>> = Vec::new();
            for (_, place, id) in &ready {
                asks.push(Box::pin(async move {
                    let taken = self.lease_one(id, place, until).await?;
                    Ok(taken.map(|delivery| (place.clone(), delivery)))
                }));
            }
            let taken = at_once(asks).await?;
            for (place, delivery) in taken.into_iter().flatten() {
                mine.insert(delivery.id.clone());
                leased.push((place, delivery));
            }
            if leased.len() >= max {
                break;
            }
        }
        leased.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(leased.into_iter().map(|(_, delivery)| delivery).collect())
    }

    /// Leases one, unless somebody else was faster.
    async fn lease_one(
        &self,
        id: &DeliveryId,
        place: &str,
        until: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        let Some(kept) = self.kept(id).await? else { return Ok(None) };
        let before = kept.ready_key();
        if !kept.is_due() || !kept.in_turn || before.sk != place {
            return Ok(None);
        }
        let mut after = kept.delivery.clone();
        after.leased_until = Some(until);
        after.attempts = after.attempts.saturating_add(1);
        let edit =
            kept.edit().set("leased", micros(until)).set("attempts", i64::from(after.attempts));
        let mut writes = vec![Write::Edit(edit)];
        let then = ready_key(&after, kept.number);
        if then != before {
            writes.push(Write::Take(before));
            writes.push(Write::Put(then, ready_item(id, after.created_at)));
        }
        let written = self.table.transact(&writes).await?;
        Ok((written == Written::Done).then_some(after))
    }

    pub(super) async fn note_attempt(
        &self,
        id: &DeliveryId,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTED_TRIES_MAX {
            let Some(kept) = self.kept(id).await? else {
                return Err(StoreError::NotFound { what: "delivery", name: id.0.clone() });
            };
            if !kept.is_due() {
                // It ended already: another one sent it after this one's lease ran out.
                return Ok(());
            }
            let mut outbox = Outbox::new(self);
            match attempt {
                Attempt::Delivered { receipt } => {
                    let state = DeliveryState::Delivered;
                    outbox.end(&kept, state, Some(receipt), None, now).await?;
                }
                Attempt::Failed { error, instead } => {
                    outbox.end(&kept, DeliveryState::Failed, None, Some(error), now).await?;
                    for delivery in instead {
                        outbox.owe(delivery).await?;
                    }
                }
                Attempt::Again { at, error, not_begun } => {
                    again(&mut outbox, &kept, *at, error, *not_begun);
                }
            }
            if self.table.transact(&outbox.writes()).await? == Written::Done {
                outbox.done();
                return Ok(());
            }
        }
        Err(self.busy())
    }

    pub(super) async fn next_ready(&self) -> Result<Option<Timestamp>, StoreError> {
        self.settled().await?;
        let first = self.ready(Timestamp::MAX, 1, &[]).await?;
        first.first().map(|(at, _, _)| time(*at)).transpose()
    }

    /// When the oldest that is in turn was owed.
    pub(super) async fn oldest_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut oldest: Option<i64> = None;
        for destination in self.destinations().await? {
            let pk = ready_pk(&destination);
            for (_, item) in self.table.range(Range::all(&pk)).await? {
                oldest = oldest.into_iter().chain(item.number("created")).min();
            }
        }
        oldest.map(time).transpose()
    }

    /// The numbers by destination and state.
    pub(super) async fn delivery_counts(
        &self,
    ) -> Result<BTreeMap<(String, DeliveryState), u64>, StoreError> {
        let mut counts: BTreeMap<(String, DeliveryState), i64> = BTreeMap::new();
        for (_, shard) in self.table.range(Range::all("C")).await? {
            for name in shard.0.keys() {
                let Some((destination, state)) = name.rsplit_once(UNIT) else { continue };
                let known = DeliveryState::ALL.into_iter().find(|one| one.name() == state);
                if let (Some(state), Some(number)) = (known, shard.number(name)) {
                    *counts.entry((destination.to_owned(), state)).or_default() += number;
                }
            }
        }
        let counts = counts.into_iter().filter_map(|(of, number)| {
            u64::try_from(number).ok().filter(|number| *number > 0).map(|number| (of, number))
        });
        Ok(counts.collect())
    }

    pub(super) async fn list_deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        let mut to = END.to_owned();
        if let Some(after) = &page.after {
            let number = Cursor::read(List::Deliveries, after)?.number;
            to = sorted(number.saturating_sub(1));
        }
        self.settled().await?;
        let items_max = items(page);
        let mut all: Vec<(i64, Delivery)> = Vec::new();
        while all.len() <= items_max {
            let range = Range {
                to: to.clone(),
                newest_first: true,
                of_list: true,
                ..Range::all("D").first(items_max + 1)
            };
            let found = self.table.range(range).await?;
            let Some((_, last)) = found.last() else { break };
            to = sorted(unsorted(last.needs(LIST_SK)?)?.saturating_sub(1));
            let is_end = found.len() <= items_max;
            for kept in self.kept_of(&found).await? {
                let one = kept.delivery;
                let incident = || one.alert.incident().map(|brief| brief.id.clone());
                let fits = (filter.states.is_empty() || filter.states.contains(&one.state))
                    && filter.destination.as_ref().is_none_or(|to| *to == one.destination)
                    && filter.incident.as_ref().is_none_or(|id| incident().as_ref() == Some(id));
                if fits {
                    all.push((kept.number, one));
                }
            }
            if is_end {
                break;
            }
        }
        let more = all.len() > items_max;
        all.truncate(items_max);
        let next = all
            .last()
            .filter(|_| more)
            .map(|(number, _)| Cursor::write(List::Deliveries, *number, "delivery"));
        Ok(Page { items: all.into_iter().map(|(_, delivery)| delivery).collect(), next })
    }

    /// What the entries of a list speak of, in their order.
    async fn kept_of(&self, entries: &[(Key, Item)]) -> Result<Vec<Kept>, StoreError> {
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let mut found = self.table.get(&keys).await?;
        let kept = keys.into_iter().filter_map(|key| {
            let item = found.remove(&key)?;
            Some(Kept::read(key, item))
        });
        kept.collect()
    }

    /// Takes away deliveries that ended before; says how many.
    pub(super) async fn prune_deliveries(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        let mut from = BEGIN.to_owned();
        loop {
            let range = Range {
                from: from.clone(),
                of_list: true,
                ..Range::all("D").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            let Some((_, last)) = entries.last() else { break };
            from = sorted(unsorted(last.needs(LIST_SK)?)?.saturating_add(1));
            let kept = self.kept_of(&entries).await?;
            // They are in the order in which they were owed.
            let goes_on = kept.iter().any(|one| one.delivery.created_at < before);
            for one in kept {
                let ended = one.delivery.ended_at.filter(|_| !one.is_due());
                if ended.is_some_and(|at| at < before) && self.forget(&one).await? {
                    pruned += 1;
                }
            }
            if !goes_on || entries.len() < super::PRUNE_SLICE {
                break;
            }
        }
        Ok(pruned)
    }

    async fn forget(&self, kept: &Kept) -> Result<bool, StoreError> {
        let mut outbox = Outbox::new(self);
        outbox.push(Write::Drop(Edit::of(kept.key.clone()).is("v", kept.version)));
        if kept.item.number(PARTS).is_some() {
            for key in super::write::parts_beyond(&kept.key, &kept.item, 0) {
                outbox.push(Write::Delete(key));
            }
        }
        outbox.count(&kept.thread, &kept.delivery.destination, kept.delivery.state, -1);
        Ok(self.table.transact(&outbox.writes()).await? == Written::Done)
    }
}

fn again(outbox: &mut Outbox<'_>, kept: &Kept, at: Timestamp, error: &str, not_begun: bool) {
    let mut after = kept.delivery.clone();
    after.due_at = at;
    after.leased_until = None;
    after.attempts = after.attempts.saturating_sub(u32::from(not_begun));
    let edit = kept
        .edit()
        .set("due", micros(at))
        .set("error", error)
        .set("attempts", i64::from(after.attempts))
        .remove("leased");
    outbox.push(Write::Edit(edit));
    let (before, then) = (kept.ready_key(), ready_key(&after, kept.number));
    if kept.in_turn && then != before {
        outbox.push(Write::Take(before));
        outbox.push(Write::Put(then, ready_item(&after.id, after.created_at)));
    }
}
