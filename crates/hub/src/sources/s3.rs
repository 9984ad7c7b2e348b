//! Log files in S3: an object of any size costs the memory of one set of buffers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use rootwatch_scan::aws::{Failure, failure_of};
use rootwatch_scan::objects::holds_no_records;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::io::SyncIoBridge;

use super::context::SourceContext;
use super::reading::{self, Reading, ReadingError, read_into};
use super::retry::{BackOff, pause};
use rootwatch_engine::{IngestError, RecordSource};

/// Objects that one source reads at once: each costs a window, and this machine's other cores are
/// the engine's.
pub(super) const OBJECTS_AT_ONCE_MAX: usize = 4;
/// Seconds for which an object that S3 does not give is asked for again, before its message is
/// given back to the queue.
const TRY_SECS_MAX: u64 = 600;
/// Longest pause between two tries, in seconds.
const PAUSE_SECS_MAX: u64 = 30;

/// What became of one object.
#[derive(Debug)]
pub(super) enum Taken {
    /// Read whole, and saved.
    Read {
        /// Records that were looked at.
        records: u64,
        /// How many of them are findings.
        findings: u64,
    },
    /// Its name says that it holds no records.
    PassedOver,
    /// What could be read is saved, but not all could be read.
    Damaged(String),
    /// It cannot be had, or not from here.
    Refused(String),
    /// S3 does not answer, or not well.
    Unreachable(String),
    /// Not saved: the intake does not take it, or the hub closes.
    NotSaved(IngestError),
}

/// Fetches objects of the buckets of one source.
#[derive(Debug)]
pub(crate) struct Objects {
    client: Client,
    buckets: BTreeSet<String>,
    owner: Option<String>,
    at_once: Semaphore,
}

impl Objects {
    pub(crate) fn new(
        client: Client,
        buckets: &[String],
        owner: Option<String>,
        at_once: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            buckets: buckets.iter().cloned().collect(),
            owner,
            at_once: Semaphore::new(at_once),
        })
    }

    /// Fetches an object, scans it as it comes, and saves what it finds.
    pub(super) async fn take(
        &self,
        bucket: &str,
        key: &str,
        context: &SourceContext,
        record_source: &RecordSource,
    ) -> Taken {
        if !self.buckets.contains(bucket) {
            return Taken::Refused(format!("{bucket:?} is none of the configured buckets"));
        }
        // A key that ends in a slash is what consoles make to show a folder.
        if holds_no_records(key) || key.ends_with('/') {
            return Taken::PassedOver;
        }
        let Ok(_permit) = self.at_once.acquire().await else {
            return Taken::NotSaved(IngestError::Closing);
        };
        let begin = Instant::now();
        let mut back_off =
            BackOff::new(Duration::from_secs(1), Duration::from_secs(PAUSE_SECS_MAX));
        let mut shutdown = context.shutdown.clone();
        loop {
            let taken = self.try_take(bucket, key, context, record_source).await;
            let Taken::Unreachable(reason) = &taken else { return taken };
            let time = back_off.pause();
            if begin.elapsed() + time > Duration::from_secs(TRY_SECS_MAX) {
                return taken;
            }
            tracing::info!(source = %record_source.source, bucket, key, %reason, "S3 is asked again");
            if !pause(time, &mut shutdown).await {
                return Taken::NotSaved(IngestError::Closing);
            }
        }
    }

    async fn try_take(
        &self,
        bucket: &str,
        key: &str,
        context: &SourceContext,
        record_source: &RecordSource,
    ) -> Taken {
        let object = match self.get(bucket, key).await {
            Ok(object) => object,
            Err(taken) => return taken,
        };
        let body = SyncIoBridge::new(object.body.into_async_read());
        match read_into(body, key.to_owned(), context, record_source, |_, _, _| None).await {
            Ok(Reading { broken: Some(reason), .. }) => Taken::Unreachable(reason),
            Ok(reading) => match reading::damage(&reading.summary) {
                Some(reason) => Taken::Damaged(reason),
                None => {
                    let Reading { summary, findings, .. } = reading;
                    Taken::Read { records: summary.records, findings }
                }
            },
            Err(ReadingError::NotSaved(error)) => Taken::NotSaved(error),
            Err(error @ ReadingError::Failed { .. }) => Taken::Damaged(error.to_string()),
        }
    }

    async fn get(&self, bucket: &str, key: &str) -> Result<GetObjectOutput, Taken> {
        let request = self.client.get_object().bucket(bucket).key(key);
        let result = request.set_expected_bucket_owner(self.owner.clone()).send().await;
        result.map_err(|error| match failure_of(&error) {
            Failure::Refused(reason) => Taken::Refused(reason),
            failure => Taken::Unreachable(failure.reason()),
        })
    }
}
