//! The way from the async side, which fetches, to the reader threads.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rootwatch_core::rules::Ruleset;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::commit::Committer;
use super::failure::Failure;
use super::mark::Mark;
use crate::options::ScanOptions;
use crate::progress::Progress;
use crate::reader::{Shared, Worker};
use crate::scanned::Scanned;
use crate::summary::Summary;
use crate::threads::on_threads;

/// An object's bytes, fetched or being fetched.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Piece by piece, in order.
    Stream(mpsc::Receiver<Result<Bytes, Failure>>),
    /// It cannot be fetched.
    Failed(Failure),
}

/// An object to read.
#[derive(Debug)]
pub(super) struct FetchedObject {
    /// Its number and key in the order of the listing; `None` where order does not matter.
    pub(super) place: Option<(u64, Mark)>,
    /// Its name in findings.
    pub(super) path: PathBuf,
    /// Its name without folders.
    pub(super) name: String,
    /// The user named it, rather than a folder around it.
    pub(super) named: bool,
    pub(super) body: Body,
    /// Counts of the keys before it in the listing.
    pub(super) before: Summary,
    /// Released when it has been read.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
    /// Released when its result is committed.
    pub(super) window: Option<OwnedSemaphorePermit>,
}

/// Reads objects on the reader threads, until the sender is gone.
pub(super) fn read_all(
    fetched: mpsc::Receiver<FetchedObject>,
    rules: &Ruleset,
    options: &ScanOptions,
    progress: &Progress,
    committer: &Mutex<Committer>,
) {
    let shared = Shared::new(rules, options, progress);
    let fetched = Mutex::new(fetched);
    let work = || {
        let mut worker = Worker::new(&shared);
        loop {
            let next = fetched.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
            let Some(object) = next else { break };
            let FetchedObject { place, path, name, named, body, before, permits, window } = object;
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
            let mut part = worker.take_result();
            part.summary.add(before);
            let mut committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
            let is_lost = match failure {
                Some(Failure::Again { reason, .. }) => {
                    let reason = format!("cannot read {} now: {reason}", path.display());
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

/// Pieces from the async side as a reader. An empty piece marks the end.
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
                let reason = "the download ended before the object".to_owned();
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
