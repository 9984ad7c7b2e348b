//! Calls of AWS services, signed, without their SDKs: one client and one way of failing for all
//! channels that tell people by AWS.
//!
//! Credentials and the region are those that every AWS program finds (environment, profile, the role
//! of the container or of the instance); a destination may name a role to assume and a region of its
//! own. Where a service is comes from its region, unless `endpoint_url` of the destination or
//! `AWS_ENDPOINT_URL_<SERVICE>` or `AWS_ENDPOINT_URL` say otherwise, as for AWS's own tools.
//!
//! A host of AWS may have a private address: that is what an interface endpoint in a VPC gives it.
//! So these requests do not pass the guard of [`crate::guard`]; the host is made from a region that
//! was looked at, and must prove its name by TLS.

mod failure;
pub(crate) mod query;
mod sign;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

pub(crate) use self::failure::{Failed, element};
use crate::Sent;
use crate::http::{Answer, Http, parse_url};

/// Bytes of an answer that are read: a key's policy has 32 KiB, an answer about a hundred findings
/// less than 128.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Seconds before they end that credentials are no longer used.
const EXPIRY_MARGIN_SECS: u64 = 120;
/// Bytes of a region's name.
const REGION_BYTES_MAX: usize = 32;
/// Bytes of the ARN of a role.
const ROLE_BYTES_MAX: usize = 2_048;
/// The name of our sessions of an assumed role: what CloudTrail shows.
const SESSION_NAME: &str = "rootwatch";

/// The domains of AWS's partitions, by how a region begins.
const DOMAINS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
];

/// What AWS's own tools find: credentials, region, endpoint. Looked for once, when it is needed
/// first, for all destinations together.
#[derive(Debug, Clone, Default)]
pub struct AwsAccess(Arc<OnceCell<SdkConfig>>);

impl AwsAccess {
    /// What was found elsewhere. A clock and a way to wait are added where there are none, without
    /// which no role can be assumed.
    #[must_use]
    pub fn of(sdk: SdkConfig) -> Self {
        let (has_time, has_sleep) = (sdk.time_source().is_some(), sdk.sleep_impl().is_some());
        let mut sdk = sdk.into_builder();
        if !has_time {
            sdk.set_time_source(Some(SharedTimeSource::new(SystemTimeSource::new())));
        }
        if !has_sleep {
            sdk.set_sleep_impl(Some(SharedAsyncSleep::new(TokioSleep::new())));
        }
        let sdk = sdk.build();
        Self(Arc::new(OnceCell::new_with(Some(sdk))))
    }

    async fn sdk(&self) -> &SdkConfig {
        self.0
            .get_or_init(|| async {
                let tls = Provider::Rustls(CryptoMode::Ring);
                let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
                aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await
            })
            .await
    }
}

/// A service of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Service {
    /// The name in signatures.
    pub(crate) name: &'static str,
    /// How its host begins.
    pub(crate) host: &'static str,
    /// The variable that says where it is instead.
    pub(crate) variable: &'static str,
}

impl Service {
    const fn new(name: &'static str, host: &'static str, variable: &'static str) -> Self {
        Self { name, host, variable }
    }

    pub(crate) const EVENT_BRIDGE: Self =
        Self::new("events", "events", "AWS_ENDPOINT_URL_EVENTBRIDGE");
    pub(crate) const KMS: Self = Self::new("kms", "kms", "AWS_ENDPOINT_URL_KMS");
    pub(crate) const S3: Self = Self::new("s3", "s3", "AWS_ENDPOINT_URL_S3");
    pub(crate) const SECURITY_HUB: Self =
        Self::new("securityhub", "securityhub", "AWS_ENDPOINT_URL_SECURITYHUB");
    #[allow(dead_code, reason = "the channel for mail by SES uses it")]
    pub(crate) const SES: Self = Self::new("ses", "email", "AWS_ENDPOINT_URL_SESV2");
    pub(crate) const SNS: Self = Self::new("sns", "sns", "AWS_ENDPOINT_URL_SNS");
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) service: Service,
    pub(crate) method: Method,
    /// What stands before the service's host, with its dot: a bucket. Left out where an endpoint is
    /// given.
    pub(crate) before_host: String,
    /// Path and query, percent-encoded.
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    /// More headers: lower case, each signed.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// A call of the JSON protocols: `AWSEvents.PutEvents`.
    pub(crate) fn json(service: Service, target: &str, body: Vec<u8>) -> Self {
        Self {
            content_type: "application/x-amz-json-1.1",
            headers: vec![("x-amz-target", target.to_owned())],
            ..Self::rest(service, Method::POST, "/", body)
        }
    }

    /// A call of the REST protocol with a body in JSON: `POST /v2/email/outbound-emails`.
    pub(crate) fn rest(service: Service, method: Method, path: &str, body: Vec<u8>) -> Self {
        Self {
            service,
            method,
            before_host: String::new(),
            path: path.to_owned(),
            content_type: "application/json",
            headers: Vec::new(),
            body,
        }
    }

    /// A call of the query protocol: a form with the action and its version.
    pub(crate) fn query(service: Service, body: Vec<u8>) -> Self {
        Self {
            content_type: "application/x-www-form-urlencoded",
            ..Self::rest(service, Method::POST, "/", body)
        }
    }
}

/// How a destination reaches AWS: its own choice of region, endpoint and role.
#[derive(Clone)]
pub(crate) struct Aws {
    http: Http,
    access: AwsAccess,
    region: Option<String>,
    endpoint: Option<Url>,
    role: Option<String>,
    /// What the role gave, or the chain, until it ends.
    credentials: Arc<Mutex<Option<Credentials>>>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint.as_ref().map(Url::as_str))
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Aws {
    /// # Errors
    /// As for [`problems`], which every channel asks for offline.
    pub(crate) fn new(
        access: AwsAccess,
        region: Option<&str>,
        endpoint_url: Option<&str>,
        role: Option<&str>,
    ) -> Result<Self, Vec<(&'static str, String)>> {
        let faults = problems(region, endpoint_url, role);
        if !faults.is_empty() {
            return Err(faults);
        }
        let fault = |error| vec![("endpoint_url", error)];
        Ok(Self {
            http: Http::new(true).map_err(fault)?,
            access,
            region: region.map(str::to_owned),
            endpoint: endpoint_url.map(|url| parse_url(url, true)).transpose().map_err(fault)?,
            role: role.map(str::to_owned),
            credentials: Arc::default(),
        })
    }

    /// The same with the credentials of another role.
    pub(crate) fn as_role(&self, role: &str) -> Self {
        Self { role: Some(role.to_owned()), credentials: Arc::default(), ..self.clone() }
    }

    /// The region in which calls are made.
    ///
    /// # Errors
    /// There is none, or it is none.
    pub(crate) async fn region(&self) -> Result<String, Failed> {
        if let Some(region) = &self.region {
            return Ok(region.clone());
        }
        let misconfigured = |error: String| Failed::of(Sent::Misconfigured { error });
        let region =
            self.access.sdk().await.region().map(ToString::to_string).ok_or_else(|| {
                misconfigured("no AWS region is set: set `region`, or AWS_REGION".to_owned())
            })?;
        region_fault(&region).map_or(Ok(region), |fault| Err(misconfigured(fault)))
    }

    /// One signed call. When AWS says that the credentials ended, it is made once more with new
    /// ones.
    ///
    /// # Errors
    /// Every answer but 200 to 299, and none.
    pub(crate) async fn call(&self, call: &Call, now: Timestamp) -> Result<Answer, Failed> {
        let first = self.attempt(call, now).await;
        match &first {
            Err(failed) if failed.is_about_expiry() => {
                *self.credentials.lock().await = None;
                self.attempt(call, now).await
            }
            _ => first,
        }
    }

    async fn attempt(&self, call: &Call, now: Timestamp) -> Result<Answer, Failed> {
        let region = self.region().await?;
        let url = self.url(call, &region).await?;
        let credentials = self.credentials(&region).await?;
        let headers = sign::headers(call, &url, &region, &credentials, SystemTime::now())
            .map_err(|error| Failed::of(Sent::Misconfigured { error }))?;
        let mut all = vec![(CONTENT_TYPE, call.content_type.to_owned())];
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| {
                Failed::of(Sent::Rejected { error: format!("a header of AWS's: {error}") })
            })?;
            all.push((name, value));
        }
        let answer = self
            .http
            .ask(call.method.clone(), &url, all, call.body.clone(), ANSWER_BYTES_MAX)
            .await
            .map_err(Failed::of)?;
        if answer.status.is_success() { Ok(answer) } else { Err(Failed::read(&answer, now)) }
    }

    async fn url(&self, call: &Call, region: &str) -> Result<Url, Failed> {
        let misconfigured = |error: String| Failed::of(Sent::Misconfigured { error });
        let given = match &self.endpoint {
            Some(url) => Some(url.to_string()),
            None => match std::env::var(call.service.variable).ok().filter(|url| !url.is_empty()) {
                Some(url) => Some(url),
                None => self.access.sdk().await.endpoint_url().map(str::to_owned),
            },
        };
        let base = given.unwrap_or_else(|| {
            let domain = DOMAINS.iter().find(|(begins, _)| region.starts_with(begins));
            let domain = domain.map_or("amazonaws.com", |(_, domain)| domain);
            format!("https://{}{}.{region}.{domain}", call.before_host, call.service.host)
        });
        let text = format!("{}{}", base.trim_end_matches('/'), call.path);
        let url = Url::parse(&text)
            .map_err(|error| misconfigured(format!("the endpoint of AWS is no URL: {error}")))?;
        if matches!(url.scheme(), "http" | "https") {
            Ok(url)
        } else {
            Err(misconfigured("the endpoint of AWS is neither https nor http".to_owned()))
        }
    }

    async fn credentials(&self, region: &str) -> Result<Credentials, Failed> {
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
            Some(role) => SharedCredentialsProvider::new(
                AssumeRoleProvider::builder(role)
                    .session_name(SESSION_NAME)
                    .region(Region::new(region.to_owned()))
                    .configure(sdk)
                    .build()
                    .await,
            ),
            None => sdk.credentials_provider().ok_or_else(|| {
                let error = "no AWS credentials are set".to_owned();
                Failed::of(Sent::Misconfigured { error })
            })?,
        };
        // What was there once is there again, once whoever gives it answers.
        let was_there = kept.is_some();
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| Failed::of_credentials(&error, self.role.as_deref(), was_there))?;
        *kept = Some(credentials.clone());
        Ok(credentials)
    }
}

/// Faults of the keys that all channels of AWS have, found offline.
pub(crate) fn problems(
    region: Option<&str>,
    endpoint_url: Option<&str>,
    role: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    faults.extend(region.and_then(region_fault).map(|fault| ("region", fault)));
    faults.extend(
        endpoint_url.and_then(|url| parse_url(url, true).err()).map(|e| ("endpoint_url", e)),
    );
    faults.extend(role.and_then(role_fault).map(|fault| ("role", fault)));
    faults
}

/// What is wrong with a region; it becomes a part of a host's name.
pub(crate) fn region_fault(region: &str) -> Option<String> {
    let is_right = region.len() <= REGION_BYTES_MAX
        && region.starts_with(|letter: char| letter.is_ascii_lowercase())
        && region.ends_with(|letter: char| letter.is_ascii_digit())
        && region.contains('-')
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (!is_right).then(|| "this is no region of AWS: it looks like `eu-west-1`".to_owned())
}

pub(crate) fn role_fault(role: &str) -> Option<String> {
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let is_right = role.len() <= ROLE_BYTES_MAX
        && matches!(parts[..], ["arn", partition, "iam", "", account, name]
            if partition.starts_with("aws") && is_account(account) && name.len() > 5 && name.starts_with("role/"));
    (!is_right)
        .then(|| "this is no role: it looks like `arn:aws:iam::123456789012:role/name`".to_owned())
}

/// True for the id of an account.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The parts of an ARN of a service: partition, region, account and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) partition: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) rest: &'a str,
}

impl<'a> Arn<'a> {
    /// The ARN, if it is one of this service.
    pub(crate) fn of(service: &str, text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, name, region, account, rest] = parts[..] else { return None };
        let is_right = partition.starts_with("aws") && name == service && !rest.is_empty();
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        (is_right && is_printable).then_some(Self { partition, region, account, rest })
    }
}

/// The partition of a region, as ARNs write it.
pub(crate) fn partition(region: &str) -> &'static str {
    [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
        ("eu-isoe-", "aws-iso-e"),
        ("eusc-", "aws-eusc"),
    ]
    .into_iter()
    .find(|(begins, _)| region.starts_with(begins))
    .map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(region: &str, endpoint: Option<&str>) -> Aws {
        let access = AwsAccess::of(SdkConfig::builder().build());
        Aws::new(access, Some(region), endpoint, None).expect("made")
    }

    #[tokio::test]
    async fn a_service_is_where_its_region_says_or_the_endpoint() {
        let call = Call::json(Service::SES, "a", Vec::new());
        for (region, host) in [
            ("eu-west-1", "https://email.eu-west-1.amazonaws.com/"),
            ("us-gov-west-1", "https://email.us-gov-west-1.amazonaws.com/"),
            ("cn-north-1", "https://email.cn-north-1.amazonaws.com.cn/"),
            ("eusc-de-east-1", "https://email.eusc-de-east-1.amazonaws.eu/"),
        ] {
            let url = aws(region, None).url(&call, region).await.expect("a URL");
            assert_eq!(url.as_str(), host);
        }
        let own = aws("eu-west-1", Some("http://10.0.0.7:8080/"));
        let url = own.url(&call, "eu-west-1").await.expect("a URL");
        assert_eq!(url.as_str(), "http://10.0.0.7:8080/");
    }

    #[test]
    fn what_would_lead_elsewhere_is_no_region_and_no_role() {
        for region in ["eu-west-1", "us-gov-east-1", "ap-southeast-5", "eusc-de-east-1"] {
            assert_eq!(region_fault(region), None, "{region}");
        }
        for region in
            ["", "evil.test/", "eu-west-1.evil.test", "EU-WEST-1", "-1", "eu west-1", "a1"]
        {
            assert!(region_fault(region).is_some(), "{region}");
        }
        assert_eq!(role_fault("arn:aws:iam::123456789012:role/path/name"), None);
        for role in
            ["role/name", "arn:aws:iam::12345678901:role/a", "arn:aws:iam::123456789012:user/a"]
        {
            assert!(role_fault(role).is_some(), "{role}");
        }
        assert_eq!(partition("us-gov-west-1"), "aws-us-gov");
        assert_eq!(
            Arn::of("sns", "arn:aws:sns:eu-west-1:123456789012:a").map(|a| a.rest),
            Some("a")
        );
        assert_eq!(Arn::of("sns", "arn:aws:sqs:eu-west-1:123456789012:a"), None);
    }
}
