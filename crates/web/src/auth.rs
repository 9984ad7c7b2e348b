//! Who may do what: a token's scope, checked before a handler runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use crate::config::Scope;
use crate::problem::Problem;
use crate::state::Doors;
use crate::tokens::Caller;

/// Headers by which proxies say that they pass a request on.
const PASSED_ON: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Put on a request by the door through which it came, when that has proved who sends it: AWS, for
/// a function URL with IAM authentication. Such a caller may do everything; the policy of the
/// function says who is one.
#[derive(Debug, Clone)]
pub struct Vouched {
    /// The ARN of the caller.
    pub name: Arc<str>,
}

/// Who sends a request, if they may do what they ask.
fn admit(parts: &Parts, doors: &Doors, scope: Scope) -> Result<Caller, Problem> {
    match parts.extensions.get::<Vouched>() {
        Some(vouched) => Ok(Caller { name: Arc::clone(&vouched.name) }),
        None => doors.tokens.admit(&parts.headers, scope),
    }
}

/// A request that may read.
#[derive(Debug, Clone)]
pub(crate) struct Reader;

/// A request that may change incidents.
#[derive(Debug, Clone)]
pub(crate) struct Writer(pub Caller);

/// A request that may send records.
#[derive(Debug, Clone)]
pub(crate) struct Sender(pub Caller);

impl FromRequestParts<Doors> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Problem> {
        admit(parts, doors, Scope::Read).map(|_| Self)
    }
}

impl FromRequestParts<Doors> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Problem> {
        admit(parts, doors, Scope::Write).map(Self)
    }
}

impl FromRequestParts<Doors> for Sender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Problem> {
        admit(parts, doors, Scope::Ingest).map(Self)
    }
}

/// A request for the metrics: from this machine, or with a token that may read.
#[derive(Debug, Clone)]
pub(crate) struct Scraper;

impl FromRequestParts<Doors> for Scraper {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        // What a proxy on this machine passes on is somebody else's.
        let is_passed_on = PASSED_ON.iter().any(|name| parts.headers.contains_key(*name));
        if peer.is_some_and(|ip| ip.is_loopback()) && !is_passed_on {
            return Ok(Self);
        }
        admit(parts, doors, Scope::Read).map(|_| Self)
    }
}
