//! `scan --fan-out`: objects become S3 notifications on the hub's backfill queue, and the hub's
//! functions scan them in parallel. Live events have a queue of their own, so that alerts do not wait
//! behind a backfill of perhaps millions of messages.
//!
//! A message holds several objects, limited so that one call of a function ends well within its
//! timeout: [`MESSAGE_OBJECTS_MAX`] small objects take a second or two of S3 requests one after the
//! other, and [`MESSAGE_OBJECT_BYTES_MAX`] compressed are some 160 MB of text, a second or two of a
//! small function's processor. A function gets ten messages at once (`ConsumeHistory` in the hub's
//! template), which stay below a minute. More objects in a message would save little: SQS bills by
//! 64 KiB.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures_util::StreamExt as _;
use futures_util::stream;
use rootwatch_core::retry;
use serde_json::json;
use tokio::sync::mpsc;

use super::access;
use super::checkpoint::{Checkpoint, Restored};
use super::failure::{CloudError, RetryBudget};
use super::interrupt::Interrupt;
use super::mark::Mark;
use super::queue::{check_url, client};
use super::runtime::runtime;
use super::s3::list::{ListedItem, Lister, ListingEnd};
use super::s3::{ListedObject, S3Address, S3Options, joined, open};
use super::usage::Usage;
use crate::options::ScanOptions;
use crate::progress::Progress;
use crate::summary::Summary;

/// Objects in one message.
const MESSAGE_OBJECTS_MAX: usize = 25;
/// Compressed bytes of the objects of one message, unless one object alone has more.
const MESSAGE_OBJECT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one message: ten of them stay below the 256 KiB that a batch may always have.
const MESSAGE_BYTES_MAX: usize = 24 << 10;
/// Messages of one call, by SQS's rule.
const BATCH_MESSAGES_MAX: usize = 10;
/// Calls that are made at the same time.
const BATCHES_AT_ONCE_MAX: usize = 4;
/// Objects that are listed before they are sent.
const LISTED_AHEAD_MAX: usize = 2_000;

/// The result of a fan-out.
#[derive(Debug)]
pub struct FannedOut {
    /// Objects that are in the queue, from this run and from those that it resumes.
    pub objects: u64,
    /// Messages in which they are.
    pub messages: u64,
    /// Identifies the backfill.
    pub history: String,
    /// Counts of keys without log files, and what could not be listed or sent.
    pub summary: Summary,
}

/// A message, and how far the listing was with its last object.
struct QueueMessage {
    body: String,
    objects: u64,
    mark: Mark,
    /// Counts of the keys before its last object.
    counts: Summary,
}

/// Queues the objects at these addresses.
///
/// # Errors
/// When it cannot begin, or the queue refuses a message.
pub fn fan_out(
    addresses: &[S3Address],
    queue_url: &str,
    options: &ScanOptions,
    s3: &S3Options,
    progress: &Progress,
    usage: &Arc<Usage>,
    interrupt: &Interrupt,
) -> Result<FannedOut, CloudError> {
    check_url(queue_url)?;
    let runtime = runtime()?;
    let fresh = history_id();
    let (mut checkpoint, restored) = match &s3.checkpoint {
        Some(plan) => {
            let mut arguments = plan.arguments(None, options)?;
            arguments.insert("--fan-out".to_owned(), queue_url.to_owned());
            let opened = Checkpoint::open(&plan.path, arguments, options, fresh)?;
            (Some(opened.0), opened.1)
        }
        None => {
            let (since, until) = (options.since, options.until);
            let history = fresh;
            (None, Restored { since, until, history, ..Restored::default() })
        }
    };
    let mut out = FannedOut {
        objects: restored.sent.0,
        messages: restored.sent.1,
        history: restored.history,
        summary: restored.scanned.summary,
    };
    if restored.complete {
        return Ok(out);
    }
    let end = runtime.block_on(async {
        let inputs = open(addresses, s3, usage).await?;
        let sdk = access::sdk().await;
        access::prove(&sdk, None).await?;
        let sender = Sender { client: client(&sdk, queue_url), url: queue_url, usage };
        let (since, until) = (restored.since, restored.until);
        let lister = Lister {
            options: Arc::new(ScanOptions { since, until, ..options.clone() }),
            inputs,
            mark: restored.mark,
            interrupt: interrupt.clone(),
        };
        let sending = Sending { sender, checkpoint: &mut checkpoint, progress, interrupt };
        sending.all(lister, &mut out).await
    })?;
    let mut rest = end.counts;
    if !end.is_whole && rest.is_complete() {
        let reason = "interrupted: not all objects are on the queue".to_owned();
        rest.skip(std::path::Path::new("s3://"), None, reason);
    }
    if let Some(checkpoint) = &mut checkpoint {
        checkpoint.finish(&rest, end.is_whole)?;
    }
    out.summary.add(rest);
    out.summary.shorten();
    Ok(out)
}

/// Identifies one backfill: the time of its beginning, and a random number.
fn history_id() -> String {
    let random = (retry::chance() * f64::from(1 << 24)) as u32;
    let at = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    format!("scan-{at}-{random:06x}")
}

struct Sender<'q> {
    client: aws_sdk_sqs::Client,
    url: &'q str,
    usage: &'q Arc<Usage>,
}

/// Sends everything that is listed.
struct Sending<'r> {
    sender: Sender<'r>,
    checkpoint: &'r mut Option<Checkpoint>,
    progress: &'r Progress,
    interrupt: &'r Interrupt,
}

impl Sending<'_> {
    async fn all(self, lister: Lister, out: &mut FannedOut) -> Result<ListingEnd, CloudError> {
        use std::sync::atomic::Ordering::Relaxed;
        let (found, items) = mpsc::channel(LISTED_AHEAD_MAX);
        let listing = tokio::spawn(lister.run(found));
        let mut packer = Packer::new(&out.history);
        {
            let sender = &self.sender;
            let batches =
                stream::unfold(Packing { items, packer: &mut packer }, |mut packing| async move {
                    packing.next().await.map(|batch| (batch, packing))
                });
            let sent = batches.map(|batch| sender.send(batch)).buffered(BATCHES_AT_ONCE_MAX);
            let mut sent = std::pin::pin!(sent);
            while let Some(batch) = sent.next().await {
                let batch = batch?;
                out.objects += batch.objects;
                out.messages += batch.messages;
                self.progress.files.fetch_add(batch.objects, Relaxed);
                if let (Some(checkpoint), Some(mark)) = (self.checkpoint.as_mut(), batch.mark) {
                    checkpoint.add_sent(mark, &batch.counts, batch.objects, batch.messages)?;
                }
                out.summary.add(batch.counts);
                if self.interrupt.is_requested() {
                    // The checkpoint knows which messages were sent; the next run sends the rest.
                    return Ok(ListingEnd::default());
                }
            }
        }
        let mut end = joined(listing.await);
        if let Some((path, reason)) = packer.stopped.take() {
            end.is_whole = false;
            end.counts.skip(path.as_ref(), None, reason);
        }
        Ok(end)
    }
}

/// Messages that are sent in one call.
#[derive(Default)]
struct MessageBatch {
    messages: Vec<QueueMessage>,
    /// Counts of the keys meanwhile, and what could not be listed.
    counts: Summary,
    mark: Option<Mark>,
}

/// A batch that the queue has accepted.
struct SentBatch {
    objects: u64,
    messages: u64,
    counts: Summary,
    mark: Option<Mark>,
}

struct Packing<'p> {
    items: mpsc::Receiver<ListedItem>,
    packer: &'p mut Packer,
}

impl Packing<'_> {
    async fn next(&mut self) -> Option<MessageBatch> {
        let mut batch = MessageBatch::default();
        while batch.messages.len() < BATCH_MESSAGES_MAX {
            let Some(item) = self.items.recv().await else {
                batch.messages.extend(self.packer.flush());
                break;
            };
            match item {
                ListedItem::Object { bucket, object, mark, before, .. } => {
                    let record = record(&bucket.name, &bucket.region, &object);
                    batch.messages.extend(self.packer.push(record, object.bytes, mark));
                    self.packer.counts.add(before);
                }
                ListedItem::Bad { path, failure, mark, before } => {
                    batch.messages.extend(self.packer.flush());
                    batch.counts.add(before);
                    if matches!(failure, super::failure::Failure::Again { .. }) {
                        // A listing that fails temporarily is left for the next run.
                        self.packer.stopped = Some((path, failure.reason()));
                        self.items.close();
                        while self.items.recv().await.is_some() {}
                        break;
                    }
                    batch.counts.skip(path.as_ref(), None, failure.reason());
                    batch.mark = Some(mark);
                }
            }
        }
        for message in &mut batch.messages {
            batch.counts.add(std::mem::take(&mut message.counts));
        }
        // Everything before the last object of the last message is in this batch or an earlier one.
        if let Some(last) = batch.messages.last() {
            batch.mark = batch.mark.max(Some(last.mark.clone()));
        }
        let is_empty = batch.messages.is_empty() && batch.mark.is_none();
        (!is_empty).then_some(batch)
    }
}

/// The notification that S3 would send for an object (S3 user guide, "Event message structure"). Keys are URL-encoded
/// there, as in a form.
fn record(bucket: &str, region: &str, object: &ListedObject) -> String {
    let key: String = url::form_urlencoded::byte_serialize(object.key.as_bytes()).collect();
    // S3 leaves slashes as they are.
    let key = key.replace("%2F", "/");
    json!({
        "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "awsRegion": region,
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket},
            "object": {
                "key": key,
                "size": object.bytes,
                "eTag": object.e_tag.as_deref().unwrap_or_default().trim_matches('"'),
            },
        },
    })
    .to_string()
}

/// Puts objects into messages.
struct Packer {
    ending: String,
    records: Vec<String>,
    bytes: usize,
    object_bytes: u64,
    mark: Mark,
    counts: Summary,
    /// What could not be listed, and why; nothing follows it.
    stopped: Option<(String, String)>,
}

const BEGINNING: &str = "{\"Records\":[";

impl Packer {
    fn new(history: &str) -> Self {
        Self {
            ending: format!("],\"rootwatch\":{}}}", json!({"history": history})),
            records: Vec::new(),
            bytes: 0,
            object_bytes: 0,
            mark: Mark::default(),
            counts: Summary::default(),
            stopped: None,
        }
    }

    /// Adds an object. Returns the message before it if that is full.
    fn push(&mut self, record: String, object_bytes: u64, mark: Mark) -> Option<QueueMessage> {
        let length = BEGINNING.len() + self.bytes + record.len() + 1 + self.ending.len();
        let is_full = self.records.len() >= MESSAGE_OBJECTS_MAX
            || length > MESSAGE_BYTES_MAX
            || self.object_bytes + object_bytes > MESSAGE_OBJECT_BYTES_MAX;
        let full = if is_full { self.flush() } else { None };
        self.bytes += record.len() + 1;
        self.object_bytes += object_bytes;
        self.records.push(record);
        self.mark = mark;
        full
    }

    fn flush(&mut self) -> Option<QueueMessage> {
        let records = std::mem::take(&mut self.records);
        (self.bytes, self.object_bytes) = (0, 0);
        if records.is_empty() {
            return None;
        }
        Some(QueueMessage {
            body: format!("{BEGINNING}{}{}", records.join(","), self.ending),
            objects: records.len() as u64,
            mark: self.mark.clone(),
            counts: std::mem::take(&mut self.counts),
        })
    }
}

impl Sender<'_> {
    /// Sends a batch. Messages of it that the queue does not accept are sent again.
    async fn send(&self, batch: MessageBatch) -> Result<SentBatch, CloudError> {
        let refused = |reason: String| CloudError::Queue { url: self.url.to_owned(), reason };
        let objects = batch.messages.iter().map(|message| message.objects).sum();
        let messages = batch.messages.len() as u64;
        let mut left: BTreeMap<String, String> = batch
            .messages
            .into_iter()
            .enumerate()
            .map(|(number, message)| (number.to_string(), message.body))
            .collect();
        let mut budget = RetryBudget::new();
        while !left.is_empty() {
            let entry = |(id, body): (&String, &String)| {
                SendMessageBatchRequestEntry::builder().id(id).message_body(body).build()
            };
            let entries: Result<Vec<_>, _> = left.iter().map(entry).collect();
            let entries = entries.map_err(|error| refused(error.to_string()))?;
            self.usage.queue(left.values().map(String::len).sum());
            let request = self.client.send_message_batch().queue_url(self.url);
            let trouble = match request.set_entries(Some(entries)).send().await {
                Ok(reply) => {
                    for sent in &reply.successful {
                        left.remove(&sent.id);
                    }
                    match reply.failed.first() {
                        Some(failed) if failed.sender_fault => {
                            return Err(refused(format!("SQS answers {}", failed.code)));
                        }
                        Some(failed) => format!("SQS answers {}", failed.code),
                        None => continue,
                    }
                }
                Err(error) => {
                    let (is_final, reason) = super::queue::failure_of(&error);
                    if is_final {
                        return Err(refused(reason));
                    }
                    reason
                }
            };
            if !budget.wait().await {
                return Err(refused(trouble));
            }
        }
        Ok(SentBatch { objects, messages, counts: batch.counts, mark: batch.mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(key: &str) -> Mark {
        Mark { input: 0, key: key.to_owned() }
    }

    #[test]
    fn a_message_is_what_s3_would_send_and_is_marked_as_history() {
        let object = ListedObject {
            key: "AWSLogs/a b+c/é.json.gz".to_owned(),
            bytes: 7,
            e_tag: Some("\"abc\"".to_owned()),
        };
        let mut packer = Packer::new("scan-1");
        assert!(packer.push(record("trail", "eu-west-1", &object), 7, mark("k")).is_none());
        let message = packer.flush().expect("a message");
        let value: serde_json::Value = serde_json::from_str(&message.body).expect("JSON");
        assert_eq!(value["rootwatch"]["history"], "scan-1");
        let sent = &value["Records"][0];
        assert_eq!(sent["eventSource"], "aws:s3");
        assert_eq!(sent["awsRegion"], "eu-west-1");
        assert_eq!(sent["s3"]["bucket"]["name"], "trail");
        assert_eq!(sent["s3"]["object"]["key"], "AWSLogs/a+b%2Bc/%C3%A9.json.gz");
        assert_eq!(sent["s3"]["object"]["eTag"], "abc");
        assert_eq!(message.mark, mark("k"));
    }

    #[test]
    fn a_message_is_full_by_number_by_bytes_of_objects_and_by_its_own_bytes() {
        let mut packer = Packer::new("scan-1");
        let push = |packer: &mut Packer, bytes, length: usize| {
            packer.push("x".repeat(length), bytes, mark("k")).map(|message| message.objects)
        };
        for _ in 0..MESSAGE_OBJECTS_MAX {
            assert_eq!(push(&mut packer, 1, 10), None);
        }
        assert_eq!(push(&mut packer, 1, 10), Some(MESSAGE_OBJECTS_MAX as u64));
        assert_eq!(push(&mut packer, MESSAGE_OBJECT_BYTES_MAX + 1, 10), Some(1));
        assert_eq!(push(&mut packer, 1, 10), Some(1), "an object that is too large goes alone");
        // A record that fills a message to its last byte goes alone, too.
        let room = MESSAGE_BYTES_MAX - BEGINNING.len() - packer.ending.len();
        assert_eq!(push(&mut packer, 1, room), Some(1));
        let full = packer.push("x".to_owned(), 1, mark("k")).expect("a message");
        assert_eq!((full.objects, full.body.len()), (1, MESSAGE_BYTES_MAX));
        assert_eq!(packer.flush().expect("a message").objects, 1);
    }
}
