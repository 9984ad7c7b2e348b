//! The queue in front of the hub: on the AWS stand-in, which outlives every kill.

use std::time::{Duration, Instant};

use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use serde_json::json;

use super::standin::{ACCOUNT, Standin, free_port};
use super::traffic::Dice;

/// Seconds for which a message that was taken is hidden: so long a killed hub withholds it.
const VISIBILITY_SECS: u16 = 2;
/// Receipts until a message counts as poison: more than the hub can be killed with it in hand.
const RECEIVED_MAX: usize = 200;
/// Messages of one request, SQS's most.
const AT_ONCE: usize = 10;

/// A queue with a dead-letter queue.
pub(crate) struct Queue {
    standin: Standin,
    sqs: aws_sdk_sqs::Client,
    url: String,
    dead: String,
}

impl Queue {
    pub(crate) async fn new() -> Self {
        let standin = tokio::task::spawn_blocking(|| Standin::start(free_port()));
        let standin = standin.await.expect("a stand-in");
        let sqs = aws_sdk_sqs::Client::new(&standin.sdk());
        let made = sqs.create_queue().queue_name("crash-dead").send().await;
        let dead = made.expect("a queue").queue_url.expect("a URL");
        let redrive = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:us-east-1:{ACCOUNT}:crash-dead"),
            "maxReceiveCount": RECEIVED_MAX,
        });
        let made = sqs
            .create_queue()
            .queue_name("crash")
            .attributes(QueueAttributeName::RedrivePolicy, redrive.to_string());
        let url = made.send().await.expect("a queue").queue_url.expect("a URL");
        Self { standin, sqs, url, dead }
    }

    /// The source in the hub's configuration.
    pub(crate) fn config(&self) -> String {
        format!(
            r#"
[[source.sqs]]
name = "crash"
queue_url = "{}"
region = "us-east-1"
endpoint_url = "{}"
visibility_timeout_secs = {VISIBILITY_SECS}
retry_secs = 0
"#,
            self.url,
            self.standin.endpoint()
        )
    }

    /// Puts events onto the queue, a message each, over some seconds.
    pub(crate) async fn feed(&self, events: &[String], dice: &mut Dice) {
        for part in events.chunks(AT_ONCE) {
            let entry = |(place, body): (usize, &String)| {
                SendMessageBatchRequestEntry::builder()
                    .id(place.to_string())
                    .message_body(body)
                    .build()
                    .expect("all that it needs")
            };
            let entries = part.iter().enumerate().map(entry).collect();
            let request = self.sqs.send_message_batch().queue_url(&self.url);
            let sent = request.set_entries(Some(entries)).send().await.expect("messages");
            assert!(sent.failed.is_empty(), "{:?}", sent.failed);
            tokio::time::sleep(Duration::from_millis(dice.below(80) as u64)).await;
        }
    }

    /// Waits until no message is left, and none was given up.
    pub(crate) async fn drained(&self, longest: Duration) {
        let begin = Instant::now();
        loop {
            let left = self.count(&self.url).await;
            if left == 0 {
                break;
            }
            assert!(begin.elapsed() < longest, "{left} messages are stuck");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.count(&self.dead).await, 0, "a sound message was given up");
    }

    /// Messages that are visible or hidden.
    async fn count(&self, url: &str) -> usize {
        let request = self.sqs.get_queue_attributes().queue_url(url);
        let reply = request.attribute_names(QueueAttributeName::All).send().await;
        let attributes = reply.expect("attributes").attributes.expect("attributes");
        let number = |name| attributes[&name].parse::<usize>().expect("a number");
        number(QueueAttributeName::ApproximateNumberOfMessages)
            + number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }
}
