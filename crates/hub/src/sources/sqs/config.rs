//! Settings of an SQS queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sources::context::check_name;
use rootwatch_core::account::AccountId;

/// An SQS queue: EventBridge events, CloudTrail log files, and notifications of log files in S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqsConfig {
    /// Names the source in logs, metrics and findings: letters, digits, `-` and `_`.
    pub name: String,
    /// The queue's URL, as `GetQueueUrl` gives it.
    pub queue_url: String,
    /// The queue's region. By default the one in the queue's URL, else the one of the environment.
    #[serde(default)]
    pub region: Option<String>,
    /// Custom SQS endpoint: a VPC endpoint, or an emulator for tests. By
    /// default what `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL` or the AWS profile say.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// The same for S3, with `AWS_ENDPOINT_URL_S3`.
    #[serde(default)]
    pub s3_endpoint_url: Option<String>,
    /// Address buckets as a part of the path instead of the host name. By default true when an
    /// endpoint is set for S3, else false.
    #[serde(default)]
    pub s3_path_style: Option<bool>,
    /// Buckets from which objects are fetched. A message that names another bucket is left in the
    /// queue, so that nobody who can write to the queue can make the hub read a bucket of theirs.
    /// By default none: then the queue may hold events only.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// Account that has to own the buckets; S3 refuses the request otherwise. By default not
    /// checked.
    #[serde(default)]
    pub bucket_owner: Option<String>,
    /// How many batches of up to 10 messages are worked on at once, 1 to 16. Default 2.
    #[serde(default = "receivers")]
    #[schemars(range(min = 1, max = 16))]
    pub receivers: usize,
    /// Seconds for which a message is hidden from others while it is worked on, 2 to 3600; it is
    /// extended at half time as long as the work lasts. A hub that dies gives its messages back
    /// after this time. Default 120.
    #[serde(default = "visibility_timeout_secs")]
    #[schemars(range(min = 2, max = 3600))]
    pub visibility_timeout_secs: u16,
    /// Seconds before a message that could not be used (not decodable, object gone, access denied)
    /// can be received again, 0 to 900; doubles with each time, to 900 at most. How often is the
    /// queue's redrive policy. Default 30.
    #[serde(default = "retry_secs")]
    #[schemars(range(min = 0, max = 900))]
    pub retry_secs: u16,
}

fn receivers() -> usize {
    2
}

fn visibility_timeout_secs() -> u16 {
    120
}

fn retry_secs() -> u16 {
    30
}

/// Seconds before a message that could not be used can be received again, at most.
pub(super) const RETRY_SECS_MAX: u16 = 900;

impl SqsConfig {
    /// What every setting but these two has by default.
    #[must_use]
    pub fn new(name: &str, queue_url: &str) -> Self {
        Self {
            name: name.to_owned(),
            queue_url: queue_url.to_owned(),
            region: None,
            endpoint_url: None,
            s3_endpoint_url: None,
            s3_path_style: None,
            buckets: Vec::new(),
            bucket_owner: None,
            receivers: receivers(),
            visibility_timeout_secs: visibility_timeout_secs(),
            retry_secs: retry_secs(),
        }
    }

    /// Checks what types cannot, offline.
    ///
    /// # Errors
    /// What is wrong: lower case, no full stop.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check_url("queue_url", &self.queue_url)?;
        for (setting, url) in
            [("endpoint_url", &self.endpoint_url), ("s3_endpoint_url", &self.s3_endpoint_url)]
        {
            if let Some(url) = url {
                check_url(setting, url)?;
            }
        }
        let within = |setting: &str, value: usize, from: usize, to: usize| {
            if (from..=to).contains(&value) {
                Ok(())
            } else {
                Err(format!("{setting} must be between {from} and {to}"))
            }
        };
        within("receivers", self.receivers, 1, 16)?;
        within("visibility_timeout_secs", self.visibility_timeout_secs.into(), 2, 3600)?;
        within("retry_secs", self.retry_secs.into(), 0, RETRY_SECS_MAX.into())?;
        if let Some(owner) = &self.bucket_owner
            && !AccountId::is_valid(owner)
        {
            return Err("bucket_owner must be an account id of 12 digits".to_owned());
        }
        Ok(())
    }

    /// The region as configured, or as the queue's URL on AWS says
    /// (`https://sqs.<region>.amazonaws.com/<account>/<name>`).
    pub(super) fn region(&self) -> Option<String> {
        self.region.clone().or_else(|| {
            let url = url::Url::parse(&self.queue_url).ok()?;
            let host = url.host_str()?;
            let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
            let region = host.strip_prefix("sqs.")?.split('.').next()?;
            is_aws.then(|| region.to_owned())
        })
    }
}

fn check_url(setting: &str, text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("{setting} is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{setting} must begin with https:// or http://"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://sqs.eu-west-1.amazonaws.com/111122223333/root-events";

    #[test]
    fn the_region_is_that_of_the_queue_unless_it_is_set() {
        let config = SqsConfig::new("trail", URL);
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.region().as_deref(), Some("eu-west-1"));
        let set = SqsConfig { region: Some("us-east-1".to_owned()), ..config };
        assert_eq!(set.region().as_deref(), Some("us-east-1"));
        let other = SqsConfig::new("trail", "http://127.0.0.1:4566/111122223333/root-events");
        assert_eq!(other.region(), None);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_name_of_the_setting() {
        let good = SqsConfig::new("trail", URL);
        for (bad, setting) in [
            (SqsConfig { name: "a b".to_owned(), ..good.clone() }, "name"),
            (SqsConfig { queue_url: "root-events".to_owned(), ..good.clone() }, "queue_url"),
            (SqsConfig { queue_url: "file:///tmp".to_owned(), ..good.clone() }, "queue_url"),
            (SqsConfig { receivers: 0, ..good.clone() }, "receivers"),
            (SqsConfig { visibility_timeout_secs: 1, ..good.clone() }, "visibility_timeout_secs"),
            (SqsConfig { bucket_owner: Some("me".to_owned()), ..good.clone() }, "bucket_owner"),
        ] {
            let reason = bad.check().expect_err(setting);
            assert!(reason.starts_with(setting), "{reason}");
        }
    }
}
