//! Makes calls: finds endpoint and credentials, signs, sends, reads the answer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use tokio::sync::Mutex;
use url::Url;

use crate::http::{self, Answer, NoAnswer};
use crate::partition::{Partition, region_fault};
use crate::{Advice, AwsAccess, Call, CallError, sign};

/// Bytes of an answer, unless the caller needs more: a key's policy has 32 KiB, an answer about a
/// hundred findings less than 128.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Seconds before they expire that credentials are no longer used.
const EXPIRY_MARGIN_SECS: u64 = 120;
/// The session name of a role that is assumed: CloudTrail shows it.
const SESSION_NAME: &str = "rootwatch";

/// A role to assume.
#[derive(Debug, Clone)]
struct Role {
    arn: String,
    external_id: Option<String>,
}

/// Makes calls in one region with one set of credentials. Clones share the credentials.
///
/// The endpoint is the one given to [`Caller::with_endpoint`], else `AWS_ENDPOINT_URL_<SERVICE>`, else
/// the SDK's (`AWS_ENDPOINT_URL`, the profile), else the service's host in the region's partition. It
/// may have a private address: an interface endpoint in a VPC has one. The host is made from a
/// region that was checked, and has to prove its name by TLS.
#[derive(Clone)]
pub struct Caller {
    access: AwsAccess,
    region: Option<String>,
    endpoint: Option<Url>,
    role: Option<Role>,
    answer_bytes_max: usize,
    /// From the role, or from the provider chain, until they expire.
    credentials: Arc<Mutex<Option<Credentials>>>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint.as_ref().map(Url::as_str))
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Caller {
    /// Calls with the credentials, the region and the endpoints that `access` finds.
    #[must_use]
    pub fn new(access: AwsAccess) -> Self {
        Self {
            access,
            region: None,
            endpoint: None,
            role: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
            credentials: Arc::default(),
        }
    }

    /// The same in this region; it keeps the credentials.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self { region: Some(region.to_owned()), ..self.clone() }
    }

    /// The same at this endpoint.
    #[must_use]
    pub fn with_endpoint(self, endpoint: Url) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// The same with the credentials of a role.
    #[must_use]
    pub fn as_role(&self, arn: &str, external_id: Option<&str>) -> Self {
        let role = Role { arn: arn.to_owned(), external_id: external_id.map(str::to_owned) };
        Self { role: Some(role), credentials: Arc::default(), ..self.clone() }
    }

    /// The same for answers of up to this many bytes.
    #[must_use]
    pub fn with_answer_bytes_max(self, answer_bytes_max: usize) -> Self {
        Self { answer_bytes_max, ..self }
    }

    /// The region in which calls are made.
    ///
    /// # Errors
    /// None is set, or it is not a region's name.
    pub async fn region(&self) -> Result<String, CallError> {
        let region = match &self.region {
            Some(region) => region.clone(),
            None => {
                let found = self.access.sdk().await.region().map(ToString::to_string);
                found.ok_or_else(|| {
                    let unset = "no AWS region is set: set `region`, or AWS_REGION";
                    CallError::new(Advice::FixConfiguration, unset)
                })?
            }
        };
        match region_fault(&region) {
            None => Ok(region),
            Some(fault) => Err(CallError::new(Advice::FixConfiguration, fault)),
        }
    }

    /// One signed call. If AWS answers that the credentials have expired, it is made once more with
    /// new ones.
    ///
    /// # Errors
    /// Without an answer, or after one with a status other than 200 to 299.
    pub async fn call(&self, call: &Call, now: Timestamp) -> Result<Answer, CallError> {
        match self.call_once(call, now).await {
            Err(error) if error.advice == Advice::RenewCredentials => {
                self.call_once(call, now).await
            }
            answered => answered,
        }
    }

    /// One signed call, for callers that may not exceed a rate: after an answer that the credentials
    /// have expired, the next call gets new ones.
    ///
    /// # Errors
    /// As for [`Caller::call`].
    pub async fn call_once(&self, call: &Call, now: Timestamp) -> Result<Answer, CallError> {
        let answered = self.attempt(call, now).await;
        if answered.as_ref().is_err_and(|error| error.advice == Advice::RenewCredentials) {
            *self.credentials.lock().await = None;
        }
        answered
    }

    async fn attempt(&self, call: &Call, now: Timestamp) -> Result<Answer, CallError> {
        let misconfigured = |message: String| CallError::new(Advice::FixConfiguration, message);
        let region = self.region().await?;
        let url = self.url(call, &region).await?;
        let credentials = self.credentials(&region).await?;
        let headers = sign::headers(call, &url, &region, &credentials, SystemTime::now())
            .map_err(misconfigured)?;
        let http = self.access.http().map_err(misconfigured)?;
        let mut request = http
            .request(call.method.clone(), url)
            .header(CONTENT_TYPE, call.content_type)
            .body(call.body.clone());
        for (name, value) in headers {
            let header = HeaderName::from_bytes(name.as_bytes()).ok();
            let Some((header, value)) = header.zip(HeaderValue::from_str(&value).ok()) else {
                let message =
                    format!("the header {name} would hold a character that is not allowed");
                return Err(CallError::new(Advice::GiveUp, message));
            };
            request = request.header(header, value);
        }
        let answer = match http::send(request, self.answer_bytes_max).await {
            Ok(answer) => answer,
            Err(NoAnswer::Connection(message)) => {
                return Err(CallError::new(Advice::Retry, message));
            }
            Err(NoAnswer::TooLarge(bytes_max)) => {
                let message = format!("the answer has more than {bytes_max} bytes");
                return Err(CallError::new(Advice::Retry, message));
            }
        };
        let is_success = (200..300).contains(&answer.status);
        if is_success { Ok(answer) } else { Err(CallError::of_answer(&answer, now)) }
    }

    /// Where a call goes.
    ///
    /// # Errors
    /// The endpoint that is configured is not a URL.
    pub async fn url(&self, call: &Call, region: &str) -> Result<Url, CallError> {
        let misconfigured = |message: String| CallError::new(Advice::FixConfiguration, message);
        let given = match &self.endpoint {
            Some(url) => Some(url.to_string()),
            None => match std::env::var(call.service.variable).ok().filter(|url| !url.is_empty()) {
                Some(url) => Some(url),
                None => self.access.sdk().await.endpoint_url().map(str::to_owned),
            },
        };
        let base = given.unwrap_or_else(|| {
            let domain = Partition::of_region(region).domain;
            format!("https://{}.{region}.{domain}", call.service.host)
        });
        let text = format!("{}{}", base.trim_end_matches('/'), call.path);
        let url = Url::parse(&text)
            .map_err(|error| misconfigured(format!("the AWS endpoint is not a URL: {error}")))?;
        if matches!(url.scheme(), "http" | "https") {
            Ok(url)
        } else {
            Err(misconfigured("the AWS endpoint is neither https nor http".to_owned()))
        }
    }

    async fn credentials(&self, region: &str) -> Result<Credentials, CallError> {
        let mut kept = self.credentials.lock().await;
        let margin = Duration::from_secs(EXPIRY_MARGIN_SECS);
        let is_fresh = |credentials: &Credentials| {
            credentials.expiry().is_none_or(|end| end > SystemTime::now() + margin)
        };
        if let Some(credentials) = kept.as_ref().filter(|kept| is_fresh(kept)) {
            return Ok(credentials.clone());
        }
        let sdk = self.access.sdk().await;
        let provider = match &self.role {
            Some(Role { arn, external_id }) => {
                let mut role = AssumeRoleProvider::builder(arn)
                    .session_name(SESSION_NAME)
                    .region(Region::new(region.to_owned()))
                    .configure(sdk);
                if let Some(id) = external_id {
                    role = role.external_id(id);
                }
                SharedCredentialsProvider::new(role.build().await)
            }
            None => sdk.credentials_provider().ok_or_else(|| {
                CallError::new(Advice::FixConfiguration, "no AWS credentials are set")
            })?,
        };
        // A provider that had credentials before is only out of reach now.
        let had_credentials = kept.is_some();
        let role = self.role.as_ref().map(|role| role.arn.as_str());
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| CallError::of_credentials(&error, role, had_credentials))?;
        *kept = Some(credentials.clone());
        Ok(credentials)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use aws_config::{BehaviorVersion, SdkConfig};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::Service;

    fn caller() -> Caller {
        Caller::new(AwsAccess::of(SdkConfig::builder().build()))
    }

    /// Gives these answers, one for each request, and keeps the requests.
    async fn server(answers: &[(u16, &str, String)]) -> (Caller, Arc<StdMutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let (answers, requests) = (answers.to_vec(), Arc::new(StdMutex::new(Vec::new())));
        let kept = Arc::clone(&requests);
        let answers: Vec<String> = answers
            .into_iter()
            .map(|(status, headers, body)| {
                let length = body.len();
                format!(
                    "HTTP/1.1 {status} Any\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                )
            })
            .collect();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = vec![0; 8 << 10];
                let read = stream.read(&mut request).await.expect("a request");
                kept.lock()
                    .expect("kept")
                    .push(String::from_utf8_lossy(&request[..read]).into_owned());
                // A client that has read enough may have gone.
                let _sent = stream.write_all(answer.as_bytes()).await;
            }
        });
        let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", "example", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build();
        (Caller::new(AwsAccess::of(sdk)), requests)
    }

    fn json(status: u16, code: &str) -> (u16, &'static str, String) {
        (status, "", format!("{{\"__type\":\"{code}\"}}"))
    }

    #[tokio::test]
    async fn expired_credentials_are_renewed_once_and_only_where_the_rate_allows_it() {
        let call = Call::json(Service::KMS, "TrentService.DescribeKey", b"{}".to_vec());
        let now = Timestamp::UNIX_EPOCH;
        let expired = json(400, "ExpiredTokenException");
        let (caller, requests) = server(&[expired.clone(), json(200, "ok")]).await;
        assert_eq!(caller.call(&call, now).await.map(|answer| answer.status), Ok(200));
        let all = requests.lock().expect("kept").clone();
        assert_eq!(all.len(), 2);
        for request in all {
            let request = request.to_lowercase();
            assert!(
                request
                    .contains("authorization: aws4-hmac-sha256 credential=akiaiosfodnn7example/")
            );
            assert!(request.contains("/eu-west-1/kms/aws4_request"), "{request}");
            assert!(request.contains("x-amz-target: trentservice.describekey"), "{request}");
        }

        let (caller, requests) = server(&[expired.clone(), expired.clone(), expired]).await;
        let error = caller.call(&call, now).await.map(|answer| answer.status).expect_err("expired");
        assert_eq!(error.advice, Advice::RenewCredentials);
        assert_eq!(requests.lock().expect("kept").len(), 2);
        let error = caller.call_once(&call, now).await.map(|answer| answer.status);
        assert_eq!(error.expect_err("expired").advice, Advice::RenewCredentials);
        assert_eq!(requests.lock().expect("kept").len(), 3);
    }

    #[tokio::test]
    async fn a_large_answer_is_an_error_and_a_large_error_keeps_its_meaning() {
        let call = Call::json(Service::KMS, "TrentService.DescribeKey", b"{}".to_vec());
        let page = "x".repeat(2_000);
        let answers =
            [(200, "", page.clone()), (503, "retry-after: 17\r\n", page.clone()), (404, "", page)];
        let (caller, _) = server(&answers).await;
        let caller = caller.with_answer_bytes_max(1_000);
        let mut seen = Vec::new();
        for _ in answers {
            let error = caller.call(&call, Timestamp::UNIX_EPOCH).await.expect_err("too large");
            assert!(error.message.len() < 300, "{error}");
            seen.push((error.advice, error.retry_after.map(|pause| pause.as_secs())));
        }
        let expected = [(Advice::Retry, None), (Advice::Retry, Some(17)), (Advice::GiveUp, None)];
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn without_a_region_nothing_is_sent() {
        let call = Call::json(Service::KMS, "TrentService.DescribeKey", Vec::new());
        for (caller, says) in [
            (caller(), "no AWS region is set"),
            (caller().in_region("evil.test/"), "not an AWS region"),
        ] {
            let error = caller.call(&call, Timestamp::UNIX_EPOCH).await.expect_err("no region");
            assert_eq!(error.advice, Advice::FixConfiguration);
            assert!(error.message.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn each_partition_has_its_own_hosts() {
        let call = Call::json(Service::SES, "a", Vec::new());
        for (region, host) in [
            ("eu-west-1", "https://email.eu-west-1.amazonaws.com/"),
            ("us-gov-west-1", "https://email.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", "https://email.cn-north-1.amazonaws.com.cn/"),
            ("eusc-de-east-1", "https://email.eusc-de-east-1.amazonaws.eu/"),
            ("us-iso-east-1", "https://email.us-iso-east-1.c2s.ic.gov/"),
            ("us-isob-east-1", "https://email.us-isob-east-1.sc2s.sgov.gov/"),
            ("eu-isoe-west-1", "https://email.eu-isoe-west-1.cloud.adc-e.uk/"),
            ("us-isof-south-1", "https://email.us-isof-south-1.csp.hci.ic.gov/"),
        ] {
            let url = caller().url(&call, region).await.expect("a URL");
            assert_eq!(url.as_str(), host);
        }
    }

    #[tokio::test]
    async fn a_configured_endpoint_replaces_the_host() {
        let call = Call::json(Service::SES, "a", Vec::new());
        let own = Url::parse("http://10.0.0.7:8080/").expect("a URL");
        let url = caller().with_endpoint(own).url(&call, "eu-west-1").await.expect("a URL");
        assert_eq!(url.as_str(), "http://10.0.0.7:8080/");
    }
}
