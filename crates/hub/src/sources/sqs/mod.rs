//! SQS: events, and notifications of log files in S3.
//!
//! A message is deleted when what it says is on disk, and only then. What cannot be used (not
//! decodable, object gone or refused, a bucket that is not ours, a log file that ends early) is
//! left: it comes back after a pause, and the queue's redrive policy moves it to the dead-letter
//! queue after as many times as it says, where a person finds it. What could be read of a damaged
//! log file is saved before that; a later upload of the same object may be whole.
//!
//! What cannot be *saved* is another matter: it is held, and hidden from others, until it can be,
//! because giving it back would use up its receptions and sound messages would end in the
//! dead-letter queue.

mod config;
mod message;
mod receiver;
mod work;

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use tokio::task::JoinHandle;

pub use self::config::SqsConfig;
use self::receiver::{Queue, Receiver};
pub(crate) use self::work::{Desk, Verdict};
use super::s3::{OBJECTS_AT_ONCE_MAX, Objects};
use super::{SourceError, Surroundings};

/// Seconds of a long poll.
const WAIT_SECS: i32 = 20;
/// Seconds for one request, long polls included. A large object may take longer: this is the time
/// to its first byte, after which the SDK watches for a stalled stream.
const REQUEST_SECS_MAX: u64 = 40;
/// Tries of one request by the SDK.
const TRIES_MAX: u32 = 3;

/// Starts a queue's receivers with credentials and endpoints as the AWS SDK finds them.
pub(super) async fn start(
    config: SqsConfig,
    around: Surroundings,
) -> Result<Vec<JoinHandle<()>>, SourceError> {
    let mut loader = rootwatch_aws::sdk_loader();
    if let Some(region) = config.region() {
        loader = loader.region(Region::new(region));
    }
    let sdk = loader.load().await;
    if sdk.region().is_none() {
        return Err(SourceError::Setting {
            name: config.name,
            reason: "region is not set, and neither the queue's URL nor the environment says it"
                .to_owned(),
        });
    }
    Ok(start_with(config, around, &sdk))
}

/// Starts a queue's receivers with an SDK configuration that is already there: for tests and other
/// hosts. The endpoints of `config` have precedence.
#[must_use]
pub fn start_with(config: SqsConfig, around: Surroundings, sdk: &SdkConfig) -> Vec<JoinHandle<()>> {
    let mut sqs =
        aws_sdk_sqs::config::Builder::from(sdk).timeout_config(timeouts()).retry_config(retries());
    if let Some(url) = &config.endpoint_url {
        sqs = sqs.endpoint_url(url);
    }
    let s3 = s3_client(sdk, config.s3_endpoint_url.as_deref(), config.s3_path_style);
    let objects =
        Objects::new(s3, &config.buckets, config.bucket_owner.clone(), OBJECTS_AT_ONCE_MAX);
    let client = aws_sdk_sqs::Client::from_conf(sqs.build());
    let queue = Arc::new(Queue::new(client, config, objects, around));
    let receivers = (0..queue.config.receivers)
        .map(|number| tokio::spawn(Receiver::new(Arc::clone(&queue), number).run()));
    receivers.collect()
}

fn timeouts() -> TimeoutConfig {
    let secs = Duration::from_secs(REQUEST_SECS_MAX);
    TimeoutConfig::builder().operation_attempt_timeout(secs).build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(TRIES_MAX)
}

/// A client of S3. Where S3 is not AWS's own, buckets are named in the path unless said otherwise.
pub(crate) fn s3_client(
    sdk: &SdkConfig,
    endpoint_url: Option<&str>,
    path_style: Option<bool>,
) -> aws_sdk_s3::Client {
    let is_elsewhere = endpoint_url.is_some()
        || sdk.endpoint_url().is_some()
        || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
    let mut s3 = aws_sdk_s3::config::Builder::from(sdk)
        .timeout_config(timeouts())
        .retry_config(retries())
        .force_path_style(path_style.unwrap_or(is_elsewhere));
    if let Some(url) = endpoint_url {
        s3 = s3.endpoint_url(url);
    }
    aws_sdk_s3::Client::from_conf(s3.build())
}
