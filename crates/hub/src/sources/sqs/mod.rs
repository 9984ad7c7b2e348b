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
mod handler;
mod message;
mod receiver;

use std::sync::Arc;

use aws_config::{Region, SdkConfig};
use tokio::task::JoinHandle;

pub use self::config::SqsConfig;
pub(crate) use self::handler::{MessageHandler, MessageResult};
use self::receiver::{Queue, Receiver};
use super::s3::{OBJECTS_AT_ONCE_MAX, Objects};
use super::sdk::{retries, s3_client, timeouts};
use crate::sources::context::{SourceContext, SourceError};

/// Starts a queue's receivers with credentials and endpoints as the AWS SDK finds them.
pub(super) async fn start(
    config: SqsConfig,
    context: SourceContext,
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
    Ok(start_with(config, context, &sdk))
}

/// Starts a queue's receivers with an SDK configuration that is already there: for tests and other
/// hosts. The endpoints of `config` have precedence.
#[must_use]
pub fn start_with(
    config: SqsConfig,
    context: SourceContext,
    sdk: &SdkConfig,
) -> Vec<JoinHandle<()>> {
    let mut sqs =
        aws_sdk_sqs::config::Builder::from(sdk).timeout_config(timeouts()).retry_config(retries());
    if let Some(url) = &config.endpoint_url {
        sqs = sqs.endpoint_url(url);
    }
    let s3 = s3_client(sdk, config.s3_endpoint_url.as_deref(), config.s3_path_style);
    let objects =
        Objects::new(s3, &config.buckets, config.bucket_owner.clone(), OBJECTS_AT_ONCE_MAX);
    let client = aws_sdk_sqs::Client::from_conf(sqs.build());
    let queue = Arc::new(Queue::new(client, config, objects, context));
    let receivers = (0..queue.config.receivers)
        .map(|number| tokio::spawn(Receiver::new(Arc::clone(&queue), number).run()));
    receivers.collect()
}
