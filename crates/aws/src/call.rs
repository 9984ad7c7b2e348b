//! A call, before it is signed: service, method, path, headers, body.

use reqwest::Method;

/// A service of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// The name in signatures.
    pub name: &'static str,
    /// The first label of its host.
    pub host: &'static str,
    /// The environment variable with another endpoint.
    pub variable: &'static str,
}

impl Service {
    const fn new(name: &'static str, host: &'static str, variable: &'static str) -> Self {
        Self { name, host, variable }
    }

    /// CloudTrail.
    pub const CLOUD_TRAIL: Self =
        Self::new("cloudtrail", "cloudtrail", "AWS_ENDPOINT_URL_CLOUDTRAIL");
    /// EC2.
    pub const EC2: Self = Self::new("ec2", "ec2", "AWS_ENDPOINT_URL_EC2");
    /// EventBridge.
    pub const EVENT_BRIDGE: Self = Self::new("events", "events", "AWS_ENDPOINT_URL_EVENTBRIDGE");
    /// Key Management Service.
    pub const KMS: Self = Self::new("kms", "kms", "AWS_ENDPOINT_URL_KMS");
    /// S3.
    pub const S3: Self = Self::new("s3", "s3", "AWS_ENDPOINT_URL_S3");
    /// Secrets Manager.
    pub const SECRETS_MANAGER: Self =
        Self::new("secretsmanager", "secretsmanager", "AWS_ENDPOINT_URL_SECRETS_MANAGER");
    /// Security Hub.
    pub const SECURITY_HUB: Self =
        Self::new("securityhub", "securityhub", "AWS_ENDPOINT_URL_SECURITYHUB");
    /// Simple Email Service, version 2.
    pub const SES: Self = Self::new("ses", "email", "AWS_ENDPOINT_URL_SESV2");
    /// Simple Notification Service.
    pub const SNS: Self = Self::new("sns", "sns", "AWS_ENDPOINT_URL_SNS");
    /// Systems Manager.
    pub const SSM: Self = Self::new("ssm", "ssm", "AWS_ENDPOINT_URL_SSM");
    /// Security Token Service.
    pub const STS: Self = Self::new("sts", "sts", "AWS_ENDPOINT_URL_STS");
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The service that is called.
    pub service: Service,
    /// The HTTP method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path: String,
    /// The type of the body.
    pub content_type: &'static str,
    /// More headers: lower case, each signed.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// A call of the JSON 1.1 protocol. `target` is its `X-Amz-Target`: `AWSEvents.PutEvents`.
    #[must_use]
    pub fn json(service: Service, target: &str, body: Vec<u8>) -> Self {
        Self {
            content_type: "application/x-amz-json-1.1",
            headers: vec![("x-amz-target", target.to_owned())],
            ..Self::rest(service, Method::POST, "/", body)
        }
    }

    /// A call of the REST-JSON protocol: `POST /v2/email/outbound-emails`.
    #[must_use]
    pub fn rest(service: Service, method: Method, path: &str, body: Vec<u8>) -> Self {
        Self {
            service,
            method,
            path: path.to_owned(),
            content_type: "application/json",
            headers: Vec::new(),
            body,
        }
    }

    /// A call of the Query protocol: a [`Form`](crate::Form) with the action and its version.
    #[must_use]
    pub fn query(service: Service, body: Vec<u8>) -> Self {
        Self {
            content_type: "application/x-www-form-urlencoded",
            ..Self::rest(service, Method::POST, "/", body)
        }
    }
}
