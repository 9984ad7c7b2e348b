//! Bearer tokens: hashed at rest, compared in constant time, limited in rate.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use ring::digest::{SHA256, digest};

use crate::config::{Scope, TokenConfig};
use crate::metrics;
use crate::problem::Problem;

/// Longest token in bytes.
const TOKEN_BYTES_MAX: usize = 512;
/// The header in which an EventBridge API destination sends its key.
const API_KEY: &str = "x-api-key";
/// Requests per second with a missing or unknown token, of all senders together.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
/// Addresses whose rate is remembered before idle ones are evicted.
const PEERS_MAX: usize = 10_000;
/// Burst: how many times the rate is accepted at once.
const BURST: u32 = 10;

/// The sender of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's name; `local` on a hub without tokens.
    pub name: Arc<str>,
}

/// The tokens of the configuration, ready to compare.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    tokens: Vec<Token>,
    /// Without tokens, every request from this machine is accepted.
    is_local: bool,
    strangers: DefaultDirectRateLimiter,
    /// For a hub without tokens.
    anybody: DefaultDirectRateLimiter,
    /// By address, for the endpoint that needs no token.
    peers: DefaultKeyedRateLimiter<IpAddr>,
}

struct Token {
    name: Arc<str>,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    rate: DefaultDirectRateLimiter,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.0.tokens.iter().map(|token| &*token.name).collect();
        f.debug_tuple("Tokens").field(&names).finish()
    }
}

impl Tokens {
    /// The configured tokens. Invalid hashes were refused when the configuration was checked; they match
    /// no token here.
    #[must_use]
    pub fn new(config: &[TokenConfig], requests_per_second_max: u32) -> Self {
        let second = NonZeroU32::new(requests_per_second_max).unwrap_or(NonZeroU32::MIN);
        let burst = second.saturating_mul(NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MIN));
        let quota = Quota::per_second(second).allow_burst(burst);
        let rate = || RateLimiter::direct(quota);
        let tokens = config.iter().filter_map(|token| {
            Some(Token {
                name: token.name.as_str().into(),
                hash: unhex(&token.sha256)?,
                scopes: token.scopes.clone(),
                rate: rate(),
            })
        });
        Self(Arc::new(Inner {
            tokens: tokens.collect(),
            is_local: true,
            strangers: RateLimiter::direct(Quota::per_second(STRANGERS_PER_SECOND)),
            anybody: rate(),
            peers: RateLimiter::keyed(quota),
        }))
    }

    /// The same for a hub that no machine has for itself: without tokens, nobody comes in but those
    /// for whom somebody has caller ([`IamCaller`](crate::IamCaller)).
    #[must_use]
    pub fn remote_only(config: &[TokenConfig], requests_per_second_max: u32) -> Self {
        let mut tokens = Self::new(config, requests_per_second_max);
        if let Some(inner) = Arc::get_mut(&mut tokens.0) {
            inner.is_local = false;
        }
        tokens
    }

    /// True if no token is configured: then every process on this machine may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_local && self.0.tokens.is_empty()
    }

    /// The caller of a request, if its token has the scope.
    ///
    /// # Errors
    /// 401 without a known token, 403 without the scope, 429 beyond the rate.
    pub fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        if self.is_open() {
            // A web page in a browser on this machine must not act for its user: neither one that sends
            // an `Origin`, nor one whose host name resolves to this machine.
            if headers.contains_key(header::ORIGIN) || !is_for_this_machine(headers) {
                metrics::refused("http", "foreign_page");
                let detail = "a hub without tokens accepts no requests of web pages, and only those \
                              for `localhost` or a loopback address";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
            slow_down(&self.0.anybody)?;
            return Ok(Caller { name: "local".into() });
        }
        let Some(token) = stated(headers).and_then(|text| self.find(text)) else {
            slow_down(&self.0.strangers)?;
            metrics::refused("http", "unauthorized");
            let detail = "missing or unknown token; send `Authorization: Bearer TOKEN` or `X-Api-Key: TOKEN`";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail).authenticate());
        };
        slow_down(&token.rate)?;
        if !token.scopes.contains(&scope) {
            metrics::refused("http", "forbidden");
            let name = match scope {
                Scope::Ingest => "ingest",
                Scope::Read => "read",
                Scope::Write => "write",
            };
            let detail = format!("token `{}` lacks the scope `{name}`", token.name);
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Caller { name: Arc::clone(&token.name) })
    }

    /// Accepts a request without a token within the rate of its address.
    ///
    /// # Errors
    /// 429.
    pub fn admit_unauthenticated(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let Some(peer) = peer else { return Ok(()) };
        if self.0.peers.len() > PEERS_MAX {
            self.0.peers.retain_recent();
        }
        self.0.peers.check_key(&peer).map_err(|until| too_many(&until))
    }

    /// Compares with all tokens, in the same time whichever matches.
    fn find(&self, text: &str) -> Option<&Token> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let hash = digest(&SHA256, text.as_bytes());
        let mut found = None;
        for token in &self.0.tokens {
            #[allow(deprecated, reason = "there is no other comparison in constant time in ring")]
            let same =
                ring::constant_time::verify_slices_are_equal(hash.as_ref(), &token.hash).is_ok();
            if same {
                found = Some(token);
            }
        }
        found
    }
}

/// Refuses requests beyond the rate.
fn slow_down(limiter: &DefaultDirectRateLimiter) -> Result<(), Problem> {
    limiter.check().map_err(|until| too_many(&until))
}

fn too_many(until: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>) -> Problem {
    metrics::refused("http", "too_many");
    let wait = until.wait_time_from(DefaultClock::default().now());
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests").after(wait.as_secs().max(1))
}

/// True if the request's `Host` is this machine, or missing.
fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str().unwrap_or_default().parse::<Authority>() else { return false };
    let host = host.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token that a request states.
fn stated(headers: &HeaderMap) -> Option<&str> {
    // With two headers, a proxy may have checked the other one.
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return None;
    }
    if let Some(text) = headers.get(header::AUTHORIZATION) {
        let (kind, token) = text.to_str().ok()?.split_once(' ')?;
        return kind.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    headers.get(API_KEY)?.to_str().ok().map(str::trim)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let sha256 = digest(&SHA256, b"secret")
            .as_ref()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let scopes = vec![Scope::Ingest];
        Tokens::new(&[TokenConfig { name: "ci".to_owned(), sha256, scopes }], 5)
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header"));
        headers
    }

    #[test]
    fn a_known_token_is_accepted_in_either_header_and_only_for_its_scopes() {
        let tokens = tokens();
        for headers in [headers("authorization", "bearer secret"), headers("x-api-key", "secret")] {
            let caller = tokens.admit(&headers, Scope::Ingest).expect("known");
            assert_eq!(&*caller.name, "ci");
            assert_eq!(tokens.admit(&headers, Scope::Read).expect_err("scope").status, 403);
        }
    }

    #[test]
    fn a_remote_only_hub_has_no_local_callers() {
        let local = headers("host", "localhost");
        assert!(Tokens::new(&[], 5).admit(&local, Scope::Read).is_ok());
        let refused = Tokens::remote_only(&[], 5).admit(&local, Scope::Read);
        assert_eq!(refused.expect_err("no local callers").status, 401);
    }

    #[test]
    fn anything_else_is_refused() {
        let tokens = tokens();
        for value in ["Bearer Secret", "Bearer", "Basic secret", "Bearer secretsecret", "secret"] {
            let refused = tokens.admit(&headers("authorization", value), Scope::Ingest);
            assert_eq!(refused.expect_err(value).status, 401, "{value}");
        }
        let none = tokens.admit(&HeaderMap::new(), Scope::Ingest).expect_err("no token");
        assert_eq!(none.status, 401);
    }

    #[test]
    fn a_caller_beyond_the_rate_learns_when_to_retry() {
        let tokens = tokens();
        let headers = headers("x-api-key", "secret");
        let refused = (0..60).find_map(|_| tokens.admit(&headers, Scope::Ingest).err());
        let refused = refused.expect("50 at once are allowed, 60 are not");
        assert_eq!((refused.status, refused.retry_after_secs), (429, Some(1)));
    }
}
