//! Sending over HTTP: one request, bounded in every way.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, redirect};
use rootwatch_core::{error_chain, retry, text};
use url::{Host, Url};

use crate::Sent;
use crate::guard::{self, AddressRefused, PublicOnly};

/// Bytes of an answer that are read.
pub(crate) const ANSWER_BYTES_MAX: usize = 4096;
/// Columns of an answer that are shown.
const ANSWER_COLUMNS_MAX: usize = 200;
/// Time to connect, TLS included.
const CONNECT_SECS_MAX: u64 = 5;
/// Time that reading an answer may take between two pieces of it.
const READ_SECS_MAX: u64 = 30;
/// Bytes of a URL.
const URL_BYTES_MAX: usize = 2048;

/// A client for one destination.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    allow_private: bool,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The beginning of the body.
    pub(crate) body: String,
}

impl Http {
    /// # Errors
    /// In words: this system's certificates cannot be read.
    pub(crate) fn new(allow_private: bool) -> Result<Self, String> {
        let mut client = Client::builder()
            .tls_backend_preconfigured(rootwatch_aws::tls_config()?)
            .user_agent(concat!("rootwatch/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            // A proxy would resolve names itself, past the guard.
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
            .read_timeout(Duration::from_secs(READ_SECS_MAX))
            .pool_idle_timeout(Duration::from_secs(30));
        if !allow_private {
            client = client.dns_resolver(PublicOnly);
        }
        let client = client.build().map_err(|error| causes(&error))?;
        Ok(Self { client, allow_private })
    }

    /// Posts a body. `Err` is what has to be said of an attempt that brought no answer.
    pub(crate) async fn post(
        &self,
        url: &Url,
        headers: Vec<(HeaderName, String)>,
        body: Vec<u8>,
    ) -> Result<Answer, Sent> {
        self.ask(Method::POST, url, headers, body, ANSWER_BYTES_MAX).await
    }

    /// One request, and as much of its answer. `Err` is what has to be said of an attempt that
    /// brought no answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &Url,
        headers: Vec<(HeaderName, String)>,
        body: Vec<u8>,
        answer_bytes_max: usize,
    ) -> Result<Answer, Sent> {
        if let Some(error) = self.refusal(url) {
            return Err(Sent::Misconfigured { error });
        }
        let mut request = self.client.request(method, url.clone()).body(body);
        for (name, value) in headers {
            match HeaderValue::from_str(&value) {
                Ok(value) => request = request.header(name, value),
                Err(_) => {
                    let error = format!("the header {name} would hold a character that none may");
                    return Err(Sent::Rejected { error });
                }
            }
        }
        let response = request.send().await.map_err(|error| failed(&error))?;
        read(response, answer_bytes_max).await.map_err(|error| failed(&error))
    }

    fn refusal(&self, url: &Url) -> Option<String> {
        if self.allow_private {
            return None;
        }
        if url.scheme() != "https" {
            return Some("only https is used without `allow_private = true`".to_owned());
        }
        let address = match url.host()? {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(_) => return None,
        };
        (!guard::is_public(address)).then(|| guard::refusal("the address", address))
    }
}

/// What is wrong with a URL that messages should go to; it may be a secret and is not shown.
pub(crate) fn parse_url(text: &str, allow_private: bool) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("a URL has at most {URL_BYTES_MAX} bytes"));
    }
    let url = Url::parse(text.trim()).map_err(|error| format!("this is no URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err("only https is used without `allow_private = true`".to_owned()),
        _ => return Err("only https is used".to_owned()),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL may not hold a user name or password".to_owned());
    }
    if let Some(Host::Ipv4(address)) = url.host()
        && !allow_private
        && !guard::is_public(IpAddr::V4(address))
    {
        return Err(guard::refusal("the address", IpAddr::V4(address)));
    }
    if let Some(Host::Ipv6(address)) = url.host()
        && !allow_private
        && !guard::is_public(IpAddr::V6(address))
    {
        return Err(guard::refusal("the address", IpAddr::V6(address)));
    }
    Ok(url)
}

async fn read(mut response: reqwest::Response, bytes_max: usize) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == bytes_max {
            break;
        }
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// What a failure on the way means. The URL is left out: it may be a secret.
fn failed(error: &reqwest::Error) -> Sent {
    if let Some(refused) = find::<AddressRefused>(error) {
        return Sent::Misconfigured { error: refused.to_string() };
    }
    let what = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        format!("cannot connect: {}", causes(error))
    } else {
        format!("the connection broke: {}", causes(error))
    };
    Sent::RetryAfter { after: None, error: what }
}

fn find<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The innermost cause: the outermost error names the URL.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    text::cap(&error_chain::innermost(error), ANSWER_COLUMNS_MAX)
}

impl Answer {
    /// `503 Service Unavailable: please come back`, safe to show.
    pub(crate) fn told(&self) -> String {
        let status = self.status;
        let mut told = format!("the server answered {}", status.as_u16());
        if let Some(reason) = status.canonical_reason() {
            told = format!("{told} {reason}");
        }
        let body = self.body.trim();
        if !body.is_empty() {
            told = format!("{told}: {}", text::cap(body, ANSWER_COLUMNS_MAX));
        }
        told
    }

    /// How long the server asks to be left alone: seconds, or until a date.
    pub(crate) fn retry_after(&self, now: Timestamp) -> Option<SignedDuration> {
        retry::retry_after(self.headers.get(RETRY_AFTER)?.to_str().ok()?, now)
    }
}
