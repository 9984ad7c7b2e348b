//! Retries of commits when another process committed first.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rootwatch_core::alert::NotifiedState;
use rootwatch_core::delivery::Delivery;
use rootwatch_core::incident::IncidentId;

use super::DynamoStore;
use super::head::{CommitOutcome, Head, Plan};
use super::planner::Planner;
use crate::{Batch, Resolution, StoreError};

/// Attempts of a commit that depends on no generation, while others commit.
const COMMIT_TRIES_MAX: u32 = 40;
/// Maximum pause between two of them.
const COMMIT_PAUSE_MILLIS_MAX: u64 = 200;

/// What to commit.
pub(super) enum CommitTask<'a> {
    Batch(&'a Batch, Timestamp),
    Handle(&'a IncidentId, &'a Resolution, Option<NotifiedState>, &'a [Delivery]),
    Digest(&'a [IncidentId], &'a [Delivery]),
}

impl CommitTask<'_> {
    async fn plan(&self, store: &DynamoStore) -> Result<Plan, StoreError> {
        let received = BTreeMap::new();
        match self {
            Self::Batch(batch, now) => Planner::of_batch(store, batch, *now).await,
            Self::Handle(id, resolution, told, deliveries) => {
                let mut planner = Planner::new(store, &received, resolution.at);
                planner.resolve(id, resolution, *told).await?;
                planner.finish(deliveries.to_vec())
            }
            Self::Digest(ids, deliveries) => {
                let mut planner = Planner::new(store, &received, Timestamp::now());
                planner.digest(ids).await?;
                planner.finish(deliveries.to_vec())
            }
        }
    }
}

impl DynamoStore {
    /// Plans a commit and writes it, again if another commit came first.
    pub(super) async fn commit_with_retry(
        &self,
        generation: Option<u64>,
        task: &CommitTask<'_>,
    ) -> Result<(), StoreError> {
        for tried in 0..COMMIT_TRIES_MAX {
            // A decision names its generation: the head need not be read, because the transaction
            // that moves it checks that generation.
            let head = match generation {
                Some(generation) => Head::at(generation),
                None => self.committed_head().await?,
            };
            let outcome = match task.plan(self).await {
                // Nothing moves the head, so nothing checks the generation: read it.
                Ok(plan)
                    if generation.is_some()
                        && !plan.moves
                        && self.committed_head().await?.generation != head.generation =>
                {
                    CommitOutcome::HeadMoved
                }
                Ok(plan) => self.push(&head, plan).await?,
                Err(error) => {
                    if self.committed_head().await?.generation == head.generation {
                        return Err(error);
                    }
                    // It was planned while others changed what it read.
                    CommitOutcome::HeadMoved
                }
            };
            match outcome {
                CommitOutcome::Committed => return Ok(()),
                CommitOutcome::HeadMoved if generation.is_some() => {
                    return Err(StoreError::Overtaken);
                }
                _ => {
                    let longest = (5 << tried.min(8)).min(COMMIT_PAUSE_MILLIS_MAX);
                    let millis = self.table.random_u64() % longest;
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
            }
        }
        Err(self.busy())
    }
}
