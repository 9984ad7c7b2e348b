//! Resolves references to secrets, once, at start.
//!
//! Secrets in AWS are fetched first, all at once and by one client ([`Resolver::fetch`]). After that,
//! resolving a reference waits for nothing.

use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use rootwatch_aws::{AwsAccess, Call, CallError, Caller, Service};
use rootwatch_core::alert::Clock;
use rootwatch_core::retry::BackOff;
use rootwatch_core::secret::{Secret, SecretRef};
use rootwatch_notify::{Notifier, NotifyConfig};
use serde_json::{Value, json};

use super::loaded::Loaded;
use super::problem::Problem;

/// Bytes of a secret.
const SECRET_BYTES_MAX: usize = 64 << 10;
/// Seconds to fetch one secret from AWS, retries included.
const FETCH_SECS_MAX: u64 = 15;
/// Attempts to fetch one secret.
const FETCH_ATTEMPTS_MAX: u32 = 4;
/// First pause between two attempts, in milliseconds; it doubles.
const FETCH_PAUSE_MILLIS: u64 = 200;
/// Longest pause between two attempts, in milliseconds.
const FETCH_PAUSE_MILLIS_MAX: u64 = 2_000;
/// Secrets that are fetched at once.
const FETCHES_AT_ONCE_MAX: usize = 8;

/// What a check reports for a secret in AWS, since a check sends no requests.
pub(crate) const NOT_ASKED: &str = "is kept in AWS and was not looked up";

/// Resolves each reference once.
#[derive(Debug, Default)]
pub struct Resolver {
    folder: PathBuf,
    is_offline: bool,
    known: Mutex<HashMap<SecretRef, Result<Secret, String>>>,
    warnings: Mutex<Vec<String>>,
}

impl Resolver {
    /// Resolves `file:` from this folder on, where a path is relative.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..Self::default() }
    }

    /// The same without requests: secrets in AWS are refused.
    #[must_use]
    pub fn offline(folder: &Path) -> Self {
        Self { is_offline: true, ..Self::new(folder) }
    }

    /// What is doubtful about the secrets that were resolved: files that others can read.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches all secrets that the configuration keeps in AWS. A secret that cannot be fetched is
    /// reported when it is resolved.
    pub async fn fetch(&self, config: &NotifyConfig, aws: &AwsAccess) {
        // References are texts wherever they stand in the configuration, so that a new channel needs
        // nothing here. One that were missed would be refused by `resolve`.
        let config = serde_json::to_value(config).unwrap_or_default();
        let mut references = HashSet::new();
        collect_aws_references(&config, &mut references);
        let fetches = references.into_iter().map(|at| async move {
            // What failed is kept, and reported when the secret is resolved.
            let _kept = self.fetch_one(&at, aws).await;
        });
        futures_util::stream::iter(fetches)
            .buffer_unordered(FETCHES_AT_ONCE_MAX)
            .collect::<Vec<()>>()
            .await;
    }

    /// Fetches one secret from AWS, or resolves a reference to another place.
    ///
    /// # Errors
    /// Why there is none: lower case, no full stop, nothing secret.
    pub async fn fetch_one(&self, at: &SecretRef, aws: &AwsAccess) -> Result<Secret, String> {
        if !self.is_offline
            && self.known(at).is_none()
            && let Some(query) = SecretQuery::of(at)
        {
            let fetched = fetch(&query, aws).await.and_then(sound);
            self.keep(at, fetched);
        }
        self.resolve(at)
    }

    /// The secret itself. One in AWS has to be fetched before.
    ///
    /// # Errors
    /// Why there is none: lower case, no full stop, nothing secret.
    pub fn resolve(&self, at: &SecretRef) -> Result<Secret, String> {
        if let Some(known) = self.known(at) {
            return known;
        }
        let text = match at {
            SecretRef::Plain(secret) => return Ok(secret.clone()),
            SecretRef::Env(name) => environment(name)?,
            SecretRef::File(path) => self.file(&self.folder.join(path))?,
            SecretRef::AwsSecret(_) | SecretRef::AwsSsm(_) if self.is_offline => {
                return Err(NOT_ASKED.to_owned());
            }
            SecretRef::AwsSecret(_) | SecretRef::AwsSsm(_) => {
                return Err("was not fetched from AWS before it was needed".to_owned());
            }
        };
        let secret = sound(text)?;
        self.keep(at, Ok(secret.clone()));
        Ok(secret)
    }

    fn known(&self, at: &SecretRef) -> Option<Result<Secret, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned()
    }

    fn keep(&self, at: &SecretRef, resolved: Result<Secret, String>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(at.clone(), resolved);
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if metadata.is_dir() {
            return Err("is a folder".to_owned());
        }
        file.take(SECRET_BYTES_MAX as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        if text.len() > SECRET_BYTES_MAX {
            return Err(format!("has more than {SECRET_BYTES_MAX} bytes"));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            if metadata.permissions().mode() & 0o004 != 0 {
                let warning = format!("everybody on this machine can read {}", path.display());
                let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        Ok(text.trim_end().to_owned())
    }
}

/// Checks that the secrets that the configuration refers to exist. For each one in AWS, which is not
/// looked up, there is a warning.
pub fn check(loaded: &Loaded, clock: Arc<dyn Clock>) -> Vec<Problem> {
    let resolver = Resolver::offline(&loaded.folder);
    let resolve = |at: &SecretRef| resolver.resolve(at);
    let mut problems = Vec::new();
    if let Err(faults) = Notifier::new(&loaded.config.notify, &resolve, clock) {
        problems.extend(faults.into_iter().map(|fault| {
            let mut problem = loaded.problem(&fault.key, fault.problem);
            problem.is_warning = problem.message.ends_with(NOT_ASKED);
            problem
        }));
    }
    problems.extend(resolver.warnings().into_iter().map(|warning| {
        let mut problem = loaded.problem("notify", warning);
        problem.is_warning = true;
        problem
    }));
    problems
}

/// A secret that holds something.
fn sound(text: String) -> Result<Secret, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::new(text)) }
}

fn environment(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Err("is not set in the environment".to_owned()),
        Err(std::env::VarError::NotUnicode(_)) => Err("is not UTF-8 text".to_owned()),
    }
}

/// Adds the references to secrets in AWS that stand anywhere in a configuration.
fn collect_aws_references(config: &Value, references: &mut HashSet<SecretRef>) {
    match config {
        Value::String(text) => {
            if let Ok(at @ (SecretRef::AwsSecret(_) | SecretRef::AwsSsm(_))) = text.parse() {
                references.insert(at);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| collect_aws_references(item, references));
        }
        Value::Object(fields) => {
            fields.values().for_each(|field| collect_aws_references(field, references));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The call that returns a secret.
#[derive(Debug, Clone)]
struct SecretQuery {
    call: Call,
    /// JSON pointer to the text in the answer.
    answer: &'static str,
    /// From the ARN; the caller's own without one.
    region: Option<String>,
}

impl SecretQuery {
    /// `None` for a secret that is not kept in AWS.
    fn of(at: &SecretRef) -> Option<Self> {
        let (service, target, body, answer, id) = match at {
            SecretRef::AwsSecret(id) => (
                Service::SECRETS_MANAGER,
                "secretsmanager.GetSecretValue",
                json!({ "SecretId": id }),
                "/SecretString",
                id,
            ),
            SecretRef::AwsSsm(name) => (
                Service::SSM,
                "AmazonSSM.GetParameter",
                json!({ "Name": name, "WithDecryption": true }),
                "/Parameter/Value",
                name,
            ),
            SecretRef::Plain(_) | SecretRef::Env(_) | SecretRef::File(_) => return None,
        };
        let call = Call::json(service, target, body.to_string().into_bytes());
        Some(Self { call, answer, region: region_of(id) })
    }

    fn caller(&self, aws: &AwsAccess) -> Caller {
        let caller = Caller::new(aws.clone()).with_answer_bytes_max(2 * SECRET_BYTES_MAX);
        match &self.region {
            Some(region) => caller.in_region(region),
            None => caller,
        }
    }
}

/// The region of an ARN.
fn region_of(name: &str) -> Option<String> {
    let region = name.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then(|| region.to_owned())
}

/// Fetches a secret; retries what may succeed a moment later.
async fn fetch(query: &SecretQuery, aws: &AwsAccess) -> Result<String, String> {
    let limit = Duration::from_secs(FETCH_SECS_MAX);
    let fetched = tokio::time::timeout(limit, fetch_with_retries(query, aws)).await;
    let answer = match fetched {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("AWS did not answer within {FETCH_SECS_MAX} seconds")),
    };
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|_| "AWS's answer is not JSON".to_owned())?;
    match answer.pointer(query.answer).and_then(Value::as_str) {
        Some(secret) => Ok(secret.to_owned()),
        None => Err("holds no text".to_owned()),
    }
}

async fn fetch_with_retries(query: &SecretQuery, aws: &AwsAccess) -> Result<Vec<u8>, CallError> {
    let millis = Duration::from_millis;
    let mut back_off = BackOff::new(millis(FETCH_PAUSE_MILLIS), millis(FETCH_PAUSE_MILLIS_MAX));
    let caller = query.caller(aws);
    for _ in 1..FETCH_ATTEMPTS_MAX {
        match caller.call(&query.call, Timestamp::now()).await {
            Err(error) if error.advice.is_retry() => tokio::time::sleep(back_off.pause()).await,
            answered => return answered.map(|answer| answer.body),
        }
    }
    caller.call(&query.call, Timestamp::now()).await.map(|answer| answer.body)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_config::{BehaviorVersion, Region, SdkConfig};
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;

    use super::*;

    fn reference(text: &str) -> SecretRef {
        text.parse().expect("a reference")
    }

    #[test]
    fn a_file_gives_its_text_without_the_line_end_and_a_warning_when_all_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hook");
        std::fs::write(&path, "hush\r\n").expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(&path, mode).expect("a mode");
        }
        let resolver = Resolver::new(folder.path());
        let secret = resolver.resolve(&reference("file:hook")).expect("a secret");
        assert_eq!(secret.expose(), "hush");
        assert_eq!(resolver.warnings().len(), usize::from(cfg!(unix)));
        assert!(resolver.resolve(&reference("file:missing")).is_err());
    }

    #[test]
    fn a_missing_secret_is_refused_and_offline_aws_is_not_asked() {
        let resolver = Resolver::offline(Path::new(""));
        let error = resolver.resolve(&reference("env:ROOTWATCH_TEST_UNSET")).expect_err("unset");
        assert_eq!(error, "is not set in the environment");
        for text in ["aws-secret:hub/slack", "aws-ssm:/hub/slack"] {
            assert_eq!(resolver.resolve(&reference(text)).expect_err("offline"), NOT_ASKED);
        }
        assert_eq!(resolver.resolve(&reference("plain")).expect("itself").expose(), "plain");
    }

    /// Secrets Manager and Systems Manager. The first request is throttled.
    async fn answer(
        State(requests): State<Arc<AtomicU32>>,
        headers: HeaderMap,
        body: String,
    ) -> (StatusCode, String) {
        let signature = headers["authorization"].to_str().expect("text");
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"));
        assert!(signature.contains("/eu-west-1/"));
        if requests.fetch_add(1, Ordering::Relaxed) == 0 {
            let error = json!({ "__type": "ThrottlingException" });
            return (StatusCode::BAD_REQUEST, error.to_string());
        }
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let answer = match headers["x-amz-target"].to_str().expect("text") {
            "secretsmanager.GetSecretValue" if body["SecretId"] == "hub/slack" => {
                json!({ "SecretString": "hush" })
            }
            "AmazonSSM.GetParameter" if body["WithDecryption"] == true => {
                json!({ "Parameter": { "Value": "hush too" } })
            }
            _ => {
                let error = json!({ "__type": "com.amazonaws#ResourceNotFoundException" });
                return (StatusCode::BAD_REQUEST, error.to_string());
            }
        };
        (StatusCode::OK, answer.to_string())
    }

    async fn aws_at_a_local_server() -> (AwsAccess, Arc<AtomicU32>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(AtomicU32::new(0));
        let app = axum::Router::new().route("/", post(answer)).with_state(Arc::clone(&requests));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", "example", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build();
        (AwsAccess::of(sdk), requests)
    }

    #[tokio::test]
    async fn secrets_in_aws_are_fetched_once_with_a_signature_and_retried() {
        let (aws, requests) = aws_at_a_local_server().await;
        let config: NotifyConfig = toml::from_str(
            r#"
            [destination.hook]
            channel = "webhook"
            url = "aws-secret:hub/slack"
            secrets = ["aws-ssm:/hub/signing", "plain"]
            [destination.chat]
            channel = "slack"
            url = "aws-secret:hub/slack"
            "#,
        )
        .expect("a configuration");
        let resolver = Resolver::new(Path::new(""));
        let early = resolver.resolve(&reference("aws-secret:hub/slack")).expect_err("too early");
        assert_eq!(early, "was not fetched from AWS before it was needed");
        resolver.fetch(&config, &aws).await;
        let resolve =
            |text: &str| resolver.resolve(&reference(text)).map(|it| it.expose().to_owned());
        assert_eq!(resolve("aws-secret:hub/slack").as_deref(), Ok("hush"));
        assert_eq!(resolve("aws-ssm:/hub/signing").as_deref(), Ok("hush too"));
        assert_eq!(requests.load(Ordering::Relaxed), 3, "two secrets, one of them throttled once");
    }

    #[tokio::test]
    async fn a_secret_that_aws_does_not_have_is_reported_without_a_retry() {
        let (aws, requests) = aws_at_a_local_server().await;
        requests.store(1, Ordering::Relaxed);
        let resolver = Resolver::new(Path::new(""));
        let error = resolver.fetch_one(&reference("aws-secret:hub/none"), &aws).await;
        assert_eq!(error.expect_err("none"), "AWS answered 400 ResourceNotFoundException");
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn secrets_of_the_iso_and_european_sovereign_partitions_do_not_go_to_amazonaws_com() {
        let aws = AwsAccess::of(SdkConfig::builder().build());
        for (partition, region, domain) in [
            ("aws", "eu-west-1", "amazonaws.com"),
            ("aws-cn", "cn-north-1", "amazonaws.com.cn"),
            ("aws-us-gov", "us-gov-west-1", "amazonaws.com"),
            ("aws-eusc", "eusc-de-east-1", "amazonaws.eu"),
            ("aws-iso", "us-iso-east-1", "c2s.ic.gov"),
            ("aws-iso-b", "us-isob-east-1", "sc2s.sgov.gov"),
            ("aws-iso-e", "eu-isoe-west-1", "cloud.adc-e.uk"),
            ("aws-iso-f", "us-isof-south-1", "csp.hci.ic.gov"),
        ] {
            for (prefix, service, rest) in [
                ("aws-secret", "secretsmanager", "secret:hub/slack-AbCdEf"),
                ("aws-ssm", "ssm", "parameter/hub/slack"),
            ] {
                let arn = format!("arn:{partition}:{service}:{region}:123456789012:{rest}");
                let query =
                    SecretQuery::of(&reference(&format!("{prefix}:{arn}"))).expect("in AWS");
                let caller = query.caller(&aws);
                let url = caller.url(&query.call, region).await.expect("a URL");
                assert_eq!(caller.region().await.as_deref(), Ok(region));
                assert_eq!(url.as_str(), format!("https://{service}.{region}.{domain}/"));
            }
        }
    }
}
