//! One HTTP request, bounded in time and size.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, redirect};
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_platform_verifier::BuilderVerifierExt;

use rootwatch_core::error_chain;

/// Seconds to connect, TLS included.
const CONNECT_SECS_MAX: u64 = 5;
/// Seconds without a byte of the answer.
const READ_SECS_MAX: u64 = 30;
/// Seconds for one request, from connecting to the last byte of the answer.
const REQUEST_SECS_MAX: u64 = 120;
/// Seconds for which an unused connection is kept.
const IDLE_SECS_MAX: u64 = 30;

static TLS: LazyLock<Result<ClientConfig, String>> = LazyLock::new(|| {
    // Other components build clients too. If a provider is already installed, keep it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map(ConfigBuilder::<_, WantsClientCert>::with_no_client_auth)
        .map_err(|error| error.to_string())
});

/// The TLS configuration for every HTTP client of this process. The system's root certificates are
/// some hundred files; reading them takes longer than everything else about a client, so they are
/// read once.
///
/// # Errors
/// In words: they cannot be read.
pub fn tls_config() -> Result<ClientConfig, String> {
    TLS.clone()
}

/// A client for AWS. It follows `HTTPS_PROXY` and `NO_PROXY`, as AWS's command line does.
pub(crate) fn client() -> Result<Client, String> {
    Client::builder()
        .tls_backend_preconfigured(tls_config()?)
        .user_agent(concat!("rootwatch/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
        .read_timeout(Duration::from_secs(READ_SECS_MAX))
        .timeout(Duration::from_secs(REQUEST_SECS_MAX))
        .pool_idle_timeout(Duration::from_secs(IDLE_SECS_MAX))
        .build()
        .map_err(|error| error_chain::innermost(&error))
}

/// An answer of AWS.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text; bytes that are not UTF-8 become replacement characters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The answer is larger than this.
    TooLarge(usize),
    /// The connection could not be made, broke, or was too slow; in words.
    Connection(String),
}

/// Sends a request and reads its answer, of which at most `body_bytes_max` are kept.
pub(crate) async fn send(
    request: reqwest::RequestBuilder,
    body_bytes_max: usize,
) -> Result<Answer, NoAnswer> {
    let broken = |error: reqwest::Error| {
        let cause = error_chain::innermost(&error);
        NoAnswer::Connection(if error.is_timeout() {
            "no answer in time".to_owned()
        } else if error.is_connect() {
            format!("cannot connect: {cause}")
        } else {
            format!("the connection broke: {cause}")
        })
    };
    let mut response = request.send().await.map_err(broken)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        let free = body_bytes_max - body.len();
        if piece.len() > free {
            // Of an error the first bytes are enough: a proxy's page may be any size.
            if (200..300).contains(&status) {
                return Err(NoAnswer::TooLarge(body_bytes_max));
            }
            body.extend_from_slice(&piece[..free]);
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, headers, body })
}
