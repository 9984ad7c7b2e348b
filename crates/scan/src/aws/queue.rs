//! A queue of the hub: how many messages wait in it, and how many are in its dead-letter queue.

use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use rootwatch_aws::codes;

use super::access;
use super::failure::{CloudError, chained};
use super::runtime::runtime;

/// Seconds for one try of a request.
const REQUEST_SECS_MAX: u64 = 20;
/// Times that a request is tried.
const TRIES_MAX: u32 = 5;

/// How full a queue is. SQS's numbers are approximate, and may lag a minute behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages that are being processed.
    pub in_flight: u64,
    /// Messages that are delayed.
    pub delayed: u64,
    /// Messages in the dead-letter queue; `None` without such a queue.
    pub dead: Option<u64>,
}

impl QueueCounts {
    /// Messages that are not processed yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// Reads the counts of a queue and of its dead-letter queue.
#[derive(Debug)]
pub struct QueueFollower {
    runtime: tokio::runtime::Runtime,
    client: Client,
    url: String,
    /// URL of the dead-letter queue.
    dead: Option<String>,
}

impl QueueFollower {
    /// Finds a queue, and its dead-letter queue by its redrive policy.
    ///
    /// # Errors
    /// One of them cannot be read: an empty queue would prove nothing then.
    pub fn open(url: &str) -> Result<Self, CloudError> {
        check_url(url)?;
        let runtime = runtime()?;
        let (client, dead) = runtime.block_on(async {
            let sdk = access::sdk().await;
            access::prove(&sdk, None).await?;
            let client = client(&sdk, url);
            let dead = dead_letters(&client, url).await?;
            Ok((client, dead))
        })?;
        Ok(Self { runtime, client, url: url.to_owned(), dead })
    }

    /// The counts now.
    ///
    /// # Errors
    /// SQS refuses, or cannot be reached.
    pub fn counts(&self) -> Result<QueueCounts, CloudError> {
        self.runtime.block_on(async {
            let [visible, in_flight, delayed] = numbers(&self.client, &self.url).await?;
            let dead = match &self.dead {
                Some(url) => Some(numbers(&self.client, url).await?.into_iter().sum()),
                None => None,
            };
            Ok(QueueCounts { visible, in_flight, delayed, dead })
        })
    }

    /// Name of the dead-letter queue.
    #[must_use]
    pub fn dead_letter_queue(&self) -> Option<&str> {
        self.dead.as_deref()?.rsplit('/').next()
    }
}

pub(super) fn check_url(url: &str) -> Result<(), CloudError> {
    let is_url = url::Url::parse(url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    if is_url {
        return Ok(());
    }
    Err(CloudError::Address {
        text: url.to_owned(),
        reason: "not the URL of a queue".to_owned(),
        hint: "for example https://sqs.eu-west-1.amazonaws.com/111122223333/rootwatch-history: the \
               output HistoryQueueUrl of the hub's stack",
    })
}

/// A client in the queue's region, which AWS queue URLs contain.
pub(super) fn client(sdk: &SdkConfig, url: &str) -> Client {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(REQUEST_SECS_MAX))
        .build();
    let mut config = aws_sdk_sqs::config::Builder::from(sdk)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES_MAX));
    if let Some(region) = region_of(url) {
        config = config.region(Region::new(region));
    }
    Client::from_conf(config.build())
}

fn region_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    let region = host.strip_prefix("sqs.")?.split('.').next()?;
    is_aws.then(|| region.to_owned())
}

/// Why a call of SQS failed, and whether retrying is useless.
pub(super) fn failure_of<E>(error: &SdkError<E, HttpResponse>) -> (bool, String)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Some(code) = error.code() else { return (false, chained(error)) };
    let reason = match error.message() {
        Some(message) => format!("SQS answers {code}: {message}"),
        None => format!("SQS answers {code}"),
    };
    let is_final = matches!(error, SdkError::ServiceError(service)
        if !codes::advice_for(service.raw().status().as_u16(), code).is_retry());
    (is_final, reason)
}

async fn numbers(client: &Client, url: &str) -> Result<[u64; 3], CloudError> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let request =
        client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec()));
    let refused = |reason: String| CloudError::Queue { url: url.to_owned(), reason };
    let reply = request.send().await.map_err(|error| refused(failure_of(&error).1))?;
    let attributes = reply.attributes.unwrap_or_default();
    let mut numbers = [0; 3];
    for (number, name) in numbers.iter_mut().zip(&names) {
        let text = attributes.get(name).map(String::as_str);
        *number = text
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| refused(format!("SQS does not state {}", name.as_str())))?;
    }
    Ok(numbers)
}

async fn dead_letters(client: &Client, url: &str) -> Result<Option<String>, CloudError> {
    let refused = |reason: String| CloudError::Queue { url: url.to_owned(), reason };
    let request = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::RedrivePolicy);
    let reply = request.send().await.map_err(|error| refused(failure_of(&error).1))?;
    let attributes = reply.attributes.unwrap_or_default();
    let Some(policy) = attributes.get(&QueueAttributeName::RedrivePolicy) else { return Ok(None) };
    let policy: serde_json::Value = serde_json::from_str(policy)
        .map_err(|error| refused(format!("its redrive policy is not JSON: {error}")))?;
    // arn:aws:sqs:<region>:<account>:<name>
    let arn = policy["deadLetterTargetArn"].as_str().unwrap_or_default();
    let parts: Vec<&str> = arn.split(':').collect();
    let [_, _, "sqs", _, account, name] = parts[..] else {
        return Err(refused(format!("its redrive policy names no queue: {arn:?}")));
    };
    let request = client.get_queue_url().queue_name(name).queue_owner_aws_account_id(account);
    let reply = request.send().await.map_err(|error| {
        refused(format!("its dead-letter queue {name} cannot be found: {}", failure_of(&error).1))
    })?;
    reply.queue_url.map(Some).ok_or_else(|| refused(format!("{name} has no URL")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_comes_from_the_queue_url_on_aws() {
        let url = "https://sqs.eu-west-1.amazonaws.com/111122223333/rootwatch";
        assert_eq!(region_of(url).as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("http://127.0.0.1:4566/111122223333/rootwatch"), None);
        assert!(check_url(url).is_ok());
        assert!(check_url("rootwatch").is_err());
    }
}
