//! `scan s3://…`: lists what the filters allow, fetches it within bounds, and hands it to the scan's
//! threads in memory that does not depend on the archive.
//!
//! An object of up to [`WHOLE_FILE_BYTES_MAX`] is fetched whole before a thread takes it; a larger
//! one streams through that thread's window. Both cost permits of one bound of bytes.

mod address;
mod bucket;
mod layout;
pub(in crate::aws) mod list;

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
pub(in crate::aws) use self::bucket::Listed as Object;
use self::bucket::Listed;
use self::list::{Lister, Step, Tail};
use super::access::{self, Roles};
use super::checkpoint::{Checkpoint, CheckpointPlan, Restored};
use super::commit::{Committer, Mark};
use super::failure::{CloudError, Failure};
use super::ready::{Body, Ready, read_all};
use super::usage::Usage;
use super::{Stop, runtime};
use crate::file::WHOLE_FILE_BYTES_MAX;
use crate::{Progress, ScanOptions, Scanned};

/// Objects that are fetched at once, unless said otherwise: S3 answers in tens of milliseconds, and a
/// log file is done in less than one.
pub const S3_CONCURRENCY: usize = 32;
/// The most that may be asked for.
pub const S3_CONCURRENCY_MAX: usize = 512;
/// Bytes of objects that are fetched and not yet read.
const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;
/// Bytes that an object costs while it streams: what is between the connection and its thread.
const STREAM_BYTES: usize = 4 << 20;
/// Pieces of a streamed object between the connection and its thread; S3's are 16 to 512 KiB.
const PIECES_MAX: usize = 8;
/// Objects after the oldest that is not done: their results wait for it, so that they can be written
/// down in order.
const OBJECTS_AHEAD_MAX: usize = 4_096;
/// Objects that are listed before their turn comes.
const LISTED_AHEAD_MAX: usize = 2_000;
/// Times that an object may change while it is fetched whole.
const CHANGES_MAX: u32 = 3;

/// How to read buckets.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// A role to read with, at most one.
    pub roles: Roles,
    /// Whoever reads pays, where the bucket's owner wants it so.
    pub requester_pays: bool,
    /// Objects that are fetched at once, 1 to [`S3_CONCURRENCY_MAX`].
    pub concurrency: usize,
    /// Where to write down how far it has come.
    pub checkpoint: Option<CheckpointPlan>,
}

/// Scans what is at these addresses.
///
/// # Errors
/// When it cannot be begun, or the checkpoint cannot be written. What cannot be listed or read later
/// is [`crate::summary::Summary::skipped`].
pub fn scan_s3(
    addresses: &[S3Address],
    rules: &Ruleset,
    options: &ScanOptions,
    s3: &S3Options,
    progress: &Progress,
    usage: &Arc<Usage>,
) -> Result<Scanned, CloudError> {
    let begin = Instant::now();
    let (checkpoint, restored) = match &s3.checkpoint {
        Some(plan) => {
            let arguments = plan.arguments(Some(rules), options);
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
        let stop = Stop::on_interrupt(&runtime);
        let lister = Lister {
            options: Arc::new(options.clone()),
            inputs,
            mark: restored.mark,
            stop: stop.clone(),
        };
        let committer = Arc::new(Mutex::new(Committer::new(restored.scanned, checkpoint)));
        let (sender, ready) = mpsc::channel(s3.concurrency.max(1));
        let dispatch = runtime.spawn(dispatch(
            lister,
            s3.concurrency.clamp(1, S3_CONCURRENCY_MAX),
            sender,
            Arc::clone(&committer),
        ));
        read_all(ready, rules, &options, progress, &committer);
        let mut tail = runtime.block_on(dispatch).unwrap_or_default();
        let is_lost = lock(&committer).wants_no_more();
        if !tail.is_whole && !is_lost {
            let reason = if stop.is_asked() {
                "it was interrupted: not everything was looked at"
            } else {
                "the listing failed: not everything was looked at"
            };
            tail.counts.summary.skip(&PathBuf::from("s3://"), None, reason.to_owned());
        }
        let committer =
            std::mem::replace(&mut *lock(&committer), Committer::new(Scanned::default(), None));
        committer.finish(tail.counts, tail.is_whole)?
    };
    scanned.summary.shorten();
    scanned.summary.elapsed = begin.elapsed();
    Ok(scanned)
}

fn lock(committer: &Mutex<Committer>) -> std::sync::MutexGuard<'_, Committer> {
    committer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the environment and a role give to read buckets with.
pub(in crate::aws) async fn sdk_for(roles: &Roles) -> Result<SdkConfig, CloudError> {
    let mut sdk = access::sdk().await;
    let role = roles.arns.first().map(String::as_str);
    if let Some(arn) = role {
        sdk = access::as_role(&sdk, arn, roles.external_id.as_deref()).await;
    }
    access::prove(&sdk, role).await?;
    Ok(sdk)
}

/// The buckets of the addresses, each found once.
pub(in crate::aws) async fn open(
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

/// Takes what is listed, in order, and has it fetched as far as the bounds allow.
async fn dispatch(
    lister: Lister,
    concurrency: usize,
    ready: mpsc::Sender<Ready>,
    committer: Arc<Mutex<Committer>>,
) -> Tail {
    let (sender, mut steps) = mpsc::channel(LISTED_AHEAD_MAX);
    let stop = lister.stop.clone();
    let listing = tokio::spawn(lister.run(sender));
    let window = Arc::new(Semaphore::new(OBJECTS_AHEAD_MAX));
    let at_once = Arc::new(Semaphore::new(concurrency));
    // One permit for each KiB.
    let bytes = Arc::new(Semaphore::new(BYTES_IN_FLIGHT_MAX >> 10));
    let mut number = 0;
    while let Some(step) = steps.recv().await {
        if lock(&committer).wants_no_more() || stop.is_asked() {
            break;
        }
        // Nobody closes these semaphores: without a permit there is nothing that could go on.
        let Ok(ahead) = Arc::clone(&window).acquire_owned().await else { break };
        let (bucket, listed, named, mark, before) = match step {
            Step::Object { bucket, listed, named, mark, before } => {
                (bucket, listed, named, mark, before)
            }
            Step::Bad { path, failure, mark, before } => {
                let bad = Ready {
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
                if ready.send(bad).await.is_err() {
                    break;
                }
                continue;
            }
        };
        let is_whole = listed.bytes < WHOLE_FILE_BYTES_MAX;
        let cost = if is_whole { listed.bytes } else { STREAM_BYTES as u64 };
        let cost = u32::try_from(cost.div_ceil(1024)).unwrap_or(u32::MAX);
        let Ok(slot) = Arc::clone(&at_once).acquire_owned().await else { break };
        let Ok(room) = Arc::clone(&bytes).acquire_many_owned(cost).await else { break };
        let fetch = Fetch {
            name: listed.key.rsplit('/').next().unwrap_or_default().to_owned(),
            path: format!("s3://{}/{}", bucket.name, listed.key).into(),
            bucket,
            listed,
            named,
            place: (number, mark),
            before,
            ready: ready.clone(),
        };
        number += 1;
        if is_whole {
            tokio::spawn(fetch.whole(slot, room, ahead));
        } else {
            tokio::spawn(fetch.stream(slot, room, ahead));
        }
    }
    drop(steps);
    listing.await.unwrap_or_default()
}

/// One object to fetch.
struct Fetch {
    bucket: Arc<Bucket>,
    listed: Listed,
    path: PathBuf,
    name: String,
    named: bool,
    place: (u64, Mark),
    before: Scanned,
    ready: mpsc::Sender<Ready>,
}

impl Fetch {
    async fn whole(
        self,
        slot: OwnedSemaphorePermit,
        room: OwnedSemaphorePermit,
        window: OwnedSemaphorePermit,
    ) {
        let body = match fetch_whole(&self.bucket, &self.listed).await {
            Ok(bytes) => Body::Whole(bytes),
            Err(failure) => Body::Failed(failure),
        };
        // What was fetched takes memory until it is read, but no connection.
        drop(slot);
        self.hand_on(body, vec![room], window).await;
    }

    async fn stream(
        self,
        slot: OwnedSemaphorePermit,
        room: OwnedSemaphorePermit,
        window: OwnedSemaphorePermit,
    ) {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let (bucket, key) = (Arc::clone(&self.bucket), self.listed.key.clone());
        self.hand_on(Body::Stream(pieces), vec![slot, room], window).await;
        let mut download = bucket.download(&key);
        loop {
            let piece = download.next().await.map(Option::unwrap_or_default);
            let is_last = piece.as_ref().map_or(true, Bytes::is_empty);
            if sender.send(piece).await.is_err() || is_last {
                break;
            }
        }
    }

    async fn hand_on(
        self,
        body: Body,
        permits: Vec<OwnedSemaphorePermit>,
        window: OwnedSemaphorePermit,
    ) {
        let ready = Ready {
            place: Some(self.place),
            path: self.path,
            name: self.name,
            named: self.named,
            body,
            before: self.before,
            permits,
            window: Some(window),
        };
        // The threads are gone only after a panic, which is told by them.
        let _ = self.ready.send(ready).await;
    }
}

/// A small object, once more from the beginning when it changes on the way.
async fn fetch_whole(bucket: &Bucket, listed: &Listed) -> Result<Vec<u8>, Failure> {
    let mut changes = 0;
    'again: loop {
        let mut bytes = Vec::with_capacity(usize::try_from(listed.bytes).unwrap_or(0));
        let mut download = bucket.download(&listed.key);
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
            if bytes.len() as u64 > listed.bytes.max(WHOLE_FILE_BYTES_MAX) {
                return Err(Failure::Changed);
            }
        }
    }
}
