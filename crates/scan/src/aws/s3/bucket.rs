//! The calls of one bucket: its region, pages of its keys, objects from an offset on.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::RequestPayer;
use bytes::Bytes;

use super::super::access::REGION_DEFAULT;
use super::super::failure::{Failure, RetryBudget, chained, failure_of};
use super::super::usage::Usage;

/// Seconds until S3 has to begin an answer.
const ANSWER_SECS_MAX: u64 = 30;
/// Seconds until a connection has to be there.
const CONNECT_SECS_MAX: u64 = 10;
/// Seconds without a byte, after which a connection counts as broken.
const STALL_SECS_MAX: u64 = 20;

/// A bucket that is read.
#[derive(Debug, Clone)]
pub(in crate::aws) struct Bucket {
    pub(super) client: Client,
    pub(in crate::aws) name: String,
    pub(in crate::aws) region: String,
    pub(super) requester_pays: bool,
    pub(super) usage: Arc<Usage>,
}

/// An object, as it is listed.
#[derive(Debug, Clone)]
pub(in crate::aws) struct Listed {
    pub(in crate::aws) key: String,
    pub(in crate::aws) bytes: u64,
    pub(in crate::aws) e_tag: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Listed>,
    /// Folders, with a delimiter.
    pub(super) folders: Vec<String>,
    pub(super) next: Option<String>,
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask<'a> {
    pub(super) prefix: &'a str,
    pub(super) after: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    /// Only the next level.
    pub(super) level: bool,
    pub(super) keys_max: Option<i32>,
}

impl Bucket {
    /// Finds out where the bucket is.
    pub(super) async fn find(
        sdk: &SdkConfig,
        name: &str,
        requester_pays: bool,
        usage: Arc<Usage>,
    ) -> Self {
        let has_endpoint = sdk.endpoint_url().is_some()
            || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
        let region = sdk.region().map_or(REGION_DEFAULT, |region| region.as_ref()).to_owned();
        let bucket = |region: &str| Self {
            client: client(sdk, region, has_endpoint),
            name: name.to_owned(),
            region: region.to_owned(),
            requester_pays,
            usage: Arc::clone(&usage),
        };
        let here = bucket(&region);
        // Whoever gives an endpoint has said where the bucket is.
        if has_endpoint {
            return here;
        }
        // Also a redirect (301) and a refusal (403) say it (S3 API reference, HeadBucket).
        usage.get();
        let there = match here.client.head_bucket().bucket(name).send().await {
            Ok(head) => head.bucket_region,
            Err(error) => error.raw_response().and_then(|response| {
                response.headers().get("x-amz-bucket-region").map(str::to_owned)
            }),
        };
        match there {
            Some(there) if there != region => bucket(&there),
            _ => here,
        }
    }

    fn payer(&self) -> Option<RequestPayer> {
        self.requester_pays.then_some(RequestPayer::Requester)
    }

    /// One page, asked for again while that may help.
    pub(super) async fn list(&self, ask: Ask<'_>) -> Result<Page, Failure> {
        let mut budget = RetryBudget::new();
        loop {
            self.usage.list();
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.name)
                .prefix(ask.prefix)
                .set_start_after(ask.after.map(str::to_owned))
                .set_continuation_token(ask.token.map(str::to_owned))
                .set_delimiter(ask.level.then(|| "/".to_owned()))
                .set_max_keys(ask.keys_max)
                .set_request_payer(self.payer());
            let error = match request.send().await {
                Ok(reply) => {
                    let objects = reply.contents.unwrap_or_default().into_iter();
                    let folders = reply.common_prefixes.unwrap_or_default().into_iter();
                    let listed = |object: aws_sdk_s3::types::Object| {
                        Some(Listed {
                            key: object.key?,
                            bytes: object.size.and_then(|size| u64::try_from(size).ok())?,
                            e_tag: object.e_tag,
                        })
                    };
                    let is_cut = reply.is_truncated.unwrap_or(false);
                    return Ok(Page {
                        objects: objects.filter_map(listed).collect(),
                        folders: folders.filter_map(|folder| folder.prefix).collect(),
                        next: reply.next_continuation_token.filter(|_| is_cut),
                    });
                }
                Err(error) => failure_of(&error),
            };
            let is_final = matches!(error, Failure::Refused(_)) || error.is_about_credentials();
            if is_final || !budget.wait().await {
                return Err(error.on("cannot be listed"));
            }
        }
    }

    /// Begins to fetch an object.
    pub(super) fn download<'a>(&'a self, key: &'a str) -> Download<'a> {
        Download {
            bucket: self,
            key,
            offset: 0,
            total: None,
            e_tag: None,
            body: None,
            unwanted: 0,
            budget: RetryBudget::new(),
        }
    }
}

fn client(sdk: &SdkConfig, region: &str, path_style: bool) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
        .read_timeout(Duration::from_secs(ANSWER_SECS_MAX))
        .build();
    // Tries are counted, priced and spaced here, not in the SDK.
    let config = aws_sdk_s3::config::Builder::from(sdk)
        .region(Region::new(region.to_owned()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(path_style)
        .build();
    Client::from_conf(config)
}

/// An object on its way. A connection that breaks costs what was in it, not what had come.
pub(super) struct Download<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    /// Bytes that have been handed on.
    offset: u64,
    total: Option<u64>,
    /// Of the object that was begun with.
    e_tag: Option<String>,
    body: Option<ByteStream>,
    /// Bytes at the beginning of the body that had come before.
    unwanted: u64,
    budget: RetryBudget,
}

impl Download<'_> {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// It is refused, another object stands there now, or it could not be had for too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let failure = match self.try_next().await {
                Ok(piece) => {
                    self.budget.reset();
                    return Ok(piece);
                }
                Err(failure) => failure,
            };
            self.body = None;
            let is_final = !matches!(failure, Failure::Again { .. });
            if is_final || failure.is_about_credentials() || !self.budget.wait().await {
                return Err(failure);
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>, Failure> {
        let again = |reason: String| Failure::Again { code: None, reason };
        loop {
            if self.body.is_none() {
                if self.total == Some(self.offset) {
                    return Ok(None);
                }
                self.open().await?;
            }
            let Some(body) = &mut self.body else { continue };
            let wait = Duration::from_secs(STALL_SECS_MAX);
            let piece = match tokio::time::timeout(wait, body.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => {
                    return Err(again(format!("the connection broke: {}", chained(&error))));
                }
                Ok(None) => {
                    return match self.total {
                        Some(total) if self.offset < total => {
                            Err(again("the connection ended early".to_owned()))
                        }
                        _ => Ok(None),
                    };
                }
                Err(_) => return Err(again(format!("nothing came for {STALL_SECS_MAX} seconds"))),
            };
            self.bucket.usage.came(piece.len());
            let skip = self.unwanted.min(piece.len() as u64);
            self.unwanted -= skip;
            let piece = piece.slice(usize::try_from(skip).unwrap_or(piece.len())..);
            if !piece.is_empty() {
                self.offset += piece.len() as u64;
                return Ok(Some(piece));
            }
        }
    }

    async fn open(&mut self) -> Result<(), Failure> {
        self.bucket.usage.get();
        let from = self.offset;
        let request = self
            .bucket
            .client
            .get_object()
            .bucket(&self.bucket.name)
            .key(self.key)
            .set_range((from > 0).then(|| format!("bytes={from}-")))
            .set_if_match(self.e_tag.clone())
            .set_request_payer(self.bucket.payer());
        let reply = request.send().await.map_err(|error| failure_of(&error))?;
        let length = reply.content_length.and_then(|length| u64::try_from(length).ok());
        // Who does not know ranges gives all of it.
        let is_part = reply.content_range.is_some();
        self.unwanted = if is_part { 0 } else { from };
        if from == 0 {
            self.total = length;
            self.e_tag = reply.e_tag;
        } else if self.e_tag.is_some() && reply.e_tag.is_some() && reply.e_tag != self.e_tag {
            return Err(Failure::Changed);
        }
        self.body = Some(reply.body);
        Ok(())
    }
}
