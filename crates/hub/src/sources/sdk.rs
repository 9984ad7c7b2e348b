//! Clients of the AWS SDK: their time limits and retries.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;

/// Seconds for one request, long polls included. A large object may take longer: this is the time
/// to its first byte, after which the SDK watches for a stalled stream.
const REQUEST_SECS_MAX: u64 = 40;
/// Tries of one request by the SDK.
const TRIES_MAX: u32 = 3;

pub(super) fn timeouts() -> TimeoutConfig {
    let secs = Duration::from_secs(REQUEST_SECS_MAX);
    TimeoutConfig::builder().operation_attempt_timeout(secs).build()
}

pub(super) fn retries() -> RetryConfig {
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
