//! Pruning: deletes what ended before a moment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rootwatch_core::incident::IncidentId;

use super::DynamoStore;
use super::head::{CommitOutcome, Plan};
use super::item::{Key, LIST_SK, sorted};
use super::layout::{HeadItem, head_of};
use super::planner::Planner;
use super::read::is_over;
use super::table::{BEGIN, Range};
use crate::rows::micros;
use crate::{Pruned, StoreError};

/// Maximum number of incidents that one commit prunes.
const PRUNE_INCIDENTS: usize = 50;
/// Maximum number of findings that one commit prunes; exceeded by those of one incident.
const PRUNE_FINDINGS: u64 = 2_000;

impl DynamoStore {
    pub(super) async fn prune_all(&self, before: Timestamp) -> Result<Pruned, StoreError> {
        self.clear_journals().await?;
        let mut pruned = Pruned::default();
        let mut from = BEGIN.to_owned();
        loop {
            let range = Range {
                from: from.clone(),
                to: sorted(micros(before)),
                ..Range::all("IT").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            let Some((last, _)) = entries.last() else { break };
            // The next possible key.
            from = format!("{}\u{1}", last.sk);
            let ended = entries.iter().filter(|(_, item)| {
                let state = item.text("state");
                state == Some("quiet") || state == Some("resolved")
            });
            let ids: Vec<IncidentId> = ended
                .map(|(_, item)| item.needs("id").map(|id| IncidentId(id.to_owned())))
                .collect::<Result<_, _>>()?;
            for some in ids.chunks(PRUNE_INCIDENTS) {
                self.prune_incidents(some, before, &mut pruned).await?;
            }
            if entries.len() < super::PRUNE_SLICE {
                break;
            }
        }
        pruned.deliveries = self.prune_deliveries(before).await?;
        pruned.unverified = self.prune_unverified(before).await?;
        self.prune_notes(before).await?;
        Ok(pruned)
    }

    async fn prune_incidents(
        &self,
        ids: &[IncidentId],
        before: Timestamp,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let mut left = ids;
        while !left.is_empty() {
            let (mut taken, mut incidents, mut findings) = (0, 0, 0);
            let head = self.committed_head().await?;
            let received = BTreeMap::new();
            let mut planner = Planner::new(self, &received, before);
            let heads = self.table.get(&left.iter().map(head_of).collect::<Vec<_>>()).await?;
            for id in left {
                if findings >= PRUNE_FINDINGS {
                    break;
                }
                taken += 1;
                let Some(item) = heads.get(&head_of(id)) else { continue };
                let read = HeadItem::read(item)?;
                if is_over(&read.incident, read.changed, before) {
                    findings += planner.remove(id).await?;
                    incidents += 1;
                }
            }
            let plan = planner.finish(Vec::new())?;
            if self.push(&head, plan).await? == CommitOutcome::Committed {
                pruned.incidents += incidents;
                pruned.findings += findings;
                left = &left[taken..];
            }
        }
        Ok(())
    }

    async fn prune_unverified(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        loop {
            let range = Range {
                to: sorted(micros(before)),
                of_list: true,
                ..Range::all("V").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
            let taken = loop {
                let head = self.committed_head().await?;
                // The index is eventually consistent.
                let there = self.table.get(&keys).await?;
                let mut planner = super::overlay::Overlay::new(&self.table);
                let taken = there.len();
                planner.fetch(there.into_keys()).await?;
                for key in &keys {
                    planner.delete(key.clone());
                }
                let ops = planner.ops();
                let moves = !ops.is_empty();
                let plan = Plan { ops, unverified: -(taken as i64), moves, ..Plan::default() };
                if self.push(&head, plan).await? == CommitOutcome::Committed {
                    break taken;
                }
            };
            pruned += taken as u64;
            if entries.len() < super::PRUNE_SLICE || taken == 0 {
                return Ok(pruned);
            }
        }
    }

    async fn prune_notes(&self, before: Timestamp) -> Result<(), StoreError> {
        loop {
            let range = Range {
                to: sorted(micros(before)),
                of_list: true,
                ..Range::all("N").first(super::PRUNE_SLICE)
            };
            let entries = self.table.range(range).await?;
            for (key, entry) in &entries {
                let at = entry.needs(LIST_SK)?;
                let edit = super::write::Edit::of(key.clone()).is(LIST_SK, at);
                // A note that was saved again meanwhile stays.
                self.table.write(&super::write::Write::Drop(edit)).await?;
            }
            if entries.len() < super::PRUNE_SLICE {
                return Ok(());
            }
        }
    }
}
