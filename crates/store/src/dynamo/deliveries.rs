//! Leasing, listing, counting and pruning deliveries. See [`super::outbox`] for their items.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rootwatch_core::delivery::{Delivery, DeliveryId, DeliveryState};

use super::item::{Item, Key, LIST_SK, PARTS, sorted, unsorted};
use super::outbox::{OutboxWrites, StoredDelivery, UNIT, ready_item, ready_key, ready_pk};
use super::parts::parts_beyond;
use super::table::{Ask, BEGIN, END, Range, WriteOutcome, at_once};
use super::write::{Edit, Write};
use super::{DynamoStore, PRUNE_SLICE};
use crate::rows::{Cursor, List, items, micros, page_of, time};
use crate::{DeliveryFilter, Page, PageRequest, StoreError};
use rootwatch_core::attempt::Attempt;

/// Attempts to lease while other workers lease first.
const LEASE_ROUNDS_MAX: usize = 20;
/// Attempts to record an attempt while other workers change the same thread.
const ATTEMPTED_TRIES_MAX: usize = 50;

impl DynamoStore {
    async fn destinations(&self) -> Result<Vec<String>, StoreError> {
        let found = self.table.range(Range::all("TO")).await?;
        let names: Result<Vec<String>, _> =
            found.iter().map(|(_, item)| item.needs("name").map(str::to_owned)).collect();
        let names = names?;
        self.recent.read_destinations(&names);
        Ok(names)
    }

    /// The first entries of each destination that is ready by then: when, their numbers, their ids.
    /// If it is empty, no delivery is ready, pending large commits included.
    async fn ready(
        &self,
        by: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<(i64, String, DeliveryId)>, StoreError> {
        if let Some(names) = self.recent.destinations() {
            let found = self.ready_of(&names, by, max, busy).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let found = self.ready_of(&self.destinations().await?, by, max, busy).await?;
        if found.is_empty() && self.is_pending().await? {
            // A large commit may enqueue some, and its writer is still at work or has died.
            self.committed_head().await?;
            return self.ready_of(&self.destinations().await?, by, max, busy).await;
        }
        Ok(found)
    }

    async fn ready_of(
        &self,
        destinations: &[String],
        by: Timestamp,
        max: usize,
        busy: &[String],
    ) -> Result<Vec<(i64, String, DeliveryId)>, StoreError> {
        let pks: Vec<String> = destinations
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
        // The sort key ends with the number.
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
        // A lease that ends now or earlier would be taken again in the next round.
        let mut mine: BTreeSet<DeliveryId> = BTreeSet::new();
        for _ in 0..LEASE_ROUNDS_MAX {
            let mut ready = self.ready(now, max, busy).await?;
            let is_all = ready.len() < max;
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
            let before = leased.len();
            for (place, delivery) in taken.into_iter().flatten() {
                mine.insert(delivery.id.clone());
                leased.push((place, delivery));
            }
            let is_all = is_all && leased.len() - before == ready.len();
            if is_all || leased.len() >= max {
                break;
            }
        }
        leased.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(leased.into_iter().map(|(_, delivery)| delivery).collect())
    }

    /// Leases one, unless another worker was faster.
    async fn lease_one(
        &self,
        id: &DeliveryId,
        place: &str,
        until: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
        if let Some(kept) = self.recent.take(id)
            && let Some(delivery) = self.lease_stored(kept, place, until).await?
        {
            return Ok(Some(delivery));
        }
        match self.stored_delivery(id).await? {
            Some(kept) => self.lease_stored(kept, place, until).await,
            None => Ok(None),
        }
    }

    async fn lease_stored(
        &self,
        kept: StoredDelivery,
        place: &str,
        until: Timestamp,
    ) -> Result<Option<Delivery>, StoreError> {
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
            writes.push(Write::Put(then, ready_item(&after.id, after.created_at)));
        }
        if self.table.transact(&writes).await? != WriteOutcome::Done {
            return Ok(None);
        }
        let version = kept.version + 1;
        self.recent.wrote(StoredDelivery { delivery: after.clone(), version, ..kept });
        Ok(Some(after))
    }

    pub(super) async fn note_attempt(
        &self,
        id: &DeliveryId,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTED_TRIES_MAX {
            let mut outbox = OutboxWrites::new(self);
            let kept = if let Some(kept) = self.recent.take(id) {
                outbox.recall(&kept.thread);
                kept
            } else {
                let Some(kept) = self.stored_delivery(id).await? else {
                    return Err(StoreError::NotFound { what: "delivery", name: id.0.clone() });
                };
                kept
            };
            if !kept.is_due() {
                // It has ended: another worker sent it after this worker's lease expired.
                return Ok(false);
            }
            let has_next = match attempt {
                Attempt::Delivered { receipt } => {
                    let state = DeliveryState::Delivered;
                    outbox.end(&kept, state, Some(receipt), None, now).await?
                }
                Attempt::Failed { error, instead } => {
                    let state = DeliveryState::Failed;
                    let has_next = outbox.end(&kept, state, None, Some(error), now).await?;
                    for delivery in instead {
                        outbox.enqueue(delivery).await?;
                    }
                    has_next || !instead.is_empty()
                }
                Attempt::Again { at, error, not_begun } => {
                    again(&mut outbox, &kept, *at, error, *not_begun);
                    false
                }
            };
            if self.table.transact(&outbox.writes()).await? == WriteOutcome::Done {
                outbox.done();
                return Ok(has_next);
            }
        }
        Err(self.busy())
    }

    pub(super) async fn next_ready(&self) -> Result<Option<Timestamp>, StoreError> {
        let first = self.ready(Timestamp::MAX, 1, &[]).await?;
        first.first().map(|(at, _, _)| time(*at)).transpose()
    }

    /// When the oldest pending delivery was enqueued.
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
        self.committed_head().await?;
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
            for kept in self.stored_deliveries(&found).await? {
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
        Ok(page_of(List::Deliveries, all, items_max, |_| "delivery".to_owned()))
    }

    /// The deliveries of these list entries, in their order.
    async fn stored_deliveries(
        &self,
        entries: &[(Key, Item)],
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let mut found = self.table.get(&keys).await?;
        let kept = keys.into_iter().filter_map(|key| {
            let item = found.remove(&key)?;
            Some(StoredDelivery::read(key, item))
        });
        kept.collect()
    }

    /// Deletes deliveries that ended before; returns how many.
    pub(super) async fn prune_deliveries(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        let mut from = BEGIN.to_owned();
        loop {
            let range =
                Range { from: from.clone(), of_list: true, ..Range::all("D").first(PRUNE_SLICE) };
            let entries = self.table.range(range).await?;
            let Some((_, last)) = entries.last() else { break };
            from = sorted(unsorted(last.needs(LIST_SK)?)?.saturating_add(1));
            let kept = self.stored_deliveries(&entries).await?;
            // They are in the order in which they were enqueued.
            let goes_on = kept.iter().any(|one| one.delivery.created_at < before);
            for one in kept {
                let ended = one.delivery.ended_at.filter(|_| !one.is_due());
                if ended.is_some_and(|at| at < before) && self.forget(&one).await? {
                    pruned += 1;
                }
            }
            if !goes_on || entries.len() < PRUNE_SLICE {
                break;
            }
        }
        Ok(pruned)
    }

    async fn forget(&self, kept: &StoredDelivery) -> Result<bool, StoreError> {
        let mut outbox = OutboxWrites::new(self);
        outbox.push(Write::Drop(Edit::of(kept.key.clone()).is("v", kept.version)));
        if kept.item.number(PARTS).is_some() {
            for key in parts_beyond(&kept.key, &kept.item, 0) {
                outbox.push(Write::Delete(key));
            }
        }
        outbox.count(&kept.thread, &kept.delivery.destination, kept.delivery.state, -1);
        Ok(self.table.transact(&outbox.writes()).await? == WriteOutcome::Done)
    }
}

fn again(
    outbox: &mut OutboxWrites<'_>,
    kept: &StoredDelivery,
    at: Timestamp,
    error: &str,
    not_begun: bool,
) {
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
