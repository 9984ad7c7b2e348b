//! The loop of one receiver: receive, work, delete; and what holds messages while that lasts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::Message as Received;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;

use super::config::{RETRY_SECS_MAX, SqsConfig};
use super::handler::{MessageHandler, MessageResult};
use crate::sources::context::SourceContext;
use crate::sources::reading::chained;
use crate::sources::retry::{BackOff, pause};
use crate::sources::s3::Objects;
use rootwatch_engine::{RecordSource, shutdown};

/// Seconds of a long poll.
const WAIT_SECS: i32 = 20;
/// Messages of a batch: SQS's own limit.
const BATCH_MESSAGES_MAX: usize = 10;
/// From this fullness of the engine's queue on, nothing is received.
const PRESSURE_FULL: f64 = 0.9;
/// From this fullness on, fewer messages are received at a time.
const PRESSURE_HIGH: f64 = 0.5;
/// Milliseconds between two looks at a queue that is full.
const PRESSURE_PAUSE_MILLIS: u64 = 100;
/// Pauses after an error of SQS, in seconds.
const ERROR_PAUSE_SECS: u64 = 1;
const ERROR_PAUSE_SECS_MAX: u64 = 60;
/// Rounds in which a message is tried to be deleted. After that it comes back, and is known.
const DELETE_ROUNDS_MAX: usize = 5;
/// Pauses between these rounds, in milliseconds.
const DELETE_PAUSE_MILLIS: u64 = 200;
const DELETE_PAUSE_MILLIS_MAX: u64 = 2_000;

/// A queue and all that its receivers share.
pub(super) struct Queue {
    pub(super) client: Client,
    pub(super) config: SqsConfig,
    pub(super) handler: MessageHandler,
}

impl Queue {
    pub(super) fn new(
        client: Client,
        config: SqsConfig,
        objects: Arc<Objects>,
        context: SourceContext,
    ) -> Self {
        let record_source = RecordSource::live(format!("sqs:{}", config.name));
        Self { client, config, handler: MessageHandler { objects, context, record_source } }
    }

    fn source(&self) -> &str {
        &self.handler.record_source.source
    }

    fn visibility_secs(&self) -> i32 {
        self.config.visibility_timeout_secs.into()
    }

    /// Without a redrive policy, what cannot be used comes back until it expires, and then is gone.
    async fn check_redrive(&self) {
        let request = self.client.get_queue_attributes().queue_url(&self.config.queue_url);
        let request = request.attribute_names(QueueAttributeName::RedrivePolicy);
        match request.send().await {
            Ok(reply) => {
                let policy = reply
                    .attributes()
                    .and_then(|attributes| attributes.get(&QueueAttributeName::RedrivePolicy));
                if policy.is_none_or(|policy| policy.trim().is_empty()) {
                    tracing::warn!(
                        source = self.source(), queue = %self.config.queue_url,
                        "the queue has no redrive policy: a message that cannot be used comes back \
                         until it expires, and is lost then; give the queue a dead-letter queue",
                    );
                }
            }
            Err(error) => tracing::warn!(
                source = self.source(), error = %words(&error),
                "whether the queue has a redrive policy cannot be told",
            ),
        }
    }

    /// Deletes messages, and tries again what is refused for a time.
    async fn delete(&self, mut receipts: Vec<String>) {
        let millis = Duration::from_millis;
        let mut back_off =
            BackOff::new(millis(DELETE_PAUSE_MILLIS), millis(DELETE_PAUSE_MILLIS_MAX));
        for round in 0..DELETE_ROUNDS_MAX {
            if round > 0 {
                // Also while the hub closes: what is deleted now need not come again.
                tokio::time::sleep(back_off.pause()).await;
            }
            receipts = self.delete_once(receipts).await;
            if receipts.is_empty() {
                return;
            }
        }
        tracing::warn!(
            source = self.source(),
            messages = receipts.len(),
            "messages that are done could not be deleted: they come again, which is harmless",
        );
    }

    /// One request; gives back what may be tried again.
    async fn delete_once(&self, receipts: Vec<String>) -> Vec<String> {
        let entries = receipts.iter().enumerate().map(|(number, receipt)| {
            let entry = DeleteMessageBatchRequestEntry::builder();
            entry.id(number.to_string()).receipt_handle(receipt).build()
        });
        let entries = match entries.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(source = self.source(), %error, "messages cannot be deleted");
                return Vec::new();
            }
        };
        let request = self.client.delete_message_batch().queue_url(&self.config.queue_url);
        match request.set_entries(Some(entries)).send().await {
            Ok(reply) => self.to_try_again(reply.failed(), &receipts, "delete"),
            Err(error) => {
                tracing::info!(source = self.source(), error = %words(&error), "delete failed");
                receipts
            }
        }
    }

    /// Makes messages visible again after so many seconds; what fails comes back by itself.
    async fn set_visibility(&self, receipts: &[(String, i32)]) {
        let entries = receipts.iter().enumerate().map(|(number, (receipt, secs))| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder();
            entry.id(number.to_string()).receipt_handle(receipt).visibility_timeout(*secs).build()
        });
        let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { return };
        if entries.is_empty() {
            return;
        }
        let request =
            self.client.change_message_visibility_batch().queue_url(&self.config.queue_url);
        match request.set_entries(Some(entries)).send().await {
            Ok(reply) => {
                let receipts: Vec<_> =
                    receipts.iter().map(|(receipt, _)| receipt.clone()).collect();
                self.to_try_again(reply.failed(), &receipts, "change of visibility");
            }
            Err(error) => tracing::info!(
                source = self.source(), error = %words(&error), "change of visibility failed",
            ),
        }
    }

    /// What a batch reply says of single messages: those that failed by SQS's own fault.
    fn to_try_again(
        &self,
        failed: &[BatchResultErrorEntry],
        receipts: &[String],
        what: &str,
    ) -> Vec<String> {
        let mut again = Vec::new();
        for entry in failed {
            tracing::info!(
                source = self.source(),
                code = entry.code(),
                what,
                "SQS refuses it for a message: it may have been received by another",
            );
            let receipt = entry.id().parse::<usize>().ok().and_then(|at| receipts.get(at));
            if let (false, Some(receipt)) = (entry.sender_fault(), receipt) {
                again.push(receipt.clone());
            }
        }
        again
    }
}

/// One of a queue's receivers.
pub(super) struct Receiver {
    queue: Arc<Queue>,
    number: usize,
}

impl Receiver {
    pub(super) fn new(queue: Arc<Queue>, number: usize) -> Self {
        Self { queue, number }
    }

    /// Receives until the hub closes.
    pub(super) async fn run(self) {
        let queue = &self.queue;
        let status = &queue.handler.context.status;
        let mut shutdown = queue.handler.context.shutdown.clone();
        if self.number == 0 {
            tokio::select! {
                () = shutdown::requested(&mut shutdown) => return,
                () = queue.check_redrive() => {}
            }
        }
        let secs = Duration::from_secs;
        let mut back_off = BackOff::new(secs(ERROR_PAUSE_SECS), secs(ERROR_PAUSE_SECS_MAX));
        // The first answer is not waited for: readiness has to know whether there is one.
        let mut wait_secs = 0;
        while !*shutdown.borrow() {
            let Some(room) = room(queue.handler.context.intake.pressure()) else {
                if !pause(Duration::from_millis(PRESSURE_PAUSE_MILLIS), &mut shutdown).await {
                    break;
                }
                continue;
            };
            let received = tokio::select! {
                biased;
                () = shutdown::requested(&mut shutdown) => break,
                received = self.receive(room, wait_secs) => received,
            };
            match received {
                Ok(messages) => {
                    if status.source_works(queue.source()) {
                        tracing::info!(source = queue.source(), "receiving");
                    }
                    back_off.reset();
                    wait_secs = WAIT_SECS;
                    self.work(messages).await;
                }
                Err(reason) => {
                    wait_secs = 0;
                    let reason = format!("messages cannot be received: {reason}");
                    if status.source_fails(queue.source(), &reason) {
                        tracing::warn!(source = queue.source(), "{reason}");
                    }
                    metrics::counter!(
                        "rootwatch_source_errors_total", "source" => queue.source().to_owned(),
                    )
                    .increment(1);
                    if !pause(back_off.pause(), &mut shutdown).await {
                        break;
                    }
                }
            }
        }
    }

    async fn receive(&self, room: usize, wait_secs: i32) -> Result<Vec<Received>, String> {
        let queue = &self.queue;
        let request = queue
            .client
            .receive_message()
            .queue_url(&queue.config.queue_url)
            .max_number_of_messages(i32::try_from(room).unwrap_or(1))
            .wait_time_seconds(wait_secs)
            .visibility_timeout(queue.visibility_secs())
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        match request.send().await {
            Ok(reply) => Ok(reply.messages.unwrap_or_default()),
            Err(error) => Err(words(&error)),
        }
    }

    /// Works on all messages of a batch at once, so that the engine commits them together, and
    /// ends them as they are done.
    async fn work(&self, messages: Vec<Received>) {
        let queue = &self.queue;
        let held = Held::start(Arc::clone(queue));
        let work = FuturesUnordered::new();
        for message in messages {
            let Some(receipt) = message.receipt_handle.clone() else { continue };
            held.add(&receipt);
            work.push(async move {
                let verdict = queue.handler.handle(message.body().unwrap_or_default()).await;
                (message, receipt, verdict)
            });
        }
        let mut work = work.ready_chunks(BATCH_MESSAGES_MAX);
        while let Some(ended) = work.next().await {
            let (mut done, mut back) = (Vec::new(), Vec::new());
            for (message, receipt, verdict) in ended {
                match verdict {
                    MessageResult::Done => done.push(receipt),
                    MessageResult::GiveBack(error) => {
                        tracing::info!(
                            source = queue.source(), message = message.message_id(), %error,
                            "a message is given back",
                        );
                        held.remove(&receipt);
                        back.push((receipt, 0));
                    }
                    MessageResult::Leave { kind, reason } => {
                        held.remove(&receipt);
                        let secs = queue.leave(&message, kind, &reason);
                        back.push((receipt, secs));
                    }
                }
            }
            queue.set_visibility(&back).await;
            if !done.is_empty() {
                queue.delete(done.clone()).await;
                for receipt in &done {
                    held.remove(receipt);
                }
            }
        }
    }
}

impl Queue {
    /// Says that a message is left, and for how many seconds it stays hidden.
    fn leave(&self, message: &Received, kind: &'static str, reason: &str) -> i32 {
        let count = MessageSystemAttributeName::ApproximateReceiveCount;
        let times = message.attributes().and_then(|attributes| attributes.get(&count));
        let times = times.and_then(|times| times.parse::<u32>().ok()).unwrap_or(1);
        let secs = retry_secs(self.config.retry_secs, times);
        tracing::warn!(
            source = self.source(),
            message = message.message_id(),
            kind,
            reason,
            times,
            again_in_secs = secs,
            "a message cannot be used: it is left to the queue's redrive policy",
        );
        let endpoint = self.source().to_owned();
        metrics::counter!(
            "rootwatch_requests_refused_total", "endpoint" => endpoint.clone(), "reason" => kind,
            // The former name of the label, kept for one release.
            "door" => endpoint,
        )
        .increment(1);
        secs.into()
    }
}

/// How long a message that was received so many times stays hidden.
fn retry_secs(first: u16, times: u32) -> u16 {
    let doublings = times.saturating_sub(1).min(16);
    let secs = u64::from(first) << doublings;
    u16::try_from(secs).unwrap_or(RETRY_SECS_MAX).min(RETRY_SECS_MAX)
}

/// How many messages to ask for; `None` when the engine has enough to do.
fn room(pressure: f64) -> Option<usize> {
    if pressure >= PRESSURE_FULL {
        None
    } else if pressure >= PRESSURE_HIGH {
        Some(1)
    } else {
        Some(BATCH_MESSAGES_MAX)
    }
}

/// Messages in hand. While they are, a task of its own keeps them hidden from others, whatever the
/// work waits for.
struct Held {
    receipts: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Held {
    fn start(queue: Arc<Queue>) -> Self {
        let receipts = Arc::new(Mutex::new(BTreeSet::<String>::new()));
        let shared = Arc::clone(&receipts);
        let half = Duration::from_secs(queue.config.visibility_timeout_secs.into()) / 2;
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(half).await;
                let secs = queue.visibility_secs();
                let held: Vec<_> = {
                    let receipts = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    receipts.iter().map(|receipt| (receipt.clone(), secs)).collect()
                };
                queue.set_visibility(&held).await;
            }
        });
        Self { receipts, task }
    }

    fn add(&self, receipt: &str) {
        let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.insert(receipt.to_owned());
    }

    fn remove(&self, receipt: &str) {
        let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.remove(receipt);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What AWS or the connection says, in one line.
fn words<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => chained(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_used_stays_hidden_longer_each_time() {
        assert_eq!(retry_secs(30, 1), 30);
        assert_eq!(retry_secs(30, 3), 120);
        assert_eq!(retry_secs(30, 100), RETRY_SECS_MAX);
        assert_eq!(retry_secs(0, 100), 0);
    }

    #[test]
    fn a_full_engine_is_given_less_and_then_nothing() {
        assert_eq!(room(0.0), Some(10));
        assert_eq!(room(0.6), Some(1));
        assert_eq!(room(0.95), None);
    }
}
