//! Resolves references to secrets, once, at start.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use rootwatch_core::alert::Clock;
use rootwatch_core::secret::{Secret, SecretRef};
use rootwatch_notify::Notifier;
use serde_json::{Value, json};

use super::loaded::Loaded;
use super::problem::Problem;

/// Bytes of a secret at most.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Seconds for one call to AWS.
const AWS_SECS_MAX: u64 = 15;

/// What a check says of a secret that it did not look up, because it asks nobody outside.
pub(crate) const NOT_ASKED: &str = "is kept in AWS and was not looked up";

/// Looks secrets up, each once.
#[derive(Debug, Default)]
pub struct Resolver {
    folder: PathBuf,
    is_offline: bool,
    known: Mutex<HashMap<SecretRef, Secret>>,
    warnings: Mutex<Vec<String>>,
}

impl Resolver {
    /// Resolves `file:` from this folder on, where a path is relative.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..Self::default() }
    }

    /// The same, but refuses what AWS would have to be asked for.
    #[must_use]
    pub fn offline(folder: &Path) -> Self {
        Self { is_offline: true, ..Self::new(folder) }
    }

    /// What is doubtful about the secrets that were resolved: files that others can read.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The secret itself. May wait for AWS, some seconds at most; meant for the start.
    ///
    /// # Errors
    /// Why there is none: lower case, no full stop, nothing secret.
    pub fn resolve(&self, at: &SecretRef) -> Result<Secret, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned();
        if let Some(secret) = known {
            return Ok(secret);
        }
        let secret = match at {
            SecretRef::Plain(secret) => return Ok(secret.clone()),
            SecretRef::Env(name) => environment(name)?,
            SecretRef::File(path) => self.file(&self.folder.join(path))?,
            SecretRef::AwsSecret(_) | SecretRef::AwsSsm(_) if self.is_offline => {
                return Err(NOT_ASKED.to_owned());
            }
            SecretRef::AwsSecret(id) => aws(Question::secret(id))?,
            SecretRef::AwsSsm(name) => aws(Question::parameter(name))?,
        };
        if secret.is_empty() {
            return Err("is empty".to_owned());
        }
        let secret = Secret::new(secret);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(at.clone(), secret.clone());
        Ok(secret)
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if metadata.is_dir() {
            return Err("is a folder".to_owned());
        }
        file.take(SECRET_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        if text.len() as u64 > SECRET_BYTES_MAX {
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

/// Looks whether the secrets that the configuration refers to are there. What is kept in AWS is
/// not asked for, but said.
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

fn environment(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(value) => Ok(value),
        Err(std::env::VarError::NotPresent) => Err("is not set in the environment".to_owned()),
        Err(std::env::VarError::NotUnicode(_)) => Err("is no UTF-8 text".to_owned()),
    }
}

/// A call of AWS's JSON protocol that returns a secret.
#[derive(Debug, Clone)]
struct Question {
    service: &'static str,
    endpoint_variable: &'static str,
    target: &'static str,
    body: Value,
    /// Where the text is in the answer.
    answer: &'static str,
    region: Option<String>,
}

impl Question {
    fn secret(id: &str) -> Self {
        Self {
            service: "secretsmanager",
            endpoint_variable: "AWS_ENDPOINT_URL_SECRETS_MANAGER",
            target: "secretsmanager.GetSecretValue",
            body: json!({ "SecretId": id }),
            answer: "/SecretString",
            region: region_of(id),
        }
    }

    fn parameter(name: &str) -> Self {
        Self {
            service: "ssm",
            endpoint_variable: "AWS_ENDPOINT_URL_SSM",
            target: "AmazonSSM.GetParameter",
            body: json!({ "Name": name, "WithDecryption": true }),
            answer: "/Parameter/Value",
            region: region_of(name),
        }
    }
}

/// The region of an ARN.
fn region_of(name: &str) -> Option<String> {
    let region = name.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then(|| region.to_owned())
}

/// Asks AWS from a thread of its own, so that it does not matter where the caller runs.
fn aws(question: Question) -> Result<String, String> {
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let limit = Duration::from_secs(AWS_SECS_MAX);
        runtime.block_on(async {
            tokio::time::timeout(limit, ask(&question))
                .await
                .map_err(|_| format!("AWS did not answer within {AWS_SECS_MAX} seconds"))?
        })
    };
    let thread = std::thread::Builder::new().name("secrets".to_owned()).spawn(ask);
    let thread = thread.map_err(|error| error.to_string())?;
    thread.join().map_err(|_| "the call to AWS failed".to_owned())?
}

async fn ask(question: &Question) -> Result<String, String> {
    let provider = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &question.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let sdk = loader.load().await;
    let endpoint = std::env::var(question.endpoint_variable).ok().filter(|url| !url.is_empty());
    ask_with(question, &sdk, endpoint.as_deref()).await
}

/// One signed call.
async fn ask_with(
    question: &Question,
    sdk: &SdkConfig,
    endpoint: Option<&str>,
) -> Result<String, String> {
    let region = sdk.region().ok_or("no AWS region is set")?.to_string();
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = match endpoint.or(sdk.endpoint_url()) {
        Some(url) => format!("{}/", url.trim_end_matches('/')),
        None => format!("https://{}.{region}.{suffix}/", question.service),
    };
    let provider = sdk.credentials_provider().ok_or("no AWS credentials are set")?;
    let credentials = provider
        .provide_credentials()
        .await
        .map_err(|error| format!("no AWS credentials: {error}"))?;
    let body = question.body.to_string();
    let headers =
        [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", question.target)];
    let signed = |error: String| format!("the call to AWS cannot be signed: {error}");
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name(question.service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| signed(error.to_string()))?
        .into();
    let request = SignableRequest::new(
        "POST",
        url.as_str(),
        headers.iter().copied(),
        SignableBody::Bytes(body.as_bytes()),
    )
    .map_err(|error| signed(error.to_string()))?;
    let (instructions, _) =
        sign(request, &parameters).map_err(|error| signed(error.to_string()))?.into_parts();
    let (more, _) = instructions.into_parts();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let mut request = client.post(&url).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    for header in more {
        request = request.header(header.name(), header.value());
    }
    let mut answer =
        request.send().await.map_err(|error| format!("AWS cannot be asked: {error}"))?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| format!("AWS cannot be asked: {error}"))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > 2 * SECRET_BYTES_MAX {
            return Err("AWS's answer is too long for a secret".to_owned());
        }
    }
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if !status.is_success() {
        // Only the name of the error: `AccessDeniedException`, `ResourceNotFoundException` …
        let name = value["__type"].as_str().unwrap_or("no reason given");
        let name = name.rsplit('#').next().unwrap_or(name);
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(80).collect();
        return Err(format!("AWS refuses with {}: {name}", status.as_u16()));
    }
    match value.pointer(question.answer).and_then(Value::as_str) {
        Some(secret) => Ok(secret.to_owned()),
        None => Err("holds no text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use axum::http::HeaderMap;
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
    fn what_is_not_there_is_refused_and_what_is_in_aws_is_not_asked_for_offline() {
        let resolver = Resolver::offline(Path::new(""));
        let error = resolver.resolve(&reference("env:ROOTWATCH_TEST_UNSET")).expect_err("unset");
        assert_eq!(error, "is not set in the environment");
        for text in ["aws-secret:hub/slack", "aws-ssm:/hub/slack"] {
            assert_eq!(resolver.resolve(&reference(text)).expect_err("offline"), NOT_ASKED);
        }
        assert_eq!(resolver.resolve(&reference("plain")).expect("itself").expose(), "plain");
    }

    #[tokio::test]
    async fn a_secret_in_aws_is_asked_for_with_a_signature() {
        async fn answer(headers: HeaderMap, body: String) -> (axum::http::StatusCode, String) {
            let signature = headers["authorization"].to_str().expect("text");
            assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"));
            assert!(signature.contains("/eu-west-1/"));
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
                    return (axum::http::StatusCode::BAD_REQUEST, error.to_string());
                }
            };
            (axum::http::StatusCode::OK, answer.to_string())
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let app = axum::Router::new().route("/", post(answer));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", "example", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build();
        let ask = async |question| ask_with(&question, &sdk, Some(&endpoint)).await;
        assert_eq!(ask(Question::secret("hub/slack")).await.as_deref(), Ok("hush"));
        assert_eq!(ask(Question::parameter("/hub/slack")).await.as_deref(), Ok("hush too"));
        let error = ask(Question::secret("hub/none")).await.expect_err("none");
        assert_eq!(error, "AWS refuses with 400: ResourceNotFoundException");
        server.abort();
    }
}
