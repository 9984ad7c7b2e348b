//! The head of the table: the number of commits, and a commit that is still being written out.
//!
//! A commit that fits one transaction is one. A larger one is first written as a journal that nobody
//! reads yet; then one small transaction moves the head and names the journal: with it the commit is
//! saved. Then the journal is written out, in transactions that each check that the head still names
//! it. Any process that finds a named journal continues it, so that no decision is made on half a
//! commit, and a writer that resumes late overwrites nothing.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rootwatch_core::delivery::Delivery;
use rootwatch_core::incident::IncidentId;

use super::item::{BODY, Item, Key, Op, Val, decode, deflate, encode, inflate, sorted, unsorted};
use super::outbox::OutboxWrites;
use super::parts::PART_BYTES_MAX;
use super::table::{Ask, Range, WriteOutcome, at_once};
use super::write::{Edit, Write};
use super::{DynamoStore, SCHEMA};
use crate::rows::from_json;
use crate::{CaughtUp, StoreError};

/// Writes of one transaction: what DynamoDB allows.
pub(super) const TRANSACT_WRITES_MAX: usize = 100;
/// Bytes of one transaction; DynamoDB allows 4 MB.
pub(super) const TRANSACT_BYTES_MAX: usize = 3_000_000;
/// Incidents that one commit's log names; one that touches more says only that it was large.
const LOG_INCIDENTS_MAX: usize = 500;
/// Maximum number of commits to catch up with one by one.
const CATCH_UP_COMMITS_MAX: u64 = 256;
/// Maximum number of incidents to catch up with one by one.
const CATCH_UP_INCIDENTS_MAX: usize = 1_000;
/// How long the log of a commit is stored.
const LOG_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// The age at which the journal of a commit that never happened is deleted.
const JOURNAL_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How often, and at which interval, to check whether a commit is still being written out before
/// continuing it.
const PENDING_LOOKS: u32 = 4;
const PENDING_PAUSE: Duration = Duration::from_millis(40);
/// Attempts to enqueue the deliveries of a journal while others change their threads.
const ENQUEUE_TRIES_MAX: usize = 50;

/// The head as it was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    /// Commits.
    pub(super) generation: u64,
    /// The journal that is to be written out.
    pending: Option<String>,
    pub(super) findings: i64,
    pub(super) unverified: i64,
}

impl Head {
    /// The head as it was when it was settled at this commit, as far as another commit needs it.
    pub(super) fn at(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }
}

/// The writes of a commit.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) deliveries: Vec<Delivery>,
    /// Items that were read for enqueueing them.
    pub(super) read: HashMap<Key, Option<Item>>,
    /// The incidents that it changes.
    pub(super) touched: Vec<IncidentId>,
    /// What it adds to the counts of the head.
    pub(super) findings: i64,
    pub(super) unverified: i64,
    /// Keys that need not be written again by this process.
    pub(super) known_keys: Vec<Key>,
    /// False if it only enqueues deliveries.
    pub(super) moves: bool,
}

/// The outcome of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    Committed,
    /// Another commit came first.
    HeadMoved,
    /// Another process changed a thread of deliveries.
    DeliveriesChanged,
}

pub(super) fn head_key() -> Key {
    Key::new("HEAD", "HEAD")
}

fn journal_key(id: &str) -> Key {
    Key::new("J", id)
}

fn chunks_of(id: &str) -> String {
    format!("J#{id}")
}

fn pending_is(id: &str) -> Edit {
    Edit::of(head_key()).is("pending", id)
}

impl DynamoStore {
    async fn head(&self) -> Result<Head, StoreError> {
        let Some(item) = self.table.get_one(&head_key()).await? else { return Ok(Head::default()) };
        let schema = item.counts("schema")?;
        if schema != SCHEMA {
            return Err(StoreError::Damaged {
                reason: format!(
                    "the DynamoDB table {} is of version {schema}, this program knows {SCHEMA}: \
                     start the program that wrote it, or restore the table of a point in time",
                    self.table.name
                ),
            });
        }
        Ok(Head {
            generation: item.counts("generation")? as u64,
            pending: item.text("pending").map(str::to_owned),
            findings: item.number("findings").unwrap_or_default(),
            unverified: item.number("unverified").unwrap_or_default(),
        })
    }

    /// True while a commit is being written out.
    pub(super) async fn is_pending(&self) -> Result<bool, StoreError> {
        Ok(self.head().await?.pending.is_some())
    }

    /// The head, once no commit is pending: a pending one is waited for, then written out.
    pub(super) async fn committed_head(&self) -> Result<Head, StoreError> {
        let mut seen: Option<String> = None;
        let mut looks = 0;
        loop {
            let head = self.head().await?;
            let Some(id) = &head.pending else {
                self.seen.store(head.generation, Ordering::Relaxed);
                return Ok(head);
            };
            // Usually its writer is still at work: two would delay each other.
            looks = if seen.as_ref() == Some(id) { looks + 1 } else { 0 };
            seen = Some(id.clone());
            if looks < PENDING_LOOKS {
                tokio::time::sleep(PENDING_PAUSE).await;
                continue;
            }
            let chunks = chunks_of(id);
            let found = self.table.range(Range::all(&chunks)).await?;
            let is_whole = id.ends_with(&format!("-{}", found.len()));
            let parts = found.into_iter().filter_map(|(_, mut chunk)| chunk.0.remove(BODY));
            let mut bytes = Vec::new();
            for part in parts {
                let Val::B(part) = part else { continue };
                bytes.extend(part);
            }
            let ops = inflate(&bytes).and_then(|text| decode(&text));
            match ops {
                Ok(ops) if is_whole => {
                    tracing::info!(journal = id, "writing out a commit that another process began");
                    self.write_out(id, &ops).await?;
                }
                // Another process has finished it meanwhile, or it is damaged.
                unreadable => {
                    if self.head().await?.pending.as_deref() == Some(id) {
                        return Err(unreadable.err().unwrap_or_else(|| StoreError::Damaged {
                            reason: format!("the journal {id} is not all there"),
                        }));
                    }
                }
            }
        }
    }

    /// Commits a plan that was made when the head was this one.
    pub(super) async fn push(&self, head: &Head, plan: Plan) -> Result<CommitOutcome, StoreError> {
        let mut outbox = OutboxWrites::new(self);
        outbox.prefetch(&plan.deliveries, &plan.read).await?;
        for delivery in &plan.deliveries {
            outbox.enqueue(delivery).await?;
        }
        let owed = outbox.len();
        if owed == 0 && !plan.moves {
            return Ok(CommitOutcome::Committed);
        }
        let fits = |writes: &[Write]| {
            writes.len() <= TRANSACT_WRITES_MAX
                && writes.iter().map(Write::bytes).sum::<usize>() <= TRANSACT_BYTES_MAX
        };
        let mut writes = if plan.moves { self.move_head(head, &plan, None) } else { Vec::new() };
        let of_head = writes.len();
        if of_head + plan.ops.len() + owed <= TRANSACT_WRITES_MAX {
            writes.extend(plan.ops.iter().filter_map(write_of));
            writes.extend(outbox.writes());
            if fits(&writes) {
                let outcome = match self.table.transact(&writes).await? {
                    WriteOutcome::Done => {
                        outbox.done();
                        if plan.moves {
                            self.seen.store(head.generation + 1, Ordering::Relaxed);
                        }
                        plan.known_keys.into_iter().for_each(|key| self.remember_key(key));
                        CommitOutcome::Committed
                    }
                    WriteOutcome::Refused(places)
                        if places.iter().any(|place| *place < of_head) =>
                    {
                        CommitOutcome::HeadMoved
                    }
                    WriteOutcome::Refused(_) => CommitOutcome::DeliveriesChanged,
                };
                return Ok(outcome);
            }
        }
        self.push_large(head, plan).await
    }

    /// The writes that move the head and log the touched incidents.
    fn move_head(&self, head: &Head, plan: &Plan, pending: Option<&str>) -> Vec<Write> {
        let next = head.generation as i64 + 1;
        let mut edit = Edit::of(head_key()).set("generation", next).set("schema", SCHEMA);
        edit = if head.generation == 0 {
            edit.lacks("generation")
        } else {
            edit.is("generation", head.generation as i64)
        };
        edit = edit.lacks("pending");
        if plan.findings != 0 {
            edit = edit.add("findings", plan.findings);
        }
        if plan.unverified != 0 {
            edit = edit.add("unverified", plan.unverified);
        }
        if let Some(id) = pending {
            edit = edit.set("pending", id);
        }
        let mut log = Item::default().with("ttl", soon(LOG_KEPT));
        let touched: Vec<String> = plan.touched.iter().map(|id| id.0.clone()).collect();
        if touched.len() <= LOG_INCIDENTS_MAX {
            log.set("touched", touched);
        }
        vec![Write::Edit(edit), Write::Put(Key::new("L", sorted(next)), log)]
    }

    async fn push_large(&self, head: &Head, mut plan: Plan) -> Result<CommitOutcome, StoreError> {
        for delivery in std::mem::take(&mut plan.deliveries) {
            plan.ops.push(Op::Enqueue(crate::rows::json(&delivery)?.into_bytes()));
        }
        let bytes = deflate(&encode(&plan.ops))?;
        // The time, a random number, and the number of chunks.
        let id = format!(
            "{}-{:016x}-{}",
            sorted(Timestamp::now().as_microsecond()),
            self.table.random_u64(),
            bytes.len().div_ceil(PART_BYTES_MAX)
        );
        // Listed first, so that pruning finds and deletes a journal that no commit names.
        self.table.put(&journal_key(&id), &Item::default()).await?;
        let pk = chunks_of(&id);
        let mut asks: Vec<Ask<'_, ()>> = Vec::new();
        for (nth, chunk) in bytes.chunks(PART_BYTES_MAX).enumerate() {
            let key = Key::new(&pk, format!("{nth:06}"));
            let item = Item::default().with(BODY, chunk.to_vec());
            asks.push(Box::pin(async move { self.table.put(&key, &item).await }));
        }
        at_once(asks).await?;
        let mut writes = self.move_head(head, &plan, Some(&id));
        writes.push(Write::Check(Edit::of(journal_key(&id)).has("pk").lacks("dead")));
        if self.table.transact(&writes).await? != WriteOutcome::Done {
            self.clear(&id).await;
            return Ok(CommitOutcome::HeadMoved);
        }
        // The commit is saved. Whatever happens now, the next process to read the head continues it.
        match self.write_out(&id, &plan.ops).await {
            Ok(()) => self.seen.store(head.generation + 1, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, journal = id, "a large commit is saved; another process will write it out");
            }
        }
        Ok(CommitOutcome::Committed)
    }

    /// Writes out a journal, unless another process finished it first.
    async fn write_out(&self, id: &str, ops: &[Op]) -> Result<(), StoreError> {
        let fence = || Write::Check(pending_is(id));
        let mut writes = vec![fence()];
        let mut bytes = 0;
        for op in ops {
            let Some(write) = write_of(op) else { continue };
            if writes.len() == TRANSACT_WRITES_MAX || bytes + write.bytes() > TRANSACT_BYTES_MAX {
                if self.table.transact(&writes).await? != WriteOutcome::Done {
                    return Ok(());
                }
                writes = vec![fence()];
                bytes = 0;
            }
            bytes += write.bytes();
            writes.push(write);
        }
        if writes.len() > 1 && self.table.transact(&writes).await? != WriteOutcome::Done {
            return Ok(());
        }
        let mut owed = Vec::new();
        for op in ops {
            if let Op::Enqueue(json) = op {
                owed.push(from_json::<Delivery>("a delivery", &String::from_utf8_lossy(json))?);
            }
        }
        if !self.enqueue_all(id, &owed).await? {
            return Ok(());
        }
        self.table.write(&Write::Edit(pending_is(id).remove("pending"))).await?;
        self.clear(id).await;
        Ok(())
    }

    /// Enqueues the deliveries of a journal; false if another process finished it first.
    async fn enqueue_all(&self, id: &str, owed: &[Delivery]) -> Result<bool, StoreError> {
        let mut left = owed;
        let mut tries = 0;
        while !left.is_empty() {
            let mut outbox = OutboxWrites::new(self);
            let some = &left[..left.len().min(TRANSACT_WRITES_MAX)];
            outbox.prefetch(some, &HashMap::new()).await?;
            let mut taken = 0;
            for delivery in left {
                // One delivery writes up to six items, and perhaps its body in parts.
                let full = outbox.len() + 10 > TRANSACT_WRITES_MAX;
                if taken > 0 && (full || outbox.bytes() > TRANSACT_BYTES_MAX / 2) {
                    break;
                }
                outbox.enqueue(delivery).await?;
                taken += 1;
            }
            let mut writes = vec![Write::Check(pending_is(id))];
            writes.extend(outbox.writes());
            let written = if writes.len() == 1 {
                WriteOutcome::Done
            } else {
                self.table.transact(&writes).await?
            };
            match written {
                WriteOutcome::Done => {
                    outbox.done();
                    left = &left[taken..];
                    tries = 0;
                }
                WriteOutcome::Refused(places) if places.contains(&0) => return Ok(false),
                WriteOutcome::Refused(_) if tries < ENQUEUE_TRIES_MAX => tries += 1,
                WriteOutcome::Refused(_) => return Err(self.busy()),
            }
        }
        Ok(true)
    }

    pub(super) fn busy(&self) -> StoreError {
        StoreError::Unavailable {
            reason: format!("too many concurrent writes to the DynamoDB table {}", self.table.name),
        }
    }

    /// Deletes a journal that is not needed any more. If it fails, pruning deletes it.
    async fn clear(&self, id: &str) {
        if let Err(error) = self.try_clear(id).await {
            tracing::debug!(%error, journal = id, "cannot delete a journal; pruning will");
        }
    }

    async fn try_clear(&self, id: &str) -> Result<(), StoreError> {
        let pk = chunks_of(id);
        let chunks = self.table.range(Range::all(&pk)).await?;
        // The list entry goes last, so that nothing is left behind unlisted.
        let mut asks: Vec<Ask<'_, ()>> = Vec::new();
        for (key, _) in &chunks {
            asks.push(Box::pin(self.table.delete(key)));
        }
        at_once(asks).await?;
        self.table.delete(&journal_key(id)).await
    }

    /// Deletes the journals of writers that died before their commits were there.
    pub(super) async fn clear_journals(&self) -> Result<(), StoreError> {
        self.delete_journals(Timestamp::now() - JOURNAL_KEPT).await
    }

    /// Deletes the journals that were begun before `until` and that the head does not name.
    pub(super) async fn delete_journals(&self, until: Timestamp) -> Result<(), StoreError> {
        let pending = self.committed_head().await?.pending;
        let range = Range { to: sorted(until.as_microsecond()), ..Range::all("J") };
        for (key, _) in self.table.range(range).await? {
            if Some(&key.sk) == pending.as_ref() {
                continue;
            }
            // Its writer may still run: the mark keeps it from naming the journal from here on.
            self.table.put(&key, &Item::default().with("dead", 1)).await?;
            self.try_clear(&key.sk).await?;
        }
        Ok(())
    }

    pub(super) async fn caught_up(&self, since: Option<u64>) -> Result<CaughtUp, StoreError> {
        let Some(since) = since else {
            // Any known generation will do to start from: later commits are caught up with, or
            // detected when something is saved.
            return Ok(CaughtUp::Anew { generation: self.seen.load(Ordering::Relaxed) });
        };
        let generation = self.committed_head().await?.generation;
        Ok(match self.touched_between(since, generation).await? {
            Some(incidents) => CaughtUp::Moved { generation, incidents },
            None => CaughtUp::Anew { generation },
        })
    }

    /// The incidents that commits after one and up to another touched; `None` when that is not
    /// known any more, or too much.
    pub(super) async fn touched_between(
        &self,
        after: u64,
        until: u64,
    ) -> Result<Option<Vec<IncidentId>>, StoreError> {
        if after == until {
            return Ok(Some(Vec::new()));
        }
        if after > until || until - after > CATCH_UP_COMMITS_MAX {
            return Ok(None);
        }
        let range =
            Range { from: sorted(after as i64 + 1), to: sorted(until as i64), ..Range::all("L") };
        let logs = self.table.range(range).await?;
        let mut incidents = std::collections::BTreeSet::new();
        let mut next = after as i64;
        for (key, log) in &logs {
            next += 1;
            let Some(touched) =
                log.texts("touched").filter(|_| unsorted(&key.sk).is_ok_and(|one| one == next))
            else {
                return Ok(None);
            };
            incidents.extend(touched.iter().cloned().map(IncidentId));
        }
        let whole = next == until as i64 && incidents.len() <= CATCH_UP_INCIDENTS_MAX;
        Ok(whole.then(|| incidents.into_iter().collect()))
    }
}

/// What a step of a journal writes by itself.
fn write_of(op: &Op) -> Option<Write> {
    match op {
        Op::Put(key, item) => Some(Write::Put(key.clone(), item.clone())),
        Op::Delete(key) => Some(Write::Delete(key.clone())),
        Op::Enqueue(_) => None,
    }
}

/// Seconds since 1970, so much later.
pub(super) fn soon(later: SignedDuration) -> i64 {
    Timestamp::now().saturating_add(later).unwrap_or(Timestamp::MAX).as_second()
}
