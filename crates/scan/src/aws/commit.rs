//! Results in the order of the listing, so that one key says how far a scan has come.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::checkpoint::Checkpoint;
use super::failure::CloudError;
use crate::{Scanned, merge};

/// How far a scan has come: everything up to this key of this input is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Index of the input, in the order of the arguments.
    pub(super) input: usize,
    /// The last key.
    pub(super) key: String,
}

struct Waiting {
    mark: Mark,
    part: Scanned,
    _window: Option<OwnedSemaphorePermit>,
}

/// Takes results in any order and adds them up; with a checkpoint, in the order of the listing.
/// How many wait for an earlier one is bounded by whoever gives the windows out.
pub(super) struct Committer {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    total: Scanned,
    checkpoint: Option<Checkpoint>,
    failed: Option<CloudError>,
    /// The first in the order that could not be had and is left for another time: why.
    lost: Option<(u64, String)>,
}

impl Committer {
    pub(super) fn new(total: Scanned, checkpoint: Option<Checkpoint>) -> Self {
        Self { next: 0, waiting: BTreeMap::new(), total, checkpoint, failed: None, lost: None }
    }

    pub(super) fn take(
        &mut self,
        place: Option<(u64, Mark)>,
        part: Scanned,
        window: Option<OwnedSemaphorePermit>,
    ) {
        let Some((number, mark)) = place else { return merge(&mut self.total, part) };
        // What comes after a gap is done again when the scan goes on.
        if self.lost.as_ref().is_some_and(|(lost, _)| number >= *lost) {
            return;
        }
        self.waiting.insert(number, Waiting { mark, part, _window: window });
        while let Some(Waiting { mark, part, .. }) = self.waiting.remove(&self.next) {
            self.next += 1;
            if let (Some(checkpoint), None) = (&mut self.checkpoint, &self.failed)
                && let Err(error) = checkpoint.add(mark, &part)
            {
                self.failed = Some(error);
            }
            merge(&mut self.total, part);
        }
    }

    /// Something could not be had, perhaps only now. With a checkpoint the scan ends before it, and
    /// can go on there; true then.
    pub(super) fn lose(&mut self, place: Option<&(u64, Mark)>, reason: &str) -> bool {
        let (Some((number, _)), Some(_)) = (place, &self.checkpoint) else { return false };
        if self.lost.as_ref().is_none_or(|(lost, _)| number < lost) {
            self.waiting.split_off(number);
            self.lost = Some((*number, reason.to_owned()));
        }
        true
    }

    /// A checkpoint that cannot be written ends the scan: it would promise what it does not hold.
    pub(super) fn wants_no_more(&self) -> bool {
        self.failed.is_some() || self.lost.is_some()
    }

    /// What all came to. `tail` is what was counted after the last object; `is_whole` says that
    /// nothing is left to be read.
    pub(super) fn finish(mut self, tail: Scanned, is_whole: bool) -> Result<Scanned, CloudError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let is_whole = is_whole && self.lost.is_none();
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.finish(&tail, is_whole)?;
        }
        merge(&mut self.total, tail);
        if let Some((_, reason)) = self.lost {
            let reason = format!("{reason}; the same command goes on from the checkpoint");
            self.total.summary.skip(Path::new("s3://"), None, reason);
        }
        Ok(self.total)
    }
}
