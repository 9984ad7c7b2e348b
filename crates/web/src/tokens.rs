//! Who may come in: bearer tokens, hashed at rest.

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

/// Bytes of a token at most: more is not one.
const TOKEN_BYTES_MAX: usize = 512;
/// The header in which an EventBridge API destination sends its key.
const API_KEY: &str = "x-api-key";
/// Requests with a wrong token in a second at most, of all strangers together.
const STRANGERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not zero");
/// Addresses of which the rate is remembered, before those that are calm again are forgotten.
const PEERS_MAX: usize = 10_000;
/// How many times the rate may come at once.
const BURST: u32 = 10;

/// Who sends a request.
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
    /// Without tokens, whoever is on this machine may come in.
    is_local: bool,
    strangers: DefaultDirectRateLimiter,
    /// For a hub without tokens.
    anybody: DefaultDirectRateLimiter,
    /// By address, for the door that asks for no token.
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
    /// Tokens as configured; hashes that are none were refused when the configuration was checked,
    /// and let nobody in here.
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
    /// for whom somebody has vouched ([`Vouched`](crate::Vouched)).
    #[must_use]
    pub fn of_nowhere(config: &[TokenConfig], requests_per_second_max: u32) -> Self {
        let mut tokens = Self::new(config, requests_per_second_max);
        if let Some(inner) = Arc::get_mut(&mut tokens.0) {
            inner.is_local = false;
        }
        tokens
    }

    /// True when no token is configured: then everybody on this machine may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_local && self.0.tokens.is_empty()
    }

    /// Who sends this request, if they may do what they ask.
    ///
    /// # Errors
    /// 401 without a token that is known, 403 when it is not for this, 429 when there are too many.
    pub fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        if self.is_open() {
            // No page in somebody's browser may read or change anything in their name, whether it
            // says so itself or has made a name of its own point here.
            if headers.contains_key(header::ORIGIN) || !is_for_this_machine(headers) {
                metrics::refused("http", "foreign_page");
                let detail = "a hub without tokens answers no web page, and only to `localhost` \
                              or a loopback address";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
            slow_down(&self.0.anybody)?;
            return Ok(Caller { name: "local".into() });
        }
        let Some(token) = stated(headers).and_then(|text| self.find(text)) else {
            slow_down(&self.0.strangers)?;
            metrics::refused("http", "unauthorized");
            let detail = "this needs a token: `Authorization: Bearer …` or `X-Api-Key`";
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
            let detail = format!("this token is not for this: it needs the scope `{name}`");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Caller { name: Arc::clone(&token.name) })
    }

    /// Lets somebody in who states no token, unless they come too often.
    ///
    /// # Errors
    /// 429.
    pub fn admit_stranger(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let Some(peer) = peer else { return Ok(()) };
        if self.0.peers.len() > PEERS_MAX {
            self.0.peers.retain_recent();
        }
        self.0.peers.check_key(&peer).map_err(|until| too_many(&until))
    }

    /// Compares with all tokens, in the same time whichever it is.
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

/// Refuses what comes faster than it may.
fn slow_down(limiter: &DefaultDirectRateLimiter) -> Result<(), Problem> {
    limiter.check().map_err(|until| too_many(&until))
}

fn too_many(until: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>) -> Problem {
    metrics::refused("http", "too_many");
    let wait = until.wait_time_from(DefaultClock::default().now());
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests").after(wait.as_secs().max(1))
}

/// True when the request names this machine as the one that it is for, or none.
fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str().unwrap_or_default().parse::<Authority>() else { return false };
    let host = host.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token that a request states.
fn stated(headers: &HeaderMap) -> Option<&str> {
    // Two answers to one question: somebody on the way may have read the other.
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
    fn a_known_token_comes_in_by_either_header_and_only_for_its_scopes() {
        let tokens = tokens();
        for headers in [headers("authorization", "bearer secret"), headers("x-api-key", "secret")] {
            let caller = tokens.admit(&headers, Scope::Ingest).expect("known");
            assert_eq!(&*caller.name, "ci");
            assert_eq!(tokens.admit(&headers, Scope::Read).expect_err("scope").status, 403);
        }
    }

    #[test]
    fn a_hub_of_nowhere_has_no_local_callers() {
        let local = headers("host", "localhost");
        assert!(Tokens::new(&[], 5).admit(&local, Scope::Read).is_ok());
        let refused = Tokens::of_nowhere(&[], 5).admit(&local, Scope::Read);
        assert_eq!(refused.expect_err("nobody is local").status, 401);
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
    fn who_comes_too_often_is_told_when_to_come_again() {
        let tokens = tokens();
        let headers = headers("x-api-key", "secret");
        let refused = (0..60).find_map(|_| tokens.admit(&headers, Scope::Ingest).err());
        let refused = refused.expect("50 at once are allowed, 60 are not");
        assert_eq!((refused.status, refused.retry_after_secs), (429, Some(1)));
    }
}
