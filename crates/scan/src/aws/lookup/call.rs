//! Three signed calls without an SDK each: who am I, which regions are there, which events.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::Value;
use tokio::sync::Mutex;

use super::regions_of;
use crate::aws::access::REGION_DEFAULT;
use crate::aws::failure::chained;

/// Seconds for one call.
const CALL_SECS_MAX: u64 = 30;
/// Bytes of an answer: fifty events of 256 KiB, and what is around them.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Seconds before they end that credentials are no longer used.
const EXPIRY_MARGIN_SECS: u64 = 120;
/// Bytes of a region's name.
const REGION_BYTES_MAX: usize = 32;

/// The domains of AWS's partitions, by how a region begins.
const DOMAINS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
];

/// What AWS says when it is asked too often, or will answer another time.
const PASSING: [&str; 7] = [
    "InternalFailure",
    "InternalServerError",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];
/// What it says when credentials have ended.
const EXPIRED: [&str; 4] =
    ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"];

/// A service and the variable that says where it is instead.
#[derive(Debug, Clone, Copy)]
struct Service(&'static str, &'static str);

const CLOUD_TRAIL: Service = Service("cloudtrail", "AWS_ENDPOINT_URL_CLOUDTRAIL");
const EC2: Service = Service("ec2", "AWS_ENDPOINT_URL_EC2");
const STS: Service = Service("sts", "AWS_ENDPOINT_URL_STS");

/// A call that was not answered as it should be.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    /// AWS's name for it, or nothing.
    pub(super) code: String,
    pub(super) reason: String,
    /// It may go another time.
    pub(super) is_passing: bool,
}

/// Makes calls with one set of credentials.
pub(super) struct Caller {
    http: reqwest::Client,
    sdk: SdkConfig,
    /// Until they end.
    credentials: Mutex<Option<Credentials>>,
}

impl Caller {
    pub(super) fn new(sdk: SdkConfig) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(CALL_SECS_MAX))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| chained(&error))?;
        Ok(Self { http, sdk, credentials: Mutex::default() })
    }

    fn region(&self) -> String {
        self.sdk.region().map_or(REGION_DEFAULT, |region| region.as_ref()).to_owned()
    }

    /// The account, and the partition that its ARN names.
    pub(super) async fn identity(&self) -> Result<(String, String), Failed> {
        let body = b"Action=GetCallerIdentity&Version=2011-06-15".to_vec();
        let xml = self.form(STS, body).await?;
        let account = elements(&xml, "Account").next().unwrap_or_default().to_owned();
        let arn = elements(&xml, "Arn").next().unwrap_or_default();
        let partition = arn.split(':').nth(1).filter(|name| name.starts_with("aws"));
        Ok((account, partition.unwrap_or("aws").to_owned()))
    }

    /// The regions that are enabled. EC2 is asked, not the account API: `ec2:DescribeRegions` is part
    /// of every read-only policy, and answers in each partition.
    pub(super) async fn regions(&self) -> Result<Vec<String>, Failed> {
        let body = b"Action=DescribeRegions&Version=2016-11-15".to_vec();
        let regions = regions_of(&self.form(EC2, body).await?);
        if regions.is_empty() {
            let reason = "EC2 names no region".to_owned();
            return Err(Failed { code: String::new(), reason, is_passing: false });
        }
        Ok(regions)
    }

    async fn form(&self, service: Service, body: Vec<u8>) -> Result<String, Failed> {
        let kind = "application/x-www-form-urlencoded";
        let body = self.call(service, &self.region(), kind, None, body).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// One page of events.
    pub(super) async fn lookup(&self, region: &str, ask: &Value) -> Result<Vec<u8>, Failed> {
        let target = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents";
        let kind = "application/x-amz-json-1.1";
        self.call(CLOUD_TRAIL, region, kind, Some(target), ask.to_string().into_bytes()).await
    }

    async fn call(
        &self,
        service: Service,
        region: &str,
        kind: &str,
        target: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Failed> {
        let broken =
            |reason: String, is_passing: bool| Failed { code: String::new(), reason, is_passing };
        if !is_region(region) {
            return Err(broken(format!("{region:?} is no region of AWS"), false));
        }
        let url = self.url(service, region);
        let credentials = self.credentials().await.map_err(|reason| broken(reason, true))?;
        let mut own = vec![("content-type", kind)];
        own.extend(target.map(|target| ("x-amz-target", target)));
        let signature = signature(service, region, &url, &credentials, &own, &body)
            .map_err(|reason| broken(format!("the call cannot be signed: {reason}"), false))?;
        let mut request = self.http.post(&url).body(body);
        for (name, value) in own {
            request = request.header(name, value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| broken(chained(&error), true))?;
        let status = answer.status();
        let body = bounded(answer).await.map_err(|reason| broken(reason, true))?;
        if status.is_success() {
            return Ok(body);
        }
        let (code, message) = told(&String::from_utf8_lossy(&body));
        let has_ended = EXPIRED.contains(&code.as_str());
        if has_ended {
            *self.credentials.lock().await = None;
        }
        let is_passing = has_ended
            || PASSING.contains(&code.as_str())
            || status.as_u16() == 429
            || status.is_server_error();
        let code_or_status =
            if code.is_empty() { status.as_u16().to_string() } else { code.clone() };
        let reason = format!("AWS answers {code_or_status}: {message}");
        Err(Failed { code, reason: reason.trim_end_matches(": ").to_owned(), is_passing })
    }

    fn url(&self, service: Service, region: &str) -> String {
        let set = std::env::var(service.1).ok().filter(|url| !url.is_empty());
        let given = set.or_else(|| self.sdk.endpoint_url().map(str::to_owned));
        let base = given.unwrap_or_else(|| {
            let domain = DOMAINS.iter().find(|(begins, _)| region.starts_with(begins));
            let domain = domain.map_or("amazonaws.com", |(_, domain)| domain);
            format!("https://{}.{region}.{domain}", service.0)
        });
        format!("{}/", base.trim_end_matches('/'))
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        let mut kept = self.credentials.lock().await;
        let margin = Duration::from_secs(EXPIRY_MARGIN_SECS);
        let is_fresh = |credentials: &Credentials| {
            credentials.expiry().is_none_or(|end| end > SystemTime::now() + margin)
        };
        if let Some(credentials) = kept.as_ref().filter(|kept| is_fresh(kept)) {
            return Ok(credentials.clone());
        }
        let provider =
            self.sdk.credentials_provider().ok_or_else(|| "no AWS credentials".to_owned())?;
        let credentials = provider.provide_credentials().await.map_err(|error| chained(&error))?;
        *kept = Some(credentials.clone());
        Ok(credentials)
    }
}

async fn bounded(mut answer: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| chained(&error))? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The headers of Signature Version 4.
fn signature(
    service: Service,
    region: &str,
    url: &str,
    credentials: &Credentials,
    own: &[(&str, &str)],
    body: &[u8],
) -> Result<Vec<(String, String)>, String> {
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service.0)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let headers = own.iter().copied();
    let request = SignableRequest::new("POST", url, headers, SignableBody::Bytes(body))
        .map_err(|error| error.to_string())?;
    let (instructions, _) =
        sign(request, &parameters).map_err(|error| error.to_string())?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers
        .into_iter()
        .map(|header| (header.name().to_owned(), header.value().to_owned()))
        .collect())
}

/// Name and words of an error, in JSON or XML.
fn told(body: &str) -> (String, String) {
    if body.trim_start().starts_with('{') {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        let code = value["__type"].as_str().unwrap_or_default();
        // `com.amazonaws.cloudtrail#ThrottlingException`
        let code = code.rsplit('#').next().unwrap_or_default();
        let message = value["message"].as_str().or(value["Message"].as_str()).unwrap_or_default();
        return (code.to_owned(), message.to_owned());
    }
    let first = |name| elements(body, name).next().unwrap_or_default().to_owned();
    (first("Code"), first("Message"))
}

/// The texts of elements without children and attributes, which is all that is asked of AWS's XML
/// here.
pub(super) fn elements<'x>(xml: &'x str, name: &str) -> impl Iterator<Item = &'x str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let from = rest.find(&open)? + open.len();
        let length = rest[from..].find(&close)?;
        let text = rest[from..from + length].trim();
        rest = &rest[from + length + close.len()..];
        Some(text)
    })
}

/// True for what may become a part of a host's name.
pub(super) fn is_region(region: &str) -> bool {
    region.len() <= REGION_BYTES_MAX
        && region.starts_with(|letter: char| letter.is_ascii_lowercase())
        && region.ends_with(|letter: char| letter.is_ascii_digit())
        && region.contains('-')
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_in_json_and_in_xml() {
        let json = r#"{"__type":"com.amazonaws.cloudtrail#ThrottlingException","message":"slow"}"#;
        assert_eq!(told(json), ("ThrottlingException".to_owned(), "slow".to_owned()));
        let xml = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message>\
            </Error></Errors></Response>";
        assert_eq!(told(xml), ("UnauthorizedOperation".to_owned(), "no".to_owned()));
        assert_eq!(told("<html>"), (String::new(), String::new()));
        assert!(is_region("us-gov-east-1") && !is_region("evil.test/") && !is_region(""));
    }
}
