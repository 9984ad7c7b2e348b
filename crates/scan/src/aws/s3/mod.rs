//! `scan s3://…`: lists the keys that the filters allow, fetches the objects within limits, and passes
//! them to the reader threads. Its memory does not depend on the size of the bucket.
//!
//! An object of up to [`WHOLE_FILE_BYTES_MAX`] is fetched completely before a thread takes it; a larger
//! one streams through that thread's window. Both take permits from the same limit of bytes.

mod address;
mod bucket;
mod layout;
pub(crate) mod list;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aws_config::SdkConfig;
use bytes::Bytes;
use rootwatch_core::rules::Ruleset;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub use self::address::S3Address;
use self::bucket::Bucket;
pub(crate) use self::bucket::ListedObject;
use self::list::{ListedItem, Lister, ListingEnd};
use super::access::{self, Roles};
use super::checkpoint::{Checkpoint, CheckpointPlan, Restored};
use super::commit::Committer;
use super::failure::{CloudError, Failure};
use super::fetched::{Body, FetchedObject, read_all};
use super::interrupt::Interrupt;
use super::mark::Mark;
use super::runtime::runtime;
use super::usage::Usage;
use crate::buffers::WHOLE_FILE_BYTES_MAX;
use crate::options::ScanOptions;
use crate::progress::Progress;
use crate::scanned::Scanned;
use crate::summary::Summary;

/// Objects that are fetched at once, by default: S3 answers in tens of milliseconds, and a log file is
/// scanned in less than one.
pub const S3_CONCURRENCY: usize = 32;
/// The highest number that an option may ask for.
pub const S3_CONCURRENCY_MAX: usize = 512;
/// Bytes of objects that are fetched and not yet read.
const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;
/// Bytes that a streamed object counts: those between the connection and its thread.
const STREAM_BYTES: usize = 4 << 20;
/// Pieces of a streamed object between the connection and its thread; S3's are 16 to 512 KiB.
const PIECES_MAX: usize = 8;
/// Objects after the oldest that is not done: their results wait for it, so that they can be saved in
/// order.
const OBJECTS_AHEAD_MAX: usize = 4_096;
/// Objects that are listed before they are fetched.
const LISTED_AHEAD_MAX: usize = 2_000;
/// Times that an object may change while it is fetched whole.
const CHANGES_MAX: u32 = 3;

/// How to read buckets.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// A role to read with, at most one.
    pub roles: Roles,
    /// Accept charges for a requester-pays bucket.
    pub requester_pays: bool,
    /// Objects that are fetched at once, 1 to [`S3_CONCURRENCY_MAX`].
    pub concurrency: usize,
    /// Where to save the progress.
    pub checkpoint: Option<CheckpointPlan>,
}

/// Scans the objects at these addresses.
///
/// # Errors
/// When the scan cannot begin, or the checkpoint cannot be written. Objects that cannot be listed or
/// read later are in [`Summary::skipped`].
pub fn scan_s3(
    addresses: &[S3Address],
    rules: &Ruleset,
    options: &ScanOptions,
    s3: &S3Options,
    progress: &Progress,
    usage: &Arc<Usage>,
    interrupt: &Interrupt,
) -> Result<Scanned, CloudError> {
    let begin = Instant::now();
    let (checkpoint, restored) = match &s3.checkpoint {
        Some(plan) => {
            let arguments = plan.arguments(Some(rules), options)?;
            let (checkpoint, restored) =
                Checkpoint::open(&plan.path, arguments, options, String::new())?;
            (Some(checkpoint), restored)
        }
        None => {
            let (since, until) = (options.since, options.until);
            (None, Restored { since, until, ..Restored::default() })
        }
    };
    let found = restored.scanned.findings.len() as u64;
    progress.findings.fetch_add(found, std::sync::atomic::Ordering::Relaxed);
    let mut scanned = if restored.complete {
        restored.scanned
    } else {
        let (since, until) = (restored.since, restored.until);
        let options = ScanOptions { since, until, ..options.clone() };
        let runtime = runtime()?;
        let inputs = runtime.block_on(open(addresses, s3, usage))?;
        let lister = Lister {
            options: Arc::new(options.clone()),
            inputs,
            mark: restored.mark,
            interrupt: interrupt.clone(),
        };
        let committer = Arc::new(Mutex::new(Committer::new(restored.scanned, checkpoint)));
        let (sender, fetched) = mpsc::channel(s3.concurrency.max(1));
        let dispatch = runtime.spawn(dispatch(
            lister,
            s3.concurrency.clamp(1, S3_CONCURRENCY_MAX),
            sender,
            Arc::clone(&committer),
        ));
        read_all(fetched, rules, &options, progress, &committer);
        let mut end = joined(runtime.block_on(dispatch));
        let is_lost = lock(&committer).wants_no_more();
        if !end.is_whole && !is_lost {
            let reason = if interrupt.is_requested() {
                "interrupted: not all objects were read"
            } else {
                "the listing failed: not all objects were read"
            };
            end.counts.skip(&PathBuf::from("s3://"), None, reason.to_owned());
        }
        let committer =
            std::mem::replace(&mut *lock(&committer), Committer::new(Scanned::default(), None));
        committer.finish(end.counts, end.is_whole)?
    };
    scanned.summary.shorten();
    scanned.summary.elapsed = begin.elapsed();
    Ok(scanned)
}

fn lock(committer: &Mutex<Committer>) -> std::sync::MutexGuard<'_, Committer> {
    committer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Credentials to read buckets with, from the environment and a role.
pub(crate) async fn sdk_for(roles: &Roles) -> Result<SdkConfig, CloudError> {
    let mut sdk = access::sdk().await;
    let role = roles.arns.first().map(String::as_str);
    if let Some(arn) = role {
        sdk = access::as_role(&sdk, arn, roles.external_id.as_deref()).await;
    }
    access::prove(&sdk, role).await?;
    Ok(sdk)
}

/// The buckets of the addresses, each found once.
pub(crate) async fn open(
    addresses: &[S3Address],
    s3: &S3Options,
    usage: &Arc<Usage>,
) -> Result<Vec<(Arc<Bucket>, S3Address)>, CloudError> {
    let sdk = sdk_for(&s3.roles).await?;
    let mut buckets: BTreeMap<String, Arc<Bucket>> = BTreeMap::new();
    let mut inputs = Vec::with_capacity(addresses.len());
    for address in addresses {
        let bucket = match buckets.get(&address.bucket) {
            Some(bucket) => Arc::clone(bucket),
            None => {
                let usage = Arc::clone(usage);
                let found = Bucket::find(&sdk, &address.bucket, s3.requester_pays, usage).await;
                let found = Arc::new(found);
                buckets.insert(address.bucket.clone(), Arc::clone(&found));
                found
            }
        };
        inputs.push((bucket, address.clone()));
    }
    Ok(inputs)
}

/// Receives listed objects, in order, and starts fetching them as far as the limits allow.
async fn dispatch(
    lister: Lister,
    concurrency: usize,
    fetched: mpsc::Sender<FetchedObject>,
    committer: Arc<Mutex<Committer>>,
) -> ListingEnd {
    let (sender, mut items) = mpsc::channel(LISTED_AHEAD_MAX);
    let interrupt = lister.interrupt.clone();
    let listing = tokio::spawn(lister.run(sender));
    let window = Arc::new(Semaphore::new(OBJECTS_AHEAD_MAX));
    let at_once = Arc::new(Semaphore::new(concurrency));
    // One permit for each KiB.
    let bytes = Arc::new(Semaphore::new(BYTES_IN_FLIGHT_MAX >> 10));
    let mut number = 0;
    let mut got_all = false;
    loop {
        let Some(item) = items.recv().await else {
            got_all = true;
            break;
        };
        if lock(&committer).wants_no_more() || interrupt.is_requested() {
            break;
        }
        // These semaphores are never closed, so that a permit can always be had.
        let Ok(ahead) = Arc::clone(&window).acquire_owned().await else { break };
        let (bucket, object, named, mark, before) = match item {
            ListedItem::Object { bucket, object, named, mark, before } => {
                (bucket, object, named, mark, before)
            }
            ListedItem::Bad { path, failure, mark, before } => {
                let bad = FetchedObject {
                    place: Some((number, mark)),
                    path: path.into(),
                    name: String::new(),
                    named: false,
                    body: Body::Failed(failure),
                    before,
                    permits: Vec::new(),
                    window: Some(ahead),
                };
                number += 1;
                if fetched.send(bad).await.is_err() {
                    break;
                }
                continue;
            }
        };
        let is_whole = object.bytes < WHOLE_FILE_BYTES_MAX;
        let cost = if is_whole { object.bytes } else { STREAM_BYTES as u64 };
        let cost = u32::try_from(cost.div_ceil(1024)).unwrap_or(u32::MAX);
        let Ok(slot) = Arc::clone(&at_once).acquire_owned().await else { break };
        let Ok(room) = Arc::clone(&bytes).acquire_many_owned(cost).await else { break };
        let fetch = Fetch {
            name: object.key.rsplit('/').next().unwrap_or_default().to_owned(),
            path: format!("s3://{}/{}", bucket.name, object.key).into(),
            bucket,
            object,
            named,
            place: (number, mark),
            before,
            fetched: fetched.clone(),
        };
        number += 1;
        if is_whole {
            tokio::spawn(fetch.whole(slot, room, ahead));
        } else {
            tokio::spawn(fetch.stream(slot, room, ahead));
        }
    }
    drop(items);
    let mut end = joined(listing.await);
    // Objects may have been listed, but not fetched.
    end.is_whole &= got_all;
    end
}

/// The end of a listing. A task that panicked ends the program's work with its panic, not as a listing
/// that was empty.
pub(crate) fn joined(listing: Result<ListingEnd, tokio::task::JoinError>) -> ListingEnd {
    listing.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Cancelled: `ListingEnd::default` is incomplete, and reported so.
        Err(_) => ListingEnd::default(),
    })
}

/// One object to fetch.
struct Fetch {
    bucket: Arc<Bucket>,
    object: ListedObject,
    path: PathBuf,
    name: String,
    named: bool,
    place: (u64, Mark),
    before: Summary,
    fetched: mpsc::Sender<FetchedObject>,
}

impl Fetch {
    async fn whole(
        self,
        slot: OwnedSemaphorePermit,
        room: OwnedSemaphorePermit,
        window: OwnedSemaphorePermit,
    ) {
        let body = match fetch_whole(&self.bucket, &self.object).await {
            Ok(bytes) => Body::Whole(bytes),
            Err(failure) => Body::Failed(failure),
        };
        // The fetched object takes memory until it is read, but no connection.
        drop(slot);
        self.pass_on(body, vec![room], window).await;
    }

    async fn stream(
        self,
        slot: OwnedSemaphorePermit,
        room: OwnedSemaphorePermit,
        window: OwnedSemaphorePermit,
    ) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let (bucket, key) = (Arc::clone(&self.bucket), self.object.key.clone());
        self.pass_on(Body::Stream(pieces), vec![slot, room], window).await;
        let mut download = bucket.download(&key);
        loop {
            let piece = download.next().await.map(Option::unwrap_or_default);
            let is_last = piece.as_ref().map_or(true, Bytes::is_empty);
            if sender.send(piece).await.is_err() || is_last {
                break;
            }
        }
    }

    async fn pass_on(
        self,
        body: Body,
        permits: Vec<OwnedSemaphorePermit>,
        window: OwnedSemaphorePermit,
    ) {
        let fetched = FetchedObject {
            place: Some(self.place),
            path: self.path,
            name: self.name,
            named: self.named,
            body,
            before: self.before,
            permits,
            window: Some(window),
        };
        // An error means that the reader threads are gone. They only end early by a panic, which
        // `on_threads` passes on.
        let _ = self.fetched.send(fetched).await;
    }
}

/// A small object. Begins again if it changes on the way.
async fn fetch_whole(bucket: &Bucket, object: &ListedObject) -> Result<Vec<u8>, Failure> {
    let mut changes = 0;
    'again: loop {
        let mut bytes = Vec::with_capacity(usize::try_from(object.bytes).unwrap_or(0));
        let mut download = bucket.download(&object.key);
        loop {
            match download.next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => return Ok(bytes),
                Err(Failure::Changed) if changes < CHANGES_MAX => {
                    changes += 1;
                    continue 'again;
                }
                Err(failure) => return Err(failure),
            }
            // It was small when it was listed.
            if bytes.len() as u64 > object.bytes.max(WHOLE_FILE_BYTES_MAX) {
                return Err(Failure::Changed);
            }
        }
    }
}
