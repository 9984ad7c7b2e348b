//! The calls of one bucket: its region, pages of its keys, objects from an offset on.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::RequestPayer;
use bytes::Bytes;

use super::super::access::REGION_DEFAULT;
use super::super::failure::{Failure, RetryBudget, chained, failure_of};
use super::super::usage::Usage;

/// Seconds until S3 must begin an answer.
const ANSWER_SECS_MAX: u64 = 30;
/// Seconds until a connection must be established.
const CONNECT_SECS_MAX: u64 = 10;
/// Seconds without a byte, after which a connection counts as broken.
const STALL_SECS_MAX: u64 = 20;

/// A bucket to read.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(super) client: Client,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(super) requester_pays: bool,
    pub(super) usage: Arc<Usage>,
}

/// An object in a listing.
#[derive(Debug, Clone)]
pub(crate) struct ListedObject {
    pub(crate) key: String,
    pub(crate) bytes: u64,
    pub(crate) e_tag: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<ListedObject>,
    /// Folders, with a delimiter.
    pub(super) folders: Vec<String>,
    pub(super) next: Option<String>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default)]
pub(super) struct ListRequest<'a> {
    pub(super) prefix: &'a str,
    pub(super) after: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    /// Only the next level.
    pub(super) level: bool,
    pub(super) keys_max: Option<i32>,
}

impl Bucket {
    /// Finds out the bucket's region.
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
        // A custom endpoint already determines where the bucket is.
        if has_endpoint {
            return here;
        }
        // A redirect (301) and a refusal (403) name the region, too (S3 API reference, HeadBucket).
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

    /// One page; retries temporary failures.
    pub(super) async fn list(&self, wanted: ListRequest<'_>) -> Result<Page, Failure> {
        let mut budget = RetryBudget::new();
        loop {
            self.usage.list();
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.name)
                .prefix(wanted.prefix)
                .set_start_after(wanted.after.map(str::to_owned))
                .set_continuation_token(wanted.token.map(str::to_owned))
                .set_delimiter(wanted.level.then(|| "/".to_owned()))
                .set_max_keys(wanted.keys_max)
                .set_request_payer(self.payer());
            let error = match request.send().await {
                Ok(reply) => {
                    return page(reply).ok_or_else(|| {
                        let reason =
                            "S3's answer has no key, size or continuation token".to_owned();
                        Failure::Refused(reason).on("cannot be listed")
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

/// A page as it was answered. `None` if a part is missing without which objects would be lost.
fn page(reply: ListObjectsV2Output) -> Option<Page> {
    let listed = |object: aws_sdk_s3::types::Object| {
        Some(ListedObject {
            key: object.key?,
            bytes: object.size.and_then(|size| u64::try_from(size).ok())?,
            e_tag: object.e_tag,
        })
    };
    let objects = reply.contents.unwrap_or_default().into_iter();
    let folders = reply.common_prefixes.unwrap_or_default().into_iter();
    let is_cut = reply.is_truncated.unwrap_or(reply.next_continuation_token.is_some());
    Some(Page {
        objects: objects.map(listed).collect::<Option<_>>()?,
        folders: folders.map(|folder| folder.prefix).collect::<Option<_>>()?,
        next: if is_cut { Some(reply.next_continuation_token?) } else { None },
    })
}

fn client(sdk: &SdkConfig, region: &str, path_style: bool) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
        .read_timeout(Duration::from_secs(ANSWER_SECS_MAX))
        .build();
    // Retries are counted, priced and delayed here, not in the SDK.
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

/// An object that is being fetched. After a broken connection, the download resumes at its byte.
pub(super) struct Download<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    /// Bytes that have been returned.
    offset: u64,
    total: Option<u64>,
    /// ETag of the object when the download began.
    e_tag: Option<String>,
    body: Option<ByteStream>,
    /// Bytes at the beginning of the body that were returned before.
    unwanted: u64,
    budget: RetryBudget,
}

impl Download<'_> {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// S3 refuses it, the object has changed, or retries have run out.
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
            self.bucket.usage.received(piece.len());
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
        // A server without ranges sends the whole object.
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

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::Object;

    use super::*;

    #[test]
    fn a_page_that_ends_without_a_token_is_refused_instead_of_taken_for_the_last() {
        let reply = || {
            let object = Object::builder().key("AWSLogs/a").size(7).build();
            ListObjectsV2Output::builder().contents(object)
        };
        let last = page(reply().is_truncated(false).build()).expect("a page");
        assert_eq!((last.objects.len(), last.next), (1, None));
        let next = page(reply().is_truncated(true).next_continuation_token("t").build());
        assert_eq!(next.expect("a page").next.as_deref(), Some("t"));
        assert!(page(reply().is_truncated(true).build()).is_none());
        assert!(page(reply().contents(Object::builder().size(7).build()).build()).is_none());
    }
}
