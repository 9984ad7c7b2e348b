//! Results in the order of the listing, so that one key shows how far a scan has come.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::OwnedSemaphorePermit;

use super::checkpoint::Checkpoint;
use super::failure::CloudError;
use super::mark::Mark;
use crate::scanned::Scanned;
use crate::summary::Summary;

/// A result that waits for those before it.
struct PendingResult {
    mark: Mark,
    part: Scanned,
    _window: Option<OwnedSemaphorePermit>,
}

/// Receives results in any order and adds them up; with a checkpoint, in the order of the listing.
/// The permits in `window` limit how many wait for an earlier one.
pub(super) struct Committer {
    next: u64,
    pending: BTreeMap<u64, PendingResult>,
    total: Scanned,
    checkpoint: Option<Checkpoint>,
    failed: Option<CloudError>,
    /// The first in the order that could not be fetched and is left for the next run, and why.
    lost: Option<(u64, String)>,
}

impl Committer {
    pub(super) fn new(total: Scanned, checkpoint: Option<Checkpoint>) -> Self {
        Self { next: 0, pending: BTreeMap::new(), total, checkpoint, failed: None, lost: None }
    }

    pub(super) fn take(
        &mut self,
        place: Option<(u64, Mark)>,
        part: Scanned,
        window: Option<OwnedSemaphorePermit>,
    ) {
        let Some((number, mark)) = place else { return self.total.add(part) };
        // Results after a gap are computed again when the scan resumes.
        if self.lost.as_ref().is_some_and(|(lost, _)| number >= *lost) {
            return;
        }
        self.pending.insert(number, PendingResult { mark, part, _window: window });
        while let Some(PendingResult { mark, part, .. }) = self.pending.remove(&self.next) {
            self.next += 1;
            if let (Some(checkpoint), None) = (&mut self.checkpoint, &self.failed)
                && let Err(error) = checkpoint.add(mark, &part)
            {
                self.failed = Some(error);
            }
            self.total.add(part);
        }
    }

    /// Notes an object that could not be fetched, perhaps only temporarily. With a checkpoint the scan
    /// ends before it and can resume there: returns true.
    pub(super) fn lose(&mut self, place: Option<&(u64, Mark)>, reason: &str) -> bool {
        let (Some((number, _)), Some(_)) = (place, &self.checkpoint) else { return false };
        if self.lost.as_ref().is_none_or(|(lost, _)| number < lost) {
            self.pending.split_off(number);
            self.lost = Some((*number, reason.to_owned()));
        }
        true
    }

    /// A checkpoint that cannot be written ends the scan: it would claim more than it holds.
    pub(super) fn wants_no_more(&self) -> bool {
        self.failed.is_some() || self.lost.is_some()
    }

    /// The whole result. `rest` counts the keys after the last object; `is_whole` says that everything
    /// was read.
    pub(super) fn finish(mut self, rest: Summary, is_whole: bool) -> Result<Scanned, CloudError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let is_whole = is_whole && self.lost.is_none();
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.finish(&rest, is_whole)?;
        }
        self.total.summary.add(rest);
        if let Some((_, reason)) = self.lost {
            let reason =
                format!("{reason}; run the same command again to resume from the checkpoint");
            self.total.summary.skip(Path::new("s3://"), None, reason);
        }
        Ok(self.total)
    }
}
