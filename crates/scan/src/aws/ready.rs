//! Between the async side, which fetches, and the scan's threads, which read.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rootwatch_core::rules::Ruleset;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::commit::{Committer, Mark};
use super::failure::Failure;
use crate::file::{LargeText, Worker};
use crate::kernel::Kernel;
use crate::prefilter::Prefilter;
use crate::{Progress, ScanOptions, Scanned, on_threads};

/// A text that is here, or on its way.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Piece by piece, in order.
    Stream(mpsc::Receiver<Result<Bytes, Failure>>),
    /// It cannot be had.
    Failed(Failure),
}

/// Something to read.
#[derive(Debug)]
pub(super) struct Ready {
    /// Where it stands in the order of the listing; `None` where order does not matter.
    pub(super) place: Option<(u64, Mark)>,
    /// What findings call it.
    pub(super) path: PathBuf,
    /// Its name without folders.
    pub(super) name: String,
    /// The user named it, rather than a folder around it.
    pub(super) named: bool,
    pub(super) body: Body,
    /// What was counted before it in the order of the listing.
    pub(super) before: Scanned,
    /// Given back when it has been read.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
    /// Given back when it is committed.
    pub(super) window: Option<OwnedSemaphorePermit>,
}

/// Reads what comes, on the scan's threads, until nothing comes any more.
pub(super) fn read_all(
    ready: mpsc::Receiver<Ready>,
    rules: &Ruleset,
    options: &ScanOptions,
    progress: &Progress,
    committer: &Mutex<Committer>,
) {
    let prefilter = Prefilter::new(rules, options.rule_only);
    let prefilter = (options.prefilter && prefilter.unguarded().is_empty()).then_some(&prefilter);
    let ready = Mutex::new(ready);
    let large = LargeText::default();
    let work = || {
        let mut worker = Worker::new(rules, options, prefilter, Kernel::detect(), progress, &large);
        loop {
            let next = ready.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let Some(Ready { place, path, name, named, body, before, permits, window }) = next
            else {
                break;
            };
            let mut failure = None;
            match body {
                Body::Whole(bytes) => worker.take_object(&path, &name, named, &bytes[..]),
                Body::Stream(pieces) => {
                    let mut reader = PieceReader { pieces, piece: Bytes::new(), end: None };
                    worker.take_object(&path, &name, named, &mut reader);
                    failure = reader.end.and_then(Result::err);
                }
                Body::Failed(reason) => {
                    let mut failed = Scanned::default();
                    failed.summary.skip(&path, None, reason.clone().reason());
                    worker.add(failed);
                    failure = Some(reason);
                }
            }
            drop(permits);
            let mut part = before;
            crate::merge(&mut part, worker.hand_over());
            let mut committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
            let is_lost = match failure {
                Some(Failure::Again { reason, .. }) => {
                    let reason = format!("{} cannot be read now: {reason}", path.display());
                    committer.lose(place.as_ref(), &reason)
                }
                _ => false,
            };
            if !is_lost {
                committer.take(place, part, window);
            }
        }
    };
    on_threads(options.threads, work, |()| ());
}

/// Pieces from the async side as a reader. An empty piece is the end.
struct PieceReader {
    pieces: mpsc::Receiver<Result<Bytes, Failure>>,
    piece: Bytes,
    /// How it ended.
    end: Option<Result<(), Failure>>,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            if let Some(end) = &self.end {
                return end.clone().map(|()| 0).map_err(|f| io::Error::other(f.reason()));
            }
            let piece = self.pieces.blocking_recv().unwrap_or_else(|| {
                let reason = "the fetching ended before the object".to_owned();
                Err(Failure::Again { code: None, reason })
            });
            match piece {
                Ok(piece) if piece.is_empty() => self.end = Some(Ok(())),
                Ok(piece) => self.piece = piece,
                Err(failure) => {
                    let reason = failure.clone().reason();
                    self.end = Some(Err(failure));
                    return Err(io::Error::other(reason));
                }
            }
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}
